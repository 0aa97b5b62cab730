//! Which places are taken: one bit each, in chunks that cost nothing while they are empty.

use crate::width::to_usize;

/// Places in a chunk: 128 MiB of pages, 4 KiB of bits.
const CHUNK: u64 = 512 * 64;

/// A run of places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub start: u64,
    pub len: u64,
}

impl Run {
    pub const fn end(self) -> u64 {
        self.start + self.len
    }
}

/// Sorts places into runs.
pub(crate) fn into_runs(mut places: Vec<u64>) -> Vec<Run> {
    places.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some(run) if run.end() == place => run.len += 1,
            _ => runs.push(Run { start: place, len: 1 }),
        }
    }
    runs
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Chunk {
    used: u64,
    /// Absent while nothing is used.
    bits: Option<Box<[u64; 512]>>,
}

/// The map of all places of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FreeMap {
    chunks: Vec<Chunk>,
    places: u64,
    used: u64,
    /// No place at or beyond it is given: where the store is to end that is being made smaller. Else the end of the map.
    fence: u64,
    /// Used places at or beyond the fence.
    beyond: u64,
}

impl FreeMap {
    /// A map with nothing used.
    pub fn new(places: u64) -> Self {
        let mut map = Self { chunks: Vec::new(), places: 0, used: 0, fence: 0, beyond: 0 };
        map.grow(places);
        map
    }

    /// Makes it larger; a fence is taken away.
    pub fn grow(&mut self, places: u64) {
        assert!(places >= self.places, "a map is made smaller behind a fence only");
        self.places = places;
        self.chunks.resize(to_usize(places.div_ceil(CHUNK)), Chunk::default());
        self.set_fence(places);
    }

    /// From now on no place at or beyond `fence` is given.
    pub fn set_fence(&mut self, fence: u64) {
        assert!(fence <= self.places, "a fence stands within the map");
        self.fence = fence;
        let whole = fence.div_ceil(CHUNK);
        let cut = Run { start: fence, len: (whole * CHUNK).min(self.places) - fence };
        let others: u64 = self.chunks[to_usize(whole)..].iter().map(|chunk| chunk.used).sum();
        self.beyond = cut.len - self.free_in(cut) + others;
    }

    /// Ends the map at the fence, beyond which nothing is used.
    pub fn cut(&mut self) {
        assert!(self.beyond == 0, "{} places beyond the fence are in use", self.beyond);
        self.places = self.fence;
        self.chunks.truncate(to_usize(self.places.div_ceil(CHUNK)));
    }

    pub fn places(&self) -> u64 {
        self.places
    }

    /// The places before the fence.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Used places at or beyond the fence.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    /// Places that can be given.
    pub fn free(&self) -> u64 {
        self.fence - (self.used - self.beyond)
    }

    pub fn is_used(&self, place: u64) -> bool {
        let chunk = &self.chunks[to_usize(place / CHUNK)];
        let (word, bit) = position(place);
        chunk.bits.as_ref().is_some_and(|bits| bits[word] & bit != 0)
    }

    /// How many places of `run` are free. Fast for runs that begin and end at multiples of 64.
    pub fn free_in(&self, run: Run) -> u64 {
        let mut free = 0;
        let mut at = run.start;
        while at < run.end() {
            let len = (64 - at % 64).min(run.end() - at);
            let mask = (u64::MAX >> (64 - len)) << (at % 64);
            let chunk = &self.chunks[to_usize(at / CHUNK)];
            let used = chunk.bits.as_ref().map_or(0, |bits| bits[position(at).0] & mask);
            free += len - u64::from(used.count_ones());
            at += len;
        }
        free
    }

    /// Marks a place; says whether it was free.
    pub fn mark(&mut self, place: u64) -> bool {
        assert!(place < self.places, "places are checked where they come in");
        let chunk = &mut self.chunks[to_usize(place / CHUNK)];
        let (word, bit) = position(place);
        let bits = chunk.bits.get_or_insert_with(|| Box::new([0; 512]));
        let fresh = bits[word] & bit == 0;
        if fresh {
            bits[word] |= bit;
            chunk.used += 1;
            self.used += 1;
            self.beyond += u64::from(place >= self.fence);
        }
        fresh
    }

    /// Marks a place that was met on a walk of a store that has `places` by now; says whether it was met for the first time. None: it lies beyond
    /// the end.
    pub fn meet(&mut self, places: u64, place: u64) -> Option<bool> {
        if places > self.places {
            self.grow(places);
        }
        (place < self.places).then(|| self.mark(place))
    }

