//! The first objects of a world, and those that only the kernel makes.

use super::bank::empty_bank;
use super::context::transact;
use super::meter::{UNLIMITED, fresh};
use super::{
    Console, Effect, FIRST_SEGMENT, Hub, InvokeError, Key, KeyType, NO_LINK, Owned, STOPPED, Storage, Surroundings,
};
use crate::table::{RecordId, Table, TableError};

/// The keys to the first objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Genesis {
    /// The bank from which all storage comes.
    pub bank: Key,
    /// The meter to which all CPU time is charged.
    pub meter: Key,
}

/// The first objects of the world in `table`: made if there are none yet. `pool`: the number of the segment whose pages
/// page objects are; `limit`: the prime bank's quota.
///
/// # Errors
/// When segment 0 is damaged or full.
pub fn create(table: &mut Table, around: &dyn Surroundings, pool: u64, limit: Storage) -> Result<Genesis, TableError> {
    if let Some((_, hub)) = table.first::<Hub>() {
        let key = |key_type, id| Key::to(key_type, RecordId::from_u64(id));
        return Ok(Genesis { bank: key(KeyType::Bank, hub.bank), meter: key(KeyType::Meter, hub.meter) });
    }
    let mut tx = table.begin();
    let bank = tx.insert(&empty_bank(Owned::NONE, limit, 0))?;
    let meter = tx.insert(&fresh(Owned::NONE, 0, UNLIMITED, 0))?;
    let hub = Hub {
        next_segment: FIRST_SEGMENT,
        pool,
        salt: around.random(),
        bank: bank.as_u64(),
        meter: meter.as_u64(),
        work: NO_LINK,
        deadlines: NO_LINK,
        timers: NO_LINK,
        outside: NO_LINK,
    };
    tx.insert(&hub)?;
    tx.commit();
    Ok(Genesis { bank: Key::to(KeyType::Bank, bank), meter: Key::to(KeyType::Meter, meter) })
}

/// A console key to stream `number`, sold by `bank`. `life`: the first half of the runtime's life if the stream cannot
/// outlive it; 0 if it can.
///
/// # Errors
/// When segment 0 is damaged. Inside: why the bank does not sell it.
pub fn make_console(
    table: &mut Table,
    around: &dyn Surroundings,
    bank: &Key,
    number: u64,
    life: u64,
) -> Result<Result<Key, InvokeError>, TableError> {
    transact(table, around, &mut Vec::new(), |ctx| {
        let (bank, _) = ctx.object::<super::Bank>(bank, super::Which::Argument(0))?;
        let make = |owned| Console { owned, number, life };
        let id = ctx.buy(bank.index(), super::bank::RECORD, make)?;
        Ok(Key::to(KeyType::Console, id))
    })
}

/// A domain that the kernel makes.
#[derive(Clone, Copy, Debug)]
pub struct NewDomain<'a> {
    /// Who sells it.
    pub bank: &'a Key,
    /// What it is charged to.
    pub meter: &'a Key,
    /// The record of its personality; none for a native one.
    pub program: RecordId,
    /// The keys in its first slots.
    pub slots: &'a [Key],
}

/// Makes a domain; returns the key to it. It is stopped and never began.
///
/// # Errors
/// When segment 0 is damaged. Inside: why the bank does not sell it.
pub fn make_domain(
    table: &mut Table,
    around: &dyn Surroundings,
    new: &NewDomain<'_>,
    effects: &mut Vec<Effect>,
) -> Result<Result<Key, InvokeError>, TableError> {
    transact(table, around, effects, |ctx| {
        let (bank, _) = ctx.object::<super::Bank>(new.bank, super::Which::Argument(0))?;
        let (meter, _) = ctx.object::<super::Meter>(new.meter, super::Which::Argument(1))?;
        let id = ctx.sell_domain(bank.index(), new.program.as_u64())?;
        let at = ctx.core(id)?;
        let me = ctx.domain_mut(at);
        me.meter = meter.as_u64();
        me.flags = STOPPED;
        for (slot, key) in (0..super::SLOTS).zip(new.slots) {
            ctx.set_slot(at, slot, *key)?;
        }
        Ok(Key::to(KeyType::Domain, id))
    })
}
