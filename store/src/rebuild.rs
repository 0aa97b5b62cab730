//! Rebuilding the free map: a walk over every tree that a root lists.

use crate::canary::Canary;
use crate::error::{Error, Fault};
use crate::freemap::{FreeMap, into_runs};
use crate::ids::PAGE_SIZE;
use crate::node::{BlockRef, Node, TreeRef};
use crate::root::FIRST_PLACE;
use crate::shared::{Map, Shared};
use crate::space::{DeadBlock, Space};
use crate::tree::{Reader, read_place};
use crate::width::to_usize;
use std::sync::atomic::{AtomicBool, Ordering};

/// Nodes this near to each other are read at once, with what lies between them.
const NEAR: u64 = 8;

/// The most places to read at once.
const SPAN: u64 = 256;

/// Fills the books of `shared`, if nobody has yet. Generations whose trees do not hold, other than the newest, are
/// dropped from those that are kept.
pub(crate) fn rebuild(shared: &Shared) {
    {
        let mut books = shared.books();
        if !matches!(books.map, Map::Unknown | Map::Failed(_)) {
            return;
        }
        books.map = Map::Walking;
    }
    let map = match walk(shared) {
        Ok(space) => Map::Known(space),
        Err(e) => {
            shared.note_damage(&e);
            Map::Failed(e)
        }
    };
    shared.books().map = map;
    shared.books_changed.notify_all();
}

fn walk(shared: &Shared) -> Result<Space, Error> {
    let mut map = FreeMap::new(shared.current().root.places);
    (0..FIRST_PLACE).for_each(|place| {
        map.mark(place);
    });
    let mut dead = Vec::new();
    let mut newer: Option<u64> = None;
    for kept in &shared.to_walk {
        if newer.is_some() && Canary::WalkNewestOnly.planted(shared.canary) {
            continue;
        }
        let mut walk =
            Walk { reader: shared.reader(kept.generation), map: &mut map, fresh: Vec::new(), first: newer.is_none() };
        match (walk.tree(kept.tree, &shared.closing), newer) {
            (Ok(()), Some(newer)) => dead.push((newer, walk.fresh)),
            (Ok(()), None) => {}
            (Err(e), Some(_)) if e.is_corrupt() => {
                tracing::warn!("generation {} is dropped: {e}", kept.generation);
                let fresh = into_runs(walk.fresh.into_iter().map(|block| block.place).collect());
                fresh.into_iter().for_each(|run| map.release(run));
                shared.amend(|root| root.kept.retain(|other| other.generation != kept.generation));
                continue;
            }
            (Err(e), _) => return Err(e),
        }
        newer = Some(kept.generation);
    }
    // Settling, or a growth, may have gone on meanwhile.
    let root = &shared.current().root;
    map.grow(root.places);
    Ok(Space::new(map, dead, shared.listed_at_open.clone()))
}

/// The walk over one tree.
struct Walk<'a> {
    reader: Reader<'a>,
    map: &'a mut FreeMap,
    /// Places that no newer generation has.
    fresh: Vec<DeadBlock>,
    /// This is the newest generation: nothing can be shared, and a place that is met twice is a fault.
    first: bool,
}

impl Walk<'_> {
    fn tree(&mut self, tree: TreeRef, stop: &AtomicBool) -> Result<(), Error> {
        let mut blocks = Vec::new();
        if tree.height > 0 && self.claim(tree.root)? {
            blocks.push(tree.root);
        }
        // Level by level, so that each level can be read in the order in which it lies on the disk.
        for level in (0..tree.height).rev() {
            blocks.sort_unstable_by_key(|block| block.place);
            let mut below = Vec::new();
            for group in group(&blocks) {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::BadArgument("the store was closed while it was being walked".to_owned()));
                }
                for node in self.read(group, level)? {
                    for slot in node.slots() {
                        if self.claim(slot.block)? && level > 0 {
                            below.push(slot.block);
                        }
                    }
                }
            }
            blocks = below;
        }
        Ok(())
    }

    /// Marks a block as used; false if a newer generation has it, and all that hangs on it.
    fn claim(&mut self, block: BlockRef) -> Result<bool, Error> {
        let fresh = self.map.mark(block.place);
        if fresh && !self.first {
            self.fresh.push(DeadBlock { place: block.place, birth: block.birth });
        }
        if fresh || !self.first {
            return Ok(fresh);
        }
        let reason = "two references meet here".to_owned();
        Err(Error::Corrupt(Fault { generation: self.reader.generation, page: None, place: block.place, reason }))
    }

    fn read(&self, group: &[BlockRef], level: u8) -> Result<Vec<Node>, Error> {
        let first = group[0].place;
        let span = to_usize(group[group.len() - 1].place - first + 1);
        let mut bytes = vec![0; span * PAGE_SIZE];
        match read_place(self.reader.disk, first, &mut bytes) {
            // One by one: it may be something that lies between them that cannot be read.
            Err(e) if e.refused_by_medium().is_some() => {
                return group.iter().map(|block| self.reader.node_from_disk(*block, level)).collect();
            }
            other => other?,
        }
        group
            .iter()
            .map(|block| {
                let mut page = Box::new([0; PAGE_SIZE]);
                page.copy_from_slice(&bytes[to_usize(block.place - first) * PAGE_SIZE..][..PAGE_SIZE]);
                self.reader.check_node(page, *block, level)
            })
            .collect()
    }
}

/// Cuts sorted blocks into groups that are read at once.
fn group(blocks: &[BlockRef]) -> impl Iterator<Item = &[BlockRef]> {
    let mut rest = blocks;
    std::iter::from_fn(move || {
        let first = rest.first()?.place;
        let near = |pair: &[BlockRef]| pair[1].place - pair[0].place <= NEAR && pair[1].place - first < SPAN;
        let len = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (group, others) = rest.split_at(len);
        rest = others;
        Some(group)
    })
}
