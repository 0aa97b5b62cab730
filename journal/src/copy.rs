//! A copy of a journal, for another store: the same records under the same sequence numbers, in segments of its own.
//!
//! It is made in pieces that overlap: what is above a mark is written anew by the next piece. A crash in between leaves half a copy, which its maker
//! throws away.

use crate::batch::{BATCH_HEADER, MAX_BATCH};
use crate::bytes::{self, to_usize};
use crate::error::Error;
use crate::journal::Journal;
use crate::open::{Options, new_state};
use crate::record::{Record, span};
use crate::segment::{self, Header};
use crate::tail::{Newest, Tail};
use semper_store::{Disk, Folder, PAGE_SIZE, StoreId};
use std::sync::Arc;

/// The largest segment that a copy is made with: one that says more is not believed.
const MAX_SEGMENT: u64 = 1 << 30;

/// Bytes that are wiped at once.
const WIPE: u64 = 1 << 20;

/// A journal that is being copied.
pub struct Copying {
    folder: Arc<dyn Folder>,
    store: StoreId,
    options: Options,
    tail: Tail,
    /// The first records of its segments.
    segments: Vec<u64>,
    /// The record that comes next.
    next: u64,
    mark: Option<Mark>,
    /// What the next batch is made of.
    batch: Vec<Record>,
    bytes: usize,
}

/// Where the copy can be cut.
struct Mark {
    disk: Arc<dyn Disk>,
    header: Header,
    offset: u64,
    /// The record that came next, and the one from which on all is written anew. Records between the two were given up.
    next: u64,
    from: u64,
}

impl Copying {
    /// Begins one for `store` in `folder`, where there is none, with segments of `segment_bytes`.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for such segments, [`Error::Full`], what the host says.
    pub fn create(folder: Arc<dyn Folder>, store: StoreId, segment_bytes: u64) -> Result<Self, Error> {
        if segment_bytes > MAX_SEGMENT {
            return Err(Error::BadArgument(format!(
                "a segment of {segment_bytes} bytes is larger than any that is made"
            )));
        }
        let options = Options { segment_bytes, ..Options::default() };
        let state = new_state(&*folder, store, &options)?;
        let tail = Tail { folder: Arc::clone(&folder), state, newest: None, closed: false, canary: None };
        let (segments, mark, batch, bytes) = (Vec::new(), None, Vec::new(), BATCH_HEADER);
        Ok(Self { folder, store, options, tail, segments, next: 1, mark, batch, bytes })
    }

