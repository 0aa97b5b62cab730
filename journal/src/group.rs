//! Appending together: whoever comes while a batch is on its way to the disk joins the next one, and one flush serves all that joined.
//!
//! The first to join a batch leads it: it waits until no other is on its way, numbers the records, writes and flushes. The others sleep
//! until it is done. If the first does not wait itself ([`Ticket::then`]), a thread of the journal's leads.

use crate::batch::{BATCH_HEADER, MAX_BATCH};
use crate::bytes::now;
use crate::canary::Canary;
use crate::error::Error;
use crate::index::{Name, Place};
use crate::journal::{Found, Inner, Journal};
use crate::record::{Kind, MAX_PAYLOAD, Record, Writer, span};
use semper_store::PAGE_SIZE;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

type Told = Box<dyn FnOnce(Result<u64, Error>) + Send>;

/// A batch that is being filled, or on its way.
#[derive(Default)]
pub(crate) struct Batch {
    /// It is its turn.
    turn: Condvar,
    /// It is done.
    done: Condvar,
    /// A lock of its own: those who wake up together are in nobody's way who comes.
    outcome: Mutex<Outcome>,
}

/// What became of a batch.
#[derive(Default)]
struct Outcome {
    /// The sequence of its first record, or why not.
    result: Option<Result<u64, Error>>,
    /// Told then, with their places in it.
    told: Vec<(u64, Told)>,
}

impl Batch {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is done: tells all who wait for it.
    fn finish(&self, result: &Result<u64, Error>) {
        let told = {
            let mut outcome = self.outcome();
            outcome.result = Some(result.clone());
            std::mem::take(&mut outcome.told)
        };
        self.done.notify_all();
        for (at, told) in told {
            told(result.clone().map(|first| first + at));
        }
    }
}

/// A batch that is being filled.
pub(crate) struct Open {
    batch: Arc<Batch>,
    records: Vec<Record>,
    bytes: usize,
    /// Nobody who joined leads it.
    orphan: bool,
}

/// What appenders share. Part of [`Inner`].
#[derive(Default)]
pub(crate) struct Group {
    queue: VecDeque<Open>,
    /// A batch is on its way.
    writing: bool,
    worker: bool,
}

impl Group {
    fn is_queued(&self, batch: &Arc<Batch>) -> bool {
        self.queue.iter().any(|open| Arc::ptr_eq(&open.batch, batch))
    }

    fn is_next(&self, batch: &Arc<Batch>) -> bool {
        !self.writing && self.queue.front().is_some_and(|open| Arc::ptr_eq(&open.batch, batch))
    }
}

/// What became of a record that was submitted.
pub enum Submitted {
    /// The writer has a record of this number already, and it is durable.
    There(Found),
    /// The writer has a record of this number already, which is on its way.
    Same(Ticket),
    /// It is on its way.
    New(Ticket),
}

/// A record on its way to the disk.
#[must_use = "nobody may ever lead its batch, and it tells whether the record is durable"]
pub struct Ticket {
    journal: Arc<Journal>,
    batch: Arc<Batch>,
    /// Its place in the batch.
    at: u64,
    leads: bool,
}

