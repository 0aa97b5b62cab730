//! Which pages leave memory: S3-FIFO, with the reference bit that zapping gives.
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023. A page enters a small queue, or the main
//! one if it was evicted a short while ago (its *ghost* is remembered). Nobody tells us when a mapped page is used, so a
//! page that has come to the head of its queue is *zapped* while all domains are frozen: it leaves the page tables, but not
//! memory. Used again (a minor fault), it goes to the main queue. Else nobody can write it unseen, so once it is clean it
//! can be evicted with no race.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use semper_store::{PageRange, SegmentId};

use crate::frames::{Bits, Chunk, Span, pieces};
use crate::segment::{Segment, State};
use crate::size::index;

/// A page, in 32 bits: the number of its chunk with us, and its place there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry(u32);

impl Entry {
    fn new(slot: u32, bit: usize) -> Self {
        let bit = u32::try_from(bit).expect("a place in a chunk is below 512");
        Self(slot << 9 | bit)
    }

    fn slot(self) -> usize {
        (self.0 >> 9) as usize
    }

    fn bit(self) -> usize {
        (self.0 & 511) as usize
    }
}

struct Slot {
    segment: Weak<Segment>,
    id: SegmentId,
    chunk: u64,
}

/// The queues. Entries of pages that have gone are dropped when they come to the head.
#[derive(Default)]
pub(crate) struct Policy {
    small: VecDeque<Entry>,
    main: VecDeque<Entry>,
    /// Zapped, and not yet decided.
    probation: VecDeque<Entry>,
    /// Slot 0 stands for none.
    slots: Vec<Slot>,
    /// Advances when as many pages were evicted as the main queue has.
    ghost_turn: u32,
    evicted_this_turn: usize,
}

/// The pages of one chunk, picked from a queue.
pub(crate) type Picked = HashMap<(SegmentId, u64), (Arc<Segment>, Bits)>;

/// At most this many pages of a chunk table: 23 bits of slot.
const MAX_SLOTS: usize = 1 << 23;

impl Policy {
    fn slot_of(&mut self, segment: &Segment, chunk_index: u64, chunk: &mut Chunk) -> Option<u32> {
        if chunk.slot == 0 {
            if self.slots.is_empty() {
                self.slots.push(Slot { segment: Weak::new(), id: SegmentId(u64::MAX), chunk: 0 });
            }
            if self.slots.len() >= MAX_SLOTS {
                return None;
            }
            chunk.slot = u32::try_from(self.slots.len()).ok()?;
            self.slots.push(Slot { segment: segment.weak(), id: segment.id, chunk: chunk_index });
        }
        Some(chunk.slot)
    }

    /// The turn of the ghost clock.
    pub(crate) fn turn(&self) -> u32 {
        self.ghost_turn
    }

    /// Pages have come into memory.
    pub(crate) fn admit(&mut self, segment: &Segment, state: &mut State, range: PageRange) {
        for (index, span) in pieces(range) {
            let turn = self.ghost_turn;
            let chunk = state.frames.chunk_mut(index);
            age_ghost(chunk, turn);
            let fresh = Bits::of(span).minus(&chunk.queued).minus(&chunk.pinned);
            if !fresh.any() {
                continue;
            }
            let Some(slot) = self.slot_of(segment, index, chunk) else { continue };
            let ghost = chunk.ghost[0].or(&chunk.ghost[1]).and(&fresh);
            chunk.queued = chunk.queued.or(&fresh);
            chunk.main = chunk.main.minus(&fresh).or(&ghost);
            for bit in fresh.spans().flat_map(|span| span.start..span.end) {
                let queue = if ghost.get(bit) { &mut self.main } else { &mut self.small };
                queue.push_back(Entry::new(slot, bit));
            }
        }
    }

    fn resident(&self) -> usize {
        self.small.len() + self.main.len() + self.probation.len()
    }

    /// Pages zapped and not yet decided.
    pub(crate) fn on_probation(&self) -> u64 {
        self.probation.len() as u64
    }

    pub(crate) fn own_bytes(&self) -> u64 {
        let entries = self.small.capacity() + self.main.capacity() + self.probation.capacity();
        (entries * size_of::<Entry>() + self.slots.capacity() * size_of::<Slot>()) as u64
    }

    fn gather(&self, entries: impl Iterator<Item = Entry>) -> Picked {
        let mut picked = Picked::new();
        for entry in entries {
            let Some(slot) = self.slots.get(entry.slot()) else { continue };
            let key = (slot.id, slot.chunk);
            if let Some((_, bits)) = picked.get_mut(&key) {
                bits.set(entry.bit());
            } else if let Some(segment) = slot.segment.upgrade() {
                let bit = entry.bit();
                picked.insert(key, (segment, Bits::of(Span { start: bit, end: bit + 1 })));
            }
        }
        picked
    }

    /// Takes about `count` pages from the heads of the queues, for probation.
    pub(crate) fn pick(&mut self, count: u64) -> Picked {
        let mut taken = Vec::new();
        // The small queue is kept at a tenth of all pages.
        let small_share = self.resident() / 10;
        while (taken.len() as u64) < count {
            let from_small = self.small.len() > small_share || self.main.is_empty();
            let next = if from_small { self.small.pop_front() } else { self.main.pop_front() };
            let Some(entry) = next.or_else(|| self.small.pop_front()) else { break };
            taken.push(entry);
        }
        self.gather(taken.into_iter())
    }

    /// Takes all pages on probation, to be judged.
    pub(crate) fn take_probation(&mut self, count: u64) -> Picked {
        let count = index(count).min(self.probation.len());
        let taken: Vec<Entry> = self.probation.drain(..count).collect();
        self.gather(taken.into_iter())
    }

    pub(crate) fn push(&mut self, slot: u32, bits: Bits, queue: Queue) {
        let queue = match queue {
            Queue::Main => &mut self.main,
            Queue::Probation => &mut self.probation,
        };
        queue.extend(bits.spans().flat_map(|span| span.start..span.end).map(|bit| Entry::new(slot, bit)));
    }

    pub(crate) fn count_evicted(&mut self, count: u64) {
        self.evicted_this_turn += index(count);
        if self.evicted_this_turn > self.main.len().max(self.small.len()) {
            self.evicted_this_turn = 0;
            self.ghost_turn = self.ghost_turn.wrapping_add(1);
        }
    }
}

/// Where a judged page goes.
#[derive(Clone, Copy)]
pub(crate) enum Queue {
    /// It was used.
    Main,
    /// Not decided yet.
    Probation,
}

/// Lets the memory of past evictions fade.
pub(crate) fn age_ghost(chunk: &mut Chunk, turn: u32) {
    match turn.wrapping_sub(chunk.ghost_turn) {
        0 => return,
        1 => chunk.ghost = [Bits::EMPTY, chunk.ghost[0]],
        _ => chunk.ghost = [Bits::EMPTY; 2],
    }
    chunk.ghost_turn = turn;
}
