//! The pager and the store at the seams.

use crate::seam::{Capture, CaptureError, Durable, PageSink, Scanned, Stage, Transaction, WriteError};
use semper_pager::{BackingError, Pager, Scan, Sink, Staging};
use semper_store::{Commit, Committed, Error, Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};

const PAGE: u64 = PAGE_SIZE as u64;

/// A sink of ours as the pager sees it.
struct Tap<'a>(&'a mut dyn PageSink);

impl Sink for Tap<'_> {
    fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), BackingError> {
        Ok(self.0.remove(segment, range)?)
    }

    fn pages(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), BackingError> {
        Ok(self.0.put(segment, first, data)?)
    }

    fn remove_segment(&mut self, segment: SegmentId) -> Result<(), BackingError> {
        Ok(self.0.remove_segment(segment)?)
    }
}

fn capture_error(error: semper_pager::Error) -> CaptureError {
    match error {
        semper_pager::Error::Sink(refused) => match refused.downcast::<WriteError>() {
            Ok(refused) => CaptureError::Write(*refused),
            Err(other) => CaptureError::Memory(other.to_string()),
        },
        other => CaptureError::Memory(other.to_string()),
    }
}

impl Scanned for Scan {
    fn pages(&self) -> u64 {
        Self::pages(self)
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

impl Capture for Pager {
    type Scan = Scan;
    type Staging = Staging;

    fn scan(&self, stage: Stage) -> Result<Scan, CaptureError> {
        Self::scan(self, stage).map_err(capture_error)
    }

    fn copy(&self, scan: &Scan, staging: &mut Staging) -> Result<(), CaptureError> {
        Self::copy(self, scan, staging).map_err(capture_error)
    }

    fn copy_into(&self, scan: &Scan, sink: &mut dyn PageSink) -> Result<(), CaptureError> {
        Self::copy_into(self, scan, &mut Tap(sink)).map_err(capture_error)
    }

    fn drain(&self, staging: &mut Staging, keep: u64, sink: &mut dyn PageSink) -> Result<(), CaptureError> {
        staging.replay(&mut Tap(sink)).map_err(capture_error)?;
        staging.clear();
        staging.shrink(usize::try_from(keep.saturating_mul(PAGE)).unwrap_or(usize::MAX));
        Ok(())
    }

    fn clear(&self, staging: &mut Staging) {
        staging.clear();
    }

    fn committed(&self) {
        Self::committed(self);
    }

    fn abandon(&self) {
        Self::abandon(self);
    }

    fn wants_checkpoint(&self) -> bool {
        Self::wants_checkpoint(self)
    }

    fn starving(&self) -> Option<u64> {
        Self::starving(self)
    }

    fn dirty_bytes(&self) -> u64 {
        self.usage().dirty.saturating_mul(PAGE)
    }

    fn on_pressure(&self, hook: Box<dyn Fn() + Send + Sync>) {
        Self::on_pressure(self, hook);
    }
}

/// A commit of a [`Store`].
pub struct StoreCommit<'a> {
    store: &'a Store,
    commit: Commit,
}

fn write_error(store: &Store, error: Error) -> WriteError {
    match (error, store.poisoned()) {
        (Error::Full { needed, available }, None) => WriteError::Full { needed, available },
        (Error::Poisoned { reason }, _) | (_, Some(Error::Poisoned { reason })) => WriteError::Poisoned(reason),
        (error, _) => WriteError::Refused(error.to_string()),
    }
}

impl PageSink for StoreCommit<'_> {
    fn put(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), WriteError> {
        self.commit.put(segment, first, data).map_err(|error| write_error(self.store, error))
    }

    fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), WriteError> {
        self.commit.remove(segment, range).map_err(|error| write_error(self.store, error))
    }

    fn remove_segment(&mut self, segment: SegmentId) -> Result<(), WriteError> {
        self.commit.remove_segment(segment).map_err(|error| write_error(self.store, error))
    }
}

impl Transaction for StoreCommit<'_> {
    fn set_one_flush(&mut self) {
        self.commit.set_one_flush();
    }

    fn commit(self) -> Result<Committed, WriteError> {
        self.commit.commit().map_err(|error| write_error(self.store, error))
    }
}

impl Durable for Store {
    type Commit<'a> = StoreCommit<'a>;

    fn begin(&self) -> Result<StoreCommit<'_>, WriteError> {
        let commit = Self::begin(self).map_err(|error| write_error(self, error))?;
        Ok(StoreCommit { store: self, commit })
    }

    fn generation(&self) -> Generation {
        Self::generation(self)
    }

    fn free_bytes(&self) -> u64 {
        self.space().free.saturating_mul(PAGE)
    }
}
