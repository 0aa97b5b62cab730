//! The journal of the world, and the part of it that a program sees. It is opened, and made, when somebody first asks for it.
//!
//! Nothing here waits for the disk inside the gate: who has to wait leaves a task (`Work`), and does it outside.

use super::{Kernel, KernelError};
use crate::linux::{self, Appending, JournalTrouble, Wanted};
use crate::native::Life;
use crate::table::{Record, Table};
use semper_journal::{Error, Found, Journal, Note, Options, Retention, Submitted, Ticket, Trimmed, Wish, Writer};
use semper_store::{Folder, StoreId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Generations whose journal is remembered; beyond it every other is forgotten, and the retention leaves a little more.
const MAX_ENDS: usize = 1024;

/// How far the journal was when a generation was captured: the store knows that a journal is there, and how long it is at least.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct JournalRecord {
    /// The sequence after the last durable record.
    pub end: u64,
    /// The store whose journal it is: a fork begins without one.
    pub store: [u8; 16],
}

impl Record for JournalRecord {
    const KIND: u16 = 7;
    const NAME: &'static str = "journal";
}

/// Whether the journal is open.
enum Slot {
    Closed,
    /// There is none, and nobody has written yet.
    Absent,
    Open(Arc<Journal>),
    Broken(Error),
}

/// The journal of a world.
pub struct WorldJournal {
    pub(super) folder: Arc<dyn Folder>,
    pub(super) store: StoreId,
    life: Life,
    retention: Retention,
    slot: Mutex<Slot>,
    /// What the store knew of it at the start.
    seen: u64,
    ends: Mutex<Ends>,
}

/// How far the journal was at captures.
#[derive(Default)]
struct Ends {
    /// At the last one, which is not committed yet.
    captured: Option<u64>,
    /// By generation, the oldest first.
    committed: VecDeque<(u64, u64)>,
}

/// Whose records a program's are. `started`: nanoseconds since 1970.
pub(crate) fn writer(id: u64, started: u64) -> Writer {
    let low = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or(0);
    Writer { number: low(id), born: low(started / 1_000_000_000) }
}

/// What a world knows of its journal.
pub(crate) fn seen(table: &Table, store: StoreId) -> u64 {
    table.first::<JournalRecord>().filter(|(_, record)| record.store == store.0).map_or(0, |(_, record)| record.end)
}

