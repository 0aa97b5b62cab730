//! What a checkpoint takes: every page written since the scan before, and every removal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use semper_store::{PageRange, SegmentId};

use crate::error::Error;
use crate::frames::{Bits, CHUNK_PAGES, Span, intersect, pages_of, pieces, push_merged};
use crate::mapping::Mapping;
use crate::segment::{Segment, State};
use crate::shared::{Shared, lock};

/// When a scan is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Programs run on: a round of pre-copy. What they write meanwhile is found by the next scan.
    Live,
    /// No program code runs from before the scan until after the copy.
    Frozen,
}

/// Resident pages from which scanning a frozen process is shared between two threads: below, waking the second costs more.
const SHARED_SCAN: u64 = 96 * 1024;
/// Pages scanned per turn when shared.
const SCAN_TURN: u64 = 64 * CHUNK_PAGES;

/// The capture that is under way.
#[derive(Default)]
pub(crate) struct Capture {
    /// Something was scanned, and neither committed nor abandoned.
    pub open: bool,
    /// Removals of segments that it took.
    removed: Vec<SegmentId>,
}

/// What one scan found. A later scan of the same capture supersedes what it names: apply them in order, and within one,
/// removed segments first, then removed pages, then pages.
#[must_use]
#[derive(Debug)]
pub struct Scan {
    pub(crate) stage: Stage,
    pub(crate) removed: Vec<SegmentId>,
    pub(crate) segments: Vec<SegmentScan>,
    pub(crate) pages: u64,
    pub(crate) resident: u64,
}

#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub segment: Arc<Segment>,
    pub discards: Vec<PageRange>,
    pub runs: Vec<PageRange>,
}

impl Scan {
    /// Pages to copy.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// When it was made.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether nothing at all has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.segments.is_empty()
    }

    /// The runs to copy, by segment, in order.
    pub fn runs(&self) -> impl Iterator<Item = (SegmentId, PageRange)> + '_ {
        self.segments.iter().flat_map(|found| found.runs.iter().map(|run| (found.segment.id, *run)))
    }

    /// The runs removed, by segment, in order.
    pub fn removals(&self) -> impl Iterator<Item = (SegmentId, PageRange)> + '_ {
        self.segments.iter().flat_map(|found| found.discards.iter().map(|run| (found.segment.id, *run)))
    }

    /// The segments removed.
    #[must_use]
    pub fn removed_segments(&self) -> &[SegmentId] {
        &self.removed
    }
}

impl Shared {
    pub(crate) fn scan(&self, stage: Stage) -> Result<Scan, Error> {
        let mut capture = lock(&self.capture);
        let segments = self.all_segments();
        // Learn first and take afterwards: if learning fails, nothing is lost, as it stays marked dirty.
        for segment in &segments {
            segment.learn_written(stage)?;
        }
        capture.open = true;
        let removed = std::mem::take(&mut *lock(&self.removed));
        capture.removed.extend(&removed);
        let mut scan = Scan { stage, removed, segments: Vec::new(), pages: 0, resident: 0 };
        for segment in segments {
            scan.resident += segment.resident().unwrap_or(0);
            let (discards, runs) = segment.lock().take();
            if !discards.is_empty() || !runs.is_empty() {
                scan.pages += runs.iter().map(|run| run.count).sum::<u64>();
                scan.segments.push(SegmentScan { segment, discards, runs });
            }
        }
        self.resident_at_scan.store(scan.resident, Ordering::Relaxed);
        if stage == Stage::Frozen {
            if let Some(oracle) = &self.oracle {
                oracle.check(&self.all_segments(), &scan)?;
            }
            self.pressure_told.store(false, Ordering::Relaxed);
            self.condemn();
            self.cool();
        }
        Ok(scan)
    }

    pub(crate) fn committed(&self) {
        let mut capture = lock(&self.capture);
        self.commits.fetch_add(1, Ordering::Relaxed);
        *capture = Capture::default();
        for segment in self.all_segments() {
            let mut state = segment.lock();
            state.frames.commit();
            state.inflight_discards.clear();
        }
        drop(capture);
        self.refill();
    }

