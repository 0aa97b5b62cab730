//! Damage at rest: every byte of the roots, sampled bytes of nodes and pages. Found, fallen back from, named; no panic.

use crate::model::{World, compare, page};
use semper_store::sim::{SimDisk, SimRng};
use semper_store::{
    Canary, Commit, CreateOptions, Error, Generation, OpenOptions, PAGE_SIZE, PageIndex, SegmentId, Store,
};
use std::sync::Arc;

const ROOTS: [u64; 2] = [0, 128];
const PAGES: u64 = 700;

fn options() -> OpenOptions {
    OpenOptions { walk_in_commit: true, ..OpenOptions::default() }
}

/// A store of three generations, the last two of which differ in every fifth page.
fn store() -> (Arc<SimDisk>, Vec<World>) {
    store_of(|_| ())
}

/// The same, with something to be asked of the last commit.
fn store_of(ask: impl Fn(&mut Commit)) -> (Arc<SimDisk>, Vec<World>) {
    let disk = SimDisk::new();
    let store = Store::create_on(disk.clone(), &CreateOptions { size_bytes: 16 << 20, ..CreateOptions::default() });
    let store = store.unwrap();
    let mut rng = SimRng::new(5);
    let mut world = World::default();
    let mut worlds = vec![world.clone()];
    for step in [1, 1, 5] {
        let mut commit = store.begin().unwrap();
        for index in (0..PAGES).step_by(step) {
            let id = rng.bits() | 1;
            commit.put(SegmentId(1), PageIndex(index), &page(id)).unwrap();
            world.pages.insert((1, index), id);
        }
        if step == 5 {
            ask(&mut commit);
        }
        commit.commit().unwrap();
        worlds.push(world.clone());
    }
    (disk, worlds)
}

/// Of those that the last commit added.
fn rot_a_new_page(disk: &SimDisk) {
    let page = disk.written_pages().into_iter().rev().nth(20).unwrap();
    disk.rot(page * PAGE_SIZE as u64, 1);
}

fn holds(store: &Store, generation: Generation, worlds: &[World]) -> bool {
    let world = &worlds[usize::try_from(generation.0).unwrap()];
    matches!(compare(store, generation, world), Ok(None))
}

#[test]
fn every_byte_of_both_roots_is_guarded() {
    let (disk, worlds) = store();
    for slot in ROOTS {
        for at in 0..PAGE_SIZE as u64 {
            for flip in [0x01, 0x80, 0xff] {
                let offset = slot * PAGE_SIZE as u64 + at;
                disk.rot(offset, flip);
                let store = Store::open_on(disk.clone(), &options()).unwrap();
                let reasons = &store.recovery().fallen_back;
                assert_eq!(reasons.len(), 1, "slot {slot}, byte {at}: {reasons:?}");
                let stands = store.generation();
                // The newest root is in slot 1 after three commits.
                assert_eq!(stands, Generation(if slot == ROOTS[1] { 2 } else { 3 }), "slot {slot}, byte {at}");
                if at % 256 == 0 {
                    assert!(holds(&store, stands, &worlds));
                }
                disk.rot(offset, flip);
            }
        }
    }
}

#[test]
fn both_roots_destroyed_is_said_so() {
    let (disk, _) = store();
    for slot in ROOTS {
        disk.rot(slot * PAGE_SIZE as u64 + 200, 1);
    }
    let e = Store::open_on(disk.clone(), &options()).unwrap_err();
    assert!(matches!(&e, Error::NotAStore { reason, .. } if reason.contains("damaged")), "{e}");
    // A root of another version: the version is told only where nothing else can be used.
    disk.rot(8, 4);
    disk.rot(128 * PAGE_SIZE as u64 + 8, 4);
    let e = Store::open_on(disk, &options()).unwrap_err();
    assert!(matches!(e, Error::Version { found: 5, .. }), "{e}");
}

