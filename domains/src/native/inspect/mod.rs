//! Looking at the objects of a world from outside, live or at rest: nothing here changes an object.
//!
//! A live world goes on meanwhile: the table is read in pieces of bounded length, so what is told may be of several
//! instants. A list that changed under the reader is said to be incomplete.

mod object;
mod tree;

pub use object::{
    DomainView, Hex, KeyView, MappingView, ObjectDetail, ObjectView, RegistersView, SlotView, WaitView, find_object,
};
pub use tree::{BankView, LISTED_PER_BANK, Sold, SoldView, Tree};

use super::domain::Native;
use super::records::LinuxObject;
use super::{ExecutiveError, program};
use crate::abi::CONTROL_PAGES;
use crate::cpu::Registers;
use crate::kernel::clock::WorldClock;
use crate::kernel::domain::Domain as LinuxProgram;
use crate::kernel::objects::DomainRecord;
use crate::kernel::{Kernel, KernelError, Levels, Objects, levels_in};
use crate::linux::Clock as _;
use crate::objects::{Domain, LinuxDomain, Phase};
use crate::table::{RecordId, Table, TableError};
use semper_pager::Pager;
use semper_store::{PageRange, SegmentId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A world at rest, open to be looked at.
pub struct Resting {
    objects: Objects,
    pager: Arc<Pager>,
}

impl Resting {
    /// Opens the objects behind `pager`.
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub fn open(pager: &Arc<Pager>) -> Result<Self, KernelError> {
        Ok(Self { objects: Objects::open(pager, &WorldClock::default())?, pager: Arc::clone(pager) })
    }

    /// As [`Kernel::object_tree`].
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub fn object_tree(&self, depth: u32) -> Result<Tree, KernelError> {
        Ok(tree::tree(&Looking::Rest(&self.objects.table), depth)?)
    }

    /// As [`Kernel::inspect`].
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub fn inspect(&self, object: &str) -> Result<Option<ObjectView>, KernelError> {
        let Some(id) = find_object(&self.objects.table, object) else { return Ok(None) };
        let registers = self.registers(id).ok();
        Ok(object::object(&Looking::Rest(&self.objects.table), id, registers)?)
    }

    /// The Linux programs, and the levels of all programs.
    #[must_use]
    pub fn linux_programs(&self) -> (Vec<DomainRecord>, Levels) {
        let table = &self.objects.table;
        (table.iter::<DomainRecord>().map(|(_, record)| record).collect(), levels_in(table))
    }

    fn registers(&self, id: RecordId) -> Result<Registers, ExecutiveError> {
        let domain: Domain = self.objects.table.get(id)?;
        has_registers(id, &domain)?;
        let all = [PageRange::between(0, CONTROL_PAGES)];
        let segment = self.pager.open_segment(SegmentId(domain.control), CONTROL_PAGES, &all)?;
        Ok(Native::load(id, segment)?.general()?)
    }
}

/// The domains of the live Linux programs, and their records.
fn linux_domains(table: &Table) -> Vec<(LinuxDomain, DomainRecord)> {
    let records: BTreeMap<u64, DomainRecord> = table.iter::<DomainRecord>().map(|(_, r)| (r.id, r)).collect();
    let objects = table.iter::<LinuxObject>();
    objects.filter_map(|(_, object)| Some((object.domain(), *records.get(&object.id)?))).collect()
}

/// Where the looking happens.
enum Looking<'a> {
    Live(&'a Kernel),
    Rest(&'a Table),
}

impl Looking<'_> {
    /// Reads the table; of a live world, whose transactions wait that long.
    fn read<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        match self {
            Self::Live(kernel) => read(&kernel.objects().table),
            Self::Rest(table) => read(table),
        }
    }

    /// The process that caches a domain now.
    fn pid(&self, domain: RecordId) -> Option<i32> {
        if let Self::Live(kernel) = self { kernel.native.pid(domain) } else { None }
    }

    /// The frames that a segment uses now.
    fn resident(&self, segment: u64) -> Option<u64> {
        let Self::Live(kernel) = self else { return None };
        // One that is not open has none.
        kernel.pager.segment(SegmentId(segment)).map_or(Some(0), |segment| segment.resident().ok())
    }

    fn programs(&self) -> Vec<program::ProgramView> {
        self.read(super::programs)
    }

    /// The live Linux programs, by their domains.
    fn linux_programs(&self) -> BTreeMap<u64, LinuxSeen> {
        let domains = self.read(linux_domains);
        let seen = |(object, record): (LinuxDomain, DomainRecord)| {
            let (id, bank) = (object.domain, object.bank);
            let seen = match self {
                Self::Live(kernel) => kernel.linux_of(id).map(|program| LinuxSeen::live(&program, bank))?,
                Self::Rest(_) => LinuxSeen { name: record.name(), bank, cpu_ns: record.cpu, mappings: 0, pages: 0 },
            };
            Some((id.as_u64(), seen))
        };
        domains.into_iter().filter_map(seen).collect()
    }
}

/// What is told of a Linux program beside its object.
struct LinuxSeen {
    name: String,
    bank: RecordId,
    cpu_ns: u64,
    mappings: u32,
    pages: u64,
}

impl LinuxSeen {
    fn live(program: &LinuxProgram, bank: RecordId) -> Self {
        let mapped = program.program().mapped_ranges();
        Self {
            name: program.name.clone(),
            bank,
            cpu_ns: u64::try_from(program.clock.cpu().as_nanos()).unwrap_or(u64::MAX),
            mappings: u32::try_from(mapped.len()).unwrap_or(u32::MAX),
            pages: mapped.iter().map(|range| range.count).sum(),
        }
    }
}

/// That a domain has registers: it is a native one, and began.
fn has_registers(id: RecordId, domain: &Domain) -> Result<(), TableError> {
    let has = domain.control != 0 && !matches!(domain.phase(), Phase::New | Phase::Dying);
    if has { Ok(()) } else { Err(TableError::Void { id }) }
}

impl Kernel {
    /// The banks, to `depth` below the prime bank, and what they sold.
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub fn object_tree(&self, depth: u32) -> Result<Tree, KernelError> {
        Ok(tree::tree(&Looking::Live(self), depth)?)
    }

    /// One object, named as [`find_object`] says; none if there is no such object. A domain that runs is stopped for the
    /// moment that it takes to read its registers.
    ///
    /// # Errors
    /// When segment 0 is damaged, or the domain cannot be stopped.
    pub fn inspect(&self, object: &str) -> Result<Option<ObjectView>, KernelError> {
        let Some(id) = find_object(&self.objects().table, object) else { return Ok(None) };
        let registers = self.registers(id).map_err(program::explain)?;
        Ok(object::object(&Looking::Live(self), id, registers)?)
    }

    fn registers(&self, id: RecordId) -> Result<Option<Registers>, ExecutiveError> {
        self.in_turn(|turn| {
            let Ok(domain) = self.objects().table.get::<Domain>(id) else { return Ok(None) };
            if has_registers(id, &domain).is_err() {
                return Ok(None);
            }
            let ran = turn.loaded(id).is_some_and(|native| native.executing);
            if !turn.halt(id)? {
                turn.lost(id)?;
                return Ok(None);
            }
            let registers = turn.native(id)?.general().ok();
            if ran {
                turn.execute(id)?;
            }
            Ok(registers)
        })
    }
}
