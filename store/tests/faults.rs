//! A disk that refuses: what callers are told, and that the store believes no flush after a failed one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_store::sim::{Failure, SimDisk};
use semper_store::{CreateOptions, Disk, Error, Generation, OpenOptions, PAGE_SIZE, PageIndex, SegmentId, Store};
use std::sync::Arc;

const SEGMENT: SegmentId = SegmentId(1);

fn store() -> (Arc<SimDisk>, Store) {
    let disk = SimDisk::new();
    let options = CreateOptions { size_bytes: 16 << 20, ..CreateOptions::default() };
    let store = Store::create_on(disk.clone(), &options).unwrap();
    put(&store, 1).unwrap();
    (disk, store)
}

fn put(store: &Store, fill: u8) -> Result<Generation, Error> {
    let mut commit = store.begin()?;
    commit.put(SEGMENT, PageIndex(0), &[fill; PAGE_SIZE])?;
    Ok(commit.commit()?.generation)
}

fn get(store: &Store) -> u8 {
    let mut out = [0; PAGE_SIZE];
    store.read(SEGMENT, PageIndex(0), &mut out).unwrap();
    out[0]
}

/// No later commit pretends, and reading goes on.
fn assert_poisoned(store: &Store) {
    assert!(store.poisoned().is_some());
    for _ in 0..3 {
        let e = put(store, 3).unwrap_err();
        assert!(matches!(e, Error::Poisoned { .. }), "{e}");
    }
    assert!(matches!(store.grow(32 << 20), Err(Error::Poisoned { .. })));
    assert_eq!((get(store), store.generation()), (1, Generation(1)));
}

#[test]
fn a_failed_flush_poisons_the_store_and_reading_goes_on() {
    // The flush of the data, and that of the root.
    for flush in 0..2 {
        let (disk, store) = store();
        disk.fail_at_flush(flush);
        let e = put(&store, 2).unwrap_err();
        assert!(matches!(&e, Error::Io { .. }) && e.to_string().contains("flush"), "{e}");
        assert_poisoned(&store);
        drop(store);
        let store = Store::open_on(disk, &OpenOptions::default()).unwrap();
        // Whether the new generation is durable after a failed flush of its root, nobody knows; without a root it cannot be.
        assert!(get(&store) == 1 || flush == 1 && (get(&store), store.generation()) == (2, Generation(2)));
        put(&store, 4).unwrap();
        assert_eq!(get(&store), 4);
    }
}

#[test]
fn a_failed_write_of_the_root_poisons_the_store() {
    for failure in [Failure::Eio, Failure::Enospc] {
        let (disk, store) = store();
        // Write, drain, flush; then the root.
        disk.fail_at(disk.calls() + 3, failure);
        let e = put(&store, 2).unwrap_err();
        assert!(e.to_string().contains("write the root"), "{e}");
        assert_poisoned(&store);
    }
}

/// All that flushes: commits, settling after a fallback, and dropping older generations for want of room. (Going back flushes too, but the
/// handle ends with it.)
fn flushes_of_all_kinds(store: &Store) -> Result<(), Error> {
    for fill in 1..=6 {
        let mut commit = store.begin()?;
        for index in 0..60 {
            commit.put(SEGMENT, PageIndex(index), &[fill; PAGE_SIZE])?;
        }
        if fill % 3 == 0 {
            commit.set_one_flush();
        }
        commit.commit()?;
    }
    Ok(())
}