impl WorldJournal {
    /// Of a store. `seen`: what the store knows of it.
    #[must_use]
    pub(crate) fn new(
        folder: Arc<dyn Folder>,
        store: StoreId,
        seen: u64,
        life: Life,
        retention: Retention,
    ) -> Arc<Self> {
        Arc::new(Self { folder, store, life, retention, slot: Mutex::new(Slot::Closed), seen, ends: Mutex::default() })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::slot`], without waiting for who opens the journal, which may take a while.
    fn slot_now(&self) -> Option<MutexGuard<'_, Slot>> {
        match self.slot.try_lock() {
            Ok(slot) => Some(slot),
            Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The journal, if it is open. None inside: there is none. None: it has to be opened first. Does not wait.
    fn opened(&self, wanted: Wanted) -> Option<Result<Option<Arc<Journal>>, Error>> {
        Self::look(&*self.slot_now()?, wanted)
    }

    fn look(slot: &Slot, wanted: Wanted) -> Option<Result<Option<Arc<Journal>>, Error>> {
        match slot {
            Slot::Open(journal) => Some(Ok(Some(Arc::clone(journal)))),
            Slot::Broken(error) => Some(Err(error.clone())),
            Slot::Absent if wanted == Wanted::ToRead => Some(Ok(None)),
            Slot::Absent | Slot::Closed => None,
        }
    }

    /// Opens it; makes it, if it is wanted to be written to.
    ///
    /// # Errors
    /// There is no room for it now.
    pub(crate) fn open(&self, wanted: Wanted) -> Result<(), Error> {
        let mut slot = self.slot();
        if !matches!(&*slot, Slot::Closed | Slot::Absent) {
            return Ok(());
        }
        let found = match semper_journal::exists(&*self.folder) {
            Ok(false) if wanted == Wanted::ToRead && self.seen <= 1 => {
                *slot = Slot::Absent;
                return Ok(());
            }
            Ok(_) => {
                let options = Options { retention: self.retention.clone(), ..Options::default() };
                Journal::open(Arc::clone(&self.folder), self.store, self.seen, &options)
            }
            Err(error) => Err(error),
        };
        *slot = match found {
            Ok(journal) => {
                if let Some(error) = journal.trouble() {
                    eprintln!("semper: {error}");
                }
                let Life { restarts, id, generation, .. } = self.life;
                if let Err(error) = journal.note(&Note::Began { restarts, life: id, generation }) {
                    tracing::debug!(%error, "the beginning of this life is not in the journal");
                }
                Slot::Open(journal)
            }
            // Room may come.
            Err(error @ Error::Full(_)) => return Err(error),
            Err(error) => {
                // Not a line of the log, which may be off: whoever writes to it is told only that it cannot be done.
                eprintln!("semper: {error}");
                Slot::Broken(error)
            }
        };
        Ok(())
    }

    /// Whose it is.
    pub(super) fn store_id(&self) -> [u8; 16] {
        self.store.0
    }

    /// The journal, if it is open, for writing.
    pub(super) fn to_write(&self) -> Result<Arc<Journal>, Error> {
        Self::look(&self.slot(), Wanted::ToWrite).unwrap_or(Ok(None))?.ok_or(Error::None)
    }

    /// The sequence after its last durable record; 0 if that is not known without waiting.
    pub(crate) fn end_now(&self) -> u64 {
        self.end().unwrap_or(0)
    }

    fn end(&self) -> Option<u64> {
        if let Slot::Open(journal) = &*self.slot_now()? { Some(journal.end()) } else { None }
    }

    /// Before a commit: notes how far the journal is, if there is one. `needed`: records from this one on are still to be told again.
    pub(crate) fn note(&self, table: &mut Table, needed: u64) -> Result<(), KernelError> {
        let Some(end) = self.end() else { return Ok(()) };
        let known = table.first::<JournalRecord>();
        let now = JournalRecord { end, store: self.store.0 };
        let mut tx = table.begin();
        match known {
            Some((_, record)) if record == now => {}
            Some((at, _)) => tx.update(at, &now)?,
            None => tx.insert(&now).map(drop)?,
        }
        tx.commit();
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).captured = Some(end.min(needed));
        Ok(())
    }

    /// A generation was committed, and `oldest` is the oldest that is kept: records that none of them can ask for again may go. What a
    /// generation of an earlier life may ask for is not known, so nothing goes while one is kept.
    pub(crate) fn committed(&self, generation: u64, oldest: u64) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(end) = ends.captured.take() else { return };
        let ends = &mut ends.committed;
        if ends.back().is_none_or(|(_, last)| *last != end) {
            ends.push_back((generation, end));
        }
        if ends.len() > MAX_ENDS {
            let mut n = 0;
            ends.retain(|_| {
                n += 1;
                n % 2 == 1
            });
        }
        while ends.get(1).is_some_and(|(of, _)| *of <= oldest) {
            ends.pop_front();
        }
        if let (Some(slot), Some((of, floor))) = (self.slot_now(), ends.front())
            && let Slot::Open(journal) = &*slot
            && *of <= oldest
        {
            journal.set_floor(*floor);
        }
    }

    /// Nothing is on its way any more.
    pub(crate) fn close(&self) {
        if let Slot::Open(journal) = &*self.slot() {
            journal.quiesce();
        }
    }

    /// Appends for a native domain; `told` is called in another thread.
    pub(crate) fn append_then(
        &self,
        writer: Writer,
        number: u64,
        bytes: &[u8],
        told: impl FnOnce(Result<(bool, u64), Error>) + Send + 'static,
    ) -> Option<Result<Found, Error>> {
        if let Err(error) = self.open(Wanted::ToWrite) {
            return Some(Err(error));
        }
        let journal = match Self::look(&self.slot(), Wanted::ToWrite) {
            Some(Ok(Some(journal))) => journal,
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(None)) | None => return Some(Err(Error::None)),
        };
        match journal.submit(writer, number, bytes) {
            Ok(Submitted::There(found)) => Some(Ok(found)),
            Ok(Submitted::New(ticket)) => {
                ticket.then(|result| told(result.map(|sequence| (true, sequence))));
                None
            }
            Ok(Submitted::Same(ticket)) => {
                ticket.then(|result| told(result.map(|sequence| (false, sequence))));
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// The journal for reading, opened here and now if it has to be; none if there is none.
    pub(crate) fn to_read(&self) -> Result<Option<Arc<Journal>>, Error> {
        self.open(Wanted::ToRead)?;
        Self::look(&self.slot(), Wanted::ToRead).unwrap_or(Ok(None))
    }
}

impl Kernel {
    /// Trims the journal as an operator wishes; none: there is none.
    ///
    /// # Errors
    /// As [`Journal::trim_as`].
    pub fn trim_journal(&self, wish: &Wish) -> Result<Option<Trimmed>, Error> {
        match self.journal.to_read()? {
            Some(journal) => journal.trim_as(wish),
            None => Ok(None),
        }
    }

    /// Records of the journal below `sequence` are in a backup.
    ///
    /// # Errors
    /// As [`Journal::mark_covered`].
    pub fn cover_journal(&self, sequence: u64) -> Result<(), Error> {
        self.journal.to_read()?.map_or(Ok(()), |journal| journal.mark_covered(sequence))
    }
}

/// What a program has to wait for.
enum Work {
    Open(Wanted),
    Append { number: u64, ticket: Ticket, is_new: bool },
}

/// The journal as one program sees it.
pub(crate) struct ProgramJournal {
    world: Arc<WorldJournal>,
    writer: Writer,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    work: Option<Work>,
    /// What an append came to, for the call when it is given again.
    done: Option<(u64, Result<Appending, JournalTrouble>)>,
    /// Why it could not be opened for that call.
    closed: Option<JournalTrouble>,
}

impl ProgramJournal {
    pub(crate) fn new(world: &Arc<WorldJournal>, writer: Writer) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), writer, pending: Mutex::default() })
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self, wanted: Wanted) -> Result<Option<Arc<Journal>>, JournalTrouble> {
        if let Some(trouble) = self.pending().closed.take() {
            return Err(trouble);
        }
        match self.world.opened(wanted) {
            Some(opened) => opened.map_err(|error| trouble(&error)),
            None => {
                self.pending().work = Some(Work::Open(wanted));
                Err(JournalTrouble::Wait)
            }
        }
    }
}

fn trouble(error: &Error) -> JournalTrouble {
    match error {
        Error::Full(_) => JournalTrouble::Full,
        Error::TooLong { .. } => JournalTrouble::TooLong,
        error => {
            tracing::debug!(%error, "a program's call to the journal fails");
            JournalTrouble::Broken
        }
    }
}

fn record(record: semper_journal::Record) -> linux::JournalRecord {
    let semper_journal::Record { sequence, time, number, bytes, .. } = record;
    linux::JournalRecord { sequence, time, number, bytes }
}

impl linux::Journal for ProgramJournal {
    fn append(&self, number: u64, bytes: &[u8]) -> Result<Appending, JournalTrouble> {
        let done = self.pending().done.take();
        if let Some((_, result)) = done.filter(|(of, _)| *of == number) {
            return result;
        }
        let Some(journal) = self.journal(Wanted::ToWrite)? else { return Err(JournalTrouble::Broken) };
        match journal.submit(self.writer, number, bytes).map_err(|error| trouble(&error))? {
            Submitted::There(_) => Ok(Appending::There),
            Submitted::New(ticket) => {
                self.pending().work = Some(Work::Append { number, ticket, is_new: true });
                Err(JournalTrouble::Wait)
            }
            Submitted::Same(ticket) => {
                self.pending().work = Some(Work::Append { number, ticket, is_new: false });
                Err(JournalTrouble::Wait)
            }
        }
    }

    fn find(&self, number: u64) -> Result<Option<linux::JournalRecord>, JournalTrouble> {
        let Some(journal) = self.journal(Wanted::ToRead)? else { return Ok(None) };
        Ok(journal.find(self.writer, number).map_err(|error| trouble(&error))?.map(record))
    }

    fn last(&self, number: u64) -> Result<Option<linux::JournalRecord>, JournalTrouble> {
        let Some(journal) = self.journal(Wanted::ToRead)? else { return Ok(None) };
        Ok(journal.last(self.writer, number).map_err(|error| trouble(&error))?.map(record))
    }

    fn next(&self, from: u64) -> Result<Option<linux::JournalRecord>, JournalTrouble> {
        let Some(journal) = self.journal(Wanted::ToRead)? else { return Ok(None) };
        Ok(journal.next_of(self.writer, from).map_err(|error| trouble(&error))?.map(record))
    }

    fn end(&self) -> Result<u64, JournalTrouble> {
        Ok(self.journal(Wanted::ToRead)?.map_or(1, |journal| journal.end()))
    }

    fn work(&self) {
        let work = self.pending().work.take();
        match work {
            None => {}
            Some(Work::Open(wanted)) => {
                if let Err(error) = self.world.open(wanted) {
                    self.pending().closed = Some(trouble(&error));
                }
            }
            Some(Work::Append { number, ticket, is_new }) => {
                let result = match ticket.wait() {
                    Ok(_) if is_new => Ok(Appending::Written),
                    Ok(_) => Ok(Appending::There),
                    Err(error) => Err(trouble(&error)),
                };
                self.pending().done = Some((number, result));
            }
        }
    }
}
