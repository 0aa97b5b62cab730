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
use std::sync::atomic::{AtomicU64, Ordering};

/// The number in an environment variable.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Runs `cycles` crash cycles from `seed`, over both cores, as runs of 200 cycles on one store each.
fn run(seed: u64, cycles: u64) -> Outcome {
    const CYCLES_PER_STORE: u64 = 200;
    let next = AtomicU64::new(0);
    let stores = cycles.div_ceil(CYCLES_PER_STORE);
    let worker = || {
        let mut sum = Outcome::default();
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= stores {
                return sum;
            }
            let seed = seed.wrapping_add(run);
            let outcome = Harness::new(seed, Setting::default()).run(CYCLES_PER_STORE);
            sum += outcome.unwrap_or_else(|e| panic!("SEMPER_SEED={seed} SEMPER_CYCLES={CYCLES_PER_STORE}: {e}"));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
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
