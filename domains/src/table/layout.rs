//! The bytes: where everything lies. `docs/format-table.md` draws this and says why.

use super::directory::UNLISTED;
use super::{Inconsistency, TableError, TableMemory};
use semper_store::PAGE_SIZE;
use std::mem::{offset_of, size_of};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const _: () = assert!(cfg!(target_endian = "little"), "the pages are little-endian");

/// The header and log of a table made by [`super::Table::format`]: 256 KiB of old bytes in one transaction.
pub const DEFAULT_LOG_PAGES: u32 = 64;

/// The largest log (16 MiB): what one undo at a restart may have to read.
pub const MAX_LOG_PAGES: u32 = 4096;

/// "SEMPTABL" as it reads in a dump.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"SEMPTABL");
pub(super) const FORMAT: u32 = 2;
/// The format before it: without a summary. Such tables are read and written as they are.
const FORMAT_WITHOUT_SUMMARY: u32 = 1;

/// Where the log word lies: entries in the upper half, log bytes in the lower. 0: no transaction is open.
pub(super) const LOG_WORD: u64 = 64;
/// Where [`Allocation`] lies.
pub(super) const ALLOCATION: u64 = 72;
/// Where the log begins: in the header's page, so that a small transaction dirties that page and the record's.
pub(super) const LOG_START: u64 = 128;

/// The end of the free list, and the link of a record that has none.
pub(super) const NO_LINK: u32 = u32::MAX;

const PAGE_BYTES: u64 = PAGE_SIZE as u64;
const MIN_RECORD_BYTES: u32 = 32;
const MAX_RECORD_BYTES: u32 = 4096;

/// Bytes before a record's content.
pub(super) const RECORD_HEADER_BYTES: u32 = 16;

/// The part of the first page that never changes after the format.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TableHeader {
    magic: u64,
    format: u32,
    record_bytes: u32,
    log_pages: u32,
    capacity: u32,
    /// Format 1: 0.
    summary_pages: u32,
    /// CRC-32 of the bytes before it.
    crc: u32,
}

const _: () = assert!(size_of::<TableHeader>() == 32 && offset_of!(TableHeader, crc) == 28);

impl TableHeader {
    fn checksum(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..offset_of!(Self, crc)])
    }
}

/// Where the parts of a table lie: a header that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    pub(super) record_bytes: u32,
    log_pages: u32,
    summary_pages: u32,
    pub(super) capacity: u32,
}

impl Geometry {
    /// The geometry of a new table in a memory of `len_bytes`.
    pub(super) fn for_memory(len_bytes: u64, record_bytes: u32, log_pages: u32) -> Result<Self, TableError> {
        let mut geometry = Self::checked(record_bytes, log_pages, 1, 1)?;
        geometry.fits(len_bytes)?;
        let pages = len_bytes / PAGE_BYTES - u64::from(log_pages);
        // A page of the summary serves as many pages of records as it has bytes.
        let most = u64::from(geometry.record_pages(NO_LINK - 1));
        let served = (pages - pages.div_ceil(PAGE_BYTES + 1)).min(most);
        geometry.summary_pages = u32::try_from(served.div_ceil(PAGE_BYTES).max(1)).expect("fewer than `most`");
        let records = (len_bytes - geometry.records_start()) / u64::from(record_bytes);
        // Below NO_LINK, so that every index is one.
        geometry.capacity = u32::try_from(records).map_or(NO_LINK - 1, |n| n.min(NO_LINK - 1));
        geometry.fits(len_bytes)?;
        Ok(geometry)
    }

    /// The same table as a program of format 1 would have made it.
    #[cfg(test)]
    pub(super) fn without_summary(mut self) -> Self {
        self.summary_pages = 0;
        self
    }

    fn checked(record_bytes: u32, log_pages: u32, summary_pages: u32, capacity: u32) -> Result<Self, TableError> {
        if !record_bytes.is_power_of_two() || !(MIN_RECORD_BYTES..=MAX_RECORD_BYTES).contains(&record_bytes) {
            return Err(TableError::RecordBytes { found: record_bytes });
        }
        if !(1..=MAX_LOG_PAGES).contains(&log_pages) {
            return Err(TableError::LogPages { found: log_pages, limit: MAX_LOG_PAGES });
        }
        Ok(Self { record_bytes, log_pages, summary_pages, capacity })
    }

