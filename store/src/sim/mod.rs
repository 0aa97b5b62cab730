//! A simulated disk, for the tests of this crate and of those above it (feature `sim`).
//!
//! # The fault model
//!
//! * Until a flush has returned `Ok`, a write may be on the medium or not, in any order relative to others, and in part:
//!   each 512-byte sector of it by itself.
//! * Power may go at any call. From then on every call fails, until [`SimDisk::power_cycle`] has decided what the medium holds.
//! * Any call may fail with `EIO` or `ENOSPC`. After a failed flush, what was written since the last good one is in doubt
//!   for ever: a later flush that succeeds says nothing about it.
//! * One flush may lie: it returns `Ok`, and what it covered stays in doubt for ever.
//! * A name that was made or removed in a [`SimFolder`] is there or not after a loss of power, until the folder was synced.
//! * A disk may be pulled out at any call, and put back later. Disks at the same power lose it together. A small file beside a disk
//!   ([`SimSides`]) is replaced or not, never in part.
//! * A disk gets another length durably at once; if the power goes in that call, it has it or not.
//! * Bits rot, and two blocks may change places (a misdirected write), at rest.
//!
//! Everything random comes from a seed.

mod cycles;
mod disk;
mod folder;
mod random;
mod sides;

pub use cycles::{cycles, find_each, number};
pub use disk::{Event, Failure, SimDisk};
pub use folder::SimFolder;
pub use random::SimRng;
pub use sides::{SimSide, SimSides};

/// The unit in which a write may be torn.
pub const SECTOR: usize = 512;
