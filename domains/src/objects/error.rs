//! What an invocation can be refused for, as a domain learns it.

use super::{KeyType, Phase, Rights};
use crate::table::TableError;
use std::fmt;

/// Answer codes from here on are the kernel's: see [`InvokeError`]. Domains answer with smaller ones.
pub const FIRST_ERROR: u32 = 0x8000_0000;

/// Which key of an invocation is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The one that was invoked.
    Invoked,
    /// Argument 0 to 3.
    Argument(u8),
}

impl Which {
    const fn word(self) -> u64 {
        match self {
            Self::Invoked => 255,
            Self::Argument(n) => n as u64,
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invoked => f.write_str("the invoked key"),
            Self::Argument(n) => write!(f, "key {n}"),
        }
    }
}

/// Of what there is not enough, or of what there would be too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Resource {
    /// Pages of a bank's quota, or of one above it.
    Pages = 1,
    /// Records of a bank's quota, or of one above it.
    Records = 2,
    /// Records of segment 0.
    Table = 3,
    /// Banks above each other.
    BankDepth = 4,
    /// Meters above each other.
    MeterDepth = 5,
    /// Mappings of one domain.
    Mappings = 6,
    /// Pages of one segment.
    SegmentPages = 7,
    /// Versions of one object.
    Versions = 8,
    /// Numbers of segments.
    Segments = 9,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pages => "pages of the quota",
            Self::Records => "records of the quota",
            Self::Table => "records of segment 0",
            Self::BankDepth => "banks above each other",
            Self::MeterDepth => "meters above each other",
            Self::Mappings => "mappings of a domain",
            Self::SegmentPages => "pages of a segment",
            Self::Versions => "versions of an object",
            Self::Segments => "numbers of segments",
        })
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident: $type:ty),* })? = $code:literal, $message:literal,
       [$first:expr, $second:expr, $third:expr], $meaning:literal;)*) => {
        /// Why an invocation was refused. What was refused has changed nothing.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
        pub enum InvokeError {
            $($(#[$doc])* #[error($message)] #[allow(missing_docs)] $name $({ $($field: $type),* })?,)*
        }

        impl InvokeError {
            /// The answer code.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $(Self::$name { .. } => FIRST_ERROR + $code,)* }
            }

            /// The numbers that name what was wrong, as the answer's words.
            #[must_use]
            pub fn words(self) -> [u64; 4] {
                match self { $(Self::$name $({ $($field),* })? => [$first, $second, $third, 0],)* }
            }

            /// Every error: code, name, what its words tell.
            pub const TABLE: &[(u32, &'static str, &'static str)] =
                &[$((FIRST_ERROR + $code, stringify!($name), $meaning),)*];
        }
    };
}