#[test]
fn damage_to_any_page_or_node_is_found_and_named() {
    let (disk, worlds) = store();
    let mut rng = SimRng::new(11);
    let blocks: Vec<u64> = disk.written_pages().into_iter().filter(|p| *p >= 256).collect();
    let (mut in_use, mut fell_back) = (0, 0);
    for _ in 0..600 {
        let place = *rng.pick(&blocks);
        let (offset, flip) = (place * PAGE_SIZE as u64 + rng.below(PAGE_SIZE as u64), 1 << rng.below(8));
        disk.rot(offset, flip);
        let store = Store::open_on(disk.clone(), &options()).unwrap();
        let report = store.check(&mut |_| ());
        let fell = !store.recovery().fallen_back.is_empty();
        let sound = report.faults.is_empty();
        if !sound {
            assert!(report.faults.iter().any(|fault| fault.place == place), "{report:?}");
        }
        fell_back += u32::from(fell);
        in_use += u32::from(!sound || fell);
        let stands = store.generation();
        let world = &worlds[usize::try_from(stands.0).unwrap()];
        match compare(&store, stands, world) {
            Ok(None) => {}
            Ok(Some(wrong)) => panic!("place {place} not found out: {wrong}"),
            Err(Error::Corrupt(fault)) => assert_eq!(fault.place, place, "the right block is named"),
            Err(e) => panic!("{e}"),
        }
        disk.rot(offset, flip);
    }
    assert!(in_use > 300, "most of what was damaged was in use: {in_use}");
    assert!(fell_back > 0, "some of it was the top of a tree");
}

#[test]
fn pages_that_changed_places_are_found_out() {
    let (disk, worlds) = store();
    let blocks: Vec<u64> = disk.written_pages().into_iter().filter(|p| *p >= 256).collect();
    let mut rng = SimRng::new(3);
    for _ in 0..200 {
        let (a, b) = (*rng.pick(&blocks), *rng.pick(&blocks));
        disk.swap(a, b);
        if let Ok(store) = Store::open_on(disk.clone(), &options()) {
            let world = &worlds[usize::try_from(store.generation().0).unwrap()];
            let compared = compare(&store, store.generation(), world);
            assert!(!matches!(compared, Ok(Some(_))), "places {a} and {b}: {compared:?}");
        }
        disk.swap(a, b);
    }
}

/// The newest tree's top is damaged: the generation before stands.
fn opens_after_damage_to_the_top(canary: Option<Canary>) -> (Generation, bool) {
    let (disk, worlds) = store();
    // The last block written before the root is the root node of the newest tree.
    let top = *disk.written_pages().last().unwrap();
    disk.rot(top * PAGE_SIZE as u64 + 2000, 4);
    let store = Store::open_on(disk, &OpenOptions { canary, ..options() }).unwrap();
    (store.generation(), holds(&store, store.generation(), &worlds))
}

#[test]
fn a_damaged_tree_top_falls_back_and_a_store_that_trusts_its_root_is_caught() {
    assert_eq!(opens_after_damage_to_the_top(None), (Generation(2), true));
    assert_eq!(opens_after_damage_to_the_top(Some(Canary::TrustRoot)), (Generation(3), false));
}

#[test]
fn a_fallback_is_settled_before_anything_is_overwritten() {
    let (disk, mut worlds) = store();
    let top = *disk.written_pages().last().unwrap();
    disk.rot(top * PAGE_SIZE as u64 + 2000, 4);
    {
        let store = Store::open_on(disk.clone(), &options()).unwrap();
        let mut commit = store.begin().unwrap();
        assert_eq!(commit.generation(), Generation(4), "numbers are never used twice");
        let index = PageIndex(9);
        commit.put(SegmentId(1), index, &page(77)).unwrap();
        commit.commit().unwrap();
    }
    // The damage heals, but the generation does not come back.
    disk.rot(top * PAGE_SIZE as u64 + 2000, 4);
    let mut world = worlds[2].clone();
    world.pages.insert((1, 9), 77);
    worlds.push(world);
    let store = Store::open_on(disk, &options()).unwrap();
    assert_eq!(store.generation(), Generation(4));
    assert!(holds(&store, Generation(4), &worlds) && holds(&store, Generation(2), &worlds));
    assert!(store.check(&mut |_| ()).is_sound());
}

