//! What the store should hold.

use semper_store::sim::SimRng;
use semper_store::{
    ATTRIBUTES_LEN, Change, Commit, Error, Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The pages of one generation: what each was filled from. Absent = hole.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct World {
    pub pages: BTreeMap<(u64, u64), u64>,
    pub attributes: u8,
}

/// Segments that scripts use: near each other, and the last that can be.
const SEGMENTS: [u64; 6] = [0, 1, 2, 7, 1 << 20, (1 << 48) - 1];

/// The bytes of the page that is filled from `id`; 0 gives zeros.
pub fn page(id: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE_SIZE];
    for (i, word) in (0_u64..).zip(page.chunks_exact_mut(8)) {
        word.copy_from_slice(&word_at(id, i).to_le_bytes());
    }
    page
}

/// An odd id gives no zero, and no other id the same page.
fn word_at(id: u64, i: u64) -> u64 {
    id.wrapping_mul(i * 2 + 1)
}

/// Whether `bytes` are the page of `id`.
fn is_page(id: u64, bytes: &[u8]) -> bool {
    (0_u64..).zip(bytes.chunks_exact(8)).all(|(i, word)| word == word_at(id, i).to_le_bytes())
}

/// A random change, to the model and to the commit alike.
pub fn step(world: &mut World, commit: &mut Commit, rng: &mut SimRng) -> Result<(), Error> {
    let segment = *rng.pick(&SEGMENTS);
    let at = place(rng);
    match rng.below(20) {
        0..12 => {
            let count = if rng.one_in(6) { 1 + rng.below(40) } else { 1 + rng.below(3) };
            let ids: Vec<u64> = (0..count).map(|_| if rng.one_in(9) { 0 } else { rng.bits() | 1 }).collect();
            for (i, id) in ids.iter().enumerate() {
                set(world, segment, at + i as u64, *id);
            }
            let data: Vec<u8> = ids.iter().flat_map(|id| page(*id)).collect();
            commit.put(SegmentId(segment), PageIndex(at), &data)
        }
        12..16 => {
            let end = at + if rng.one_in(4) { 1 << 30 } else { rng.below(60) };
            world.pages.retain(|(s, p), _| *s != segment || *p < at || *p >= end);
            commit.remove(SegmentId(segment), PageRange::between(at, end))
        }
        16 => {
            world.pages.retain(|(s, _), _| *s != segment);
            commit.remove_segment(SegmentId(segment))
        }
        17 => commit.write_out(),
        _ => {
            world.attributes = rng.bits() as u8;
            commit.set_attributes([world.attributes; ATTRIBUTES_LEN]);
            Ok(())
        }
    }
}

fn set(world: &mut World, segment: u64, page: u64, id: u64) {
    if id == 0 {
        world.pages.remove(&(segment, page));
    } else {
        world.pages.insert((segment, page), id);
    }
}

/// Dense at the start, clustered far out, seldom at the very end.
fn place(rng: &mut SimRng) -> u64 {
    match rng.below(10) {
        0..7 => rng.below(150),
        7..9 => (1 << 28) + (rng.below(4) << 20) + rng.below(20),
        _ => (1 << 40) - (1 << 30) - 100 + rng.below(20),
    }
}

/// Whether the store holds exactly `world` in `generation`: a sentence if not, an error if it cannot be read.
pub fn compare(store: &Store, generation: Generation, world: &World) -> Result<Option<String>, Error> {
    let newest = store.generation() == generation;
    if newest && store.attributes() != [world.attributes; ATTRIBUTES_LEN] {
        return Ok(Some("the attributes are wrong".to_owned()));
    }
    let pages = store.generations().iter().find(|info| info.generation == generation).map(|info| info.pages);
    if pages != Some(world.pages.len() as u64) {
        return Ok(Some(format!("{generation} says {pages:?} pages instead of {}", world.pages.len())));
    }
    let mut out = vec![0; PAGE_SIZE * 8];
    let mut done = None;
    for &(segment, index) in world.pages.keys() {
        let first = index.min((1 << 40) - 8);
        if done.is_some_and(|(s, end)| s == segment && index < end) {
            continue;
        }
        done = Some((segment, first + 8));
        store.read_at(generation, SegmentId(segment), PageIndex(first), &mut out)?;
        for (i, read) in (first..).zip(out.chunks(PAGE_SIZE)) {
            if !is_page(world.pages.get(&(segment, i)).copied().unwrap_or(0), read) {
                return Ok(Some(format!("{generation}: segment {segment}, page {i} is wrong")));
            }
        }
    }
    if newest { compare_index(store, world) } else { Ok(None) }
}

/// Whether what the store says has changed from one generation to another makes the one world of the other.
pub fn compare_changes(
    store: &Store,
    from: Option<(Generation, &World)>,
    (to, world): (Generation, &World),
) -> Result<Option<String>, Error> {
    let old = from.map(|(_, world)| world.pages.clone()).unwrap_or_default();
    let mut made = old.clone();
    let mut wrong = None;
    let mut last = (0, 0);
    store.changes(from.map(|(generation, _)| generation), to, &mut |change| {
        let (segment, first) = match change {
            Change::Pages { segment, first, .. } => (segment.0, first.0),
            Change::Removed { segment, range } => (segment.0, range.first.0),
        };
        if (segment, first) < last {
            wrong.get_or_insert(format!("segment {segment}, page {first} comes after {last:?}"));
        }
        match change {
            Change::Pages { data, .. } => {
                last = (segment, first + (data.len() / PAGE_SIZE) as u64);
                for (index, bytes) in (first..).zip(data.chunks(PAGE_SIZE)) {
                    let id = world.pages.get(&(segment, index)).copied().unwrap_or(0);
                    if id == 0 || !is_page(id, bytes) {
                        wrong.get_or_insert(format!("segment {segment}, page {index} is not what {to} has"));
                    }
                    made.insert((segment, index), id);
                }
            }
            Change::Removed { range, .. } => {
                last = (segment, range.end());
                made.retain(|(s, page), _| *s != segment || !range.contains(PageIndex(*page)));
            }
        }
        ControlFlow::Continue(())
    })?;
    if wrong.is_none() && made != world.pages {
        wrong = Some(format!("{} pages come out, {to} has {}", made.len(), world.pages.len()));
    }
    Ok(wrong.map(|wrong| format!("the changes from {:?} to {to}: {wrong}", from.map(|(generation, _)| generation))))
}

/// Whether exactly the pages of `world` are said to be present.
fn compare_index(store: &Store, world: &World) -> Result<Option<String>, Error> {
    let segments: Vec<u64> = store.segments()?.iter().map(|s| s.0).collect();
    let mut wanted: Vec<u64> = world.pages.keys().map(|(segment, _)| *segment).collect();
    wanted.dedup();
    if segments != wanted {
        return Ok(Some(format!("segments {segments:?} instead of {wanted:?}")));
    }
    for segment in segments {
        let mut wanted = world.pages.range((segment, 0)..=(segment, u64::MAX)).map(|((_, page), _)| *page);
        let mut from = 0;
        loop {
            let found = store.next_page(SegmentId(segment), PageIndex(from))?.map(|page| page.0);
            if found != wanted.next() {
                return Ok(Some(format!("segment {segment}: {found:?} is the next page from {from} on")));
            }
            match found {
                Some(page) if page + 1 < 1 << 40 => from = page + 1,
                _ => break,
            }
        }
    }
    Ok(None)
}
