//! Whether others want the cores: who waits by looking then takes them from whom it waits for.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// An offered core that comes back after longer than this is wanted by others.
const CROWDED: Duration = Duration::from_micros(200);

/// Waits that sleep at once after that: trying again costs a slice of those others, some 3 ms.
const WAITS_CROWDED: u32 = 512;

/// Counts down the waits that are to be slept through.
#[derive(Debug, Default)]
pub struct Crowd(AtomicU32);

impl Crowd {
    /// Offers the core. True: others computed on it for so long that to sleep is better: who is woken comes before them, who
    /// offered waits until they have had their slice.
    pub fn offer_core() -> bool {
        let before = Instant::now();
        std::thread::yield_now();
        before.elapsed() > CROWDED
    }

    /// The next waits are slept through.
    pub fn note(&self) {
        self.0.store(WAITS_CROWDED, Relaxed);
    }

    /// How many waits are still to be slept through, this one included.
    pub fn take(&self) -> u32 {
        let left = self.0.load(Relaxed);
        if left > 0 {
            self.0.store(left - 1, Relaxed);
        }
        left
    }
}
