//! Access to a program's memory from the kernel: every address and length that a program hands over is hostile.
//!
//! Each access is checked against the map (reading needs `PROT_READ`, writing `PROT_WRITE`), then copied once.
//! No access allocates more than [`CHUNK`] bytes at a time.

use super::Errno;
use super::vma::{READ, Vmas, WRITE};
use semper_pager::Segment;
use semper_store::{PageIndex, PageRange};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The most that one access copies; longer transfers go chunk by chunk.
pub const CHUNK: usize = 1 << 20;
/// The most that one read or write call transfers (Linux: `MAX_RW_COUNT`).
pub const MAX_RW: u64 = 0x7fff_f000;
/// Ranges that wait to be discarded; beyond it all are discarded at once.
const MAX_DOOMED: usize = 64;

/// A program's memory: the segment (offset = address) and the map that says what of it may be used.
pub struct UserMemory {
    pub(super) segment: Arc<Segment>,
    pub(super) vmas: Vmas,
    doomed: Vec<(u64, u64)>,
    dooming: Vec<(u64, u64)>,
    wiping: Vec<(u64, u64)>,
}

impl UserMemory {
    pub(super) fn new(segment: Arc<Segment>, vmas: Vmas) -> Self {
        Self { segment, vmas, doomed: Vec::new(), dooming: Vec::new(), wiping: Vec::new() }
    }

    /// The map.
    #[must_use]
    pub fn vmas(&self) -> &Vmas {
        &self.vmas
    }

    /// How many of the `length` bytes at `address` may be read.
    #[must_use]
    pub fn readable(&self, address: u64, length: u64) -> u64 {
        self.vmas.accessible(address, length, READ)
    }

    /// How many of the `length` bytes at `address` may be written.
    #[must_use]
    pub fn writable(&self, address: u64, length: u64) -> u64 {
        self.vmas.accessible(address, length, WRITE)
    }

    /// Fills `out` from `address`.
    ///
    /// # Errors
    /// `EFAULT` unless all of it may be read; `EIO` if a page could not be fetched.
    pub fn read_into(&self, address: u64, out: &mut [u8]) -> Result<(), Errno> {
        let length = out.len() as u64;
        if self.readable(address, length) < length {
            return Err(Errno::EFAULT);
        }
        self.fetch(address, out)
    }

    /// The `length` bytes at `address`.
    ///
    /// # Errors
    /// `EFAULT` unless all of it may be read; `EINVAL` beyond [`CHUNK`].
    pub fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        if length > CHUNK {
            return Err(Errno::EINVAL);
        }
        if self.readable(address, length as u64) < length as u64 {
            return Err(Errno::EFAULT);
        }
        let mut out = vec![0; length];
        self.fetch(address, &mut out)?;
        Ok(out)
    }

    /// The bytes at `address` up to a zero, without it.
    ///
    /// # Errors
    /// `EFAULT` if memory ends before a zero, `ENAMETOOLONG` if `max` bytes hold none.
    pub fn read_cstr(&self, address: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::new();
        let mut at = address;
        while out.len() < max {
            let step = (256 - (at % 256)).min((max - out.len()) as u64);
            let step = self.readable(at, step);
            if step == 0 {
                return Err(Errno::EFAULT);
            }
            let mut piece = [0; 256];
            let piece = &mut piece[..usize::try_from(step).unwrap_or(256)];
            self.fetch(at, piece)?;
            if let Some(end) = piece.iter().position(|&b| b == 0) {
                out.extend_from_slice(&piece[..end]);
                return Ok(out);
            }
            out.extend_from_slice(piece);
            at = at.wrapping_add(step);
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// A value at `address` (any alignment).
    ///
    /// # Errors
    /// `EFAULT` unless all of it may be read.
    pub fn read_value<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_into(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes `bytes` to `address`.
    ///
    /// # Errors
    /// `EFAULT` unless all of it may be written; nothing is written then.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let length = bytes.len() as u64;
        if self.writable(address, length) < length {
            return Err(Errno::EFAULT);
        }
        self.put(address, bytes)
    }

    /// Writes a value to `address` (any alignment).
    ///
    /// # Errors
    /// `EFAULT` unless all of it may be written; nothing is written then.
    pub fn write_value<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<(), Errno> {
        self.write(address, value.as_bytes())
    }

    /// Reads without asking the map: for the kernel's own moves.
    pub(super) fn fetch(&self, address: u64, out: &mut [u8]) -> Result<(), Errno> {
        self.segment.read_at(address, out).map_err(|_| Errno::EIO)
    }

    /// Writes without asking the map: for the loader and the kernel's own moves.
    pub(super) fn put(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.segment.write_at(address, bytes).map_err(|_| Errno::EIO)
    }

    /// `start..end` is not mapped any more: once the transaction has ended, its content goes when something is mapped
    /// there again, when much waits, or before a capture.
    pub(super) fn doom(&mut self, start: u64, end: u64) {
        self.dooming.push((start, end));
    }

    /// `start..end` must hold zeros once the records are changed.
    pub(super) fn wipe(&mut self, start: u64, end: u64) {
        self.wiping.push((start, end));
    }

    /// The records are changed: does what cannot be undone.
    pub(super) fn settle(&mut self) {
        for (start, end) in std::mem::take(&mut self.dooming) {
            match self.doomed.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                Some(last) if last.0 == end => last.0 = start,
                _ => self.doomed.push((start, end)),
            }
        }
        for (start, end) in std::mem::take(&mut self.wiping) {
            self.reclaim(start, end);
        }
        if self.doomed.len() > MAX_DOOMED {
            self.discard_doomed();
        }
    }

    /// The transaction was undone: nothing that it doomed is.
    pub(super) fn forget(&mut self) {
        self.dooming.clear();
        self.wiping.clear();
    }

    fn reclaim(&mut self, start: u64, end: u64) {
        if !self.doomed.iter().any(|&(s, e)| s < end && e > start) {
            return;
        }
        let mut kept = Vec::with_capacity(self.doomed.len() + 1);
        for (s, e) in std::mem::take(&mut self.doomed) {
            if e <= start || s >= end {
                kept.push((s, e));
                continue;
            }
            discard(&self.segment, s.max(start), e.min(end));
            if s < start {
                kept.push((s, start));
            }
            if e > end {
                kept.push((end, e));
            }
        }
        self.doomed = kept;
    }

    /// Zeros from now on.
    pub(super) fn discard(&mut self, start: u64, end: u64) {
        discard(&self.segment, start, end);
    }

    /// Discards everything that waits for it.
    pub(super) fn discard_doomed(&mut self) {
        for (start, end) in std::mem::take(&mut self.doomed) {
            discard(&self.segment, start, end);
        }
    }
}

fn discard(segment: &Segment, start: u64, end: u64) {
    if let Err(error) = segment.discard(PageRange::between(start >> 12, end >> 12)) {
        tracing::error!(%error, start, end, "memory could not be discarded");
    }
}

/// The page that holds `address`.
pub(super) const fn page_of(address: u64) -> PageIndex {
    PageIndex(address >> 12)
}
