//! What differs between two generations, in order, at the cost of what differs.

use crate::error::Error;
use crate::ids::{Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId};
use crate::node::{BlockRef, Key, Node, Slot, TreeRef};
use crate::root::Kept;
use crate::shared::Shared;
use crate::store::Store;
use crate::tree::{Reader, read_place};
use crate::width::to_usize;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Pages that are read at once, in the order in which they lie on the disk: 4 MiB.
const BATCH: usize = 1024;
/// Pages this near to each other are read by one call.
const NEAR: u64 = 4;
/// The most places to read by one call.
const SPAN: u64 = 256;

/// One difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// Pages with their content, a whole number of them, none of zeros.
    Pages {
        /// Their segment.
        segment: SegmentId,
        /// The first of them.
        first: PageIndex,
        /// What they hold.
        data: &'a [u8],
    },
    /// Pages that are not there any more. Those between them may never have been there.
    Removed {
        /// Their segment.
        segment: SegmentId,
        /// From the first to the last.
        range: PageRange,
    },
}

/// What is called with each difference, until it breaks.
pub type ChangeVisitor<'v> = dyn FnMut(Change<'_>) -> ControlFlow<()> + 'v;

impl Store {
    /// Calls `visit` with what has to be done to `from` to make it `to`, in order of segment and page; without `from` with all that `to` holds. Parts
    /// of the trees that both share are not read. Each page is checked.
    ///
    /// Both have to stay kept meanwhile ([`Store::hold`]).
    ///
    /// # Errors
    /// [`Error::NoSuchGeneration`], [`Error::Corrupt`], what the host says.
    pub fn changes(
        &self,
        from: Option<Generation>,
        to: Generation,
        visit: &mut ChangeVisitor<'_>,
    ) -> Result<(), Error> {
        let old = match from {
            Some(from) => self.at(from, |_, kept| Ok(kept.clone()))?,
            None => Kept { tree: TreeRef::EMPTY, ..self.at(to, |_, kept| Ok(kept.clone()))? },
        };
        let done = self.at(to, |shared, new| walk(shared, &old, new, visit));
        // What looks rotten may be a generation that was given up meanwhile.
        done.map_err(|e| if e.is_corrupt() { from.and_then(|from| self.missing(from)).unwrap_or(e) } else { e })
    }
}

fn walk(shared: &Shared, old: &Kept, new: &Kept, visit: &mut ChangeVisitor<'_>) -> Result<(), Error> {
    let mut old = Cursor::new(shared.reader(old.generation), old.tree);
    let mut new = Cursor::new(shared.reader(new.generation), new.tree);
    let mut out = Out { reader: new.reader, slots: Vec::new(), removed: None, buffer: Vec::new(), visit };
    loop {
        let flow = match (old.head(), new.head()) {
            (None, None) => return out.finish(),
            (Some(a), Some(b)) if a.slot.block == b.slot.block && a.level == b.level => {
                old.pass();
                new.pass();
                out.flush_removed()
            }
            (Some(a), b) if a.level > 0 && b.is_none_or(|b| a.opens_before(b)) => old.descend()?,
            (a, Some(b)) if b.level > 0 && a.is_none_or(|a| b.opens_before(a)) => new.descend()?,
            (Some(a), b) if b.is_none_or(|b| a.slot.key < b.slot.key) => {
                old.pass();
                out.remove(a.slot.key)?
            }
            (a, b) => {
                if a.is_some_and(|a| b.is_some_and(|b| a.slot.key == b.slot.key)) {
                    old.pass();
                }
                new.pass();
                b.map_or(Ok(ControlFlow::Continue(())), |b| out.put(b.slot))?
            }
        };
        if flow.is_break() {
            return Ok(());
        }
    }
}

/// A page or a subtree that comes next.
#[derive(Clone, Copy)]
struct Head {
    slot: Slot,
    /// 0: a page. Else a node of level `level - 1`.
    level: u8,
}

impl Head {
    /// Whether a node has to be opened before the other tree's head is dealt with: it may hold the smaller key. Of two that begin
    /// alike the higher one goes first, so that subtrees which both trees share meet.
    fn opens_before(self, other: Self) -> bool {
        let (key, others) = (self.slot.key, other.slot.key);
        key < others || key == others && self.level >= other.level
    }
}

/// A walk over a tree that can pass over subtrees.
struct Cursor<'a> {
    reader: Reader<'a>,
    /// From the root down: a node, which of its slots comes next, and the level of those. None is at its end.
    path: Vec<(Arc<Node>, usize, u8)>,
    root: Option<Head>,
}

