//! Space: what a commit may write to, and when what it replaced may be written to again.
//!
//! A place is free for a commit only if no generation refers to it that *either* root slot lists, so that each root that
//! recovery may fall back to is whole. Places that died with generation D are therefore held back until both slots list
//! nothing older than D.

use crate::freemap::{FreeMap, Run};
use crate::root::FIRST_PLACE;
use std::collections::{BTreeSet, VecDeque};

/// Runs shorter than this are taken only when there are no longer ones: a commit should stream.
const GOOD_RUN: u64 = 64;

/// Places for which the host is asked to find space at once: 16 MiB.
const BACKING: u64 = 4096;

/// What places are taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Pages: they leave [`spare`] places alone.
    Pages,
    /// Tree nodes.
    Nodes,
}

/// Places that only tree nodes may take, so that a commit that only removes can be made in a full store.
pub(crate) fn spare(places: u64) -> u64 {
    (places / 64).clamp(32, 4096)
}

/// The exact state of space; known once all listed trees have been walked.
pub(crate) struct Space {
    map: FreeMap,
    /// Places that generation `.0` refers to no more, but an older one does; oldest first.
    dead: VecDeque<(u64, Vec<Run>)>,
    /// The oldest generation that each root slot lists.
    listed: [u64; 2],
    /// Extents of [`BACKING`] places for which the host has found space since the store was opened.
    backed: BTreeSet<u64>,
}

impl Space {
    /// From a walk: `map` has all places in use, `dead` those that only older generations use, newest first.
    pub fn new(map: FreeMap, dead: impl IntoIterator<Item = (u64, Vec<Run>)>, listed: [u64; 2]) -> Self {
        let mut dead: VecDeque<_> = dead.into_iter().collect();
        dead.make_contiguous().sort_by_key(|(generation, _)| *generation);
        Self { map, dead, listed, backed: BTreeSet::new() }
    }

    pub fn map(&self) -> &FreeMap {
        &self.map
    }

    /// Takes a run of up to `want` places, at or after `cursor` if that gives a long one, else anywhere.
    pub fn allocate(&mut self, cursor: u64, want: u64, purpose: Purpose) -> Option<Run> {
        let spare = if purpose == Purpose::Pages { spare(self.map.places()) } else { 0 };
        let want = want.min(self.map.free().saturating_sub(spare));
        if want == 0 {
            return None;
        }
        let good = want.min(GOOD_RUN);
        let run = self
            .map
            .find(cursor.max(FIRST_PLACE), want, good)
            .or_else(|| self.map.find(FIRST_PLACE, want, good))
            .or_else(|| self.map.find(FIRST_PLACE, want, 1))?;
        for place in run.start..run.end() {
            assert!(self.map.mark(place), "a free place is not used");
        }
        Some(run)
    }

    /// Gives back what an unfinished commit took.
    pub fn release(&mut self, run: Run) {
        self.map.release(run);
    }

    /// Places that would become free if no slot listed anything older than `oldest`.
    pub fn reclaimable(&self, oldest: u64) -> u64 {
        let freed = self.dead.iter().filter(|(died, _)| *died <= oldest);
        freed.flat_map(|(_, runs)| runs).map(|run| run.len).sum()
    }

    /// Notes what the commit of `generation` replaced.
    pub fn retire(&mut self, generation: u64, runs: Vec<Run>) {
        if !runs.is_empty() {
            self.dead.push_back((generation, runs));
        }
    }

    /// Notes that root slot `slot` now lists nothing older than `oldest`, and frees what that allows.
    pub fn listed(&mut self, slot: usize, oldest: u64) {
        self.listed[slot] = oldest;
        let needed = self.listed[0].min(self.listed[1]);
        while self.dead.front().is_some_and(|(died, _)| *died <= needed) {
            for run in self.dead.pop_front().into_iter().flat_map(|(_, runs)| runs) {
                self.map.release(run);
            }
        }
    }

    pub fn grow(&mut self, places: u64) {
        self.map.grow(places);
    }

    /// Has the host back enough extents, lowest first, for `places` to be taken; `ask` asks it for one. Says how many free
    /// places it has found space for.
    pub fn back_ahead<E>(&mut self, places: u64, mut ask: impl FnMut(Run) -> Result<(), E>) -> Result<u64, (u64, E)> {
        let mut found = 0;
        let mut start = 0;
        while found < places && start < self.map.places() {
            let extent = Run { start, len: BACKING.min(self.map.places() - start) };
            let free = self.map.free_in(extent);
            if free > 0 && !self.backed.contains(&(start / BACKING)) {
                ask(extent).map_err(|e| (found, e))?;
                self.set_backed(extent);
            }
            found += free;
            start += BACKING;
        }
        Ok(found)
    }

    /// Notes that the host has backed an extent.
    fn set_backed(&mut self, extent: Run) {
        // The last extent is cut by the end of the store, which may grow.
        if extent.len == BACKING {
            self.backed.insert(extent.start / BACKING);
        }
    }
}
