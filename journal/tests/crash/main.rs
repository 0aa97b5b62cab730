//! Crashes: the journal in a simulated folder, against a plain model of every record.
//!
//! `SEMPER_SEED` and `SEMPER_CYCLES` choose the run; a failure prints the seed that repeats it. The soak:
//! `SEMPER_CYCLES=1000000 cargo test -p semper-journal --release --test crash -- --ignored soak --nocapture`.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod canaries;
mod damage;
mod harness;
mod model;
mod sweep;

use harness::{Harness, Outcome, Setting};
use semper_store::sim::{self, number};

/// Runs `cycles` crash cycles from `seed`.
fn run(seed: u64, cycles: u64) -> Outcome {
    sim::cycles(seed, cycles, |seed, cycles| Harness::new(seed, Setting::default()).run(cycles))
}

#[test]
fn every_acknowledged_record_survives_repeated_crashes() {
    let seed = number("SEMPER_SEED", 1);
    let outcome = run(seed, number("SEMPER_CYCLES", 20_000));
    println!("seed {seed}: {outcome:#?}");
    assert!(outcome.records > 0 && outcome.found_again > 0 && outcome.damaged > 0 && outcome.trims > 0);
    assert!(outcome.in_doubt_kept > 0 && outcome.in_doubt_lost > 0 && outcome.told_lost > 0);
}

#[test]
#[ignore = "a soak, by command"]
fn soak() {
    let seed = number("SEMPER_SEED", std::process::id().into());
    let outcome = run(seed, number("SEMPER_CYCLES", 200_000));
    println!("seed {seed}: {outcome:?}");
}
