//! What can go wrong, by who must act.

use semper_store::StoreId;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a call to the journal failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store tells of a journal that is not there.
    #[error(
        "the journal of this store is gone: the store has seen {seen} records of it; bring the directory `journal` back, or give \
         them up with `semper journal trim STORE --accept-loss`"
    )]
    Missing {
        /// How many records there were.
        seen: u64,
    },
    /// There is no journal.
    #[error("there is no journal: nothing was written to it yet")]
    None,
    /// It is the journal of another store.
    #[error("the journal is that of another store ({found}, and this one is {expected}); bring the right one back")]
    Foreign {
        /// Whose it is.
        found: StoreId,
        /// Whose it should be.
        expected: StoreId,
    },
    /// Another version of the format.
    #[error(
        "`journal/{file}` has format version {found}, and this program reads version {expected}; use the program that wrote it"
    )]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The version that this program reads.
        expected: u32,
    },
    /// The file that tells what the journal holds cannot be used.
    #[error("`journal/state` cannot be used: {0}; go back to a copy of the journal")]
    BadState(String),
    /// Records are lost that nobody has given up. Nothing is appended, since the number asked for may be among them.
    #[error("records of the journal are lost: {}; give them up with `semper journal trim STORE --accept-loss`", list(.0))]
    Damaged(Vec<Lost>),
    /// A record that was asked for is lost.
    #[error("the record is lost: {0}")]
    Lost(Lost),
    /// There is no room for another segment.
    #[error("the journal is full: {0}; make room on its file system, or trim it")]
    Full(Arc<io::Error>),
    /// A write or flush failed earlier.
    #[error("the journal takes no more records, because an earlier write failed: {0}; restart the runtime")]
    Poisoned(String),
    /// A payload that is too long.
    #[error("a record has at most {most} bytes, not {len}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The most.
        most: usize,
    },
    /// What cannot be asked for.
    #[error("{0}")]
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
}

/// Records that cannot be read any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// The file that they are, or were, in.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to.saturating_sub(self.from) {
            0 => write!(f, "record {}", self.from)?,
            _ => write!(f, "records {} to {}", self.from, self.to)?,
        }
        write!(f, " (`journal/{}`, byte {}: {})", self.file, self.offset, self.reason)
    }
}

fn list(lost: &[Lost]) -> String {
    const SHOWN: usize = 4;
    let mut text = lost.iter().take(SHOWN).map(Lost::to_string).collect::<Vec<_>>().join(", ");
    if lost.len() > SHOWN {
        text.push_str(", and more");
    }
    text
}
