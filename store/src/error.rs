//! What can go wrong, by who must act.

use crate::ids::{Generation, PageIndex, SegmentId};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a call to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process has the store open.
    #[error("the store {} is in use{}; stop that runtime first", dir.display(), holder(*pid))]
    InUse {
        /// The store's directory.
        dir: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// There is no store at this path.
    #[error("{} holds no store: there is no `pages` file in it", dir.display())]
    Missing {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// The directory to create a store in has something else in it.
    #[error("{} is not empty (it holds `{found}`); name a new or an empty directory", dir.display())]
    NotEmpty {
        /// The directory that was named.
        dir: PathBuf,
        /// One thing that was found in it.
        found: String,
    },
    /// What the symlink `pages` leads to holds something that is not a store.
    #[error(
        "what {} leads to holds something else than a Semper store (the first byte that is not zero is byte {at}), or a store \
         with both of its roots destroyed, and is not overwritten; if nothing on it is needed, fill its first MiB with zeros",
        pages.display()
    )]
    Occupied {
        /// The symlink.
        pages: PathBuf,
        /// Where the first byte is that is not zero.
        at: u64,
    },
    /// The file is not a store, or nothing of it can be used any more.
    #[error("{} cannot be used as a store: {reason}", named(pages))]
    NotAStore {
        /// The file; empty for a disk of the caller's.
        pages: PathBuf,
        /// What was found instead, and what to do.
        reason: String,
    },
    /// The store was written by another version of the format.
    #[error(
        "{} has format version {found}, and this program reads versions up to {expected}; use the program that wrote it",
        named(pages)
    )]
    Version {
        /// The file; empty for a disk of the caller's.
        pages: PathBuf,
        /// The version in the root.
        found: u32,
        /// The newest version that this program reads.
        expected: u32,
    },
    /// The file is shorter than the store that it holds.
    #[error(
        "{} is truncated: its roots speak of {expected} bytes, it has {found}; go back to a copy of the store",
        named(pages)
    )]
    Truncated {
        /// The file; empty for a disk of the caller's.
        pages: PathBuf,
        /// The length that the root asks for.
        expected: u64,
        /// The length that the file has.
        found: u64,
    },
    /// A size that no store can have.
    #[error("a store cannot have {bytes} bytes: {why}")]
    BadSize {
        /// What was asked for.
        bytes: u64,
        /// Which limit it breaks.
        why: &'static str,
    },
    /// What is in use does not fit into a store of the size that was asked for.
    #[error(
        "the store cannot be made as small as {}: {} are in use, and with what is written meanwhile it needs {}",
        size(*bytes), size(*used), size(*needed)
    )]
    DoesNotFit {
        /// What was asked for.
        bytes: u64,
        /// What the newest generation and held ones use, and what is promised.
        used: u64,
        /// The least that would do now.
        needed: u64,
    },
    /// Generations that are held lie beyond the end that the store was to get.
    #[error(
        "the store cannot be made as small as {} yet: what lies beyond is needed by {who}; take such a tag away (semper tag STORE NAME --delete), or wait \
         until it is read, and shrink again: what the world itself has there has been moved already",
        size(*bytes)
    )]
    StillHeld {
        /// What was asked for.
        bytes: u64,
        /// The generations, each with its tags.
        who: String,
    },
    /// Making the store smaller came to nothing, for a reason that is none of its own.
    #[error("{0}")]
    Shrink(&'static str),
    /// There is not enough free space.
    #[error("the store is full: {needed} pages needed, {available} available; grow it or remove something")]
    Full {
        /// How many pages were asked for.
        needed: u64,
        /// How many are free. 0 if the file system that the store lies on is full.
        available: u64,
    },
    /// A write or a flush failed earlier: nothing can be promised any more until the store is opened anew.
    #[error("the store takes no more commits, because an earlier write failed: {reason}; open it again")]
    Poisoned {
        /// The failure that did it.
        reason: String,
    },
    /// The handle was opened for reading.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// The generation is not among those that are kept.
    #[error("{generation} is not kept in this store (kept: {kept})")]
    NoSuchGeneration {
        /// What was asked for.
        generation: Generation,
        /// Those that are kept.
        kept: String,
    },
    /// As many generations are held, by tags and by readers, as there is room for beside those that are kept anyway.
    #[error(
        "{most} generations are held already, by tags or readers: no more fit beside the {keep} that this store keeps"
    )]
    TooManyHeld {
        /// How many are kept anyway.
        keep: usize,
        /// How many can be held.
        most: usize,
    },
    /// A name that no tag can have, or that is in use, or not there.
    #[error("tag `{name}`: {why}")]
    BadTag {
        /// The name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A directory that cannot be what it was named for, a mirror.
    #[error("{}: {why}", dir.display())]
    BadMirror {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Two sides of a mirrored store that went on without each other.
    #[error(
        "{} and {} went on without each other: what one has the other has not, and nothing is given up unasked; keep one (semper mirror remove {} {}), \
         or move the other away",
        one.display(), other.display(), one.display(), other.display()
    )]
    Parted {
        /// One.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// No side of a mirrored store that can be reached has all that was committed.
    #[error("{} does not have all that was committed, and the side that has, {whole}, cannot be used ({why}); bring that back", dir.display())]
    NotWhole {
        /// The side that was named.
        dir: PathBuf,
        /// The sides that have all.
        whole: String,
        /// Why each cannot be used.
        why: String,
    },
    /// Pages of a forked store still lie in another one, and that cannot be used.
    #[error(
        "pages of {} still lie in the store that it was forked from, {}, and cannot be had there: {why}; bring that back, say where it is now \
         (`semper lender STORE DIR`), or fork again",
        dir.display(), lender.display()
    )]
    Lender {
        /// The directory of the store.
        dir: PathBuf,
        /// That of the other one.
        lender: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What the disk gave back is not what was written.
    #[error("corrupt: {0}")]
    Corrupt(Fault),
    /// A segment or page number beyond the limits of the format, or a buffer that is no multiple of a page.
    #[error("bad argument: {0}")]
    BadArgument(String),
    /// The host refused an operation.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the host said.
        source: Arc<io::Error>,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source: Arc::new(source) }
    }

    /// What the medium said, if it is why a block could not be read: that block is lost, as rot would have made it. Other failures
    /// are no statement about the block.
    pub(crate) fn refused_by_medium(&self) -> Option<String> {
        let Self::Io { source, .. } = self else { return None };
        by_medium(source).then(|| format!("it cannot be read: {source}"))
    }

    /// With the file that this is about, for a failure to open it.
    pub(crate) fn about(mut self, path: &Path) -> Self {
        if let Self::NotAStore { pages, .. } | Self::Version { pages, .. } | Self::Truncated { pages, .. } = &mut self {
            path.clone_into(pages);
        }
        self
    }

    /// For what cannot be used.
    pub(crate) fn not_a_store(reason: impl Into<String>) -> Self {
        Self::NotAStore { pages: PathBuf::new(), reason: reason.into() }
    }

    /// Whether what was read is not what was written.
    pub(crate) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }
}

/// Whether the host ran out of space or of quota.
#[must_use]
pub fn no_space(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Whether it is the medium that cannot read these bytes: then they are lost, as rot would have made them.
#[must_use]
pub fn by_medium(e: &io::Error) -> bool {
    let medium = [libc::EIO, libc::EBADMSG, libc::EUCLEAN, libc::ENODATA];
    e.raw_os_error().is_some_and(|code| medium.contains(&code))
}

fn named(pages: &Path) -> String {
    if pages.as_os_str().is_empty() { "the store".to_owned() } else { pages.display().to_string() }
}

/// A size as the command line takes it, rounded up.
fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) { format!("{}G", bytes >> 30) } else { format!("{}M", bytes.div_ceil(1 << 20)) }
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

/// One place of the store that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The (newest) generation in whose tree it was found.
    pub generation: Generation,
    /// The page concerned; none for a tree node.
    pub page: Option<(SegmentId, PageIndex)>,
    /// Where it lies, in pages from the start of the file.
    pub place: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.page {
            Some((segment, page)) => write!(f, "{segment}, {page}")?,
            None => write!(f, "a tree node")?,
        }
        write!(f, " at place {} of {}: {}", self.place, self.generation, self.reason)
    }
}
