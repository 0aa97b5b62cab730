//! Domains, as the holder of a domain key sees them.

use super::bank::RECORD;
use super::context::{At, Ctx, need};
use super::error::Stop;
use super::order::{ANY, Done, Order, Request, key_argument, order};
use super::records::{SEVERING, STOPPED};
use super::slots::{SLOTS, slot_word};
use super::{
    Effect, InvokeError, Key, KeyType, MAX_MAPPINGS, MAX_STRING, Mapping, Meter, NO_LINK, Page, Phase, Resource,
    Rights, Segment, Text, Which,
};
use crate::abi::{WINDOW_END, WINDOW_START};
use crate::cpu::is_register_state;

const PAGE_BYTES: u64 = semper_store::PAGE_SIZE as u64;

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["rights to keep"],
        gives_keys: &["domain"],
        does: "A weaker key to the same domain. READ alone sees the state and the registers, no key.",
        ..order(KeyType::Domain, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        gives: &["phase", "1: stopped", "CPU nanoseconds", "mappings"],
        does: "What it is doing.",
        ..order(KeyType::Domain, 1, "state", Rights::READ, state)
    },
    Order {
        words: &["instruction pointer", "stack pointer", "first argument"],
        does: "It begins, or begins anew, with fresh registers; it needs a meter. Those who wait for it get `CalleeRestarted`.",
        ..order(KeyType::Domain, 2, "begin", Rights::MANAGE, begin)
    },
    Order {
        does: "It is not executed any more. Messages to it queue.",
        ..order(KeyType::Domain, 3, "stop", Rights::MANAGE, stop)
    },
    Order {
        does: "It goes on: after `stop`, or at the instruction whose fault no keeper took.",
        ..order(KeyType::Domain, 4, "start", Rights::MANAGE, start)
    },
    Order {
        gives_string: "the register state",
        does: "Its registers. It must be stopped, or not be running.",
        ..order(KeyType::Domain, 5, "get registers", Rights::READ, get_registers)
    },
    Order {
        string: MAX_STRING,
        does: "Other registers: the general ones, these and the bases of fs and gs, or all that *get registers* gives. It must be stopped, or stand at a fault.",
        ..order(KeyType::Domain, 6, "set registers", Rights::MANAGE, set_registers)
    },
    Order {
        words: &["slot"],
        gives_keys: &["key"],
        does: "A copy of the key in one of its slots.",
        ..order(KeyType::Domain, 7, "get slot", Rights::MANAGE, get_slot)
    },
    Order {
        words: &["slot"],
        keys: &[ANY],
        does: "Puts a key into one of its slots; no key empties it.",
        ..order(KeyType::Domain, 8, "set slot", Rights::MANAGE, set_slot)
    },
    Order {
        keys: &[key_argument("keeper", &[KeyType::Start, KeyType::Null], Rights::NONE)],
        does: "Who is called by its faults; no key: nobody.",
        ..order(KeyType::Domain, 9, "set keeper", Rights::MANAGE, set_keeper)
    },
    Order {
        keys: &[key_argument("meter", &[KeyType::Meter], Rights::NONE)],
        does: "What its CPU time is charged to.",
        ..order(KeyType::Domain, 10, "set meter", Rights::MANAGE, set_meter)
    },
    Order {
        words: &["badge"],
        gives_keys: &["start key"],
        does: "A start key to it. The badge is told to it with each message.",
        ..order(KeyType::Domain, 11, "make start key", Rights::MANAGE, make_start)
    },
    Order {
        does: "Voids every start key to it.",
        ..order(KeyType::Domain, 12, "revoke start keys", Rights::MANAGE, revoke_starts)
    },
    Order {
        words: &["first page in the domain", "first page in the object", "pages"],
        keys: &[key_argument("page or segment", &[KeyType::Segment, KeyType::Page], Rights::READ)],
        does: "Maps pages into its memory, with the rights of the key and no others. Charged to its bank: one record.",
        ..order(KeyType::Domain, 13, "map", Rights::MANAGE, map)
    },
    Order {
        words: &["first page in the domain"],
        does: "Takes back the mapping that begins there.",
        ..order(KeyType::Domain, 14, "unmap", Rights::MANAGE, unmap)
    },
];

