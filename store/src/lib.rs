//! The durable pages.

#![deny(unsafe_code)]

mod cache;
mod canary;
mod check;
mod checksum;
mod commit;
mod directory;
mod disk;
mod error;
#[expect(unsafe_code, reason = "one hint to the host that no crate wraps")]
mod file;
mod freemap;
mod ids;
mod node;
mod open;
mod rebuild;
mod recover;
mod reserve;
mod root;
mod shared;
#[cfg(feature = "sim")]
pub mod sim;
mod space;
mod store;
mod stream;
mod tree;
mod update;
#[expect(unsafe_code, reason = "buffers lent to the kernel")]
mod uring;
mod width;

#[doc(hidden)]
pub use canary::Canary;
pub use check::{CheckProgress, CheckReport};
pub use commit::{Commit, Committed};
pub use directory::{LOCK_FILE, PAGES_FILE};
pub use disk::{BUFFER_LEN, BufferPool, Disk, DiskBuf, QUEUE_DEPTH};
pub use error::{Error, Fault};
pub use file::{FileDisk, IoChoice, IoKind};
pub use ids::{Generation, MAX_SEGMENT_PAGES, MAX_SEGMENTS, PAGE_SIZE, Page, PageIndex, PageRange, SegmentId, StoreId};
pub use open::{CreateOptions, MIN_SIZE_BYTES, OpenOptions};
pub use recover::Recovery;
pub use reserve::Reservation;
pub use root::{ATTRIBUTES_LEN, FORMAT_VERSION, MAX_KEPT, MIN_KEPT};
pub use store::{GenerationInfo, Space, Store};
