//! What can go wrong, by who must act.

use super::RecordId;

/// Why an operation on a table was refused. Nothing was changed by the refused operation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    /// The id is stale or was never one: the record was removed.
    #[error("{id} is void")]
    Void {
        /// The id as given.
        id: RecordId,
    },
    /// The record exists, and is of another kind.
    #[error("{id} is of kind {found}, not a {wanted}")]
    WrongKind {
        /// The id as given.
        id: RecordId,
        /// The name of the kind that was asked for.
        wanted: &'static str,
        /// The kind it has.
        found: u16,
    },
    /// The record was written with another size for its kind: by another version of the program.
    #[error("{id}, a {name}, has {found} bytes, not {expected}")]
    WrongSize {
        /// The id as given.
        id: RecordId,
        /// The name of its kind.
        name: &'static str,
        /// The size that this program gives to the kind.
        expected: u32,
        /// The size in the record's header.
        found: u32,
    },
    /// A record of this kind can never fit into this table: a bug in the program.
    #[error("a {name} has {bytes} bytes; records of this table hold {limit}")]
    TooLarge {
        /// The name of the kind.
        name: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest that fits.
        limit: u32,
    },
    /// The record had 2^32 - 1 versions: it can be removed, not renewed.
    #[error("{id} has no further version")]
    VersionsUsedUp {
        /// The id as given.
        id: RecordId,
    },
    /// Every record is in use.
    #[error("the table is full: it holds {capacity} records")]
    Full {
        /// How many it holds.
        capacity: u32,
    },
    /// The transaction overwrites more than the undo log can hold: split it, or format with a larger log.
    #[error("the undo log is full: {needed} bytes needed, {room} left")]
    LogFull {
        /// Log bytes that the operation needs.
        needed: u64,
        /// Log bytes left in this transaction.
        room: u64,
    },
    /// The size given for records cannot be used.
    #[error("records of {found} bytes: the size must be a power of two from 32 to 4096")]
    RecordBytes {
        /// The size as given.
        found: u32,
    },
    /// The size given for the log cannot be used.
    #[error("a log of {found} pages: it must have 1 to {limit}")]
    LogPages {
        /// The number of pages as given.
        found: u32,
        /// The most there can be.
        limit: u32,
    },
    /// The memory is shorter than the table in it, or has no room for one record.
    #[error("the memory has {len_bytes} bytes; the table needs {needed}")]
    MemoryTooSmall {
        /// Its length.
        len_bytes: u64,
        /// The length it must have.
        needed: u64,
    },
    /// The pages hold something else, or nothing.
    #[error("not a table: it begins with {found:#018x}")]
    NotATable {
        /// The word where the magic number should be.
        found: u64,
    },
    /// The table was made by a version of the program that this one does not know.
    #[error("table format {found}; this program knows {known}")]
    FormatVersion {
        /// The format in the header.
        found: u32,
        /// The format of this program.
        known: u32,
    },
    /// The pages contradict themselves.
    #[error("the table is damaged: {0}")]
    Damaged(#[from] Inconsistency),
}

/// How the pages contradict themselves, or what this program remembers of them. Such a world is never committed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Inconsistency {
    /// A field of the first page.
    #[error("header: {what} is {found}, not {expected}")]
    Header {
        /// Which field.
        what: &'static str,
        /// What it holds.
        found: u64,
        /// What it must hold, or the largest it may.
        expected: u64,
    },
    /// A transaction is open, or was left unfinished.
    #[error("the undo log holds {entries} entries")]
    LogNotEmpty {
        /// How many the log word counts.
        entries: u32,
    },
    /// The undo log cannot be believed.
    #[error("undo log at byte {at}: {what} ({found})")]
    Log {
        /// The offset of the entry within the log.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
        /// The value that is.
        found: u64,
    },
    /// A field of a record's header.
    #[error("record {index}: {what} is {found}")]
    RecordHeader {
        /// Which record.
        index: u32,
        /// Which field.
        what: &'static str,
        /// What it holds.
        found: u64,
    },
    /// The summary of where listed records are.
    #[error("summary of record page {page}: {found}, not {expected}")]
    Summary {
        /// Which page of records, counted from the first.
        page: u32,
        /// What the summary says.
        found: u8,
        /// What the records say.
        expected: u8,
    },
    /// The list of free records.
    #[error("free list at record {index}: {what}")]
    FreeList {
        /// The record that is or should be on the list; `u32::MAX` for the list's end.
        index: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// Pages of the table could not be read: what they hold is not known.
    #[error("pages of the table cannot be read")]
    Unreadable,
    /// An undo failed earlier; what the pages hold is neither before nor after.
    #[error("an undo failed; the table must be opened again")]
    Broken,
}
