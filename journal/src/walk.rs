//! Walking through a segment: its batches, what is lost of it, and where it ends.
//!
//! A batch is flushed before the next is written. So what is not whole is the torn tail, and was never acknowledged, if no whole batch of
//! later records lies behind it; and damage if one does, or if later records lie in another segment.
//!
//! Of a segment on several sides a batch is whole if it is on any, and what of it is rotten on the others is written anew there; so is each record of a
//! batch that is whole on none.

use crate::batch::{self, BATCH_HEADER, MAX_BATCH};
use crate::bytes::to_usize;
use crate::canary::Canary;
use crate::copies::Look;
use crate::error::{Error, Lost};
use crate::record::{self, ALIGN, HEADER, Identity, Record};
use crate::segment::{self, FIRST_BATCH, Header};
use semper_store::{BufferPool, Disk, PAGE_SIZE, by_medium};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
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

/// A copy of the segment.
struct Copy {
    number: u32,
    ahead: Vec<u8>,
    ahead_at: u64,
    /// Why it is not read any more.
    gone: Option<io::Error>,
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
    copies: Vec<Copy>,
    look: Look,
    pool: BufferPool,
    canary: Option<Canary>,
}

/// A batch that is whole on some copies, and whether it is on all that were looked at.
type Whole = (Vec<u8>, bool);

impl Walk {
    /// Through the segment on `disk`.
    pub fn new(disk: Arc<dyn Disk>, header: Header, until: Option<u64>, look: &Look, canary: Option<Canary>) -> Self {
        let mut numbers = disk.copies();
        if Canary::OneSide.planted(canary) {
            numbers.truncate(1);
        }
        let copy = |number| Copy { number, ahead: Vec::new(), ahead_at: 0, gone: None };
        let copies = numbers.into_iter().map(copy).collect();
        let (offset, next, look, pool) = (FIRST_BATCH, header.first, look.clone(), BufferPool::default());
        Self { disk, header, until, offset, next, copies, look, pool, canary }
    }

