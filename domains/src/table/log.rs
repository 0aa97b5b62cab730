//! The undo log: old bytes, written ahead of the new ones.
//!
//! The order *entry, log word, data* is the whole secret. Killed before the word, the entry does not count and its data
//! is still old; killed after, the entry brings the old bytes back. Undoing twice is the same as once.

use super::layout::{ALLOCATION, ALLOCATION_BYTES, Geometry, LOG_START, LOG_WORD};
use super::{Inconsistency, TableError, TableMemory};
use std::mem::size_of;
use std::sync::atomic::{Ordering, compiler_fence};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// What stands before the old bytes, which are padded to 8.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EntryHeader {
    offset: u64,
    len: u32,
    /// CRC-32 of the fields before it and the old bytes: an entry that is damaged is never written over good data.
    crc: u32,
}

const ENTRY_HEADER: usize = size_of::<EntryHeader>();
const _: () = assert!(ENTRY_HEADER == 16);

impl EntryHeader {
    fn checksum(&self, old: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.as_bytes()[..12]);
        hasher.update(old);
        hasher.finalize()
    }
}

/// A mistake that the crash tests must find.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Canary {
    /// None: the log as it should be.
    Healthy,
    /// The log word counts an entry before it is written.
    CountFirst,
    /// The second range is taken as logged without being so.
    SkipSecond,
    /// An entry counts only with the next one, after its data was overwritten.
    CountLate,
}

/// The log of one table: where its next entry goes, and what the open transaction has logged.
pub(super) struct Log {
    geometry: Geometry,
    used: u32,
    entries: u32,
    /// Ranges `start..end` that need no entry any more, sorted, apart.
    covered: Vec<(u64, u64)>,
    gaps: Vec<(u64, u64)>,
    scratch: Vec<u8>,
    #[cfg(test)]
    pub(super) canary: Canary,
}

