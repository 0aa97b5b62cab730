//! A store that gets smaller while it is in use: on a real file, beside a writer, with tags, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_store::{
    CreateOptions, Error, Generation, OpenOptions, PAGE_SIZE, PageIndex, PageRange, SegmentId, Shrinking, Store,
};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const SEGMENT: SegmentId = SegmentId(3);
const MIB: u64 = 1 << 20;

fn fresh(size_bytes: u64) -> (tempfile::TempDir, PathBuf, Store) {
    let guard = tempfile::tempdir().unwrap();
    let dir = guard.path().join("store");
    let store = Store::create(&dir, &CreateOptions { size_bytes, ..CreateOptions::default() }).unwrap();
    (guard, dir, store)
}

fn content(with: u8, index: u64) -> u8 {
    with.wrapping_add(u8::try_from(index % 251).unwrap()) | 1
}

fn put(store: &Store, first: u64, count: u64, with: u8) -> Generation {
    let mut commit = store.begin().unwrap();
    for index in first..first + count {
        commit.put(SEGMENT, PageIndex(index), &[content(with, index); PAGE_SIZE]).unwrap();
    }
    commit.commit().unwrap().generation
}

fn holds(store: &Store, at: Generation, first: u64, count: u64, with: u8) {
    let mut out = vec![0; PAGE_SIZE];
    for index in first..first + count {
        store.read_at(at, SEGMENT, PageIndex(index), &mut out).unwrap();
        assert!(out.iter().all(|byte| *byte == content(with, index)), "page {index}");
    }
}

fn length(dir: &Path) -> u64 {
    fs::metadata(dir.join("pages")).unwrap().len()
}

fn to_its_end(_: Shrinking) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Fills a store of 32 MiB, and empties all but what lies at its end.
fn end_heavy() -> (tempfile::TempDir, PathBuf, Store) {
    let (guard, dir, store) = fresh(32 * MIB);
    put(&store, 0, 5000, 0);
    put(&store, 5000, 1500, 0);
    let mut commit = store.begin().unwrap();
    commit.remove(SEGMENT, PageRange::between(0, 5000)).unwrap();
    commit.commit().unwrap();
    (guard, dir, store)
}

#[test]
fn what_lies_at_the_end_moves_and_the_file_is_as_long_as_asked() {
    let (_guard, dir, store) = end_heavy();
    let mut left = Vec::new();
    store
        .shrink(12 * MIB, &mut |state| {
            left.push(state.beyond);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(left[0] > 1000 && left.len() > 5 && left.windows(2).all(|pair| pair[0] >= pair[1]), "{left:?}");
    assert_eq!((length(&dir), store.space().total, store.shrinking()), (12 * MIB, 3072, None));
    holds(&store, store.generation(), 5000, 1500, 0);
    assert!(store.check(&mut |_| ()).is_sound());
    put(&store, 0, 100, 7);
    drop(store);
    let store = Store::open(&dir, &OpenOptions::default()).unwrap();
    holds(&store, store.generation(), 5000, 1500, 0);
    holds(&store, store.generation(), 0, 100, 7);
    // Once more, and back.
    store.shrink(10 * MIB, &mut to_its_end).unwrap();
    store.grow(20 * MIB).unwrap();
    put(&store, 0, 2000, 9);
    assert_eq!(length(&dir), 20 * MIB);
    let report = store.check(&mut |_| ());
    assert!(report.is_sound() && report.free_map_holds == Some(true), "{report:?}");
}

#[test]
fn a_writer_goes_on_meanwhile() {
    let (_guard, dir, store) = end_heavy();
    let over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 0_u64;
            while !over.load(Ordering::Relaxed) || round < 3 {
                put(&store, 100 * (round % 3), 100, u8::try_from(round % 250).unwrap());
                round += 1;
            }
            round
        });
        for size in [16 * MIB, 12 * MIB, 11 * MIB, 14 * MIB, 10 * MIB] {
            if size > store.space().total * PAGE_SIZE as u64 {
                store.grow(size).unwrap();
            } else {
                store.shrink(size, &mut to_its_end).unwrap();
            }
            assert_eq!(length(&dir), size);
        }
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    for round in written - 3..written {
        holds(&store, store.generation(), 100 * (round % 3), 100, u8::try_from(round % 250).unwrap());
    }
    holds(&store, store.generation(), 5000, 1500, 0);
    drop(store);
    let store = Store::open(&dir, &OpenOptions::default()).unwrap();
    assert!(store.check(&mut |_| ()).is_sound());
}

