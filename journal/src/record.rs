//! One record: a fixed header, then the payload.

use crate::bytes::{crc, put_u32, put_u64, to_u32, u32_at, u64_at};
use std::fmt;

/// Bytes of a record's header.
pub(crate) const HEADER: usize = 48;

/// Most bytes of a record's payload.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Records begin at multiples of it.
pub(crate) const ALIGN: usize = 8;

/// In a writer's number: not what the program wrote, but what it was told.
const INPUTS: u32 = 1 << 31;

/// Whose record it is. No writer sees another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Writer {
    /// The number of the program in its store; 0: the journal itself. With the highest bit set it is what that program was told.
    pub number: u32,
    /// When the program began, seconds since 1970: a number that a going back to an older generation gave twice is told apart by it.
    pub born: u32,
}

impl Writer {
    /// The journal itself, whose payloads are [`crate::Note`]s.
    pub const JOURNAL: Self = Self { number: 0, born: 0 };

    /// The writer of what a program is told.
    #[must_use]
    pub const fn inputs(self) -> Self {
        Self { number: self.number | INPUTS, ..self }
    }

    /// Whether it is what a program was told.
    #[must_use]
    pub const fn is_inputs(self) -> bool {
        self.number & INPUTS != 0
    }

    /// The number of the program, whether it wrote or was told; 0: the journal itself.
    #[must_use]
    pub const fn program(self) -> u32 {
        self.number & !INPUTS
    }

    /// As one word.
    #[must_use]
    pub const fn word(self) -> u64 {
        (self.born as u64) << 32 | self.number as u64
    }

    /// From [`Writer::word`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    pub const fn from_word(word: u64) -> Self {
        Self { number: word as u32, born: (word >> 32) as u32 }
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::JOURNAL => f.write_str("the journal"),
            told if told.is_inputs() => write!(f, "told to program {}", told.program()),
            program => write!(f, "program {}", program.number),
        }
    }
}

/// What a payload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a program's.
    Data = 1,
    /// A [`crate::Note`].
    Note = 2,
}

impl Kind {
    fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Data),
            2 => Some(Self::Note),
            _ => None,
        }
    }
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the journal: 1 for the first, and no gaps.
    pub sequence: u64,
    /// Wall time at which it was written, nanoseconds since 1970.
    pub time: u64,
    /// Whose it is.
    pub writer: Writer,
    /// The number that the writer gave it.
    pub number: u64,
    /// What the payload is.
    pub kind: Kind,
    /// The payload.
    pub bytes: Vec<u8>,
}

/// A header that was checked to be possible; whether it is true, its checksum tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub crc: u32,
    pub len: u32,
    pub sequence: u64,
    pub time: u64,
    pub writer: Writer,
    pub number: u64,
    pub kind: Kind,
}

impl Head {
    /// What stands at the start of `bytes`, if it can be a header.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEADER)?;
        let len = u32_at(head, 4);
        if len as usize > MAX_PAYLOAD || head[41..] != [0; 7] {
            return None;
        }
        Some(Self {
            crc: u32_at(head, 0),
            len,
            sequence: u64_at(head, 8),
            time: u64_at(head, 16),
            writer: Writer::from_word(u64_at(head, 24)),
            number: u64_at(head, 32),
            kind: Kind::from_raw(head[40])?,
        })
    }
}

/// Bytes of a record with a payload of `len` bytes, up to the next record.
pub(crate) const fn span(len: usize) -> usize {
    (HEADER + len).next_multiple_of(ALIGN)
}

/// What a checksum covers besides the bytes: the segment, and where in it they lie. So a record that is intact but stale, misdirected or
/// made up by a program, which does not know the salt, does not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub salt: u64,
    pub offset: u64,
}

impl Identity {
    pub fn crc(self, bytes: &[u8]) -> u32 {
        crc(&[&self.salt.to_le_bytes(), &self.offset.to_le_bytes(), bytes])
    }
}

/// Adds a record that will lie at `identity` to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, record: &Record, identity: Identity) {
    let start = out.len();
    out.resize(start + HEADER, 0);
    out.extend_from_slice(&record.bytes);
    let bytes = &mut out[start..];
    put_u32(bytes, 4, to_u32(record.bytes.len()));
    put_u64(bytes, 8, record.sequence);
    put_u64(bytes, 16, record.time);
    put_u64(bytes, 24, record.writer.word());
    put_u64(bytes, 32, record.number);
    bytes[40] = record.kind as u8;
    let sum = identity.crc(&bytes[4..]);
    put_u32(bytes, 0, sum);
    out.resize(start + span(record.bytes.len()), 0);
}

/// The record at the start of `bytes`, which lie at `identity`, if there is a true one.
pub(crate) fn decode(bytes: &[u8], identity: Identity) -> Option<Record> {
    let head = Head::read(bytes)?;
    let whole = bytes.get(..HEADER + head.len as usize)?;
    if identity.crc(&whole[4..]) == head.crc { trusting(bytes) } else { None }
}

/// As [`decode`], without a look at the checksum.
pub(crate) fn trusting(bytes: &[u8]) -> Option<Record> {
    let head = Head::read(bytes)?;
    let whole = bytes.get(..HEADER + head.len as usize)?;
    Some(Record {
        sequence: head.sequence,
        time: head.time,
        writer: head.writer,
        number: head.number,
        kind: head.kind,
        bytes: whole[HEADER..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let writer = Writer { number: 3, born: 9 };
        Record { sequence: 5, time: 6, writer, number: 7, kind: Kind::Data, bytes: b"seventeen bytes..".to_vec() }
    }

    #[test]
    fn a_record_comes_back_and_every_bit_of_it_counts() {
        let at = Identity { salt: 11, offset: 4128 };
        let mut bytes = Vec::new();
        encode(&mut bytes, &record(), at);
        assert_eq!(bytes.len(), span(17));
        assert_eq!(decode(&bytes, at), Some(record()));
        for other in [Identity { salt: 12, ..at }, Identity { offset: 4136, ..at }] {
            assert_eq!(decode(&bytes, other), None);
        }
        for bit in 0..(HEADER + 17) * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes, at), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn what_is_cut_short_is_no_record() {
        let at = Identity { salt: 11, offset: 0 };
        let mut bytes = Vec::new();
        encode(&mut bytes, &record(), at);
        for len in 0..HEADER + 17 {
            assert_eq!(decode(&bytes[..len], at), None);
        }
    }
}