impl Log {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            used: 0,
            entries: 0,
            covered: Vec::new(),
            gaps: Vec::new(),
            scratch: Vec::new(),
            #[cfg(test)]
            canary: Canary::Healthy,
        }
    }

    /// Whether the open transaction has logged anything, which it has if it changed anything.
    pub(super) const fn is_open(&self) -> bool {
        self.entries != 0
    }

    /// Whether the bytes `start..end` need no entry any more.
    pub(super) fn covers(&self, start: u64, end: u64) -> bool {
        let place = self.covered.partition_point(|range| range.1 < end);
        self.covered.get(place).is_some_and(|range| range.0 <= start)
    }

    /// Logs what of `start..end` was not yet. After it returns, the bytes may be overwritten.
    pub(super) fn protect(&mut self, memory: &dyn TableMemory, start: u64, end: u64) -> Result<(), TableError> {
        if self.covers(start, end) {
            return Ok(());
        }
        self.find_gaps(start, end);
        let needed = self.gaps.iter().map(|(start, end)| entry_bytes(end - start)).sum::<u64>();
        let room = self.geometry.log_bytes() - u64::from(self.used);
        if needed > room {
            return Err(TableError::LogFull { needed, room });
        }
        let gaps = std::mem::take(&mut self.gaps);
        for (start, end) in &gaps {
            self.append(memory, *start, *end);
        }
        self.gaps = gaps;
        self.cover(start, end);
        Ok(())
    }

    /// Takes `start..end` as logged: bytes that meant nothing before the transaction.
    pub(super) fn cover(&mut self, start: u64, end: u64) {
        let first = self.covered.partition_point(|range| range.1 < start);
        let after = first + self.covered[first..].partition_point(|range| range.0 <= end);
        let merged = self.covered[first..after].iter().fold((start, end), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.covered.splice(first..after, [merged]);
    }

    fn find_gaps(&mut self, start: u64, end: u64) {
        self.gaps.clear();
        let mut from = start;
        let first = self.covered.partition_point(|range| range.1 <= start);
        for range in self.covered[first..].iter().take_while(|range| range.0 < end) {
            if from < range.0 {
                self.gaps.push((from, range.0));
            }
            from = range.1;
        }
        if from < end {
            self.gaps.push((from, end));
        }
    }

    fn append(&mut self, memory: &dyn TableMemory, start: u64, end: u64) {
        let len = u32::try_from(end - start).expect("a range lies within one record");
        let entry_len = u32::try_from(entry_bytes(end - start)).expect("a range lies within one record");
        self.scratch.clear();
        self.scratch.resize(entry_len as usize, 0);
        let old = &mut self.scratch[ENTRY_HEADER..ENTRY_HEADER + len as usize];
        memory.read(start, old);
        let mut header = EntryHeader { offset: start, len, crc: 0 };
        header.crc = header.checksum(old);
        self.scratch[..ENTRY_HEADER].copy_from_slice(header.as_bytes());

        let at = LOG_START + u64::from(self.used);
        self.used += entry_len;
        self.entries += 1;
        #[cfg(test)]
        if self.append_wrongly(memory, at, entry_len) {
            return;
        }
        memory.write(at, &self.scratch);
        self.count(memory);
    }

    /// Makes the entries up to here count. The fences keep the compiler from moving a store across.
    fn count(&self, memory: &dyn TableMemory) {
        compiler_fence(Ordering::SeqCst);
        memory.write_word(LOG_WORD, log_word(self.entries, self.used));
        compiler_fence(Ordering::SeqCst);
    }

    /// Does what the canary says in place of the right thing; false if the canary is silent.
    #[cfg(test)]
    fn append_wrongly(&mut self, memory: &dyn TableMemory, at: u64, entry_len: u32) -> bool {
        match self.canary {
            Canary::CountFirst => {
                self.count(memory);
                memory.write(at, &self.scratch);
            }
            Canary::SkipSecond if self.entries == 2 => {
                self.used -= entry_len;
                self.entries -= 1;
                self.canary = Canary::Healthy;
            }
            Canary::CountLate => {
                memory.write(at, &self.scratch);
                memory.write_word(LOG_WORD, log_word(self.entries - 1, self.used - entry_len));
            }
            Canary::Healthy | Canary::SkipSecond => return false,
        }
        true
    }

    /// Ends the transaction: its changes stay.
    pub(super) fn commit(&mut self, memory: &dyn TableMemory) {
        if self.is_open() {
            self.clear(memory);
        }
        self.covered.clear();
    }

    /// Brings back what the log in the pages holds, the last entry first; returns the number of entries. Nothing is
    /// written unless all of them are sound.
    pub(super) fn undo(&mut self, memory: &dyn TableMemory) -> Result<u32, Inconsistency> {
        let places = self.sound_entries(memory)?;
        for place in places.iter().rev() {
            let header = self.read_entry(memory, *place)?;
            memory.write(header.offset, &self.scratch);
        }
        if !places.is_empty() {
            self.clear(memory);
        }
        self.covered.clear();
        Ok(u32::try_from(places.len()).expect("as many as the log word counts"))
    }

    fn clear(&mut self, memory: &dyn TableMemory) {
        compiler_fence(Ordering::SeqCst);
        memory.write_word(LOG_WORD, 0);
        compiler_fence(Ordering::SeqCst);
        self.used = 0;
        self.entries = 0;
    }

    /// Where the counted entries begin, each one checked.
    fn sound_entries(&mut self, memory: &dyn TableMemory) -> Result<Vec<u64>, Inconsistency> {
        let (entries, used) = read_log_word(memory);
        if u64::from(used) > self.geometry.log_bytes() {
            return Err(log_fault(0, "more bytes than the log has", used.into()));
        }
        let mut places = Vec::new();
        let mut at = 0;
        while at < u64::from(used) {
            let header = self.read_entry(memory, at)?;
            places.push(at);
            at += entry_bytes(header.len.into());
        }
        if at != u64::from(used) || places.len() != entries as usize {
            return Err(log_fault(at, "the log word counts other entries", entries.into()));
        }
        Ok(places)
    }

    /// Reads the entry at `at` and leaves its old bytes in `scratch`.
    fn read_entry(&mut self, memory: &dyn TableMemory, at: u64) -> Result<EntryHeader, Inconsistency> {
        let log_bytes = self.geometry.log_bytes();
        let mut header = EntryHeader::new_zeroed();
        if at + entry_bytes(0) > log_bytes {
            return Err(log_fault(at, "an entry leaves the log", log_bytes));
        }
        memory.read(LOG_START + at, header.as_mut_bytes());
        let len = u64::from(header.len);
        if header.len == 0 || header.len > self.geometry.record_bytes || at + entry_bytes(len) > log_bytes {
            return Err(log_fault(at, "length", len));
        }
        if !self.may_hold(header.offset, len) {
            return Err(log_fault(at, "offset", header.offset));
        }
        self.scratch.clear();
        self.scratch.resize(header.len as usize, 0);
        memory.read(LOG_START + at + entry_bytes(0), &mut self.scratch);
        if header.crc != header.checksum(&self.scratch) {
            return Err(log_fault(at, "checksum", header.crc.into()));
        }
        Ok(header)
    }

    /// Whether transactions change these bytes: the allocation fields, the summary, or records.
    fn may_hold(&self, offset: u64, len: u64) -> bool {
        let Some(end) = offset.checked_add(len) else { return false };
        let in_records = offset >= self.geometry.summary_start() && end <= self.geometry.end();
        in_records || (offset >= ALLOCATION && end <= ALLOCATION + ALLOCATION_BYTES)
    }
}

fn log_word(entries: u32, used: u32) -> u64 {
    u64::from(entries) << 32 | u64::from(used)
}

/// The entries and the bytes that the log word counts.
#[allow(clippy::cast_possible_truncation)] // the halves of a word
pub(super) fn read_log_word(memory: &dyn TableMemory) -> (u32, u32) {
    let mut word = [0; 8];
    memory.read(LOG_WORD, &mut word);
    let word = u64::from_le_bytes(word);
    ((word >> 32) as u32, word as u32)
}

const fn entry_bytes(len: u64) -> u64 {
    ENTRY_HEADER as u64 + len.next_multiple_of(8)
}

const fn log_fault(at: u64, what: &'static str, found: u64) -> Inconsistency {
    Inconsistency::Log { at, what, found }
}
