//! The records of a program's memory map, and how a change of the map reaches records and the domain's process.

use super::pool::Pool;
use super::state::State;
use super::vma::{Attributes, EXEC, Kind, PAGE, READ, Source, Vma, Vmas, WRITE, window_range};
use super::{Errno, LoadError, Program};
use crate::abi::{ORDER_PROTECT, Order, WINDOW_START};
use crate::table::{Record, RecordId};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most areas a program can have (Linux: `vm.max_map_count`).
const MAX_AREAS: usize = 65_530;
/// The program break is granted ahead by at least this much, so that few calls need an order.
const GRANT: u64 = 1 << 20;
/// Addresses kept free above the granted break as long as there are others.
const HEAP_ROOM: u64 = 64 << 30;

/// One area.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct AreaRecord {
    start: u64,
    end: u64,
    protection: u32,
    kind: u32,
    inode: u64,
    delta: u64,
}

impl Record for AreaRecord {
    const KIND: u16 = 2;
    const NAME: &'static str = "memory area";
}

/// The break and the places that the loader chose.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct MemoryRecord {
    /// Where the break began.
    pub brk_start: u64,
    /// The break.
    pub brk: u64,
    /// End of what is mapped for it already.
    pub granted: u64,
    /// New mappings lie below it.
    pub map_top: u64,
    /// Bytes of addresses that the host allows.
    pub limit: u64,
    /// First and last address of the stack made at the start.
    pub stack_start: u64,
    pub stack_end: u64,
    /// What the loader added to the file's addresses.
    pub image_base: u64,
}

impl Record for MemoryRecord {
    const KIND: u16 = 1;
    const NAME: &'static str = "memory map";
}

/// The records behind the map.
#[derive(Default)]
pub(super) struct Mm {
    id: Option<RecordId>,
    pub record: MemoryRecord,
    ids: BTreeMap<u64, RecordId>,
    /// What the stub may answer besides the break.
    pub pool: Pool,
    /// The heap above the break may hold old content, so growing has to go through the kernel.
    pub stale_heap: bool,
}

impl Mm {
    /// Reads the map from its records.
    pub fn load(state: &State) -> Result<(Self, Vmas), LoadError> {
        let (id, record) =
            state.iter::<MemoryRecord>().next().ok_or_else(|| LoadError::Damaged("it has no memory map".into()))?;
        let mut areas = Vmas::default();
        let mut ids = BTreeMap::new();
        for (id, area) in state.iter::<AreaRecord>() {
            let range = area.end.checked_sub(area.start).and_then(|n| window_range(area.start, n));
            let kind = Kind::from_code(area.kind).filter(|_| area.protection <= 7);
            let (Some((start, end)), Some(kind)) = (range, kind) else {
                return Err(LoadError::Damaged(format!("its memory area at {:#x} makes no sense", area.start)));
            };
            if end != area.end || areas.overlapping(start, end).next().is_some() {
                return Err(LoadError::Damaged(format!("its memory area at {start:#x} overlaps another")));
            }
            let source = Source { inode: area.inode, delta: area.delta };
            areas.map(start, end, Attributes { source, ..Attributes::new(area.protection, kind) });
            ids.insert(start, id);
        }
        areas.take_touched();
        let pool = Pool::load(state, &areas)?;
        Ok((Self { id: Some(id), record, ids, pool, stale_heap: false }, areas))
    }

    /// Forgets what is not in records; what was to be discarded is.
    pub fn forget(&mut self) {
        self.stale_heap = false;
        self.pool.forget();
    }

    /// What is wrong with the records, if anything.
    pub fn check(&self, vmas: &Vmas) -> Option<String> {
        let m = &self.record;
        if m.brk < m.brk_start || page_up(m.brk) > m.granted {
            return Some(format!("the break {:#x} is outside {:#x}..{:#x}", m.brk, m.brk_start, m.granted));
        }
        if self.ids.len() != vmas.len() || !vmas.iter().all(|v| self.ids.contains_key(&v.start)) {
            return Some(format!("{} areas have {} records", vmas.len(), self.ids.len()));
        }
        self.pool.check(vmas)
    }

