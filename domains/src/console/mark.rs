//! The small files beside the store: a release mark per domain, an input log per domain. Both are checked on reading.

use super::beside::SideFile;
use std::io;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;
const MARK_MAGIC: [u8; 8] = *b"SEMPMARK";
const INPUT_MAGIC: [u8; 8] = *b"SEMPINPT";
const VERSION: u32 = 1;

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How far output has left: `a` is standard output, `b` standard error.
    Mark,
    /// Input that was consumed but not committed: `a` is the position of the first byte after the header, `b` zero.
    Input,
}

/// A header: magic (8), version (4), CRC-32 of all else (4), domain (8), a (8), b (8), zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose file it is.
    pub domain: u64,
    /// See [`Kind`].
    pub a: u64,
    /// See [`Kind`].
    pub b: u64,
}

impl Header {
    /// The bytes.
    #[must_use]
    pub fn encode(&self, kind: Kind) -> [u8; HEADER_BYTES] {
        let mut bytes = [0u8; HEADER_BYTES];
        bytes[..8].copy_from_slice(if kind == Kind::Mark { &MARK_MAGIC } else { &INPUT_MAGIC });
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.domain.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.a.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.b.to_le_bytes());
        let sum = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// A header that was read; none if it is not one of this kind, version and domain, or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_BYTES], kind: Kind, domain: u64) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0u8; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let header = Self { domain: word(16), a: word(24), b: word(32) };
        (header.domain == domain && header.encode(kind) == *bytes).then_some(header)
    }

    /// Writes it at the head of `file`.
    ///
    /// # Errors
    /// As the write.
    pub fn write(&self, file: &SideFile, kind: Kind) -> io::Result<()> {
        file.write_all_at(&self.encode(kind), 0)
    }

    /// Reads it; none if the file is new, damaged or another domain's.
    #[must_use]
    pub fn read(file: &SideFile, kind: Kind, domain: u64) -> Option<Self> {
        let mut bytes = [0u8; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Self::decode(&bytes, kind, domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_was_changed_in_any_bit_is_not_believed() {
        let header = Header { domain: 7, a: 1 << 40, b: 3 };
        let bytes = header.encode(Kind::Mark);
        assert_eq!(Header::decode(&bytes, Kind::Mark, 7), Some(header));
        assert_eq!(Header::decode(&bytes, Kind::Mark, 8), None);
        assert_eq!(Header::decode(&bytes, Kind::Input, 7), None);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, Kind::Mark, 7), None, "bit {bit}");
        }
    }
}
