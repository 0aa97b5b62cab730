//! The handle.

use crate::bytes::{to_u32, to_usize};
use crate::canary::Canary;
use crate::copies::Look;
use crate::error::{Error, Lost};
use crate::group::{Batch, Group, Submitted};
use crate::index::{Entries, Name, Place, Summary};
use crate::note::Note;
use crate::record::{self, HEADER, Head, Identity, Kind, Record, Writer};
use crate::retain::Retention;
use crate::sealed::Sealed;
use crate::segment::{self, Header};
use crate::tail::Tail;
use crate::walk::{Step, Walk};
use semper_store::{Folder, PAGE_SIZE, StoreId, by_medium};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Writers whose largest number is remembered.
const MAX_TOPS: usize = 4096;

/// A journal that is open for appending. All calls may be made from several threads at once.
pub struct Journal {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) store: StoreId,
    pub(crate) segment_bytes: u64,
    pub(crate) retention: Retention,
    /// Records from here on may be asked for by a generation that is kept: the retention leaves them.
    pub(crate) floor: AtomicU64,
    pub(crate) canary: Option<Canary>,
    /// A batch has no leader.
    pub(crate) work: Condvar,
    /// Nothing is on its way.
    pub(crate) idle: Condvar,
    inner: Mutex<Inner>,
    tail: Mutex<Tail>,
}

/// What all calls look at.
pub(crate) struct Inner {
    pub group: Group,
    /// The sequence of the next record.
    pub next: u64,
    pub poisoned: Option<String>,
    pub lost: Vec<Lost>,
    /// Records on their way: the batch, and the place in it.
    pub in_flight: HashMap<Name, (Arc<Batch>, u64)>,
    /// The records of the newest segment.
    pub recent: Entries,
    pub last_time: u64,
    /// The first record of the newest segment, and its salt.
    pub newest: (u64, u64),
    pub sealed: Arc<Vec<Arc<Sealed>>>,
    /// The largest number of a writer.
    pub tops: HashMap<Writer, u64>,
    /// The first record that was not trimmed.
    pub first: u64,
    pub cursors: HashMap<Writer, crate::read::Cursor>,
}

/// What an append did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Appended {
    /// It was written, as this record of the journal.
    New(u64),
    /// The writer has a record of this number already.
    There(Record),
}

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its place in the journal.
    pub sequence: u64,
    /// The first record of its segment.
    segment: u64,
    salt: u64,
    offset: u32,
}

impl Inner {
    /// Whether records can be appended.
    pub fn usable(&self) -> Result<(), Error> {
        match &self.poisoned {
            Some(why) => Err(Error::Poisoned(why.clone())),
            None if !self.lost.is_empty() => Err(Error::Damaged(self.lost.clone())),
            None => Ok(()),
        }
    }

    pub fn find_recent(&self, name: Name) -> Option<Found> {
        let (segment, salt) = self.newest;
        let place = self.recent.get(&name)?;
        Some(Found { sequence: place.sequence, segment, salt, offset: place.offset })
    }

    pub fn note_top(&mut self, writer: Writer, top: u64) {
        if self.tops.len() >= MAX_TOPS {
            self.tops.clear();
        }
        // What was appended since `top` was looked for.
        let recent =
            self.recent.range((writer, 0)..=(writer, u64::MAX)).next_back().map_or(0, |((_, number), _)| *number);
        self.tops.insert(writer, top.max(recent));
    }
}

