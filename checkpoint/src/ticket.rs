//! Waiting for a checkpoint that somebody asked for.

use crate::error::CheckpointError;
use semper_store::Generation;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Outcome = Result<Generation, CheckpointError>;

#[derive(Default)]
struct Slot {
    outcome: Mutex<Option<Outcome>>,
    given: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A checkpoint that was asked for. Dropping it does not call the checkpoint off.
pub struct Ticket(Arc<Slot>);

/// The other end: gives the outcome, once.
pub(crate) struct Answer(Arc<Slot>);

impl Ticket {
    pub(crate) fn new() -> (Self, Answer) {
        let slot = Arc::<Slot>::default();
        (Self(Arc::clone(&slot)), Answer(slot))
    }

    /// Waits until the checkpoint is committed; gives its generation.
    ///
    /// # Errors
    /// If it fails, or is not committed in time; the ticket stays good then.
    pub fn wait(&self, timeout: Duration) -> Result<Generation, CheckpointError> {
        let deadline = Instant::now() + timeout;
        let mut outcome = self.0.lock();
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CheckpointError::TimedOut(timeout));
            }
            outcome = self.0.given.wait_timeout(outcome, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits however long it takes.
    ///
    /// # Errors
    /// If it fails.
    pub fn wait_forever(&self) -> Result<Generation, CheckpointError> {
        let mut outcome = self.0.lock();
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            outcome = self.0.given.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Answer {
    pub(crate) fn give(self, outcome: Outcome) {
        self.0.lock().get_or_insert(outcome);
        self.0.given.notify_all();
    }
}
