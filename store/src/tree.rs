//! Reading a tree: from keys to blocks, and from blocks to checked bytes.

use crate::cache::NodeCache;
use crate::canary::Canary;
use crate::checksum;
use crate::disk::Disk;
use crate::error::{Error, Fault};
use crate::ids::{Generation, PAGE_SIZE, PageIndex, SegmentId};
use crate::lineage::Lineage;
use crate::node::{BlockRef, Key, Node, Slot, TreeRef};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What it takes to read blocks of one store.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub disk: &'a dyn Disk,
    pub cache: &'a NodeCache,
    pub lineage: &'a Lineage,
    /// Places that the store has; references beyond are refused.
    pub places: u64,
    /// Named in faults.
    pub generation: Generation,
    pub canary: Option<Canary>,
}

/// What a walk calls for each present page in order.
pub(crate) type Visitor<'v> = dyn FnMut(Slot) -> Result<ControlFlow<()>, Error> + 'v;

impl Reader<'_> {
    /// The checked node that `block` refers to, from the cache if it is there.
    pub fn node(&self, block: BlockRef, level: u8) -> Result<Arc<Node>, Error> {
        if let Some(node) = self.cache.get(block) {
            return Ok(node);
        }
        let node = Arc::new(self.node_from_disk(block, level)?);
        self.cache.put(Arc::clone(&node));
        Ok(node)
    }

    /// The same, always from the disk, and without touching the cache.
    pub fn node_from_disk(&self, block: BlockRef, level: u8) -> Result<Node, Error> {
        let mut bytes = Box::new([0; PAGE_SIZE]);
        let holds = |bytes: &[u8]| self.node_holds(bytes, block, level);
        self.block(None, block.place, &mut bytes[..], &holds)?;
        self.check_node(bytes, block, level)
    }

    /// Reads one block, of a page or of a tree node; a second time, if the medium refuses it, and then from another copy. What is refused everywhere is
    /// damage like rot: another generation may not need it.
    fn block(
        &self,
        page: Option<(SegmentId, PageIndex)>,
        place: u64,
        out: &mut [u8],
        holds: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), Error> {
        let Err(first) = read_place(self.disk, place, out) else { return Ok(()) };
        let Some(reason) = first.refused_by_medium() else { return Err(first) };
        if read_place(self.disk, place, out).is_ok() || self.mend(place, out, holds) {
            return Ok(());
        }
        Err(Error::Corrupt(Fault { generation: self.generation, page, place, reason }))
    }

    /// Reads a block that does not hold from another copy, if the disk has one, and has it written anew where it is bad.
    fn mend(&self, place: u64, bytes: &mut [u8], holds: &dyn Fn(&[u8]) -> bool) -> bool {
        self.disk.mend(place * PAGE_SIZE as u64, bytes, holds).is_some()
    }

    /// Whether these bytes are the node that `block` refers to.
    pub fn node_holds(&self, bytes: &[u8], block: BlockRef, level: u8) -> bool {
        checksum::of_node(self.lineage.of(block.birth), block.place, block.birth, level, bytes) == block.checksum
    }

    /// Whether these bytes are the page that `slot` refers to.
    pub fn page_holds(&self, bytes: &[u8], slot: &Slot) -> bool {
        let Key { segment, page } = slot.key;
        checksum::of_page(self.lineage.of(slot.block.birth), segment, page, slot.block.birth, bytes)
            == slot.block.checksum
    }

    /// Checks bytes that were read for `block`. Here, and in [`Self::check_page`], what does not hold is looked for in another copy.
    pub fn check_node(&self, mut bytes: Box<crate::ids::Page>, block: BlockRef, level: u8) -> Result<Node, Error> {
        let holds = |bytes: &[u8]| self.node_holds(bytes, block, level);
        if !holds(&bytes[..]) {
            self.mend(block.place, &mut bytes[..], &holds);
        }
        let fault = |reason: &str| Fault {
            generation: self.generation,
            page: None,
            place: block.place,
            reason: reason.to_owned(),
        };
        Node::check(self.lineage, bytes, block, level, self.places).map_err(|reason| Error::Corrupt(fault(reason)))
    }

    /// Calls `visit` for each page with `from <= key < to`, in order, until it breaks.
    pub fn visit(&self, tree: TreeRef, from: Key, to: Key, visit: &mut Visitor<'_>) -> Result<(), Error> {
        if tree.height > 0 && from < to {
            let _ = self.visit_node(tree.root, tree.height - 1, from, to, visit)?;
        }
        Ok(())
    }

    fn visit_node(
        &self,
        block: BlockRef,
        level: u8,
        from: Key,
        to: Key,
        visit: &mut Visitor<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let node = self.node(block, level)?;
        let start = if level == 0 { node.below(from) } else { node.child_for(from) };
        for i in start..node.count() {
            let slot = node.slot(i);
            if slot.key >= to {
                return Ok(ControlFlow::Break(()));
            }
            let flow = if level == 0 { visit(slot)? } else { self.visit_node(slot.block, level - 1, from, to, visit)? };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The first present page at or after `from`.
    pub fn first_from(&self, tree: TreeRef, from: Key, to: Key) -> Result<Option<Key>, Error> {
        let mut found = None;
        self.visit(tree, from, to, &mut |slot| {
            found = Some(slot.key);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Fills `out` with the pages of `segment` from `first` on; absent ones are zeros.
    pub fn read(&self, tree: TreeRef, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), Error> {
        let count = (out.len() / PAGE_SIZE) as u64;
        let from = Key::new(segment, first);
        let to = Key { page: from.page + count, ..from };
        let mut slots: Vec<Slot> = Vec::new();
        self.visit(tree, from, to, &mut |slot| {
            slots.push(slot);
            Ok(ControlFlow::Continue(()))
        })?;
        let mut filled = 0; // bytes of `out` that are done
        for run in slots.chunk_by(adjacent) {
            let start = page_offset(run[0].key.page - first.0);
            out[filled..start].fill(0);
            filled = start + run.len() * PAGE_SIZE;
            self.pages(run, &mut out[start..filled])?;
        }
        out[filled..].fill(0);
        Ok(())
    }

    /// Checks, on the disk, each block of a tree that its generation added, which may be so many.
    pub fn look_at_births(&self, tree: TreeRef, mut most: u64) -> Result<(), Error> {
        if tree.height == 0 {
            return Ok(());
        }
        self.look_at_births_below(tree.root, tree.height - 1, &mut most)
    }

    fn look_at_births_below(&self, block: BlockRef, level: u8, left: &mut u64) -> Result<(), Error> {
        if block.birth != self.generation.0 {
            return Ok(());
        }
        let node = self.node_from_disk(block, level)?;
        let (mut pages, mut buffer) = (Vec::new(), Vec::new());
        for slot in node.slots().filter(|slot| slot.block.birth == self.generation.0) {
            *left = left.checked_sub(1).ok_or_else(|| {
                let reason = "more was added than its root says".to_owned();
                Error::Corrupt(Fault { generation: self.generation, page: None, place: slot.block.place, reason })
            })?;
            match level {
                0 => pages.push(slot),
                _ => self.look_at_births_below(slot.block, level - 1, left)?,
            }
        }
        for run in pages.chunk_by(adjacent) {
            buffer.resize(run.len() * PAGE_SIZE, 0);
            self.pages(run, &mut buffer)?;
        }
        Ok(())
    }

    /// Reads a run of pages that lie side by side into `out`, and checks each.
    pub fn pages(&self, run: &[Slot], out: &mut [u8]) -> Result<(), Error> {
        match read_place(self.disk, run[0].block.place, out) {
            Err(e) if e.refused_by_medium().is_some() => {
                // One by one, so that only the page that cannot be read is said to be damaged.
                for (slot, page) in run.iter().zip(out.chunks_exact_mut(PAGE_SIZE)) {
                    let Key { segment, page: index } = slot.key;
                    let holds = |bytes: &[u8]| self.page_holds(bytes, slot);
                    self.block(Some((SegmentId(segment), PageIndex(index))), slot.block.place, page, &holds)?;
                }
            }
            other => other?,
        }
        for (slot, page) in run.iter().zip(out.chunks_exact_mut(PAGE_SIZE)) {
            self.check_page(slot, page)?;
        }
        Ok(())
    }

    /// Checks bytes that were read for a page.
    pub fn check_page(&self, slot: &Slot, page: &mut [u8]) -> Result<(), Error> {
        let holds = |bytes: &[u8]| self.page_holds(bytes, slot);
        if holds(page) || Canary::TrustPages.planted(self.canary) || self.mend(slot.block.place, page, &holds) {
            return Ok(());
        }
        let Key { segment, page: index } = slot.key;
        Err(Error::Corrupt(Fault {
            generation: self.generation,
            page: Some((SegmentId(segment), PageIndex(index))),
            place: slot.block.place,
            reason: "the checksum does not match".to_owned(),
        }))
    }
}

/// Whether two pages follow each other in their segment and on the disk.
pub(crate) fn adjacent(a: &Slot, b: &Slot) -> bool {
    a.key.segment == b.key.segment && a.key.page + 1 == b.key.page && a.block.place + 1 == b.block.place
}

/// Reads whole places.
pub(crate) fn read_place(disk: &dyn Disk, place: u64, out: &mut [u8]) -> Result<(), Error> {
    disk.read_at(place * PAGE_SIZE as u64, out).map_err(|e| Error::io(format!("read place {place} of the store"), e))
}

fn page_offset(pages: u64) -> usize {
    crate::width::to_usize(pages) * PAGE_SIZE
}