impl Ctx<'_, '_> {
    /// The domain of the invoked key.
    fn this(&mut self, request: &Request) -> Result<At, Stop> {
        self.key_core(&request.key, Which::Invoked)
    }

    /// As [`Self::this`], if it is a native one.
    fn native(&mut self, request: &Request) -> Result<At, Stop> {
        let at = self.this(request)?;
        if self.domain(at).is_native() { Ok(at) } else { Err(InvokeError::Foreign.into()) }
    }

    /// A domain with what it needs to be executed.
    fn check_meter(&self, at: At) -> Result<(), Stop> {
        let meter = crate::table::RecordId::from_u64(self.domain(at).meter);
        if self.tx.get::<Meter>(meter).is_ok() {
            return Ok(());
        }
        Err(InvokeError::WrongKey { which: Which::Invoked, wanted: KeyType::Meter, found: KeyType::Null }.into())
    }

    /// A domain is not executed any more.
    pub(super) fn stop(&mut self, at: At) {
        self.domain_mut(at).flags |= STOPPED;
        let domain = self.id(at);
        self.tell(Effect::Halt { domain });
    }

    /// A domain goes on: after a stop, or at the instruction whose fault no keeper took.
    pub(super) fn start(&mut self, at: At) -> Result<(), Stop> {
        self.check_meter(at)?;
        let me = self.domain_mut(at);
        let phase = me.phase();
        if phase == Phase::New {
            return Err(InvokeError::WrongPhase { phase }.into());
        }
        me.flags &= !STOPPED;
        if phase == Phase::Faulted {
            me.phase = Phase::Running as u8;
        }
        if me.is_runnable() {
            let domain = self.id(at);
            self.tell(Effect::Resume { domain });
        }
        self.take_next(at)?;
        Ok(())
    }

    /// Maps pages of `key`'s object into a domain.
    pub(super) fn map(&mut self, at: At, key: Key, which: Which, place: [u64; 3]) -> Result<(), Stop> {
        need(&key, which, Rights::READ)?;
        let [first, offset, pages] = place;
        let length = match key.key_type() {
            KeyType::Page => self.object::<Page>(&key, which).map(|_| 1)?,
            _ => self.object::<Segment>(&key, which)?.1.pages,
        };
        if pages == 0 || offset.checked_add(pages).is_none_or(|end| end > length) {
            return Err(InvokeError::BadWord { word: 2, value: pages }.into());
        }
        let window = WINDOW_START / PAGE_BYTES..WINDOW_END / PAGE_BYTES;
        if !window.contains(&first) || first.checked_add(pages).is_none_or(|end| end > window.end) {
            return Err(InvokeError::BadWord { word: 0, value: first }.into());
        }
        let me = *self.domain(at);
        if me.mapping_count >= MAX_MAPPINGS {
            return Err(InvokeError::Limit { of: Resource::Mappings, limit: MAX_MAPPINGS.into() }.into());
        }
        let mut next = me.mappings;
        while next != NO_LINK {
            let (_, other) = self.tx.at::<Mapping>(next)?;
            if first < other.at + other.pages && other.at < first + pages {
                return Err(InvokeError::Overlap { page: first.max(other.at) }.into());
            }
            next = other.next;
        }
        self.charge_bank(me.owned.bank, RECORD)?;
        let mapping = Mapping { object: key, at: first, offset, pages, next: me.mappings, zero: 0 };
        let id = self.tx.insert(&mapping)?;
        let me = self.domain_mut(at);
        (me.mappings, me.mapping_count) = (id.index(), me.mapping_count + 1);
        let domain = self.id(at);
        self.tell(Effect::Remap { domain });
        Ok(())
    }

