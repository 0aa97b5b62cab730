//! Space that runs short within a commit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod io;

use semper_store::{CreateOptions, OpenOptions, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};

const SEGMENT: SegmentId = SegmentId(1);

/// Pages of which a store of 2 MiB (512 places, half of them for the roots) has room for two generations, but not for more.
const PAGES: u64 = 60;

fn page(fill: u64) -> [u8; PAGE_SIZE] {
    let mut page = [7; PAGE_SIZE];
    page[..8].copy_from_slice(&fill.to_le_bytes());
    page
}

/// Puts that replace each other once took a place each until the commit was over: a capture in rounds could fill any store.
#[test]
fn a_commit_needs_space_for_its_last_puts_only() {
    let kinds = io::kinds(tempfile::tempdir().unwrap().path());
    for io in kinds {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::create(dir.path(), &CreateOptions { size_bytes: 2 << 20, ..CreateOptions::default() }).unwrap());
        let store = Store::open(dir.path(), &OpenOptions { io, ..OpenOptions::default() }).unwrap();
        for generation in 1..=6_u64 {
            let mut commit = store.begin().unwrap();
            for round in 0..8 {
                for index in 0..PAGES {
                    commit.put(SEGMENT, PageIndex(index), &page(generation << 16 | round << 8 | index)).unwrap();
                }
                commit.remove(SEGMENT, PageRange { first: PageIndex(round), count: 1 }).unwrap();
            }
            commit.commit().unwrap();
            let mut out = [0; PAGE_SIZE];
            for index in 0..PAGES {
                store.read(SEGMENT, PageIndex(index), &mut out).unwrap();
                let expected = if index == 7 { [0; PAGE_SIZE] } else { page(generation << 16 | 7 << 8 | index) };
                assert!(out == expected, "generation {generation}, page {index}");
            }
        }
        let used = store.space().used;
        let report = store.check(&mut |_| {});
        assert!(report.is_sound(), "{report:?}");
        // Nothing of what was replaced has been forgotten: a walk finds the same.
        drop(store);
        let store = Store::open(dir.path(), &OpenOptions::default()).unwrap();
        drop(store.begin().unwrap());
        assert!(store.space().used <= used, "{} places are found, {used} were known", store.space().used);
    }
}