impl<'a> Cursor<'a> {
    fn new(reader: Reader<'a>, tree: TreeRef) -> Self {
        let root =
            (tree.height > 0).then_some(Head { slot: Slot { key: Key::MIN, block: tree.root }, level: tree.height });
        Self { reader, path: Vec::new(), root }
    }

    fn head(&self) -> Option<Head> {
        if self.root.is_some() {
            return self.root;
        }
        self.path.last().map(|(node, at, level)| Head { slot: node.slot(*at), level: *level })
    }

    /// Goes on behind the head.
    fn pass(&mut self) {
        if self.root.take().is_some() {
            return;
        }
        if let Some((node, at, _)) = self.path.last_mut() {
            *at += 1;
            if *at == node.count() {
                self.path.pop();
            }
        }
    }

    /// Goes into the head, which is a node: its first slot is the head then.
    fn descend(&mut self) -> Result<ControlFlow<()>, Error> {
        if let Some(head) = self.head() {
            let node = self.reader.node(head.slot.block, head.level - 1)?;
            self.pass();
            if node.count() > 0 {
                self.path.push((node, 0, head.level - 1));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Gathers differences into runs.
struct Out<'a, 'v> {
    reader: Reader<'a>,
    /// Pages to be read, in order of their keys.
    slots: Vec<Slot>,
    /// First and last key.
    removed: Option<(Key, Key)>,
    buffer: Vec<u8>,
    visit: &'a mut ChangeVisitor<'v>,
}

impl Out<'_, '_> {
    fn put(&mut self, slot: Slot) -> Result<ControlFlow<()>, Error> {
        if self.flush_removed().is_break() {
            return Ok(ControlFlow::Break(()));
        }
        self.slots.push(slot);
        if self.slots.len() == BATCH { self.flush_pages() } else { Ok(ControlFlow::Continue(())) }
    }

    fn remove(&mut self, key: Key) -> Result<ControlFlow<()>, Error> {
        if self.flush_pages()?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if let Some((first, last)) = &mut self.removed
            && first.segment == key.segment
        {
            *last = key;
            return Ok(ControlFlow::Continue(()));
        }
        let flow = self.flush_removed();
        self.removed = Some((key, key));
        Ok(flow)
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.flush_removed().is_continue() {
            let _ = self.flush_pages()?;
        }
        Ok(())
    }

    fn flush_removed(&mut self) -> ControlFlow<()> {
        let Some((first, last)) = self.removed.take() else { return ControlFlow::Continue(()) };
        let range = PageRange::between(first.page, last.page + 1);
        (self.visit)(Change::Removed { segment: SegmentId(first.segment), range })
    }

    fn flush_pages(&mut self) -> Result<ControlFlow<()>, Error> {
        let slots = std::mem::take(&mut self.slots);
        self.buffer.resize(slots.len() * PAGE_SIZE, 0);
        gather(&self.reader, &slots, &mut self.buffer)?;
        let mut at = 0;
        for run in slots.chunk_by(|a, b| a.key.segment == b.key.segment && a.key.page + 1 == b.key.page) {
            let data = &self.buffer[at..at + run.len() * PAGE_SIZE];
            at += data.len();
            let Key { segment, page } = run[0].key;
            let change = Change::Pages { segment: SegmentId(segment), first: PageIndex(page), data };
            if (self.visit)(change).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Reads and checks pages in the order in which they lie on the disk; `out` has them in the order of `slots`.
fn gather(reader: &Reader<'_>, slots: &[Slot], out: &mut [u8]) -> Result<(), Error> {
    let mut order: Vec<(usize, BlockRef)> = slots.iter().map(|slot| slot.block).enumerate().collect();
    order.sort_unstable_by_key(|(_, block)| block.place);
    let mut bytes = Vec::new();
    let near = |a: &(usize, BlockRef), b: &(usize, BlockRef)| b.1.place.saturating_sub(a.1.place) <= NEAR;
    for group in order.chunk_by(near).flat_map(|group| group.chunks(to_usize(SPAN) / to_usize(NEAR))) {
        let (first, last) = (group[0].1.place, group[group.len() - 1].1.place);
        bytes.resize(to_usize(last - first + 1) * PAGE_SIZE, 0);
        let whole = read_place(reader.disk, first, &mut bytes);
        for (at, block) in group {
            let page = &mut out[at * PAGE_SIZE..][..PAGE_SIZE];
            if whole.is_ok() {
                page.copy_from_slice(&bytes[to_usize(block.place - first) * PAGE_SIZE..][..PAGE_SIZE]);
                reader.check_page(&slots[*at], page)?;
            } else {
                // One by one: it may be something that lies between them that cannot be read.
                reader.pages(&[slots[*at]], page)?;
            }
        }
    }
    Ok(())
}
