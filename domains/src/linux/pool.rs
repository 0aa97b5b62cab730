//! The memory calls that the stub answers by itself: small mappings out of a pool, and advice that may be ignored.
//!
//! A program whose allocator maps and frees a few pages at a time (musl's does, thousands of times a second) would pay a
//! round trip for each. So a program that maps often is granted a pool: addresses that are mapped, zero and writable
//! already. The stub hands them out from the top down and says in the control pages how far it is, which is checked here
//! before it counts. What is handed out is an ordinary private area; unmapping it goes through the kernel.

use super::mm::Mm;
use super::state::State;
use super::vma::{Attributes, Kind, PAGE, READ, Vmas, WRITE};
use super::{Errno, LoadError, Program};
use crate::abi::{ADVICE_RANGES, QUICK_BYTES};
use crate::table::{Record, RecordId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Addresses granted at a time.
pub(super) const POOL: u64 = 1 << 20;
/// Small mappings that the kernel serves before it grants a pool: programs that map little keep exact faults.
pub(super) const BEFORE_POOL: u32 = 32;

/// What the stub may hand out: `start..next`, both 0 if nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct PoolRecord {
    start: u64,
    next: u64,
}

impl Record for PoolRecord {
    const KIND: u16 = 7;
    const NAME: &'static str = "mapping pool";
}

/// The pool, and where advice may be answered without the kernel.
pub(super) struct Pool {
    id: Option<RecordId>,
    record: PoolRecord,
    /// Small mappings served since the program began to be served here.
    asked: u32,
    /// Addresses of which the areas are told to the stub.
    advised: [u64; ADVICE_RANGES],
    next_advised: usize,
    /// The map has changed since the stub was told.
    stale: bool,
}

impl Default for Pool {
    fn default() -> Self {
        let record = PoolRecord::default();
        Self { id: None, record, asked: 0, advised: [0; ADVICE_RANGES], next_advised: 0, stale: true }
    }
}

impl Pool {
    pub fn load(state: &State, areas: &Vmas) -> Result<Self, LoadError> {
        let mut pool = Self::default();
        if let Some((id, record)) = state.iter::<PoolRecord>().next() {
            (pool.id, pool.record) = (Some(id), record);
        }
        match pool.check(areas) {
            Some(wrong) => Err(LoadError::Damaged(wrong)),
            None => Ok(pool),
        }
    }

    /// What is wrong with the record, if anything.
    pub fn check(&self, areas: &Vmas) -> Option<String> {
        let PoolRecord { start, next } = self.record;
        let aligned = start.is_multiple_of(PAGE) && next.is_multiple_of(PAGE);
        let granted = start <= next && aligned && areas.accessible(start, next - start, READ | WRITE) == next - start;
        (!granted).then(|| format!("the pool {start:#x}..{next:#x} is not mapped"))
    }

    /// Forgets what is not in the record.
    pub fn forget(&mut self) {
        *self = Self { id: self.id, record: self.record, ..Self::default() };
    }

    /// The map has changed.
    pub fn touch(&mut self) {
        self.stale = true;
    }

    fn save(&mut self, state: &mut State, record: PoolRecord) -> Result<(), Errno> {
        match self.id {
            Some(id) => state.update(id, &record)?,
            None => self.id = Some(state.insert(&record)?),
        }
        self.record = record;
        Ok(())
    }
}

/// Whether the stub may answer advice about this kind of memory by itself.
const fn anonymous(attributes: Attributes) -> bool {
    attributes.protection & WRITE != 0 && matches!(attributes.kind, Kind::Private | Kind::Heap | Kind::Stack)
}

impl Program {
    /// Addresses for a small private mapping, mapped and zero; none if it is to be made like any other.
    pub(super) fn take_from_pool(&mut self, length: u64) -> Result<Option<u64>, Errno> {
        if length > QUICK_BYTES {
            return Ok(None);
        }
        let pool = &mut self.mm.pool;
        let PoolRecord { start, next } = pool.record;
        if next - start >= length {
            pool.save(&mut self.state, PoolRecord { start, next: next - length })?;
            return Ok(Some(next - length));
        }
        pool.asked = pool.asked.saturating_add(1);
        if pool.asked <= BEFORE_POOL {
            return Ok(None);
        }
        self.release_pool(start, next)?;
        let Ok(start) = self.choose_address(POOL) else { return Ok(None) };
        if self.may_map(POOL).is_err() {
            return Ok(None);
        }
        self.map_fresh(start, start + POOL, Attributes::new(READ | WRITE, Kind::Private));
        let next = start + POOL - length;
        self.mm.pool.save(&mut self.state, PoolRecord { start, next })?;
        Ok(Some(next))
    }

    /// A call is about to change `start..end`: if part of it waits in the pool, the pool is taken back.
    pub(super) fn release_pool(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        let pool = self.mm.pool.record;
        if start >= pool.next || end <= pool.start || pool.start == pool.next {
            return Ok(());
        }
        self.unmap(pool.start, pool.next);
        self.mm.pool.save(&mut self.state, PoolRecord::default())
    }

    /// Small advice was given about `address`: the stub answers the next about the same area.
    pub(super) fn remember_advice(&mut self, address: u64) {
        let pool = &mut self.mm.pool;
        pool.advised[pool.next_advised] = address;
        pool.next_advised = (pool.next_advised + 1) % ADVICE_RANGES;
        pool.stale = true;
    }

    /// What the stub may hand out to small mappings: from the end of the range down.
    #[must_use]
    pub fn pool_state(&self) -> (u64, u64) {
        (self.mm.pool.record.start, self.mm.pool.record.next)
    }

    /// Where the stub may answer advice by itself, if that changed since it was asked last: `start..end`, empty ones too.
    pub fn advice_ranges(&mut self) -> Option<[[u64; 2]; ADVICE_RANGES]> {
        if !std::mem::take(&mut self.mm.pool.stale) {
            return None;
        }
        let Mm { pool, .. } = &self.mm;
        let area = |address| self.user.vmas.find(address).filter(|v| anonymous(v.attributes));
        Some(pool.advised.map(|address| area(address).map_or([0, 0], |v| [v.start, v.end])))
    }

    /// Takes over what the stub handed out by itself; `false`, and nothing done, if the stub may not have.
    pub fn note_pool(&mut self, next: u64) -> bool {
        let pool = self.mm.pool.record;
        if next == pool.next {
            return true;
        }
        if next < pool.start || next > pool.next || !next.is_multiple_of(PAGE) {
            return false;
        }
        self.state.begin();
        match self.mm.pool.save(&mut self.state, PoolRecord { next, ..pool }) {
            Ok(()) => self.state.commit(),
            Err(_) => {
                self.state.abort();
            }
        }
        true
    }
}
