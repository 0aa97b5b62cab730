//! Messages from domain to domain.

use super::alarm::Tree;
use super::context::{At, Ctx};
use super::error::Stop;
use super::records::{IN_FAULT, STOPPED};
use super::{
    Answer, Delivery, Effect, FIRST_ERROR, InvokeError, Key, KeyType, NO_LINK, Pending, PendingKind, Phase, SEVERING,
    Text,
};
use crate::table::RecordId;

/// A message with its keys in hand.
#[derive(Clone, Copy)]
pub(super) struct Letter {
    pub(super) kind: PendingKind,
    pub(super) badge: u64,
    pub(super) order: u32,
    pub(super) string_len: u32,
    pub(super) words: [u64; 4],
    pub(super) keys: [Key; 4],
}

impl Ctx<'_, '_> {
    /// `caller` sends `letter` to `callee`: now, if it is available, else in its turn. `deadline`: 0 for none.
    /// Returns whether it was taken.
    pub(super) fn send(&mut self, caller: At, callee: At, letter: &Letter, deadline: u64) -> Result<bool, Stop> {
        if callee == caller {
            return Err(InvokeError::SelfCall.into());
        }
        let target = self.domain(callee);
        let free = target.phase() == Phase::Available && target.flags & (STOPPED | SEVERING) == 0;
        if free {
            self.hand_over(caller, callee, letter)?;
            if letter.kind == PendingKind::Send {
                return Ok(true);
            }
        } else {
            if deadline != 0 && deadline <= self.around.monotonic() {
                return Err(InvokeError::Timeout.into());
            }
            self.keep(caller, letter)?;
            self.enqueue(callee, caller)?;
        }
        if deadline != 0 {
            self.set_alarm(Tree::Deadlines, self.id(caller).index(), deadline)?;
        }
        Ok(free)
    }

    /// Writes a letter that must wait into the sender's record.
    fn keep(&mut self, caller: At, letter: &Letter) -> Result<(), Stop> {
        let id = RecordId::from_u64(self.domain(caller).pending);
        let Letter { kind, badge, order, string_len, words, keys } = *letter;
        let pending = Pending { order, string_len, badge, words, keys, kind: kind as u8, zero: [0; 7] };
        Ok(self.tx.update(id, &pending)?)
    }

    /// Gives a letter to an available callee. The caller of a call waits for the answer from now on.
    fn hand_over(&mut self, caller: At, callee: At, letter: &Letter) -> Result<(), Stop> {
        let from = self.id(caller);
        let answerable = letter.kind != PendingKind::Send;
        let resume = if answerable {
            let me = self.domain_mut(caller);
            me.serial += 1;
            let serial = me.serial;
            self.accept(callee, caller)?;
            Key::resume(from, serial)
        } else {
            Key::NULL
        };
        let to = self.domain_mut(callee);
        to.phase = Phase::Running as u8;
        to.resume = resume;
        let keys = self.pass(callee, &letter.keys)?;
        let text = match letter.kind {
            PendingKind::Fault => Text::Registers { domain: from },
            _ => message_text(from, letter.string_len),
        };
        let delivery =
            Delivery { badge: letter.badge, order: letter.order, words: letter.words, text, keys, answerable };
        let to = self.id(callee);
        self.tell(Effect::Deliver { to, delivery });
        Ok(())
    }

    /// Puts a message's keys into the receiver's slots. Who gets the resume key of a waiting domain is waited for.
    fn pass(&mut self, receiver: At, keys: &[Key; 4]) -> Result<u8, Stop> {
        let given = self.receive(receiver, keys)?;
        for (n, key) in keys.iter().enumerate().filter(|(_, key)| key.key_type() == KeyType::Resume) {
            if given >> n & 1 == 0 {
                continue;
            }
            if let Ok(waiter) = self.waiter(key)
                && waiter != receiver
            {
                self.unlink(waiter)?;
                self.accept(receiver, waiter)?;
            }
        }
        Ok(given)
    }

