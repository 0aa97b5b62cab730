//! Memory that nobody writes leaves the scan.
//!
//! `PAGEMAP_SCAN` looks at each page that is there, 0.4 to 1 ms for a GiB, and the last scan of a checkpoint is in the pause. So a
//! chunk that was not written for [`QUIET_CHECKPOINTS`] checkpoints becomes *cold*: it goes over from the process's userfaultfd with
//! asynchronous protection to a second one without, where a write waits for us. The first write to a cold chunk makes it hot
//! again, all of it protected but not written, and then goes on; it costs one fault. What a checkpoint scans is thereby what is being written, not what exists.
//!
//! What makes it safe:
//!
//! * A chunk becomes cold only while its process is frozen, just scanned; it becomes hot only while the one thread that
//!   could write it waits in its fault, or by the runtime before it takes pages away. Both under the segment's lock.
//! * A cold chunk is whole: all its pages are in memory and known. A hole would be filled unseen.
//! * The protection of the pages stays while a range goes from one descriptor to the other: see [`hand_over`](Cold::hand_over). That it
//!   has stayed is looked at each time.
//! * When memory becomes scarce, all is hot again and stays so: eviction needs the asynchronous descriptor everywhere.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};

use nix::errno::Errno;
use semper_store::{PAGE_SIZE, PageIndex, PageRange};
use userfaultfd::RegisterMode;

use crate::error::Error;
use crate::frames::{CHUNK_PAGES, FrameMap, push_merged};
use crate::mapping::Place;
use crate::ranges::RangeSet;
use crate::shared::lock;
use crate::sys::pagemap;
use crate::sys::uffd::{FaultFd, Filled};
use crate::track::Tracking;

const PAGE: u64 = PAGE_SIZE as u64;
/// Checkpoints that a chunk must pass unwritten before it becomes cold.
const QUIET_CHECKPOINTS: u64 = 4;
/// How many times longer it stays hot after a write has made it hot: who writes now and then should not pay each time.
const AFTER_A_WRITE: u64 = 4;
/// Hot chunks below which a scan is cheap enough.
const ENOUGH_HOT: u64 = 16;
/// Chunks that become cold in one pause, at most: 1.4 us each.
const COOLED_AT_ONCE: usize = 128;
/// Chunks looked at in one pause.
const LOOKED_AT: usize = 512;
/// Runs of cold chunks: each splits the process's mapping, of which the kernel allows 65,530 pieces.
const MOST_RUNS: usize = 1024;

/// The cold part of a process's mapping.
pub(crate) struct Cold {
    fd: FaultFd,
    book: Mutex<Book>,
}

/// Changed under the segment's lock only; its own lock is for those who read it.
#[derive(Default)]
struct Book {
    /// The cold pages, in whole chunks.
    cold: RangeSet,
    /// After how many commits a chunk was written last, or may become quiet.
    quiet_since: BTreeMap<u64, u64>,
    /// The chunk to look at next.
    next: u64,
}

fn chunk_range(index: u64) -> PageRange {
    PageRange::between(index * CHUNK_PAGES, (index + 1) * CHUNK_PAGES)
}

/// All chunks that a run touches, as pages.
fn whole_chunks(range: PageRange) -> PageRange {
    PageRange::between(range.first.0 / CHUNK_PAGES * CHUNK_PAGES, range.end().next_multiple_of(CHUNK_PAGES))
}

