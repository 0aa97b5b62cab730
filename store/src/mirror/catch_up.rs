//! Bringing a side up to date, by what was committed since it went away, while commits go on.
//!
//! A side that went away has every block that was born up to the last generation that it had all of and is still referred to: such a place
//! is not written again. So the trees are walked past all that is not younger. What is committed meanwhile is written to it as to the others.

use super::folder;
use super::gather::newest_root;
use super::record::Record;
use super::set::{Side, Tally};
use super::site::MIRRORS_FILE;
use crate::canary::Canary;
use crate::disk::{BUFFER_LEN, Disk};
use crate::error::Error;
use crate::freemap::FreeMap;
use crate::hold::Hold;
use crate::ids::PAGE_SIZE;
use crate::node::{BlockRef, Slot};
use crate::pace::Pace;
use crate::recover::read_root;
use crate::root::{FIRST_PLACE, Kept};
use crate::shared::Shared;
use crate::tree::Reader;
use crate::width::to_usize;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Blocks that are gathered before they are copied, in the order in which they lie on the disk.
const BATCH: usize = 16 * 1024;

/// Blocks this near to each other are copied at once, with what lies between them.
const NEAR: u64 = 4;

/// Bytes after which what was copied is flushed: not all at the end, when a commit waits for it.
const FLUSH_EVERY: u64 = 64 << 20;

/// What of a side may be kept.
struct Start {
    disk: Arc<dyn Disk>,
    /// The newest generation that it has all of; none: nothing.
    has: Option<u64>,
}

/// Brings the side `number` up to date, at `rate` bytes in a second if that is limited. Blocks that do not hold on any side are copied as they are, and
/// named: what is lost is lost on all.
pub(super) fn catch_up(
    shared: &Arc<Shared>,
    number: u32,
    rate: Option<u64>,
    kept: folder::Kept<'_>,
) -> Result<(), Error> {
    let set = shared.mirrored()?.set();
    let side = set.side(number).ok_or_else(|| Error::BadArgument("it is no mirror of this store".to_owned()))?;
    if side.tally.busy.swap(true, Ordering::AcqRel) {
        return Err(Error::BadMirror {
            dir: side.place.clone().into(),
            why: "it is being brought up to date already".to_owned(),
        });
    }
    let done = fill(shared, side, rate, kept);
    side.tally.busy.store(false, Ordering::Release);
    if let Err(e) = &done {
        shared.mirrored()?.give_up(number, &e.to_string());
        shared.mirrored()?.note_why(number, &e.to_string());
    }
    done
}

fn fill(shared: &Arc<Shared>, side: &Side, rate: Option<u64>, kept: folder::Kept<'_>) -> Result<(), Error> {
    let mirrored = shared.mirrored()?;
    let start = prepare(shared, side)?;
    side.tally.done.store(0, Ordering::Relaxed);
    side.tally.total.store(0, Ordering::Relaxed);
    side.tally.even.store(false, Ordering::Release);
    let (mut trees, _hold) = {
        let writer = shared.start_writing();
        shared.check_writable()?;
        shared.settle_if_needed()?;
        let _one = shared.start_resizing();
        lengthen(shared, &start.disk, side)?;
        mirrored.join(side.number, &start.disk)?;
        let trees = listed(shared)?;
        // Later generations share blocks with the newest of now, and those are copied by way of its nodes: it may not be given up meanwhile.
        // What an older one shares with it, or with one that is kept, is met there.
        let hold = Hold::of_newest(shared)?;
        drop(writer);
        (trees, hold)
    };
    let kept = folder::keep(mirrored, side.number, kept);
    let kept = kept.map_err(|e| Error::io(format!("look at the journal in {}", side.place), e))?;
    // The newest last: the others may be given up meanwhile.
    trees.reverse();
    let mut copy = Copy {
        shared,
        number: side.number,
        tally: &side.tally,
        disk: &start.disk,
        has: start.has,
        seen: FreeMap::new(shared.current().root.places),
        nodes: Vec::new(),
        pages: Vec::new(),
        counting: true,
        pace: Pace::new(rate),
        unflushed: 0,
        lost: 0,
    };
    let passes: &[bool] = if Canary::AdmitStale.planted(shared.canary) { &[] } else { &[true, false] };
    for &counting in passes {
        copy.counting = counting;
        copy.seen = FreeMap::new(shared.current().root.places);
        trees.iter().try_for_each(|kept| copy.generation(kept))?;
    }
    let copied = folder::copy(mirrored, side.number, &kept, &mut |bytes| copy.copied(bytes).map_err(io::Error::other));
    copied.map_err(|e| Error::io(format!("copy the journal to {}", side.place), e))?;
    start.disk.flush().map_err(|e| Error::io(format!("flush {}", side.place), e))?;
    if copy.lost > 0 {
        tracing::error!(
            "{} blocks that do not hold were copied to {} as they are; semper check names them",
            copy.lost,
            side.place
        );
    }
    let _writer = shared.start_writing();
    shared.check_writable()?;
    let _one = shared.start_resizing();
    mirrored.admit(side.number)?;
    // It may have been away while the store was made smaller. What is too long does no harm.
    let cut = shared.disk.len().and_then(|len| if start.disk.len()? > len { start.disk.cut(len) } else { Ok(()) });
    if let Err(e) = cut {
        tracing::warn!("{} is longer than the store, and cannot be made shorter: {e}", side.place);
    }
    Ok(())
}

