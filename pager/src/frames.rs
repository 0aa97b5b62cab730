//! What is known of each page of a segment, in bitmaps of 2 MiB chunks made at first need.
//!
//! Pure bookkeeping, no I/O: the whole state machine can be tested against a plain model.
//!
//! * `known`: the page is in memory and we know it. A page may be in memory unknown to us (a domain touched fresh memory by
//!   itself); never the other way round.
//! * `dirty`: its content differs from what the store will give, and no capture has taken it. What a domain has written since
//!   the last scan is not in here yet: only its page table knows.
//! * `inflight`: taken by the capture that is under way.
//! * `stored`: the store gives its content (else it is zeros). Where there is no chunk, the baseline ranges say so.
//! * `unmapped`: no process has it in its page table, and nobody has used it since.
//! * `filling`: somebody is reading it from the store right now.
//! * `pinned`: mapped by the runtime, so it stays.

use std::collections::{BTreeMap, BTreeSet};

use semper_store::{PageIndex, PageRange};

use crate::ranges::RangeSet;
use crate::size::index;

/// Pages in a chunk: what one page table of the processor covers.
pub(crate) const CHUNK_PAGES: u64 = 512;
const WORDS: usize = 8;

/// One bit for each page of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Bits([u64; WORDS]);

/// A run of pages within a chunk: `start..end`, at most 512.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Bits {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    fn mask(word: usize, span: Span) -> u64 {
        let from = span.start.saturating_sub(word * 64).min(64);
        let to = span.end.saturating_sub(word * 64).min(64);
        if from >= to {
            return 0;
        }
        let upto = if to == 64 { u64::MAX } else { (1 << to) - 1 };
        upto & !((1u64 << from) - 1)
    }

    pub(crate) fn of(span: Span) -> Self {
        let mut bits = Self::EMPTY;
        bits.set_span(span);
        bits
    }

    pub(crate) fn get(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 != 0
    }

    pub(crate) fn set(&mut self, page: usize) {
        self.0[page / 64] |= 1 << (page % 64);
    }

    pub(crate) fn clear(&mut self, page: usize) {
        self.0[page / 64] &= !(1 << (page % 64));
    }

    pub(crate) fn set_span(&mut self, span: Span) {
        for word in span.start / 64..span.end.div_ceil(64) {
            self.0[word] |= Self::mask(word, span);
        }
    }

    pub(crate) fn clear_span(&mut self, span: Span) {
        for word in span.start / 64..span.end.div_ceil(64) {
            self.0[word] &= !Self::mask(word, span);
        }
    }

    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|word| *word != 0)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    pub(crate) fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// The runs of set bits, in order.
    pub(crate) fn spans(self) -> impl Iterator<Item = Span> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, false)?;
            let end = self.next(start, true).unwrap_or(WORDS * 64);
            at = end;
            Some(Span { start, end })
        })
    }

    /// The first bit from `from` on that is set (or clear, if `inverted`).
    fn next(&self, from: usize, inverted: bool) -> Option<usize> {
        let flip = if inverted { u64::MAX } else { 0 };
        let mut word = from / 64;
        if word >= WORDS {
            return None;
        }
        let mut bits = (self.0[word] ^ flip) & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            if word == WORDS {
                return None;
            }
            bits = self.0[word] ^ flip;
        }
    }
}

/// The state of 512 pages; see the module.
#[derive(Clone, Default, Debug)]
pub(crate) struct Chunk {
    pub known: Bits,
    pub dirty: Bits,
    pub inflight: Bits,
    pub stored: Bits,
    pub unmapped: Bits,
    pub filling: Bits,
    pub pinned: Bits,
    /// Stands in a queue of the eviction policy.
    pub queued: Bits,
    /// Belongs to its main queue, not to the probationary one.
    pub main: Bits,
    /// Evicted a short while ago, by two turns of the ghost clock.
    pub ghost: [Bits; 2],
    /// The turn of the clock that `ghost[0]` belongs to.
    pub ghost_turn: u32,
    /// Its number with the eviction policy; 0 is none.
    pub slot: u32,
}

