//! What can go wrong, by who must act.

use semper_store::{Generation, StoreId};
use std::io;
use std::path::{Path, PathBuf};

/// Why a backup could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused, or is damaged.
    #[error(transparent)]
    Store(#[from] semper_store::Error),
    /// The journal of the store is damaged, gone, or another store's.
    #[error("{0} (a backup without the journal: --without-journal)")]
    Journal(semper_journal::Error),
    /// The journal could not be written.
    #[error("the journal of the new store: {0}")]
    JournalCopy(semper_journal::Error),
    /// A part of a journal without what comes before it.
    #[error(
        "{name} has the journal from record {from} on, {why}; --without-journal makes the store without it, and its programs may do again what they had noted there"
    )]
    MissingRecords {
        /// The file, or `standard input`.
        name: String,
        /// Its first record.
        from: u64,
        /// What there is instead.
        why: String,
    },
    /// The host refused an operation.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the host said.
        source: io::Error,
    },
    /// What is read is no backup.
    #[error("{name} is no backup of Semper: byte {at} should begin one")]
    NotABackup {
        /// The file, or `standard input`.
        name: String,
        /// Where a stream should begin.
        at: u64,
    },
    /// The stream was written by another version of the format.
    #[error(
        "{name} has version {found} of the backup format, and this program reads versions {} to {}; use the program that wrote it",
        crate::FORMAT_VERSION,
        crate::SEALED_JOURNAL_VERSION
    )]
    Version {
        /// The file, or `standard input`.
        name: String,
        /// The version that it says.
        found: u32,
    },
    /// The stream ends before its end.
    #[error(
        "{name} is cut off: it ends at byte {at}, in or before frame {frame}, without its manifest; use another copy of it"
    )]
    Cut {
        /// The file, or `standard input`.
        name: String,
        /// Its length.
        at: u64,
        /// The frame that is missing or not whole.
        frame: u64,
    },
    /// Something in the stream is not what was written.
    #[error("{name} is damaged: frame {frame}, at byte {at}: {why}; use another copy of it")]
    Damaged {
        /// The file, or `standard input`.
        name: String,
        /// Where the frame begins.
        at: u64,
        /// Its number.
        frame: u64,
        /// What is wrong.
        why: String,
    },
    /// A backup of another store than the rest.
    #[error("{name} belongs to the store {found}, and not to {expected} as the others do")]
    OtherStore {
        /// The file or directory.
        name: String,
        /// Its store.
        found: StoreId,
        /// That of the rest.
        expected: StoreId,
    },
    /// An increment without what it was made since.
    #[error("{name} holds what changed since {needs}, {why}; a full backup and each increment after it are needed")]
    MissingBase {
        /// The file, or `standard input`.
        name: String,
        /// What it needs.
        needs: Generation,
        /// What there is instead.
        why: String,
    },
    /// There is no backup of that generation.
    #[error("{place} has no backup of {wanted} (there are: {found})")]
    NoSuchBackup {
        /// The directory, or the file.
        place: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The backup is encrypted, and no identity was given.
    #[error("{name} is encrypted; name the file of an identity that opens it: --identity FILE")]
    NoIdentity {
        /// The file, or `standard input`.
        name: String,
    },
    /// The backup is encrypted to others.
    #[error("{name} is encrypted to other recipients: no identity that was given opens it ({tried} tried)")]
    WrongIdentity {
        /// The file, or `standard input`.
        name: String,
        /// How many identities were given.
        tried: usize,
    },
    /// What is given as a recipient or as a file of identities is none.
    #[error("{what} is no {wanted}: {why}")]
    BadKey {
        /// The recipient, or the file.
        what: String,
        /// What it should be.
        wanted: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What is named as a place for backups can be none.
    #[error("{place} is no place for backups: {why}")]
    BadPlace {
        /// What was named.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was told to stop.
    #[error("the backup was stopped before its end")]
    Stopped,
    /// Somebody else is at work there.
    #[error("another backup, restore or prune is at work in {}; wait for its end", .0.display())]
    Busy(PathBuf),
    /// A store is to be made where something is.
    #[error("{} is there already; name a new directory to restore to", .0.display())]
    Exists(PathBuf),
}

impl From<semper_journal::Error> for Error {
    fn from(error: semper_journal::Error) -> Self {
        Self::Journal(error)
    }
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// For closures.
    pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::io(format!("{what} {}", path.display()), source)
    }
}