    fn unmap(&mut self, at: At, page: u64) -> Result<(), Stop> {
        let (mut next, mut before) = (self.domain(at).mappings, None);
        while next != NO_LINK {
            let (id, mapping) = self.tx.at::<Mapping>(next)?;
            if mapping.at != page {
                (next, before) = (mapping.next, Some(id));
                continue;
            }
            match before {
                Some(before) => drop(self.tx.modify::<Mapping>(before, |m| m.next = mapping.next)?),
                None => self.domain_mut(at).mappings = mapping.next,
            }
            self.tx.remove(id)?;
            let me = self.domain_mut(at);
            me.mapping_count = me.mapping_count.saturating_sub(1);
            let bank = me.owned.bank;
            self.uncharge_bank(bank, RECORD)?;
            let domain = self.id(at);
            self.tell(Effect::Remap { domain });
            return Ok(());
        }
        Err(InvokeError::NotMapped { page }.into())
    }
}

fn state(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.this(request)?;
    let me = ctx.domain(at);
    Done::words([me.phase() as u64, me.has(STOPPED).into(), me.cpu, me.mapping_count.into()])
}

fn begin(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    ctx.check_meter(at)?;
    if at == request.invoker {
        return Err(InvokeError::SelfCall.into());
    }
    let [ip, sp, argument, _] = request.words;
    ctx.domain_mut(at).entry = [ip, sp, argument];
    ctx.begin_anew(at)?;
    Done::nothing()
}

fn stop(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    ctx.stop(at);
    Done::nothing()
}

fn start(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    ctx.start(at)?;
    Done::nothing()
}

/// That a domain stands still, so that its registers are in its pages.
fn check_stands(ctx: &Ctx<'_, '_>, at: At) -> Result<(), InvokeError> {
    let me = ctx.domain(at);
    if me.is_runnable() || me.has(SEVERING) { Err(InvokeError::WrongPhase { phase: me.phase() }) } else { Ok(()) }
}

fn get_registers(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    check_stands(ctx, at)?;
    Done::text(Text::Registers { domain: ctx.id(at) })
}

fn set_registers(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    check_stands(ctx, at)?;
    if !is_register_state(request.len) {
        return Err(InvokeError::BadString { len: request.len }.into());
    }
    let domain = ctx.id(at);
    ctx.tell(Effect::SetRegisters { domain, text: request.text });
    Done::nothing()
}

fn get_slot(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.this(request)?;
    Done::key(ctx.slot(at, slot_word(request, 0, SLOTS)?)?)
}

fn set_slot(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.this(request)?;
    ctx.set_slot(at, slot_word(request, 0, SLOTS)?, request.keys[0])?;
    Done::nothing()
}

fn set_keeper(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    ctx.domain_mut(at).keeper = request.keys[0];
    Done::nothing()
}

fn set_meter(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.this(request)?;
    let (id, _) = ctx.object::<Meter>(&request.keys[0], Which::Argument(0))?;
    ctx.domain_mut(at).meter = id.as_u64();
    Done::nothing()
}

fn make_start(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.this(request)?;
    Done::key(Key::start(ctx.id(at), ctx.domain(at).start_epoch, request.words[0]))
}

fn revoke_starts(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.this(request)?;
    let me = ctx.domain_mut(at);
    let limit = u64::from(u32::MAX);
    me.start_epoch = me.start_epoch.checked_add(1).ok_or(InvokeError::Limit { of: Resource::Versions, limit })?;
    Done::nothing()
}

fn map(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    let [first, offset, pages, _] = request.words;
    ctx.map(at, request.keys[0], Which::Argument(0), [first, offset, pages])?;
    Done::nothing()
}

fn unmap(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let at = ctx.native(request)?;
    ctx.unmap(at, request.words[0])?;
    Done::nothing()
}
