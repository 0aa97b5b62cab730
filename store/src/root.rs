//! The two root slots, and what one holds.

use crate::checksum;
use crate::ids::{Generation, PAGE_SIZE, Page, StoreId};
use crate::lineage::{LINEAGE_LEN, Lineage};
use crate::node::{BlockRef, MAX_HEIGHT, TreeRef};
use crate::width::{put_u32, put_u64, to_usize, u32_at, u64_at};

/// The newest version of the format that this crate reads. It writes the oldest one that can say what there is to say.
pub const FORMAT_VERSION: u32 = 3;

/// The version of a store all of whose blocks are its own.
const PLAIN_VERSION: u32 = 1;

/// The version of one that was forked, and of which all is durable that a root refers to.
const FORKED_VERSION: u32 = 2;

/// Bytes of the user area of a generation.
pub const ATTRIBUTES_LEN: usize = 256;

/// The most generations that a root can list.
pub const MAX_KEPT: usize = 12;

/// The fewest generations that are kept, however short space runs: the newest, and the one that it can fall back to.
pub const MIN_KEPT: usize = 2;

/// The most blocks that a generation adds without a flush before its root: whoever opens the store reads them all.
pub(crate) const MOST_UNFLUSHED: u64 = 1024;

/// The first place that pages and nodes may take; those before are for the roots.
pub(crate) const FIRST_PLACE: u64 = 256;

/// Where the two roots lie, in pages: apart, so that damage to one neighbourhood of the disk does not take both.
pub(crate) const SLOT_PLACES: [u64; 2] = [0, 128];

const MAGIC: [u8; 8] = *b"SEMPERPG";
const HEADER_LEN: usize = 128;
const KEPT_LEN: usize = 64 + ATTRIBUTES_LEN;
const CHECKSUM_AT: usize = PAGE_SIZE - 8;

/// Where the ancestors lie, in version 2.
const LINEAGE_AT: usize = HEADER_LEN + MAX_KEPT * KEPT_LEN;

const _: () = assert!(LINEAGE_AT + LINEAGE_LEN <= CHECKSUM_AT);

/// A generation that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub generation: u64,
    /// Nanoseconds since 1970.
    pub committed_at: u64,
    pub tree: TreeRef,
    /// Pages that are present (not zero).
    pub pages: u64,
    /// Nodes of the tree.
    pub nodes: u64,
    pub attributes: [u8; ATTRIBUTES_LEN],
}

/// A root that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub lineage: Lineage,
    /// Counts root writes; the greater one is the newer one.
    pub sequence: u64,
    /// The highest generation number that was ever committed: the next commit takes a higher one.
    pub highest: u64,
    pub places: u64,
    /// Places in use when it was written, roots included.
    pub used: u64,
    /// How many generations to keep.
    pub keep: usize,
    /// Blocks of other stores may not lie in this one yet, but in the one that it was forked from.
    pub borrows: bool,
    /// Nothing was flushed between what the newest generation added and this root: only who finds all of that may take it.
    pub unflushed: bool,
    /// Newest first; never empty.
    pub kept: Vec<Kept>,
}

/// Why a slot holds no root to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadRoot {
    Empty,
    Foreign,
    Version(u32),
    Damaged(&'static str),
    Unreadable(String),
}

impl std::fmt::Display for BadRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::Foreign => write!(f, "it holds something else"),
            Self::Version(v) => write!(f, "it says format version {v}"),
            Self::Damaged(why) => write!(f, "it is damaged ({why})"),
            Self::Unreadable(why) => write!(f, "it cannot be read ({why})"),
        }
    }
}

impl Root {
    /// The store that it is a root of.
    pub const fn id(&self) -> StoreId {
        self.lineage.id()
    }

    pub fn newest(&self) -> &Kept {
        &self.kept[0]
    }

    /// The generations that it lists, newest first.
    pub fn listed(&self) -> Vec<u64> {
        self.kept.iter().map(|kept| kept.generation).collect()
    }

    pub fn find(&self, generation: Generation) -> Option<&Kept> {
        self.kept.iter().find(|kept| kept.generation == generation.0)
    }

    /// The root that is written after this one, to be changed: what this one lists was flushed with it.
    pub fn next(&self) -> Self {
        Self { sequence: self.sequence + 1, unflushed: false, ..self.clone() }
    }

    /// The oldest version that can say what it says.
    const fn version(&self) -> u32 {
        match self {
            Self { unflushed: true, .. } => FORMAT_VERSION,
            Self { lineage, .. } if lineage.is_plain() => PLAIN_VERSION,
            _ => FORKED_VERSION,
        }
    }

