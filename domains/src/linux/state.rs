//! A program's state: records in its state segment, changed by one transaction a call.
//!
//! The transaction is open from [`State::begin`] to [`State::commit`] or [`State::abort`]; handlers change records in
//! between without holding a borrow. Reading needs no transaction and sees the open one's changes.

use super::Errno;
use crate::table::{Iter, Record, RecordId, Table, TableError, TableMemory};

/// Bytes of one record slot in a state segment.
pub const RECORD_BYTES: u32 = 512;

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
        Ok(Self { table: Table::format(memory, RECORD_BYTES)?, changes: 0 })
    }

    /// Opens a state; an unfinished transaction is undone.
    ///
    /// # Errors
    /// When it is not a state or is damaged.
    pub fn open(memory: Box<dyn TableMemory>) -> Result<Self, TableError> {
        Ok(Self { table: Table::open(memory)?.0, changes: 0 })
    }

    /// Opens a transaction; what an earlier one left open is undone.
    pub fn begin(&mut self) {
        self.abort();
    }

    /// Makes the changes of the open transaction final.
    pub fn commit(&mut self) {
        if std::mem::take(&mut self.changes) > 0 {
            self.table.resume().commit();
        }
    }

    /// Undoes the changes of the open transaction; tells whether there were any.
    pub fn abort(&mut self) -> bool {
        let changed = std::mem::take(&mut self.changes) > 0;
        if changed {
            self.table.resume().abort();
        }
        changed
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `ENOMEM` when the state is full.
    pub fn insert<R: Record>(&mut self, record: &R) -> Result<RecordId, Errno> {
        self.change(|tx| tx.insert(record))
    }

    /// Replaces a record.
    ///
    /// # Errors
    /// `ENOMEM` when the transaction is too large; `EIO` when there is no such record, which is a bug.
    pub fn update<R: Record>(&mut self, id: RecordId, record: &R) -> Result<(), Errno> {
        self.change(|tx| tx.update(id, record))
    }

    /// Removes a record.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn remove(&mut self, id: RecordId) -> Result<(), Errno> {
        self.change(|tx| tx.remove(id))
    }

    /// A record; none if the id is void or names another kind.
    #[must_use]
    pub fn get<R: Record>(&self, id: RecordId) -> Option<R> {
        self.table.get(id).ok()
    }

    /// All records of a kind.
    pub fn iter<R: Record>(&self) -> Iter<'_, R> {
        self.table.iter()
    }

    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut crate::table::Tx<'_>) -> Result<T, TableError>,
    ) -> Result<T, Errno> {
        let mut tx = self.table.resume();
        let result = change(&mut tx);
        tx.set_aside();
        self.changes += 1;
        result.map_err(|error| match error {
            TableError::Full { .. } | TableError::LogFull { .. } => Errno::ENOMEM,
            bug => {
                tracing::error!(%bug, "a program's records were used wrongly");
                Errno::EIO
            }
        })
    }
}
