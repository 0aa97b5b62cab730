//! Domains that a personality executes: Linux programs, as objects among the others.
//!
//! Such a domain holds keys, invokes them, and can be called. What it executes, its memory and its registers are the personality's
//! affair, so the orders of a domain key about those are refused ([`InvokeError::Foreign`]). It is sold by a bank of which
//! nobody holds a key, so that the program cannot destroy itself by destroying the bank that it was given.

use super::bank::{RECORD, empty_bank};
use super::context::transact;
use super::meter::{UNLIMITED, fresh};
use super::records::OUTSIDE;
use super::service::settle;
use super::slots::SLOTS;
use super::{
    Bank, Console, Effect, InvokeError, Key, KeyType, Meter, NO_LINK, Phase, Rights, STOPPED, Storage, Surroundings,
    Which,
};
use crate::guest::slot;
use crate::table::{RecordId, Table, TableError};

/// A Linux program that is to have a domain.
#[derive(Clone, Copy, Debug)]
pub struct NewLinuxDomain {
    /// The bank above its own.
    pub bank: Key,
    /// The meter above its own.
    pub meter: Key,
    /// The quota of the bank that it is given.
    pub limit: Storage,
    /// Its record of the personality.
    pub program: RecordId,
    /// The number of its console outside.
    pub console: u64,
}

/// What was made for a Linux program.
#[derive(Clone, Copy, Debug)]
pub struct LinuxDomain {
    /// The bank that sold all of it; nobody holds a key to it.
    pub bank: RecordId,
    /// Its domain. It counts as running.
    pub domain: RecordId,
}

/// Makes the domain of a Linux program, with the keys of [`slot`] up to its own domain key in its slots. The console key only
/// writes: input is the program's own affair.
///
/// # Errors
/// When segment 0 is damaged or full. Inside: why the bank does not sell it.
pub fn make_linux(
    table: &mut Table,
    around: &dyn Surroundings,
    new: &NewLinuxDomain,
    effects: &mut Vec<Effect>,
) -> Result<Result<LinuxDomain, InvokeError>, TableError> {
    transact(table, around, effects, |ctx| {
        let (above, record) = ctx.object::<Bank>(&new.bank, Which::Argument(0))?;
        let no_limit = record.limit;
        let outer = ctx.buy(above.index(), RECORD, |owned| empty_bank(owned, no_limit, record.depth + 1))?;
        let inner = ctx.buy(outer.index(), RECORD, |owned| empty_bank(owned, new.limit, record.depth + 2))?;
        let (meter_above, record) = ctx.object::<Meter>(&new.meter, Which::Argument(1))?;
        let make = |owned| fresh(owned, meter_above.as_u64(), UNLIMITED, record.depth + 1);
        let meter = ctx.buy(outer.index(), RECORD, make)?;
        let console = ctx.buy(outer.index(), RECORD, |owned| Console { owned, number: new.console, life: 0 })?;
        let domain = ctx.sell_domain(outer.index(), new.program.as_u64())?;
        let at = ctx.core(domain)?;
        let me = ctx.domain_mut(at);
        (me.meter, me.phase) = (meter.as_u64(), Phase::Running as u8);
        me.flags &= !STOPPED;
        for (slot, key) in [
            (slot::CONSOLE, Key::to(KeyType::Console, console).weaker(Rights::WRITE)),
            (slot::CLOCK, Key::device(KeyType::Clock)),
            (slot::RANDOM, Key::device(KeyType::Random)),
            (slot::BANK, Key::to(KeyType::Bank, inner)),
            (slot::METER, Key::to(KeyType::Meter, meter)),
            (slot::LOG, Key::device(KeyType::Log)),
            (slot::CHECKPOINT, Key::device(KeyType::Checkpoint)),
            (slot::RESTART, Key::device(KeyType::Restart)),
            (slot::DISCRIM, Key::device(KeyType::Discrim)),
            (slot::SELF, Key::to(KeyType::Domain, domain)),
        ] {
            ctx.set_slot(at, slot, key)?;
        }
        Ok(LinuxDomain { bank: outer, domain })
    })
}

