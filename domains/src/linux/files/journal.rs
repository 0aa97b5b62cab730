//! `/dev/semper/journal` and `/dev/semper/restart`: what no roll-back touches.
//!
//! A program sees its own records. A write is one record, and returns when it is durable: `NUMBER BYTES`, or with `pwrite` the bytes alone
//! at the offset NUMBER. A number that the program has used already, also in a life that was rolled back, is `EEXIST`, and nothing is
//! written. `pread` at the offset NUMBER gives that record's bytes; `read` gives one record after the other, each with a line about it.
//! The offset of the open file is a place in the journal, and rolls back with the program.

use super::Errno;
use super::devices::{JOURNAL, RESTART};
use super::flow::{At, Piece};
use super::node::NodeKind;
use super::records::OpenFile;
use crate::linux::{Answer, Appending, JournalRecord, JournalTrouble, Program, Wait};

/// `_IOWR('j', 1, uint64_t)`: the largest number that is not above the one given.
const LAST: u64 = 0xc008_6a01;
/// Digits of the largest number, and the space after it.
const PREFIX: usize = 21;
/// Bytes of a record, and of what stands before it.
const MAX_WRITE: u64 = (semper_journal::MAX_PAYLOAD + PREFIX) as u64;

/// What a call does about a journal that gives no answer.
fn troubled(trouble: JournalTrouble) -> Result<Answer, Errno> {
    match trouble {
        JournalTrouble::Wait => Ok(Answer::Wait(Wait { journal: true, ..Wait::default() })),
        JournalTrouble::Full => Err(Errno::ENOSPC),
        JournalTrouble::TooLong => Err(Errno::EMSGSIZE),
        JournalTrouble::Broken => Err(Errno::EIO),
    }
}

impl Program {
    /// Whether an open file is the journal.
    pub(super) fn is_journal(&self, open: &OpenFile) -> Result<bool, Errno> {
        Ok(self.files.kind_of(open.node()?)? == NodeKind::Device(JOURNAL))
    }

    /// Writes a record.
    pub(super) fn write_journal(&mut self, at: At, pieces: &[Piece]) -> Result<Answer, Errno> {
        let length = pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.length));
        if length > MAX_WRITE {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = Vec::new();
        for piece in pieces {
            let start = bytes.len();
            bytes.resize(start + usize::try_from(piece.length).map_err(|_| Errno::EMSGSIZE)?, 0);
            self.user.read_into(piece.address, &mut bytes[start..])?;
        }
        let (number, payload) = match at {
            At::Here(number) => (number, &bytes[..]),
            At::Offset => numbered(&bytes).ok_or(Errno::EINVAL)?,
        };
        match self.host.journal.append(number, payload) {
            Ok(Appending::Written) => Ok(Answer::Value(length)),
            Ok(Appending::There) => Err(Errno::EEXIST),
            Err(trouble) => troubled(trouble),
        }
    }

    /// Reads a record: by its number, or the next one.
    pub(super) fn read_journal(&mut self, open: &OpenFile, at: At, pieces: &[Piece]) -> Result<Answer, Errno> {
        let found = match at {
            At::Here(number) => self.host.journal.find(number),
            At::Offset => self.host.journal.next(open.offset),
        };
        let record = match (found, at) {
            (Ok(Some(record)), _) => record,
            (Ok(None), At::Here(_)) => return Err(Errno::ENODATA),
            (Ok(None), At::Offset) => return Ok(Answer::Value(0)),
            (Err(trouble), _) => return troubled(trouble),
        };
        let bytes = match at {
            At::Here(_) => record.bytes,
            At::Offset => told(&record),
        };
        let room = pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.length));
        if (bytes.len() as u64) > room {
            return Err(Errno::EMSGSIZE);
        }
        let mut rest = &bytes[..];
        for piece in pieces {
            let count = usize::try_from(piece.length).unwrap_or(usize::MAX).min(rest.len());
            self.user.write(piece.address, &rest[..count])?;
            rest = &rest[count..];
        }
        if at == At::Offset {
            self.files.set_offset(&mut self.state, open.number, record.sequence + 1)?;
        }
        Ok(Answer::Value(bytes.len() as u64))
    }

    /// Goes to a place in the journal.
    pub(super) fn seek_journal(&mut self, open: &OpenFile, offset: i64, whence: u64) -> Result<Answer, Errno> {
        let end = match self.host.journal.end() {
            Ok(end) => end,
            Err(trouble) => return troubled(trouble),
        };
        let target = super::calls_fd::seek_target(offset, whence, open.offset, end)?;
        self.files.set_offset(&mut self.state, open.number, target)?;
        Ok(Answer::Value(target))
    }

    /// `ioctl` on the journal.
    pub(super) fn control_journal(&mut self, request: u64, address: u64) -> Result<Answer, Errno> {
        if request != LAST {
            return Err(Errno::ENOTTY);
        }
        let most: u64 = self.user.read_value(address)?;
        match self.host.journal.last(most) {
            Ok(Some(record)) => {
                self.user.write_value(address, &record.number)?;
                Ok(Answer::Value(0))
            }
            Ok(None) => Err(Errno::ENODATA),
            Err(trouble) => troubled(trouble),
        }
    }

    /// What `/dev/semper/restart` says.
    pub(super) fn restart_text(&self) -> String {
        let restart = (self.host.restart)();
        let [first, second] = restart.id;
        format!(
            "restarts {}\nlife {first:016x}{second:016x}\ngeneration {}\nbegan {}.{:09}\n",
            restart.restarts,
            restart.generation,
            restart.began / 1_000_000_000,
            restart.began % 1_000_000_000
        )
    }
}

/// Whether reading a device moves its offset.
pub(super) const fn has_offset(device: u64) -> bool {
    device == RESTART
}

/// The number at the start, and what comes after the space, or the end of a line, behind it.
fn numbered(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let number = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    match &bytes[digits..] {
        [] | [b'\n'] => Some((number, &[])),
        [b' ', rest @ ..] => Some((number, rest)),
        _ => None,
    }
}

/// A record as `read` gives it: a line of its place, its number, its time and its length, then its bytes and the end of a line.
fn told(record: &JournalRecord) -> Vec<u8> {
    let (seconds, nanos) = (record.time / 1_000_000_000, record.time % 1_000_000_000);
    let mut text =
        format!("{} {} {seconds}.{nanos:09} {}\n", record.sequence, record.number, record.bytes.len()).into_bytes();
    text.extend_from_slice(&record.bytes);
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_a_number_and_bytes() {
        assert_eq!(numbered(b"7 pay 5"), Some((7, &b"pay 5"[..])));
        assert_eq!(numbered(b"7  \x00"), Some((7, &b" \x00"[..])));
        assert_eq!(numbered(b"18446744073709551615"), Some((u64::MAX, &[][..])));
        assert_eq!(numbered(b"7\n"), Some((7, &[][..])));
        for wrong in [&b""[..], b" 7", b"x 7", b"7x", b"-1 a", b"18446744073709551616 a", b"+7 a"] {
            assert_eq!(numbered(wrong), None, "{wrong:?}");
        }
    }
}
