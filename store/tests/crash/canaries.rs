//! A harness is worth what it finds: each planted bug must be found.

use crate::harness::{Harness, Setting};
use semper_store::Canary;
use semper_store::sim;

#[test]
fn each_planted_bug_is_found() {
    sim::find_each(Canary::ALL, 60, |seed, canary| {
        Harness::new(seed, Setting { canary: Some(canary), ..Setting::default() }).run(100)
    });
}

/// Bugs of the walk, with the walk in a thread.
#[test]
fn a_walk_in_a_thread_that_forgets_older_generations_is_found() {
    let setting = Setting { canary: Some(Canary::WalkNewestOnly), walk_in_thread: true, ..Setting::default() };
    assert!((0..60).any(|seed| Harness::new(seed, setting).run(100).is_err()));
}

#[test]
fn the_same_seeds_find_nothing_without_a_bug() {
    for seed in 0..10 {
        let outcome = Harness::new(seed, Setting::default()).run(100);
        assert!(outcome.is_ok(), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn an_honest_disk_never_costs_a_generation() {
    for seed in 0..20 {
        let setting = Setting { dishonest: false, ..Setting::default() };
        let outcome = Harness::new(seed, setting).run(100).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!((outcome.rewound, outcome.destroyed), (0, 0), "seed {seed}");
    }
}