/// A Linux program has ended: its domain dies at once, and its bank with all that it bought; [`super::work`] does the rest.
///
/// # Errors
/// When segment 0 is damaged. What is gone already is no error.
pub fn end_linux(
    table: &mut Table,
    around: &dyn Surroundings,
    program: &LinuxDomain,
    effects: &mut Vec<Effect>,
) -> Result<(), TableError> {
    let done = transact(table, around, effects, |ctx| {
        let at = ctx.key_core(&Key::to(KeyType::Domain, program.domain), Which::Invoked)?;
        ctx.begin_death(at)?;
        let (bank, _) = ctx.object::<Bank>(&Key::to(KeyType::Bank, program.bank), Which::Invoked)?;
        ctx.begin_bank_death(bank, None)
    })?;
    if let Err(error) = done {
        tracing::debug!(%error, "the domain of a Linux program is gone already");
    }
    Ok(())
}

/// A domain that a personality serves begins: it counts as running, and can invoke keys.
///
/// # Errors
/// When segment 0 is damaged, or `domain` is none.
pub fn personality_starts(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    effects: &mut Vec<Effect>,
) -> Result<(), TableError> {
    let done = transact(table, around, effects, |ctx| {
        let at = ctx.core(domain)?;
        let me = ctx.domain_mut(at);
        me.phase = Phase::Running as u8;
        me.flags &= !STOPPED;
        Ok(())
    })?;
    settle(done)
}

/// A domain gives up its wait, as a signal of Linux makes a program do, and is running again. False, and nothing is changed: it
/// does not wait, or its message was taken by another domain, which will answer.
///
/// A message that was not taken is as if it had never been sent. Who waits for any message and had answered by the key in slot
/// 16 finds that slot empty, so that the same invocation, done again, only waits.
///
/// # Errors
/// When segment 0 is damaged, or `domain` is none.
pub fn withdraw(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    effects: &mut Vec<Effect>,
) -> Result<bool, TableError> {
    let done = transact(table, around, effects, |ctx| {
        let at = ctx.core(domain)?;
        let me = *ctx.domain(at);
        match (me.phase(), me.waits_on) {
            (Phase::Available | Phase::Queued, _) | (Phase::Waiting, NO_LINK | OUTSIDE) => {}
            _ => return Ok(false),
        }
        ctx.unlink(at)?;
        if me.deadline.at != 0 {
            ctx.clear_alarm(super::alarm::Tree::Deadlines, domain.index())?;
        }
        let used = me.phase() == Phase::Available && ctx.waiter(&me.resume).is_err();
        let me = ctx.domain_mut(at);
        me.serial += 1;
        me.phase = Phase::Running as u8;
        if used {
            me.resume = Key::NULL;
        }
        Ok(true)
    })?;
    Ok(done.unwrap_or(false))
}

/// Puts a start key to `callee`, with this badge, into an empty slot of a domain: what an operator does, without a key.
///
/// # Errors
/// When segment 0 is damaged. Inside: there is no such slot, it holds a key, or one of the domains is gone.
pub fn give_start(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    place: u8,
    callee: RecordId,
    badge: u64,
) -> Result<Result<(), InvokeError>, TableError> {
    transact(table, around, &mut Vec::new(), |ctx| {
        let to = ctx.key_core(&Key::to(KeyType::Domain, callee), Which::Argument(0))?;
        let epoch = ctx.domain(to).start_epoch;
        let at = ctx.key_core(&Key::to(KeyType::Domain, domain), Which::Invoked)?;
        if place >= SLOTS {
            return Err(InvokeError::BadSlot { slot: place }.into());
        }
        if !ctx.slot(at, place)?.is_null() {
            return Err(InvokeError::Busy.into());
        }
        ctx.set_slot(at, place, Key::start(callee, epoch, badge))
    })
}
