//! Beginning and ending the service of a process's mapping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use semper_store::{PAGE_SIZE, PageIndex, PageRange};
use userfaultfd::RegisterMode;

use crate::cold::Cold;
use crate::error::Error;
use crate::fault::COLD;
use crate::frames::{CHUNK_PAGES, intersect, pages_of};
use crate::mapping::{Mapping, Place, Space};
use crate::readahead::Streams;
use crate::segment::Segment;
use crate::shared::lock;
use crate::sys::uffd::FaultFd;
use crate::track::Tracking;

const PAGE: u64 = PAGE_SIZE as u64;
/// Each range registered for missing pages splits the process's mapping in the kernel (which allows 65,530 pieces).
const MAX_MISSING_RANGES: usize = 256;

/// A process's mapping of a segment, served until this is dropped.
///
/// End it by [`detach`](Self::detach) when the process has stopped for good and is still there: then it is known what it wrote.
/// Dropped without, every page it may have written counts as written.
pub struct Attachment {
    segment: Arc<Segment>,
    mapping: Arc<Mapping>,
    folded: bool,
}

impl Segment {
    /// Serves and tracks a process's mapping of this segment from now on.
    ///
    /// # Errors
    /// A window that does not fit; a userfaultfd that is not fit for use.
    pub fn attach(self: &Arc<Self>, space: Space) -> Result<Attachment, Error> {
        let window = self.check_window(&space)?;
        let fd = FaultFd::open(space.uffd, self.shared.features).map_err(Error::errno("the userfaultfd handshake"))?;
        let second = space.second.filter(|_| self.shared.tracking == Tracking::Async);
        let cold = second.map(Cold::open).transpose()?;
        let place = Place { fd, pagemap: space.pagemap, base: space.base, window };
        let mapping = Arc::new(Mapping {
            number: self.shared.next_mapping.fetch_add(1, Ordering::Relaxed),
            segment: Arc::downgrade(self),
            place,
            tracker: self.shared.tracking.tracker(),
            cold,
            zapper: space.zapper,
            streams: Mutex::new(Streams::default()),
            dead: AtomicBool::new(false),
        });
        // Under the lock nothing comes or goes between what is registered here and what is served later.
        let mut state = self.lock();
        if self.shared.budget.pressed() {
            mapping.press()?;
        } else {
            self.register(&mapping, &state.frames.absent_stored(window))?;
        }
        self.protect_resident(&mapping)?;
        state.mappings.push(Arc::clone(&mapping));
        drop(state);
        let attachment = Attachment { segment: Arc::clone(self), mapping, folded: false };
        attachment.begin_service()?;
        if self.shared.budget.pressed() {
            // Once more, as memory may have become scarce between the first look and the beginning of service.
            attachment.mapping.press()?;
            self.shared.admit_all(self)?;
        }
        Ok(attachment)
    }

    fn check_window(&self, space: &Space) -> Result<PageRange, Error> {
        let (start, end) = (space.window.start, space.window.end);
        let aligned = [start, end, space.base].iter().all(|address| address % PAGE == 0);
        let first = start.wrapping_sub(space.base) / PAGE;
        let window =
            (aligned && start < end).then(|| PageRange { first: PageIndex(first), count: (end - start) / PAGE });
        window
            .filter(|window| window.count <= self.pages)
            .filter(|window| window.end() <= self.pages)
            .ok_or(Error::BadWindow { segment: self.id, start, end })
    }

    fn register(&self, mapping: &Mapping, missing: &[PageRange]) -> Result<(), Error> {
        if self.shared.tracking == Tracking::Sync {
            return mapping.press();
        }
        mapping.place.register(mapping.place.window, RegisterMode::WRITE_PROTECT)?;
        for range in coarsen(missing) {
            mapping.place.register(range, RegisterMode::WRITE_PROTECT | RegisterMode::MISSING)?;
        }
        Ok(())
    }

    /// Pages that are in memory already must not count as written when the process first reads them.
    fn protect_resident(&self, mapping: &Mapping) -> Result<(), Error> {
        let window = mapping.place.window;
        let mut rest = window;
        while let Some(run) = self.memfd.next_data(rest).map_err(Error::system("looking for frames"))? {
            let start = mapping.place.address(run.first);
            mapping.place.fd.protect(start, run.count * PAGE, true).map_err(Error::errno("write-protecting memory"))?;
            rest = PageRange::between(run.end(), window.end());
        }
        Ok(())
    }

