//! A doorbell: whoever brings something for a waiting domain rings it; its server looks again.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Counts rings; a ring is never lost between looking and sleeping.
#[derive(Default)]
pub struct Bell {
    rings: Mutex<Rings>,
    rung: Condvar,
    also: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Rings {
    count: u64,
    /// Who sleeps. Most rings find nobody, and to wake nobody is a system call.
    sleepers: usize,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it rang so far.
    #[must_use]
    pub fn rings(&self) -> u64 {
        self.lock().count
    }

    /// Rings.
    pub fn ring(&self) {
        let mut rings = self.lock();
        rings.count += 1;
        let sleepers = rings.sleepers;
        drop(rings);
        if sleepers > 0 {
            self.rung.notify_all();
        }
        if let Some(also) = self.also.get() {
            also();
        }
    }

    /// Has `act` called at every ring; only the first one that is given is.
    pub fn also(&self, act: impl Fn() + Send + Sync + 'static) {
        let _ = self.also.set(Box::new(act));
    }

    /// Sleeps until it rang more often than `seen`, or until `deadline`.
    pub fn wait(&self, seen: u64, deadline: Option<Instant>) {
        let mut rings = self.lock();
        rings.sleepers += 1;
        while rings.count == seen {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            rings = match left {
                None => self.rung.wait(rings).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => self.rung.wait_timeout(rings, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        rings.sleepers -= 1;
    }
}
