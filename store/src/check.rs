//! Reading and verifying everything.

use crate::error::{Error, Fault};
use crate::freemap::FreeMap;
use crate::ids::{Generation, PAGE_SIZE, PageIndex, SegmentId};
use crate::mend::Block;
use crate::node::{BlockRef, Node, Slot};
use crate::recover::read_root;
use crate::root::{FIRST_PLACE, Kept, Root};
use crate::shared::{Map, Shared};
use crate::store::{GenerationInfo, Store, info};
use crate::tree::Reader;
use crate::width::to_usize;
use std::collections::VecDeque;

/// Pages that are gathered before they are read, in the order in which they lie on the disk.
const BATCH: usize = 32 * 1024;

/// Pages this near to each other are read at once.
const NEAR: u64 = 4;

/// The most places to read at once.
const SPAN: u64 = 256;

/// Groups of pages that are asked for before they are read: so many MiB at most are on their way.
const AHEAD: usize = 8;

/// Faults that are listed; more are counted.
const LISTED_FAULTS: usize = 10_000;

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckProgress {
    /// The generation being read.
    pub generation: Generation,
    /// Pages and nodes read.
    pub blocks_done: u64,
    /// About how many there are.
    pub blocks_total: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The generations that were read, newest first.
    pub generations: Vec<GenerationInfo>,
    /// Pages read; those that several generations share count once.
    pub pages: u64,
    /// Tree nodes read.
    pub nodes: u64,
    /// What does not hold, each with the newest generation that it belongs to.
    pub faults: Vec<Fault>,
    /// Faults beyond those that are listed.
    pub more_faults: u64,
    /// What does not hold on some sides of a mirrored store, and on another does: nothing is lost, and [`Store::mend`] puts it right.
    pub rotten: Vec<Rotten>,
    /// Generations that a live runtime gave up while they were read; nothing is said about these.
    pub superseded: Vec<Generation>,
    /// Whether every page in use is marked as used; none if that could not be told (a handle for reading, or a commit
    /// meanwhile).
    pub free_map_holds: Option<bool>,
    /// What is worth knowing and no fault: a root that a crash has torn.
    pub notes: Vec<String>,
}

/// A block that is rotten on some sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotten {
    /// Which one, and where.
    pub fault: Fault,
    /// What it should be.
    pub block: Block,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.rotten.is_empty() && self.free_map_holds != Some(false)
    }
}

impl Store {
    /// Reads and verifies everything of every kept generation. May run beside commits, and on a handle for reading beside a
    /// live runtime: a generation that is given up meanwhile is named, and never taken for a fault.
    pub fn check(&self, progress: &mut dyn FnMut(CheckProgress)) -> CheckReport {
        self.check_from(None, progress)
    }

    /// The same of `newest` and what is older. If somebody holds that ([`Store::hold`]), all of it is read, however long that takes.
    pub fn check_from(&self, newest: Option<Generation>, progress: &mut dyn FnMut(CheckProgress)) -> CheckReport {
        // A map that cannot be made shows as faults below.
        let _ = if self.shared.read_only { self.refresh() } else { self.wait_for_map() };
        let start = self.shared.current();
        let root = &start.root;
        let of = |kept: &&Kept| newest.is_none_or(|newest| kept.generation <= newest.0);
        let mut check = Check {
            shared: &self.shared,
            seen: FreeMap::new(root.places),
            batch: Vec::new(),
            report: CheckReport {
                generations: root.kept.iter().filter(of).map(info).collect(),
                ..CheckReport::default()
            },
            progress,
            total: root.used.saturating_sub(FIRST_PLACE),
        };
        check.roots();
        for told in &self.recovery().fallen_back {
            if !check.report.notes.contains(told) {
                check.report.notes.push(told.clone());
            }
        }
        for kept in root.kept.iter().filter(of) {
            check.generation(kept);
        }
        let seen = check.seen;
        let mut report = check.report;
        self.forgive(&mut report);
        if !self.shared.read_only {
            report.free_map_holds = self.compare_map(root, &seen);
        }
        report
    }