    /// Everything that a process gone may have written counts as written.
    pub(crate) fn assume_written(&self, parts: &[PageRange]) -> Result<(), Error> {
        let mut state = self.lock();
        for part in parts {
            let mut rest = *part;
            while let Some(run) = self.memfd.next_data(rest).map_err(Error::system("looking for frames"))? {
                for (index, span) in crate::frames::pieces(run) {
                    let chunk = state.frames.chunk_mut(index);
                    // Out of every page table since it was scanned: nobody can have written it.
                    let suspects = crate::frames::Bits::of(span).minus(&chunk.unmapped);
                    for span in suspects.spans() {
                        state.frames.mark_dirty(pages_of(index, span));
                    }
                }
                rest = PageRange::between(run.end(), part.end());
            }
        }
        Ok(())
    }
}

impl Mapping {
    /// From now on every page that this process lacks passes through us.
    pub(crate) fn press(&self) -> Result<(), Error> {
        let all = RegisterMode::WRITE_PROTECT | RegisterMode::MISSING | RegisterMode::MINOR;
        self.place.register(self.place.window, all)
    }
}

impl Attachment {
    fn begin_service(&self) -> Result<(), Error> {
        let shared = &self.segment.shared;
        lock(&shared.mappings).insert(self.mapping.number, Arc::clone(&self.mapping));
        let watch = |fd: &FaultFd, number| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
            shared.epoll.add(fd, event).map_err(Error::errno("watching for page faults"))
        };
        if let Some(cold) = &self.mapping.cold {
            watch(cold.faults(), self.mapping.number | COLD)?;
        }
        watch(&self.mapping.place.fd, self.mapping.number)
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether the process's address space still exists.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.mapping.place.fd.alive()
    }

    /// Ends the service of a process that runs no program code any more, and remembers what it wrote.
    ///
    /// # Errors
    /// If what it wrote cannot be learned; every page it may have written then counts as written.
    pub fn detach(mut self) -> Result<(), Error> {
        self.segment.fold(&self.mapping)?;
        self.folded = true;
        Ok(())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let shared = &self.segment.shared;
        for fd in [Some(&self.mapping.place.fd), self.mapping.cold.as_ref().map(Cold::faults)].into_iter().flatten() {
            if let Err(errno) = shared.epoll.delete(fd) {
                tracing::debug!(%errno, "a userfaultfd was not watched");
            }
        }
        lock(&shared.mappings).remove(&self.mapping.number);
        if !self.folded {
            let known = self.mapping.tracker.survives_death() && self.segment.fold(&self.mapping).is_ok();
            if !known && let Err(error) = self.segment.assume_written(&self.mapping.hot_parts()) {
                tracing::error!(%error, "what a lost process wrote cannot be told");
            }
        }
        self.segment.lock().mappings.retain(|mapping| mapping.number != self.mapping.number);
        shared.budget.kick_waiters();
    }
}

/// Joins neighbouring ranges until they are few: a range too many costs a fault per fresh page, too many ranges fail.
fn coarsen(ranges: &[PageRange]) -> Vec<PageRange> {
    let mut gap = CHUNK_PAGES / 8;
    loop {
        let mut joined: Vec<PageRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.first.0 - last.end() <= gap => last.count = range.end() - last.first.0,
                _ => joined.push(*range),
            }
        }
        if joined.len() <= MAX_MISSING_RANGES {
            return joined;
        }
        gap *= 4;
    }
}

impl crate::frames::FrameMap {
    /// The pages of `window` that the store has and memory has not.
    pub(crate) fn absent_stored(&self, window: PageRange) -> Vec<PageRange> {
        let mut absent: crate::ranges::RangeSet = self.stored_runs(window).into_iter().collect();
        for (index, chunk) in self.chunks_in(window) {
            if chunk.known.any() {
                for span in chunk.known.spans() {
                    absent.remove(intersect(pages_of(index, span), window));
                }
            }
        }
        absent.iter().collect()
    }

    /// Whether no page of the range is known to be in memory, nor may come there unseen.
    pub(crate) fn nothing_known(&self, range: PageRange) -> bool {
        !self.chunks_in(range).any(|(index, chunk)| {
            let busy = chunk.known.or(&chunk.pinned);
            busy.spans().any(|span| intersect(pages_of(index, span), range).count > 0)
        })
    }
}
