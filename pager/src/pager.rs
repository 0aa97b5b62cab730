//! The pager itself: segments by name, captures, limits and figures.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use semper_store::{PAGE_SIZE, PageRange, SegmentId};

use crate::budget::{Budget, UNLIMITED};
use crate::capture::{Capture, Scan, Stage};
use crate::error::Error;
use crate::evict::Policy;
use crate::fault;
use crate::helper::Helper;
use crate::oracle::Oracle;
use crate::segment::Segment;
use crate::shared::{Backing, Counters, FaultError, Shared, lock};
use crate::staging::{Sink, Staging};
use crate::sys::{pagemap, uffd};
use crate::track::{Tracking, TrackingChoice};

/// The least memory limit: below it a handful of instructions could need more pages than there are.
pub const LEAST_MEMORY_LIMIT: u64 = 4 << 20;

/// How a pager is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct PagerConfig {
    /// Bytes of frames there may be; see [`Pager::usage`] for what is counted. None: as many as the machine gives.
    pub memory_limit: Option<u64>,
    /// How writes are tracked.
    pub tracking: TrackingChoice,
    /// For tests: at each frozen scan all memory is compared with what was captured of it, and the process ends if something was missed.
    pub verify: bool,
}

/// Memory as a cache of the store; see the crate's page.
pub struct Pager {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Figures of the moment, in pages, and counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Frames in use, exactly.
    pub resident: u64,
    /// Frames that differ from the store, as far as known: an upper bound that the next scan makes exact.
    pub dirty: u64,
    /// Frames there may be; `u64::MAX` without a limit.
    pub limit: u64,
    /// Whether every new page passes through the pager, because the limit is near.
    pub pressed: bool,
    /// Faulters that wait for a frame now.
    pub waiting: u64,
    /// Faults on missing pages.
    pub missing_faults: u64,
    /// Faults on pages in memory that were out of the page table.
    pub minor_faults: u64,
    /// First writes that were asked about (sync tracking only).
    pub protect_faults: u64,
    /// Pages brought from the store for faults, read-ahead included.
    pub pages_brought: u64,
    /// Fresh zero pages given through the pager.
    pub fresh_pages: u64,
    /// Pages evicted.
    pub evictions: u64,
    /// Faulters that had to wait for a frame.
    pub waited: u64,
    /// Pages put on probation.
    pub zapped: u64,
    /// Pages that no scan looks at, since nobody writes them.
    pub cold: u64,
    /// First writes to such memory.
    pub warmed: u64,
}

fn choose(choice: TrackingChoice, features: u64) -> Result<Tracking, Error> {
    let has = |way: Tracking| features & way.needs() == way.needs();
    let scan = pagemap::supported().is_ok();
    match choice {
        TrackingChoice::Auto | TrackingChoice::Async if scan && has(Tracking::Async) => Ok(Tracking::Async),
        TrackingChoice::Async => Err(Error::Unsupported { feature: "asynchronous write-protection" }),
        _ if has(Tracking::Sync) => Ok(Tracking::Sync),
        _ => Err(Error::Unsupported { feature: "write-protection of shared memory" }),
    }
}

