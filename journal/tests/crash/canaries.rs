//! A harness is worth what it finds: each planted bug must be found.

use crate::harness::{Harness, Setting};
use semper_journal::Canary;
use semper_store::sim;

#[test]
fn each_planted_bug_is_found() {
    sim::find_each(Canary::ALL, 60, |seed, canary| {
        Harness::new(seed, Setting { canary: Some(canary), ..Setting::default() }).run(100)
    });
}

#[test]
fn an_honest_disk_never_costs_a_record() {
    for seed in 0..20 {
        let setting = Setting { dishonest: false, ..Setting::default() };
        let outcome = Harness::new(seed, setting).run(100).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!((outcome.told_lost, outcome.destroyed), (0, 0), "seed {seed}");
    }
}