#[test]
fn every_flush_that_fails_poisons_whatever_it_was_for() {
    let disk = SimDisk::new();
    let store = Store::create_on(disk.clone(), &CreateOptions { size_bytes: 2 << 20, ..CreateOptions::default() });
    let store = store.unwrap();
    for fill in 1..=3 {
        put(&store, fill).unwrap();
    }
    drop(store);
    // The top of the newest tree: the generation before stands, and the roots have to be settled.
    let top = *disk.written_pages().last().unwrap();
    disk.rot(top * PAGE_SIZE as u64 + 2000, 4);
    let open = |disk: &Arc<SimDisk>| Store::open_on(disk.clone(), &OpenOptions::default()).unwrap();
    let untroubled = disk.copy();
    let store = open(&untroubled);
    assert!(!store.recovery().fallen_back.is_empty());
    flushes_of_all_kinds(&store).unwrap();
    let flushes = untroubled.flushes();
    assert!(flushes >= 1 + 2 * (6 + 1 + 1) - 2, "{flushes} flushes: opening, commits, settling, and dropping");
    // What is there may be in the host's memory alone.
    let unopened = disk.copy();
    unopened.fail_at_flush(0);
    let e = Store::open_on(unopened, &OpenOptions::default()).unwrap_err();
    assert!(e.to_string().contains("flush"), "{e}");
    for flush in 1..flushes {
        let disk = disk.copy();
        disk.fail_at_flush(flush);
        let store = open(&disk);
        let e = flushes_of_all_kinds(&store).unwrap_err();
        assert_eq!(disk.failed_flushes(), 1, "flush {flush}: {e}");
        assert!(matches!(&e, Error::Io { .. }) && e.to_string().contains("flush"), "flush {flush}: {e}");
        assert!(matches!(store.begin().map(|_| ()), Err(Error::Poisoned { .. })), "flush {flush}");
    }
}

#[test]
fn a_full_host_is_told_before_anything_is_promised_and_does_not_poison() {
    let (disk, store) = store();
    // The write, or the wait for it.
    for call in 0..2 {
        disk.fail_at(disk.calls() + call, Failure::Enospc);
        let e = put(&store, 2).unwrap_err();
        assert!(matches!(e, Error::Full { .. }), "call {call}: {e}");
        assert_eq!(get(&store), 1);
    }
    assert!(store.poisoned().is_none());
    put(&store, 3).unwrap();
    assert_eq!(get(&store), 3);
    assert!(store.check(&mut |_| ()).is_sound());
}

#[test]
fn a_corrupt_newest_tree_stops_commits_and_names_the_place() {
    let (disk, store) = store();
    let mut commit = store.begin().unwrap();
    for i in 0..20_000 {
        if i % 6 == 0 {
            commit.put(SEGMENT, PageIndex(i), &[9; PAGE_SIZE]).unwrap();
        }
    }
    commit.commit().unwrap();
    drop(store);
    // A leaf that opening does not look at: after the pages come the leaves in order, then the root.
    let place = *disk.written_pages().last().unwrap() - 3;
    disk.rot(place * PAGE_SIZE as u64 + 99, 1);
    let store = Store::open_on(disk.clone(), &OpenOptions::default()).unwrap();
    assert!(store.recovery().fallen_back.is_empty());
    let e = store.begin().map(|_| ()).unwrap_err();
    assert!(matches!(&e, Error::Corrupt(fault) if fault.place == place), "{e}");
    let report = store.check(&mut |_| ());
    assert_eq!(report.faults.iter().map(|f| f.place).collect::<Vec<_>>(), [place]);
    drop(store);
    let back = OpenOptions { newest: Some(Generation(1)), ..OpenOptions::default() };
    let store = Store::open_on(disk, &back).unwrap();
    assert_eq!(get(&store), 1);
    put(&store, 5).unwrap();
}

