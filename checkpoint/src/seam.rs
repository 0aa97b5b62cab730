//! The two seams of the algorithm: where pages come from and where they go. `adapt` ties them to the pager and the store; tests
//! put fakes there that fail on demand.

use semper_store::{Committed, Generation, PageIndex, PageRange, SegmentId};

pub use semper_pager::Stage;

/// Why the durable side took no page or no commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No room.
    #[error("{needed} pages needed, {available} free")]
    Full {
        /// How many pages were asked for.
        needed: u64,
        /// How many are free.
        available: u64,
    },
    /// A write or a flush failed, now or earlier: no commit can succeed any more.
    #[error("{0}")]
    Poisoned(String),
    /// Anything else; a later commit may succeed.
    #[error("{0}")]
    Refused(String),
}

/// Why a capture went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Written pages could not be found or copied.
    #[error("{0}")]
    Memory(String),
    /// The sink that the pages went to refused them.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Takes captured pages. What comes later replaces what came earlier for the same page.
pub trait PageSink {
    /// Pages of `segment` from `first` on; `data` is a multiple of a page.
    ///
    /// # Errors
    /// If they cannot be kept.
    fn put(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), WriteError>;

    /// These pages read as zeros from now on.
    ///
    /// # Errors
    /// If that cannot be kept.
    fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), WriteError>;

    /// The segment is gone, with all its pages.
    ///
    /// # Errors
    /// If that cannot be kept.
    fn remove_segment(&mut self, segment: SegmentId) -> Result<(), WriteError>;
}

/// What was found to be written.
pub trait Scanned {
    /// How many pages.
    fn pages(&self) -> u64;
    /// Whether nothing changed at all: no page, no removal.
    fn is_empty(&self) -> bool;
}

/// Where pages come from: the pager.
///
/// Every page written since the last `scan` is in the next one, and stays marked until `committed`; `abandon` makes everything scanned since
/// the last of the two dirty again. So a checkpoint that fails at any place loses nothing.
pub trait Capture: Send + Sync {
    /// A set of written pages and removals.
    type Scan: Scanned;
    /// A reusable buffer of page contents.
    type Staging: Default + Send;

    /// Finds what was written or removed since the last scan, and protects it again.
    ///
    /// # Errors
    /// If the written pages cannot be had.
    fn scan(&self, stage: Stage) -> Result<Self::Scan, CaptureError>;

    /// Copies what a scan found into a buffer, after what is in it.
    ///
    /// # Errors
    /// If a page cannot be copied.
    fn copy(&self, scan: &Self::Scan, staging: &mut Self::Staging) -> Result<(), CaptureError>;

    /// Streams what a scan found into `sink`, with bounded memory.
    ///
    /// # Errors
    /// If a page cannot be copied, or `sink` refuses it.
    fn copy_into(&self, scan: &Self::Scan, sink: &mut dyn PageSink) -> Result<(), CaptureError>;

    /// Moves what is in the buffer into `sink`, in the order in which it was copied; keeps memory for at most `keep` pages.
    ///
    /// # Errors
    /// If `sink` refuses it.
    fn drain(&self, staging: &mut Self::Staging, keep: u64, sink: &mut dyn PageSink) -> Result<(), CaptureError>;

    /// Forgets what is in the buffer.
    fn clear(&self, staging: &mut Self::Staging);

    /// All that was scanned is durable.
    fn committed(&self);

    /// Nothing of what was scanned is durable.
    fn abandon(&self);

    /// Whether programs wait for a checkpoint to get clean memory. Cheap: it is polled.
    fn wants_checkpoint(&self) -> bool;

    /// If programs wait for clean memory now: how often one that waited was given some. While it stays the same checkpoints help
    /// nobody. Cheap: it is polled.
    fn starving(&self) -> Option<u64> {
        None
    }

    /// Bytes in memory known to differ from the store; polled if there is a limit.
    fn dirty_bytes(&self) -> u64;

    /// Wants `hook` to be called when [`Capture::wants_checkpoint`] becomes true, so that nobody waits for the next poll.
    fn on_pressure(&self, hook: Box<dyn Fn() + Send + Sync>) {
        let _ = hook;
    }
}

/// A commit that is being made; dropping it gives everything back.
pub trait Transaction: PageSink {
    /// Asks for one flush where two would be made, as [`semper_store::Commit::set_one_flush`] says.
    fn set_one_flush(&mut self) {}

    /// Makes it the newest generation.
    ///
    /// # Errors
    /// If it is not, or may not be, durable.
    fn commit(self) -> Result<Committed, WriteError>;
}

/// Where pages go: the store.
pub trait Durable: Send + Sync {
    /// A commit that is being made.
    type Commit<'a>: Transaction
    where
        Self: 'a;

    /// Starts a commit.
    ///
    /// # Errors
    /// If the store takes none.
    fn begin(&self) -> Result<Self::Commit<'_>, WriteError>;

    /// The newest generation.
    fn generation(&self) -> Generation;

    /// Free space in bytes. Cheap: it is polled.
    fn free_bytes(&self) -> u64;
}
