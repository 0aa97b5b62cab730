//! Tests of the objects, and what they share: a world of domains whose every order is a line.

#![allow(clippy::unwrap_used)]

mod audit;
mod banks;
mod cost;
mod crash;
mod crash_orders;
mod docs;
mod factories;
mod limits;
mod linux;
mod messages;
mod model;
mod orders;
mod things;

use super::*;
use crate::table::{RecordId, Table, TableMemory, VecMemory};
use std::cell::Cell;

/// What the kernel gives, under control.
pub(super) struct Nature {
    pub(super) now: Cell<u64>,
    pub(super) random: Cell<u64>,
    pub(super) life: Cell<u64>,
}

impl Surroundings for Nature {
    fn monotonic(&self) -> u64 {
        self.now.get()
    }

    fn wall(&self) -> u64 {
        self.now.get() + 1_000_000
    }

    fn random(&self) -> u64 {
        self.random.set(self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        self.random.get()
    }

    fn restarts(&self) -> u64 {
        7
    }

    fn life(&self) -> [u64; 2] {
        [self.life.get(), 2]
    }

    fn resumed_from(&self) -> u64 {
        9
    }

    fn began(&self) -> u64 {
        5
    }

    fn generation(&self) -> u64 {
        42
    }
}

/// A world, and the effects since they were last looked at.
pub(super) struct World {
    pub(super) table: Table,
    pub(super) nature: Nature,
    pub(super) genesis: Genesis,
    pub(super) effects: Vec<Effect>,
}

pub(super) const POOL: u64 = 77;

/// An invocation of nothing by nobody.
pub(super) const IDLE: Invocation = Invocation {
    invoker: RecordId::NONE,
    slot: SELF_SLOT,
    how: How::Call,
    order: 0,
    words: [0; 4],
    string_len: 0,
    keys: [NO_SLOT; 4],
    accept: [NO_SLOT; 4],
    deadline: 0,
};

/// Slot of the bank key in the domains that [`World::domain`] makes.
pub(super) const BANK: u8 = 0;
pub(super) const METER: u8 = 1;
/// Where tests receive.
pub(super) const GOT: u8 = 13;

impl World {
    pub(super) fn new() -> Self {
        Self::on(VecMemory::zeroed(1200), Storage { pages: 100_000, records: 10_000 })
    }

    pub(super) fn on(memory: impl TableMemory + 'static, limit: Storage) -> Self {
        let mut table = Table::format(memory, crate::kernel::objects::RECORD_BYTES).unwrap();
        let nature = Nature { now: Cell::new(1000), random: Cell::new(1), life: Cell::new(1) };
        let genesis = create(&mut table, &nature, POOL, limit).unwrap();
        Self { table, nature, genesis, effects: Vec::new() }
    }

    /// A running domain with the prime bank and meter in slots 0 and 1.
    pub(super) fn domain(&mut self) -> RecordId {
        let Genesis { bank, meter } = self.genesis;
        let new = NewDomain { bank: &bank, meter: &meter, program: RecordId::NONE, slots: &[bank, meter] };
        let key = make_domain(&mut self.table, &self.nature, &new, &mut self.effects).unwrap().unwrap();
        personality_starts(&mut self.table, &self.nature, key.id(), &mut self.effects).unwrap();
        key.id()
    }

    /// A domain that waits for messages.
    pub(super) fn server(&mut self) -> RecordId {
        let id = self.domain();
        self.wait(id);
        id
    }

    pub(super) fn invoke(&mut self, invocation: &Invocation) -> Outcome {
        invoke(&mut self.table, &self.nature, invocation, &mut self.effects).unwrap()
    }

    /// Waits for any message; slot 12 is empty in these tests.
    pub(super) fn wait(&mut self, invoker: RecordId) {
        let outcome = self.invoke(&Invocation { invoker, slot: 12, how: How::ReplyAndWait, ..IDLE });
        assert_eq!(outcome, Outcome::Waits);
    }

    /// An order that is answered at once; what comes back goes to slot [`GOT`].
    pub(super) fn ask(
        &mut self,
        invoker: RecordId,
        slot: u8,
        order: u32,
        words: &[u64],
        keys: &[u8],
    ) -> Result<[u64; 4], u32> {
        let mut call = Invocation { invoker, slot, order, accept: [GOT, NO_SLOT, NO_SLOT, NO_SLOT], ..IDLE };
        call.words[..words.len()].copy_from_slice(words);
        call.keys[..keys.len()].copy_from_slice(keys);
        match self.invoke(&call) {
            Outcome::Answered(Answer { code: 0, words, .. }) => Ok(words),
            Outcome::Answered(answer) => Err(answer.code),
            Outcome::Waits => panic!("it waits"),
        }
    }

    /// As [`World::ask`], and what was received is put into `to`.
    pub(super) fn get(&mut self, invoker: RecordId, slot: u8, order: u32, words: &[u64], keys: &[u8], to: u8) {
        self.ask(invoker, slot, order, words, keys).unwrap();
        self.ask(invoker, SELF_SLOT, 1, &[GOT.into(), to.into()], &[]).unwrap();
    }

    /// The key in a slot.
    pub(super) fn key(&self, domain: RecordId, slot: u8) -> Key {
        if slot == RESUME_SLOT {
            return *self.core(domain).resume_key();
        }
        slots_of(&self.table, domain).unwrap()[usize::from(slot)]
    }

    /// Puts a key into a slot, as only the tests can.
    pub(super) fn give(&mut self, domain: RecordId, slot: u8, key: Key) {
        let core = self.core(domain);
        let mut tx = self.table.begin();
        let (half, n) = (usize::from(slot) / HALF, usize::from(slot) % HALF);
        tx.modify::<Slots>(core.slots_id(half), |slots| slots.keys[n] = key).unwrap();
        tx.commit();
    }

    pub(super) fn core(&self, domain: RecordId) -> Domain {
        self.table.get(domain).unwrap()
    }

    /// Gives `client` a start key to `server` in a slot.
    pub(super) fn introduce(&mut self, client: RecordId, slot: u8, server: RecordId, badge: u64) {
        let epoch = self.core(server).start_epoch;
        self.give(client, slot, Key::start(server, epoch, badge));
    }

    /// Does all work there is; returns the number of steps.
    pub(super) fn work(&mut self) -> u32 {
        for n in 1.. {
            let more = work(&mut self.table, &self.nature, &mut self.effects).unwrap();
            self.table.check().unwrap();
            if !more {
                return n;
            }
        }
        unreachable!("work ends")
    }

    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The answers that waiting domains got.
    pub(super) fn answers(&mut self) -> Vec<(RecordId, Answer)> {
        let answers = self.take_effects().into_iter().filter_map(|effect| match effect {
            Effect::Answer { to, answer } => Some((to, answer)),
            _ => None,
        });
        answers.collect()
    }
}

pub(super) const fn code(error: InvokeError) -> u32 {
    error.code()
}
