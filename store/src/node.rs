//! Tree nodes: 4 KiB, a header of 32 bytes and up to 127 slots of 32 bytes in ascending order of key.

use crate::checksum;
use crate::ids::{MAX_SEGMENT_PAGES, MAX_SEGMENTS, PAGE_SIZE, Page, PageIndex, SegmentId, StoreId};
use crate::lineage::Lineage;
use crate::width::{put_u32, put_u64, u32_at, u64_at};

/// Slots that a node can hold.
pub(crate) const CAPACITY: usize = (PAGE_SIZE - HEADER_LEN) / SLOT_LEN;

/// A node with fewer slots than this is merged with its right neighbour when a commit touches it.
pub(crate) const MINIMUM: usize = CAPACITY / 4;

/// Levels that a tree can have: far more than 2^40 pages need at [`MINIMUM`] slots a node.
pub(crate) const MAX_HEIGHT: u8 = 12;

const HEADER_LEN: usize = 32;
const SLOT_LEN: usize = 32;
const KEY_LEN: usize = 11;
const MAGIC: u32 = u32::from_le_bytes(*b"SpNd");

const _: () = assert!(HEADER_LEN + CAPACITY * SLOT_LEN == PAGE_SIZE);

/// What the tree is ordered by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub segment: u64,
    pub page: u64,
}

impl Key {
    pub const MIN: Self = Self { segment: 0, page: 0 };

    pub const fn new(segment: SegmentId, page: PageIndex) -> Self {
        Self { segment: segment.0, page: page.0 }
    }

    /// The first key of the segment after this one's.
    pub const fn next_segment(self) -> Self {
        Self { segment: self.segment + 1, page: 0 }
    }

    /// Big-endian, so that bytes compare as keys do: 6 bytes of segment, 5 of page.
    fn encode(self) -> [u8; KEY_LEN] {
        assert!(self.segment < MAX_SEGMENTS && self.page < MAX_SEGMENT_PAGES, "keys are checked where they come in");
        let mut out = [0; KEY_LEN];
        out[..6].copy_from_slice(&self.segment.to_be_bytes()[2..]);
        out[6..].copy_from_slice(&self.page.to_be_bytes()[3..]);
        out
    }

    fn decode(bytes: &[u8]) -> Self {
        let (mut segment, mut page) = ([0; 8], [0; 8]);
        segment[2..].copy_from_slice(&bytes[..6]);
        page[3..].copy_from_slice(&bytes[6..KEY_LEN]);
        Self { segment: u64::from_be_bytes(segment), page: u64::from_be_bytes(page) }
    }
}

/// Where a block lies and what must be found there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockRef {
    /// In pages from the start of the file.
    pub place: u64,
    /// The generation whose commit wrote it.
    pub birth: u64,
    /// Bound to the block's identity; see [`crate::checksum`].
    pub checksum: u64,
}

/// One slot of a node: at level 0 it refers to a page, above to the node that starts with this key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub key: Key,
    pub block: BlockRef,
}

/// The tree of one generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TreeRef {
    pub root: BlockRef,
    /// Levels; 0 = empty tree, whose `root` is all zeros.
    pub height: u8,
}

impl TreeRef {
    pub const EMPTY: Self = Self { root: BlockRef { place: 0, birth: 0, checksum: 0 }, height: 0 };
}

/// A node whose checksum and form have been checked.
pub(crate) struct Node {
    bytes: Box<Page>,
    count: usize,
    block: BlockRef,
}

