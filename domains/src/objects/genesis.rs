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

/// A native program that the kernel makes: a bank, a meter and a domain of its own, and two segments.
#[derive(Clone, Copy, Debug)]
pub struct NewProgram {
    /// The bank above its own.
    pub bank: Key,
    /// The meter above its own.
    pub meter: Key,
    /// Its quota.
    pub limit: Storage,
    /// Pages of its memory.
    pub pages: u64,
    /// The first page of its memory in the domain.
    pub base: u64,
    /// Its console: the number outside, and the life of the runtime if it cannot outlive one.
    pub console: [u64; 2],
    /// Whose records it writes into the journal.
    pub writer: u64,
    /// What it may reach outside, if anything.
    pub network: Option<Key>,
    /// Where it begins: instruction pointer, stack pointer, first argument.
    pub entry: [u64; 3],
}

/// What was made for a native program.
#[derive(Clone, Copy, Debug)]
pub struct MadeProgram {
    /// Its bank: what the program made ends with it.
    pub bank: Key,
    /// Its first domain. It has not begun.
    pub domain: Key,
    /// The numbers of the segments of its memory and of the pristine copy of it; both are still zeros.
    pub segments: [u64; 2],
}

/// Makes what a native program begins with, with the keys that `semper-domain` names in its slots.
///
/// # Errors
/// When segment 0 is damaged or full. Inside: why the bank does not sell it.
pub fn make_program(
    table: &mut Table,
    around: &dyn Surroundings,
    new: &NewProgram,
    effects: &mut Vec<Effect>,
) -> Result<Result<MadeProgram, InvokeError>, TableError> {
    use crate::guest::slot;
    transact(table, around, effects, |ctx| {
        let (above, record) = ctx.object::<super::Bank>(&new.bank, super::Which::Argument(0))?;
        let bank =
            ctx.buy(above.index(), super::bank::RECORD, |owned| empty_bank(owned, new.limit, record.depth + 1))?;
        let (meter_above, record) = ctx.object::<super::Meter>(&new.meter, super::Which::Argument(1))?;
        let make = |owned| fresh(owned, meter_above.as_u64(), UNLIMITED, record.depth + 1);
        let meter = ctx.buy(bank.index(), super::bank::RECORD, make)?;
        let [number, life] = new.console;
        let console = ctx.buy(bank.index(), super::bank::RECORD, |owned| Console { owned, number, life })?;
        let domain = ctx.sell_domain(bank.index(), 0)?;
        let (memory, memory_number) = ctx.sell_segment(bank.index(), new.pages)?;
        let (image, image_number) = ctx.sell_segment(bank.index(), new.pages)?;
        let at = ctx.core(domain)?;
        let me = ctx.domain_mut(at);
        (me.meter, me.entry) = (meter.as_u64(), new.entry);
        let memory = Key::to(KeyType::Segment, memory);
        for (slot, key) in [
            (slot::CONSOLE, Key::to(KeyType::Console, console)),
            (slot::CLOCK, Key::device(KeyType::Clock)),
            (slot::RANDOM, Key::device(KeyType::Random)),
            (slot::BANK, Key::to(KeyType::Bank, bank)),
            (slot::METER, Key::to(KeyType::Meter, meter)),
            (slot::LOG, Key::device(KeyType::Log)),
            (slot::CHECKPOINT, Key::device(KeyType::Checkpoint)),
            (slot::RESTART, Key::device(KeyType::Restart)),
            (slot::DISCRIM, Key::device(KeyType::Discrim)),
            (slot::NETWORK, new.network.unwrap_or_default()),
            (slot::JOURNAL, Key::journal(new.writer)),
            (slot::SELF, Key::to(KeyType::Domain, domain)),
            (slot::MEMORY, memory),
            (slot::IMAGE, Key::to(KeyType::Segment, image).weaker(super::Rights::READ)),
        ] {
            ctx.set_slot(at, slot, key)?;
        }
        ctx.map(at, memory, super::Which::Invoked, [new.base, 0, new.pages])?;
        let domain = Key::to(KeyType::Domain, domain);
        Ok(MadeProgram { bank: Key::to(KeyType::Bank, bank), domain, segments: [memory_number, image_number] })
    })
}

/// A domain that the kernel made begins at its entry.
///
/// # Errors
/// When segment 0 is damaged.
pub fn begin(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: &Key,
    effects: &mut Vec<Effect>,
) -> Result<Result<(), InvokeError>, TableError> {
    transact(table, around, effects, |ctx| {
        let at = ctx.key_core(domain, super::Which::Invoked)?;
        ctx.begin_anew(at)
    })
}

/// A program is over: its bank is destroyed with all that it sold; [`super::work`] does it.
///
/// # Errors
/// When segment 0 is damaged. A bank that is gone already is no error.
pub fn end_program(
    table: &mut Table,
    around: &dyn Surroundings,
    bank: &Key,
    effects: &mut Vec<Effect>,
) -> Result<(), TableError> {
    let done = transact(table, around, effects, |ctx| {
        let (id, _) = ctx.object::<super::Bank>(bank, super::Which::Invoked)?;
        ctx.begin_bank_death(id, None)
    })?;
    if let Err(error) = done {
        tracing::debug!(%error, "the bank of a program is gone already");
    }
    Ok(())
}
