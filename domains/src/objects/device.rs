//! Keys to what the kernel is and has: discrim, clock, timer, random, console, log, checkpoint, restart, journal.

use super::alarm::Tree;
use super::context::Ctx;
use super::effect::{JournalAsk, JournalOrder};
use super::error::Stop;
use super::list::Outside;
use super::order::{ANY, Done, Order, Request, Run, order};
use super::{Answer, Console, Effect, InvokeError, Key, KeyType, MAX_STRING, Rights, Text, Timer, Which};
use crate::table::RecordId;

pub(super) const ORDERS: &[Order] = &[
    Order {
        keys: &[ANY],
        gives: &["type", "rights", "1: not void", "1: discreet"],
        does: "What a key is, without using it. Discreet: nothing can be sent outward by it (a factory key is judged by its \
               own order).",
        ..order(KeyType::Discrim, 1, "classify", Rights::READ, classify)
    },
    Order {
        keys: &[ANY, ANY],
        gives: &["1: the same object", "1: the same key"],
        does: "Whether two keys designate the same object, and whether they are the same key.",
        ..order(KeyType::Discrim, 2, "compare", Rights::READ, compare)
    },
    Order {
        gives: &["nanoseconds"],
        does: "The world's monotonic time: it never goes back, and stands while the world does not run.",
        ..order(KeyType::Clock, 1, "monotonic", Rights::READ, monotonic)
    },
    Order {
        gives: &["nanoseconds since 1970"],
        does: "Wall time.",
        ..order(KeyType::Clock, 2, "wall", Rights::READ, wall)
    },
    Order {
        words: &["rights to keep"],
        gives_keys: &["timer"],
        does: "A weaker key to the same timer.",
        ..order(KeyType::Timer, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        words: &["nanoseconds"],
        does: "Sets the time, of the monotonic clock, at which it goes off; 0: never. What went off before is forgotten.",
        ..order(KeyType::Timer, 1, "set", Rights::WRITE, set_timer)
    },
    Order {
        gives: &["when it went off"],
        does: "Waits until it goes off, over restarts; at once if it has since it was set. One domain can wait.",
        ..order(KeyType::Timer, 2, "wait", Rights::WRITE, wait_timer)
    },
    Order {
        gives: &["when it will go off", "when it went off"],
        does: "Its state; 0: not set, not gone off.",
        ..order(KeyType::Timer, 3, "read", Rights::READ, read_timer)
    },
    Order {
        gives: &["random", "random", "random", "random"],
        does: "256 random bits.",
        ..order(KeyType::Random, 1, "words", Rights::READ, random_words)
    },
    Order {
        words: &["bytes"],
        gives_string: "random bytes",
        does: "Random bytes.",
        ..order(KeyType::Random, 2, "bytes", Rights::READ, random_bytes)
    },
    Order {
        words: &["rights to keep"],
        gives_keys: &["console"],
        does: "A weaker key to the same console.",
        ..order(KeyType::Console, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        string: MAX_STRING,
        does: "Writes. It leaves when a durable generation contains it.",
        ..order(KeyType::Console, 1, "write", Rights::WRITE, console_write)
    },
    Order {
        words: &["bytes"],
        gives_string: "the input; empty: its end",
        does: "Waits for input, and takes at most so many bytes of it.",
        ..order(KeyType::Console, 2, "read", Rights::READ, console_read)
    },
    Order {
        string: MAX_STRING,
        does: "A line for the log of the runtime, with the domain's name.",
        ..order(KeyType::Log, 1, "write", Rights::WRITE, log_write)
    },
    Order {
        does: "Asks for a checkpoint soon; does not wait.",
        ..order(KeyType::Checkpoint, 1, "request", Rights::WRITE, checkpoint_request)
    },
    Order {
        gives: &["generation"],
        does: "Asks for a checkpoint and waits until a durable generation contains this call.",
        ..order(KeyType::Checkpoint, 2, "wait", Rights::READ.or(Rights::WRITE), checkpoint_wait)
    },
    Order {
        gives: &["generation"],
        does: "The newest durable generation.",
        ..order(KeyType::Checkpoint, 3, "newest", Rights::READ, checkpoint_newest)
    },
    Order {
        gives: &["restarts", "id of this life, first half", "second half", "generation from which it goes on"],
        does: "How often the world was restarted, an id that no other life has, and from which generation. Never rolled back.",
        ..order(KeyType::Restart, 1, "read", Rights::READ, restart_read)
    },
    Order {
        gives: &["nanoseconds since 1970"],
        does: "When this life began, by the wall clock.",
        ..order(KeyType::Restart, 2, "when", Rights::READ, restart_when)
    },
    Order {
        words: &["rights to keep"],
        gives_keys: &["journal"],
        does: "A weaker key to the same records.",
        ..order(KeyType::Journal, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        words: &["number"],
        string: MAX_STRING,
        gives: &["place in the journal", "1: it was there already"],
        gives_string: "if it was there already: what it holds",
        does: "Writes a record, and waits until it is durable. A number that was used already, also in a life that was rolled back, finds \
               its record; nothing is written then.",
        ..order(KeyType::Journal, 1, "append", Rights::WRITE, journal_append)
    },
    Order {
        words: &["number"],
        gives: &["place in the journal", "1: it is there", "number", "when it was written, nanoseconds since 1970"],
        does: "The record of this number.",
        ..look(2, "find", journal_find)
    },
    Order {
        words: &["number"],
        does: "The record with the largest number that is not above this one.",
        ..look(3, "last", journal_last)
    },
    Order {
        words: &["place in the journal"],
        does: "The first record from this place on.",
        ..look(4, "next", journal_next)
    },
];

/// An order that gives a record of the journal.
const fn look(code: u32, name: &'static str, run: Run) -> Order {
    Order {
        gives: &["place in the journal", "1: there is one", "number", "when it was written, nanoseconds since 1970"],
        gives_string: "what it holds",
        ..order(KeyType::Journal, code, name, Rights::READ, run)
    }
}

/// Whether a key still does something.
fn is_live(ctx: &mut Ctx<'_, '_>, key: &Key) -> Result<bool, Stop> {
    let found = match key.key_type() {
        KeyType::Null => return Ok(false),
        KeyType::Resume => ctx.waiter(key).map(drop),
        KeyType::Start => ctx.start_target(key).map(drop),
        KeyType::Domain => ctx.key_core(key, Which::Argument(0)).map(drop),
        other if other.has_record() => return Ok(ctx.tx.contains(key.id())),
        _ => return Ok(true),
    };
    match found {
        Ok(()) => Ok(true),
        Err(Stop::Guest(_)) => Ok(false),
        Err(stop) => Err(stop),
    }
}

fn classify(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let key = &request.keys[0];
    let live = is_live(ctx, key)?;
    Done::words([key.key_type() as u64, key.rights().bits().into(), live.into(), key.is_discreet().into()])
}

fn compare(_: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let [a, b, ..] = &request.keys;
    let is_domain = |key: &Key| matches!(key.key_type(), KeyType::Domain | KeyType::Start);
    let kinds_agree = a.key_type() == b.key_type() || (is_domain(a) && is_domain(b));
    // What has no record is told apart by what the badge counts: whose journal, which connection.
    let same = a.id() == b.id() && (a.key_type().has_record() || (a.badge(), a.epoch()) == (b.badge(), b.epoch()));
    Done::words([u64::from(kinds_agree && same), u64::from(a == b)])
}

fn monotonic(ctx: &mut Ctx<'_, '_>, _: &Request) -> Result<Done, Stop> {
    Done::words([ctx.around.monotonic()])
}

fn wall(ctx: &mut Ctx<'_, '_>, _: &Request) -> Result<Done, Stop> {
    Done::words([ctx.around.wall()])
}

fn timer(ctx: &Ctx<'_, '_>, request: &Request) -> Result<(RecordId, Timer), Stop> {
    ctx.object(&request.key, Which::Invoked)
}

fn set_timer(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, _) = timer(ctx, request)?;
    ctx.tx.modify::<Timer>(id, |timer| timer.fired = 0)?;
    match request.words[0] {
        0 => ctx.clear_alarm(Tree::Timers, id.index())?,
        at => ctx.set_alarm(Tree::Timers, id.index(), at)?,
    }
    Done::nothing()
}

fn wait_timer(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, timer) = timer(ctx, request)?;
    if timer.fired != 0 {
        ctx.tx.modify::<Timer>(id, |timer| timer.fired = 0)?;
        return Done::words([timer.fired]);
    }
    if !request.may_wait {
        return Err(InvokeError::WouldWait.into());
    }
    if ctx.waiter(&Key::resume(RecordId::from_u64(timer.waiter), timer.waiter_serial)).is_ok() {
        return Err(InvokeError::Busy.into());
    }
    let serial = ctx.wait_for_kernel(request.invoker);
    let waiter = ctx.id(request.invoker).as_u64();
    ctx.tx.modify::<Timer>(id, |timer| (timer.waiter, timer.waiter_serial) = (waiter, serial))?;
    Ok(Done::Waits)
}

fn read_timer(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (_, timer) = timer(ctx, request)?;
    Done::words([timer.alarm.at, timer.fired])
}

impl Ctx<'_, '_> {
    /// A timer goes off.
    pub(super) fn go_off(&mut self, index: u32, now: u64) -> Result<(), Stop> {
        let (id, timer) = self.tx.at::<Timer>(index)?;
        let answer = Answer { words: [now, 0, 0, 0], ..Answer::default() };
        let told = self.answer_wait(timer.waiter, timer.waiter_serial, answer, &[Key::NULL; 4])?;
        self.tx.modify::<Timer>(id, |timer| {
            timer.fired = if told { 0 } else { now };
            (timer.waiter, timer.waiter_serial) = (0, 0);
        })?;
        Ok(())
    }
}

fn random_words(ctx: &mut Ctx<'_, '_>, _: &Request) -> Result<Done, Stop> {
    Done::words([(); 4].map(|()| ctx.around.random()))
}

/// A number of bytes that word 0 asks for.
pub(super) fn wanted_bytes(request: &Request) -> Result<u32, InvokeError> {
    let value = request.words[0];
    let len = u32::try_from(value).ok().filter(|len| (1..=MAX_STRING).contains(len));
    len.ok_or(InvokeError::BadWord { word: 0, value })
}

fn random_bytes(_: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    Done::text(Text::Random { len: wanted_bytes(request)? })
}

fn console(ctx: &Ctx<'_, '_>, request: &Request) -> Result<u64, Stop> {
    let (_, console) = ctx.object::<Console>(&request.key, Which::Invoked)?;
    if console.life != 0 && console.life != ctx.around.life()[0] {
        return Err(InvokeError::Rescinded.into());
    }
    Ok(console.number)
}

fn console_write(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let console = console(ctx, request)?;
    ctx.tell(Effect::ConsoleWrite { console, text: request.text });
    Done::nothing()
}

fn console_read(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (console, len) = (console(ctx, request)?, wanted_bytes(request)?);
    if !request.may_wait {
        return Err(InvokeError::WouldWait.into());
    }
    ctx.wait_outside(request.invoker, Outside::Console { console, len })?;
    Ok(Done::Waits)
}

fn log_write(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let domain = ctx.id(request.invoker);
    ctx.tell(Effect::Log { domain, text: request.text });
    Done::nothing()
}

fn checkpoint_request(ctx: &mut Ctx<'_, '_>, _: &Request) -> Result<Done, Stop> {
    ctx.tell(Effect::Checkpoint);
    Done::nothing()
}

fn checkpoint_wait(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    if !request.may_wait {
        return Err(InvokeError::WouldWait.into());
    }
    ctx.tell(Effect::Checkpoint);
    ctx.wait_outside(request.invoker, Outside::Durable)?;
    Ok(Done::Waits)
}

fn checkpoint_newest(ctx: &mut Ctx<'_, '_>, _: &Request) -> Result<Done, Stop> {
    Done::words([ctx.around.generation()])
}

fn restart_read(ctx: &mut Ctx<'_, '_>, _: &Request) -> Result<Done, Stop> {
    let [first, second] = ctx.around.life();
    Done::words([ctx.around.restarts(), first, second, ctx.around.resumed_from()])
}

fn restart_when(ctx: &mut Ctx<'_, '_>, _: &Request) -> Result<Done, Stop> {
    Done::words([ctx.around.began()])
}

fn journal_append(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask_journal(ctx, request, JournalOrder::Append)
}

fn journal_find(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask_journal(ctx, request, JournalOrder::Find)
}

fn journal_last(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask_journal(ctx, request, JournalOrder::Last)
}

fn journal_next(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask_journal(ctx, request, JournalOrder::Next)
}

/// Waits for what the journal says. After a restart it is asked again, and finds what was appended.
fn ask_journal(ctx: &mut Ctx<'_, '_>, request: &Request, order: JournalOrder) -> Result<Done, Stop> {
    if !request.may_wait {
        return Err(InvokeError::WouldWait.into());
    }
    let (writer, number, len) = (request.key.badge(), request.words[0], request.len);
    ctx.wait_outside(request.invoker, Outside::Journal(JournalAsk { writer, order, number, len }))?;
    Ok(Done::Waits)
}