    /// Writes the break's record.
    pub fn save(&mut self, state: &mut State) -> Result<(), Errno> {
        match self.id {
            Some(id) => state.update(id, &self.record),
            None => {
                self.id = Some(state.insert(&self.record)?);
                Ok(())
            }
        }
    }

    /// Orders that give a new process the map's protections.
    pub fn protection_orders(&self, vmas: &Vmas) -> Vec<Order> {
        let mut orders = Vec::new();
        for v in vmas.iter().filter(|v| v.attributes.protection != 0) {
            push(&mut orders, v.start, v.end, v.attributes.protection);
        }
        orders
    }
}

/// Rounds up to a page; only for addresses in the window.
pub(super) const fn page_up(address: u64) -> u64 {
    (address + PAGE - 1) & !(PAGE - 1)
}

fn push(orders: &mut Vec<Order>, start: u64, end: u64, protection: u32) {
    match orders.last_mut() {
        Some(last) if last.protection == protection && last.address + last.length == start => {
            last.length += end - start;
        }
        _ => orders.push(Order { kind: ORDER_PROTECT, protection, address: start, length: end - start }),
    }
}

impl Program {
    /// Brings records into line with the map, then does to memory what cannot be undone; part of every transaction.
    pub(super) fn settle_memory(&mut self) -> Result<(), Errno> {
        self.sync_areas()?;
        self.user.settle();
        Ok(())
    }