    /// The sequence after the last record.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.next
    }

    /// Bytes of its segments.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    /// Begins anew with record `first`: all that was copied goes.
    ///
    /// # Errors
    /// [`Error::Full`], what the host says.
    pub fn anew(&mut self, first: u64) -> Result<(), Error> {
        self.discard();
        self.remove_from(0)?;
        (self.tail.newest, self.mark, self.next) = (None, None, first);
        self.tail.state.state.first = first;
        self.add_segment(first)
    }

    /// Goes back to the mark, if it is at `from`; false if it is not.
    ///
    /// # Errors
    /// What the host says.
    pub fn back_to(&mut self, from: u64) -> Result<bool, Error> {
        let Some(mark) = self.mark.take_if(|mark| mark.from == from) else { return Ok(false) };
        self.discard();
        let Mark { disk, header, offset, next, .. } = mark;
        let written = match &self.tail.newest {
            Some(newest) if newest.header.first == header.first => newest.offset,
            _ => header.len,
        };
        self.remove_from(self.segments.partition_point(|first| *first <= header.first))?;
        for at in (offset..written).step_by(to_usize(WIPE)) {
            let zeros = vec![0; to_usize(WIPE.min(written - at))];
            bytes::write(&*disk, at, &zeros).map_err(|e| Error::io("cut the copy of a journal", e))?;
        }
        let state = &mut self.tail.state.state;
        (state.newest, state.salt) = (header.first, header.salt);
        (self.tail.newest, self.next) = (Some(Newest { disk, header, offset }), next);
        Ok(true)
    }

    /// Lets segments go that have only records below `first`.
    ///
    /// # Errors
    /// What the host says.
    pub fn trim(&mut self, first: u64) -> Result<(), Error> {
        let gone = self.segments.partition_point(|begins| *begins <= first).saturating_sub(1);
        for first in self.segments.drain(..gone) {
            remove(&*self.folder, first)?;
        }
        self.tail.state.state.first = self.segments.first().copied().unwrap_or(self.next);
        Ok(())
    }

    /// Adds a record, whose sequence is not below [`Self::end`]. Records between the two were given up.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::BadArgument`], [`Error::Full`], what the host says.
    pub fn push(&mut self, record: Record) -> Result<(), Error> {
        let most = MAX_BATCH.min(to_usize(self.segment_bytes()) - PAGE_SIZE);
        let len = span(record.bytes.len());
        if len > most - BATCH_HEADER {
            return Err(Error::TooLong { len: record.bytes.len(), most: most - BATCH_HEADER - span(0) });
        }
        if record.sequence < self.next {
            return Err(Error::BadArgument(format!("record {} comes after {}", record.sequence, self.next)));
        }
        if record.sequence > self.next {
            self.flush()?;
            // What is missing is told by where one segment ends and the next begins.
            self.add_segment(record.sequence)?;
        } else if self.bytes + len > most {
            self.flush()?;
        }
        self.next = record.sequence + 1;
        self.bytes += len;
        self.batch.push(record);
        Ok(())
    }

    /// What comes from here on, records from `from` on, may be written anew: see [`Self::back_to`].
    ///
    /// # Errors
    /// [`Error::Full`], what the host says.
    pub fn mark(&mut self, from: u64) -> Result<(), Error> {
        self.flush()?;
        self.mark = self.tail.newest.as_ref().map(|newest| {
            let (disk, header, offset) = (Arc::clone(&newest.disk), newest.header, newest.offset);
            Mark { disk, header, offset, next: self.next, from }
        });
        Ok(())
    }

    /// Ends it: makes all durable and reads it. `given_up`: the stretches of records that the original gave up.
    ///
    /// # Errors
    /// [`Error::Damaged`] if records are missing; [`Error::Full`], what the host says.
    pub fn finish(mut self, given_up: &[(u64, u64)]) -> Result<(), Error> {
        self.flush()?;
        let state = &mut self.tail.state.state;
        state.given_up = given_up.to_vec();
        state.given_up.retain(|(_, to)| *to >= state.first);
        self.tail.state.write().map_err(|e| Error::io("write `journal/state`", e))?;
        let Self { folder, store, options, tail, next, .. } = self;
        drop(tail);
        let journal = Journal::open(folder, store, 0, &options)?;
        match journal.trouble() {
            Some(error) => Err(error),
            None if journal.end() != next => {
                Err(Error::BadState(format!("the copy ends at record {} instead of {next}", journal.end())))
            }
            None => Ok(()),
        }
    }

    fn discard(&mut self) {
        self.batch.clear();
        self.bytes = BATCH_HEADER;
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(first) = self.batch.first().map(|record| record.sequence) else { return Ok(()) };
        if !self.tail.has_room(self.bytes) {
            self.add_segment(first)?;
        }
        self.tail.write(&self.batch)?;
        self.discard();
        Ok(())
    }

    fn add_segment(&mut self, first: u64) -> Result<(), Error> {
        if self.segments.last() == Some(&first) {
            return Ok(());
        }
        self.tail.add_segment(first)?;
        self.segments.push(first);
        Ok(())
    }

    /// Removes the segments from number `at` on.
    fn remove_from(&mut self, at: usize) -> Result<(), Error> {
        self.segments.drain(at..).try_for_each(|first| remove(&*self.folder, first))
    }
}

fn remove(folder: &dyn Folder, first: u64) -> Result<(), Error> {
    let name = segment::name(first);
    folder.remove(&name).map_err(|e| Error::io(format!("remove `journal/{name}`"), e))
}
