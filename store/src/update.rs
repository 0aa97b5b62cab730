//! Making the tree of the next generation: one pass from left to right over what changes.
//!
//! Each level has a window of slots that are not in a node yet. A node is written as soon as its window is full, and its
//! reference moves up into the window above, so the memory needed does not grow with the commit. An untouched subtree is
//! passed by reference, once the windows below it can be closed without leaving a node that is too small; else it is
//! taken into the stream too. The pass costs what is touched.

use crate::error::Error;
use crate::node::{BlockRef, CAPACITY, Key, MAX_HEIGHT, MINIMUM, Node, Slot, TreeRef};
use crate::space::DeadBlock;
use crate::tree::Reader;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// What a commit wants of a page: a new block, or none.
pub(crate) type Puts = BTreeMap<Key, Option<BlockRef>>;

/// Where the new nodes go.
pub(crate) trait NodeSink {
    /// Writes a node of `level` with `slots`; says where.
    fn emit(&mut self, level: u8, slots: &[Slot]) -> Result<BlockRef, Error>;
}

/// Keys that are removed: disjoint ranges `start -> end`.
#[derive(Default, Debug)]
pub(crate) struct Removed(BTreeMap<Key, Key>);

impl Removed {
    /// Adds `from..to`.
    pub fn add(&mut self, mut from: Key, mut to: Key) {
        // Every range that touches the new one is swallowed by it.
        while let Some((&start, &end)) = self.0.range(..=to).next_back().filter(|(_, end)| **end >= from) {
            self.0.remove(&start);
            from = from.min(start);
            to = to.max(end);
        }
        self.0.insert(from, to);
    }

    /// Whether any key of `from..to` (to the end, if `to` is none) is removed.
    pub fn touches(&self, from: Key, to: Option<Key>) -> bool {
        let last = match to {
            Some(to) => self.0.range(..to).next_back(),
            None => self.0.last_key_value(),
        };
        last.is_some_and(|(_, end)| *end > from)
    }

    fn covers(&self, key: Key) -> bool {
        self.0.range(..=key).next_back().is_some_and(|(_, end)| *end > key)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What an update did.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Blocks of the old tree that the new one has no more.
    pub dead: Vec<DeadBlock>,
    /// Pages present: those that came and those that went.
    pub pages_added: u64,
    pub pages_removed: u64,
    pub nodes_added: u64,
    pub nodes_removed: u64,
}

/// The pass. Make it, then [`Update::run`].
pub(crate) struct Update<'a> {
    reader: Reader<'a>,
    puts: Peekable<btree_map::Iter<'a, Key, Option<BlockRef>>>,
    removed: &'a Removed,
    windows: Vec<Vec<Slot>>,
    sink: &'a mut dyn NodeSink,
    outcome: Outcome,
}

impl<'a> Update<'a> {
    pub fn new(reader: Reader<'a>, puts: &'a Puts, removed: &'a Removed, sink: &'a mut dyn NodeSink) -> Self {
        let windows = vec![Vec::new(); usize::from(MAX_HEIGHT) + 2];
        Self { reader, puts: puts.iter().peekable(), removed, windows, sink, outcome: Outcome::default() }
    }

    /// Makes the tree that has the puts over what is left of `tree`.
    pub fn run(mut self, tree: TreeRef) -> Result<(TreeRef, Outcome), Error> {
        if tree.height > 0 {
            self.take(tree.root, tree.height - 1, Key::MIN, None)?;
        }
        while let Some((key, new)) = self.puts.next() {
            self.put(*key, *new)?;
        }
        let tree = self.finish()?;
        Ok((tree, self.outcome))
    }

    /// Takes the node for the keys `from..to` into the stream.
    fn take(&mut self, block: BlockRef, level: u8, from: Key, to: Option<Key>) -> Result<(), Error> {
        let node = self.reader.node(block, level)?;
        self.outcome.dead.push(DeadBlock { place: block.place, birth: block.birth });
        self.outcome.nodes_removed += 1;
        if level == 0 {
            return self.take_leaf(&node, to);
        }
        for i in 0..node.count() {
            let child = node.slot(i);
            let start = if i == 0 { from } else { child.key };
            let end = if i + 1 < node.count() { Some(node.key(i + 1)) } else { to };
            if self.touched(start, end) || !self.can_close(level - 1) {
                self.take(child.block, level - 1, start, end)?;
            } else {
                for below in 0..level {
                    self.close(below)?;
                }
                self.push(level, child)?;
            }
        }
        Ok(())
    }

