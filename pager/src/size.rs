//! Sizes in memory: this crate is for 64-bit Linux, where they are the sizes of files too.

use semper_store::PAGE_SIZE;

const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// A number as an index or a length in memory.
#[expect(clippy::cast_possible_truncation, reason = "both have 64 bits, as asserted above")]
pub(crate) const fn index(number: u64) -> usize {
    number as usize
}

/// The bytes of so many pages.
pub(crate) const fn bytes(pages: u64) -> usize {
    index(pages) * PAGE_SIZE
}
