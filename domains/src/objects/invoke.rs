//! Invocation: the one thing that a domain can do.

use super::context::{At, Ctx, need, transact};
use super::deliver::{Letter, message_text};
use super::error::Stop;
use super::order::{self, Done, Order, Reply, Request};
use super::records::IN_FAULT;
use super::slots::check_accept;
use super::{
    Answer, Effect, InvokeError, Key, KeyType, MAX_STRING, NO_SLOT, Outcome, PendingKind, Phase, Rights, SELF_SLOT,
    Surroundings, Which,
};
use crate::table::{RecordId, Table, TableError};

/// How a key is invoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// And wait for the answer.
    Call,
    /// And go on. While the callee is busy, the sender waits.
    Send,
    /// Answer by a resume key and wait for any message; with an empty slot, only wait.
    ReplyAndWait,
}

/// What a domain asks. Any values: all of them are checked.
#[derive(Clone, Copy, Debug)]
pub struct Invocation {
    /// Which domain; it must be running.
    pub invoker: RecordId,
    /// The slot of the key: 0 to 16, or [`SELF_SLOT`].
    pub slot: u8,
    /// How.
    pub how: How,
    /// The order code; in a reply, the answer code, below [`super::FIRST_ERROR`].
    pub order: u32,
    /// The words.
    pub words: [u64; 4],
    /// Bytes of the string in the domain's message buffer.
    pub string_len: u32,
    /// Slots of the keys that are passed; [`NO_SLOT`]: none.
    pub keys: [u8; 4],
    /// Slots for the keys that come back; [`NO_SLOT`]: dropped.
    pub accept: [u8; 4],
    /// When to give up, nanoseconds of the world's monotonic clock; 0: never. For all that can wait but a reply and wait.
    pub deadline: u64,
}

/// Does what a domain asks: one transaction.
///
/// An error of the domain's making is an [`Answer`] with the code and words of an [`InvokeError`], and has changed nothing.
///
/// # Errors
/// When segment 0 is damaged, or `invoker` is no domain.
pub fn invoke(
    table: &mut Table,
    around: &dyn Surroundings,
    invocation: &Invocation,
    effects: &mut Vec<Effect>,
) -> Result<Outcome, TableError> {
    let result = transact(table, around, effects, |ctx| ctx.invoke(invocation))?;
    Ok(result.unwrap_or_else(|error| Outcome::Answered(error.into())))
}

impl Ctx<'_, '_> {
    fn invoke(&mut self, invocation: &Invocation) -> Result<Outcome, Stop> {
        let me = self.core(invocation.invoker)?;
        let phase = self.domain(me).phase();
        if phase != Phase::Running {
            return Err(InvokeError::WrongPhase { phase }.into());
        }
        if invocation.string_len > MAX_STRING {
            return Err(InvokeError::StringTooLong { len: invocation.string_len, limit: MAX_STRING }.into());
        }
        check_accept(invocation.accept)?;
        let mut keys = [Key::NULL; 4];
        for (key, slot) in keys.iter_mut().zip(invocation.keys) {
            if slot != NO_SLOT {
                *key = self.slot(me, slot)?;
            }
        }
        if invocation.slot == SELF_SLOT {
            let own = Key::NULL;
            return self.order(invocation, me, KeyType::Own, own, keys);
        }
        let key = self.slot(me, invocation.slot)?;
        match (key.key_type(), invocation.how) {
            (KeyType::Null, How::ReplyAndWait) => self.wait(invocation, me),
            (KeyType::Null, _) => Err(InvokeError::Empty { slot: invocation.slot }.into()),
            (KeyType::Resume, _) => self.answer(invocation, me, &key, keys),
            (found, How::ReplyAndWait) => {
                Err(InvokeError::WrongKey { which: Which::Invoked, wanted: KeyType::Resume, found }.into())
            }
            (KeyType::Start, _) => self.message(invocation, me, &key, keys),
            (on, _) => self.order(invocation, me, on, key, keys),
        }
    }

    /// Sends a message to a domain.
    fn message(&mut self, invocation: &Invocation, me: At, key: &Key, keys: [Key; 4]) -> Result<Outcome, Stop> {
        let (kind, right) = match invocation.how {
            How::Call => (PendingKind::Call, Rights::CALL),
            _ => (PendingKind::Send, Rights::NONE),
        };
        need(key, Which::Invoked, Rights::SEND.or(right))?;
        let callee = self.start_target(key)?;
        let letter = letter(kind, key.badge(), invocation, keys);
        self.domain_mut(me).accept = invocation.accept;
        let taken = self.send(me, callee, &letter, invocation.deadline)?;
        let goes_on = taken && kind == PendingKind::Send;
        Ok(if goes_on { Outcome::Answered(Answer::default()) } else { Outcome::Waits })
    }