/// The pages of one segment.
#[derive(Default)]
pub(crate) struct FrameMap {
    chunks: BTreeMap<u64, Box<Chunk>>,
    /// What the store holds, where there is no chunk.
    baseline: RangeSet,
    known: u64,
    dirty: u64,
    inflight: u64,
    /// Chunks that may hold dirty pages.
    dirty_chunks: BTreeSet<u64>,
    inflight_chunks: BTreeSet<u64>,
}

/// The chunk of a page and its place in it.
pub(crate) fn locate(page: PageIndex) -> (u64, usize) {
    (page.0 / CHUNK_PAGES, index(page.0 % CHUNK_PAGES))
}

/// The chunks that a run touches, and which part of each.
pub(crate) fn pieces(range: PageRange) -> impl Iterator<Item = (u64, Span)> {
    let (mut at, end) = (range.first.0, range.end());
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (chunk, start) = locate(PageIndex(at));
        let next = ((chunk + 1) * CHUNK_PAGES).min(end);
        let span = Span { start, end: start + index(next - at) };
        at = next;
        Some((chunk, span))
    })
}

/// A span of a chunk as pages of the segment.
pub(crate) fn pages_of(chunk: u64, span: Span) -> PageRange {
    let first = chunk * CHUNK_PAGES;
    PageRange::between(first + span.start as u64, first + span.end as u64)
}

impl FrameMap {
    pub(crate) fn new(stored: &[PageRange]) -> Self {
        Self { baseline: stored.iter().copied().collect(), ..Self::default() }
    }

    pub(crate) fn known_pages(&self) -> u64 {
        self.known
    }

    pub(crate) fn dirty_pages(&self) -> u64 {
        self.dirty + self.inflight
    }

    pub(crate) fn own_bytes(&self) -> u64 {
        let chunk = (size_of::<Chunk>() + 16 + 3 * size_of::<u64>()) as u64;
        self.chunks.len() as u64 * chunk + self.baseline.own_bytes()
    }

    pub(crate) fn chunk(&self, index: u64) -> Option<&Chunk> {
        self.chunks.get(&index).map(|chunk| &**chunk)
    }

    pub(crate) fn chunk_mut(&mut self, index: u64) -> &mut Chunk {
        let baseline = &self.baseline;
        self.chunks.entry(index).or_insert_with(|| {
            let mut chunk = Box::<Chunk>::default();
            let whole = PageRange::between(index * CHUNK_PAGES, (index + 1) * CHUNK_PAGES);
            for range in baseline.within(whole) {
                for (_, span) in pieces(range) {
                    chunk.stored.set_span(span);
                }
            }
            chunk
        })
    }

    pub(crate) fn chunks_in(&self, range: PageRange) -> impl Iterator<Item = (u64, &Chunk)> {
        let (from, to) = (range.first.0 / CHUNK_PAGES, range.end().div_ceil(CHUNK_PAGES));
        self.chunks.range(from..to.max(from)).map(|(index, chunk)| (*index, &**chunk))
    }

    pub(crate) fn is_known(&self, page: PageIndex) -> bool {
        let (chunk, bit) = locate(page);
        self.chunk(chunk).is_some_and(|chunk| chunk.known.get(bit))
    }

    pub(crate) fn is_filling(&self, page: PageIndex) -> bool {
        let (chunk, bit) = locate(page);
        self.chunk(chunk).is_some_and(|chunk| chunk.filling.get(bit))
    }

    /// Whether the store gives the content of the page, if it is not in memory.
    pub(crate) fn is_stored(&self, page: PageIndex) -> bool {
        let (chunk, bit) = locate(page);
        match self.chunk(chunk) {
            Some(chunk) => chunk.stored.get(bit),
            None => self.baseline.contains(page),
        }
    }

    /// How many pages from `page` on, at most `limit`, are in the store and not in memory.
    pub(crate) fn only_stored_from(&self, page: PageIndex, limit: u64) -> u64 {
        let only_stored = |p: &u64| !self.is_known(PageIndex(*p)) && self.is_stored(PageIndex(*p));
        (page.0..page.0 + limit).take_while(only_stored).count() as u64
    }

    /// All runs of pages in `range` whose content the store gives, in order.
    pub(crate) fn stored_runs(&self, range: PageRange) -> Vec<PageRange> {
        let mut set: RangeSet = self.baseline.within(range).collect();
        for (index, chunk) in self.chunks_in(range) {
            set.remove(pages_of(index, Span { start: 0, end: 512 }));
            for span in chunk.stored.spans() {
                set.insert(intersect(pages_of(index, span), range));
            }
        }
        set.iter().collect()
    }

