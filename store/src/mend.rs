//! Putting right what is rotten on one side of a mirrored store.

use crate::checksum;
use crate::ids::PAGE_SIZE;
use crate::node::{BlockRef, Slot};
use crate::root::FIRST_PLACE;
use crate::store::Store;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A page of a segment.
    Page {
        /// The segment.
        segment: u64,
        /// Its page.
        page: u64,
    },
    /// A tree node.
    Node {
        /// How far above the pages.
        level: u8,
    },
}

/// A block as the reference to it names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it lies, in pages from the start of the file.
    pub place: u64,
    /// The generation whose commit wrote it.
    pub birth: u64,
    /// Its checksum.
    pub checksum: u64,
    /// What it is.
    pub kind: BlockKind,
}

impl Block {
    pub(crate) fn page(slot: &Slot) -> Self {
        let kind = BlockKind::Page { segment: slot.key.segment, page: slot.key.page };
        Self::of(slot.block, kind)
    }

    pub(crate) fn node(block: BlockRef, level: u8) -> Self {
        Self::of(block, BlockKind::Node { level })
    }

    fn of(BlockRef { place, birth, checksum }: BlockRef, kind: BlockKind) -> Self {
        Self { place, birth, checksum, kind }
    }
}

impl Store {
    /// Writes a block anew on the sides where it is rotten, from one where it holds; says on how many. None: it holds nowhere, since it is lost or
    /// its place is in other use by now, and nothing was done.
    #[must_use]
    pub fn mend(&self, block: &Block) -> Option<u32> {
        let Block { place, birth, checksum, kind } = *block;
        if place < FIRST_PLACE {
            return None;
        }
        let id = self.shared.lineage.of(birth);
        let holds = |bytes: &[u8]| {
            checksum
                == match kind {
                    BlockKind::Page { segment, page } => checksum::of_page(id, segment, page, birth, bytes),
                    BlockKind::Node { level } => checksum::of_node(id, place, birth, level, bytes),
                }
        };
        self.shared.disk.mend(place.checked_mul(PAGE_SIZE as u64)?, &mut [0; PAGE_SIZE], &holds)
    }
}
