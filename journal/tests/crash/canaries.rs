//! A harness is worth what it finds: each planted bug must be found.

use crate::harness::{Harness, Setting};
use semper_journal::Canary;

#[test]
fn each_planted_bug_is_found() {
    for canary in Canary::ALL {
        let setting = Setting { canary: Some(canary), ..Setting::default() };
        let found = (0..60).find_map(|seed| Harness::new(seed, setting).run(100).err().map(|e| (seed, e)));
        let (seed, how) = found.unwrap_or_else(|| panic!("the harness does not find {canary:?}"));
        println!("{canary:?}, seed {seed}: {how}");
    }
}

#[test]
fn an_honest_disk_never_costs_a_record() {
    for seed in 0..20 {
        let setting = Setting { dishonest: false, ..Setting::default() };
        let outcome = Harness::new(seed, setting).run(100).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!((outcome.told_lost, outcome.destroyed), (0, 0), "seed {seed}");
    }
}
