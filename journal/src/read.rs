//! Reading in order: of a journal at rest or beside a runtime, and of one that is open.

use crate::copies::Look;
use crate::error::{Error, Lost};
use crate::index::Summary;
use crate::journal::Journal;
use crate::open::{Survey, survey};
use crate::record::{Record, Writer};
use crate::sealed;
use crate::segment::{self, BadHeader, Header};
use crate::state::State;
use crate::walk::{Step, Walk};
use semper_store::{Disk, Folder, StoreId};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Something that a reader comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A record.
    Record(Record),
    /// Records that cannot be read.
    Lost {
        /// Which.
        lost: Lost,
        /// Whether an operator gave them up.
        given_up: bool,
    },
}

/// Reads a journal from a record on, in order, without changing anything; a runtime may append meanwhile.
pub struct Reader {
    folder: Arc<dyn Folder>,
    state: State,
    segments: Vec<u64>,
    /// The next of `segments`.
    at: usize,
    walk: Option<Walk>,
    next: u64,
    ready: VecDeque<Seen>,
    from: u64,
    look: Look,
    /// Something at the end was begun and not finished.
    pub(crate) torn: bool,
}

impl Reader {
    /// From record `from` on, or from the first that there is. `store`: whose journal it should be.
    ///
    /// # Errors
    /// [`Error::None`], [`Error::Foreign`], [`Error::Version`], [`Error::BadState`], what the host says.
    pub fn open(folder: Arc<dyn Folder>, store: StoreId, from: u64) -> Result<Self, Error> {
        Self::looking(folder, store, from, Look::default())
    }

    pub(crate) fn looking(folder: Arc<dyn Folder>, store: StoreId, from: u64, look: Look) -> Result<Self, Error> {
        let Survey { state, segments, .. } = survey(&*folder, Some(store), &look)?;
        let state = match state {
            Some(file) => file.state,
            None if segments.is_empty() => return Err(Error::None),
            None => return Err(Error::BadState("it is not there, and segments are".to_owned())),
        };
        // The segment that `from` is in.
        let at = segments.partition_point(|first| *first <= from).saturating_sub(1);
        let next = if at == 0 { state.first } else { segments[at] };
        let (walk, ready, torn) = (None, VecDeque::new(), false);
        Ok(Self { folder, state, segments, at, walk, next, ready, from, look, torn })
    }

