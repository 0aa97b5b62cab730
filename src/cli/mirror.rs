//! The words of `semper mirror`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Status, parse_size};

/// What to do with mirrors.
#[derive(Clone, Debug, Subcommand)]
pub enum Mirror {
    /// Keep the store in a second directory too, running or not; or bring one up to date again that was away
    ///
    /// DIR belongs on another disk. It is new, empty, or holds only a symlink `pages` to a block device. The command ends when it has everything; with
    /// a runtime it may be interrupted, and that goes on. A store has up to three mirrors.
    Add(AddMirror),
    /// Make a directory a mirror no more: what lies there stays, and is not written any more
    ///
    /// Where the store is refused because STORE and DIR went on without each other, or because only DIR, which is lost, has everything:
    /// the store goes on from what STORE has.
    Remove(RemoveMirror),
    /// Show the sides of a store, and how far each is
    Status(Status),
}

/// `semper mirror add`.
#[derive(Args, Clone, Debug)]
pub struct AddMirror {
    /// Directory of the store
    pub store: PathBuf,
    /// Directory of the mirror
    pub dir: PathBuf,
    /// The most bytes to copy in a second [default: 128M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub rate_limit: Option<u64>,
}

/// `semper mirror remove`.
#[derive(Args, Clone, Debug)]
pub struct RemoveMirror {
    /// Directory of the store
    pub store: PathBuf,
    /// Directory of the mirror
    pub dir: PathBuf,
}
