//! A resident segment: its frames, what is known of them, and how the runtime reads and writes it.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use semper_store::{PAGE_SIZE, PageIndex, PageRange, SegmentId};

use crate::error::Error;
use crate::frames::{FrameMap, Span, intersect, locate, pieces};
use crate::mapping::Mapping;
use crate::memfd::Memfd;
use crate::ranges::RangeSet;
use crate::shared::Shared;
use crate::size::{bytes, index};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages copied at once by [`Segment::move_pages`].
const MOVE_BATCH: u64 = 64;

/// A segment in memory: an array of pages of which some are in frames, some only in the store, and the rest are zeros.
///
/// The runtime reads and writes by [`read_at`](Self::read_at) and [`write_at`](Self::write_at); a process maps
/// [`memfd`](Self::memfd) and is served through an [`Attachment`](crate::Attachment).
pub struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) pages: u64,
    pub(crate) memfd: Memfd,
    pub(crate) shared: Arc<Shared>,
    state: Mutex<State>,
    me: Weak<Self>,
    /// Signalled when a fill by somebody has ended.
    filled: Condvar,
}

/// How pages that a scan took are copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CopyWay {
    /// The runtime may discard meanwhile: under the lock.
    Checked,
    /// Nothing happens meanwhile, so no lock: two threads copy at once. (A discard against the rules costs a frame, no more.)
    Frozen,
    /// By system call: under memory pressure a page is copied once and then leaves, which makes mapping it dearer.
    Sparing,
}

/// What is known of a segment; behind its lock.
#[derive(Default)]
pub(crate) struct State {
    pub frames: FrameMap,
    /// Discarded since the last scan.
    pub discards: RangeSet,
    /// Discards taken by the capture that is under way.
    pub inflight_discards: RangeSet,
    pub mappings: Vec<Arc<Mapping>>,
    /// Ranges that the runtime maps.
    pub views: Vec<PageRange>,
    /// Removed or rolled back: void for captures.
    pub removed: bool,
    /// Frames of this segment that the budget has been told of.
    accounted: u64,
}

/// The locked state; tells the budget what changed when it is let go.
pub(crate) struct Locked<'a> {
    state: MutexGuard<'a, State>,
    shared: &'a Shared,
}

impl Deref for Locked<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let known = self.state.frames.known_pages();
        self.shared.budget.account(self.state.accounted, known);
        self.state.accounted = known;
    }
}

impl Segment {
    pub(crate) fn new(
        id: SegmentId,
        pages: u64,
        stored: &[PageRange],
        shared: Arc<Shared>,
    ) -> Result<Arc<Self>, Error> {
        let memfd = Memfd::new(&format!("semper-{}", id.0), pages).map_err(Error::system("creating a memory file"))?;
        let state = State { frames: FrameMap::new(stored), ..State::default() };
        Ok(Arc::new_cyclic(|me| Self {
            id,
            pages,
            memfd,
            shared,
            state: Mutex::new(state),
            me: me.clone(),
            filled: Condvar::new(),
        }))
    }