/// The store may have grown since the side was opened.
fn lengthen(shared: &Shared, disk: &Arc<dyn Disk>, side: &Side) -> Result<(), Error> {
    let longer = shared.disk.len().and_then(|len| if disk.len()? < len { disk.set_len(len) } else { Ok(()) });
    longer.map_err(|e| Error::io(format!("make {} larger", side.place), e))
}

/// Opens the side, and finds what it has.
fn prepare(shared: &Shared, side: &Side) -> Result<Start, Error> {
    let bad = |why: &str| Error::BadMirror { dir: side.place.clone().into(), why: why.to_owned() };
    side.site.lock()?;
    let set = shared.mirrored()?.set();
    let record = set.record.as_ref().ok_or_else(|| bad("the store has no mirrors"))?;
    let there =
        side.site.note(MIRRORS_FILE).map_err(|e| Error::io(format!("read {MIRRORS_FILE} in {}", side.place), e))?;
    let own = Record::parse(&there.ok_or_else(|| bad("there is no mirror any more"))?).map_err(bad)?;
    if own.store != shared.id() || own.own != side.number {
        return Err(bad("a side of another store lies there"));
    }
    if record.forgot(&own) {
        return Err(bad("it was away for too long: empty it, and add it again"));
    }
    if !record.follows(&own) {
        let one = set.sides[0].place.clone().into();
        return Err(Error::Parted { one, other: side.place.clone().into() });
    }
    let len = shared.disk.len().map_err(|e| Error::io("find the length of the store", e))?;
    side.site.make(len)?;
    let (disk, _) = side.site.open()?;
    if disk.len().map_err(|e| Error::io(format!("find the length of {}", side.place), e))? < len {
        return Err(bad("it is smaller than the store"));
    }
    let root = newest_root(&*disk);
    if root.as_ref().is_some_and(|root| root.id() != shared.id()) {
        return Err(bad("it holds the pages of another store"));
    }
    // A root on it was written when everything that it refers to was durable there. But the newest generation may never have been
    // announced: the others, without it, may have made another one of the same number.
    let has = root.and_then(|root| Some(root.kept.get(1)?.generation));
    Ok(Start { disk, has })
}

/// The generations that either root lists, newest first.
fn listed(shared: &Shared) -> Result<Vec<Kept>, Error> {
    let mut all: Vec<Kept> = shared.current().root.kept.clone();
    for slot in [0, 1] {
        let Ok(root) = read_root(&*shared.disk, slot)? else { continue };
        let new = |kept: &Kept| !all.iter().any(|have| have.generation == kept.generation);
        let more: Vec<Kept> = root.kept.into_iter().filter(new).collect();
        all.extend(more);
    }
    all.sort_by_key(|kept| std::cmp::Reverse(kept.generation));
    Ok(all)
}

