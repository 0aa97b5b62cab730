//! Why a checkpoint came to nothing.

use crate::seam::{CaptureError, WriteError};
use crate::world::{FreezeError, Inconsistency};

/// Why a checkpoint came to nothing. The last good generation stands in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Something would not stop. The next attempt may succeed.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The object table is broken: such a world is never committed.
    #[error("{0}; this state is not committed")]
    Inconsistent(#[from] Inconsistency),
    /// The store has no room for the commit; it is tried again at every interval and when space appears.
    #[error("the store is full: {needed} pages needed, {available} free; grow it or remove something")]
    Full {
        /// How many pages were asked for.
        needed: u64,
        /// How many are free.
        available: u64,
    },
    /// A write or a flush failed. Nothing is committed any more until the runtime is started anew.
    #[error(
        "no checkpoint can be committed any more, because a write to the store failed: {0}; start the runtime again"
    )]
    Poisoned(String),
    /// The store refused the commit for another reason.
    #[error("the store refused the checkpoint: {0}")]
    Store(String),
    /// Memory could not be captured.
    #[error("memory could not be captured: {0}")]
    Capture(String),
    /// It takes longer than the caller would wait; it may be committed yet.
    #[error("the checkpoint is not committed after {0:?}; it goes on")]
    TimedOut(std::time::Duration),
    /// The host gives no thread.
    #[error("the checkpointer cannot start: {0}")]
    Start(String),
    /// The checkpointer has ended.
    #[error("the checkpointer has ended: {0}")]
    Ended(String),
    /// The final checkpoint was taken. Whatever happened in the world is in it: nothing happens there after its capture.
    #[error("the checkpointer has ended: the final checkpoint was taken")]
    Finished,
}

impl CheckpointError {
    /// Whether no later attempt can succeed.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Poisoned(_) | Self::Ended(_) | Self::Finished)
    }
}

impl From<WriteError> for CheckpointError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Full { needed, available } => Self::Full { needed, available },
            WriteError::Poisoned(reason) => Self::Poisoned(reason),
            WriteError::Refused(reason) => Self::Store(reason),
        }
    }
}

impl From<CaptureError> for CheckpointError {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Memory(reason) => Self::Capture(reason),
            CaptureError::Write(error) => error.into(),
        }
    }
}