    /// Its name in the store.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The memory file, for processes to map shared. Holding it means full access to the segment.
    #[must_use]
    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// How many pages it has, in memory or not.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Frames it uses now.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn resident(&self) -> Result<u64, Error> {
        self.memfd.resident().map_err(Error::system("asking for the size of a memory file"))
    }

    pub(crate) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked { state: self.state.lock().unwrap_or_else(PoisonError::into_inner), shared: &self.shared }
    }

    /// Waits until something that was being filled is done, and locks again.
    fn wait_filled<'a>(&'a self, locked: Locked<'a>) -> Locked<'a> {
        // A condition variable wants the plain guard; the time limit covers a signal that falls in between.
        drop(locked);
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = std::time::Duration::from_millis(1);
        let (state, _) = self.filled.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner);
        Locked { state, shared: &self.shared }
    }

    pub(crate) fn notify_filled(&self) {
        self.filled.notify_all();
    }

    pub(crate) fn check(&self, range: PageRange) -> Result<(), Error> {
        if range.end() > self.pages {
            return Err(Error::OutOfBounds { segment: self.id, pages: self.pages, range });
        }
        Ok(())
    }

    fn check_bytes(&self, offset: u64, len: usize) -> Result<(), Error> {
        let end = offset.saturating_add(len as u64);
        self.check(PageRange::between(offset / PAGE, end.div_ceil(PAGE)))
    }

    /// Copies out a run that a scan took; what was discarded since is zeros.
    pub(crate) fn copy_taken(&self, run: PageRange, out: &mut [u8], way: CopyWay) -> Result<(), Error> {
        self.copy_run(run, out, way)?;
        if let Some(oracle) = &self.shared.oracle {
            oracle.copied(self, run, out);
        }
        Ok(())
    }

    fn copy_run(&self, run: PageRange, out: &mut [u8], way: CopyWay) -> Result<(), Error> {
        let failed = Error::system("copying a frame");
        match way {
            CopyWay::Checked => {}
            CopyWay::Frozen => return self.memfd.read_resident(run.first.0 * PAGE, out).map_err(failed),
            CopyWay::Sparing => return self.memfd.read(run.first.0 * PAGE, out).map_err(failed),
        }
        let mut at = run.first.0;
        while at < run.end() {
            let end = run.end().min(at + MOVE_BATCH);
            let part = &mut out[bytes(at - run.first.0)..bytes(end - run.first.0)];
            let state = self.lock();
            let known = (at..end).all(|p| state.frames.is_known(PageIndex(p)));
            let read = if known { self.memfd.read_resident(at * PAGE, part) } else { self.memfd.read(at * PAGE, part) };
            drop(state);
            read.map_err(Error::system("copying a frame"))?;
            at = end;
        }
        Ok(())
    }

    pub(crate) fn fetch(&self, first: PageIndex, out: &mut [u8]) -> Result<(), Error> {
        let failed = |source| Error::Backing { segment: self.id, page: first, source };
        self.shared.backing.read(self.id, first, out).map_err(failed)
    }

    /// Reads bytes, from frames where there are some, else from the store; brings nothing into memory.
    ///
    /// # Errors
    /// Out of bounds; a page that the store cannot give.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.check_bytes(offset, out.len())?;
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let page = PageIndex(at / PAGE);
            let state = self.lock();
            let from_store = !state.frames.is_known(page) && state.frames.is_stored(page);
            if !from_store {
                // As far as the pages are alike, under the lock, so that eviction cannot come between.
                let limit = (offset + out.len() as u64 - page.0 * PAGE).div_ceil(PAGE).min(MOVE_BATCH);
                let alike = |p: u64| state.frames.is_known(PageIndex(p)) || !state.frames.is_stored(PageIndex(p));
                let run = (page.0 + 1..page.0 + limit).take_while(|p| alike(*p)).count() as u64;
                let end = ((page.0 + 1 + run) * PAGE - offset).min(out.len() as u64);
                let end = index(end);
                let part = &mut out[done..end];
                let known = (page.0..=page.0 + run).all(|p| state.frames.is_known(PageIndex(p)));
                let read = if known { self.memfd.read_resident(at, part) } else { self.memfd.read(at, part) };
                read.map_err(Error::system("reading a frame"))?;
                done = end;
                continue;
            }
            drop(state);
            done += self.read_stored(at, &mut out[done..])?;
        }
        Ok(())
    }

    /// Reads from the store what begins at `at`; gives how many bytes, 0 if the page came into memory meanwhile.
    fn read_stored(&self, at: u64, out: &mut [u8]) -> Result<usize, Error> {
        let page = PageIndex(at / PAGE);
        let (skip, len) = part(at, out.len());
        if len < PAGE_SIZE {
            let mut content = [0; PAGE_SIZE];
            self.fetch(page, &mut content)?;
            if self.lock().frames.is_known(page) {
                return Ok(0);
            }
            out[..len].copy_from_slice(&content[skip..skip + len]);
            return Ok(len);
        }
        let limit = (out.len() / PAGE_SIZE).min(index(MOVE_BATCH)) as u64;
        let run = self.lock().frames.only_stored_from(page, limit).max(1);
        let out = &mut out[..bytes(run)];
        self.fetch(page, out)?;
        Ok(bytes(self.lock().frames.only_stored_from(page, run)))
    }

    /// Writes bytes and marks their pages dirty. A page that is only in the store is brought in first, unless all of it is
    /// written. Never waits for frames: under a memory limit it may exceed it by what it writes until the next checkpoint.
    ///
    /// # Errors
    /// Out of bounds; a page that the store cannot give; memory that the system does not have.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check_bytes(offset, data.len())?;
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let page = PageIndex(at / PAGE);
            let (skip, len) = part(at, data.len() - done);
            // Whole pages need no merging, and go together.
            let whole = (data.len() - done) / PAGE_SIZE * PAGE_SIZE;
            let len = if skip == 0 && whole > 0 { whole.min(bytes(MOVE_BATCH)) } else { len };
            let range = PageRange::between(page.0, (at + len as u64).div_ceil(PAGE));
            let mut state = if len < PAGE_SIZE { self.bring(page)? } else { self.settled(range) };
            let part = &data[done..done + len];
            let known = (range.first.0..range.end()).all(|p| state.frames.is_known(PageIndex(p)));
            let written = if known { self.memfd.write_resident(at, part) } else { self.memfd.write(at, part) };
            written.map_err(Error::system("writing a frame"))?;
            state.frames.mark_dirty(range);
            self.shared.note_resident(self, &mut state, range);
            done += len;
        }
        Ok(())
    }

    /// Locks at a moment when nobody is filling any page of the range.
    pub(crate) fn settled(&self, range: PageRange) -> Locked<'_> {
        let mut state = self.lock();
        while pieces(range).any(|(index, span)| filling(&state, index, span)) {
            state = self.wait_filled(state);
        }
        state
    }

    /// Locks with the page in memory, if the store holds it; else it may be a hole.
    fn bring(&self, page: PageIndex) -> Result<Locked<'_>, Error> {
        let (index, bit) = locate(page);
        let one = PageRange { first: page, count: 1 };
        let mut state = self.settled(one);
        if state.frames.is_known(page) || !state.frames.is_stored(page) {
            return Ok(state);
        }
        state.frames.chunk_mut(index).filling.set(bit);
        drop(state);
        let mut content = [0; PAGE_SIZE];
        let read = self.fetch(page, &mut content);
        let mut state = self.lock();
        state.frames.chunk_mut(index).filling.clear(bit);
        self.notify_filled();
        read?;
        // Unless it was discarded meanwhile, and is zeros now.
        if state.frames.is_stored(page) {
            self.memfd.write(page.0 * PAGE, &content).map_err(Error::system("writing a frame"))?;
            state.frames.mark_known(one);
            self.shared.note_resident(self, &mut state, one);
        }
        Ok(state)
    }

    /// Brings what there is of a run into memory, without marking it dirty. Holes stay holes: read through a mapping of the
    /// runtime's own they are zeros, written they are marked dirty, so that a large sparse view costs what is in it.
    pub(crate) fn make_resident(&self, range: PageRange) -> Result<(), Error> {
        for run in self.contents(range)? {
            let mut next = run.first;
            while let Some(page) = self.next_present(next)?.filter(|page| page.0 < run.end()) {
                drop(self.bring(page)?);
                next = PageIndex(page.0 + 1);
            }
        }
        drop(self.settled(range));
        Ok(())
    }

    fn next_present(&self, from: PageIndex) -> Result<Option<PageIndex>, Error> {
        let failed = |source| Error::Backing { segment: self.id, page: from, source };
        self.shared.backing.next_present(self.id, from).map_err(failed)
    }

    /// Drops a run: it reads as zeros from now on, its frames are freed, and the next capture carries the removal.
    ///
    /// # Errors
    /// Out of bounds; the kernel refuses to free the frames.
    pub fn discard(&self, range: PageRange) -> Result<(), Error> {
        self.check(range)?;
        let mut state = self.lock();
        // A page that is brought anew would be written unseen where nothing scans.
        state.mappings.iter().try_for_each(|mapping| mapping.warm(range))?;
        state.frames.discard(range);
        state.discards.insert(range);
        self.shared.note_dropped(self.id, range);
        self.memfd.punch(range).map_err(Error::system("freeing frames"))?;
        drop(state);
        self.shared.budget.kick_waiters();
        Ok(())
    }

    /// Moves the content of `count` pages from `from` to `to` (the runs must not overlap); `from` reads as zeros after it.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at) and [`write_at`](Self::write_at); on an error the source is still whole.
    pub fn move_pages(&self, from: PageIndex, to: PageIndex, count: u64) -> Result<(), Error> {
        self.copy_pages(from, to, count)?;
        self.discard(PageRange { first: from, count })
    }

    /// Copies the content of `count` pages from `from` to `to`; the runs must not overlap. Zero pages stay holes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at) and [`write_at`](Self::write_at).
    pub fn copy_pages(&self, from: PageIndex, to: PageIndex, count: u64) -> Result<(), Error> {
        let (source, target) = (PageRange { first: from, count }, PageRange { first: to, count });
        self.check(source)?;
        self.check(target)?;
        if intersect(source, target).count > 0 {
            return Err(Error::OutOfBounds { segment: self.id, pages: self.pages, range: target });
        }
        self.discard(target)?;
        self.each_batch(source, |at, data| self.write_at((at - from.0 + to.0) * PAGE, data))
    }

    /// Copies the first `count` pages of another segment over this one's. Zero pages become holes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at) and [`write_at`](Self::write_at).
    pub fn copy_from(&self, source: &Self, count: u64) -> Result<(), Error> {
        let all = PageRange::between(0, count);
        source.check(all)?;
        self.discard(all)?;
        source.each_batch(all, |at, data| {
            for (page, content) in (at..).zip(data.chunks(PAGE_SIZE)) {
                if content.iter().any(|byte| *byte != 0) {
                    self.write_at(page * PAGE, content)?;
                }
            }
            Ok(())
        })
    }

    /// Calls `put(first page, bytes)` for what there is in `range`, a batch at a time.
    fn each_batch(&self, range: PageRange, mut put: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = vec![0; bytes(MOVE_BATCH)];
        for run in self.contents(range)? {
            let mut at = run.first.0;
            while at < run.end() {
                let len = (run.end() - at).min(MOVE_BATCH);
                let data = &mut buffer[..bytes(len)];
                self.read_at(at * PAGE, data)?;
                put(at, data)?;
                at += len;
            }
        }
        Ok(())
    }

    /// The runs in `range` that may be other than zeros: in memory, or in the store.
    fn contents(&self, range: PageRange) -> Result<Vec<PageRange>, Error> {
        let mut runs: RangeSet = self.lock().frames.stored_runs(range).into_iter().collect();
        let mut rest = range;
        while let Some(data) = self.memfd.next_data(rest).map_err(Error::system("looking for frames"))? {
            runs.insert(data);
            rest = PageRange::between(data.end(), range.end());
        }
        Ok(runs.iter().collect())
    }

    /// Drops everything: what the backing says holds again, with `stored` as the pages that it has.
    pub(crate) fn revert(&self, stored: &[PageRange]) -> Result<(), Error> {
        stored.iter().try_for_each(|range| self.check(*range))?;
        let mut state = self.lock();
        if !state.mappings.is_empty() {
            return Err(Error::Attached(self.id));
        }
        // A fill by the runtime's own reading or writing ends on the new state, which it checks.
        self.memfd.punch(PageRange::between(0, self.pages)).map_err(Error::system("freeing frames"))?;
        state.frames = FrameMap::new(stored);
        self.shared.note_dropped(self.id, PageRange::between(0, self.pages));
        state.discards.clear();
        state.inflight_discards.clear();
        let views = state.views.clone();
        for view in &views {
            Self::repin(&mut state, *view);
        }
        drop(state);
        views.into_iter().try_for_each(|view| self.make_resident(view))
    }

    /// The segment is gone from the world: its frames are of no use.
    /// Whether memory holds nothing of it that the store does not, and nobody maps it.
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.lock();
        let changed = state.frames.dirty_pages() > 0 || state.discards.iter().next().is_some();
        !changed
            && state.inflight_discards.iter().next().is_none()
            && state.mappings.is_empty()
            && state.views.is_empty()
    }

    pub(crate) fn retire(&self) {
        let mut state = self.lock();
        self.shared.note_dropped(self.id, PageRange::between(0, self.pages));
        if state.mappings.is_empty() && state.views.is_empty() {
            state.frames = FrameMap::new(&[]);
            if let Err(error) = self.memfd.punch(PageRange::between(0, self.pages)) {
                tracing::error!(%error, segment = self.id.0, "freeing frames");
            }
        }
        state.removed = true;
    }

    /// Sets the pinned bits anew after the views have changed.
    pub(crate) fn repin(state: &mut State, range: PageRange) {
        for (index, span) in pieces(range) {
            state.frames.chunk_mut(index).pinned.clear_span(span);
        }
        for view in state.views.clone() {
            for (index, span) in pieces(view) {
                state.frames.chunk_mut(index).pinned.set_span(span);
            }
        }
    }
}

/// Offset in its page, and length up to the end of it or of the request.
fn part(at: u64, rest: usize) -> (usize, usize) {
    let skip = index(at % PAGE);
    (skip, rest.min(PAGE_SIZE - skip))
}

fn filling(state: &State, index: u64, span: Span) -> bool {
    state.frames.chunk(index).is_some_and(|chunk| chunk.filling.and(&crate::frames::Bits::of(span)).any())
}

impl Drop for Segment {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.budget.account(state.accounted, 0);
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("id", &self.id).field("pages", &self.pages).finish_non_exhaustive()
    }
}