    /// The pages are in memory from now on.
    pub(crate) fn mark_known(&mut self, range: PageRange) {
        for (index, span) in pieces(range) {
            let chunk = self.chunk_mut(index);
            let before = chunk.known.count();
            chunk.known.set_span(span);
            let added = chunk.known.count() - before;
            self.known += added;
        }
    }

    /// The pages differ from the store from now on (and are in memory).
    pub(crate) fn mark_dirty(&mut self, range: PageRange) {
        self.mark_known(range);
        for (index, span) in pieces(range) {
            let chunk = self.chunk_mut(index);
            let before = chunk.dirty.count();
            chunk.dirty.set_span(span);
            chunk.unmapped.clear_span(span);
            let after = chunk.dirty.count();
            self.dirty += after - before;
            if before == 0 {
                self.dirty_chunks.insert(index);
            }
        }
    }

    /// The pages are dropped and read as zeros: whatever was known of them is void.
    pub(crate) fn discard(&mut self, range: PageRange) {
        let touched: Vec<u64> = self.chunks_in(range).map(|(index, _)| index).collect();
        for index in touched {
            let whole = PageRange::between(index * CHUNK_PAGES, (index + 1) * CHUNK_PAGES);
            let part = intersect(whole, range);
            for (_, span) in pieces(part) {
                self.forget(index, Bits::of(span));
                self.chunk_mut(index).stored.clear_span(span);
            }
        }
        self.baseline.remove(range);
    }

    /// The pages are no longer in memory; what the store says of them stands.
    pub(crate) fn forget(&mut self, index: u64, pages: Bits) {
        let chunk = self.chunk_mut(index);
        let counts = [chunk.known, chunk.dirty, chunk.inflight].map(|bits| bits.and(&pages).count());
        for bits in [&mut chunk.known, &mut chunk.dirty, &mut chunk.inflight, &mut chunk.unmapped] {
            *bits = bits.minus(&pages);
        }
        self.known -= counts[0];
        self.dirty -= counts[1];
        self.inflight -= counts[2];
    }

    /// Takes all dirty pages into the capture, in order.
    pub(crate) fn take_dirty(&mut self) -> Vec<PageRange> {
        let mut runs = Vec::new();
        for index in std::mem::take(&mut self.dirty_chunks) {
            let Some(chunk) = self.chunks.get_mut(&index) else { continue };
            let dirty = std::mem::take(&mut chunk.dirty);
            if !dirty.any() {
                continue;
            }
            self.inflight += dirty.minus(&chunk.inflight).count();
            self.inflight_chunks.insert(index);
            chunk.inflight = chunk.inflight.or(&dirty);
            self.dirty -= dirty.count();
            for span in dirty.spans() {
                push_merged(&mut runs, pages_of(index, span));
            }
        }
        runs
    }

    /// What the capture took is in the store now.
    pub(crate) fn commit(&mut self) {
        for index in std::mem::take(&mut self.inflight_chunks) {
            let chunk = self.chunk_mut(index);
            let inflight = std::mem::take(&mut chunk.inflight);
            chunk.stored = chunk.stored.or(&inflight);
        }
        self.inflight = 0;
    }

    /// What the capture took is not in the store: dirty again.
    pub(crate) fn abandon(&mut self) {
        for index in std::mem::take(&mut self.inflight_chunks) {
            let chunk = self.chunk_mut(index);
            let inflight = std::mem::take(&mut chunk.inflight);
            let added = inflight.minus(&chunk.dirty).count();
            if inflight.any() {
                chunk.dirty = chunk.dirty.or(&inflight);
                self.dirty_chunks.insert(index);
                self.dirty += added;
            }
        }
        self.inflight = 0;
    }
}

/// What two runs share.
pub(crate) fn intersect(a: PageRange, b: PageRange) -> PageRange {
    PageRange::between(a.first.0.max(b.first.0), a.end().min(b.end()))
}

/// Appends a run, joining it to the last one if they touch.
pub(crate) fn push_merged(runs: &mut Vec<PageRange>, next: PageRange) {
    if next.count == 0 {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.end() == next.first.0 => last.count += next.count,
        _ => runs.push(next),
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
