//! The durable pages: a store that never overwrites what it may still need.
//!
//! A store maps *(segment, page)* to 4 KiB. A [`Commit`] collects changes, streams them to free space, and makes them the
//! newest *generation* in one step; the newest few generations stay readable. `docs/format.md` describes every byte.
//!
//! # The promise
//!
//! When [`Commit::commit`] has returned, its generation survives the loss of power at any instant, however the medium tears,
//! reorders or loses what was not flushed. When it has not, the store is as before, or holds all of the commit; never
//! a part. What rots is found by a checksum and named; it is never returned as data.
//!
//! # Invariants
//!
//! * A place is written only if no generation that either root slot lists refers to it (`space`).
//! * Everything that a root refers to is flushed before the root is written (`commit`).
//! * The checksum of a block lies in the reference to it, and covers what the block is besides what it holds (`checksum`).
//! * Bytes from the disk become a `Node` or a `Root` only through a function that checks them (`node`, `root`).
//! * No generation number is used twice (`root`: `highest`).
//! * After a failed write or flush nothing is written any more (`shared`: poison). The host's file system being full is not such a
//!   failure unless a flush reports it.
//! * Memory is bounded: 16 MiB of nodes, 16 buffers of 1 MiB while a commit is written, one bit for each place in use, and about
//!   70 bytes for each page of the commit under way.
//!
//! # What it does not do
//!
//! It does not cache pages (the host does) or decide when to commit. What is rotten on every side of it is found and named, and not repaired.
//!
//! # Where things are
//!
//! | module | idea |
//! | --- | --- |
//! | `disk`, `file`, `uring` | the narrow road to the disk |
//! | `folder` | the same to many files, for the journal |
//! | `mirror` | the same pages on several disks |
//! | `directory`, `open`, `recover`, `damage` | which store, whose, and which generation stands |
//! | `root`, `node`, `checksum`, `lineage` | the bytes, and whose they are |
//! | `tree`, `cache`, `changes` | reading, and what differs between two generations |
//! | `commit`, `stream`, `update`, `fill` | writing |
//! | `space`, `freemap`, `rebuild`, `reserve`, `shrink` | free space |
//! | `hold`, `tags`, `rewind` | keeping a generation, and going back to one |
//! | `fork`, `reflink`, `loan` | a second store of the same pages |
//! | `check`, `mend` | verifying everything, and putting right what another side has |
//! | `sim`, `canary`, `crash` | the simulated disk, planted bugs, and places to be killed at, for tests |

#![deny(unsafe_code)]

mod cache;
mod canary;
mod changes;
mod check;
mod checksum;
mod commit;
mod crash;
mod damage;
mod directory;
mod disk;
mod error;
#[expect(unsafe_code, reason = "one hint to the host that no crate wraps")]
mod file;
mod fill;
mod folder;
mod fork;
mod freemap;
mod hold;
mod ids;
mod lineage;
mod loan;
mod mend;
mod mirror;
mod node;
mod open;
mod pace;
mod rebuild;
mod recover;
#[expect(unsafe_code, reason = "one request to the file system that no crate wraps")]
mod reflink;
mod reserve;
mod rewind;
mod root;
mod shared;
mod shrink;
#[cfg(feature = "sim")]
pub mod sim;
mod space;
mod store;
mod stream;
mod tags;
mod tree;
mod update;
#[expect(unsafe_code, reason = "buffers lent to the kernel")]
mod uring;
mod width;

#[doc(hidden)]
pub use canary::Canary;
pub use changes::{Change, ChangeVisitor};
pub use check::{CheckProgress, CheckReport, Rotten};
pub use commit::{Commit, Committed};
pub use crash::{COMMIT_CRASH_POINTS, CRASH_VARIABLE, crash_point};
pub use directory::{DAMAGE_FILE, LOCK_FILE, PAGES_FILE, TAGS_FILE};
pub use disk::{BUFFER_LEN, BufferPool, Disk, DiskBuf, QUEUE_DEPTH};
pub use error::{Error, Fault, by_medium, no_space};
pub use file::{FileDisk, IoChoice, IoKind, start_writeback};
pub use fill::Fill;
pub use folder::{DirFolder, Folder};
pub use fork::Forked;
pub use hold::Hold;
pub use ids::{Generation, MAX_SEGMENT_PAGES, MAX_SEGMENTS, PAGE_SIZE, Page, PageIndex, PageRange, SegmentId, StoreId};
pub use loan::{LOAN_FILE, Lender, LoanStatus};
pub use mend::{Block, BlockKind};
pub use mirror::{Kept as KeptFiles, MAX_SIDES, MIRROR_WAITS, MIRRORS_FILE, MirrorState, MirrorStatus, Site, Sites};
pub use open::{CreateOptions, MIN_SIZE_BYTES, OpenOptions};
pub use recover::Recovery;
pub use reserve::Reservation;
pub use root::{ATTRIBUTES_LEN, FORMAT_VERSION, MAX_KEPT, MIN_KEPT};
pub use shrink::{BetweenSteps, SHRINK_CRASH_POINTS, Shrinking};
pub use store::{GenerationInfo, Space, Store};
pub use tags::Tag;