    /// The first record that was not trimmed.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.state.first
    }

    /// The sequence after the last that was come to.
    #[must_use]
    pub const fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Segments that there are.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The stretches of records that were given up: first and last of each.
    #[must_use]
    pub fn given_up(&self) -> &[(u64, u64)] {
        &self.state.given_up
    }

    /// Bytes of a segment.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.state.segment_bytes
    }

    /// What comes next; none at the end.
    ///
    /// # Errors
    /// What the host says.
    pub fn step(&mut self) -> Result<Option<Seen>, Error> {
        loop {
            if let Some(seen) = self.ready.pop_front() {
                match &seen {
                    Seen::Record(record) if record.sequence < self.from => continue,
                    Seen::Lost { lost, .. } if lost.to < self.from => continue,
                    _ => return Ok(Some(seen)),
                }
            }
            let Some(walk) = &mut self.walk else {
                if self.begin_segment()? {
                    continue;
                }
                return Ok(self.ready.pop_front());
            };
            match walk.step()? {
                Step::Batch { records, .. } => self.ready.extend(records.into_iter().map(|(_, r)| Seen::Record(r))),
                Step::Broken { records, lost } => self.add_broken(records, lost),
                Step::End { torn, .. } => {
                    self.next = walk.next;
                    self.torn = torn > 0;
                    self.walk = None;
                    continue;
                }
            }
            self.next = self.walk.as_ref().map_or(self.next, |walk| walk.next);
        }
    }

    fn add_broken(&mut self, records: Vec<(u64, Record)>, lost: Vec<Lost>) {
        let mut all: Vec<Seen> = records.into_iter().map(|(_, record)| Seen::Record(record)).collect();
        all.extend(lost.into_iter().map(|lost| self.lost(lost)));
        all.sort_by_key(|seen| match seen {
            Seen::Record(record) => record.sequence,
            Seen::Lost { lost, .. } => lost.from,
        });
        self.ready.extend(all);
    }

    fn lost(&self, lost: Lost) -> Seen {
        Seen::Lost { given_up: self.state.gave_up(&lost), lost }
    }

    fn gone(&mut self, until: u64, reason: &str) {
        if self.next < until {
            let (from, to, file) = (self.next, until - 1, segment::name(self.next));
            let lost = Lost { from, to, file, offset: 0, reason: reason.to_owned() };
            self.ready.push_back(self.lost(lost));
            self.next = until;
        }
    }

    /// Goes to the next segment; false at the end.
    fn begin_segment(&mut self) -> Result<bool, Error> {
        let Some(first) = self.segments.get(self.at).copied() else {
            if self.segments.last().is_none_or(|last| *last < self.state.newest) && self.state.salt != 0 {
                self.gone(self.state.beyond_newest(), "its file is gone");
            }
            return Ok(false);
        };
        self.at += 1;
        let until = self.segments.get(self.at).copied().or(Some(self.state.newest).filter(|newest| *newest > first));
        if self.next < first && self.was_trimmed(self.next)? {
            self.next = first;
        }
        self.gone(first, "its file is gone");
        // Where the next file is gone, the index knows where this one ends.
        let until = match until {
            Some(until) => Some(
                sealed::end_by_index(&*self.folder, self.state.store, first, &self.look)?.unwrap_or(until).min(until),
            ),
            None => None,
        };
        let (disk, header) = match sealed::header(&*self.folder, self.state.store, first, &self.look) {
            Ok(opened) => opened,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && self.was_trimmed(first)? => {
                self.next = until.unwrap_or(first);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let blank = header == Err(BadHeader::Blank) && first > self.state.newest;
        let header = match header {
            Ok(header) => Some(header),
            Err(_) => self.header_from_elsewhere(&*disk, first)?,
        };
        match header {
            Some(header) => self.walk = Some(Walk::new(disk, header, until, &self.look, None)),
            None if blank => {}
            None => self.gone(until.unwrap_or(self.state.beyond_newest()), "its first page is damaged"),
        }
        Ok(true)
    }

    /// A runtime may have trimmed since this reader began.
    fn was_trimmed(&mut self, first: u64) -> Result<bool, Error> {
        let now = survey(&*self.folder, Some(self.state.store), &self.look)?;
        let Some(file) = now.state else { return Ok(false) };
        let trimmed = file.state.first > first;
        if trimmed {
            self.state = file.state;
        }
        Ok(trimmed)
    }

    /// What a damaged first page said: the state file knows it of the newest segment.
    fn header_from_elsewhere(&self, disk: &dyn Disk, first: u64) -> Result<Option<Header>, Error> {
        if first != self.state.newest {
            return Ok(None);
        }
        let len = disk.len().map_err(|e| Error::io("find the length of a segment", e))?;
        let header = Header { store: self.state.store, first, len, salt: self.state.salt, made: 0 };
        Ok((len == self.state.segment_bytes).then_some(header))
    }
}

/// Where a writer that reads its records one after the other is.
pub(crate) struct Cursor {
    reader: Reader,
    /// The record that it asks for next.
    from: u64,
}

/// Writers whose places are remembered.
const MAX_CURSORS: usize = 64;

impl Journal {
    /// The first durable record of `writer` from `from` on.
    ///
    /// # Errors
    /// [`Error::Lost`] if records before it cannot be read, which may be the writer's: ask from after them on. What the host says.
    pub fn next_of(&self, writer: Writer, from: u64) -> Result<Option<Record>, Error> {
        let (cursor, end) = {
            let mut inner = self.lock();
            (inner.cursors.remove(&writer).filter(|cursor| cursor.from == from), inner.next)
        };
        if from >= end {
            return Ok(None);
        }
        let mut reader = match cursor {
            Some(cursor) => cursor.reader,
            None => Reader::open(Arc::clone(&self.folder), self.store, from)?,
        };
        // A reader that came to the end of what there was does not see what came since.
        let mut again = true;
        loop {
            match reader.step()? {
                Some(Seen::Record(record)) if record.sequence >= end => return Ok(None),
                Some(Seen::Record(record)) if record.writer == writer => {
                    let cursor = Cursor { reader, from: record.sequence + 1 };
                    let mut inner = self.lock();
                    if inner.cursors.len() < MAX_CURSORS {
                        inner.cursors.insert(writer, cursor);
                    }
                    return Ok(Some(record));
                }
                Some(Seen::Lost { lost, given_up: false }) => return Err(Error::Lost(lost)),
                Some(_) => {}
                None if again && reader.next_sequence() < end => {
                    again = false;
                    reader = Reader::open(Arc::clone(&self.folder), self.store, reader.next_sequence().max(from))?;
                }
                None => return Ok(None),
            }
        }
    }

    /// What the sealed segments say of themselves.
    #[must_use]
    pub fn spans(&self) -> Vec<(u64, u64, u64)> {
        let of = |summary: &Summary| (summary.first, summary.end, summary.last_time);
        self.lock().sealed.iter().map(|sealed| of(&sealed.summary)).collect()
    }
}
