//! How we learn which pages a process has written: two ways behind one trait.
//!
//! [`AsyncTracker`] (Linux 6.7) lets the kernel lift the protection at the first write and collects afterwards;
//! [`SyncTracker`] (Linux 5.19) is asked before each first write. Both report every page that was written since the last
//! call, and may report more: a page that was first mapped by a read counts as written where nothing had protected it
//! before (its content is then what the store has, or zeros).

mod async_wp;
mod sync_wp;

use nix::errno::Errno;
use semper_store::{PageIndex, PageRange};

pub(crate) use async_wp::AsyncTracker;
pub(crate) use sync_wp::SyncTracker;

use crate::mapping::Place;
use crate::sys::uffd::{Filled, feature};

/// How writes are tracked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracking {
    /// By asynchronous write-protection and `PAGEMAP_SCAN`: about 1 us for the first write to a page.
    Async,
    /// By synchronous write-protection: 10 us and more for the first write to a page.
    Sync,
}

/// What the owner wishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrackingChoice {
    /// Async where the kernel has it, else sync.
    #[default]
    Auto,
    /// Async or an error.
    Async,
    /// Sync, even where async would work; for tests.
    Sync,
}

impl Tracking {
    /// Features without which this way does not work.
    pub(crate) fn needs(self) -> u64 {
        let both = feature::WP_SHMEM | feature::MISSING_SHMEM | feature::PAGEFAULT_FLAG_WP | feature::MINOR_SHMEM;
        match self {
            Self::Async => both | feature::WP_ASYNC | feature::WP_UNPOPULATED,
            Self::Sync => both,
        }
    }

    pub(crate) fn tracker(self) -> Box<dyn Tracker> {
        match self {
            Self::Async => Box::new(AsyncTracker::default()),
            Self::Sync => Box::<SyncTracker>::default(),
        }
    }
}

/// Tracks the writes of one process to one segment.
pub(crate) trait Tracker: Send + Sync {
    /// Reports all pages of `range` written since the last call, and begins anew for them.
    fn take_written(&self, place: &Place, range: PageRange, found: &mut dyn FnMut(PageRange)) -> Result<(), Errno>;

    /// Fills missing pages from `first` on and wakes their faulters; `write` is the page that waits to be written.
    fn fill(&self, place: &Place, first: PageIndex, data: &[u8], write: Option<PageIndex>) -> Result<Filled, Errno>;

    /// Maps pages that are in memory and wakes their faulters; `write` is the page that waits to be written.
    fn map_cached(&self, place: &Place, range: PageRange, write: Option<PageIndex>) -> Result<Filled, Errno>;

    /// Answers a write to a protected page.
    fn written(&self, place: &Place, page: PageIndex) -> Result<Filled, Errno>;

    /// Whether two threads can take from it at once, and faster.
    fn parallel(&self) -> bool;

    /// Whether what was written is known even after the process has died.
    fn survives_death(&self) -> bool;
}