errors! {
    /// The key has no such order.
    WrongOrder { key: KeyType, order: u32 } = 1, "a {key} key has no order {order}",
        [key as u64, u64::from(order), 0], "the type of the key, the order code";
    /// The string is longer than the order takes.
    StringTooLong { len: u32, limit: u32 } = 2, "a string of {len} bytes; at most {limit} can be taken",
        [u64::from(len), u64::from(limit), 0], "its bytes, the most that are taken";
    /// The order needs a key that was not given.
    MissingKey { argument: u8 } = 3, "key {argument} is missing",
        [u64::from(argument), 0, 0], "which argument";
    /// A key is not of the type that is needed.
    WrongKey { which: Which, wanted: KeyType, found: KeyType } = 4, "{which} is a {found} key, not a {wanted} key",
        [which.word(), wanted as u64, found as u64], "which key (255: the invoked one), the type needed, its type";
    /// A key lacks a right.
    NoRight { which: Which, missing: Rights } = 5, "{which} lacks the right {missing}",
        [which.word(), u64::from(missing.bits()), 0], "which key (255: the invoked one), the rights that are missing";
    /// The object of a key is gone, or the key was used up.
    Void { which: Which } = 6, "{which} is void",
        [which.word(), 0, 0], "which key (255: the invoked one)";
    /// There is no key in the slot that was invoked.
    Empty { slot: u8 } = 7, "slot {slot} is empty",
        [u64::from(slot), 0, 0], "the slot";
    /// There is not enough of something, or a limit is reached.
    Limit { of: Resource, limit: u64 } = 8, "no more {of}: the limit is {limit}",
        [of as u64, limit, 0], "of what (below), the limit";
    /// A word has a value that the order cannot take.
    BadWord { word: u8, value: u64 } = 9, "word {word} cannot be {value:#x}",
        [u64::from(word), value, 0], "which word, its value";
    /// There is no slot of this number.
    BadSlot { slot: u8 } = 10, "there is no slot {slot}",
        [u64::from(slot), 0, 0], "the slot";
    /// The callee was not available, or did not answer, in time.
    Timeout = 11, "the deadline passed", [0, 0, 0], "none";
    /// The order waits, and it was sent instead of called.
    WouldWait = 12, "a send cannot wait for this", [0, 0, 0], "none";
    /// The domain that was to answer is gone.
    CalleeDied = 13, "the domain that was to answer is gone", [0, 0, 0], "none";
    /// The domain that was to answer began anew.
    CalleeRestarted = 14, "the domain that was to answer began anew", [0, 0, 0], "none";
    /// The object was not sold by this bank.
    NotSoldHere = 15, "this bank did not sell it", [0, 0, 0], "none";
    /// The factory is sealed.
    Sealed = 16, "the factory is sealed", [0, 0, 0], "none";
    /// The factory is not sealed yet.
    NotSealed = 17, "the factory is not sealed", [0, 0, 0], "none";
    /// Somebody waits there already.
    Busy = 18, "somebody waits there already", [0, 0, 0], "none";
    /// The domain is in a state in which this cannot be done.
    WrongPhase { phase: Phase } = 19, "not while the domain is {phase}",
        [phase as u64, 0, 0], "the state (below)";
    /// A key that waits was invoked by its own domain: it would wait for ever.
    SelfCall = 20, "a domain cannot wait for itself", [0, 0, 0], "none";
    /// What the key led to outside is no more: the other side broke it off, or a restart did.
    Rescinded = 21, "what it led to outside is no more", [0, 0, 0], "none";
    /// Two mappings would lie in one place.
    Overlap { page: u64 } = 22, "page {page:#x} is mapped already",
        [page, 0, 0], "the page";
    /// Nothing is mapped there.
    NotMapped { page: u64 } = 23, "nothing is mapped at page {page:#x}",
        [page, 0, 0], "the page";
    /// The domain is a Linux program: its registers, memory and life are its personality's affair.
    Foreign = 24, "not of a Linux program", [0, 0, 0], "none";
    /// There is no room for another record.
    JournalFull = 25, "the journal is full", [0, 0, 0], "none";
    /// The journal, or the record that was asked for, cannot be used.
    JournalBroken = 26, "the journal cannot be used", [0, 0, 0], "none";
    /// The string is not of the form that the order takes.
    BadString { len: u32 } = 27, "a string of {len} bytes is not what the order takes",
        [u64::from(len), 0, 0], "its bytes";
    /// What was asked for outside was refused there, or not granted.
    Outside { errno: u32 } = 28, "refused outside, Linux error {errno}",
        [u64::from(errno), 0, 0], "the number of the error in Linux: 13 not granted, 111 refused by who was asked, ...";
    /// The store cannot give or take what the order is about. What else the order was to do is done.
    Unusable = 29, "the store cannot give or take it", [0, 0, 0], "none";
}

/// How an operation ends early: the guest's doing, or not.
#[derive(Debug)]
pub(super) enum Stop {
    /// The guest gets it as the answer.
    Guest(InvokeError),
    /// Segment 0 cannot be used.
    Table(TableError),
}

impl From<InvokeError> for Stop {
    fn from(error: InvokeError) -> Self {
        Self::Guest(error)
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Full { capacity } => InvokeError::Limit { of: Resource::Table, limit: capacity.into() }.into(),
            TableError::VersionsUsedUp { .. } => {
                InvokeError::Limit { of: Resource::Versions, limit: u32::MAX.into() }.into()
            }
            error => Self::Table(error),
        }
    }
}
