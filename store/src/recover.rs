//! Opening: which generation stands.

use crate::cache::NodeCache;
use crate::canary::Canary;
use crate::damage::Left;
use crate::disk::Disk;
use crate::error::{Error, by_medium};
use crate::ids::{Generation, PAGE_SIZE};
use crate::open::MIN_SIZE_BYTES;
use crate::root::{BadRoot, FORMAT_VERSION, Kept, MOST_UNFLUSHED, Root, SLOT_PLACES};
use crate::shared::Snapshot;
use crate::tree::Reader;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Children of a tree's root that are looked at when the store is opened: enough to see that the tree was written, few
/// enough that opening takes the same time for every size.
const LOOKED_AT: usize = 16;

/// What to do with a store that is lost.
const GO_BACK: &str = "go back to a copy of the store";

/// What to do with a file that never was one.
const OTHER_NAME: &str = "name the directory of a store, or a new one";

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The generation that stands.
    pub generation: Generation,
    /// Why it is not the newest that the roots speak of, or why one root could not be used; empty if all was well.
    pub fallen_back: Vec<String>,
    /// Mirrors that are left out, each with the reason; empty if all are there.
    pub left_out: Vec<String>,
}

pub(crate) struct Found {
    pub snapshot: Snapshot,
    pub recovery: Recovery,
    pub to_walk: Vec<Kept>,
    pub listed: [Vec<u64>; 2],
    pub unsettled: bool,
    /// A root lists a generation that is left because of damage.
    pub lists_left: bool,
}

/// Generations that are not taken.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits<'l> {
    /// Those that are newer.
    pub newest: Option<Generation>,
    /// Those in which damage was found.
    pub left: &'l [Left],
}

impl Limits<'_> {
    /// Why `generation` is not taken.
    fn refuse(&self, generation: u64) -> Option<String> {
        if self.newest.is_some_and(|newest| generation > newest.0) {
            return Some(format!("generation {generation} is newer than what was asked for"));
        }
        let left = self.left.iter().find(|left| left.contains(generation))?;
        Some(format!("generation {generation} is left, because of damage: {}", left.why))
    }
}

/// Finds the newest generation, within `limits`, whose root's checksum and whose tree's upper nodes hold.
pub(crate) fn recover(disk: &dyn Disk, limits: Limits<'_>, canary: Option<Canary>) -> Result<Found, Error> {
    let slots = [read_root(disk, 0)?, read_root(disk, 1)?];
    let mut fallen_back: Vec<String> = slots
        .iter()
        .enumerate()
        .filter_map(|(slot, root)| Some(format!("the root in slot {slot} cannot be used: {}", root.as_ref().err()?)))
        .collect();
    let length = disk.len().map_err(|e| Error::io("find the length of the store", e))?;
    let mut roots = usable(&slots, &fallen_back, length)?;
    let newest_root = roots[0].1;
    if length / (PAGE_SIZE as u64) < newest_root.places {
        return Err(Error::Truncated {
            pages: PathBuf::new(),
            expected: newest_root.places * PAGE_SIZE as u64,
            found: length,
        });
    }
    let places = length / PAGE_SIZE as u64;

    let trust = Canary::TrustRoot.planted(canary);
    let cut_off = all_cut_off(disk, &roots, places, canary)?;
    let why_cut_off = |generation| cut_off.iter().find(|(cut, _)| *cut == generation).map(|(_, why)| why);
    if why_cut_off(newest_root.newest().generation).is_some() {
        // As one that tore: what the other lists is whole.
        roots.rotate_left(1);
    }
    let candidates = candidates(&roots);
    let mut chosen = None;
    let mut to_walk = Vec::new();
    for (slot, kept) in &candidates {
        if chosen.is_some() {
            to_walk.push((*kept).clone());
        } else if let Some(reason) = limits.refuse(kept.generation) {
            fallen_back.push(reason);
        } else if let Some(why) = why_cut_off(kept.generation) {
            fallen_back.push(format!("generation {} was cut off, or damaged since: {why}", kept.generation));
        } else if let (Err(e), false) = (look_at(disk, newest_root, kept, places), trust) {
            if may_pass(&e) {
                return Err(e);
            }
            fallen_back.push(format!("generation {} cannot be used: {e}", kept.generation));
        } else {
            chosen = Some((*slot, kept.generation));
            to_walk.push((*kept).clone());
        }
    }
    let lists_left = candidates.iter().any(|(_, kept)| limits.left.iter().any(|left| left.contains(kept.generation)));
    let Some((slot, generation)) = chosen else {
        if lists_left {
            // Better one that is damaged somewhere than none.
            let mut found = recover(disk, Limits { left: &[], ..limits }, canary)?;
            fallen_back.push("no other generation can be used: damage or not, one of those has to do".to_owned());
            fallen_back.append(&mut found.recovery.fallen_back);
            found.recovery.fallen_back = fallen_back;
            return Ok(Found { lists_left, ..found });
        }
        return Err(Error::not_a_store(format!("no generation of it is whole: {}; {GO_BACK}", fallen_back.join("; "))));
    };

    let (_, source) = roots.iter().find(|(s, _)| *s == slot).expect("a candidate comes from a root");
    let mut root = (*source).clone();
    root.kept.retain(|kept| kept.generation <= generation);
    root.places = places;
    root.sequence = newest_root.sequence;
    root.highest = roots.iter().map(|(_, root)| root.highest).max().unwrap_or(root.highest);
    let listed = [0, 1].map(|slot| {
        let mut listed = slots[slot].as_ref().map_or_else(|_| root.listed(), Root::listed);
        listed.retain(|listed| *listed <= generation);
        listed
    });
    let unsettled = candidates[0].1.generation != generation;
    let recovery = Recovery { generation: Generation(generation), fallen_back, left_out: Vec::new() };
    Ok(Found { snapshot: Snapshot { root, slot }, recovery, to_walk, listed, unsettled, lists_left })
}

