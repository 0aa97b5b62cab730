//! A program's state: records in its state segment, changed by one transaction a call.
//!
//! The transaction is open from [`State::begin`] to [`State::commit`] or [`State::abort`]; handlers change records in
//! between without holding a borrow. Reading needs no transaction and sees the open one's changes.

use super::Errno;
use crate::table::{Record, RecordId, Table, TableError, TableMemory};

/// Bytes of one record slot in a state segment.
pub const RECORD_BYTES: usize = 512;

/// The records of one program.
pub struct State {
    table: Table,
    changes: u64,
}

impl State {
    /// Formats an empty state.
    ///
    /// # Errors
    /// When the memory cannot be used.
    pub fn create(memory: Box<dyn TableMemory>) -> Result<Self, TableError> {
        Ok(Self { table: Table::create(memory, RECORD_BYTES)?, changes: 0 })
    }

    /// Opens a state; an unfinished transaction is undone.
    ///
    /// # Errors
    /// When it is not a state or is damaged.
    pub fn open(memory: Box<dyn TableMemory>) -> Result<Self, TableError> {
        Ok(Self { table: Table::open(memory, RECORD_BYTES)?, changes: 0 })
    }

    /// Opens a transaction.
    pub fn begin(&mut self) {
        self.changes = 0;
    }

    /// Makes the changes of the open transaction final.
    pub fn commit(&mut self) {
        if self.changes > 0 {
            self.table.commit();
        }
        self.changes = 0;
    }

    /// Undoes the changes of the open transaction; tells whether there were any.
    pub fn abort(&mut self) -> bool {
        let changed = self.changes > 0;
        if changed {
            self.table.abort();
        }
        self.changes = 0;
        changed
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `ENOMEM` when the state is full.
    pub fn insert<R: Record>(&mut self, record: &R) -> Result<RecordId, Errno> {
        self.changes += 1;
        self.table.insert(record).map_err(|_| Errno::ENOMEM)
    }

    /// Replaces a record.
    ///
    /// # Errors
    /// `EIO` when there is no such record: a bug, the call is undone.
    pub fn update<R: Record>(&mut self, id: RecordId, record: &R) -> Result<(), Errno> {
        self.changes += 1;
        self.table.update(id, record).map_err(|_| Errno::EIO)
    }

    /// Removes a record.
    ///
    /// # Errors
    /// `EIO` when there is no such record: a bug, the call is undone.
    pub fn remove<R: Record>(&mut self, id: RecordId) -> Result<(), Errno> {
        self.changes += 1;
        self.table.remove::<R>(id).map_err(|_| Errno::EIO)
    }

    /// A record.
    #[must_use]
    pub fn get<R: Record>(&self, id: RecordId) -> Option<R> {
        self.table.get(id)
    }

    /// All records of a kind, by id.
    #[must_use]
    pub fn iter<R: Record>(&self) -> Vec<(RecordId, R)> {
        self.table.iter()
    }
}
