//! Checkpoints: a running world becomes a generation of the store, with a pause of about a millisecond.
//!
//! **Promise.** Each committed generation is the state of the whole world at one instant at which everything stood. Whatever fails, the
//! last good generation stands, and the next attempt contains all that this one would have contained.
//!
//! How one goes (after Gnosis and KeyKOS, with the pre-copy of live migration):
//!
//! 1. *Pre-copy*, while domains run: find the written pages, copy them, start to write them to free space. Again, while that shrinks
//!    what is left ([`plan`] decides; it slows a writer down that is faster than the disk).
//! 2. *Short stops*: freeze, find, thaw, and copy outside of the stop. A stopped world is searched several times faster than a running one.
//! 3. *The final stop*: freeze at the end of the kernel's transaction, check the object table, find and copy the remainder, note what
//!    is captured, thaw.
//! 4. Write the remainder, commit, announce. Held output leaves.
//!
//! **Invariants**
//! * A world that fails [`World::check`] is never committed.
//! * The world never stays frozen, whatever fails or panics; only a final checkpoint that succeeded leaves it so.
//! * Nothing is written while the world stands, unless what has to be copied in the stop is more than [`Limits::staging`].
//! * Every scanned page is committed, or handed back by [`Capture::abandon`].
//! * After a failed write or flush nothing is committed any more.
//! * The pause of a checkpoint is its longest stop; all stops are counted.
//!
//! **It does not** know domains: [`World`] is all it asks of them. It does not restart anything: to come back, open the store (it falls
//! back to an older generation if the newest is damaged, and says so), map segment 0, undo what its log holds, and start a
//! [`Checkpointer`]; its first interval starts then.
//!
//! Tests kill the runtime at named places of a checkpoint: [`CRASH_POINTS`], and [`semper_store::COMMIT_CRASH_POINTS`] within it.

#![forbid(unsafe_code)]

mod adapt;
mod checkpointer;
mod clock;
mod crash;
mod engine;
mod error;
mod figures;
pub mod plan;
mod schedule;
mod seam;
mod status;
mod stop;
mod ticket;
mod world;

pub use adapt::StoreCommit;
pub use checkpointer::Checkpointer;
pub use clock::{Clock, HostClock};
pub use crash::CRASH_POINTS;
pub use engine::{Engine, Outcome};
pub use error::CheckpointError;
pub use figures::{Figures, History, KEPT, PAUSES_KEPT, Percentiles, Totals, Trigger};
pub use plan::Limits;
pub use schedule::{Held, MIN_INTERVAL, Next, Policy, Schedule, Wanted};
pub use seam::{Capture, CaptureError, Durable, PageSink, Scanned, Stage, Transaction, WriteError};
pub use status::Summary;
pub use ticket::Ticket;
pub use world::{FreezeError, Inconsistency, World};