impl Journal {
    pub(crate) fn assemble(
        store: StoreId,
        options: &crate::Options,
        floor: u64,
        tail: Tail,
        inner: Inner,
    ) -> Arc<Self> {
        Arc::new(Self {
            folder: Arc::clone(&tail.folder),
            store,
            segment_bytes: tail.state.state.segment_bytes,
            retention: options.retention.clone(),
            floor: AtomicU64::new(floor),
            canary: options.canary,
            work: Condvar::new(),
            idle: Condvar::new(),
            inner: Mutex::new(inner),
            tail: Mutex::new(tail),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record, and waits until it is durable. If the writer has one of this number already, that is found, and nothing is
    /// written.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Damaged`], [`Error::Full`], [`Error::Poisoned`]; [`Error::Lost`] if the record of this number cannot be
    /// read.
    pub fn append(self: &Arc<Self>, writer: Writer, number: u64, bytes: &[u8]) -> Result<Appended, Error> {
        match self.submit(writer, number, bytes)? {
            Submitted::New(ticket) => ticket.wait().map(Appended::New),
            Submitted::There(found) => self.record(&found).map(Appended::There),
            Submitted::Same(ticket) => {
                ticket.wait()?;
                match self.find(writer, number)? {
                    Some(record) => Ok(Appended::There(record)),
                    None => Err(Error::BadState(format!("record {number} of {writer} was written and is not found"))),
                }
            }
        }
    }

    /// Appends a note of the journal's own, without waiting for it.
    ///
    /// # Errors
    /// As [`Journal::submit`].
    pub fn note(self: &Arc<Self>, note: &Note) -> Result<(), Error> {
        let number = {
            let inner = self.lock();
            // Notes are numbered by the clock: they are never asked for by their numbers.
            crate::bytes::now().max(inner.tops.get(&Writer::JOURNAL).map_or(0, |top| top + 1))
        };
        if let Submitted::New(ticket) = self.submit_kind(Writer::JOURNAL, number, Kind::Note, &note.to_bytes())? {
            ticket.then(|result| {
                if let Err(error) = result {
                    tracing::debug!(%error, "a note is not in the journal");
                }
            });
        }
        Ok(())
    }

    /// The durable record of this number.
    ///
    /// # Errors
    /// [`Error::Lost`], what the host says.
    pub fn find(&self, writer: Writer, number: u64) -> Result<Option<Record>, Error> {
        self.locate(writer, number)?.map(|found| self.record(&found)).transpose()
    }

    /// Where the durable record of this number is.
    ///
    /// # Errors
    /// What the host says.
    pub fn locate(&self, writer: Writer, number: u64) -> Result<Option<Found>, Error> {
        let inner = self.lock();
        if let Some(found) = inner.find_recent((writer, number)) {
            return Ok(Some(found));
        }
        let sealed = Arc::clone(&inner.sealed);
        drop(inner);
        self.find_sealed(&sealed, (writer, number))
    }

    /// The writer's record with the largest number that is not above `number`.
    ///
    /// # Errors
    /// [`Error::Lost`], what the host says.
    pub fn last(&self, writer: Writer, number: u64) -> Result<Option<Record>, Error> {
        let (recent, sealed) = {
            let inner = self.lock();
            let recent = inner.recent.range((writer, 0)..=(writer, number)).next_back();
            let recent = recent.map(|((_, number), _)| *number);
            (recent, Arc::clone(&inner.sealed))
        };
        let mut best = recent;
        for segment in sealed.iter() {
            if let Some(((found, at), _)) = segment.at_most(&*self.folder, (writer, number))?
                && found == writer
            {
                best = best.max(Some(at));
            }
        }
        best.map_or(Ok(None), |number| self.find(writer, number))
    }

    /// The sequence after the last durable record: what is below is there, was trimmed, or is lost.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.lock().next
    }

    /// The first record that was not trimmed.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.lock().first
    }

    /// Bytes of a segment.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Why no record can be appended any more.
    #[must_use]
    pub fn trouble(&self) -> Option<Error> {
        self.lock().usable().err()
    }

    /// Reads a record from its place.
    ///
    /// # Errors
    /// [`Error::Lost`] if it does not hold what was written.
    pub fn record(&self, found: &Found) -> Result<Record, Error> {
        match self.record_there(found) {
            Err(Error::Lost(lost)) => self.record_elsewhere(found)?.ok_or(Error::Lost(lost)),
            read => read,
        }
    }

    /// The same from another side, whence what is rotten is repaired.
    fn record_elsewhere(&self, found: &Found) -> Result<Option<Record>, Error> {
        let name = segment::name(found.segment);
        let failed = |e| Error::io(format!("read `journal/{name}`"), e);
        let disk = self.folder.open(&name).map_err(failed)?;
        if disk.copies().len() < 2 {
            return Ok(None);
        }
        let len = disk.len().map_err(failed)?;
        let header = Header { store: self.store, first: found.segment, len, salt: found.salt, made: 0 };
        let sealed = Arc::clone(&self.lock().sealed);
        let until = sealed.iter().find(|sealed| sealed.summary.first == found.segment).map(|one| one.summary.end);
        let mut walk = Walk::new(disk, header, until, &Look::default(), self.canary);
        while walk.next <= found.sequence {
            let records = match walk.step()? {
                Step::Batch { records, .. } | Step::Broken { records, .. } => records,
                Step::End { .. } => break,
            };
            let right = |(_, record): &(u64, Record)| record.sequence == found.sequence;
            if let Some((_, record)) = records.into_iter().find(right) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn record_there(&self, found: &Found) -> Result<Record, Error> {
        let name = segment::name(found.segment);
        let failed = |e| Error::io(format!("read `journal/{name}`"), e);
        let lost = |reason: String| {
            let (from, file, offset) = (found.sequence, name.clone(), u64::from(found.offset));
            Error::Lost(Lost { from, to: from, file, offset, reason })
        };
        let disk = self.folder.open(&name).map_err(failed)?;
        let page = PAGE_SIZE as u64;
        let start = u64::from(found.offset) / page * page;
        let within = to_usize(u64::from(found.offset) - start);
        // Not a page more than it lies in: others may be unreadable.
        let read = |len: usize| {
            let mut bytes = vec![0; (within + len).next_multiple_of(PAGE_SIZE)];
            match disk.read_at(start, &mut bytes) {
                Ok(()) => Ok(bytes),
                Err(e) if by_medium(&e) || e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Err(lost(format!("it cannot be read: {e}")))
                }
                Err(e) => Err(failed(e)),
            }
        };
        let wrong = || lost("it does not hold what was written".to_owned());
        let mut bytes = read(HEADER)?;
        let head = Head::read(&bytes[within..]).ok_or_else(wrong)?;
        if bytes.len() < within + HEADER + head.len as usize {
            bytes = read(HEADER + head.len as usize)?;
        }
        let at = Identity { salt: found.salt, offset: u64::from(found.offset) };
        let record = record::decode(&bytes[within..], at).filter(|record| record.sequence == found.sequence);
        record.ok_or_else(wrong)
    }

    pub(crate) fn find_sealed(&self, sealed: &[Arc<Sealed>], name: Name) -> Result<Option<Found>, Error> {
        if Canary::ForgetSealed.planted(self.canary) {
            return Ok(None);
        }
        for segment in sealed.iter().rev() {
            if let Some(Place { sequence, offset }) = segment.find(&*self.folder, name)? {
                return Ok(Some(Found { sequence, segment: segment.summary.first, salt: segment.salt(), offset }));
            }
        }
        Ok(None)
    }

    /// The largest number of a writer in all segments.
    pub(crate) fn top(&self, sealed: &[Arc<Sealed>], writer: Writer) -> Result<Option<u64>, Error> {
        if Canary::ForgetSealed.planted(self.canary) {
            return Ok(None);
        }
        if self.lock().tops.contains_key(&writer) {
            return Ok(None);
        }
        let mut top = None;
        for segment in sealed {
            if let Some(((found, number), _)) = segment.at_most(&*self.folder, (writer, u64::MAX))?
                && found == writer
            {
                top = top.max(Some(number));
            }
        }
        // Where there is none, any number is new; 0 is looked for once more, and not found.
        Ok(Some(top.unwrap_or(0)))
    }

    /// The newest segment is full: it gets an index, and a new one begins with record `first`. Nothing has changed if there is no room.
    pub(crate) fn roll(self: &Arc<Self>, tail: &mut Tail, first: u64) -> Result<(), Error> {
        let full = {
            let inner = self.lock();
            let (start, salt) = inner.newest;
            let count = inner.recent.len() as u64;
            let (store, last_time) = (self.store, inner.last_time);
            let summary = Summary { store, first: start, end: first, salt, count, last_time };
            tail.newest.is_some().then(|| (summary, inner.recent.clone()))
        };
        if let Err(error) = tail.add_segment(first) {
            // What the retention would let go is room.
            if !matches!(error, Error::Full(_)) || !self.retain(tail, true) {
                return Err(error);
            }
            tail.add_segment(first)?;
        }
        let sealed = full.map(|(summary, entries)| Sealed::make(&*self.folder, summary, entries, true));
        let mut inner = self.lock();
        if let Some(sealed) = sealed {
            let mut all: Vec<Arc<Sealed>> = inner.sealed.to_vec();
            all.push(Arc::new(sealed));
            inner.sealed = Arc::new(all);
        }
        inner.recent = Entries::new();
        inner.newest = (tail.state.state.newest, tail.state.state.salt);
        inner.last_time = 0;
        drop(inner);
        self.retain(tail, false);
        Ok(())
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("store", &self.store).field("end", &self.end()).finish_non_exhaustive()
    }
}

/// A place in memory for a record of the newest segment.
pub(crate) fn place(sequence: u64, offset: u64) -> Place {
    Place { sequence, offset: to_u32(to_usize(offset)) }
}
