//! The object table: fixed-size records in pages, changed by transactions whose undo log lies in the same pages.
//!
//! The kernel's whole state is such a table (segment 0), and so is the private state of each linux program. A
//! checkpoint takes the pages as they are; nothing is serialised. `docs/format-table.md` draws every byte.
//!
//! # Promise
//!
//! Whoever is killed, and whenever, the pages hold the state before or after a transaction, once
//! [`Table::open`] has undone what was unfinished.
//!
//! # Invariants
//!
//! * *Write-ahead*: old bytes are in the log, then counted by the log word, and only then overwritten.
//! * *One-word commit*: a transaction ends when the log word becomes 0, one aligned 8-byte store.
//! * A byte is logged at most once in a transaction; bytes that meant nothing before it are not logged at all.
//! * Every record below the high-water mark is live, free or retired, and says its own index. Each free one is on the
//!   free list exactly once.
//! * A version is at least 1 and only grows while its record exists; a record that runs out of versions is retired, so
//!   a stale [`RecordId`] never becomes valid again. (An id handed out by a transaction that was undone means nothing.)
//! * What is read back from the pages is believed only after it was checked: damaged pages give typed errors.
//!
//! # What it does not do
//!
//! It keeps no checksum per record (the store has one per page), no index by content, and does not lock: one table has
//! one writer.

#![forbid(unsafe_code)]

mod aside;
mod check;
mod directory;
mod error;
mod layout;
mod lazy;
mod log;
mod memory;
mod read;
mod record;
mod summary;
mod tx;

#[cfg(test)]
mod tests;

pub use error::{Inconsistency, TableError};
pub use layout::{DEFAULT_LOG_PAGES, MAX_LOG_PAGES};
pub use lazy::LazyMemory;
pub use memory::{TableMemory, VecMemory};
pub use read::Iter;
pub use record::{FIRST_UNLISTED_KIND, Record, RecordId};
pub use tx::Tx;

use directory::{Directory, TouchedPages, UNLISTED};
use layout::{Allocation, Geometry};
use log::Log;

/// Tables of at most so many records are checked whole when they are opened.
const CHECKED_AT_OPEN: u32 = 4096;

/// An open table: checked pages, and a cache of where the listed records are.
pub struct Table {
    memory: Box<dyn TableMemory>,
    geometry: Geometry,
    allocation: Allocation,
    directory: Directory,
    log: Log,
    touched: TouchedPages,
    /// An undo failed because the pages were damaged under the open table: nothing may be built on them.
    broken: bool,
}

/// What [`Table::open`] found and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Logged writes of an unfinished transaction that were undone; 0 if the last one had ended.
    pub undone: u32,
}

impl Table {
    /// Makes `memory` an empty table of records of `record_bytes` (a power of two, 32 to 4096) with the usual log.
    ///
    /// Only the first page is written. The capacity is what fits into the memory now, so give a sparse segment its
    /// largest length: pages that are never used do not exist.
    ///
    /// # Errors
    ///
    /// [`TableError::RecordBytes`], [`TableError::MemoryTooSmall`].
    pub fn format(memory: impl TableMemory + 'static, record_bytes: u32) -> Result<Self, TableError> {
        Self::format_with_log(memory, record_bytes, DEFAULT_LOG_PAGES)
    }

    /// As [`Table::format`], with the first `log_pages` pages (1 to [`MAX_LOG_PAGES`]) for header and undo log. The log
    /// bounds how much one transaction may overwrite.
    ///
    /// # Errors
    ///
    /// As [`Table::format`], and [`TableError::LogPages`].
    pub fn format_with_log(
        memory: impl TableMemory + 'static,
        record_bytes: u32,
        log_pages: u32,
    ) -> Result<Self, TableError> {
        let geometry = Geometry::for_memory(memory.len_bytes(), record_bytes, log_pages)?;
        geometry.write(&memory);
        Self::open(memory).map(|(table, _)| table)
    }

    /// Opens a table: checks the header, undoes an unfinished transaction, and finds the records of listed kinds.
    ///
    /// A table of up to 4096 records is checked whole. Of a larger one only the pages that hold listed records are read; the
    /// others are checked record by record as they are used, and page by page by [`Table::check`] when they change.
    ///
    /// # Errors
    ///
    /// [`TableError::NotATable`], [`TableError::FormatVersion`], [`TableError::MemoryTooSmall`], or
    /// [`TableError::Damaged`]. Nothing is written unless the header and the whole log are sound.
    pub fn open(memory: impl TableMemory + 'static) -> Result<(Self, Opened), TableError> {
        let geometry = Geometry::read(&memory)?;
        let mut log = Log::new(geometry);
        let undone = log.undo(&memory)?;
        let allocation = Allocation::read(&memory, geometry)?;
        let mut table = Self {
            memory: Box::new(memory),
            geometry,
            allocation,
            directory: Directory::default(),
            log,
            touched: TouchedPages::default(),
            broken: false,
        };
        table.check_high_water()?;
        table.load_directory()?;
        if table.allocation.high_water <= CHECKED_AT_OPEN {
            table.check_all()?;
        }
        Ok((table, Opened { undone }))
    }

    /// Begins a transaction. Dropping it undoes it; only [`Tx::commit`] keeps it.
    pub fn begin(&mut self) -> Tx<'_> {
        // A transaction that was leaked instead of dropped is still in the log.
        if self.log.is_open() {
            self.roll_back();
        }
        Tx::new(self)
    }

    /// How many records the memory can hold.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.geometry.capacity
    }

    /// How many live records there are, of all kinds.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.allocation.live
    }

    /// Whether no record is live.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.allocation.live == 0
    }

    /// The largest record that fits, in bytes.
    #[must_use]
    pub const fn max_payload_bytes(&self) -> u32 {
        self.geometry.max_payload()
    }

    /// Undoes the open transaction in the pages and in what is cached of them.
    fn roll_back(&mut self) {
        if self.try_roll_back().is_err() {
            self.broken = true;
        }
    }

    fn try_roll_back(&mut self) -> Result<(), Inconsistency> {
        self.log.undo(&*self.memory)?;
        self.allocation = Allocation::read(&*self.memory, self.geometry)?;
        for index in self.directory.take_changed() {
            let exists = index < self.allocation.high_water;
            let kind = if exists { self.sound_header(index)?.directory_kind() } else { UNLISTED };
            self.directory.set(index, kind);
        }
        self.directory.forget_changed();
        Ok(())
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("geometry", &self.geometry)
            .field("allocation", &self.allocation)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
