//! How many frames there may be, and who waits for one.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Pages that programs may allocate before the fault thread notices: some milliseconds at full speed.
const LEAST_MARGIN: u64 = 8192;
/// Pages zapped in one freeze, at most: 0.2 us each.
const MOST_RESERVE: u64 = 32 * 1024;

/// No limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// The account of frames. All figures are pages.
pub(crate) struct Budget {
    limit: u64,
    quota: AtomicU64,
    /// Frames that we know of; all there are, once `pressed`.
    known: AtomicU64,
    /// Every new page of a process passes through the fault thread.
    pressed: AtomicBool,
    /// Faulters that wait for a frame.
    pub waiting: AtomicUsize,
    /// Frames handed out since the last frozen scan.
    pub demand: AtomicU64,
    /// Frames that the last frozen scan aimed to have.
    reserve: AtomicU64,
    /// Wakes the fault thread.
    bell: EventFd,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Result<Self, Errno> {
        Ok(Self {
            limit,
            quota: AtomicU64::new(UNLIMITED),
            known: AtomicU64::new(0),
            pressed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            demand: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            bell: EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    /// Frames there may be now.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.min(self.quota.load(Ordering::Relaxed))
    }

    /// The limit without the quota.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        (self.limit != UNLIMITED).then_some(self.limit)
    }

    pub(crate) fn set_quota(&self, pages: u64) {
        self.quota.store(pages, Ordering::Relaxed);
        self.ring();
    }

    pub(crate) fn account(&self, before: u64, after: u64) {
        // Wraps around for a decrease, which is what two's complement is for.
        self.known.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(crate) fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// Frames to be had at once.
    pub(crate) fn room(&self) -> u64 {
        self.limit().saturating_sub(self.known())
    }

    pub(crate) fn pressed(&self) -> bool {
        self.pressed.load(Ordering::Acquire)
    }

    pub(crate) fn set_pressed(&self) {
        self.pressed.store(true, Ordering::Release);
    }

    /// The resident pages at which a limit begins to press: below it, as processes go on allocating until that is noticed.
    pub(crate) fn threshold(&self) -> u64 {
        let limit = self.limit();
        limit.saturating_sub((limit / 8).max(LEAST_MARGIN))
    }

    /// Whether few frames are left of a limit.
    pub(crate) fn short(&self) -> bool {
        self.room() < self.limit() / 32
    }

    /// Frames that should be to be had after a frozen scan, for the time until the next; `handed_out` were since the last.
    /// When frames ran short before it, twice as many as then, lest checkpoints chase each other.
    pub(crate) fn next_reserve(&self, handed_out: u64) -> u64 {
        let limit = self.limit();
        let before = self.reserve.load(Ordering::Relaxed);
        let short = self.short() || self.waiting.load(Ordering::Relaxed) > 0;
        let reserve = if short { before.saturating_mul(2) } else { before / 2 };
        let most = (limit / 2).min(MOST_RESERVE);
        let reserve = reserve.max(handed_out.saturating_add(handed_out / 4)).clamp((limit / 8).min(most), most);
        self.reserve.store(reserve, Ordering::Relaxed);
        reserve
    }

    /// Frames beyond the limit.
    pub(crate) fn excess(&self) -> u64 {
        self.known().saturating_sub(self.limit())
    }

    /// Lets the fault thread look again.
    pub(crate) fn ring(&self) {
        // Fails only if the counter is full, and then the thread is being woken anyway.
        let _ = self.bell.write(1);
    }

    pub(crate) fn quiet(&self) {
        // Would block: nobody rang.
        let _ = self.bell.read();
    }

    /// Frames have become free.
    pub(crate) fn kick_waiters(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.ring();
        }
    }
}

impl AsFd for Budget {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
