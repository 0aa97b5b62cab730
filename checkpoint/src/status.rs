//! What `status` shows of the checkpoints.

use crate::engine::Outcome;
use crate::error::CheckpointError;
use crate::figures::{Figures, Percentiles, Totals};
use crate::world::FreezeError;
use serde::{Deserialize, Serialize};

/// The state of the checkpointer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The newest generation that was announced, or found at the start.
    pub generation: u64,
    /// Automatic checkpoints are off.
    pub paused: bool,
    /// Why the last attempt failed; none if it succeeded.
    pub failing: Option<String>,
    /// The first time that the object table failed its check since the runtime started. It stays, whatever succeeds later.
    pub inconsistent: Option<String>,
    /// How often it failed.
    pub inconsistencies: u64,
    /// No checkpoint is taken any more, for this reason.
    pub ended: Option<String>,
    /// Sums since the start.
    pub totals: Totals,
    /// Percentiles of the pause.
    pub pauses: Percentiles,
    /// The last checkpoints, oldest first.
    pub last: Vec<Figures>,
}

impl Summary {
    /// Takes note of an attempt; logs what is new in it.
    pub(crate) fn note(&mut self, result: &Result<Outcome, CheckpointError>) {
        match result {
            Ok(outcome) => {
                self.generation = outcome.generation().0;
                if self.failing.take().is_some() {
                    tracing::info!(generation = self.generation, "checkpoints succeed again");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if matches!(error, CheckpointError::Inconsistent(_)) {
                    self.inconsistencies += 1;
                    self.inconsistent.get_or_insert_with(|| text.clone());
                }
                if self.failing.as_ref() == Some(&text) {
                    // Said already.
                } else if matches!(error, CheckpointError::Freeze(FreezeError::Passing(_))) {
                    tracing::info!(stands = self.generation, "this checkpoint is left out: {text}");
                } else {
                    tracing::error!(stands = self.generation, "checkpoint failed: {text}");
                }
                self.failing = Some(text);
            }
        }
    }
}
