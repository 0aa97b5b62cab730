//! The journal: an append-only log that no roll-back touches.
//!
//! After a restart the world goes back to its last checkpoint; what was appended here stays. A *record* has a *writer* and the
//! *number* that the writer gave it; no writer has two records of one number. `docs/format-journal.md` describes every byte.
//!
//! # The promise
//!
//! When an append has returned, its record survives the loss of power at any instant, however the medium tears, reorders or loses what
//! was not flushed. When it has not, the record is there wholly or not at all. The same number by the same writer finds the record
//! instead of writing it again, also after a restart. What rots or is missing is found and named; it is never passed over.
//!
//! # Invariants
//!
//! * Sequence numbers have no gaps: what is missing is damage, or was trimmed, and the state file says which (`state`).
//! * One batch is on its way to the disk at a time, and begins on a page of its own: what is durable is never written again but for the
//!   last batch, with the same bytes, at opening (`open`, `tail`).
//! * So a batch that is not whole and has no whole one behind it was never acknowledged: it is cut. Any other is damage (`walk`).
//! * While there is damage that nobody accepted, nothing is appended: the number asked for may be in what is lost.
//! * After a failed write or flush nothing is written any more (`group`: poison). Want of space for a new segment is not such a failure.
//! * A segment goes only after the state file says durably that it may (`retain`).
//! * Memory is bounded: the records of the newest segment, a byte for each older one, and what waits to be written.
//!
//! # What it does not do
//!
//! It does not say who may write as whom: the kernel does. It does not compress. It repairs what another side of the store has, and nothing else.
//!
//! # Where things are
//!
//! | module | idea |
//! | --- | --- |
//! | `record`, `batch`, `segment`, `state`, `note` | the bytes |
//! | `walk`, `read` | reading |
//! | `open`, `journal` | opening, and the handle |
//! | `group`, `tail` | appending: many appenders, one flush |
//! | `index`, `sealed` | from a writer's number to its record |
//! | `retain` | what goes, and when |
//! | `verify` | reading everything |
//! | `copies`, `late` | the same on several sides: which copy holds; what a side that was away has |
//! | `copy` | a copy for another store |
//! | `canary` | planted bugs, for tests |

#![forbid(unsafe_code)]

mod batch;
mod bytes;
mod canary;
mod copies;
mod copy;
mod error;
mod group;
mod index;
mod journal;
mod late;
mod note;
mod open;
mod read;
mod record;
mod retain;
mod sealed;
mod segment;
mod state;
mod tail;
mod verify;
mod walk;

#[doc(hidden)]
pub use canary::Canary;
pub use copy::Copying;
pub use error::{Error, Lost};
pub use group::{Submitted, Ticket};
pub use journal::{Appended, Found, Journal};
pub use late::kept;
pub use note::Note;
pub use open::{Options, exists};
pub use read::{Reader, Seen};
pub use record::{Kind, MAX_PAYLOAD, Record, Writer};
pub use retain::{Retention, Trimmed, Wish};
pub use segment::FORMAT_VERSION;
pub use verify::{Report, verify};

/// The directory of a store's journal, within the store's.
pub const JOURNAL_DIR: &str = "journal";
