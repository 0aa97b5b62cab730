//! What an invocation can be refused for.

use crate::abi::FIRST_ERROR;
use crate::{KeyType, Rights};
use core::fmt;

/// Which key of an invocation is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The one that was invoked.
    Invoked,
    /// Argument 0 to 3.
    Argument(u8),
}

impl Which {
    fn from_word(word: u64) -> Self {
        match u8::try_from(word) {
            Ok(255) | Err(_) => Self::Invoked,
            Ok(argument) => Self::Argument(argument),
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

/// An enumeration that comes in a word, with what people read. A number that is not known is kept.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// One that this crate does not know.
            Other(u64),
        }

        impl $name {
            /// What a word means.
            #[must_use]
            pub const fn from_word(word: u64) -> Self {
                match word { $($number => Self::$variant,)* other => Self::Other(other) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant => f.write_str($text),)* Self::Other(number) => write!(f, "number {number}") }
            }
        }
    };
}

numbered! {
    /// Of what there is not enough, or of what there would be too much.
    Resource {
        /// Pages of a bank's quota, or of one above it.
        Pages = 1, "pages of the quota";
        /// Records of a bank's quota, or of one above it.
        Records = 2, "records of the quota";
        /// Records of segment 0.
        Table = 3, "records of segment 0";
        /// Banks above each other.
        BankDepth = 4, "banks above each other";
        /// Meters above each other.
        MeterDepth = 5, "meters above each other";
        /// Mappings of one domain.
        Mappings = 6, "mappings of a domain";
        /// Pages of one segment.
        SegmentPages = 7, "pages of a segment";
        /// Versions of one object.
        Versions = 8, "versions of an object";
        /// Numbers of segments.
        Segments = 9, "numbers of segments";
    }
}

numbered! {
    /// What a domain is doing.
    State {
        /// It never began.
        New = 0, "new";
        /// It may execute.
        Running = 1, "running";
        /// It waits for any message.
        Available = 2, "available";
        /// It waits for its callee to become available.
        Queued = 3, "queued";
        /// It waits for an answer.
        Waiting = 4, "waiting";
        /// It stands at a fault that no keeper took, or at its end.
        Faulted = 5, "faulted";
        /// It is being taken apart.
        Dying = 6, "dying";
    }
}

/// A key type in a word; one that this crate does not know counts as none.
fn key_type(word: u64) -> KeyType {
    KeyType::from_number(word).unwrap_or(KeyType::Null)
}

#[allow(clippy::cast_possible_truncation)] // what the kernel sends fits; what does not is not the kernel's
const fn low(word: u64) -> u32 {
    word as u32
}

#[allow(clippy::cast_possible_truncation)] // as above
const fn lowest(word: u64) -> u8 {
    word as u8
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident: $type:ty = $value:expr),* })? = $code:literal, $message:literal;)*) => {
        /// Why an invocation was refused. What was refused has changed nothing.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])* #[allow(missing_docs)] $name $({ $($field: $type),* })?,)*
            /// All of the slots that this program may use hold keys. (Said by this crate.)
            NoFreeSlot,
            /// Keys cannot be invoked: the program does not run in Semper. (Said by this crate.)
            NoKernel,
            /// A signal of the Linux program came while it waited. What it sent was not taken, so nothing has happened; an answer
            /// that it gave by the key in slot 16 has gone. (Said by this crate.)
            Interrupted,
            /// An answer that this crate does not know.
            Unknown {
                /// The answer code.
                code: u32,
                /// Its words.
                words: [u64; 4],
            },
        }

        impl Error {
            /// The errors of the kernel, by answer code and name.
            pub const TABLE: &[(u32, &'static str)] = &[$((FIRST_ERROR - 1 + $code, stringify!($name)),)*];

            /// What an answer says.
            #[must_use]
            pub fn from_answer(code: u32, words: [u64; 4]) -> Self {
                match code.wrapping_sub(FIRST_ERROR - 1) {
                    $($code => {
                        $(let [$($field,)* ..] = words; $(let $field: $type = $value($field);)*)?
                        Self::$name $({ $($field),* })?
                    })*
                    _ => Self::Unknown { code, words },
                }
            }
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name $({ $($field),* })? => write!(f, $message),)*
                    Self::NoFreeSlot => f.write_str("no slot is free"),
                    Self::NoKernel => f.write_str("there is no kernel of Semper's here"),
                    Self::Interrupted => f.write_str("a signal came while it waited"),
                    Self::Unknown { code, words } => write!(f, "answer {code:#x} with words {words:x?}"),
                }
            }
        }
    };
}

