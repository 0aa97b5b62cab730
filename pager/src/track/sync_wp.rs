//! Synchronous write-protection: each first write waits for our answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use semper_store::{PAGE_SIZE, PageIndex, PageRange};

use super::Tracker;
use crate::mapping::Place;
use crate::ranges::RangeSet;
use crate::sys::uffd::Filled;

const PAGE: u64 = PAGE_SIZE as u64;

/// The pages that are unprotected now. The lock is held over every change of protection, so that set and page table agree.
#[derive(Default)]
pub(crate) struct SyncTracker {
    written: Mutex<RangeSet>,
}

fn one(page: PageIndex) -> PageRange {
    PageRange { first: page, count: 1 }
}

impl SyncTracker {
    fn lock(&self) -> MutexGuard<'_, RangeSet> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(place: &Place, written: &mut RangeSet, page: PageIndex) -> Result<Filled, Errno> {
        written.insert(one(page));
        place.fd.protect(place.address(page), PAGE, false)
    }
}

impl Tracker for SyncTracker {
    fn take_written(&self, place: &Place, range: PageRange, found: &mut dyn FnMut(PageRange)) -> Result<(), Errno> {
        let mut written = self.lock();
        let runs: Vec<PageRange> = written.within(range).collect();
        for run in &runs {
            if place.fd.protect(place.address(run.first), run.count * PAGE, true)? == Filled::NoMapping {
                return Err(Errno::EPERM);
            }
            found(*run);
        }
        written.remove(range);
        Ok(())
    }

    fn fill(&self, place: &Place, first: PageIndex, data: &[u8], write: Option<PageIndex>) -> Result<Filled, Errno> {
        let mut written = self.lock();
        let Some(page) = write else { return place.fd.copy(place.address(first), data, true, true) };
        let filled = place.fd.copy(place.address(first), data, true, false)?;
        if let Filled::Bytes(len) = filled {
            if PageRange::between(first.0, first.0 + len / PAGE).contains(page) {
                Self::open(place, &mut written, page)?;
            }
            place.fd.wake(place.address(first), len);
        }
        Ok(filled)
    }

    fn map_cached(&self, place: &Place, range: PageRange, write: Option<PageIndex>) -> Result<Filled, Errno> {
        let mut written = self.lock();
        let (at, len) = (place.address(range.first), range.count * PAGE);
        match place.fd.map_cached(at, len, true)? {
            // Before Linux 6.4 a page cannot be mapped protected: then it counts as written.
            Filled::NoMapping => {
                let mapped = place.fd.map_cached(at, len, false)?;
                if let Filled::Bytes(len) = mapped {
                    written.insert(PageRange { first: range.first, count: len / PAGE });
                }
                Ok(mapped)
            }
            Filled::Bytes(len) => {
                if let Some(page) = write {
                    Self::open(place, &mut written, page)?;
                }
                Ok(Filled::Bytes(len))
            }
            other => Ok(other),
        }
    }

    fn written(&self, place: &Place, page: PageIndex) -> Result<Filled, Errno> {
        Self::open(place, &mut self.lock(), page)
    }

    fn parallel(&self) -> bool {
        false
    }

    fn survives_death(&self) -> bool {
        true
    }
}