    /// The domain that a start key sends to, if the key is not void.
    pub(super) fn start_target(&mut self, key: &Key) -> Result<At, Stop> {
        let callee = self.key_core(key, Which::Invoked)?;
        if self.domain(callee).start_epoch == key.epoch() {
            Ok(callee)
        } else {
            Err(InvokeError::Void { which: Which::Invoked }.into())
        }
    }

    /// Answers a waiting domain; then goes on, waits for its next call, or waits for any message.
    fn answer(&mut self, invocation: &Invocation, me: At, key: &Key, keys: [Key; 4]) -> Result<Outcome, Stop> {
        need(key, Which::Invoked, Rights::SEND)?;
        let waiter = self.waiter(key)?;
        if invocation.how == How::Call {
            // The waiter would get this answer's resume key into the slot that has whom it has to answer, and answer the wrong one.
            let owed = *self.domain(waiter).resume_key();
            if self.domain(waiter).has(IN_FAULT) || self.waiter(&owed).is_ok() {
                return Err(InvokeError::Busy.into());
            }
        }
        let letter = letter(PendingKind::Send, 0, invocation, keys);
        let id = self.id(me);
        self.reply(waiter, id, &letter)?;
        match invocation.how {
            How::Send => Ok(Outcome::Answered(Answer::default())),
            How::ReplyAndWait => self.wait(invocation, me),
            How::Call => {
                let domain = self.domain_mut(me);
                domain.accept = invocation.accept;
                domain.serial += 1;
                let resume = Key::resume(id, domain.serial);
                self.accept(waiter, me)?;
                self.domain_mut(waiter).resume = resume;
                if invocation.deadline != 0 {
                    self.set_alarm(super::alarm::Tree::Deadlines, id.index(), invocation.deadline)?;
                }
                Ok(Outcome::Waits)
            }
        }
    }

    /// Waits for any message.
    fn wait(&mut self, invocation: &Invocation, me: At) -> Result<Outcome, Stop> {
        let domain = self.domain_mut(me);
        domain.phase = Phase::Available as u8;
        domain.accept = invocation.accept;
        self.take_next(me)?;
        Ok(Outcome::Waits)
    }

    /// Does an order of the kernel's own.
    fn order(
        &mut self,
        invocation: &Invocation,
        me: At,
        on: KeyType,
        key: Key,
        keys: [Key; 4],
    ) -> Result<Outcome, Stop> {
        let code = invocation.order;
        let order = order::find(on, code).ok_or(InvokeError::WrongOrder { key: on, order: code })?;
        need(&key, Which::Invoked, order.rights)?;
        check_arguments(order, invocation, &keys)?;
        let request = Request {
            invoker: me,
            key,
            words: invocation.words,
            text: message_text(invocation.invoker, invocation.string_len),
            len: invocation.string_len,
            keys,
            may_wait: invocation.how == How::Call,
        };
        let accept = std::mem::replace(&mut self.domain_mut(me).accept, invocation.accept);
        match (order.run)(self, &request)? {
            Done::Waits => {
                if invocation.deadline != 0 {
                    self.set_alarm(super::alarm::Tree::Deadlines, invocation.invoker.index(), invocation.deadline)?;
                }
                Ok(Outcome::Waits)
            }
            Done::Answered(Reply { words, text, keys }) => {
                let given = self.receive(me, &keys)?;
                self.domain_mut(me).accept = accept;
                Ok(Outcome::Answered(Answer { code: 0, words, text, keys: given }))
            }
        }
    }
}

fn letter(kind: PendingKind, badge: u64, invocation: &Invocation, keys: [Key; 4]) -> Letter {
    let Invocation { order, string_len, words, .. } = *invocation;
    Letter { kind, badge, order, string_len, words, keys }
}

/// That a message has what its order takes.
fn check_arguments(order: &Order, invocation: &Invocation, keys: &[Key; 4]) -> Result<(), InvokeError> {
    if invocation.string_len > order.string {
        return Err(InvokeError::StringTooLong { len: invocation.string_len, limit: order.string });
    }
    for ((argument, wanted), key) in (0_u8..).zip(order.keys).zip(keys) {
        let Some(first) = wanted.types.first() else { continue };
        let (which, found) = (Which::Argument(argument), key.key_type());
        if !wanted.types.contains(&found) {
            return Err(if key.is_null() {
                InvokeError::MissingKey { argument }
            } else {
                InvokeError::WrongKey { which, wanted: *first, found }
            });
        }
        need(key, which, wanted.rights)?;
    }
    Ok(())
}
