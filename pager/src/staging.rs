//! Copying what a scan found.

use std::collections::HashMap;
use std::sync::Arc;

use semper_store::{PAGE_SIZE, PageIndex, PageRange, SegmentId};

use crate::capture::{Scan, Stage};
use crate::error::{BackingError, Error};
use crate::ranges::RangeSet;
use crate::segment::{CopyWay, Segment};
use crate::shared::Shared;
use crate::size::bytes;

/// Pages per block of the staging buffer.
const BLOCK_PAGES: usize = 512;
/// Pages from which a copy under freeze is shared between two threads.
const SHARED_COPY: u64 = 384;
/// Pages read at once on the way to a sink.
const STREAM_PAGES: u64 = 64;

/// Takes a capture, in order: a removed segment, then removed pages, then pages, of each scan.
pub trait Sink {
    /// The run reads as zeros.
    ///
    /// # Errors
    /// Whatever keeps the sink from taking it; the copy ends with [`Error::Sink`].
    fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), BackingError>;

    /// The content of a run of pages.
    ///
    /// # Errors
    /// As for [`remove`](Self::remove).
    fn pages(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), BackingError>;

    /// The segment is gone with all its pages (one of the same name may follow).
    ///
    /// # Errors
    /// As for [`remove`](Self::remove).
    fn remove_segment(&mut self, segment: SegmentId) -> Result<(), BackingError>;
}

#[derive(Clone, Copy)]
enum Step {
    RemoveSegment(SegmentId),
    Remove(SegmentId, PageRange),
    Pages { segment: SegmentId, first: PageIndex, block: usize, start: usize, len: usize },
}

/// A buffer for what was captured, kept between checkpoints so that copying meets warm memory. Scans copied into it one after
/// the other are replayed in that order, without what a later one supersedes.
#[derive(Default)]
pub struct Staging {
    blocks: Vec<Vec<u8>>,
    steps: Vec<Step>,
    /// How many scans the steps come from.
    scans: u32,
    /// Bytes in use, over all blocks in order.
    used: usize,
}

struct Copy {
    segment: Arc<Segment>,
    first: u64,
    start: usize,
    len: usize,
}

impl Staging {
    /// An empty one; it grows with what is copied into it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.scans = 0;
        self.used = 0;
    }

    /// Gives memory beyond `bytes` back; call it when empty.
    pub fn shrink(&mut self, bytes: usize) {
        let keep = bytes.max(self.used).div_ceil(BLOCK_PAGES * PAGE_SIZE);
        self.blocks.truncate(keep);
    }

    /// Pages it holds.
    #[must_use]
    pub fn pages(&self) -> u64 {
        (self.used / PAGE_SIZE) as u64
    }

    /// Whether it holds nothing, not even a removal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Memory it keeps.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_PAGES * PAGE_SIZE
    }

    /// Passes the content on.
    ///
    /// # Errors
    /// The first that the sink gives.
    pub fn replay(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        // The steps of one scan name each page once.
        if self.scans > 1 { self.emit(self.surviving().iter(), sink) } else { self.emit(self.steps.iter(), sink) }
    }

    fn emit<'a>(&self, steps: impl Iterator<Item = &'a Step>, sink: &mut dyn Sink) -> Result<(), Error> {
        for step in steps {
            match *step {
                Step::RemoveSegment(segment) => sink.remove_segment(segment),
                Step::Remove(segment, range) => sink.remove(segment, range),
                Step::Pages { segment, first, block, start, len } => {
                    sink.pages(segment, first, &self.blocks[block][start..start + len])
                }
            }
            .map_err(Error::Sink)?;
        }
        Ok(())
    }

    /// The steps without the pages that a later step replaces or removes: those would be written for nothing.
    fn surviving(&self) -> Vec<Step> {
        let mut later: HashMap<SegmentId, RangeSet> = HashMap::new();
        let mut surviving = Vec::with_capacity(self.steps.len());
        for step in self.steps.iter().rev() {
            match *step {
                Step::RemoveSegment(segment) => {
                    later.entry(segment).or_default().insert(PageRange::between(0, u64::MAX));
                    surviving.push(Step::RemoveSegment(segment));
                }
                Step::Remove(segment, range) => {
                    later.entry(segment).or_default().insert(range);
                    surviving.push(Step::Remove(segment, range));
                }
                Step::Pages { segment, first, block, start, len } => {
                    let later = later.entry(segment).or_default();
                    let run = PageRange { first, count: (len / PAGE_SIZE) as u64 };
                    for piece in later.missing(run) {
                        surviving.push(Step::Pages {
                            segment,
                            first: piece.first,
                            block,
                            start: start + bytes(piece.first.0 - first.0),
                            len: bytes(piece.count),
                        });
                    }
                    later.insert(run);
                }
            }
        }
        surviving.reverse();
        surviving
    }

    /// Plans where each run goes: the copies for each block from `first_block` on.
    fn plan(&mut self, scan: &Scan) -> (usize, Vec<Vec<Copy>>) {
        const BLOCK: usize = BLOCK_PAGES * PAGE_SIZE;
        let first_block = self.used / BLOCK;
        let mut plans: Vec<Vec<Copy>> = Vec::new();
        for found in &scan.segments {
            for run in &found.runs {
                let mut at = run.first.0;
                while at < run.end() {
                    let (block, start) = (self.used / BLOCK, self.used % BLOCK);
                    let room = ((BLOCK - start) / PAGE_SIZE) as u64;
                    let len = bytes((run.end() - at).min(room));
                    let segment = found.segment.id;
                    self.steps.push(Step::Pages { segment, first: PageIndex(at), block, start, len });
                    if plans.len() <= block - first_block {
                        plans.resize_with(block - first_block + 1, Vec::new);
                    }
                    let copy = Copy { segment: Arc::clone(&found.segment), first: at, start, len };
                    plans[block - first_block].push(copy);
                    self.used += len;
                    at += (len / PAGE_SIZE) as u64;
                }
            }
        }
        let blocks = self.used.div_ceil(BLOCK).max(self.blocks.len());
        self.blocks.resize_with(blocks, || vec![0; BLOCK]);
        (first_block, plans)
    }
}

