//! What the platform asks of the objects, besides invocation: faults, time, work, answers from outside.

use super::alarm::Tree;
use super::context::transact;
use super::{Answer, Effect, InvokeError, Key, Phase, STEP, Surroundings};
use crate::table::{RecordId, Table, TableError};

/// Why a domain cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    /// What it was: the number of a signal (SIGSEGV, SIGFPE, SIGSYS...).
    pub cause: u32,
    /// Whether it was an access to memory at `address`.
    pub in_memory: bool,
    /// The address, or 0.
    pub address: u64,
    /// The signal's code, or the number of the foreign system call.
    pub detail: u64,
    /// The instruction pointer.
    pub instruction: u64,
}

/// A running domain cannot go on: its keeper, or the segment's, is called. The keeper's answer 0 restarts the instruction;
/// without a keeper the domain stands.
///
/// # Errors
/// When segment 0 is damaged, or `domain` is none. A domain that is not running is left as it is.
pub fn fault(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    fault: &Fault,
    effects: &mut Vec<Effect>,
) -> Result<(), TableError> {
    let done = transact(table, around, effects, |ctx| {
        let at = ctx.core(domain)?;
        if ctx.domain(at).phase() == Phase::Running { ctx.raise(at, fault) } else { Ok(()) }
    })?;
    settle(done)
}

/// A domain used CPU time. If its meter, or one above it, is used up, the domain stands until the meter's keeper answers. Returns whether that
/// is still to come, since it does not run now: charge it again when it goes on.
///
/// # Errors
/// As [`fault`].
pub fn charge(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    nanoseconds: u64,
    effects: &mut Vec<Effect>,
) -> Result<bool, TableError> {
    let done = transact(table, around, effects, |ctx| {
        let at = ctx.core(domain)?;
        let charged = ctx.charge_meters(at, nanoseconds)?;
        if ctx.domain(at).phase() != Phase::Running {
            return Ok(!matches!(charged, Ok(None)));
        }
        match charged {
            Ok(None) => {}
            Ok(Some((id, meter))) => ctx.raise_meter(at, id, &meter)?,
            Err(_) => ctx.stand(at),
        }
        Ok(false)
    })?;
    let waits = *done.as_ref().unwrap_or(&false);
    settle(done.map(drop)).map(|()| waits)
}

/// Time has passed: calls that are too late end with `Timeout`, timers go off. At most [`STEP`] of each; returns whether
/// there may be more.
///
/// # Errors
/// When segment 0 is damaged.
pub fn expire(table: &mut Table, around: &dyn Surroundings, effects: &mut Vec<Effect>) -> Result<bool, TableError> {
    let now = around.monotonic();
    let done = transact(table, around, effects, |ctx| {
        let mut more = false;
        for tree in [Tree::Deadlines, Tree::Timers] {
            for n in 0..STEP {
                let Some(index) = ctx.take_due(tree, now)? else { break };
                if tree == Tree::Timers {
                    ctx.go_off(index, now)?;
                } else {
                    let at = ctx.core_at(index)?;
                    ctx.unlink(at)?;
                    ctx.let_go(at, InvokeError::Timeout.into())?;
                }
                more |= n + 1 == STEP;
            }
        }
        Ok(more)
    })?;
    Ok(done.unwrap_or(false))
}

/// One step of taking apart what was destroyed; returns whether there is more. Call it until there is not, after an
/// [`Effect::Work`] and after a restart.
///
/// # Errors
/// When segment 0 is damaged.
pub fn work(table: &mut Table, around: &dyn Surroundings, effects: &mut Vec<Effect>) -> Result<bool, TableError> {
    if table.first::<super::Hub>().is_none() {
        // No objects were made yet.
        return Ok(false);
    }
    let done = transact(table, around, effects, |ctx| ctx.do_work())?;
    Ok(done.unwrap_or(false))
}

/// Answers a domain that waits for something outside the table in call `serial`. Returns whether it still did.
///
/// # Errors
/// When segment 0 is damaged.
pub fn complete(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    serial: u64,
    answer: Answer,
    effects: &mut Vec<Effect>,
) -> Result<bool, TableError> {
    complete_with(table, around, (domain, serial), answer, Key::NULL, effects)
}

/// As [`complete`], for the `(domain, serial)` of a wait, with a key in the answer.
///
/// # Errors
/// As [`complete`].
pub fn complete_with(
    table: &mut Table,
    around: &dyn Surroundings,
    (domain, serial): (RecordId, u64),
    answer: Answer,
    key: Key,
    effects: &mut Vec<Effect>,
) -> Result<bool, TableError> {
    let keys = [key, Key::NULL, Key::NULL, Key::NULL];
    let done = transact(table, around, effects, |ctx| ctx.answer_wait(domain.as_u64(), serial, answer, &keys))?;
    Ok(done.unwrap_or(false))
}

/// Whether a domain still waits for something outside the table in call `serial`.
#[must_use]
pub fn still_waits(table: &Table, domain: RecordId, serial: u64) -> bool {
    table.get::<super::Domain>(domain).is_ok_and(|core| core.serial == serial && core.phase() == Phase::Waiting)
}

/// These operations have no refusals of a guest's making left; one that comes all the same changed nothing.
pub(super) fn settle(done: Result<(), InvokeError>) -> Result<(), TableError> {
    if let Err(error) = done {
        tracing::error!(%error, "an operation of the kernel on an object was refused");
    }
    Ok(())
}