    pub fn encode(&self, slot: usize) -> Box<Page> {
        assert!((1..=MAX_KEPT).contains(&self.kept.len()), "a root lists 1 to {MAX_KEPT} generations");
        let mut page = Box::new([0; PAGE_SIZE]);
        let b = &mut page[..];
        b[..8].copy_from_slice(&MAGIC);
        put_u32(b, 8, self.version());
        put_u32(b, 12, count(self.kept.len()));
        b[16..32].copy_from_slice(&self.id().0);
        put_u64(b, 32, self.sequence);
        put_u64(b, 40, self.highest);
        put_u64(b, 48, self.places);
        put_u64(b, 56, self.used);
        put_u32(b, 64, count(self.keep));
        put_u32(b, 68, u32::from(self.borrows));
        put_u32(b, 72, u32::from(self.unflushed));
        for (raw, kept) in b[HEADER_LEN..].chunks_exact_mut(KEPT_LEN).zip(&self.kept) {
            put_u64(raw, 0, kept.generation);
            put_u64(raw, 8, kept.committed_at);
            put_u64(raw, 16, kept.tree.root.place);
            put_u64(raw, 24, kept.tree.root.birth);
            put_u64(raw, 32, kept.tree.root.checksum);
            raw[40] = kept.tree.height;
            put_u64(raw, 48, kept.pages);
            put_u64(raw, 56, kept.nodes);
            raw[64..].copy_from_slice(&kept.attributes);
        }
        self.lineage.encode(&mut b[LINEAGE_AT..CHECKSUM_AT]);
        let sum = checksum::of_root(self.id(), slot as u64, self.sequence, &page[..CHECKSUM_AT]);
        put_u64(&mut page[..], CHECKSUM_AT, sum);
        page
    }

    pub fn decode(page: &Page, slot: usize) -> Result<Self, BadRoot> {
        let b = &page[..];
        if checksum::is_zero(b) {
            return Err(BadRoot::Empty);
        }
        if b[..8] != MAGIC {
            return Err(BadRoot::Foreign);
        }
        let version = u32_at(b, 8);
        if !(PLAIN_VERSION..=FORMAT_VERSION).contains(&version) {
            return Err(BadRoot::Version(version));
        }
        let mut id = StoreId([0; 16]);
        id.0.copy_from_slice(&b[16..32]);
        let sequence = u64_at(b, 32);
        if checksum::of_root(id, slot as u64, sequence, &b[..CHECKSUM_AT]) != u64_at(b, CHECKSUM_AT) {
            return Err(BadRoot::Damaged("the checksum does not match"));
        }
        let listed = to_usize(u64::from(u32_at(b, 12)));
        if !(1..=MAX_KEPT).contains(&listed) {
            return Err(BadRoot::Damaged("an impossible number of generations"));
        }
        let kept: Vec<Kept> = b[HEADER_LEN..].chunks_exact(KEPT_LEN).take(listed).map(decode_kept).collect();
        let inherited = &b[LINEAGE_AT..CHECKSUM_AT];
        let lineage = if version == PLAIN_VERSION { Some(Lineage::new(id)) } else { Lineage::decode(id, inherited) };
        let root = Self {
            lineage: lineage.ok_or(BadRoot::Damaged("impossible ancestors"))?,
            sequence,
            highest: u64_at(b, 40),
            places: u64_at(b, 48),
            used: u64_at(b, 56),
            keep: to_usize(u64::from(u32_at(b, 64))),
            borrows: version != PLAIN_VERSION && u32_at(b, 68) != 0,
            unflushed: version == FORMAT_VERSION && u32_at(b, 72) != 0,
            kept,
        };
        root.check_form()?;
        Ok(root)
    }

    fn check_form(&self) -> Result<(), BadRoot> {
        let descending = self.kept.windows(2).all(|pair| pair[0].generation > pair[1].generation);
        if !descending || self.highest < self.newest().generation {
            return Err(BadRoot::Damaged("the generations are out of order"));
        }
        if !(MIN_KEPT..=MAX_KEPT).contains(&self.keep) || self.places <= FIRST_PLACE {
            return Err(BadRoot::Damaged("impossible numbers"));
        }
        // Its commits must not make what would pass for a block of another store.
        if self.lineage.inherited().is_some_and(|until| until > self.highest) {
            return Err(BadRoot::Damaged("impossible ancestors"));
        }
        let fits = |tree: &TreeRef| {
            tree.height == 0 || tree.height <= MAX_HEIGHT && (FIRST_PLACE..self.places).contains(&tree.root.place)
        };
        if !self.kept.iter().all(|kept| fits(&kept.tree) && kept.tree.root.birth <= kept.generation) {
            return Err(BadRoot::Damaged("a tree that cannot be"));
        }
        Ok(())
    }
}

fn decode_kept(raw: &[u8]) -> Kept {
    let mut attributes = [0; ATTRIBUTES_LEN];
    attributes.copy_from_slice(&raw[64..KEPT_LEN]);
    let root = BlockRef { place: u64_at(raw, 16), birth: u64_at(raw, 24), checksum: u64_at(raw, 32) };
    Kept {
        generation: u64_at(raw, 0),
        committed_at: u64_at(raw, 8),
        tree: TreeRef { root, height: raw[40] },
        pages: u64_at(raw, 48),
        nodes: u64_at(raw, 56),
        attributes,
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("at most MAX_KEPT")
}