    /// Takes back what was said about generations that are kept no longer.
    fn forgive(&self, report: &mut CheckReport) {
        if report.faults.is_empty() && report.rotten.is_empty() && !self.shared.read_only {
            return;
        }
        for info in &report.generations {
            if self.missing(info.generation).is_some() {
                report.superseded.push(info.generation);
            }
        }
        let gone = &report.superseded;
        report.faults.retain(|fault| !gone.contains(&fault.generation));
        report.rotten.retain(|rotten| !gone.contains(&rotten.fault.generation));
    }

    fn compare_map(&self, root: &Root, seen: &FreeMap) -> Option<bool> {
        let books = self.shared.books();
        let Map::Known(space) = &books.map else { return None };
        if self.shared.current().root.sequence != root.sequence {
            return None;
        }
        Some((0..root.places).all(|place| !seen.is_used(place) || space.map().is_used(place)))
    }
}

struct Check<'a> {
    shared: &'a Shared,
    seen: FreeMap,
    /// Pages to be read.
    batch: Vec<Slot>,
    report: CheckReport,
    progress: &'a mut dyn FnMut(CheckProgress),
    total: u64,
}

impl Check<'_> {
    fn roots(&mut self) {
        for slot in [0, 1] {
            let found = read_root(&*self.shared.disk, slot);
            if let Some(e) = found.map_or_else(|e| Some(e.to_string()), |root| root.err().map(|e| e.to_string())) {
                self.report.notes.push(format!("the root in slot {slot} cannot be used: {e}"));
            }
        }
    }

    fn generation(&mut self, kept: &Kept) {
        let shared = self.shared;
        let reader = shared.reader(kept.generation);
        if kept.tree.height > 0 && self.claim(&reader, kept.tree.root) {
            self.node(&reader, kept.tree.root, kept.tree.height - 1);
        }
        self.read_batch(&reader);
    }

    /// Marks a block; false if it has been read already.
    fn claim(&mut self, reader: &Reader<'_>, block: BlockRef) -> bool {
        // The store may have grown since; what lies beyond the end all the same is named when it is read.
        self.seen.meet(reader.places, block.place).unwrap_or(true)
    }

    fn node(&mut self, reader: &Reader<'_>, block: BlockRef, level: u8) {
        self.compare(reader, block, level);
        let node = match reader.node_from_disk(block, level) {
            Ok(node) => node,
            Err(e) => return self.fault(reader, block, None, e),
        };
        self.report.nodes += 1;
        let slots = fresh(&node, |block| self.claim(reader, block));
        if level > 0 {
            // They lie apart: asked for together, they come together.
            slots.iter().for_each(|slot| will_read(reader, slot.block.place, 1));
            slots.iter().for_each(|slot| self.node(reader, slot.block, level - 1));
        } else {
            self.batch.extend(slots);
        }
        if self.batch.len() >= BATCH {
            self.read_batch(reader);
        }
    }

    fn read_batch(&mut self, reader: &Reader<'_>) {
        let mut slots = std::mem::take(&mut self.batch);
        slots.sort_unstable_by_key(|slot| slot.block.place);
        let (mut rest, mut groups) = (&slots[..], VecDeque::new());
        loop {
            while let Some(group) = next_group(rest).filter(|_| groups.len() < AHEAD) {
                will_read(reader, group[0].block.place, span(group));
                rest = &rest[group.len()..];
                groups.push_back(group);
            }
            let Some(group) = groups.pop_front() else { return };
            self.read_group(reader, group);
        }
    }

    /// Reads a node from each side, if there are several.
    fn compare(&mut self, reader: &Reader<'_>, block: BlockRef, level: u8) {
        let copies = reader.disk.copies();
        if copies.len() < 2 {
            return;
        }
        let mut bytes = vec![0; PAGE_SIZE];
        let mut holds = |copy: &u32| {
            let read = reader.disk.read_copy(*copy, block.place * PAGE_SIZE as u64, &mut bytes);
            read.is_ok() && reader.node_holds(&bytes, block, level)
        };
        let bad: Vec<u32> = copies.iter().copied().filter(|copy| !holds(copy)).collect();
        if bad.len() < copies.len() {
            self.rotten(reader, None, Block::node(block, level), &bad);
        }
    }

    fn read_group(&mut self, reader: &Reader<'_>, group: &[Slot]) {
        let first = group[0].block.place;
        let mut bytes = vec![0; to_usize(span(group)) * PAGE_SIZE];
        let copies = reader.disk.copies();
        let mut bad: Vec<Vec<u32>> = vec![Vec::new(); group.len()];
        for copy in &copies {
            let whole = reader.disk.read_copy(*copy, first * PAGE_SIZE as u64, &mut bytes);
            if whole.is_err() && group.len() > 1 {
                // One by one, to name the page that cannot be read.
                group.chunks(1).for_each(|one| self.read_group(reader, one));
                return;
            }
            for (slot, bad) in group.iter().zip(&mut bad) {
                let at = to_usize(slot.block.place - first) * PAGE_SIZE;
                if whole.is_err() || !reader.page_holds(&bytes[at..at + PAGE_SIZE], slot) {
                    bad.push(*copy);
                }
            }
        }
        for (slot, bad) in group.iter().zip(bad) {
            let page = Some((SegmentId(slot.key.segment), PageIndex(slot.key.page)));
            if bad.len() < copies.len() {
                self.rotten(reader, page, Block::page(slot), &bad);
            } else if let Err(e) = reader.pages(&[*slot], &mut bytes[..PAGE_SIZE]) {
                self.fault(reader, slot.block, page, e);
            }
        }
        self.report.pages += group.len() as u64;
        (self.progress)(CheckProgress {
            generation: reader.generation,
            blocks_done: self.report.pages + self.report.nodes,
            blocks_total: self.total.max(self.report.pages + self.report.nodes),
        });
    }

    /// Notes a block that holds somewhere, and not on the sides `bad`.
    fn rotten(&mut self, reader: &Reader<'_>, page: Option<(SegmentId, PageIndex)>, block: Block, bad: &[u32]) {
        let Some(sides) = self.shared.mirrored.as_ref().filter(|_| !bad.is_empty()) else { return };
        let reason = format!("it does not hold on {}; another side has it", sides.places(bad).join(" and on "));
        let fault = Fault { generation: reader.generation, page, place: block.place, reason };
        if self.report.rotten.len() < LISTED_FAULTS {
            self.report.rotten.push(Rotten { fault, block });
        } else {
            self.report.more_faults += 1;
        }
    }

    fn fault(&mut self, reader: &Reader<'_>, block: BlockRef, page: Option<(SegmentId, PageIndex)>, e: Error) {
        if self.report.faults.len() >= LISTED_FAULTS {
            self.report.more_faults += 1;
            return;
        }
        self.report.faults.push(match e {
            Error::Corrupt(fault) => fault,
            other => Fault { generation: reader.generation, page, place: block.place, reason: other.to_string() },
        });
    }
}

/// The first of `slots`, which are in order of place, that are read at once.
fn next_group(slots: &[Slot]) -> Option<&[Slot]> {
    let first = slots.first()?.block.place;
    let near = |pair: &[Slot]| pair[1].block.place - pair[0].block.place <= NEAR && pair[1].block.place - first < SPAN;
    Some(&slots[..1 + slots.windows(2).take_while(|pair| near(pair)).count()])
}

/// Places from the first to the last of a group.
fn span(group: &[Slot]) -> u64 {
    group[group.len() - 1].block.place - group[0].block.place + 1
}

fn will_read(reader: &Reader<'_>, place: u64, count: u64) {
    reader.disk.will_read(place * PAGE_SIZE as u64, count * PAGE_SIZE as u64);
}

/// The slots of a node whose blocks have not been met.
fn fresh(node: &Node, mut claim: impl FnMut(BlockRef) -> bool) -> Vec<Slot> {
    node.slots().filter(|slot| claim(slot.block)).collect()
}
