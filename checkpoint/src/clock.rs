//! Time as a trait, so that the policy and the algorithm run under a virtual clock in tests.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the checkpointer knows of time.
pub trait Clock: Send + Sync {
    /// Monotonic time since some fixed instant.
    fn now(&self) -> Duration;
    /// Wall time since 1970; only shown, never calculated with.
    fn wall(&self) -> Duration;
    /// Lets time pass.
    fn sleep(&self, time: Duration);
}

/// The clock of the host.
#[derive(Debug)]
pub struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