impl Cold {
    /// Takes the second userfaultfd of the process over.
    ///
    /// # Errors
    /// It is not fit for use.
    pub(crate) fn open(fd: OwnedFd) -> Result<Self, Error> {
        let fd = FaultFd::open(fd, Tracking::Sync.needs()).map_err(Error::errno("the userfaultfd handshake"))?;
        Ok(Self { fd, book: Mutex::default() })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub(crate) fn faults(&self) -> &FaultFd {
        &self.fd
    }

    /// Lets who waits to write a page try again.
    pub(crate) fn wake(&self, place: &Place, page: PageIndex) {
        self.fd.wake(place.address(page), PAGE);
    }

    /// The cold pages there are.
    pub(crate) fn pages(&self) -> u64 {
        self.book().cold.iter().map(|range| range.count).sum()
    }

    /// The parts of `window` that are not cold, in order.
    pub(crate) fn hot_parts(&self, window: PageRange) -> Vec<PageRange> {
        let mut parts = self.book().cold.missing(window);
        parts.reverse();
        parts
    }

    /// What a scan found written, after so many commits.
    pub(crate) fn note_written(&self, written: &[PageRange], commits: u64) {
        let mut book = self.book();
        for run in written {
            for index in run.first.0 / CHUNK_PAGES..run.end().div_ceil(CHUNK_PAGES) {
                let since = book.quiet_since.entry(index).or_default();
                *since = commits.max(*since);
            }
        }
    }

    /// Makes chunks cold that have been quiet for long, after so many commits. The process is frozen and was just scanned; `frames` is
    /// locked.
    ///
    /// # Errors
    /// The kernel refused: then the next scan of the range fails, and nothing written there is taken for unwritten.
    pub(crate) fn cool(&self, place: &Place, frames: &FrameMap, commits: u64) -> Result<(), Errno> {
        let mut book = self.book();
        let hot = frames.chunks_in(place.window).count() as u64;
        let cold: u64 = book.cold.iter().map(|range| range.count / CHUNK_PAGES).sum();
        if hot.saturating_sub(cold) < ENOUGH_HOT || book.cold.iter().count() >= MOST_RUNS {
            return Ok(());
        }
        for run in book.quiet_runs(place.window, frames, commits) {
            self.hand_over(&place.fd, &self.fd, place, run)?;
            book.cold.insert(run);
        }
        Ok(())
    }

    /// Makes the chunks of a run hot, after so many commits, and wakes who waits to write them. The segment's lock is held.
    ///
    /// # Errors
    /// As for [`cool`](Self::cool).
    pub(crate) fn warm(&self, place: &Place, range: PageRange, commits: u64) -> Result<(), Errno> {
        let mut book = self.book();
        let cold: Vec<PageRange> = book.cold.within(whole_chunks(range)).collect();
        let quiet_from = commits + QUIET_CHECKPOINTS * (AFTER_A_WRITE - 1);
        for run in cold {
            // First: whatever fails from here on is found by the scan, which refuses a range that is not tracked.
            book.cold.remove(run);
            for index in run.first.0 / CHUNK_PAGES..run.end() / CHUNK_PAGES {
                book.quiet_since.insert(index, quiet_from);
            }
            let done = self.hand_over(&self.fd, &place.fd, place, run);
            self.fd.wake(place.address(run.first), run.count * PAGE);
            done?;
        }
        Ok(())
    }

    /// Moves a range from one descriptor to the other, protected.
    ///
    /// Giving up a range that is registered for protection would lift the protection page by page, and to set it again costs as
    /// much (120 us for a chunk, both). So it is first registered for minor faults alone: Linux leaves the page table as it is
    /// then, gives the range up without a look at it, and wakes nobody (it would for missing pages). 1.4 us for a chunk, most of
    /// it for looking whether all of it is still protected; a kernel that does it otherwise pays for both.
    fn hand_over(&self, from: &FaultFd, to: &FaultFd, place: &Place, run: PageRange) -> Result<(), Errno> {
        let (at, len) = (place.address(run.first), run.count * PAGE);
        from.register(at, len, RegisterMode::MINOR).map_err(|_| Errno::EBUSY)?;
        from.unregister(at, len)?;
        to.register(at, len, RegisterMode::WRITE_PROTECT).map_err(|_| Errno::EBUSY)?;
        if pagemap::any_written(&place.pagemap, at, at + len)? && to.protect(at, len, true)? == Filled::Gone {
            return Err(Errno::ESRCH);
        }
        Ok(())
    }
}

impl Book {
    /// The next chunks that are whole and have been quiet for long, as few runs, in a round over the window.
    fn quiet_runs(&mut self, window: PageRange, frames: &FrameMap, commits: u64) -> Vec<PageRange> {
        let after = PageRange::between((self.next * CHUNK_PAGES).clamp(window.first.0, window.end()), window.end());
        let before = PageRange::between(window.first.0, after.first.0);
        let mut runs = Vec::new();
        let mut taken = 0;
        let round = frames.chunks_in(after).chain(frames.chunks_in(before));
        for (index, chunk) in round.take(LOOKED_AT) {
            self.next = index + 1;
            let range = chunk_range(index);
            if self.cold.contains(range.first) || range.first < window.first || range.end() > window.end() {
                continue;
            }
            let since = *self.quiet_since.entry(index).or_insert(commits);
            let whole = chunk.known.count() == CHUNK_PAGES && !chunk.filling.any() && !chunk.unmapped.any();
            if whole && commits.saturating_sub(since) >= QUIET_CHECKPOINTS {
                push_merged(&mut runs, range);
                taken += 1;
                if taken == COOLED_AT_ONCE {
                    break;
                }
            }
        }
        runs
    }
}
