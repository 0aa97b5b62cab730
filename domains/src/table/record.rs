//! What a record is, and how one is named.

use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Kinds from here on are not listed: [`super::Table::iter`], [`super::Table::count`] and their kin do not find them, and
/// opening a table does not look for them. For kinds of which there may be millions, and which are reached by their ids.
pub const FIRST_UNLISTED_KIND: u16 = 0x4000;

/// A fixed-size value that a table can hold: plain bytes without padding, every bit pattern valid.
///
/// A record whose bits must obey more than that (an enum, an index) is checked by whoever reads it.
pub trait Record: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// Tells the kinds of records apart, in the pages, for ever: 1 to 0xFFFE. Those below [`FIRST_UNLISTED_KIND`] are listed.
    const KIND: u16;
    /// What messages call it.
    const NAME: &'static str;
}

/// Names a record: its place, and which of the place's successive occupants is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    index: u32,
    version: u32,
}

impl RecordId {
    /// Names nothing: void in every table, and 0 as a word.
    pub const NONE: Self = Self { index: 0, version: 0 };

    pub(super) const fn new(index: u32, version: u32) -> Self {
        Self { index, version }
    }

    /// The place in the table.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which occupant of the place; at least 1 for a record that ever existed.
    #[must_use]
    pub const fn version(self) -> u32 {
        self.version
    }

    /// Whether this is an id that names nothing (its version is 0).
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.version == 0
    }

    /// As one word: the version in the upper half, the index in the lower.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        (self.version as u64) << 32 | self.index as u64
    }

    /// From [`RecordId::as_u64`]. Any word is an id; one that names no record is void when it is used.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the halves of a word
    pub const fn from_u64(word: u64) -> Self {
        Self { index: word as u32, version: (word >> 32) as u32 }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}.{}", self.index, self.version)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.version)
    }
}
