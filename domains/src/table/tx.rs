//! Transactions: the only way to change a table.

use super::layout::{
    ALLOCATION, ALLOCATION_BYTES, Allocation, FREE, LIVE, NO_LINK, RECORD_HEADER_BYTES, RETIRED, RecordHeader,
    is_listed_kind, is_record_kind,
};
use super::{Inconsistency, Record, RecordId, Table, TableError};
use std::ops::Deref;
use zerocopy::IntoBytes;

/// A transaction: all of it happens, or none. Reads (through `Deref`) see its own changes.
///
/// An operation that fails has changed nothing, and the transaction can go on; dropping it without [`Tx::commit`]
/// undoes everything.
#[must_use = "a transaction that is dropped is undone"]
pub struct Tx<'a> {
    pub(super) table: &'a mut Table,
}

impl<'a> Tx<'a> {
    pub(super) const fn new(table: &'a mut Table) -> Self {
        Self { table }
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// [`TableError::Full`], [`TableError::LogFull`], [`TableError::TooLarge`], [`TableError::Damaged`].
    pub fn insert<R: Record>(&mut self, record: &R) -> Result<RecordId, TableError> {
        const { assert!(is_record_kind(R::KIND), "0 and 0xFFFF are not kinds of records") };
        let link = self.table.payload_len::<R>()?;
        let (index, version, allocation) = self.claim()?;
        // The first record of a page gives the summary's byte its meaning.
        let flagged = is_listed_kind(R::KIND) || index.is_multiple_of(self.table.geometry.records_per_page());
        if flagged {
            self.protect_flag(index)?;
        }
        let header = RecordHeader { kind: R::KIND, state: LIVE, version, index, link };
        let offset = self.table.geometry.payload_offset(index);
        self.table.memory.write(offset, record.as_bytes());
        self.write_header(&header, allocation);
        if flagged {
            self.write_flag(index);
        }
        Ok(RecordId::new(index, version))
    }

    /// Replaces the content of a record. Bytes that stay the same are neither logged nor written.
    ///
    /// # Errors
    ///
    /// [`TableError::Void`], [`TableError::WrongKind`], [`TableError::WrongSize`], [`TableError::LogFull`],
    /// [`TableError::Damaged`].
    pub fn update<R: Record>(&mut self, id: RecordId, record: &R) -> Result<(), TableError> {
        self.sound()?;
        self.table.live_header::<R>(id)?;
        let old = self.table.payload(id.index());
        self.replace(id, &old, record)
    }

    /// Gives a record another version and leaves its content: every id of it is void from now on but the one returned.
    ///
    /// # Errors
    ///
    /// [`TableError::VersionsUsedUp`], [`TableError::Void`], [`TableError::LogFull`], [`TableError::Damaged`].
    pub fn renew(&mut self, id: RecordId) -> Result<RecordId, TableError> {
        self.sound()?;
        let mut header = self.table.header_of(id)?;
        header.version = header.version.checked_add(1).ok_or(TableError::VersionsUsedUp { id })?;
        self.protect_header(id.index())?;
        self.table.memory.write(self.table.geometry.record_offset(id.index()), header.as_bytes());
        self.touch(id.index());
        Ok(RecordId::new(id.index(), header.version))
    }

    /// As [`Tx::update`], for a record that this transaction read as `old` and did not change since.
    pub(crate) fn put<R: Record>(&mut self, id: RecordId, old: &R, record: &R) -> Result<(), TableError> {
        self.sound()?;
        self.replace(id, old, record)
    }

    /// Overwrites the record that `id` names, which was just read as `old`.
    fn replace<R: Record>(&mut self, id: RecordId, old: &R, record: &R) -> Result<(), TableError> {
        let new = record.as_bytes();
        let Some((first, end)) = changed_words(old.as_bytes(), new) else { return Ok(()) };
        let offset = self.table.geometry.payload_offset(id.index());
        let table = &mut *self.table;
        table.log.protect(&*table.memory, offset + first as u64, offset + end as u64)?;
        table.memory.write(offset + first as u64, &new[first..end]);
        self.touch(id.index());
        Ok(())
    }

    /// Changes a record in place: [`Table::get`], `change`, [`Tx::update`]. Returns the new content.
    ///
    /// # Errors
    ///
    /// As [`Tx::update`].
    pub fn modify<R: Record>(&mut self, id: RecordId, change: impl FnOnce(&mut R)) -> Result<R, TableError> {
        self.sound()?;
        let old: R = self.table.get(id)?;
        let mut record = old;
        change(&mut record);
        self.replace(id, &old, &record)?;
        Ok(record)
    }

    /// Removes a record, of whatever kind. Every id of it is void from now on.
    ///
    /// # Errors
    ///
    /// [`TableError::Void`], [`TableError::LogFull`], [`TableError::Damaged`].
    pub fn remove(&mut self, id: RecordId) -> Result<(), TableError> {
        self.sound()?;
        let header = self.table.header_of(id)?;
        let index = id.index();
        self.protect_header(index)?;
        self.protect_allocation()?;
        if is_listed_kind(header.kind) {
            self.protect_flag(index)?;
        }
        let mut allocation = self.table.allocation;
        let none_live = Inconsistency::Header { what: "live records", found: 0, expected: 1 };
        allocation.live = allocation.live.checked_sub(1).ok_or(none_live)?;
        let gone = match header.version.checked_add(1) {
            Some(version) => {
                let link = std::mem::replace(&mut allocation.free_head, index);
                allocation.free += 1;
                RecordHeader { kind: 0, state: FREE, version, index, link }
            }
            // Its next version would be one that an old id may have.
            None => RecordHeader { kind: 0, state: RETIRED, version: header.version, index, link: NO_LINK },
        };
        self.write_header(&gone, allocation);
        if is_listed_kind(header.kind) {
            self.write_flag(index);
        }
        Ok(())
    }

    /// Keeps the changes. One word is written; from that store on they are there.
    pub fn commit(self) {
        self.table.log.commit(&*self.table.memory);
        self.table.directory.forget_changed();
    }

    /// Undoes the changes, as dropping does.
    pub fn abort(self) {
        drop(self);
    }

    /// Chooses a place for a record and logs what filling it overwrites: its index, its version, and the allocation
    /// fields as they will be.
    fn claim(&mut self) -> Result<(u32, u32, Allocation), TableError> {
        self.sound()?;
        let mut allocation = self.table.allocation;
        let index = allocation.free_head;
        if index == NO_LINK {
            return self.claim_unused();
        }
        let header = self.table.sound_header(index)?;
        if header.state != FREE || allocation.free == 0 || (header.link == NO_LINK) != (allocation.free == 1) {
            return Err(Inconsistency::FreeList { index, what: "its head is not the head of such a list" }.into());
        }
        allocation.free_head = header.link;
        allocation.free -= 1;
        allocation.live += 1;
        self.protect_allocation()?;
        let (start, payload) = (self.table.geometry.record_offset(index), self.table.geometry.payload_offset(index));
        let end = start + u64::from(self.table.geometry.record_bytes);
        let table = &mut *self.table;
        if table.log.covers(start, payload) {
            // It became free in this very transaction: an undo needs the content it had.
            table.log.protect(&*table.memory, payload, end)?;
        } else {
            table.log.protect(&*table.memory, start, payload)?;
            table.log.cover(payload, end);
        }
        Ok((index, header.version, allocation))
    }

    fn claim_unused(&mut self) -> Result<(u32, u32, Allocation), TableError> {
        let mut allocation = self.table.allocation;
        let (index, capacity) = (allocation.high_water, self.table.geometry.capacity);
        if index >= capacity {
            return Err(TableError::Full { capacity });
        }
        allocation.high_water += 1;
        allocation.live += 1;
        self.protect_allocation()?;
        let start = self.table.geometry.record_offset(index);
        self.table.log.cover(start, start + u64::from(self.table.geometry.record_bytes));
        Ok((index, 1, allocation))
    }

    fn protect_header(&mut self, index: u32) -> Result<(), TableError> {
        let start = self.table.geometry.record_offset(index);
        let table = &mut *self.table;
        table.log.protect(&*table.memory, start, start + u64::from(RECORD_HEADER_BYTES))
    }

    fn protect_allocation(&mut self) -> Result<(), TableError> {
        let table = &mut *self.table;
        table.log.protect(&*table.memory, ALLOCATION, ALLOCATION + ALLOCATION_BYTES)
    }

    /// Writes a logged header and the allocation fields that belong to it, in the pages and in the cache.
    fn write_header(&mut self, header: &RecordHeader, allocation: Allocation) {
        let table = &mut *self.table;
        table.memory.write(table.geometry.record_offset(header.index), header.as_bytes());
        allocation.write(&*table.memory);
        table.allocation = allocation;
        table.directory.change(header.index, header.directory_kind());
        self.touch(header.index);
    }

    fn touch(&mut self, index: u32) {
        self.table.touched.add(index / self.table.geometry.records_per_page());
    }

    fn sound(&self) -> Result<(), Inconsistency> {
        if self.table.broken { Err(Inconsistency::Broken) } else { Ok(()) }
    }
}

impl Deref for Tx<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        self.table
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.table.log.is_open() {
            self.table.roll_back();
        }
    }
}

/// The smallest run of whole words (the last may be cut) that holds every difference.
fn changed_words(old: &[u8], new: &[u8]) -> Option<(usize, usize)> {
    let mut differ = old.chunks(8).zip(new.chunks(8)).map(|(a, b)| a != b);
    let first = differ.position(|differs| differs)?;
    let last = differ.rposition(|differs| differs).map_or(first, |after| first + 1 + after);
    Some((first * 8, new.len().min(last * 8 + 8)))
}