    /// The domain that a resume key lets go on, if the key is not void.
    pub(super) fn waiter(&mut self, key: &Key) -> Result<At, Stop> {
        let void = InvokeError::Void { which: super::Which::Invoked };
        let at = self.key_core(key, super::Which::Invoked)?;
        let domain = self.domain(at);
        if domain.phase() == Phase::Waiting && domain.serial == key.badge() { Ok(at) } else { Err(void.into()) }
    }

    /// `at` has become available: the first of its queue is taken. Returns whether there was one.
    pub(super) fn take_next(&mut self, at: At) -> Result<bool, Stop> {
        let me = *self.domain(at);
        if me.phase() != Phase::Available || me.flags & (STOPPED | SEVERING) != 0 || me.queue_head == NO_LINK {
            return Ok(false);
        }
        let caller = self.core_at(me.queue_head)?;
        let pending: Pending = self.tx.get(RecordId::from_u64(self.domain(caller).pending))?;
        let kind = match pending.kind {
            2 => PendingKind::Send,
            3 => PendingKind::Fault,
            _ => PendingKind::Call,
        };
        let Pending { order, string_len, badge, words, keys, .. } = pending;
        self.unlink(caller)?;
        self.hand_over(caller, at, &Letter { kind, badge, order, string_len, words, keys })?;
        if kind == PendingKind::Send {
            self.let_go(caller, Answer::default())?;
        }
        Ok(true)
    }

    /// Answers a waiting domain on behalf of a holder of its resume key.
    pub(super) fn reply(&mut self, waiter: At, from: RecordId, letter: &Letter) -> Result<(), Stop> {
        if letter.order >= FIRST_ERROR {
            return Err(InvokeError::WrongOrder { key: KeyType::Resume, order: letter.order }.into());
        }
        self.unlink(waiter)?;
        let keys = self.pass(waiter, &letter.keys)?;
        let text = message_text(from, letter.string_len);
        self.let_go(waiter, Answer { code: letter.order, words: letter.words, text, keys })
    }

    /// Ends the wait of a domain that is in no list any more: its call has this answer. Every copy of the resume key is void.
    pub(super) fn let_go(&mut self, at: At, answer: Answer) -> Result<(), Stop> {
        let to = self.id(at);
        if self.domain(at).deadline.at != 0 {
            self.clear_alarm(Tree::Deadlines, to.index())?;
        }
        let me = self.domain_mut(at);
        me.serial += 1;
        if !me.has(IN_FAULT) {
            me.phase = Phase::Running as u8;
            self.tell(Effect::Answer { to, answer });
            return Ok(());
        }
        me.flags &= !IN_FAULT;
        if answer.code == 0 {
            me.phase = Phase::Running as u8;
            self.tell(Effect::Resume { domain: to });
        } else {
            me.phase = Phase::Faulted as u8;
            self.tell(Effect::Halt { domain: to });
        }
        Ok(())
    }

    /// Answers a domain that waits for the kernel itself, if it still waits in that call. `keys` go to its slots.
    pub(super) fn answer_wait(
        &mut self,
        domain: u64,
        serial: u64,
        mut answer: Answer,
        keys: &[Key; 4],
    ) -> Result<bool, Stop> {
        let Ok(at) = self.waiter(&Key::resume(RecordId::from_u64(domain), serial)) else { return Ok(false) };
        self.unlink(at)?;
        answer.keys = self.receive(at, keys)?;
        self.let_go(at, answer)?;
        Ok(true)
    }

    /// The invoker waits for the kernel: the serial of the wait.
    pub(super) fn wait_for_kernel(&mut self, at: At) -> u64 {
        let me = self.domain_mut(at);
        me.phase = Phase::Waiting as u8;
        me.waits_on = NO_LINK;
        me.serial += 1;
        me.serial
    }
}

/// The string of what `domain` sends.
pub(super) const fn message_text(domain: RecordId, len: u32) -> Text {
    if len == 0 { Text::Empty } else { Text::Message { domain, len } }
}
