//! What a store at rest knows of its journal.

use super::status::offline_pager;
use super::{Runtime, RuntimeError};
use semper_journal::{Error, JOURNAL_DIR, Reader, Trimmed, Wish};
use semper_pager::{Backing, BackingError, Pager, PagerConfig};
use semper_store::{Generation, PageIndex, SegmentId, Store, StoreId};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The journal, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// The first record that was not trimmed.
    pub first: u64,
    /// The sequence after the last record.
    pub end: u64,
    /// Bytes of its segments.
    pub bytes: u64,
}

/// What there is of the journal of `store`; none without one, the reason where it cannot be read. Only its newest segment is
/// looked through: `semper journal verify` looks at all.
pub(super) fn journal_status(store: &Store) -> Option<Result<JournalStatus, String>> {
    let folder = store.folder(JOURNAL_DIR).ok()?;
    let look = || -> Result<JournalStatus, Error> {
        let mut reader = Reader::open(folder, store.id(), u64::MAX)?;
        while reader.step()?.is_some() {}
        let bytes = reader.segments() as u64 * reader.segment_bytes();
        Ok(JournalStatus { first: reader.first(), end: reader.next_sequence(), bytes })
    };
    match look() {
        Err(Error::None) => None,
        found => Some(found.map_err(|error| error.to_string())),
    }
}

impl Runtime {
    /// Trims the journal as an operator wishes; none: there is none.
    ///
    /// # Errors
    /// It is damaged or cannot be written.
    pub fn trim_journal(&self, wish: &Wish) -> Result<Option<Trimmed>, RuntimeError> {
        Ok(self.kernel.trim_journal(wish)?)
    }

    /// What of the journal is rotten on some sides of the store, and not on all, is written anew; says how much.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn mend_journal(&self) -> Result<u64, RuntimeError> {
        mend_journal(&self.store)
    }

    /// Records of the journal below `sequence` are in a backup.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn cover_journal(&self, sequence: u64) -> Result<(), RuntimeError> {
        Ok(self.kernel.cover_journal(sequence)?)
    }
}

/// The same, of a store that is open here for writing.
///
/// # Errors
/// It cannot be read.
pub fn mend_journal(store: &Store) -> Result<u64, RuntimeError> {
    match semper_journal::verify(store.folder(JOURNAL_DIR)?, store.id(), &mut |_| ()) {
        Err(Error::None) => Ok(0),
        looked => Ok(looked?.rotten),
    }
}

/// The sequence after the last record of the journal that the newest generation in `dir` knows to be durable; 0 if it knows of none.
///
/// # Errors
/// When there is no store, or it is damaged.
pub fn journal_seen(dir: &Path) -> Result<u64, RuntimeError> {
    match offline_pager(dir)? {
        Some((store, pager)) => Ok(semper_domains::kernel::read_journal_end(&pager, store.id())?),
        None => Ok(0),
    }
}

/// A generation that is kept, as a pager sees it.
struct Past {
    store: Store,
    generation: Generation,
}

impl Backing for Past {
    fn read(&self, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        Ok(self.store.read_at(self.generation, segment, first, out)?)
    }

    /// What is asked for is read by its pages only.
    fn next_present(&self, _segment: SegmentId, from: PageIndex) -> Result<Option<PageIndex>, BackingError> {
        Ok(Some(from))
    }
}

/// The sequence after the last record of its journal that a generation of the store in `dir` knows to be durable, and whose journal that is;
/// none if it knows of no journal.
///
/// # Errors
/// When there is no such store or generation, or it is damaged.
pub fn journal_known(dir: &Path, generation: Generation) -> Result<Option<(u64, StoreId)>, RuntimeError> {
    let pager = past(Store::open_read_only(dir)?, generation)?;
    Ok(semper_domains::kernel::read_journal_record(&pager)?)
}

/// A generation that is kept, as a pager that writes nothing back.
pub(super) fn past(store: Store, generation: Generation) -> Result<Arc<Pager>, RuntimeError> {
    let config = PagerConfig::default();
    Ok(Pager::new(config, Arc::new(Past { store, generation }))?)
}
