//! Crashes: the store on a simulated disk, against an exact model of every committed generation.
//!
//! `SEMPER_SEED` and `SEMPER_CYCLES` choose the run; a failure prints the seed that repeats it. The soak:
//! `SEMPER_CYCLES=1000000 cargo test -p semper-store --release --test crash -- --ignored soak --nocapture`.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod canaries;
mod damage;
mod harness;
mod model;
mod subsets;
mod sweep;

use harness::{Harness, Outcome, Setting};
use semper_store::sim::{self, number};

/// Runs `cycles` crash cycles from `seed`.
fn run(seed: u64, cycles: u64) -> Outcome {
    sim::cycles(seed, cycles, |seed, cycles| Harness::new(seed, Setting::default()).run(cycles))
}

#[test]
fn every_committed_generation_survives_repeated_crashes() {
    let seed = number("SEMPER_SEED", 1);
    let outcome = run(seed, number("SEMPER_CYCLES", 20_000));
    println!("seed {seed}: {outcome:#?}");
    assert!(outcome.crashes > 0 && outcome.commits > 0 && outcome.torn_recoveries > 0);
}

#[test]
#[ignore = "a soak, by command"]
fn soak() {
    let seed = number("SEMPER_SEED", std::process::id().into());
    let outcome = run(seed, number("SEMPER_CYCLES", 200_000));
    println!("seed {seed}: {outcome:?}");
}