    /// What comes next.
    ///
    /// # Errors
    /// The host does not read; that the medium cannot is damage, and no error.
    pub fn step(&mut self) -> Result<Step, Error> {
        if let Some(whole) = self.batch_at(self.offset, |head, next| head.first == next)? {
            return Ok(self.whole(whole));
        }
        if Canary::CutEarly.planted(self.canary) {
            return self.end();
        }
        let mut at = self.offset + PAGE;
        while at < self.header.len {
            if let Some((bytes, _)) = self.batch_at(at, |head, next| head.first > next)? {
                // A runtime may have written both since this place was read: what is behind it was written after it.
                self.copies.iter_mut().for_each(|copy| copy.ahead.clear());
                if let Some(whole) = self.batch_at(self.offset, |head, next| head.first == next)? {
                    return Ok(self.whole(whole));
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
    fn whole(&mut self, (bytes, everywhere): Whole) -> Step {
        let offset = self.offset;
        if !everywhere {
            self.mend_batch(offset, &bytes);
        }
        let records = self.records(offset, &bytes);
        self.offset += (bytes.len() as u64).next_multiple_of(PAGE);
        self.next += records.len() as u64;
        Step::Batch { offset, bytes, records }
    }

    /// Writes a batch anew where it is not whole. Nothing else lies in its pages.
    fn mend_batch(&self, offset: u64, batch: &[u8]) {
        let mut span = vec![0; batch.len().next_multiple_of(PAGE_SIZE)];
        let holds = |bytes: &[u8]| bytes.starts_with(batch) != Canary::MendBackwards.planted(self.canary);
        self.look.count(self.disk.mend(offset, &mut span, &holds));
    }

    fn end(&mut self) -> Result<Step, Error> {
        let mut torn = 0;
        // One batch was on its way.
        let end = self.header.len.min(self.offset + MAX_BATCH as u64);
        for copy in 0..self.copies.len() {
            for at in (self.offset..end).step_by(PAGE_SIZE) {
                if self.page(copy, at)?.iter().any(|byte| *byte != 0) {
                    torn = torn.max(at + PAGE - self.offset);
                }
            }
        }
        Ok(Step::End { offset: self.offset, torn })
    }

    /// The whole batch at `offset`, if there is one that `fits`; of the first copy that has it, unless all are to be looked at.
    fn batch_at(&mut self, offset: u64, fits: fn(&batch::Head, u64) -> bool) -> Result<Option<Whole>, Error> {
        if offset >= self.header.len {
            return Ok(None);
        }
        let (mut found, mut everywhere) = (None, true);
        for copy in 0..self.copies.len() {
            match self.batch_on(copy, offset, fits)? {
                Some(bytes) => found = found.or(Some(bytes)),
                None => everywhere = false,
            }
            if found.is_some() && !self.look.thorough {
                break;
            }
        }
        Ok(found.map(|bytes| (bytes, everywhere)))
    }

    fn batch_on(
        &mut self,
        copy: usize,
        offset: u64,
        fits: fn(&batch::Head, u64) -> bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(head) = batch::Head::read(self.page(copy, offset)?) else { return Ok(None) };
        let possible = fits(&head, self.next)
            && offset + head.span() <= self.header.len
            && self.until.is_none_or(|until| head.end() <= until);
        if !possible {
            return Ok(None);
        }
        let mut bytes = self.bytes(copy, offset, offset + head.span())?;
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

    /// What is between here and `end`, where record `first` comes next: what can be read of it on any copy, record by record, and what cannot.
    fn broken(&mut self, end: u64, first: u64) -> Result<Step, Error> {
        let mut images = Vec::new();
        for copy in 0..self.copies.len() {
            images.push(self.bytes(copy, self.offset, end)?);
        }
        let mut found: BTreeMap<u64, (u64, Record)> = BTreeMap::new();
        for image in &images {
            for (offset, record) in self.sound(image, first) {
                found.entry(record.sequence).or_insert((offset, record));
            }
        }
        let mut behind = self.offset;
        found.retain(|_, (offset, record)| {
            let fits = *offset >= behind;
            if fits {
                behind = *offset + record::span(record.bytes.len()) as u64;
            }
            fits
        });
        let records: Vec<(u64, Record)> = found.into_values().collect();
        if images.len() > 1 {
            self.mend_records(images, &records, first)?;
        }
        let lost = self.missing(&records, first);
        (self.offset, self.next) = (end, first);
        Ok(Step::Broken { records, lost })
    }

    /// The records that hold in `image`, which lies from here on; record `first` comes behind it.
    fn sound(&self, image: &[u8], first: u64) -> Vec<(u64, Record)> {
        let (mut at, mut next, mut found) = (0, self.next, Vec::new());
        while at + HEADER <= image.len() {
            let offset = self.offset + at as u64;
            let possible = record::Head::read(&image[at..]).is_some_and(|head| (next..first).contains(&head.sequence));
            match if possible { record::decode(&image[at..], self.identity(offset)) } else { None } {
                Some(record) => {
                    next = record.sequence + 1;
                    at += record::span(record.bytes.len());
                    found.push((offset, record));
                }
                None => at += ALIGN,
            }
        }
        found
    }

    /// The stretches before record `first` that are not among `records`.
    fn missing(&self, records: &[(u64, Record)], first: u64) -> Vec<Lost> {
        let (mut next, mut from_byte, mut lost) = (self.next, self.offset, Vec::new());
        let ends = records.iter().map(|(offset, record)| (record.sequence, *offset, record::span(record.bytes.len())));
        for (sequence, offset, span) in ends.chain([(first, 0, 0)]) {
            if next < sequence {
                let (file, reason) = (segment::name(self.header.first), "it does not hold what was written".to_owned());
                lost.push(Lost { from: next, to: sequence - 1, file, offset: from_byte, reason });
            }
            (next, from_byte) = (sequence + 1, offset + span as u64);
        }
        lost
    }

    /// Writes records anew on the copies where they do not hold; and the headers of batches of which all records are there.
    fn mend_records(&self, images: Vec<Vec<u8>>, records: &[(u64, Record)], first: u64) -> Result<(), Error> {
        let right = self.right(records, first);
        // Of one that could not be read nobody knows what else lies there.
        for (copy, mut image) in self.copies.iter().zip(images).filter(|(copy, _)| copy.gone.is_none()) {
            let mut pages = BTreeSet::new();
            for (offset, bytes) in &right {
                let at = to_usize(offset - self.offset);
                let here = &mut image[at..at + bytes.len()];
                if here != bytes {
                    here.copy_from_slice(bytes);
                    let last = (at + bytes.len() - 1) / PAGE_SIZE;
                    pages.extend(at / PAGE_SIZE..=last);
                }
            }
            if pages.is_empty() {
                continue;
            }
            self.look.count(Some(1));
            for page in pages {
                let at = page * PAGE_SIZE;
                let written = self.pool.take().and_then(|mut buffer| {
                    buffer.extend(&image[at..at + PAGE_SIZE]);
                    self.disk.write_copy(copy.number, self.offset + at as u64, buffer)
                });
                written.map_err(|e| Error::io("repair a segment", e))?;
            }
        }
        Ok(())
    }

    /// What is to lie where, as far as `records` tell, behind which comes record `first`: batches, and records of batches of which some are lost.
    fn right(&self, records: &[(u64, Record)], first: u64) -> Vec<(u64, Vec<u8>)> {
        let mut right = Vec::new();
        let follows = |one: &(u64, Record), next: &(u64, Record)| {
            one.0 + record::span(one.1.bytes.len()) as u64 == next.0 && one.1.sequence + 1 == next.1.sequence
        };
        let mut before = self.next;
        let mut groups = records.chunk_by(follows).peekable();
        while let Some(group) = groups.next() {
            let (start, end) = (group[0].0, group[group.len() - 1].1.sequence + 1);
            let after = groups.peek().map_or(first, |next| next[0].1.sequence);
            let begins = start % PAGE == BATCH_HEADER as u64 && group[0].1.sequence == before;
            let closes = end == after && groups.peek().is_none_or(|next| next[0].0 % PAGE == BATCH_HEADER as u64);
            if begins && closes {
                let all: Vec<Record> = group.iter().map(|(_, record)| record.clone()).collect();
                let at = start - BATCH_HEADER as u64;
                right.push((at, batch::encode(&all, self.identity(at))));
            } else {
                for (offset, record) in group {
                    let mut bytes = Vec::new();
                    record::encode(&mut bytes, record, self.identity(*offset));
                    right.push((*offset, bytes));
                }
            }
            before = end;
        }
        right
    }

    /// One page of a copy; what the medium cannot read is [`UNREADABLE`].
    fn page(&mut self, copy: usize, offset: u64) -> Result<&[u8], Error> {
        let have = &self.copies[copy];
        if !(have.ahead_at..have.ahead_at + have.ahead.len() as u64).contains(&offset) {
            let len = AHEAD.min(self.header.len - offset);
            let bytes = self.bytes(copy, offset, offset + len)?;
            let have = &mut self.copies[copy];
            (have.ahead, have.ahead_at) = (bytes, offset);
        }
        let have = &self.copies[copy];
        let at = to_usize(offset - have.ahead_at);
        Ok(&have.ahead[at..at + PAGE_SIZE])
    }

    /// A stretch of a copy. One that cannot be read at all counts as unreadable, as long as there is another.
    fn bytes(&mut self, copy: usize, from: u64, to: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; to_usize(to - from)];
        if self.copies[copy].gone.is_none() {
            match self.read(self.copies[copy].number, from, &mut bytes) {
                Ok(()) => return Ok(bytes),
                Err(e) => self.copies[copy].gone = Some(e),
            }
        }
        if self.copies.iter().all(|copy| copy.gone.is_some()) {
            let e = self.copies[copy].gone.take().unwrap_or_else(|| io::ErrorKind::NotFound.into());
            return Err(Error::io(format!("read `journal/{}`", segment::name(self.header.first)), e));
        }
        bytes.fill(UNREADABLE);
        Ok(bytes)
    }

    fn read(&self, copy: u32, from: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self.disk.read_copy(copy, from, bytes) {
            Err(e) if by_medium(&e) => {}
            done => return done,
        }
        for (page, offset) in bytes.chunks_mut(PAGE_SIZE).zip((from..).step_by(PAGE_SIZE)) {
            match self.disk.read_copy(copy, offset, page) {
                Err(e) if by_medium(&e) => page.fill(UNREADABLE),
                done => done?,
            }
        }
        Ok(())
    }
}