    fn fits(self, len_bytes: u64) -> Result<(), TableError> {
        let needed = self.end();
        if len_bytes < needed { Err(TableError::MemoryTooSmall { len_bytes, needed }) } else { Ok(()) }
    }

    /// Writes an empty table. The magic number goes away first and comes last: half a format is not a table.
    pub(super) fn write(self, memory: &dyn TableMemory) {
        let mut header = TableHeader {
            magic: MAGIC,
            format: if self.has_summary() { FORMAT } else { FORMAT_WITHOUT_SUMMARY },
            record_bytes: self.record_bytes,
            log_pages: self.log_pages,
            capacity: self.capacity,
            summary_pages: self.summary_pages,
            crc: 0,
        };
        header.crc = header.checksum();
        memory.write_word(0, 0);
        memory.write(8, &header.as_bytes()[8..]);
        memory.write(32, &[0; 96]);
        Allocation::EMPTY.write(memory);
        memory.write_word(0, MAGIC);
    }

    /// Reads and checks the header.
    pub(super) fn read(memory: &dyn TableMemory) -> Result<Self, TableError> {
        let len_bytes = memory.len_bytes();
        if len_bytes < PAGE_BYTES {
            return Err(TableError::MemoryTooSmall { len_bytes, needed: PAGE_BYTES });
        }
        let mut header = TableHeader::new_zeroed();
        memory.read(0, header.as_mut_bytes());
        if header.magic != MAGIC {
            return Err(TableError::NotATable { found: header.magic });
        }
        // Before the checksum: another format may keep its checksum elsewhere.
        if ![FORMAT, FORMAT_WITHOUT_SUMMARY].contains(&header.format) {
            return Err(TableError::FormatVersion { found: header.format, known: FORMAT });
        }
        let expected = header.checksum();
        if header.crc != expected {
            return Err(header_fault("checksum", header.crc, expected).into());
        }
        if header.capacity == 0 || header.capacity == NO_LINK {
            return Err(header_fault("capacity", header.capacity, NO_LINK - 1).into());
        }
        let summary = header.summary_pages;
        let geometry = Self::checked(header.record_bytes, header.log_pages, summary, header.capacity)?;
        let needed = u64::from(geometry.record_pages(header.capacity)).div_ceil(PAGE_BYTES);
        let expected = if header.format == FORMAT { u32::try_from(needed).unwrap_or(u32::MAX) } else { 0 };
        if summary < expected || (summary != 0 && expected == 0) {
            return Err(header_fault("pages of the summary", summary, expected).into());
        }
        geometry.fits(len_bytes)?;
        Ok(geometry)
    }

    pub(super) const fn max_payload(self) -> u32 {
        self.record_bytes - RECORD_HEADER_BYTES
    }

    pub(super) const fn log_bytes(self) -> u64 {
        self.summary_start() - LOG_START
    }

    /// Where the summary begins.
    pub(super) const fn summary_start(self) -> u64 {
        self.log_pages as u64 * PAGE_BYTES
    }

    pub(super) const fn has_summary(self) -> bool {
        self.summary_pages != 0
    }

    /// Where the summary's byte for a page of records lies.
    pub(super) const fn summary_offset(self, page: u32) -> u64 {
        self.summary_start() + page as u64
    }

    pub(super) const fn records_start(self) -> u64 {
        (self.log_pages as u64 + self.summary_pages as u64) * PAGE_BYTES
    }

    /// Pages that the first `records` records take.
    pub(super) const fn record_pages(self, records: u32) -> u32 {
        records.div_ceil(self.records_per_page())
    }

    /// The records of a page that lie below the high-water mark: the first, and the one after the last.
    pub(super) fn records_of(self, page: u32, high_water: u32) -> (u32, u32) {
        let first = page.saturating_mul(self.records_per_page());
        (first, first.saturating_add(self.records_per_page()).min(high_water).min(self.capacity))
    }

    /// The first byte after the last record.
    pub(super) const fn end(self) -> u64 {
        self.record_offset(self.capacity)
    }

    pub(super) const fn record_offset(self, index: u32) -> u64 {
        self.records_start() + index as u64 * self.record_bytes as u64
    }

    pub(super) const fn payload_offset(self, index: u32) -> u64 {
        self.record_offset(index) + RECORD_HEADER_BYTES as u64
    }