/// A bad sector is damage as rot is: the page is named, and an older generation that does not need it is found.
#[test]
fn a_page_that_the_medium_refuses_is_damage_and_an_older_generation_is_whole() {
    let (disk, store) = store();
    let before = disk.written_pages();
    let mut commit = store.begin().unwrap();
    for i in 0..3 {
        commit.put(SEGMENT, PageIndex(i), &[2; PAGE_SIZE]).unwrap();
    }
    commit.commit().unwrap();
    let place = disk.written_pages().into_iter().find(|place| !before.contains(place)).unwrap();
    // Once is no damage: it is read again.
    disk.fail_at(disk.calls(), Failure::Eio);
    assert_eq!((get(&store), store.damage()), (2, None));
    disk.refuse(place + 1);
    let mut all = [0; 3 * PAGE_SIZE];
    let e = store.read(SEGMENT, PageIndex(0), &mut all).unwrap_err();
    let Error::Corrupt(fault) = e else { panic!("{e}") };
    assert_eq!((fault.place, fault.page), (place + 1, Some((SEGMENT, PageIndex(1)))));
    assert!(fault.reason.starts_with("it cannot be read"), "{fault}");
    assert_eq!(store.damage().as_ref(), Some(&fault));
    assert_eq!(store.whole_before(&fault), Some(Generation(1)));
    let report = store.check(&mut |_| ());
    assert_eq!(report.faults, [fault]);
    // The pages beside it can be read.
    assert_eq!(get(&store), 2);
}

/// The same of a tree node: the walk for free space meets it, and nothing is committed.
#[test]
fn a_tree_node_that_the_medium_refuses_is_damage() {
    let (disk, store) = store();
    let mut commit = store.begin().unwrap();
    for i in 0..3000 {
        commit.put(SEGMENT, PageIndex(i * 6), &[9; PAGE_SIZE]).unwrap();
    }
    commit.commit().unwrap();
    drop(store);
    let place = *disk.written_pages().last().unwrap() - 3;
    disk.refuse(place);
    let store = Store::open_on(disk, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() }).unwrap();
    let e = store.begin().map(|_| ()).unwrap_err();
    assert!(matches!(&e, Error::Corrupt(fault) if fault.place == place && fault.page.is_none()), "{e}");
    let fault = store.damage().unwrap();
    assert_eq!(store.whole_before(&fault), Some(Generation(1)));
}

#[test]
fn commits_wait_for_each_other_and_readers_for_nobody() {
    let (_, store) = store();
    std::thread::scope(|scope| {
        for t in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..25 {
                    let mut commit = store.begin().unwrap();
                    commit.put(SegmentId(10 + t), PageIndex(i), &[7; PAGE_SIZE]).unwrap();
                    commit.commit().unwrap();
                    let mut out = [0; PAGE_SIZE];
                    store.read(SegmentId(10 + t), PageIndex(i), &mut out).unwrap();
                    assert_eq!(out[0], 7);
                }
            });
        }
    });
    assert_eq!(store.generation(), Generation(101));
    assert!(store.check(&mut |_| ()).is_sound());
}

#[test]
fn the_disk_is_asked_for_little_by_a_small_commit() {
    let (disk, store) = store();
    let before = disk.calls();
    put(&store, 2).unwrap();
    // Data and tree in one write; drain, flush; root, flush.
    assert_eq!(disk.calls() - before, 5);
    assert!(disk.len().unwrap() > 0);
}

#[test]
fn a_reservation_asks_the_host_first() {
    let (disk, store) = store();
    drop(store);
    let store = Store::open_on(disk.clone(), &OpenOptions::default()).unwrap();
    drop(store.begin().unwrap());
    disk.fail_at(disk.calls(), Failure::Enospc);
    let e = store.reserve(100).unwrap_err();
    assert!(matches!(e, Error::Full { available: 0, .. }), "{e}");
    assert_eq!(store.space().reserved, 0);
    let mut reservation = store.reserve(100).unwrap();
    assert!(reservation.resize(1 << 20).is_err());
    assert_eq!(reservation.pages(), 100);
    reservation.resize(0).unwrap();
    assert_eq!(store.space().reserved, 0);
}

#[test]
fn handles_go_from_thread_to_thread() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<semper_store::Commit>();
    is_send::<Store>();
    is_sync::<Store>();
    is_send::<semper_store::Reservation>();
}