impl Pager {
    /// Starts a pager over a store.
    ///
    /// # Errors
    /// If this kernel cannot track memory in the way chosen, or the system refuses threads or descriptors.
    pub fn new(config: PagerConfig, backing: Arc<dyn Backing>) -> Result<Arc<Self>, Error> {
        let features = uffd::available_features().map_err(Error::errno("opening a userfaultfd"))?;
        let tracking = choose(config.tracking, features)?;
        let limit = config.memory_limit.map_or(UNLIMITED, |bytes| bytes.max(LEAST_MEMORY_LIMIT) / PAGE_SIZE as u64);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::errno("making an epoll descriptor"))?;
        let budget = Budget::new(limit).map_err(Error::errno("making an event descriptor"))?;
        epoll
            .add(&budget, EpollEvent::new(EpollFlags::EPOLLIN, fault::BELL))
            .map_err(Error::errno("watching an event descriptor"))?;
        let shared = Arc::new(Shared {
            backing,
            tracking,
            features: tracking.needs() | (features & uffd::feature::POISON),
            segments: Mutex::new(BTreeMap::new()),
            capture: Mutex::new(Capture::default()),
            removed: Mutex::new(Vec::new()),
            helper: Helper::start()?,
            mappings: Mutex::new(HashMap::new()),
            next_mapping: AtomicU64::new(fault::BELL + 1),
            budget,
            policy: Mutex::new(Policy::default()),
            counters: Counters::default(),
            epoll,
            stop: AtomicBool::new(false),
            pressure_told: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            resident_at_scan: AtomicU64::new(0),
            on_error: OnceLock::new(),
            on_pressure: OnceLock::new(),
            oracle: config.verify.then(Oracle::default),
        });
        let served = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("pager-faults".into())
            .spawn(move || fault::serve(&served))
            .map_err(Error::system("starting a thread"))?;
        Ok(Arc::new(Self { shared, thread: Some(thread) }))
    }

    /// How writes are tracked.
    #[must_use]
    pub fn tracking(&self) -> Tracking {
        self.shared.tracking
    }

    /// Calls `hook`, from the fault thread, for each fault that cannot be served. Set once; later ones are ignored.
    pub fn on_fault_error(&self, hook: impl Fn(FaultError) + Send + Sync + 'static) {
        let _ = self.shared.on_error.set(Box::new(hook));
    }

    /// Calls `hook`, from the fault thread, when [`wants_checkpoint`](Self::wants_checkpoint) becomes true; at most once
    /// between two frozen scans. It must be quick. Set once; later ones are ignored.
    pub fn on_pressure(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.on_pressure.set(Box::new(hook));
    }

    /// A new segment of which the store holds nothing.
    ///
    /// # Errors
    /// If it is open already, or the system refuses.
    pub fn create_segment(&self, id: SegmentId, pages: u64) -> Result<Arc<Segment>, Error> {
        self.open_segment(id, pages, &[])
    }

    /// A segment of which the store holds the pages in `stored` (or some of them): those come from the backing at first
    /// touch, all others are zeros. Costs as much as there are ranges, whatever their size.
    ///
    /// # Errors
    /// If it is open already, a range is out of bounds, or the system refuses.
    pub fn open_segment(&self, id: SegmentId, pages: u64, stored: &[PageRange]) -> Result<Arc<Segment>, Error> {
        let mut segments = lock(&self.shared.segments);
        if segments.contains_key(&id) {
            return Err(Error::AlreadyOpen(id));
        }
        let segment = Segment::new(id, pages, stored, Arc::clone(&self.shared))?;
        stored.iter().try_for_each(|range| segment.check(*range))?;
        segments.insert(id, Arc::clone(&segment));
        Ok(segment)
    }

    /// The open segment of that name.
    #[must_use]
    pub fn segment(&self, id: SegmentId) -> Option<Arc<Segment>> {
        lock(&self.shared.segments).get(&id).cloned()
    }

    /// Removes a segment for good: its frames are freed once nobody maps it, and the next capture carries the removal.
    pub fn remove_segment(&self, id: SegmentId) {
        // Both under the first lock, or a scan in between would see neither the segment nor its removal.
        let mut segments = lock(&self.shared.segments);
        if let Some(segment) = segments.remove(&id) {
            lock(&self.shared.removed).push(id);
            drop(segments);
            segment.retire();
        }
        self.shared.budget.kick_waiters();
    }

    /// Lets go of a segment without removing it from the store: its frames are freed once nobody maps it. What was not
    /// committed of it is lost.
    pub fn close_segment(&self, id: SegmentId) {
        let segment = lock(&self.shared.segments).remove(&id);
        if let Some(segment) = segment {
            segment.retire();
        }
        self.shared.budget.kick_waiters();
    }

    /// Lets go of a segment if nothing of it is lost by that: nobody maps it, and no page of it waits for a commit. Says whether
    /// it did.
    pub fn close_clean(&self, id: SegmentId) -> bool {
        let capture = lock(&self.shared.capture);
        if capture.open {
            return false;
        }
        let mut segments = lock(&self.shared.segments);
        let Some(segment) = segments.get(&id).filter(|segment| segment.is_clean()).cloned() else { return false };
        segments.remove(&id);
        segment.retire();
        drop(segments);
        self.shared.budget.kick_waiters();
        true
    }

    /// Rolls a segment back to what the backing says: frames, dirty marks and pending removals are dropped. `stored` is as
    /// for [`open_segment`](Self::open_segment). Views stay valid and show what the store holds.
    ///
    /// # Errors
    /// If it is not open, still attached, or a capture is under way (wait for its commit); if a page in a view cannot be read.
    pub fn revert_segment(&self, id: SegmentId, stored: &[PageRange]) -> Result<(), Error> {
        let segment = self.segment(id).ok_or(Error::NotOpen(id))?;
        let capture = lock(&self.shared.capture);
        if capture.open {
            return Err(Error::CaptureOpen(id));
        }
        segment.revert(stored)?;
        drop(capture);
        self.shared.budget.kick_waiters();
        Ok(())
    }

    /// Finds every page written since the scan before, and every removal, and begins anew for them. One checkpoint makes any
    /// number of live scans and then a frozen one; all belong to the same capture, until
    /// [`committed`](Self::committed) or [`abandon`](Self::abandon).
    ///
    /// # Errors
    /// If a process's writes cannot be learned. Nothing is lost: what was found stays to be reported by the next scan.
    pub fn scan(&self, stage: Stage) -> Result<Scan, Error> {
        self.shared.scan(stage)
    }

    /// Copies what a scan found into `staging`, after what is there. After a frozen scan: before the thaw.
    ///
    /// # Errors
    /// If the kernel does not let us read a frame; abandon the capture then.
    pub fn copy(&self, scan: &Scan, staging: &mut Staging) -> Result<(), Error> {
        self.shared.copy(scan, staging)
    }

    /// Streams what a scan found into `sink`, in bounded memory.
    ///
    /// # Errors
    /// The first that the sink gives, or as for [`copy`](Self::copy).
    pub fn copy_into(&self, scan: &Scan, sink: &mut dyn Sink) -> Result<(), Error> {
        self.shared.copy_into(scan, sink)
    }

    /// All that this capture scanned is durable, and the backing gives it from now on.
    pub fn committed(&self) {
        self.shared.committed();
    }

    /// The commit failed: all that this capture scanned is dirty again.
    pub fn abandon(&self) {
        self.shared.abandon();
    }

    /// Whether a checkpoint should come soon: faulters wait for frames, or few are left.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.shared.wants_checkpoint()
    }

    /// If faulters wait for frames now: how many of those who ever waited do so no longer. While it stays the same nobody is helped.
    #[must_use]
    pub fn starving(&self) -> Option<u64> {
        let waiting = self.shared.budget.waiting.load(Ordering::Relaxed) as u64;
        (waiting > 0).then(|| self.shared.counters.waited.load(Ordering::Relaxed).saturating_sub(waiting))
    }

    /// Lowers the number of frames to `pages` (or lifts that with `None`), so that what gets dirty always fits the free space
    /// of the store. Faulters beyond it wait.
    pub fn set_frame_quota(&self, pages: Option<u64>) {
        self.shared.budget.set_quota(pages.unwrap_or(UNLIMITED));
    }

    /// The limit on frames that the pager was started with, in pages; none: no limit.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.shared.budget.memory_limit()
    }

    /// Frames to be had without waiting; the runtime should not write more than that at once into pages not in memory.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.shared.budget.room()
    }

    /// Frames in use, exactly.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.shared.resident()
    }

    /// Figures of the moment.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let shared = &self.shared;
        let resident = self.resident();
        let dirty: u64 = shared.all_segments().iter().map(|segment| segment.lock().frames.dirty_pages()).sum();
        // What processes wrote by themselves is only known after a scan: new frames since the last are counted in full.
        let grown = resident.saturating_sub(shared.resident_at_scan.load(Ordering::Relaxed));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            resident,
            dirty: (dirty + grown).min(resident),
            limit: shared.budget.limit(),
            pressed: shared.budget.pressed(),
            waiting: shared.budget.waiting.load(Ordering::Relaxed) as u64,
            missing_faults: count(&shared.counters.missing),
            minor_faults: count(&shared.counters.minor),
            protect_faults: count(&shared.counters.protected),
            pages_brought: count(&shared.counters.brought),
            fresh_pages: count(&shared.counters.fresh),
            evictions: count(&shared.counters.evicted),
            waited: count(&shared.counters.waited),
            zapped: count(&shared.counters.zapped),
            cold: lock(&shared.mappings).values().filter_map(|mapping| Some(mapping.cold.as_ref()?.pages())).sum(),
            warmed: count(&shared.counters.warmed),
        }
    }

    /// Memory that the pager uses beyond the frames and the staging buffers.
    #[must_use]
    pub fn own_memory_bytes(&self) -> u64 {
        let segments = self.shared.all_segments();
        let frames: u64 = segments.iter().map(|segment| segment.lock().frames.own_bytes()).sum();
        let buffers = lock(&self.shared.mappings).len() * 2 * pagemap::BATCH * size_of::<pagemap::Region>();
        frames + lock(&self.shared.policy).own_bytes() + buffers as u64 + fault::BUFFER_BYTES
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.budget.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the fault thread had panicked");
        }
        // Segments hold the shared part, and it holds them.
        lock(&self.shared.segments).clear();
    }
}
