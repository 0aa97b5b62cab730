//! SIGKILL at every named place, over a real store: what is found afterwards is a whole generation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, missing_docs, reason = "shared by several test binaries, which use parts of it")]
mod fake;

use fake::{Act, Machine};
use semper_checkpoint::{CRASH_POINTS, Engine, Limits, Trigger};
use semper_store::{
    COMMIT_CRASH_POINTS, CRASH_VARIABLE, CreateOptions, OpenOptions, PAGE_SIZE, PageIndex, SegmentId, Store,
};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const PAGES: u64 = 200;
const DIR: &str = "SEMPER_TEST_CRASH_DIR";

/// Not a test by itself: what the killed process does. Each `Fill` adds one to all pages in one step, so a state in which two pages differ
/// is none that ever existed.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Arc::new(Store::open(Path::new(&dir), &OpenOptions::default()).unwrap());
    let machine = Machine::new([]);
    machine.lock().elsewhere = true;
    let limits = Limits { small: 2, remainder: 4, near: 250, hot: 100, staging: 250, ..Limits::default() };
    let this = || Arc::clone(&machine);
    let mut engine = Engine::new(this(), store, this(), this(), limits);
    let tight = Limits { near: 32, staging: 150, ..limits };
    for round in 0..3 {
        machine.lock().script.extend((0..3000).map(|_| Act::Fill(PAGES)));
        engine.checkpoint(Trigger::Interval, &mut || {}).unwrap();
        machine.lock().script.clear();
        if round == 1 {
            // From here on rounds are too large for stops, so that the writer is slowed down, and for memory, so that they are streamed.
            let store = Arc::clone(engine.durable());
            engine = Engine::new(this(), store, this(), this(), tight);
        }
    }
}

fn all_equal(store: &Store) {
    let mut data = vec![0; usize::try_from(PAGES).unwrap() * PAGE_SIZE];
    store.read(SegmentId(9), PageIndex(0), &mut data).unwrap();
    let first = &data[..PAGE_SIZE];
    assert!(data.chunks_exact(PAGE_SIZE).all(|page| page == first), "a state that never existed");
}

#[test]
fn killed_at_any_place_a_whole_generation_stands() {
    for place in CRASH_POINTS.iter().chain(COMMIT_CRASH_POINTS) {
        for nth in 1..=2_u64 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store");
            drop(Store::create(&path, &CreateOptions { size_bytes: 64 << 20, ..CreateOptions::default() }).unwrap());
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["victim", "--exact"])
                .env(DIR, &path)
                .env(CRASH_VARIABLE, format!("{place}:{nth}"))
                .output()
                .unwrap();
            assert_eq!(output.status.signal(), Some(9), "{place}:{nth} is never reached: {output:?}");
            let store = Store::open(&path, &OpenOptions::default()).unwrap();
            all_equal(&store);
            let generation = store.generation().0;
            let expected = match *place {
                "root-written" | "root-flushed" | "books-settled" | "after-commit" | "after-announce" => Some(nth),
                "tree-made" | "data-written" | "data-flushed" | "before-commit" | "before-data" | "after-thaw"
                | "captured" | "before-first-round" => Some(nth - 1),
                _ => None,
            };
            assert!(expected.is_none_or(|expected| expected == generation), "{place}:{nth}: {generation}");
        }
    }
}
