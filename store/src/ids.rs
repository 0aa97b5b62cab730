//! The words every crate shares: what a page, a segment and a generation are called.

use std::fmt;
use std::str::FromStr;

/// Bytes in a page; everything durable is an array of these.
pub const PAGE_SIZE: usize = 4096;

/// Pages a segment can have (2^40); a page index is always below it.
pub const MAX_SEGMENT_PAGES: u64 = 1 << 40;

/// Segment ids are below this (2^48): the tree keeps them in six bytes.
pub const MAX_SEGMENTS: u64 = 1 << 48;

/// The content of one page.
pub type Page = [u8; PAGE_SIZE];

/// Names a segment (a sparse array of pages) within one store. Segment 0 is the kernel's object table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The kernel's object table.
    pub const OBJECTS: Self = Self(0);
}

/// The number of a page within its segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageIndex(pub u64);

/// A committed checkpoint; a number that only grows. 0 means: nothing was committed yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(pub u64);

/// A run of `count` pages from `first` on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageRange {
    /// The first page of the run.
    pub first: PageIndex,
    /// How many pages it has.
    pub count: u64,
}

impl PageRange {
    /// The run `first..end`; empty if `end <= first`.
    #[must_use]
    pub const fn between(first: u64, end: u64) -> Self {
        Self { first: PageIndex(first), count: end.saturating_sub(first) }
    }

    /// The page after the last.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.first.0.saturating_add(self.count)
    }

    /// Whether `page` lies in the run.
    #[must_use]
    pub const fn contains(self, page: PageIndex) -> bool {
        page.0 >= self.first.0 && page.0 < self.end()
    }
}

/// Names one store: 128 random bits, drawn when it is created and bound into every checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for StoreId {
    type Err = ();

    /// Reads 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}", self.0)
    }
}

impl fmt::Display for PageIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}", self.0)
    }
}
