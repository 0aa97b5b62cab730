//! A mirrored store: sides are killed, torn, rotten and pulled out, one at a time, under load, and none of what was announced is lost.
//!
//! `SEMPER_SEED` and `SEMPER_CYCLES` choose the run; a failure prints the seed that repeats it (but for the order in which calls of threads
//! come). The soak: `SEMPER_CYCLES=100000 cargo test -p semper-store --release --test mirrors -- --ignored soak --nocapture`

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod apart;
mod harness;
#[allow(dead_code, reason = "the crash harness uses all of it")]
#[path = "../crash/model.rs"]
mod model;

use harness::{Harness, Outcome};
use semper_store::Canary;
use semper_store::sim::{self, number};

fn run(seed: u64, cycles: u64) -> Outcome {
    sim::cycles(seed, cycles, |seed, cycles| Harness::new(seed, None).run(cycles))
}

#[test]
fn nothing_is_lost_while_one_side_at_a_time_fails() {
    let seed = number("SEMPER_SEED", 1);
    let outcome = run(seed, number("SEMPER_CYCLES", 1_000));
    println!("seed {seed}: {outcome:#?}");
    let Outcome { crashes, commits, dropped, filled, mended, alone, shrunk, grown, .. } = outcome;
    assert!(
        [crashes, commits, dropped, filled, mended, alone, shrunk, grown].iter().all(|count| *count > 20),
        "{outcome:?}"
    );
}

#[test]
fn each_planted_bug_is_found() {
    sim::find_each(Canary::MIRRORS, 60, |seed, canary| Harness::new(seed, Some(canary)).run(100));
}

#[test]
#[ignore = "a soak, by command"]
fn soak() {
    let seed = number("SEMPER_SEED", std::process::id().into());
    let outcome = run(seed, number("SEMPER_CYCLES", 50_000));
    println!("seed {seed}: {outcome:?}");
}