    fn sync_areas(&mut self) -> Result<(), Errno> {
        if self.user.vmas.len() > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        for start in self.user.vmas.take_touched() {
            self.mm.pool.touch();
            let area = self.user.vmas.starting_at(start).map(|v| AreaRecord {
                start,
                end: v.end,
                protection: v.attributes.protection,
                kind: v.attributes.kind.code(),
                inode: v.attributes.source.inode,
                delta: v.attributes.source.delta,
            });
            match (area, self.mm.ids.get(&start).copied()) {
                (Some(area), Some(id)) => self.state.update(id, &area)?,
                (Some(area), None) => {
                    let id = self.state.insert(&area)?;
                    self.mm.ids.insert(start, id);
                }
                (None, Some(id)) => {
                    self.state.remove(id)?;
                    self.mm.ids.remove(&start);
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Maps fresh zeros at `start..end`, replacing what was there.
    pub(super) fn map_fresh(&mut self, start: u64, end: u64, attributes: Attributes) {
        let replaced: Vec<Vma> = self.user.vmas.overlapping(start, end).collect();
        for v in &replaced {
            self.user.doom(v.start.max(start), v.end.min(end));
        }
        self.user.wipe(start, end);
        self.user.vmas.map(start, end, attributes);
        // What is not mapped is inaccessible already: reserving addresses needs no order.
        if attributes.protection != 0 || replaced.iter().any(|v| v.attributes.protection != 0) {
            push(&mut self.orders, start, end, attributes.protection);
        }
    }

    /// Unmaps `start..end`; its content is discarded later.
    pub(super) fn unmap(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let gone: Vec<Vma> = self.user.vmas.overlapping(start, end).collect();
        for v in gone {
            let (from, to) = (v.start.max(start), v.end.min(end));
            self.user.doom(from, to);
            if v.attributes.protection != 0 {
                push(&mut self.orders, from, to, 0);
            }
        }
        self.user.vmas.unmap(start, end);
    }

    /// Unmaps `start..end`, whose content is about to move elsewhere.
    pub(super) fn leave(&mut self, start: u64, end: u64) {
        self.user.vmas.unmap(start, end);
        push(&mut self.orders, start, end, 0);
    }

    /// Gives mapped addresses another protection.
    pub(super) fn reprotect(&mut self, start: u64, end: u64, protection: u32) {
        let changed: Vec<Vma> =
            self.user.vmas.overlapping(start, end).filter(|v| v.attributes.protection != protection).collect();
        for v in changed {
            push(&mut self.orders, v.start.max(start), v.end.min(end), protection);
        }
        self.user.vmas.protect(start, end, protection & (READ | WRITE | EXEC));
    }

    /// A free range of `length` bytes, high up.
    pub(super) fn choose_address(&self, length: u64) -> Result<u64, Errno> {
        let m = &self.mm.record;
        let vmas = &self.user.vmas;
        vmas.free_below(length, m.granted.saturating_add(HEAP_ROOM).max(WINDOW_START), m.map_top)
            .or_else(|| vmas.free_below(length, WINDOW_START, m.map_top))
            .ok_or(Errno::ENOMEM)
    }

    /// Whether `more` bytes of addresses may be mapped.
    pub(super) fn may_map(&self, more: u64) -> Result<(), Errno> {
        let limit = self.mm.record.limit.min(self.process.address_space_limit());
        match self.user.vmas.bytes().checked_add(more) {
            Some(total) if total <= limit => Ok(()),
            _ => Err(Errno::ENOMEM),
        }
    }

    /// A call is about to change `start..end`: what was granted there ahead of its use is taken back.
    pub(super) fn ungrant(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        self.release_pool(start, end)?;
        let used = page_up(self.mm.record.brk);
        let granted = self.mm.record.granted;
        if start >= granted || end <= used || used == granted {
            return Ok(());
        }
        self.unmap(used, granted);
        self.mm.record.granted = used;
        self.mm.save(&mut self.state)
    }

    /// Moves the break; answers where it is now. Like Linux, a break that cannot be had changes nothing.
    pub(super) fn set_brk(&mut self, wanted: u64) -> Result<u64, Errno> {
        let m = self.mm.record;
        if wanted < m.brk_start || wanted >= m.map_top || wanted == m.brk {
            return Ok(m.brk);
        }
        let (used, needed) = (page_up(m.brk), page_up(wanted));
        if needed < used {
            // What lies above is zeros if the break comes back: the stub does not know, so growing goes through here.
            self.user.doom(needed, used);
            self.mm.stale_heap = true;
        } else {
            if needed > m.granted && !self.grant(needed) {
                return Ok(m.brk);
            }
            if self.mm.stale_heap {
                self.user.wipe(used, self.mm.record.granted);
                self.mm.stale_heap = false;
            }
        }
        self.mm.record.brk = wanted;
        self.mm.save(&mut self.state)?;
        Ok(wanted)
    }

    /// Maps more for the break, up to `needed` at least.
    fn grant(&mut self, needed: u64) -> bool {
        let m = self.mm.record;
        let step = GRANT.max(((needed - m.brk_start) / 8) & !(PAGE - 1));
        let generous = page_up(needed.saturating_add(step)).min(m.map_top);
        let attributes = Attributes::new(READ | WRITE, Kind::Heap);
        for end in [generous, needed] {
            let fits = self.user.vmas.overlapping(m.granted, end).next().is_none();
            if fits && self.may_map(end - m.granted).is_ok() {
                self.map_fresh(m.granted, end, attributes);
                self.mm.record.granted = end;
                return true;
            }
        }
        false
    }

    /// Where the break began, where it is, and up to where the stub may move it without asking.
    #[must_use]
    pub fn brk_state(&self) -> (u64, u64, u64) {
        let m = &self.mm.record;
        (m.brk_start, m.brk, if self.mm.stale_heap { m.brk } else { m.granted })
    }

    /// Takes over the break that the stub answered by itself; `false`, and nothing done, if the stub may not have.
    pub fn note_brk(&mut self, brk: u64) -> bool {
        let (start, current, granted) = self.brk_state();
        if brk == current {
            return true;
        }
        if brk < start || brk > granted {
            return false;
        }
        self.state.begin();
        let before = self.mm.record.brk;
        self.mm.record.brk = brk;
        match self.mm.save(&mut self.state) {
            Ok(()) => self.state.commit(),
            Err(_) => {
                self.mm.record.brk = before;
                self.state.abort();
            }
        }
        true
    }

    /// Bounds the addresses that the program may map, whatever its own limits say.
    pub fn set_address_space_limit(&mut self, bytes: u64) {
        self.state.begin();
        let before = std::mem::replace(&mut self.mm.record.limit, bytes);
        match self.mm.save(&mut self.state) {
            Ok(()) => self.state.commit(),
            Err(_) => {
                self.mm.record.limit = before;
                self.state.abort();
            }
        }
    }
}
