//! A process's mapping of a segment, as the pager sees it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use nix::errno::Errno;
use semper_store::{PAGE_SIZE, PageIndex, PageRange};
use userfaultfd::RegisterMode;

use crate::cold::Cold;
use crate::error::Error;
use crate::readahead::Streams;
use crate::segment::Segment;
use crate::sys::uffd::FaultFd;
use crate::track::Tracker;

const PAGE: u64 = PAGE_SIZE as u64;

/// Drops pages from a process's page table, without touching their content: `madvise(MADV_DONTNEED)` by the process's stub.
pub trait Zap: Send + Sync {
    /// Does so for pages of the segment (not addresses). Called only between the start of a scan of the frozen stage and the
    /// thaw, so no program code runs meanwhile.
    ///
    /// # Errors
    /// If it was not done, or not everywhere; nothing is evicted then.
    fn zap(&self, ranges: &[PageRange]) -> io::Result<()>;
}

/// What a process gives so that the pager can serve and track its mapping of one segment.
pub struct Space {
    /// A userfaultfd made by that process (non-blocking, user mode only), the handshake not yet done.
    pub uffd: OwnedFd,
    /// Another of the same kind: with it, what is not written for long costs no pause. For a mapping of which one thread at
    /// most executes.
    pub second: Option<OwnedFd>,
    /// `/proc/PID/pagemap` of that process.
    pub pagemap: File,
    /// The address at which page 0 of the segment lies, or would lie, modulo 2^64: where a later part of a segment is mapped low in
    /// memory, it lies below zero.
    pub base: u64,
    /// The addresses at which the segment is mapped, shared, as one mapping of its memfd. Protections may change later,
    /// piece by piece; nothing may be mapped anew there.
    pub window: Range<u64>,
    /// How to drop pages from the page table, for eviction.
    pub zapper: Arc<dyn Zap>,
}

/// Where a segment is in the address space of a process.
pub(crate) struct Place {
    pub fd: FaultFd,
    pub pagemap: File,
    pub base: u64,
    /// The pages that are mapped.
    pub window: PageRange,
}

impl Place {
    pub(crate) fn address(&self, page: PageIndex) -> u64 {
        self.base.wrapping_add(page.0 * PAGE)
    }

    pub(crate) fn page(&self, address: u64) -> PageIndex {
        PageIndex(address.wrapping_sub(self.base) / PAGE)
    }

    pub(crate) fn register(&self, range: PageRange, mode: RegisterMode) -> Result<(), Error> {
        self.fd.register(self.address(range.first), range.count * PAGE, mode).map_err(|error| Error::System {
            what: "registering memory with userfaultfd",
            source: io::Error::other(error),
        })
    }

    pub(crate) fn wake(&self, page: PageIndex) {
        self.fd.wake(self.address(page), PAGE);
    }
}

/// A mapping being served.
pub(crate) struct Mapping {
    pub number: u64,
    pub segment: Weak<Segment>,
    pub place: Place,
    pub tracker: Box<dyn Tracker>,
    /// What of it is out of the scan.
    pub cold: Option<Cold>,
    pub zapper: Arc<dyn Zap>,
    pub streams: Mutex<Streams>,
    /// The process was found dead, and its unknown writes have been accounted for.
    pub dead: AtomicBool,
}

impl Mapping {
    /// The parts of the window in which a process writes without asking, in order.
    pub(crate) fn hot_parts(&self) -> Vec<PageRange> {
        self.cold.as_ref().map_or_else(|| vec![self.place.window], |cold| cold.hot_parts(self.place.window))
    }

    /// The same, for who does not hold the lock.
    pub(crate) fn lock_and_warm(&self, range: PageRange) -> Result<(), Error> {
        let Some(segment) = self.segment.upgrade() else { return Ok(()) };
        let _state = segment.lock();
        self.warm(range)
    }

    /// From now on every write to the run is found by a scan. The segment's lock is held.
    ///
    /// # Errors
    /// The kernel refused; the scan will fail too. A process that is gone is no error.
    pub(crate) fn warm(&self, range: PageRange) -> Result<(), Error> {
        let commits = self.segment.upgrade().map_or(0, |segment| segment.shared.commits.load(Ordering::Relaxed));
        match self.cold.as_ref().map_or(Ok(()), |cold| cold.warm(&self.place, range, commits)) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(Error::errno("tracking memory that was quiet")(errno)),
        }
    }
}