    pub(super) const fn records_per_page(self) -> u32 {
        MAX_RECORD_BYTES / self.record_bytes
    }
}

/// Which records are in use: the part of the first page that transactions change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Allocation {
    /// Records from here on were never used; what their bytes hold means nothing.
    pub(super) high_water: u32,
    /// The first free record, or [`NO_LINK`].
    pub(super) free_head: u32,
    pub(super) live: u32,
    pub(super) free: u32,
}

pub(super) const ALLOCATION_BYTES: u64 = size_of::<Allocation>() as u64;
const _: () = assert!(ALLOCATION_BYTES == 16 && ALLOCATION + ALLOCATION_BYTES <= LOG_START);

impl Allocation {
    const EMPTY: Self = Self { high_water: 0, free_head: NO_LINK, live: 0, free: 0 };

    pub(super) fn write(&self, memory: &dyn TableMemory) {
        memory.write(ALLOCATION, self.as_bytes());
    }

    /// Reads it and checks that its numbers are possible.
    pub(super) fn read(memory: &dyn TableMemory, geometry: Geometry) -> Result<Self, Inconsistency> {
        let mut found = Self::EMPTY;
        memory.read(ALLOCATION, found.as_mut_bytes());
        if found.high_water > geometry.capacity {
            return Err(header_fault("high-water mark", found.high_water, geometry.capacity));
        }
        if u64::from(found.live) + u64::from(found.free) > u64::from(found.high_water) {
            return Err(header_fault("live records", found.live, found.high_water));
        }
        if (found.free_head == NO_LINK) != (found.free == 0)
            || (found.free_head != NO_LINK && found.free_head >= found.high_water)
        {
            return Err(header_fault("head of the free list", found.free_head, found.high_water));
        }
        Ok(found)
    }
}

fn header_fault(what: &'static str, found: u32, expected: u32) -> Inconsistency {
    Inconsistency::Header { what, found: found.into(), expected: expected.into() }
}

/// The bytes before a record's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RecordHeader {
    /// [`super::Record::KIND`] while live, else 0.
    pub(super) kind: u16,
    /// One of the constants below; far apart, so that no flipped bit makes another.
    pub(super) state: u16,
    pub(super) version: u32,
    /// The record's own index: a record that was written to the wrong place shows.
    pub(super) index: u32,
    /// Live: bytes of content. Free: the next free record, or [`NO_LINK`].
    pub(super) link: u32,
}

const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES as usize);

pub(super) const LIVE: u16 = 0x4C4C;
pub(super) const FREE: u16 = 0x6666;
pub(super) const RETIRED: u16 = 0x9292;

impl RecordHeader {
    pub(super) fn read(memory: &dyn TableMemory, geometry: Geometry, index: u32) -> Self {
        let mut header = Self::new_zeroed();
        memory.read(geometry.record_offset(index), header.as_mut_bytes());
        header
    }

    /// Whether every field is possible for the record at `index` of a table with this high-water mark.
    pub(super) fn check(&self, geometry: Geometry, high_water: u32, index: u32) -> Result<(), Inconsistency> {
        let fault = |what, found: u32| Err(Inconsistency::RecordHeader { index, what, found: found.into() });
        if self.index != index {
            return fault("its own index", self.index);
        }
        if self.version == 0 {
            return fault("version", 0);
        }
        let (kind_fits, link_fits) = match self.state {
            LIVE => (is_record_kind(self.kind), self.link <= geometry.max_payload()),
            FREE => (self.kind == 0, self.link == NO_LINK || (self.link < high_water && self.link != index)),
            RETIRED => (self.kind == 0, self.link == NO_LINK),
            _ => return fault("state", self.state.into()),
        };
        if !kind_fits {
            return fault("kind", self.kind.into());
        }
        if !link_fits {
            return fault("link or length", self.link);
        }
        Ok(())
    }

    /// How the directory files a sound header.
    pub(super) const fn directory_kind(&self) -> u16 {
        if self.state == LIVE && is_listed_kind(self.kind) { self.kind } else { UNLISTED }
    }
}

/// Whether a record may be of this kind.
pub(super) const fn is_record_kind(kind: u16) -> bool {
    kind != 0 && kind != 0xFFFF
}

/// Whether records of this kind are listed.
pub(super) const fn is_listed_kind(kind: u16) -> bool {
    kind < super::FIRST_UNLISTED_KIND
}
