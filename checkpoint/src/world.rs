//! What a checkpoint must be able to stop: the domains and the kernel, seen from below.

use crate::error::CheckpointError;
use semper_store::Committed;

/// The world could not be stopped. Whoever returns this has let go everything it had stopped already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    /// Something does not stop, or must not be captured.
    #[error("the domains could not be stopped: {0}")]
    Refused(String),
    /// What stood in the way is being put right already; the next attempt is expected to succeed.
    #[error("{0}")]
    Passing(String),
}

/// The object table breaks one of its invariants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object table is inconsistent: {0}")]
pub struct Inconsistency(pub String);

/// What is captured: everything that runs and may write to pages.
///
/// The order of calls in one checkpoint: `idle`, `before_capture`; any number of pairs `freeze`, `thaw` (short stops); then the
/// final stop: `freeze`, `check`, `captured`, `thaw`; then exactly one of `committed` and `failed`. A checkpoint that goes wrong
/// earlier ends in `failed` with no `captured`; one of an idle world makes no call after `idle`.
///
/// The calls come from the checkpointer's threads, one at a time except that `freeze` and `thaw` may come from a second thread while the
/// world runs. None of them may wait for a checkpoint.
pub trait World: Send + Sync {
    /// Whether nothing runs: every domain waits, so that a freeze would change no page. A world that says so and has no written
    /// page is not even stopped. `false` is always safe.
    fn idle(&self) -> bool {
        false
    }

    /// Called while domains run, before the first page is looked at: the place for work that would lengthen the stop.
    fn before_capture(&self) {}

    /// Stops all running domains, at the end of the kernel's current transaction. When it returns, their registers are in pages and
    /// nothing writes to a page until [`World::thaw`].
    ///
    /// # Errors
    /// If something could not be stopped in reasonable time. Then everything runs again when it returns.
    fn freeze(&self) -> Result<(), FreezeError>;

    /// Checks the object table while everything is stopped. It is in the pause: it must be cheap.
    ///
    /// # Errors
    /// The invariant that is broken. Such a world is never committed.
    fn check(&self) -> Result<(), Inconsistency>;

    /// The last call before the thaw of the final stop: what exists now is what this checkpoint contains. The world notes here
    /// how far its held output reaches, so that [`World::committed`] can release it.
    fn captured(&self) {}

    /// Lets everything run again. After a final checkpoint that succeeded it is not called: the world ends stopped.
    fn thaw(&self);

    /// What the last [`World::captured`] noted is durable now, as this generation. If nothing had changed since the newest
    /// generation, it is that one, with no pages.
    fn committed(&self, committed: &Committed) {
        let _ = committed;
    }

    /// The checkpoint came to nothing; the last good generation stands, and no page was forgotten.
    fn failed(&self, error: &CheckpointError) {
        let _ = error;
    }
}
