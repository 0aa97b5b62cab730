//! Reading records. All of it works on a table and, through `Deref`, within a transaction.

use super::layout::{LIVE, RecordHeader, is_listed_kind};
use super::{Inconsistency, Record, RecordId, Table, TableError};
use std::marker::PhantomData;
use std::mem::size_of;

impl Table {
    /// The record that `id` names.
    ///
    /// # Errors
    ///
    /// [`TableError::Void`], [`TableError::WrongKind`], [`TableError::WrongSize`], [`TableError::Damaged`].
    pub fn get<R: Record>(&self, id: RecordId) -> Result<R, TableError> {
        self.live_header::<R>(id)?;
        Ok(self.payload(id.index()))
    }

    /// The live record at `index`, which must be an `R`: for links that the table's user keeps valid.
    ///
    /// # Errors
    ///
    /// As [`Table::get`].
    pub fn at<R: Record>(&self, index: u32) -> Result<(RecordId, R), TableError> {
        let id = self.id_at(index)?;
        Ok((id, self.get(id)?))
    }

    /// The id of the live record at `index`.
    ///
    /// # Errors
    ///
    /// [`TableError::Void`] if there is none, [`TableError::Damaged`].
    pub fn id_at(&self, index: u32) -> Result<RecordId, TableError> {
        if index >= self.allocation.high_water {
            return Err(TableError::Void { id: RecordId::new(index, 0) });
        }
        let id = RecordId::new(index, self.sound_header(index)?.version);
        self.header_of(id).map(|_| id)
    }

    /// Every index below it was used at some time.
    #[must_use]
    pub const fn high_water(&self) -> u32 {
        self.allocation.high_water
    }

    /// Bytes of the pages up to the end of the last record that was ever used.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.geometry.record_offset(self.allocation.high_water)
    }

    /// The bytes of the record that `id` names, of whatever kind.
    ///
    /// # Errors
    ///
    /// [`TableError::Void`], [`TableError::Damaged`].
    pub fn content(&self, id: RecordId) -> Result<Vec<u8>, TableError> {
        let header = self.header_of(id)?;
        let mut bytes = vec![0; header.link as usize];
        self.memory.read(self.geometry.payload_offset(id.index()), &mut bytes);
        Ok(bytes)
    }

    /// Copies the pages from the first byte on.
    #[cfg(test)]
    pub(crate) fn read_all(&self, out: &mut [u8]) {
        self.memory.read(0, out);
    }

    /// The kind of the record that `id` names.
    ///
    /// # Errors
    ///
    /// [`TableError::Void`], [`TableError::Damaged`].
    pub fn kind_of(&self, id: RecordId) -> Result<u16, TableError> {
        Ok(self.header_of(id)?.kind)
    }

    /// Whether `id` names a live record, of whatever kind.
    #[must_use]
    pub fn contains(&self, id: RecordId) -> bool {
        self.header_of(id).is_ok()
    }

    /// How many records of this kind are live. Constant time.
    #[must_use]
    pub fn count<R: Record>(&self) -> u32 {
        const { assert!(is_listed_kind(R::KIND), "records of this kind are not listed") };
        self.directory.count(R::KIND)
    }

    /// The live records of this kind, by index. Records of other kinds cost next to nothing.
    ///
    /// A record whose header was damaged while the table was open is left out; [`Table::check_all`] names it.
    #[must_use]
    pub fn iter<R: Record>(&self) -> Iter<'_, R> {
        const { assert!(is_listed_kind(R::KIND), "records of this kind are not listed") };
        Iter { table: self, next: 0, records: PhantomData }
    }

    /// The first record of this kind.
    #[must_use]
    pub fn first<R: Record>(&self) -> Option<(RecordId, R)> {
        self.iter().next()
    }

    /// The first record of this kind that `wanted` accepts. Reads each one before it.
    #[must_use]
    pub fn find<R: Record>(&self, mut wanted: impl FnMut(&R) -> bool) -> Option<(RecordId, R)> {
        self.iter().find(|(_, record)| wanted(record))
    }

    /// The header at `index`, which lies below the high-water mark, if it is sound.
    pub(super) fn sound_header(&self, index: u32) -> Result<RecordHeader, Inconsistency> {
        let header = RecordHeader::read(&*self.memory, self.geometry, index);
        header.check(self.geometry, self.allocation.high_water, index)?;
        Ok(header)
    }

    /// The header of the live record that `id` names.
    pub(super) fn header_of(&self, id: RecordId) -> Result<RecordHeader, TableError> {
        if id.is_none() || id.index() >= self.allocation.high_water {
            return Err(TableError::Void { id });
        }
        let header = self.sound_header(id.index())?;
        if header.state != LIVE || header.version != id.version() {
            return Err(TableError::Void { id });
        }
        Ok(header)
    }

    /// As [`Table::header_of`], for a record that must be an `R`.
    pub(super) fn live_header<R: Record>(&self, id: RecordId) -> Result<RecordHeader, TableError> {
        let header = self.header_of(id)?;
        if header.kind != R::KIND {
            return Err(TableError::WrongKind { id, wanted: R::NAME, found: header.kind });
        }
        let expected = self.payload_len::<R>()?;
        if header.link != expected {
            return Err(TableError::WrongSize { id, name: R::NAME, expected, found: header.link });
        }
        Ok(header)
    }

    /// The content of the record at `index`, whose header says that it is an `R`.
    pub(super) fn payload<R: Record>(&self, index: u32) -> R {
        let mut record = R::new_zeroed();
        self.memory.read(self.geometry.payload_offset(index), record.as_mut_bytes());
        record
    }

    /// The size of an `R`, if this table can hold one.
    pub(super) fn payload_len<R: Record>(&self) -> Result<u32, TableError> {
        let (bytes, limit) = (size_of::<R>(), self.geometry.max_payload());
        u32::try_from(bytes).ok().filter(|len| *len <= limit).ok_or(TableError::TooLarge {
            name: R::NAME,
            bytes,
            limit,
        })
    }
}

/// The live records of one kind; made by [`Table::iter`].
pub struct Iter<'a, R> {
    table: &'a Table,
    next: u32,
    records: PhantomData<R>,
}

impl<R: Record> Iterator for Iter<'_, R> {
    type Item = (RecordId, R);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let index = self.table.directory.next_of(R::KIND, self.next)?;
            self.next = index + 1;
            let header = RecordHeader::read(&*self.table.memory, self.table.geometry, index);
            let id = RecordId::new(index, header.version);
            if let Ok(record) = self.table.get(id) {
                return Some((id, record));
            }
        }
    }
}
