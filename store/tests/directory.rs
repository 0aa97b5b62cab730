//! Stores in real directories: what a user meets who opens, locks, damages, moves or fills one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_store::{
    CreateOptions, Error, Generation, IoChoice, OpenOptions, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store,
};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use tempfile::TempDir;

const SEGMENT: SegmentId = SegmentId(3);

fn small() -> CreateOptions {
    CreateOptions { size_bytes: 16 << 20, ..CreateOptions::default() }
}

fn fresh() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    (dir, path)
}

fn page(fill: u8) -> Vec<u8> {
    vec![fill; PAGE_SIZE]
}

fn put(store: &Store, index: u64, fill: u8) -> Generation {
    let mut commit = store.begin().unwrap();
    commit.put(SEGMENT, PageIndex(index), &page(fill)).unwrap();
    commit.commit().unwrap().generation
}

fn get(store: &Store, index: u64) -> u8 {
    let mut out = page(0xaa);
    store.read(SEGMENT, PageIndex(index), &mut out).unwrap();
    assert!(out.iter().all(|b| *b == out[0]), "a page is read whole");
    out[0]
}

#[test]
fn what_was_committed_is_there_after_reopening_under_both_kinds_of_io() {
    for io in [IoChoice::Auto, IoChoice::Plain] {
        let (_guard, dir) = fresh();
        drop(Store::create(&dir, &small()).unwrap());
        let options = OpenOptions { io, ..OpenOptions::default() };
        let store = Store::open(&dir, &options).unwrap();
        let far = (1 << 40) - 1;
        put(&store, 0, 1);
        put(&store, far, 2);
        let last = put(&store, 1 << 28, 3);
        drop(store);
        let store = Store::open(&dir, &options).unwrap();
        assert_eq!(store.generation(), last);
        assert!(store.recovery().fallen_back.is_empty());
        assert_eq!((get(&store, 0), get(&store, 1), get(&store, 1 << 28), get(&store, far)), (1, 0, 3, 2));
        assert_eq!(store.next_page(SEGMENT, PageIndex(1)).unwrap(), Some(PageIndex(1 << 28)));
        assert_eq!(store.next_page(SegmentId(2), PageIndex(0)).unwrap(), None);
        assert_eq!(store.segments().unwrap(), [SEGMENT]);
        let mut commit = store.begin().unwrap();
        commit.remove(SEGMENT, PageRange::between(1, far)).unwrap();
        commit.commit().unwrap();
        assert_eq!((get(&store, 0), get(&store, 1 << 28), get(&store, far)), (1, 0, 2));
        let mut old = page(0);
        store.read_at(last, SEGMENT, PageIndex(1 << 28), &mut old).unwrap();
        assert_eq!(old, page(3));
    }
}
