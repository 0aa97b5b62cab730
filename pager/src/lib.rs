//! Semper: the pager. Memory as a cache of the store.
//!
//! A *segment* is an array of pages in the store. While it is open here, some of its pages are in *frames* (pages of a memory
//! file), and processes map that file. The pager brings pages from the store when they are touched, knows which have been
//! written since the last checkpoint, and drops clean ones when memory is scarce.
//!
//! # Promise
//!
//! * What a process reads is what was last written there, or what the newest committed generation holds, or zeros; whatever
//!   was evicted, reverted or discarded in between.
//! * Every page written, by a process or by the runtime, is in the next scan. (A page may be in it that was only read.)
//! * Frames stay within the memory limit, plus: what the runtime itself writes between two checkpoints, views, and what programs
//!   allocate in the moment before the limit is noticed (an eighth of it, at least 32 MiB, is kept for that).
//! * A store that cannot give a page costs the faulting thread a SIGBUS, and nobody else anything.
//!
//! # Invariants
//!
//! 1. A page known to be in memory is in memory (a page may be in memory unknown, if a process touched fresh memory itself).
//! 2. A frame is dropped only if it equals what the store gives and no page table has it; see `reclaim`.
//! 3. A page comes from the store into memory in one step that never overwrites what is there, or under the mark `filling`.
//! 4. The lock of a segment comes before that of the eviction policy; no lock is held while the store is read.
//! 5. What a scan has taken is dirty again after `abandon`, and nothing taken is forgotten before `committed`.
//!
//! # What it does not do
//!
//! It writes nothing to the store (the checkpoint does), and it knows nothing of programs: who maps a segment, freezes and
//! thaws is up to its users. `unsafe` is in `sys` (system calls), and in `view` and `window`
//! (mapped pages).

mod attach;
mod budget;
mod capture;
mod cold;
mod error;
mod evict;
mod fault;
mod frames;
mod helper;
mod mapping;
mod memfd;
mod oracle;
mod pager;
mod probe;
mod ranges;
mod readahead;
mod reclaim;
mod segment;
mod service;
mod shared;
mod size;
mod staging;
mod sys;
mod track;
mod view;
mod window;

pub use attach::Attachment;
pub use capture::{Scan, Stage};
pub use error::{BackingError, Error};
pub use mapping::{Space, Zap};
pub use pager::{LEAST_MEMORY_LIMIT, Pager, PagerConfig, Usage};
pub use probe::{Feature, probe};
pub use segment::Segment;
pub use semper_store::{PAGE_SIZE, PageIndex, PageRange, SegmentId};
pub use shared::{Backing, FaultError};
pub use staging::{Sink, Staging};
pub use sys::sched::{run_soon, set_slice};
pub use track::{Tracking, TrackingChoice};
pub use view::View;
