//! Walking through a segment: its batches, what is lost of it, and where it ends.
//!
//! A batch is flushed before the next is written. So what is not whole is the torn tail, and was never acknowledged, if no whole batch of
//! later records lies behind it; and damage if one does, or if later records lie in another segment.

use crate::batch::{self, BATCH_HEADER, MAX_BATCH};
use crate::bytes::to_usize;
use crate::canary::Canary;
use crate::error::{Error, Lost};
use crate::record::{self, ALIGN, HEADER, Identity, Record};
use crate::segment::{self, FIRST_BATCH, Header};
use semper_store::{Disk, PAGE_SIZE, by_medium};
use std::sync::Arc;

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes that are read at once.
const AHEAD: u64 = 64 * PAGE;

/// What stands for a byte that the medium cannot read: no zero, since there may be something.
const UNREADABLE: u8 = 0xff;

/// Something in a segment, in order.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole batch.
    Batch {
        /// Where it lies.
        offset: u64,
        /// All of it.
        bytes: Vec<u8>,
        /// Its records, and where they lie.
        records: Vec<(u64, Record)>,
    },
    /// A place that does not hold what it should: what could be read there, and what could not.
    Broken { records: Vec<(u64, Record)>, lost: Vec<Lost> },
    /// The end.
    End {
        /// Where the next batch can be written.
        offset: u64,
        /// Bytes from there on that hold something: of a batch that was begun and not finished, or that rotted. 0: nothing does.
        torn: u64,
    },
}

/// A walk.
pub(crate) struct Walk {
    disk: Arc<dyn Disk>,
    header: Header,
    /// The first record after this segment, if that is known.
    until: Option<u64>,
    offset: u64,
    /// The record that comes next.
    pub next: u64,
    ahead: Vec<u8>,
    ahead_at: u64,
    canary: Option<Canary>,
}

impl Walk {
    /// Through the segment on `disk`.
    pub fn new(disk: Arc<dyn Disk>, header: Header, until: Option<u64>, canary: Option<Canary>) -> Self {
        let (ahead, ahead_at) = (Vec::new(), 0);
        Self { disk, header, until, offset: FIRST_BATCH, next: header.first, ahead, ahead_at, canary }
    }

    /// What comes next.
    ///
    /// # Errors
    /// The host does not read; that the medium cannot is damage, and no error.
    pub fn step(&mut self) -> Result<Step, Error> {
        if let Some(bytes) = self.batch_at(self.offset, |head, next| head.first == next)? {
            return Ok(self.whole(bytes));
        }
        if Canary::CutEarly.planted(self.canary) {
            return self.end();
        }
        let mut at = self.offset + PAGE;
        while at < self.header.len {
            if let Some(bytes) = self.batch_at(at, |head, next| head.first > next)? {
                // A runtime may have written both since this place was read: what is behind it was written after it.
                self.ahead.clear();
                if let Some(bytes) = self.batch_at(self.offset, |head, next| head.first == next)? {
                    return Ok(self.whole(bytes));
                }
                let first = batch::Head::read(&bytes).map_or(self.next, |head| head.first);
                return self.broken(at, first);
            }
            at += PAGE;
        }
        match self.until {
            Some(until) if until > self.next => self.broken(self.header.len, until),
            _ => self.end(),
        }
    }

    /// Goes on behind a whole batch.
    fn whole(&mut self, bytes: Vec<u8>) -> Step {
        let offset = self.offset;
        let records = self.records(offset, &bytes);
        self.offset += (bytes.len() as u64).next_multiple_of(PAGE);
        self.next += records.len() as u64;
        Step::Batch { offset, bytes, records }
    }

    fn end(&mut self) -> Result<Step, Error> {
        let mut torn = 0;
        // One batch was on its way.
        let end = self.header.len.min(self.offset + MAX_BATCH as u64);
        for at in (self.offset..end).step_by(PAGE_SIZE) {
            if self.page(at)?.iter().any(|byte| *byte != 0) {
                torn = at + PAGE - self.offset;
            }
        }
        Ok(Step::End { offset: self.offset, torn })
    }

