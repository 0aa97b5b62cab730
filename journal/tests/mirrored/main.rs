//! The journal of a store on several sides: one side at a time is killed, torn, rotten, robbed of files or pulled out, and brought up to date
//! under load; what was acknowledged is on every side that counts, and is there when only one of them is left.
//!
//! `SEMPER_SEED` and `SEMPER_CYCLES` choose the run; a failure prints the seed that repeats it (but for the order in which calls of threads
//! come). The soak: `SEMPER_CYCLES=100000 cargo test -p semper-journal --release --test mirrored -- --ignored soak --nocapture`

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod harness;
#[allow(dead_code, reason = "the crash harness uses all of it")]
#[path = "../crash/model.rs"]
mod model;
mod records;

use harness::{Bug, Harness, Outcome};
use semper_journal::Canary;
use semper_store::sim::{self, number};

fn run(seed: u64, cycles: u64) -> Outcome {
    sim::cycles(seed, cycles, |seed, cycles| Harness::new(seed, Bug::None).run(cycles))
}

#[test]
fn nothing_is_lost_while_one_side_at_a_time_fails() {
    let seed = number("SEMPER_SEED", 1);
    let outcome = run(seed, number("SEMPER_CYCLES", 1_500));
    println!("seed {seed}: {outcome:#?}");
    let Outcome { crashes, records, dropped, filled, cut_off, kept, mended, alone, trims } = outcome;
    assert!(
        [crashes, records, dropped, filled, cut_off, kept, mended, alone, trims].iter().all(|n| *n > 20),
        "{outcome:?}"
    );
}

#[test]
fn each_planted_bug_is_found() {
    let journal = Canary::MIRRORED.into_iter().map(Bug::Journal);
    let store = semper_store::Canary::FOLDERS.into_iter().map(Bug::Store);
    let bugs = [Bug::KeepNewest].into_iter().chain(journal).chain(store);
    sim::find_each(bugs, 500, |seed, bug| Harness::new(seed, bug).run(100));
}

#[test]
#[ignore = "a soak, by command"]
fn soak() {
    let seed = number("SEMPER_SEED", std::process::id().into());
    let outcome = run(seed, number("SEMPER_CYCLES", 50_000));
    println!("seed {seed}: {outcome:?}");
}
