//! Copying no faster than asked.

use crate::error::Error;
use std::time::{Duration, Instant};

/// A stretch of waiting after which it is looked whether there is a point in going on.
const NAP: Duration = Duration::from_millis(50);

/// So many bytes in a second, from when it was made.
pub(crate) struct Pace {
    rate: Option<u64>,
    begun: Instant,
}

impl Pace {
    /// None: as fast as it goes.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, begun: Instant::now() }
    }

    /// Waits until `done` bytes may have been copied.
    ///
    /// # Errors
    /// Those of `go_on`.
    pub fn wait(&self, done: u64, go_on: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        loop {
            go_on()?;
            let Some(rate) = self.rate else { return Ok(()) };
            #[expect(clippy::cast_precision_loss, reason = "a pace needs no more digits")]
            let due = Duration::try_from_secs_f64(done as f64 / rate.max(1) as f64).unwrap_or(Duration::MAX);
            let left = due.saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}