impl Node {
    /// Makes the node that holds `slots`, to be written to `place` by the commit `birth`.
    pub fn build(id: StoreId, place: u64, birth: u64, level: u8, slots: &[Slot]) -> Self {
        assert!(!slots.is_empty() && slots.len() <= CAPACITY, "a node holds 1 to {CAPACITY} slots");
        let mut bytes = Box::new([0; PAGE_SIZE]);
        put_u32(&mut bytes[..], 0, MAGIC);
        bytes[4] = level;
        bytes[6] = u8::try_from(slots.len()).expect("CAPACITY fits a byte");
        put_u64(&mut bytes[..], 8, birth);
        put_u64(&mut bytes[..], 16, place);
        for (raw, slot) in bytes[HEADER_LEN..].chunks_exact_mut(SLOT_LEN).zip(slots) {
            raw[..KEY_LEN].copy_from_slice(&slot.key.encode());
            raw[KEY_LEN..16].copy_from_slice(&slot.block.place.to_be_bytes()[3..]);
            put_u64(raw, 16, slot.block.birth);
            put_u64(raw, 24, slot.block.checksum);
        }
        let checksum = checksum::of_node(id, place, birth, level, &bytes[..]);
        Self { bytes, count: slots.len(), block: BlockRef { place, birth, checksum } }
    }

    /// Checks what the disk gave for `block`; says what is wrong with it.
    pub fn check(
        lineage: &Lineage,
        bytes: Box<Page>,
        block: BlockRef,
        level: u8,
        places: u64,
    ) -> Result<Self, &'static str> {
        if checksum::of_node(lineage.of(block.birth), block.place, block.birth, level, &bytes[..]) != block.checksum {
            return Err("the checksum does not match");
        }
        let count = usize::from(bytes[6]);
        if u32_at(&bytes[..], 0) != MAGIC || bytes[4] != level || count == 0 || count > CAPACITY {
            return Err("the header of the node is malformed");
        }
        if u64_at(&bytes[..], 8) != block.birth || u64_at(&bytes[..], 16) != block.place {
            return Err("the node belongs elsewhere");
        }
        let node = Self { bytes, count, block };
        for i in 0..count {
            let slot = node.slot(i);
            if i > 0 && node.raw_key(i - 1) >= node.raw_key(i) {
                return Err("the keys of the node are out of order");
            }
            if slot.block.place < crate::root::FIRST_PLACE || slot.block.place >= places {
                return Err("the node refers to a place outside of the store");
            }
            if slot.block.birth > block.birth {
                return Err("the node refers to a later generation");
            }
        }
        Ok(node)
    }

    /// The bytes to write.
    pub fn bytes(&self) -> &Page {
        &self.bytes
    }

    /// What a parent must know of it.
    pub fn block(&self) -> BlockRef {
        self.block
    }

    /// Slots in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The slot number `i`.
    pub fn slot(&self, i: usize) -> Slot {
        let raw = &self.bytes[HEADER_LEN + i * SLOT_LEN..][..SLOT_LEN];
        let mut place = [0; 8];
        place[3..].copy_from_slice(&raw[KEY_LEN..16]);
        let block = BlockRef { place: u64::from_be_bytes(place), birth: u64_at(raw, 16), checksum: u64_at(raw, 24) };
        Slot { key: Key::decode(raw), block }
    }

    /// The key of slot number `i`.
    pub fn key(&self, i: usize) -> Key {
        Key::decode(self.raw_key(i))
    }

    /// All slots in order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.count).map(|i| self.slot(i))
    }

    /// How many slots have a key below `key`.
    pub fn below(&self, key: Key) -> usize {
        let wanted = key_or_end(key);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if wanted.is_none_or(|wanted| self.raw_key(middle) < &wanted[..]) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    /// The child in which `key` lies, if it is there at all.
    pub fn child_for(&self, key: Key) -> usize {
        let at = self.below(key);
        if at < self.count && self.key(at) == key { at } else { at.saturating_sub(1) }
    }

    fn raw_key(&self, i: usize) -> &[u8] {
        &self.bytes[HEADER_LEN + i * SLOT_LEN..][..KEY_LEN]
    }
}

/// The encoded key, or none if it lies past every key that can be.
fn key_or_end(key: Key) -> Option<[u8; KEY_LEN]> {
    if key.segment >= MAX_SEGMENTS {
        return None;
    }
    if key.page >= MAX_SEGMENT_PAGES {
        return key_or_end(key.next_segment());
    }
    Some(key.encode())
}
