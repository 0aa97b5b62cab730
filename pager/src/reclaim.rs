//! Making room: probation of pages while all is frozen, and their eviction once they are clean.
//!
//! The order that makes it safe: (1) the scan has taken what was written; (2) a candidate is marked `unmapped`, then zapped in
//! every mapping, all while no program code runs; (3) whoever uses it again clears the mark, under the segment's lock, before
//! mapping it; (4) a page that still has the mark and is neither dirty nor in the capture is in no page table and equal to what
//! the store gives, so its frame may go, under the same lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use semper_store::{PageRange, SegmentId};

use crate::error::Error;
use crate::evict::{Picked, Queue, age_ghost};
use crate::frames::{Bits, pages_of};
use crate::segment::{Segment, State};
use crate::shared::{Counters, Shared, lock};

/// Neighbouring candidates are zapped in one call if at most so many other pages lie between: those are merely touched anew.
const ZAP_GAP: u64 = 8;

type Chunks = Vec<(u64, Bits)>;

/// The picked pages by segment, in order.
fn by_segment(picked: Picked) -> BTreeMap<SegmentId, (Arc<Segment>, Chunks)> {
    let mut segments: BTreeMap<SegmentId, (Arc<Segment>, Chunks)> = BTreeMap::new();
    for ((id, chunk), (segment, bits)) in picked {
        segments.entry(id).or_insert_with(|| (segment, Vec::new())).1.push((chunk, bits));
    }
    for (_, chunks) in segments.values_mut() {
        chunks.sort_unstable_by_key(|(chunk, _)| *chunk);
    }
    segments
}

impl Shared {
    /// Puts pages on probation, if frames are scarce. Only with everything frozen and just scanned.
    pub(crate) fn condemn(&self) {
        if !self.budget.pressed() {
            return;
        }
        let at_hand = self.budget.room() + lock(&self.policy).on_probation();
        let reserve = self.budget.next_reserve(self.budget.demand.swap(0, Ordering::Relaxed));
        let need = (reserve + self.budget.excess()).saturating_sub(at_hand);
        if need == 0 {
            return;
        }
        let picked = lock(&self.policy).pick(need);
        for (segment, chunks) in by_segment(picked).into_values() {
            self.condemn_in(&segment, chunks);
        }
    }

    fn condemn_in(&self, segment: &Segment, mut chunks: Chunks) {
        let mut state = segment.lock();
        let removed = state.removed;
        for (index, bits) in &mut chunks {
            let chunk = state.frames.chunk_mut(*index);
            // Nobody scans a segment that was removed, so what is written there cannot be told.
            let gone = if removed { *bits } else { bits.minus(&chunk.known).or(&bits.and(&chunk.pinned)) };
            chunk.queued = chunk.queued.minus(&gone);
            *bits = bits.minus(&gone);
            // Before the zap: whoever maps one of them in between clears the mark again, which is only cautious.
            chunk.unmapped = chunk.unmapped.or(bits);
        }
        let mappings = state.mappings.clone();
        drop(state);
        let mut zapped = true;
        for mapping in mappings.iter().filter(|mapping| !mapping.dead.load(Ordering::Relaxed)) {
            let ranges = zap_ranges(&chunks, mapping.place.window);
            if ranges.is_empty() {
                continue;
            }
            if let Err(error) = mapping.zapper.zap(&ranges) {
                tracing::warn!(%error, segment = segment.id.0, "pages could not be taken out of a page table");
                zapped = false;
            }
        }
        let mut state = segment.lock();
        let mut policy = lock(&self.policy);
        for (index, bits) in chunks {
            let chunk = state.frames.chunk_mut(index);
            Counters::add(&self.counters.zapped, bits.count());
            if !zapped {
                chunk.unmapped = chunk.unmapped.minus(&bits);
            }
            policy.push(chunk.slot, bits, if zapped { Queue::Probation } else { Queue::Main });
        }
    }

    /// Evicts up to `count` pages that nobody used since they were put on probation; gives how many it freed.
    pub(crate) fn evict(&self, count: u64) -> u64 {
        let picked = lock(&self.policy).take_probation(count);
        let mut freed = 0;
        for (segment, chunks) in by_segment(picked).into_values() {
            match self.evict_in(&segment, chunks) {
                Ok(count) => freed += count,
                Err(error) => tracing::error!(%error, segment = segment.id.0, "evicting pages"),
            }
        }
        Counters::add(&self.counters.evicted, freed);
        freed
    }

    fn evict_in(&self, segment: &Segment, chunks: Chunks) -> Result<u64, Error> {
        let mut state = segment.lock();
        let turn = lock(&self.policy).turn();
        let mut punches: Vec<PageRange> = Vec::new();
        let mut freed = 0;
        for (index, bits) in chunks {
            let chunk = state.frames.chunk_mut(index);
            let gone = bits.minus(&chunk.known).or(&bits.and(&chunk.pinned));
            let bits = bits.minus(&gone);
            let used = bits.minus(&chunk.unmapped);
            let busy = bits.and(&chunk.unmapped).and(&chunk.dirty.or(&chunk.inflight));
            let out = bits.minus(&used).minus(&busy);
            chunk.queued = chunk.queued.minus(&gone).minus(&out);
            age_ghost(chunk, turn);
            // Only those that were never used again while here are remembered: that is what the main queue is for.
            chunk.ghost[0] = chunk.ghost[0].or(&out.minus(&chunk.main));
            chunk.main = chunk.main.or(&used);
            let slot = chunk.slot;
            freed += out.count();
            let mut policy = lock(&self.policy);
            policy.push(slot, used, Queue::Main);
            policy.push(slot, busy, Queue::Probation);
            policy.count_evicted(out.count());
            drop(policy);
            state.frames.forget(index, out);
            for span in out.spans() {
                punches.push(pages_of(index, span));
            }
        }
        for range in bridge(&state, &punches) {
            segment.memfd.punch(range).map_err(Error::system("freeing frames"))?;
        }
        Ok(freed)
    }
}

/// The candidates within a mapping as few runs.
fn zap_ranges(chunks: &[(u64, Bits)], window: PageRange) -> Vec<PageRange> {
    let mut ranges: Vec<PageRange> = Vec::new();
    for (index, bits) in chunks {
        for span in bits.spans() {
            let range = crate::frames::intersect(pages_of(*index, span), window);
            match ranges.last_mut() {
                _ if range.count == 0 => {}
                Some(last) if range.first.0 - last.end() <= ZAP_GAP => last.count = range.end() - last.first.0,
                _ => ranges.push(range),
            }
        }
    }
    ranges
}

/// Joins runs between which nothing is in memory: one large hole is cheaper to punch than many small ones.
fn bridge(state: &State, punches: &[PageRange]) -> Vec<PageRange> {
    let mut joined: Vec<PageRange> = Vec::new();
    for next in punches {
        match joined.last_mut() {
            Some(last) if state.frames.nothing_known(PageRange::between(last.end(), next.first.0)) => {
                last.count = next.end() - last.first.0;
            }
            _ => joined.push(*next),
        }
    }
    joined
}
