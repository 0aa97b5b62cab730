//! The lists that domains wait in. They go through the records of those who wait.

use super::context::{At, Ctx};
use super::effect::{JournalAsk, JournalOrder};
use super::error::Stop;
use super::records::OUTSIDE;
use super::{Effect, Hub, NO_LINK, NetworkAsk, Pending, PendingKind, Phase, STEP};
use crate::table::{RecordId, Table, TableError};

impl Ctx<'_, '_> {
    /// `caller` waits for `callee` to become available, as the last one.
    pub(super) fn enqueue(&mut self, callee: At, caller: At) -> Result<(), TableError> {
        let (callee_index, caller_index) = (self.id(callee).index(), self.id(caller).index());
        let tail = self.domain(callee).queue_tail;
        let me = self.domain_mut(caller);
        (me.phase, me.waits_on, me.previous, me.next) = (Phase::Queued as u8, callee_index, tail, NO_LINK);
        if tail == NO_LINK {
            self.domain_mut(callee).queue_head = caller_index;
        } else {
            let last = self.core_at(tail)?;
            self.domain_mut(last).next = caller_index;
        }
        self.domain_mut(callee).queue_tail = caller_index;
        Ok(())
    }

    /// `caller`'s message was taken by `callee`: it waits for the answer.
    pub(super) fn accept(&mut self, callee: At, caller: At) -> Result<(), TableError> {
        let (callee_index, caller_index) = (self.id(callee).index(), self.id(caller).index());
        let head = std::mem::replace(&mut self.domain_mut(callee).accepted, caller_index);
        let me = self.domain_mut(caller);
        (me.phase, me.waits_on, me.previous, me.next) = (Phase::Waiting as u8, callee_index, NO_LINK, head);
        if head != NO_LINK {
            let first = self.core_at(head)?;
            self.domain_mut(first).previous = caller_index;
        }
        Ok(())
    }

    /// Takes a domain out of the list that it waits in, if it does.
    pub(super) fn unlink(&mut self, at: At) -> Result<(), TableError> {
        let me = *self.domain(at);
        let queued = me.phase() == Phase::Queued;
        let on = match me.waits_on {
            NO_LINK => return Ok(()),
            OUTSIDE => None,
            on => Some(self.core_at(on)?),
        };
        if me.previous != NO_LINK {
            let before = self.core_at(me.previous)?;
            self.domain_mut(before).next = me.next;
        } else if let Some(on) = on {
            let list = self.domain_mut(on);
            *(if queued { &mut list.queue_head } else { &mut list.accepted }) = me.next;
        } else {
            let (id, mut hub) = self.hub();
            hub.outside = me.next;
            self.set_hub(id, &hub)?;
        }
        if me.next != NO_LINK {
            let after = self.core_at(me.next)?;
            self.domain_mut(after).previous = me.previous;
        } else if let Some(on) = on.filter(|_| queued) {
            self.domain_mut(on).queue_tail = me.previous;
        }
        let me = self.domain_mut(at);
        (me.waits_on, me.previous, me.next) = (NO_LINK, NO_LINK, NO_LINK);
        Ok(())
    }

    /// The invoker waits for something outside the table; `what` says for what, should it be asked again after a restart.
    pub(super) fn wait_outside(&mut self, at: At, what: Outside) -> Result<(), Stop> {
        let serial = self.wait_for_kernel(at);
        let domain = self.id(at);
        let (order, words) = what.as_raw();
        let pending = RecordId::from_u64(self.domain(at).pending);
        self.tx.modify::<Pending>(pending, |pending| {
            (pending.kind, pending.order, pending.words) = (PendingKind::Outside as u8, order, words);
        })?;
        let (id, mut hub) = self.hub();
        let head = std::mem::replace(&mut hub.outside, domain.index());
        self.set_hub(id, &hub)?;
        let me = self.domain_mut(at);
        (me.waits_on, me.previous, me.next) = (OUTSIDE, NO_LINK, head);
        if head != NO_LINK {
            let first = self.core_at(head)?;
            self.domain_mut(first).previous = domain.index();
        }
        self.tell(what.effect(domain, serial));
        Ok(())
    }
}

/// What a domain waits for outside the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outside {
    /// Input.
    Console { console: u64, len: u32 },
    /// A durable generation.
    Durable,
    /// The journal.
    Journal(JournalAsk),
    /// The network.
    Network(NetworkAsk),
}

/// The number of the first order to the network in a [`Pending`].
const NETWORK: u32 = 7;

impl Outside {
    const fn as_raw(self) -> (u32, [u64; 4]) {
        match self {
            Self::Console { console, len } => (1, [console, len as u64, 0, 0]),
            Self::Durable => (2, [0; 4]),
            Self::Journal(ask) => (2 + ask.order as u32, [ask.writer, ask.number, ask.len as u64, 0]),
            Self::Network(ask) => {
                let (order, words) = ask.as_raw();
                (NETWORK + order, words)
            }
        }
    }

    fn from_pending(pending: &Pending) -> Self {
        match pending.order {
            1 => Self::Console { console: pending.words[0], len: u32::try_from(pending.words[1]).unwrap_or(0) },
            order @ 3..=6 => {
                let order = match order {
                    3 => JournalOrder::Append,
                    4 => JournalOrder::Find,
                    5 => JournalOrder::Last,
                    _ => JournalOrder::Next,
                };
                let [writer, number, len, _] = pending.words;
                Self::Journal(JournalAsk { writer, order, number, len: u32::try_from(len).unwrap_or(0) })
            }
            order @ NETWORK.. => Self::Network(NetworkAsk::from_raw(order - NETWORK, pending.words)),
            _ => Self::Durable,
        }
    }

    const fn effect(self, domain: RecordId, serial: u64) -> Effect {
        match self {
            Self::Console { console, len } => Effect::ConsoleRead { console, domain, serial, len },
            Self::Durable => Effect::AwaitDurable { domain, serial },
            Self::Journal(ask) => Effect::AskJournal { domain, serial, ask },
            Self::Network(ask) => Effect::AskNetwork { domain, serial, ask },
        }
    }
}

/// After a restart: adds the effects by which domains wait for something outside the table, as if they had just begun to.
/// `after`: none at first, then what the last call returned. At most [`STEP`] domains at once; `None` when all were named.
/// (A wait for a generation is over then: whatever is in the table was read from a durable one.)
///
/// # Errors
/// When segment 0 is damaged.
pub fn waits_outside(table: &Table, after: Option<u32>, effects: &mut Vec<Effect>) -> Result<Option<u32>, TableError> {
    let Some((_, hub)) = table.first::<Hub>() else { return Ok(None) };
    let mut at = after.unwrap_or(hub.outside);
    for _ in 0..STEP {
        if at == NO_LINK {
            return Ok(None);
        }
        let (id, domain) = table.at::<super::Domain>(at)?;
        let pending: Pending = table.get(RecordId::from_u64(domain.pending))?;
        effects.push(Outside::from_pending(&pending).effect(id, domain.serial));
        at = domain.next;
    }
    Ok((at != NO_LINK).then_some(at))
}
