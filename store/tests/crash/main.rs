//! Crashes: the store on a simulated disk, against an exact model of every committed generation.
//!
//! `SEMPER_SEED` and `SEMPER_CYCLES` choose the run; a failure prints the seed that repeats it. The soak:
//! `SEMPER_CYCLES=1000000 cargo test -p semper-store --release --test crash -- --ignored soak --nocapture`
//! (`soak_with_the_walk_in_a_thread` alone if only that is wanted).

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
fn run(seed: u64, cycles: u64, setting: Setting) -> Outcome {
    sim::cycles(seed, cycles, |seed, cycles| Harness::new(seed, setting).run(cycles))
}

fn in_thread() -> Setting {
    Setting { walk_in_thread: true, ..Setting::default() }
}

#[test]
fn every_committed_generation_survives_repeated_crashes() {
    let seed = number("SEMPER_SEED", 1);
    let outcome = run(seed, number("SEMPER_CYCLES", 20_000), Setting::default());
    println!("seed {seed}: {outcome:#?}");
    assert!(outcome.crashes > 0 && outcome.commits > 0 && outcome.torn_recoveries > 0);
    assert!(outcome.killed > 0 && outcome.cut_off > 0 && outcome.sealed > 0);
    assert!(outcome.shrunk > 0 && outcome.grown > 0 && outcome.stayed > 0);
}

/// The walk reads beside what the harness reads, holds and compares, and is cut off wherever the store is closed or the power goes. A seed
/// repeats what is done, but not the order in which the calls of the two come to the disk: a failure may need several tries.
#[test]
fn the_same_with_the_walk_for_free_space_in_a_thread() {
    let seed = number("SEMPER_SEED", 1);
    let outcome = run(seed, number("SEMPER_CYCLES", 5_000), in_thread());
    println!("seed {seed}: {outcome:#?}");
    assert!(outcome.crashes > 0 && outcome.commits > 0 && outcome.torn_recoveries > 0);
}

#[test]
#[ignore = "a soak, by command"]
fn soak() {
    let seed = number("SEMPER_SEED", std::process::id().into());
    let outcome = run(seed, number("SEMPER_CYCLES", 200_000), Setting::default());
    println!("seed {seed}: {outcome:?}");
}

#[test]
#[ignore = "a soak, by command"]
fn soak_with_the_walk_in_a_thread() {
    let seed = number("SEMPER_SEED", std::process::id().into());
    let outcome = run(seed, number("SEMPER_CYCLES", 200_000), in_thread());
    println!("seed {seed}: {outcome:?}");
}
