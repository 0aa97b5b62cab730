//! A doorbell: whoever brings something for a waiting domain rings it; its server looks again.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Counts rings; a ring is never lost between looking and sleeping.
#[derive(Default)]
pub struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
    also: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Bell {
    /// How often it rang so far.
    #[must_use]
    pub fn rings(&self) -> u64 {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings.
    pub fn ring(&self) {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.rung.notify_all();
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
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        while *rings == seen {
            match deadline {
                None => rings = self.rung.wait(rings).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    rings = self.rung.wait_timeout(rings, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}
