//! Runs of crash cycles, as the tests of the store and of the journal make them.

use std::fmt::{Debug, Display};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cycles of one run; then a fresh one begins.
const CYCLES_PER_RUN: u64 = 200;

/// The number in the environment variable `name`.
///
/// # Panics
/// It is none.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Runs `cycles` crash cycles from `seed`, over both cores: `run(seed, cycles)` makes some of them on a disk of its own. The sum of what
/// the runs did.
///
/// # Panics
/// A run failed: with what it says, and the variables that repeat it.
pub fn cycles<O, E>(seed: u64, cycles: u64, run: impl Fn(u64, u64) -> Result<O, E> + Sync) -> O
where
    O: AddAssign + Default + Send,
    E: Display,
{
    let next = AtomicU64::new(0);
    let runs = cycles.div_ceil(CYCLES_PER_RUN);
    let worker = || {
        let mut sum = O::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= runs {
                return sum;
            }
            let seed = seed.wrapping_add(number);
            let outcome = run(seed, CYCLES_PER_RUN);
            sum += outcome.unwrap_or_else(|e| panic!("SEMPER_SEED={seed} SEMPER_CYCLES={CYCLES_PER_RUN}: {e}"));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(worker)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        let outcomes = joined.map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        outcomes.fold(O::default(), |mut sum, outcome| {
            sum += outcome;
            sum
        })
    })
}

/// Runs with each of `bugs` planted, from one seed after the other, until `run(seed, bug)` fails: a harness is worth what it finds.
///
/// # Panics
/// None of `seeds` seeds finds one of them.
pub fn find_each<B, O, E>(bugs: impl IntoIterator<Item = B>, seeds: u64, run: impl Fn(u64, B) -> Result<O, E>)
where
    B: Copy + Debug,
    E: Display,
{
    for bug in bugs {
        let found = (0..seeds).find_map(|seed| run(seed, bug).err().map(|e| (seed, e)));
        let (seed, how) = found.unwrap_or_else(|| panic!("the harness does not find {bug:?}"));
        println!("{bug:?}, seed {seed}: {how}");
    }
}

/// A struct of what a run did, in counts, that [`cycles`] sums.
#[macro_export]
macro_rules! sim_counts {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $count:ident: u64,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Default, Debug)]
        pub struct $name {
            $($(#[$doc])* pub $count: u64,)*
        }

        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$count += other.$count;)*
            }
        }
    };
}
