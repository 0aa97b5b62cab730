//! Space: what a commit may write to, and when what it replaced may be written to again.
//!
//! A place is free for a commit only if no generation refers to it that *either* root slot lists, so that each root that
//! recovery may fall back to is whole. A block that was born in generation B and died with generation D can be referred to by
//! the generations from B on and before D, so its place is held back until neither slot lists one of those. (Which
//! of them really do matters only after going back: one of the future that was left may be taken for a referrer, never the other way round.)

use crate::freemap::{FreeMap, Run, into_runs};
use crate::root::FIRST_PLACE;
use std::collections::BTreeSet;

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
    /// Places that the newest generation refers to no more, but an older one may.
    dead: Vec<Dead>,
    /// The generations that each root slot lists.
    listed: [Vec<u64>; 2],
    /// Extents of [`BACKING`] places for which the host has found space since the store was opened.
    backed: BTreeSet<u64>,
    /// No run of free places is longer, as far as it is known: who looks for a longer one need not search the whole map again.
    longest: u64,
}

/// Places to which only generations in `born..died` can refer.
struct Dead {
    born: u64,
    died: u64,
    runs: Vec<Run>,
}

impl Dead {
    fn needed_by(&self, generation: u64) -> bool {
        (self.born..self.died).contains(&generation)
    }
}

/// A block that the newest generation refers to no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeadBlock {
    pub place: u64,
    pub birth: u64,
}

impl Space {
    /// From a walk: `map` has all places in use, `dead` those that only older generations use, with the generation with which they
    /// died at the latest.
    pub fn new(map: FreeMap, dead: impl IntoIterator<Item = (u64, Vec<DeadBlock>)>, listed: [Vec<u64>; 2]) -> Self {
        let mut space = Self { map, dead: Vec::new(), listed, backed: BTreeSet::new(), longest: u64::MAX };
        for (died, blocks) in dead {
            space.retire(died, blocks);
        }
        space.free_dead();
        space
    }

    pub fn map(&self) -> &FreeMap {
        &self.map
    }

    /// Takes a run of up to `want` places, at or after `cursor` if that gives a long one, else anywhere.
    pub fn allocate(&mut self, cursor: u64, want: u64, purpose: Purpose) -> Option<Run> {
        let spare = if purpose == Purpose::Pages { spare(self.map.fence()) } else { 0 };
        let want = want.min(self.map.free().saturating_sub(spare));
        if want == 0 {
            return None;
        }
        let (good, cursor) = (want.min(GOOD_RUN), cursor.max(FIRST_PLACE));
        let mut run = None;
        if good <= self.longest {
            run = self.map.find(cursor, want, good).or_else(|| self.map.find(FIRST_PLACE, want, good));
            if run.is_none() {
                self.longest = good - 1;
            }
        }
        // Where there are only short ones, the next.
        let any = || self.map.find(cursor, want, 1).or_else(|| self.map.find(FIRST_PLACE, want, 1));
        let run = run.or_else(any)?;
        for place in run.start..run.end() {
            assert!(self.map.mark(place), "a free place is not used");
        }
        Some(run)
    }

    /// Gives back what an unfinished commit took.
    pub fn release(&mut self, run: Run) {
        self.longest = u64::MAX;
        self.map.release(run);
    }

    /// Places that would become free if the slots listed nothing but the generations `kept`.
    pub fn reclaimable(&self, kept: &[u64]) -> u64 {
        let freed = self.dead.iter().filter(|dead| !kept.iter().any(|generation| dead.needed_by(*generation)));
        freed.flat_map(|dead| &dead.runs).map(|run| run.len).sum()
    }

    /// Notes blocks that died with the commit of `generation`.
    pub fn retire(&mut self, generation: u64, mut blocks: Vec<DeadBlock>) {
        let mut marks: Vec<u64> = self.listed.iter().flatten().copied().filter(|listed| *listed < generation).collect();
        marks.sort_unstable();
        marks.dedup();
        // What matters of a birth is the first listed generation after it, so there are few kinds.
        let first = |block: &DeadBlock| marks.get(marks.partition_point(|listed| *listed < block.birth)).copied();
        blocks.sort_unstable_by_key(|block| (first(block), block.place));
        for kind in blocks.chunk_by(|a, b| first(a) == first(b)) {
            let runs = into_runs(kind.iter().map(|block| block.place).collect());
            // Listed by nobody: it is free once the commit is durable, which it is when this is called.
            self.dead.push(Dead { born: first(&kind[0]).unwrap_or(generation), died: generation, runs });
        }
    }