struct Copy<'a> {
    shared: &'a Arc<Shared>,
    number: u32,
    tally: &'a Tally,
    disk: &'a Arc<dyn Disk>,
    has: Option<u64>,
    seen: FreeMap,
    /// Places of nodes to be copied, which were read and hold.
    nodes: Vec<u64>,
    pages: Vec<Slot>,
    /// Only what there is to be done is counted.
    counting: bool,
    pace: Pace,
    unflushed: u64,
    lost: u64,
}

impl Copy<'_> {
    fn generation(&mut self, kept: &Kept) -> Result<(), Error> {
        let shared = Arc::clone(self.shared);
        let reader = shared.reader(kept.generation);
        if kept.tree.height > 0 && self.claim(kept.tree.root) {
            self.node(&reader, kept.tree.root, kept.tree.height - 1)?;
        }
        self.batch(&reader)
    }

    /// Whether a block is to be copied, and was not met yet.
    fn claim(&mut self, block: BlockRef) -> bool {
        // What lies beyond the end belongs to a generation that was given up when the store was made smaller.
        self.has.is_none_or(|has| block.birth > has)
            && self.seen.meet(self.shared.current().root.places, block.place) == Some(true)
    }

    fn node(&mut self, reader: &Reader<'_>, block: BlockRef, level: u8) -> Result<(), Error> {
        let node = match reader.node_from_disk(block, level) {
            Ok(node) => node,
            Err(e) => return self.fault(reader, e),
        };
        self.nodes.push(block.place);
        self.shared.go_on()?;
        for slot in node.slots() {
            if !self.claim(slot.block) {
                continue;
            }
            if level == 0 {
                self.pages.push(slot);
            } else {
                self.node(reader, slot.block, level - 1)?;
            }
        }
        if self.nodes.len() + self.pages.len() >= BATCH { self.batch(reader) } else { Ok(()) }
    }

    /// A block that does not hold: of a generation that was given up meanwhile nothing is needed any more.
    fn fault(&mut self, reader: &Reader<'_>, e: Error) -> Result<(), Error> {
        if !e.is_corrupt() {
            return Err(e);
        }
        if self.shared.current().root.find(reader.generation).is_some() && !self.counting {
            tracing::error!("{e}");
            self.lost += 1;
        }
        Ok(())
    }

    fn batch(&mut self, reader: &Reader<'_>) -> Result<(), Error> {
        let (mut places, mut pages) = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.pages));
        if self.counting {
            let bytes = (places.len() + pages.len()) as u64 * PAGE_SIZE as u64;
            self.tally.total.fetch_add(bytes, Ordering::Relaxed);
            return Ok(());
        }
        // Each page is checked, and mended if a third side has it.
        pages.sort_unstable_by_key(|slot| slot.block.place);
        let mut page = vec![0; PAGE_SIZE];
        for slot in &pages {
            if let Err(e) = reader.pages(&[*slot], &mut page) {
                self.fault(reader, e)?;
            }
        }
        places.extend(pages.iter().map(|slot| slot.block.place));
        places.sort_unstable();
        let most = (BUFFER_LEN / PAGE_SIZE) as u64;
        // What lies between is copied along only to a side that has nothing: its own may be the better one.
        let reach = if self.has.is_none() { NEAR } else { 1 };
        let mut rest = &places[..];
        while let Some(first) = rest.first() {
            let near = |pair: &[u64]| pair[1] - pair[0] <= reach && pair[1] - first < most;
            let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            self.run(*first, rest[count - 1] - first + 1, count as u64)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn run(&mut self, first: u64, span: u64, blocks: u64) -> Result<(), Error> {
        debug_assert!(first >= FIRST_PLACE, "the roots are copied last");
        let failed = |e| Error::io("bring the mirror up to date", e);
        let (offset, len) = (first * PAGE_SIZE as u64, to_usize(span) * PAGE_SIZE);
        self.shared.mirrored()?.copy_to(self.number, offset, len).map_err(failed)?;
        self.unflushed += len as u64;
        if self.unflushed >= FLUSH_EVERY {
            self.disk.flush().map_err(failed)?;
            self.unflushed = 0;
        }
        self.copied(blocks * PAGE_SIZE as u64)
    }

    fn copied(&self, bytes: u64) -> Result<(), Error> {
        self.pace.wait(self.tally.done.fetch_add(bytes, Ordering::Relaxed) + bytes, || self.shared.go_on())
    }
}