    pub(crate) fn abandon(&self) {
        let mut capture = lock(&self.capture);
        let taken = std::mem::take(&mut *capture);
        lock(&self.removed).splice(0..0, taken.removed);
        for segment in self.all_segments() {
            let mut locked = segment.lock();
            let state = &mut *locked;
            state.frames.abandon();
            state.discards.extend_from(&state.inflight_discards);
            state.inflight_discards.clear();
        }
    }
}

impl Shared {
    /// Takes memory that nobody writes out of the scans to come. Only with everything frozen and just scanned.
    fn cool(&self) {
        for segment in self.all_segments() {
            let state = segment.lock();
            // Asked under the lock: who sets it makes all hot again under the lock afterwards.
            if self.budget.pressed() {
                return;
            }
            for mapping in state.mappings.iter().filter(|mapping| !mapping.dead.load(Ordering::Relaxed)) {
                let Some(cold) = &mapping.cold else { continue };
                if let Err(errno) = cold.cool(&mapping.place, &state.frames, self.commits.load(Ordering::Relaxed)) {
                    tracing::warn!(%errno, segment = segment.id.0, "memory that is quiet could not leave the scan");
                }
            }
        }
    }
}

impl State {
    fn take(&mut self) -> (Vec<PageRange>, Vec<PageRange>) {
        let discards = std::mem::take(&mut self.discards);
        self.inflight_discards.extend_from(&discards);
        (discards.iter().collect(), self.frames.take_dirty())
    }
}

impl Segment {
    /// Marks dirty what processes have written since the last time.
    fn learn_written(&self, stage: Stage) -> Result<(), Error> {
        let mappings = self.lock().mappings.clone();
        for mapping in mappings.iter().filter(|mapping| !mapping.dead.load(Ordering::Relaxed)) {
            self.learn_from(mapping, stage)?;
        }
        Ok(())
    }

    /// The same for a process that will not write any more.
    pub(crate) fn fold(&self, mapping: &Arc<Mapping>) -> Result<(), Error> {
        if mapping.dead.load(Ordering::Relaxed) { Ok(()) } else { self.learn_from(mapping, Stage::Frozen) }
    }

    fn learn_from(&self, mapping: &Arc<Mapping>, stage: Stage) -> Result<(), Error> {
        let runs = self.discover(&mapping.hot_parts())?;
        let written = self.take_written(mapping, runs, stage);
        // Only now: a process that is alive after the scan had all its page tables during it.
        if !mapping.tracker.survives_death() && !mapping.place.fd.alive() {
            mapping.dead.store(true, Ordering::Relaxed);
            return self.assume_written(&mapping.hot_parts());
        }
        let not_tracked = |source: Errno| Error::NotTracked { segment: self.id, source };
        let written = written.map_err(not_tracked)?;
        if let Some(cold) = &mapping.cold {
            cold.note_written(&written, self.shared.commits.load(Ordering::Relaxed));
        }
        self.mark_written(&written)
    }

    fn take_written(
        &self,
        mapping: &Arc<Mapping>,
        runs: Vec<PageRange>,
        stage: Stage,
    ) -> Result<Vec<PageRange>, Errno> {
        let total: u64 = runs.iter().map(|run| run.count).sum();
        if stage == Stage::Live || total < SHARED_SCAN || !mapping.tracker.parallel() {
            return take_runs(mapping, &runs);
        }
        let mut turns: Vec<Vec<PageRange>> = vec![Vec::new()];
        let mut filled = 0;
        for run in runs {
            let mut at = run.first.0;
            while at < run.end() {
                if filled >= SCAN_TURN {
                    turns.push(Vec::new());
                    filled = 0;
                }
                let len = (SCAN_TURN - filled).min(run.end() - at);
                if let Some(turn) = turns.last_mut() {
                    turn.push(PageRange::between(at, at + len));
                }
                filled += len;
                at += len;
            }
        }
        let shared = Arc::clone(mapping);
        let results = self.shared.helper.share(turns, move |turn| take_runs(&shared, &turn));
        let mut written = Vec::new();
        let mut failed = None;
        for result in results {
            match result {
                Ok(runs) => written.extend(runs),
                Err(errno) => failed = Some(errno),
            }
        }
        match failed {
            // What was taken from the page table must not be forgotten.
            Some(errno) => self.mark_written(&written).map_err(|_| errno).and(Err(errno)),
            None => Ok(written),
        }
    }