    /// Notes which generations root slot `slot` lists now, and frees what that allows.
    pub fn listed(&mut self, slot: usize, generations: Vec<u64>) {
        self.listed[slot] = generations;
        self.free_dead();
    }

    fn free_dead(&mut self) {
        self.longest = u64::MAX;
        let Self { map, dead, listed, .. } = self;
        dead.retain(|dead| {
            let needed = listed.iter().flatten().any(|generation| dead.needed_by(*generation));
            if !needed {
                dead.runs.iter().for_each(|run| map.release(*run));
            }
            needed
        });
    }

    /// Makes it larger; a fence is taken away.
    pub fn grow(&mut self, places: u64) {
        self.longest = u64::MAX;
        self.map.grow(places);
    }

    /// From now on no place at or beyond `fence` is taken.
    pub fn set_fence(&mut self, fence: u64) {
        self.longest = u64::MAX;
        self.map.set_fence(fence);
    }

    /// Ends at the fence, beyond which nothing is in use.
    pub fn cut(&mut self) {
        self.map.cut();
        self.backed.split_off(&(self.map.places() / BACKING));
    }

    /// The listed generations that keep places beyond the fence, which the newest one has left.
    pub fn beyond(&self) -> BTreeSet<u64> {
        let fence = self.map.fence();
        let far = self.dead.iter().filter(|dead| dead.runs.iter().any(|run| run.end() > fence));
        far.flat_map(|dead| self.listed.iter().flatten().copied().filter(|of| dead.needed_by(*of))).collect()
    }

    /// Has the host back enough extents, lowest first, for `places` to be taken; `ask` asks it for one. Says how many free
    /// places it has found space for.
    pub fn back_ahead<E>(&mut self, places: u64, mut ask: impl FnMut(Run) -> Result<(), E>) -> Result<u64, (u64, E)> {
        let mut found = 0;
        let mut start = 0;
        while found < places && start < self.map.fence() {
            let extent = Run { start, len: BACKING.min(self.map.fence() - start) };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of whose places every other one is used, from `from` on.
    fn fragmented(places: u64, from: u64) -> Space {
        let mut map = FreeMap::new(places);
        (0..FIRST_PLACE).chain((from..places).step_by(2)).for_each(|place| assert!(map.mark(place)));
        Space::new(map, [], [Vec::new(), Vec::new()])
    }

    #[test]
    fn all_that_is_free_is_given_once_whatever_it_looks_like() {
        let mut space = fragmented(200_000, FIRST_PLACE + 100);
        let (mut cursor, mut given) = (FIRST_PLACE, 0);
        // A long one while there is one, then what there is.
        assert_eq!(space.allocate(cursor, 64, Purpose::Nodes), Some(Run { start: FIRST_PLACE, len: 64 }));
        while let Some(run) = space.allocate(cursor, 256, Purpose::Nodes) {
            (cursor, given) = (run.end(), given + run.len);
        }
        assert_eq!((given, space.map().free()), (36 + (200_000 - FIRST_PLACE - 100) / 2, 0));
        // What is given back is found again, also a long one.
        space.release(Run { start: 1000, len: 300 });
        assert_eq!(space.allocate(cursor, 256, Purpose::Nodes), Some(Run { start: 1000, len: 256 }));
        space.grow(200_100);
        assert_eq!(space.allocate(cursor, 256, Purpose::Nodes), Some(Run { start: 200_000, len: 100 }));
        assert_eq!(space.allocate(cursor, 256, Purpose::Nodes), Some(Run { start: 1256, len: 44 }));
        assert_eq!(space.allocate(cursor, 256, Purpose::Nodes), None);
    }
}
