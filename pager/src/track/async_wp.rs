//! Asynchronous write-protection: the kernel lifts the protection itself, `PAGEMAP_SCAN` tells where.

use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use semper_store::{PAGE_SIZE, PageIndex, PageRange};

use super::Tracker;
use crate::mapping::Place;
use crate::sys::pagemap::{self, Region};
use crate::sys::uffd::Filled;

/// Keeps nothing but a spare buffer: the page table is the record.
#[derive(Default)]
pub(crate) struct AsyncTracker {
    /// Buffers lent to the scanning threads, at most two.
    buffers: Mutex<Vec<Vec<Region>>>,
}

impl AsyncTracker {
    fn borrow_buffer(&self) -> Vec<Region> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn return_buffer(&self, buffer: Vec<Region>) {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Tracker for AsyncTracker {
    fn take_written(&self, place: &Place, range: PageRange, found: &mut dyn FnMut(PageRange)) -> Result<(), Errno> {
        let mut buffer = self.borrow_buffer();
        let (start, end) = (place.address(range.first), place.address(PageIndex(range.end())));
        let result = pagemap::take_written(&place.pagemap, start, end, &mut buffer, |from, to| {
            found(PageRange::between(place.page(from).0, place.page(to).0));
        });
        self.return_buffer(buffer);
        result
    }

    fn fill(&self, place: &Place, first: PageIndex, data: &[u8], write: Option<PageIndex>) -> Result<Filled, Errno> {
        // A page about to be written need not be protected first: unprotected means written.
        let protect = !(write == Some(first) && data.len() == PAGE_SIZE);
        place.fd.copy(place.address(first), data, protect, true)
    }

    fn map_cached(&self, place: &Place, range: PageRange, write: Option<PageIndex>) -> Result<Filled, Errno> {
        let protect = !(write == Some(range.first) && range.count == 1);
        place.fd.map_cached(place.address(range.first), range.count * PAGE_SIZE as u64, protect)
    }

    fn written(&self, place: &Place, page: PageIndex) -> Result<Filled, Errno> {
        // The kernel does not ask; if it did, lifting the protection is what it would do itself.
        place.fd.protect(place.address(page), PAGE_SIZE as u64, false)
    }

    fn parallel(&self) -> bool {
        true
    }

    fn survives_death(&self) -> bool {
        false
    }
}