/// Whatever of it is missing: pages, nodes.
#[test]
fn a_generation_with_one_flush_counts_only_if_all_of_it_is_there() {
    let (two, _) = store();
    let (disk, worlds) = store_of(Commit::set_one_flush);
    assert_eq!(disk.flushes() + 1, two.flushes());
    let blocks: Vec<u64> = disk.written_pages().into_iter().filter(|p| *p >= 256).collect();
    // The last commit has written behind all others: its pages, and their nodes.
    let added = PAGES.div_ceil(5) + 7;
    for place in &blocks[blocks.len() - usize::try_from(added).unwrap()..] {
        disk.rot(place * PAGE_SIZE as u64 + 40, 1);
        let store = Store::open_on(disk.clone(), &options()).unwrap();
        assert_eq!(store.generation(), Generation(2), "place {place}");
        let told = &store.recovery().fallen_back;
        assert!(told.len() == 1 && told[0].starts_with("generation 3 was cut off, or damaged since: "), "{told:?}");
        disk.rot(place * PAGE_SIZE as u64 + 40, 1);
    }
    let store = Store::open_on(disk.clone(), &options()).unwrap();
    assert!(store.generation() == Generation(3) && holds(&store, Generation(3), &worlds));
    // What was cut off does not come back when another generation stands on the one before.
    let last = *blocks.last().unwrap() * PAGE_SIZE as u64;
    disk.rot(last, 1);
    let store = Store::open_on(disk.clone(), &options()).unwrap();
    assert!(store.generations().iter().map(|info| info.generation.0).eq([2, 1, 0]));
    assert_eq!(store.begin().unwrap().generation(), Generation(4), "numbers are never used twice");
    drop(store);
    disk.rot(last, 1);
    let store = Store::open_on(disk, &options()).unwrap();
    assert!(store.generation() == Generation(2) && holds(&store, Generation(2), &worlds));
}

#[test]
fn a_sealed_generation_that_rots_is_damaged_and_was_not_cut_off() {
    let (disk, worlds) = store_of(Commit::set_one_flush);
    Store::open_on(disk.clone(), &options()).unwrap().seal().unwrap();
    rot_a_new_page(&disk);
    let store = Store::open_on(disk, &options()).unwrap();
    assert_eq!((store.generation(), &store.recovery().fallen_back), (Generation(3), &Vec::new()));
    assert!(compare(&store, Generation(3), &worlds[3]).is_err_and(|e| matches!(e, Error::Corrupt(_))));
    assert!(holds(&store, Generation(2), &worlds));
}

/// The roots are written anew one after the other; who dies between leaves the one that lists what was given up.
#[test]
fn what_was_given_up_does_not_come_back_when_settling_is_cut_off() {
    let (disk, worlds) = store_of(Commit::set_one_flush);
    // Slot 1 has the newest root. The other one is torn, and a page of the newest generation rots.
    disk.rot(2000, 1);
    rot_a_new_page(&disk);
    let store = Store::open_on(disk.clone(), &options()).unwrap();
    assert_eq!(store.generation(), Generation(2));
    let settled = disk.flushes();
    disk.fail_at_flush(1);
    assert!(store.begin().is_err());
    drop(store);
    assert_eq!(disk.flushes(), settled + 1, "one of the roots was flushed");
    // That of the other is lost.
    let store = Store::open_on(disk.copy(), &options()).unwrap();
    assert_eq!(store.generation(), Generation(2), "{:?}", store.recovery());
    assert!(holds(&store, Generation(2), &worlds));
}

#[test]
fn a_check_tells_of_what_was_cut_off() {
    let (disk, _) = store_of(Commit::set_one_flush);
    rot_a_new_page(&disk);
    let report = Store::open_on(disk, &options()).unwrap().check(&mut |_| ());
    assert!(report.notes.len() == 1 && report.notes[0].starts_with("generation 3 was cut off"), "{report:?}");
}

#[test]
fn what_is_not_small_is_flushed_before_its_root() {
    let disk = SimDisk::new();
    let store = Store::create_on(disk.clone(), &CreateOptions { size_bytes: 16 << 20, ..CreateOptions::default() });
    let store = store.unwrap();
    for (pages, flushes) in [(1000, 1), (1020, 2), (1, 1), (0, 1)] {
        let before = disk.flushes();
        let mut commit = store.begin().unwrap();
        for index in 0..pages {
            commit.put(SegmentId(1), PageIndex(index), &page(before * 5000 + index + 1)).unwrap();
        }
        commit.set_one_flush();
        commit.commit().unwrap();
        assert_eq!(disk.flushes() - before, flushes, "{pages} pages");
    }
}

#[test]
fn a_truncated_disk_is_said_so() {
    let (disk, _) = store();
    disk.truncate(8 << 20);
    let e = Store::open_on(disk, &options()).unwrap_err();
    assert!(matches!(e, Error::Truncated { expected: 16_777_216, found: 8_388_608, .. }), "{e}");
}

#[test]
fn garbage_is_no_store() {
    let mut rng = SimRng::new(8);
    let garbage: Vec<u8> = (0..2 << 20).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
    let disk = SimDisk::from_writes(2 << 20, [(0, &garbage[..])]);
    let e = Store::open_on(disk, &options()).unwrap_err();
    assert!(matches!(&e, Error::NotAStore { reason, .. } if reason.contains("something else")), "{e}");
}
