//! Backups: a generation of a store as one stream, whole or as what changed since another, and stores made of such streams.
//!
//! [`write_backup`] reads a generation that somebody holds ([`semper_store::Store::hold`]), so nobody waits for it; [`StreamReader`] checks a
//! stream; [`Restore`] makes a store of a full backup and the increments that follow it; [`Directory`] knows which backups there are
//! and what each of them needs; they lie at a [`Destination`], a directory or a prefix of an object store. `docs/format-backup.md` describes every byte.
//!
//! # Invariants
//!
//! * Each frame's hash covers the frame and the hash of the one before, so that no frame can be lost, doubled, moved or taken from
//!   another stream (`format`).
//! * The manifest comes last: a stream without one is known to be cut.
//! * Bytes of a stream become a [`Frame`] only in [`StreamReader`], which checks every number and takes no more memory than
//!   the largest frame has ([`PIECE_LEN`]), whatever the bytes say.
//! * What was encrypted is read by the same code, so nothing of it is believed either; and it has to be what its label says in clear.
//! * The records of the journal that a stream has are all that were durable when its generation was pinned, from a place on that is the same in every
//!   life of the store (`journal`).
//! * An increment is applied only to the very generation that it was made since: same store, same number, same time of commit.
//! * A restored store gets its name when it is complete and flushed, and no generation in it holds a part of a world.
//! * A file of a backup gets its name when it is complete and durable, also in an object store.
//!
//! # What it does not do
//!
//! A hash is no signature: who can write a backup can make another one, also an encrypted one. The log of a store is not part of it.

#![forbid(unsafe_code)]

mod bucket;
mod building;
mod create;
mod destination;
mod directory;
mod error;
mod folder;
mod format;
mod frames;
mod journal;
mod read;
mod restore;
mod retention;
mod seal;
mod side;
mod upload;
mod write;

pub use bucket::Bucket;
pub use building::Building;
pub use create::{Options, Pinned, write_backup};
pub use destination::{Destination, Entry, Lock, NewFile, destination, is_url};
pub use directory::{Backup, Directory, SUFFIX, file_name};
pub use error::Error;
pub use folder::{Folder, PARTIAL};
pub use format::{
    Base, FORMAT_VERSION, Header, JOURNAL_VERSION, Label, MAX_FRAMES, Manifest, PIECE_LEN, SEALED_JOURNAL_VERSION,
    SEALED_VERSION,
};
pub use journal::{JournalPart, JournalPin};
pub use read::{Frame, StreamReader};
pub use restore::{Restore, Restored};
pub use retention::Retention;
pub use seal::{Identities, MAX_RECIPIENTS, Recipient};
pub use side::SideFiles;
pub use write::{Compression, StreamWriter};