    fn take_leaf(&mut self, node: &Node, to: Option<Key>) -> Result<(), Error> {
        for slot in node.slots() {
            let mut replaced = false;
            while let Some((key, new)) = self.puts.next_if(|(key, _)| **key <= slot.key) {
                replaced |= *key == slot.key;
                self.put(*key, *new)?;
            }
            if replaced || self.removed.covers(slot.key) {
                self.outcome.dead.push(DeadBlock { place: slot.block.place, birth: slot.block.birth });
                self.outcome.pages_removed += 1;
            } else {
                self.push(0, slot)?;
            }
        }
        while let Some((key, new)) = self.puts.next_if(|(key, _)| to.is_none_or(|to| **key < to)) {
            self.put(*key, *new)?;
        }
        Ok(())
    }

    fn put(&mut self, key: Key, new: Option<BlockRef>) -> Result<(), Error> {
        let Some(block) = new else { return Ok(()) };
        self.outcome.pages_added += 1;
        self.push(0, Slot { key, block })
    }

    /// Whether anything changes in `from..to`. Everything before `from` has been done.
    fn touched(&mut self, from: Key, to: Option<Key>) -> bool {
        let put = self.puts.peek().is_some_and(|(key, _)| to.is_none_or(|to| **key < to));
        put || self.removed.touches(from, to)
    }

    fn push(&mut self, level: u8, slot: Slot) -> Result<(), Error> {
        let window = &mut self.windows[usize::from(level)];
        debug_assert!(window.last().is_none_or(|last| last.key < slot.key), "the stream is in order");
        window.push(slot);
        // One node's worth stays behind, so that the last two can share evenly.
        if window.len() == 2 * CAPACITY { self.emit(level, CAPACITY) } else { Ok(()) }
    }

    /// Writes the first `count` slots of a window as a node.
    fn emit(&mut self, level: u8, count: usize) -> Result<(), Error> {
        let window = &mut self.windows[usize::from(level)];
        let rest = window.split_off(count);
        let slots = std::mem::replace(window, rest);
        let block = self.sink.emit(level, &slots)?;
        self.outcome.nodes_added += 1;
        self.push(level + 1, Slot { key: slots[0].key, block })
    }

    /// Writes all of a window.
    fn close(&mut self, level: u8) -> Result<(), Error> {
        match self.windows[usize::from(level)].len() {
            0 => Ok(()),
            n if n <= CAPACITY => self.emit(level, n),
            n => {
                self.emit(level, n.div_ceil(2))?;
                self.emit(level, n / 2)
            }
        }
    }

    /// Whether the windows up to `level` can be closed without leaving a small node.
    fn can_close(&self, level: u8) -> bool {
        let mut from_below = 0;
        for window in &self.windows[..=usize::from(level)] {
            let slots = window.len() + from_below;
            if slots != 0 && slots < MINIMUM {
                return false;
            }
            from_below = slots.div_ceil(CAPACITY);
        }
        true
    }

    fn finish(&mut self) -> Result<TreeRef, Error> {
        for level in 0..=MAX_HEIGHT {
            let (here, above) = self.windows[usize::from(level)..].split_first().expect("more windows than levels");
            let top = above.iter().all(Vec::is_empty);
            match (top, here.len()) {
                (true, 0) => return Ok(TreeRef::EMPTY),
                // A single subtree is the tree.
                (true, 1) if level > 0 => return Ok(TreeRef { root: here[0].block, height: level }),
                _ => self.close(level)?,
            }
        }
        unreachable!("a tree of {MAX_HEIGHT} levels of at least {MINIMUM} slots holds more pages than there are keys")
    }
}
