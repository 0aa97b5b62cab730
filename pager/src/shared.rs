//! What all parts of one pager share.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::epoll::Epoll;
use semper_store::{PageIndex, PageRange, SegmentId};

use crate::budget::Budget;
use crate::capture::Capture;
use crate::error::BackingError;
use crate::evict::Policy;
use crate::helper::Helper;
use crate::mapping::Mapping;
use crate::oracle::Oracle;
use crate::segment::{Segment, State};
use crate::track::Tracking;

/// What the store holds: the newest committed generation.
///
/// A page is asked for only while it is not in memory and was not changed since that generation; what is read must not
/// change before the pager has been told so by [`Pager::committed`](crate::Pager::committed).
pub trait Backing: Send + Sync + 'static {
    /// Fills `out`, a whole number of pages, with the pages from `first` on; what the store does not hold is zeros.
    ///
    /// # Errors
    /// If a page cannot be given (unreadable, or not what was written). Nothing is then assumed about `out`.
    fn read(&self, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), BackingError>;

    /// The first page from `from` on that is there and may be other than zeros; what cannot tell says `from`.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn next_present(&self, segment: SegmentId, from: PageIndex) -> Result<Option<PageIndex>, BackingError> {
        let _ = segment;
        Ok(Some(from))
    }
}

/// A fault that could not be served, because the store could not give the page.
#[derive(Debug)]
pub struct FaultError {
    /// The segment.
    pub segment: SegmentId,
    /// The page.
    pub page: PageIndex,
    /// What the store said.
    pub error: BackingError,
    /// Whether the kernel raises SIGBUS at the faulting instruction. If not (before Linux 6.6), the thread stays asleep in
    /// its fault until a signal reaches it: the receiver of this must send it one.
    pub delivered: bool,
}

/// Figures that only grow.
#[derive(Default)]
pub(crate) struct Counters {
    pub missing: AtomicU64,
    pub minor: AtomicU64,
    pub protected: AtomicU64,
    pub brought: AtomicU64,
    pub fresh: AtomicU64,
    pub evicted: AtomicU64,
    pub waited: AtomicU64,
    pub zapped: AtomicU64,
    pub warmed: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

type ErrorHook = Box<dyn Fn(FaultError) + Send + Sync>;
type PressureHook = Box<dyn Fn() + Send + Sync>;

/// The insides of a pager.
pub(crate) struct Shared {
    pub backing: Arc<dyn Backing>,
    pub tracking: Tracking,
    /// Features to ask for in each handshake.
    pub features: u64,
    pub segments: Mutex<BTreeMap<SegmentId, Arc<Segment>>>,
    pub capture: Mutex<Capture>,
    /// Removed since the last scan.
    pub removed: Mutex<Vec<SegmentId>>,
    pub helper: Helper,
    pub mappings: Mutex<HashMap<u64, Arc<Mapping>>>,
    pub next_mapping: AtomicU64,
    pub budget: Budget,
    pub policy: Mutex<Policy>,
    pub counters: Counters,
    pub epoll: Epoll,
    pub stop: AtomicBool,
    /// The pressure hook was called since the last frozen scan.
    pub pressure_told: AtomicBool,
    /// Captures that have become durable.
    pub commits: AtomicU64,
    /// Frames at the last scan.
    pub resident_at_scan: AtomicU64,
    pub on_error: OnceLock<ErrorHook>,
    pub on_pressure: OnceLock<PressureHook>,
    /// For tests.
    pub oracle: Option<Oracle>,
}

/// Locks; a thread that panicked with the lock held left nothing half done that the next could not bear.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn all_segments(&self) -> Vec<Arc<Segment>> {
        lock(&self.segments).values().cloned().collect()
    }

    /// Frames in use.
    pub(crate) fn resident(&self) -> u64 {
        self.all_segments().iter().filter_map(|segment| segment.resident().ok()).sum()
    }

    pub(crate) fn mapping(&self, number: u64) -> Option<Arc<Mapping>> {
        lock(&self.mappings).get(&number).cloned()
    }

    /// Pages have come into memory: the eviction policy learns of them, if there is a need.
    pub(crate) fn note_resident(&self, segment: &Segment, state: &mut State, range: PageRange) {
        Counters::add(&self.budget.demand, range.count);
        if self.budget.pressed() {
            lock(&self.policy).admit(segment, state, range);
        }
    }

    /// Pages were dropped: what was captured of them says nothing of what comes there.
    pub(crate) fn note_dropped(&self, segment: SegmentId, range: PageRange) {
        if let Some(oracle) = &self.oracle {
            oracle.dropped(segment, range);
        }
    }

    pub(crate) fn report(&self, error: FaultError) {
        tracing::error!(segment = error.segment.0, page = error.page.0, error = %error.error, "a fault cannot be served");
        if let Some(hook) = self.on_error.get() {
            hook(error);
        }
    }
}
