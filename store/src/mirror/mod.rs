//! A store on several disks: sides, written in step.
//!
//! # The promise
//!
//! A commit is announced when all sides that count have it. A side that fails counts no more, and that is durable on the others before the
//! commit is announced; so whoever opens the store takes no side that is late for one that is whole, as long as one that knows
//! better can be reached. What rots on one side is read from another, and written anew.
//!
//! # Invariants
//!
//! * A side that is whole has every place that a listed generation refers to, place for place as the others (`set`, `catch_up`).
//! * Every change of who is whole is a new *epoch* with a random mark, which lies in the record of all that are whole before anything is
//!   written without the others (`change`). Two sides whose epochs differ went on apart, and are refused (`gather`).
//! * Nothing is written over a place but by a commit, or while no write is under way (`set`: the gate).
//!
//! | module | idea |
//! | --- | --- |
//! | `record`, `site` | the file `mirrors`, and what a side is |
//! | `set` | the sides as one disk |
//! | `gather` | opening: which sides are whole |
//! | `change` | who is whole, from now on |
//! | `folder` | the same for the files of the journal |
//! | `catch_up` | bringing a side up to date |
//! | `api` | what users of the store see |

mod api;
mod catch_up;
mod change;
mod folder;
mod gather;
mod record;
mod set;
mod site;

pub use api::{MirrorState, MirrorStatus};
pub use change::WAITS as MIRROR_WAITS;
pub use folder::Kept;
pub(crate) use gather::{Gathered, gather, newest_root};
pub use record::MAX_SIDES;
pub(crate) use set::Mirrored;
pub(crate) use site::Dirs;
pub use site::{MIRRORS_FILE, Site, Sites};