    /// Finds chunks into which a process has put memory by itself, and gives the runs of chunks in use, within the parts.
    ///
    /// Only chunks in use are scanned: a scan of an untouched range would fill it with page tables (4 ms per GiB).
    fn discover(&self, parts: &[PageRange]) -> Result<Vec<PageRange>, Error> {
        let mut state = self.lock();
        // Under the lock: a page that comes to be known after it was counted would stand for one that is not.
        let resident = self.memfd.resident().map_err(Error::system("asking for the size of a memory file"))?;
        let complete = resident == state.frames.known_pages();
        let mut runs = Vec::new();
        for part in parts {
            self.discover_in(&mut state, *part, complete, &mut runs)?;
        }
        Ok(runs)
    }

    /// `complete`: every page in memory is known.
    fn discover_in(
        &self,
        state: &mut State,
        window: PageRange,
        complete: bool,
        runs: &mut Vec<PageRange>,
    ) -> Result<(), Error> {
        let active: Vec<u64> =
            state.frames.chunks_in(window).filter(|(_, chunk)| chunk.known.any()).map(|(index, _)| index).collect();
        let mut at = window.first.0;
        for index in active.into_iter().chain([u64::MAX]) {
            let chunk = if index == u64::MAX {
                PageRange::between(window.end(), window.end())
            } else {
                pages_of(index, Span { start: 0, end: 512 })
            };
            let mut gap = PageRange::between(at, chunk.first.0.max(at));
            if complete {
                gap = PageRange::between(0, 0);
            }
            while let Some(data) = self.memfd.next_data(gap).map_err(Error::system("looking for frames"))? {
                state.frames.mark_known(data);
                let whole = PageRange::between(
                    data.first.0 / CHUNK_PAGES * CHUNK_PAGES,
                    data.end().next_multiple_of(CHUNK_PAGES),
                );
                push_overlapping(runs, intersect(whole, window));
                gap = PageRange::between(data.end(), gap.end());
            }
            push_overlapping(runs, intersect(chunk, window));
            at = chunk.end().max(at);
        }
        Ok(())
    }

    /// The runs were reported written: marks those pages dirty that are in memory.
    fn mark_written(&self, written: &[PageRange]) -> Result<(), Error> {
        let mut state = self.lock();
        // Asked under the lock, as it must be newer than what was reported, and once: below, pages become known that came after it.
        let resident = self.memfd.resident().map_err(Error::system("asking for the size of a memory file"))?;
        let complete = resident == state.frames.known_pages();
        for run in written {
            for (index, span) in pieces(*run) {
                let span = Bits::of(span);
                let known = state.frames.chunk(index).map_or(Bits::EMPTY, |chunk| chunk.known);
                for found in span.and(&known).spans() {
                    state.frames.mark_dirty(pages_of(index, found));
                }
                if complete {
                    continue;
                }
                for unknown in span.minus(&known).spans() {
                    self.mark_data(&mut state, pages_of(index, unknown))?;
                }
            }
        }
        Ok(())
    }

    fn mark_data(&self, state: &mut State, mut range: PageRange) -> Result<(), Error> {
        while let Some(data) = self.memfd.next_data(range).map_err(Error::system("looking for frames"))? {
            state.frames.mark_dirty(data);
            range = PageRange::between(data.end(), range.end());
        }
        Ok(())
    }
}

fn take_runs(mapping: &Mapping, runs: &[PageRange]) -> Result<Vec<PageRange>, Errno> {
    let mut written = Vec::new();
    for run in runs {
        mapping.tracker.take_written(&mapping.place, *run, &mut |found| push_merged(&mut written, found))?;
    }
    Ok(written)
}

/// Appends a run that may overlap the last one.
fn push_overlapping(runs: &mut Vec<PageRange>, next: PageRange) {
    let done = runs.last().map_or(0, |last| last.end());
    push_merged(runs, PageRange::between(next.first.0.max(done), next.end()));
}