errors! {
    /// The key has no such order.
    WrongOrder { key: KeyType = key_type, order: u32 = low } = 1, "a {key} key has no order {order}";
    /// The string is longer than the order takes.
    StringTooLong { len: u32 = low, limit: u32 = low } = 2, "a string of {len} bytes; at most {limit} can be taken";
    /// The order needs a key that was not given.
    MissingKey { argument: u8 = lowest } = 3, "key {argument} is missing";
    /// A key is not of the type that is needed.
    WrongKey { which: Which = Which::from_word, wanted: KeyType = key_type, found: KeyType = key_type } = 4,
        "{which} is a {found} key, not a {wanted} key";
    /// A key lacks a right.
    NoRight { which: Which = Which::from_word, missing: Rights = Rights::from_bits } = 5, "{which} lacks the right {missing}";
    /// The object of a key is gone, or the key was used up.
    Void { which: Which = Which::from_word } = 6, "{which} is void";
    /// There is no key in the slot that was invoked.
    Empty { slot: u8 = lowest } = 7, "slot {slot} is empty";
    /// There is not enough of something, or a limit is reached.
    Limit { of: Resource = Resource::from_word, limit: u64 = u64::from } = 8, "no more {of}: the limit is {limit}";
    /// A word has a value that the order cannot take.
    BadWord { word: u8 = lowest, value: u64 = u64::from } = 9, "word {word} cannot be {value:#x}";
    /// There is no slot of this number.
    BadSlot { slot: u8 = lowest } = 10, "there is no slot {slot}";
    /// The callee was not available, or did not answer, in time.
    Timeout = 11, "the deadline passed";
    /// The order waits, and it was sent instead of called.
    WouldWait = 12, "a send cannot wait for this";
    /// The domain that was to answer is gone.
    CalleeDied = 13, "the domain that was to answer is gone";
    /// The domain that was to answer began anew.
    CalleeRestarted = 14, "the domain that was to answer began anew";
    /// The object was not sold by this bank.
    NotSoldHere = 15, "this bank did not sell it";
    /// The factory is sealed.
    Sealed = 16, "the factory is sealed";
    /// The factory is not sealed yet.
    NotSealed = 17, "the factory is not sealed";
    /// Somebody waits there already.
    Busy = 18, "somebody waits there already";
    /// The domain is in a state in which this cannot be done.
    WrongPhase { state: State = State::from_word } = 19, "not while the domain is {state}";
    /// A key that waits was invoked by its own domain: it would wait for ever.
    SelfCall = 20, "a domain cannot wait for itself";
    /// What the key led to outside is no more: the other side broke it off, or a restart did.
    Rescinded = 21, "what it led to outside is no more";
    /// Two mappings would lie in one place.
    Overlap { page: u64 = u64::from } = 22, "page {page:#x} is mapped already";
    /// Nothing is mapped there.
    NotMapped { page: u64 = u64::from } = 23, "nothing is mapped at page {page:#x}";
    /// The domain is a Linux program: its registers, memory and life are its personality's affair.
    Foreign = 24, "not of a Linux program";
    /// There is no room for another record.
    JournalFull = 25, "the journal is full";
    /// The journal, or the record that was asked for, cannot be used.
    JournalBroken = 26, "the journal cannot be used";
    /// The string is not of the form that the order takes.
    BadString { len: u32 = low } = 27, "a string of {len} bytes is not what the order takes";
    /// What was asked for outside was refused there, or not granted (13); by its number in Linux.
    Outside { errno: u32 = low } = 28, "refused outside, Linux error {errno}";
    /// The store cannot give or take what the order is about. What else the order was to do is done.
    Unusable = 29, "the store cannot give or take it";
}

impl core::error::Error for Error {}