    /// Frees a run, all of which must be used: a double free is a bug that would overwrite live data.
    pub fn release(&mut self, run: Run) {
        for place in run.start..run.end() {
            let chunk = &mut self.chunks[to_usize(place / CHUNK)];
            let (word, bit) = position(place);
            let bits = chunk.bits.as_mut().expect("what is freed was used");
            assert!(bits[word] & bit != 0, "place {place} was freed twice");
            bits[word] &= !bit;
            chunk.used -= 1;
            self.used -= 1;
            self.beyond -= u64::from(place >= self.fence);
            if chunk.used == 0 {
                chunk.bits = None;
            }
        }
    }

    /// The first free run at or after `from` with at least `min` places, cut to `want`.
    pub fn find(&self, from: u64, want: u64, min: u64) -> Option<Run> {
        let mut at = self.next(from, false)?;
        loop {
            let end = self.next_used(at, want);
            if end - at >= min {
                return Some(Run { start: at, len: end - at });
            }
            at = self.next(end, false)?;
        }
    }

    /// The first used place after `from`, but not beyond `from + limit` or the fence.
    fn next_used(&self, from: u64, limit: u64) -> u64 {
        let end = self.fence.min(from + limit);
        self.next(from, true).map_or(end, |at| at.min(end))
    }

    /// The first place at or after `from`, and before the fence, that is used, or free.
    fn next(&self, from: u64, used: bool) -> Option<u64> {
        let mut at = from;
        while at < self.fence {
            let chunk = &self.chunks[to_usize(at / CHUNK)];
            let skip = if used { chunk.used == 0 } else { chunk.used == CHUNK };
            match &chunk.bits {
                _ if skip => at = (at / CHUNK + 1) * CHUNK,
                None => return Some(at),
                Some(bits) => {
                    let start = to_usize(at % CHUNK / 64);
                    let masked = |i: usize| {
                        let word = if used { bits[i] } else { !bits[i] };
                        if i == start { word & (u64::MAX << (at % 64)) } else { word }
                    };
                    if let Some(i) = (start..512).find(|i| masked(*i) != 0) {
                        let found = at / CHUNK * CHUNK + i as u64 * 64 + u64::from(masked(i).trailing_zeros());
                        return Some(found).filter(|found| *found < self.fence);
                    }
                    at = (at / CHUNK + 1) * CHUNK;
                }
            }
        }
        None
    }
}

fn position(place: u64) -> (usize, u64) {
    (to_usize(place % CHUNK / 64), 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_map_is_a_plain_set(
            places in 1..100_000_u64,
            steps in prop::collection::vec((any::<bool>(), 0..100_000_u64, 1..700_u64, prop::option::of(0..100_000_u64)), 1..60),
        ) {
            let mut map = FreeMap::new(places);
            let mut model = vec![false; to_usize(places)];
            let mut fence = places;
            for (mark, at, len, stands) in steps {
                if let Some(stands) = stands {
                    fence = if stands % 3 == 0 { places } else { stands % places };
                    map.set_fence(fence);
                }
                let (at, end) = (at % places, (at % places + len).min(places));
                if mark {
                    for place in at..end {
                        prop_assert_eq!(map.mark(place), !std::mem::replace(&mut model[to_usize(place)], true));
                    }
                } else {
                    for place in at..end {
                        if std::mem::take(&mut model[to_usize(place)]) {
                            map.release(Run { start: place, len: 1 });
                        }
                    }
                }
                let run = Run { start: at, len: end - at };
                prop_assert_eq!(map.free_in(run), (at..end).filter(|p| !model[to_usize(*p)]).count() as u64);
                let used = |model: &[bool]| model.iter().filter(|used| **used).count() as u64;
                prop_assert_eq!(map.used(), used(&model));
                prop_assert_eq!(map.beyond(), used(&model[to_usize(fence)..]));
                prop_assert_eq!(map.free(), fence - used(&model[..to_usize(fence)]));
                let found = map.find(at, 256, len);
                let plain = (at..fence)
                    .filter(|p| *p == at || model[to_usize(*p) - 1])
                    .map(|p| Run { start: p, len: (p..fence.min(p + 256)).take_while(|q| !model[to_usize(*q)]).count() as u64 })
                    .find(|run| run.len >= len);
                prop_assert_eq!(found, plain);
            }
            // Freed beyond the fence, it can be cut there, and grown again.
            for place in (fence..places).filter(|place| model[to_usize(*place)]) {
                map.release(Run { start: place, len: 1 });
            }
            map.cut();
            prop_assert_eq!(map.places(), fence);
            map.grow(places);
            prop_assert_eq!(map.free(), places - map.used());
        }
    }
}
