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
use std::sync::atomic::{AtomicU64, Ordering};

/// The number in an environment variable.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Runs `cycles` crash cycles from `seed`, over both cores, as runs of 200 cycles on one journal each.
fn run(seed: u64, cycles: u64) -> Outcome {
    const CYCLES_PER_JOURNAL: u64 = 200;
    let next = AtomicU64::new(0);
    let journals = cycles.div_ceil(CYCLES_PER_JOURNAL);
    let worker = || {
        let mut sum = Outcome::default();
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= journals {
                return sum;
            }
            let seed = seed.wrapping_add(run);
            let outcome = Harness::new(seed, Setting::default()).run(CYCLES_PER_JOURNAL);
            sum += outcome.unwrap_or_else(|e| panic!("SEMPER_SEED={seed} SEMPER_CYCLES={CYCLES_PER_JOURNAL}: {e}"));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
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