    /// The whole batch at `offset`, if there is one that `fits`.
    fn batch_at(&mut self, offset: u64, fits: fn(&batch::Head, u64) -> bool) -> Result<Option<Vec<u8>>, Error> {
        if offset >= self.header.len {
            return Ok(None);
        }
        let Some(head) = batch::Head::read(self.page(offset)?) else { return Ok(None) };
        let possible = fits(&head, self.next)
            && offset + head.span() <= self.header.len
            && self.until.is_none_or(|until| head.end() <= until);
        if !possible {
            return Ok(None);
        }
        let mut bytes = self.bytes(offset, offset + head.span())?;
        bytes.truncate(head.len as usize);
        let identity = Identity { salt: self.header.salt, offset };
        let whole = batch::holds(&head, &bytes, identity) || Canary::TrustBatches.planted(self.canary);
        let agrees = whole && self.records(offset, &bytes).len() == head.count as usize;
        Ok((agrees || Canary::TrustBatches.planted(self.canary)).then_some(bytes))
    }

    /// The records of a batch.
    fn records(&self, offset: u64, bytes: &[u8]) -> Vec<(u64, Record)> {
        let mut records = Vec::new();
        let mut at = BATCH_HEADER;
        let trusts = Canary::TrustBatches.planted(self.canary);
        let decode = |rest: &[u8], at| if trusts { record::trusting(rest) } else { record::decode(rest, at) };
        while let Some(record) = bytes.get(at..).and_then(|rest| decode(rest, self.identity(offset + at as u64))) {
            let span = record::span(record.bytes.len());
            records.push((offset + at as u64, record));
            at += span;
        }
        records
    }

    fn identity(&self, offset: u64) -> Identity {
        Identity { salt: self.header.salt, offset }
    }

    /// What is between here and `end`, where record `first` comes next: what can be read of it, record by record, and what cannot.
    fn broken(&mut self, end: u64, first: u64) -> Result<Step, Error> {
        let bytes = self.bytes(self.offset, end)?;
        let mut records: Vec<(u64, Record)> = Vec::new();
        let mut lost = Vec::new();
        let (mut at, mut next) = (0, self.next);
        let file = segment::name(self.header.first);
        let mut broken_at = self.offset;
        let mut tell = |from: u64, until: u64, offset: u64| {
            if from < until {
                let reason = "it does not hold what was written".to_owned();
                lost.push(Lost { from, to: until - 1, file: file.clone(), offset, reason });
            }
        };
        while at + HEADER <= bytes.len() {
            let offset = self.offset + at as u64;
            let possible = record::Head::read(&bytes[at..]).is_some_and(|head| (next..first).contains(&head.sequence));
            let found = if possible { record::decode(&bytes[at..], self.identity(offset)) } else { None };
            match found {
                Some(record) => {
                    tell(next, record.sequence, broken_at);
                    next = record.sequence + 1;
                    at += record::span(record.bytes.len());
                    broken_at = self.offset + at as u64;
                    records.push((offset, record));
                }
                None => at += ALIGN,
            }
        }
        tell(next, first, broken_at);
        (self.offset, self.next) = (end, first);
        Ok(Step::Broken { records, lost })
    }

    /// One page; what the medium cannot read is [`UNREADABLE`].
    fn page(&mut self, offset: u64) -> Result<&[u8], Error> {
        let have = self.ahead_at..self.ahead_at + self.ahead.len() as u64;
        if !have.contains(&offset) {
            let len = AHEAD.min(self.header.len - offset);
            self.ahead = self.bytes(offset, offset + len)?;
            self.ahead_at = offset;
        }
        let at = to_usize(offset - self.ahead_at);
        Ok(&self.ahead[at..at + PAGE_SIZE])
    }

    fn bytes(&self, from: u64, to: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; to_usize(to - from)];
        let failed = |e| Error::io(format!("read `journal/{}`", segment::name(self.header.first)), e);
        match self.disk.read_at(from, &mut bytes) {
            Ok(()) => return Ok(bytes),
            Err(e) if by_medium(&e) => {}
            Err(e) => return Err(failed(e)),
        }
        for (i, page) in bytes.chunks_mut(PAGE_SIZE).enumerate() {
            match self.disk.read_at(from + (i * PAGE_SIZE) as u64, page) {
                Ok(()) => {}
                Err(e) if by_medium(&e) => page.fill(UNREADABLE),
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(bytes)
    }
}