/// The same, beside a runtime that may be writing a root at this moment: what is found unusable is looked at again.
pub(crate) fn recover_beside(disk: &dyn Disk) -> Result<Found, Error> {
    const LOOKS: u32 = 4;
    let mut found = recover(disk, Limits::default(), None);
    for look in 1..LOOKS {
        if found.as_ref().is_ok_and(|found| found.recovery.fallen_back.is_empty()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(u64::from(look)));
        found = recover(disk, Limits::default(), None);
    }
    found
}

/// The root in a slot, or why there is none to use. Of several copies the newest that holds: a commit that was cut off may have reached some.
///
/// # Errors
/// The host does not read, for a reason that may pass: nothing is known of what is there, and what is newest must not be given up for it.
pub(crate) fn read_root(disk: &dyn Disk, slot: usize) -> Result<Result<Root, BadRoot>, Error> {
    type Read = Result<Result<Root, BadRoot>, Error>;
    let copies = disk.copies().into_iter().map(|copy| read_root_of(disk, copy, slot));
    let better = |a: Read, b: Read| match (&a, &b) {
        (Ok(Ok(x)), Ok(Ok(y))) if y.sequence > x.sequence => b,
        (Ok(Ok(_)), _) => a,
        (_, Ok(Ok(_))) | (Ok(Err(_)), Err(_)) => b,
        _ => a,
    };
    copies.reduce(better).unwrap_or(Ok(Err(BadRoot::Empty)))
}

fn read_root_of(disk: &dyn Disk, copy: u32, slot: usize) -> Result<Result<Root, BadRoot>, Error> {
    let mut page = [0; PAGE_SIZE];
    let place = SLOT_PLACES[slot];
    let read = disk.read_copy(copy, place * PAGE_SIZE as u64, &mut page);
    match read.map_err(|e| Error::io(format!("read place {place} of the store"), e)) {
        Ok(()) => Ok(Root::decode(&page, slot)),
        Err(e) if may_pass(&e) => Err(e),
        Err(e) => Ok(Err(BadRoot::Unreadable(e.to_string()))),
    }
}

/// Whether it is the host that fails and not what is on the medium.
fn may_pass(e: &Error) -> bool {
    matches!(e, Error::Io { source, .. } if !by_medium(source) && source.kind() != io::ErrorKind::UnexpectedEof)
}

/// The roots that hold, newest first.
fn usable<'r>(
    slots: &'r [Result<Root, BadRoot>; 2],
    reasons: &[String],
    length: u64,
) -> Result<Vec<(usize, &'r Root)>, Error> {
    let mut roots: Vec<(usize, &Root)> =
        slots.iter().enumerate().filter_map(|(slot, root)| Some((slot, root.as_ref().ok()?))).collect();
    roots.sort_by_key(|(_, root)| std::cmp::Reverse(root.sequence));
    match roots[..] {
        [] => Err(refuse(slots, reasons, length)),
        [(_, a), (_, b)] if a.lineage != b.lineage => Err(Error::not_a_store(format!(
            "its two roots belong to different stores, {} and {}; {GO_BACK}",
            a.id(),
            b.id()
        ))),
        _ => Ok(roots),
    }
}

