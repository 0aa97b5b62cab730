//! The pages file as `docs/format.md` describes it, read without the store: where tests find what they damage.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE: usize = 4096;

/// Something that a tree refers to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Block {
    pub place: u64,
    /// The commit that wrote it.
    pub birth: u64,
    /// The level of a tree node, 0 for a leaf; none for a page.
    pub level: Option<u8>,
    /// The key of a page, or of the first one below a node.
    pub segment: u64,
    pub page: u64,
}

/// A generation of the newest root.
#[derive(Clone, Debug)]
pub struct Generation {
    pub number: u64,
    pub blocks: Vec<Block>,
}

impl Generation {
    /// The pages of a segment.
    pub fn pages(&self, segment: u64) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.level.is_none() && block.segment == segment)
    }

    /// What the generation has and `other` has not.
    pub fn beyond<'a>(&'a self, other: &'a Generation) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(|block| !other.blocks.contains(block))
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn key(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Where the roots lie, as places.
pub const ROOTS: [u64; 2] = [0, 128];

/// The slots of the roots and the newest generation that each lists; that of the newer root first.
pub fn roots(pages: &Path) -> [(usize, u64); 2] {
    let file = File::open(pages).unwrap();
    let mut roots = [0, 1].map(|slot| {
        let mut root = vec![0; PAGE];
        file.read_exact_at(&mut root, ROOTS[slot] * PAGE as u64).unwrap();
        assert_eq!(&root[..8], b"SEMPERPG");
        (number(&root, 32, 8), (slot, number(&root, 128, 8)))
    });
    roots.sort_unstable_by(|a, b| b.cmp(a));
    roots.map(|(_, root)| root)
}

/// Tears the root in `slot`: all but its first sector is what was there before anything was written.
pub fn tear(pages: &Path, slot: usize) {
    let file = File::options().write(true).open(pages).unwrap();
    file.write_all_at(&[0; PAGE - 512], ROOTS[slot] * PAGE as u64 + 512).unwrap();
}

/// The generations that the newer root lists, newest first.
pub fn generations(pages: &Path) -> Vec<Generation> {
    let file = File::open(pages).unwrap();
    let read = |place: u64| {
        let mut bytes = vec![0; PAGE];
        file.read_exact_at(&mut bytes, place * PAGE as u64).unwrap();
        bytes
    };
    let root = ROOTS.map(read).into_iter().max_by_key(|root| number(root, 32, 8)).unwrap();
    assert_eq!(&root[..8], b"SEMPERPG");
    let listed = usize::try_from(number(&root, 12, 4)).unwrap();
    let kept = root[128..].chunks_exact(320).take(listed);
    kept.map(|kept| {
        let (place, birth, height) = (number(kept, 16, 8), number(kept, 24, 8), kept[40]);
        let mut blocks = Vec::new();
        if height > 0 {
            walk(&read, Block { place, birth, level: Some(height - 1), segment: 0, page: 0 }, &mut blocks);
        }
        Generation { number: number(kept, 0, 8), blocks }
    })
    .collect()
}

fn walk(read: &dyn Fn(u64) -> Vec<u8>, block: Block, blocks: &mut Vec<Block>) {
    blocks.push(block);
    let Some(level) = block.level else { return };
    let node = read(block.place);
    assert_eq!((&node[..4], node[4]), (&b"SpNd"[..], level), "place {}", block.place);
    let count = usize::try_from(number(&node, 6, 1)).unwrap();
    for slot in node[32..].chunks_exact(32).take(count) {
        let child = Block {
            place: key(slot, 11, 5),
            birth: number(slot, 16, 8),
            level: level.checked_sub(1),
            segment: key(slot, 0, 6),
            page: key(slot, 6, 5),
        };
        walk(read, child, blocks);
    }
}

/// Flips a byte of a block.
pub fn spoil(pages: &Path, block: &Block) {
    let file = File::options().read(true).write(true).open(pages).unwrap();
    let mut byte = [0];
    let at = block.place * PAGE as u64 + 1000;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}
