//! A segment: a file of fixed size, whose first page says what it is.

use crate::bytes::{crc, put_u32, put_u64, u32_at, u64_at};
use semper_store::{PAGE_SIZE, StoreId};

/// The version of the format.
pub const FORMAT_VERSION: u32 = 1;

/// Where the first batch of a segment lies.
pub(crate) const FIRST_BATCH: u64 = PAGE_SIZE as u64;

const MAGIC: [u8; 8] = *b"SMPRJSEG";
const SUFFIX: &str = ".segment";
const INDEX_SUFFIX: &str = ".index";

/// The name of the segment that begins with record `first`.
pub(crate) fn name(first: u64) -> String {
    format!("{first:016x}{SUFFIX}")
}

/// The name of its index.
pub(crate) fn index_name(first: u64) -> String {
    format!("{first:016x}{INDEX_SUFFIX}")
}

/// The first record of the segment of this name.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    hex(name.strip_suffix(SUFFIX)?)
}

/// The first record of the segment whose index has this name.
pub(crate) fn indexed_by(name: &str) -> Option<u64> {
    hex(name.strip_suffix(INDEX_SUFFIX)?)
}

fn hex(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// What the first page of a segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub store: StoreId,
    /// The first record.
    pub first: u64,
    /// Bytes of the file.
    pub len: u64,
    /// Random: what checksums in it are bound to.
    pub salt: u64,
    /// When it was made, nanoseconds since 1970.
    pub made: u64,
}

/// Why a page is no header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadHeader {
    /// It was never written.
    Blank,
    /// Another version of the format.
    Version(u32),
    /// Anything else.
    Damaged,
}

impl Header {
    pub fn encode(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        page[..8].copy_from_slice(&MAGIC);
        put_u32(&mut page, 8, FORMAT_VERSION);
        page[16..32].copy_from_slice(&self.store.0);
        for (at, value) in [(32, self.first), (40, self.len), (48, self.salt), (56, self.made)] {
            put_u64(&mut page, at, value);
        }
        let sum = crc(&[&page[..12], &page[16..]]);
        put_u32(&mut page, 12, sum);
        page
    }

    pub fn decode(page: &[u8]) -> Result<Self, BadHeader> {
        if page.len() != PAGE_SIZE {
            return Err(BadHeader::Damaged);
        }
        if page.iter().all(|byte| *byte == 0) {
            return Err(BadHeader::Blank);
        }
        if page[..8] != MAGIC || crc(&[&page[..12], &page[16..]]) != u32_at(page, 12) {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(page, 8);
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        let store = StoreId(std::array::from_fn(|i| page[16 + i]));
        let [first, len, salt, made] = [32, 40, 48, 56].map(|at| u64_at(page, at));
        Ok(Self { store, first, len, salt, made })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_header_is_guarded() {
        let header = Header { store: StoreId([7; 16]), first: 9, len: 1 << 20, salt: 5, made: 4 };
        let mut page = header.encode();
        assert_eq!(Header::decode(&page), Ok(header));
        for at in 0..PAGE_SIZE {
            page[at] ^= 0x40;
            assert!(Header::decode(&page).is_err(), "byte {at}");
            page[at] ^= 0x40;
        }
        assert_eq!(Header::decode(&[0; PAGE_SIZE]), Err(BadHeader::Blank));
    }

    #[test]
    fn only_names_of_segments_are_taken_for_them() {
        assert_eq!(first_of(&name(0x1234)), Some(0x1234));
        assert_eq!(indexed_by(&index_name(7)), Some(7));
        for other in
            ["state", "1.segment", "000000000000000G.segment", "0000000000000001.index", "+000000000000001.segment"]
        {
            assert_eq!(first_of(other), None, "{other}");
        }
    }
}