/// Why there is no root to use, in the words of somebody who named a file.
fn refuse(slots: &[Result<Root, BadRoot>; 2], reasons: &[String], length: u64) -> Error {
    for slot in slots {
        if let Err(BadRoot::Version(found)) = slot {
            return Error::Version { pages: PathBuf::new(), found: *found, expected: FORMAT_VERSION };
        }
    }
    let is = |what: fn(&BadRoot) -> bool| slots.iter().filter_map(|slot| slot.as_ref().err()).any(what);
    Error::not_a_store(if length == 0 {
        format!("it is an empty file; {OTHER_NAME}")
    } else if is(|bad| matches!(bad, BadRoot::Damaged(_))) {
        format!("both of its roots are destroyed: {}; {GO_BACK}", reasons.join("; "))
    } else if is(|bad| matches!(bad, BadRoot::Foreign)) {
        format!("it holds something else; {OTHER_NAME}")
    } else if length < MIN_SIZE_BYTES {
        format!("it has {length} bytes, fewer than the smallest store; {OTHER_NAME}")
    } else if is(|bad| matches!(bad, BadRoot::Unreadable(_))) {
        format!("its roots cannot be read: {}; {GO_BACK}", reasons.join("; "))
    } else {
        format!("it is empty where the roots of a store lie; {OTHER_NAME}")
    })
}

/// All generations that a root lists, newest first, each with the slot of the newest root that lists it.
fn candidates<'r>(roots: &[(usize, &'r Root)]) -> Vec<(usize, &'r Kept)> {
    let mut all: Vec<(usize, &Kept)> = Vec::new();
    for (slot, root) in roots {
        for kept in &root.kept {
            if !all.iter().any(|(_, have)| have.generation == kept.generation) {
                all.push((*slot, kept));
            }
        }
    }
    all.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.generation));
    all
}

/// The newest generations of the roots, newest first, that are not all there, each with the reason. What a newer root lists was flushed before that was
/// written; what it does not list may have been given up, by who did not come to write this slot.
fn all_cut_off(
    disk: &dyn Disk,
    roots: &[(usize, &Root)],
    places: u64,
    canary: Option<Canary>,
) -> Result<Vec<(u64, String)>, Error> {
    let mut all = Vec::new();
    for (at, (_, root)) in roots.iter().enumerate() {
        let generation = root.newest().generation;
        if roots[..at].iter().all(|(_, newer)| newer.find(Generation(generation)).is_none()) {
            all.extend(cut_off(disk, root, places, canary)?.map(|why| (generation, why)));
        }
    }
    Ok(all)
}

/// Why the newest generation of `root` is not all there, if it was not flushed before its root.
fn cut_off(disk: &dyn Disk, root: &Root, places: u64, canary: Option<Canary>) -> Result<Option<String>, Error> {
    if !root.unflushed || Canary::TrustUnflushed.planted(canary) {
        return Ok(None);
    }
    let cache = NodeCache::new();
    let (lineage, kept) = (&root.lineage, root.newest());
    let reader = Reader { disk, cache: &cache, lineage, places, generation: Generation(kept.generation), canary };
    match reader.look_at_births(kept.tree, MOST_UNFLUSHED) {
        Ok(()) => Ok(None),
        Err(e) if may_pass(&e) => Err(e),
        Err(e) => Ok(Some(e.to_string())),
    }
}

/// Checks the upper nodes of a tree.
pub(crate) fn look_at(disk: &dyn Disk, root: &Root, kept: &Kept, places: u64) -> Result<(), Error> {
    if kept.tree.height == 0 {
        return Ok(());
    }
    let cache = NodeCache::new();
    let (lineage, generation) = (&root.lineage, Generation(kept.generation));
    let reader = Reader { disk, cache: &cache, lineage, places, generation, canary: None };
    let level = kept.tree.height - 1;
    let node = reader.node_from_disk(kept.tree.root, level)?;
    if level > 0 {
        for slot in node.slots().take(LOOKED_AT) {
            reader.node_from_disk(slot.block, level - 1)?;
        }
    }
    Ok(())
}