impl Ticket {
    /// Waits until the record is durable; its sequence number.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Poisoned`]: the record may be there or not after a restart.
    pub fn wait(mut self) -> Result<u64, Error> {
        if std::mem::take(&mut self.leads) {
            self.journal.lead(&self.batch);
        }
        let mut outcome = self.batch.outcome();
        loop {
            if let Some(result) = &outcome.result {
                return result.clone().map(|first| first + self.at);
            }
            outcome = self.batch.done.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has `told` called, in another thread, when the record is durable or cannot be.
    pub fn then(mut self, told: impl FnOnce(Result<u64, Error>) + Send + 'static) {
        let mut outcome = self.batch.outcome();
        if let Some(result) = outcome.result.clone() {
            drop(outcome);
            told(result.map(|first| first + self.at));
            return;
        }
        outcome.told.push((self.at, Box::new(told)));
        drop(outcome);
        if std::mem::take(&mut self.leads) {
            self.journal.orphan(&mut self.journal.lock(), &self.batch);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.leads {
            let mut inner = self.journal.lock();
            self.journal.orphan(&mut inner, &self.batch);
        }
    }
}

impl Journal {
    /// Has a record appended. Does not wait for the disk, but for a look into the index.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Damaged`], [`Error::Poisoned`].
    pub fn submit(self: &Arc<Self>, writer: Writer, number: u64, bytes: &[u8]) -> Result<Submitted, Error> {
        self.submit_kind(writer, number, Kind::Data, bytes)
    }

    pub(crate) fn submit_kind(
        self: &Arc<Self>,
        writer: Writer,
        number: u64,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<Submitted, Error> {
        let most = self.max_payload();
        if bytes.len() > most {
            return Err(Error::TooLong { len: bytes.len(), most });
        }
        let name = (writer, number);
        loop {
            let mut inner = self.lock();
            inner.usable()?;
            if let Some((batch, at)) = inner.in_flight.get(&name) {
                let (batch, at) = (Arc::clone(batch), *at);
                return Ok(Submitted::Same(Ticket { journal: Arc::clone(self), batch, at, leads: false }));
            }
            // A writer's next number is larger than all before it, most of the time: no need to look for it.
            if inner.tops.get(&writer).is_some_and(|top| *top < number) {
                return Ok(Submitted::New(self.join(&mut inner, name, kind, bytes)));
            }
            if let Some(found) = inner.find_recent(name) {
                return Ok(Submitted::There(found));
            }
            let sealed = Arc::clone(&inner.sealed);
            drop(inner);
            if let Some(found) = self.find_sealed(&sealed, name)? {
                return Ok(Submitted::There(found));
            }
            let top = self.top(&sealed, writer)?;
            let mut inner = self.lock();
            // What was new without the lock may be there by now.
            let same = Arc::ptr_eq(&inner.sealed, &sealed);
            if !same || inner.in_flight.contains_key(&name) || inner.find_recent(name).is_some() {
                continue;
            }
            if let Some(top) = top {
                inner.note_top(writer, top);
            }
            inner.usable()?;
            return Ok(Submitted::New(self.join(&mut inner, name, kind, bytes)));
        }
    }

    /// Waits until nothing is on its way.
    pub fn quiesce(&self) {
        let mut inner = self.lock();
        while inner.group.writing || !inner.group.queue.is_empty() {
            inner = self.idle.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Most bytes of a payload in this journal.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        MAX_PAYLOAD.min(self.max_batch() - BATCH_HEADER - span(0))
    }

    fn max_batch(&self) -> usize {
        MAX_BATCH.min(crate::bytes::to_usize(self.segment_bytes) - PAGE_SIZE)
    }

    fn join(self: &Arc<Self>, inner: &mut Inner, name: Name, kind: Kind, bytes: &[u8]) -> Ticket {
        let len = span(bytes.len());
        let (writer, number) = name;
        let record = Record { sequence: 0, time: now(), writer, number, kind, bytes: bytes.to_vec() };
        let most = self.max_batch();
        let leads = inner.group.queue.back().is_none_or(|open| open.bytes + len > most);
        if leads {
            let batch = Arc::default();
            inner.group.queue.push_back(Open { batch, records: Vec::new(), bytes: BATCH_HEADER, orphan: false });
        }
        let open = inner.group.queue.back_mut().expect("one was just added if there was none");
        let (batch, at) = (Arc::clone(&open.batch), open.records.len() as u64);
        open.records.push(record);
        open.bytes += len;
        inner.in_flight.insert(name, (Arc::clone(&batch), at));
        Ticket { journal: Arc::clone(self), batch, at, leads }
    }

    /// Nobody who joined leads this batch: the journal's thread does.
    fn orphan(self: &Arc<Self>, inner: &mut Inner, batch: &Arc<Batch>) {
        let open = inner.group.queue.iter_mut().find(|open| Arc::ptr_eq(&open.batch, batch));
        let Some(open) = open else { return };
        open.orphan = true;
        if !inner.group.worker {
            let journal = Arc::downgrade(self);
            let spawned =
                std::thread::Builder::new().name("journal".to_owned()).spawn(move || Self::work(&journal)).is_ok();
            inner.group.worker = spawned;
            if !spawned {
                tracing::error!("the thread of the journal cannot be started; its records wait for the next appender");
            }
        }
        self.work.notify_all();
    }

    /// The journal's thread.
    fn work(journal: &Weak<Self>) {
        while let Some(journal) = journal.upgrade() {
            let orphan = {
                let inner = journal.lock();
                let of = |inner: &Inner| {
                    inner.group.queue.iter().find(|open| open.orphan).map(|open| Arc::clone(&open.batch))
                };
                match of(&inner) {
                    Some(batch) => Some(batch),
                    None => {
                        // Looks up now and then, so that it ends with the journal.
                        let wait = journal.work.wait_timeout(inner, std::time::Duration::from_millis(200));
                        of(&wait.unwrap_or_else(PoisonError::into_inner).0)
                    }
                }
            };
            if let Some(batch) = orphan {
                journal.lead(&batch);
            }
        }
    }

    /// Waits for the batch's turn, and brings it to the disk.
    fn lead(self: &Arc<Self>, batch: &Arc<Batch>) {
        let mut inner = self.lock();
        while !inner.group.is_next(batch) {
            if !inner.group.is_queued(batch) {
                return;
            }
            inner = batch.turn.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(mut open) = inner.group.queue.pop_front() else { return };
        inner.group.writing = true;
        let first = inner.next;
        let usable = inner.usable();
        drop(inner);
        for (sequence, record) in (first..).zip(&mut open.records) {
            record.sequence = sequence;
        }
        let written = usable.and_then(|()| self.bring(&open, first));
        let mut inner = self.lock();
        inner.group.writing = false;
        for record in &open.records {
            inner.in_flight.remove(&(record.writer, record.number));
        }
        let result = written.map(|offsets| {
            for (record, offset) in open.records.iter().zip(offsets) {
                let name = (record.writer, record.number);
                inner.recent.insert(name, Place { sequence: record.sequence, offset });
                inner.last_time = inner.last_time.max(record.time);
                if let Some(top) = inner.tops.get_mut(&record.writer) {
                    *top = (*top).max(record.number);
                }
            }
            let repeats = Canary::RepeatSequence.planted(self.canary) && first % 11 == 5;
            inner.next = first + open.records.len() as u64 - u64::from(repeats);
            first
        });
        if let Err(Error::Poisoned(why)) = &result
            && !Canary::IgnorePoison.planted(self.canary)
        {
            tracing::error!("the journal takes no more records: {why}");
            inner.poisoned.get_or_insert_with(|| why.clone());
        }
        match inner.group.queue.front() {
            Some(open) => {
                // The thread of the journal waits for work, or for the turn of a batch that it has seen already.
                if open.orphan {
                    self.work.notify_all();
                }
                open.batch.turn.notify_all();
            }
            None => self.idle.notify_all(),
        }
        drop(inner);
        batch.finish(&result);
    }

    /// Writes a batch, into a new segment if the newest has no room.
    fn bring(self: &Arc<Self>, open: &Open, first: u64) -> Result<Vec<u32>, Error> {
        let mut tail = self.tail();
        if !tail.has_room(open.bytes) {
            self.roll(&mut tail, first)?;
        }
        tail.write(&open.records)
    }
}