#[test]
fn what_is_held_there_is_named_and_shrinking_goes_on_when_it_is_let_go() {
    let (_guard, dir, store) = end_heavy();
    let at = store.generation();
    store.tag("before", at).unwrap();
    let refused = store.shrink(16 * MIB, &mut to_its_end).unwrap_err();
    assert!(matches!(refused, Error::StillHeld { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("{at} (tag `before`)")), "{refused}");
    // It is as it was, and what was tagged is there.
    assert_eq!((length(&dir), store.space().total), (32 * MIB, 8192));
    holds(&store, at, 5000, 1500, 0);
    let reader = store.hold(at).unwrap();
    store.untag("before").unwrap();
    let refused = store.shrink(16 * MIB, &mut to_its_end).unwrap_err();
    assert!(refused.to_string().contains(&format!("{at} (being read)")), "{refused}");
    drop(reader);
    // A tag of what was moved already is none in the way.
    store.tag("after", store.generation()).unwrap();
    store.shrink(16 * MIB, &mut to_its_end).unwrap();
    assert_eq!(length(&dir), 16 * MIB);
    assert!(store.check(&mut |_| ()).is_sound());
}

#[test]
fn sizes_that_do_not_do_are_refused_with_numbers() {
    let (_guard, dir, store) = end_heavy();
    for size in [0, MIB] {
        assert!(matches!(store.shrink(size, &mut to_its_end), Err(Error::BadSize { .. })));
    }
    let larger = store.shrink(33 * MIB, &mut to_its_end).unwrap_err();
    assert!(larger.to_string().contains("semper grow does"), "{larger}");
    let Err(Error::DoesNotFit { used, needed, .. }) = store.shrink(6 * MIB, &mut to_its_end) else { panic!("it fits") };
    assert!(used > 6 * MIB && used < needed && needed < 9 * MIB, "{used} {needed}");
    assert_eq!((length(&dir), store.shrinking()), (32 * MIB, None));
    // What it says would do does.
    store.shrink(needed, &mut to_its_end).unwrap();
    assert_eq!(length(&dir), needed);
    holds(&store, store.generation(), 5000, 1500, 0);
}

#[test]
fn it_can_be_stopped_and_growing_takes_it_back() {
    let (_guard, dir, store) = end_heavy();
    let stopped = store.shrink(16 * MIB, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, Error::Shrink(_)), "{stopped}");
    let mut again = None;
    let taken_back = store.shrink(16 * MIB, &mut |state| {
        assert_eq!(store.shrinking(), Some(state));
        if again.is_none() {
            again = store.shrink(20 * MIB, &mut to_its_end).err();
        }
        if state.beyond < 1000 {
            store.grow(32 * MIB).unwrap();
        }
        ControlFlow::Continue(())
    });
    assert!(again.unwrap().to_string().contains("already"));
    assert!(taken_back.unwrap_err().to_string().contains("told to grow"));
    assert_eq!((length(&dir), store.space().total, store.shrinking()), (32 * MIB, 8192, None));
    put(&store, 0, 4000, 5);
    assert!(store.check(&mut |_| ()).is_sound());
}

#[test]
fn rot_at_the_end_is_named_and_nothing_is_lost() {
    let (_guard, dir, store) = end_heavy();
    let path = dir.join("pages");
    let mut bytes = fs::read(&path).unwrap();
    // The last page that is written holds a page of the segment, or a node above it.
    let last = bytes.chunks(PAGE_SIZE).rposition(|page| page.iter().any(|byte| *byte != 0)).unwrap();
    let rotten =
        (0..last).rev().find(|at| bytes[at * PAGE_SIZE..][..PAGE_SIZE].windows(2).all(|pair| pair[0] == pair[1]));
    bytes[rotten.unwrap() * PAGE_SIZE + 77] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let refused = store.shrink(12 * MIB, &mut to_its_end).unwrap_err();
    assert!(matches!(&refused, Error::Corrupt(fault) if fault.page.is_some()), "{refused}");
    assert_eq!((length(&dir), store.space().total), (32 * MIB, 8192));
    put(&store, 0, 10, 5);
}