fn copy_block(block: &mut [u8], plan: &[Copy], way: CopyWay) -> Result<(), Error> {
    for copy in plan {
        let out = &mut block[copy.start..copy.start + copy.len];
        let run = PageRange { first: PageIndex(copy.first), count: (copy.len / PAGE_SIZE) as u64 };
        copy.segment.copy_taken(run, out, way)?;
    }
    Ok(())
}

/// Long work while programs run offers its core: one that waits there for it would else wait until the next tick, 4 ms.
fn give_way(stage: Stage) {
    if stage == Stage::Live {
        std::thread::yield_now();
    }
}

impl Shared {
    fn way(&self, stage: Stage) -> CopyWay {
        match stage {
            _ if self.budget.pressed() => CopyWay::Sparing,
            Stage::Live => CopyWay::Checked,
            Stage::Frozen => CopyWay::Frozen,
        }
    }

    pub(crate) fn copy(&self, scan: &Scan, staging: &mut Staging) -> Result<(), Error> {
        staging.scans += 1;
        staging.steps.extend(scan.removed.iter().map(|id| Step::RemoveSegment(*id)));
        staging.steps.extend(scan.removals().map(|(id, range)| Step::Remove(id, range)));
        let (first, plans) = staging.plan(scan);
        let way = self.way(scan.stage);
        if scan.stage == Stage::Live || scan.pages < SHARED_COPY {
            for (block, plan) in staging.blocks[first..].iter_mut().zip(&plans) {
                copy_block(block, plan, way)?;
                give_way(scan.stage);
            }
            return Ok(());
        }
        // The blocks travel to whoever copies them, and back. Small turns, so that both threads end together.
        let mut turns = Vec::new();
        for (index, plan) in plans.into_iter().enumerate() {
            turns.push((first + index, std::mem::take(&mut staging.blocks[first + index]), plan));
        }
        let done = self.helper.share(turns, move |(index, mut block, plan)| {
            let result = copy_block(&mut block, &plan, way);
            (index, block, result)
        });
        let mut outcome = Ok(());
        for (index, block, result) in done {
            staging.blocks[index] = block;
            outcome = outcome.and(result);
        }
        outcome
    }

    pub(crate) fn copy_into(&self, scan: &Scan, sink: &mut dyn Sink) -> Result<(), Error> {
        let way = self.way(scan.stage);
        for segment in &scan.removed {
            sink.remove_segment(*segment).map_err(Error::Sink)?;
        }
        for (segment, range) in scan.removals() {
            sink.remove(segment, range).map_err(Error::Sink)?;
        }
        let mut buffer = vec![0; bytes(STREAM_PAGES)];
        for found in &scan.segments {
            for run in &found.runs {
                let mut at = run.first.0;
                while at < run.end() {
                    let len = (run.end() - at).min(STREAM_PAGES);
                    let data = &mut buffer[..bytes(len)];
                    found.segment.copy_taken(PageRange::between(at, at + len), data, way)?;
                    sink.pages(found.segment.id, PageIndex(at), data).map_err(Error::Sink)?;
                    at += len;
                    give_way(scan.stage);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What a sink holds after a replay, and how many pages it was given.
    #[derive(Default)]
    struct Model {
        pages: BTreeMap<(u64, u64), u8>,
        taken: usize,
    }

    impl Sink for Model {
        fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), BackingError> {
            self.pages.retain(|(id, page), _| *id != segment.0 || *page < range.first.0 || *page >= range.end());
            Ok(())
        }

        fn pages(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), BackingError> {
            for (page, data) in (first.0..).zip(data.chunks(PAGE_SIZE)) {
                self.pages.insert((segment.0, page), data[0]);
                self.taken += 1;
            }
            Ok(())
        }

        fn remove_segment(&mut self, segment: SegmentId) -> Result<(), BackingError> {
            self.pages.retain(|(id, _), _| *id != segment.0);
            Ok(())
        }
    }

    fn step() -> impl Strategy<Value = (u8, u64, u64, u64)> {
        (0..8u8, 0..2u64, 0..20u64, 1..6u64)
    }

    proptest! {
        #[test]
        fn what_is_superseded_changes_nothing_and_is_not_written(steps in proptest::collection::vec(step(), 0..40)) {
            let mut staging = Staging { blocks: vec![vec![0; BLOCK_PAGES * PAGE_SIZE]], scans: 2, ..Staging::default() };
            for (step, (kind, segment, page, count)) in (1u8..).zip(steps) {
                let (segment, first) = (SegmentId(segment), PageIndex(page));
                staging.steps.push(match kind {
                    0 => Step::RemoveSegment(segment),
                    1 => Step::Remove(segment, PageRange { first, count }),
                    _ => {
                        let (start, len) = (staging.used, bytes(count));
                        staging.blocks[0][start..start + len].fill(step);
                        staging.used += len;
                        Step::Pages { segment, first, block: 0, start, len }
                    }
                });
            }
            let (mut all, mut few) = (Model::default(), Model::default());
            staging.emit(staging.steps.iter(), &mut all).unwrap();
            staging.replay(&mut few).unwrap();
            prop_assert_eq!(&all.pages, &few.pages);
            prop_assert_eq!(few.taken, few.pages.len());
        }
    }
}
