//! What the handles of one open store share.

use crate::cache::NodeCache;
use crate::canary::Canary;
use crate::crash::crash_point;
use crate::disk::{BufferPool, Disk, DiskBuf};
use crate::error::{Error, Fault, no_space};
use crate::file::IoKind;
use crate::freemap::Run;
use crate::hold::Holds;
use crate::ids::{Generation, PAGE_SIZE, StoreId};
use crate::lineage::Lineage;
use crate::loan::Borrowing;
use crate::mirror::Mirrored;
use crate::root::{Kept, Root, SLOT_PLACES};
use crate::space::{Purpose, Space};
use crate::tree::Reader;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

/// The root in force, and the slot that holds it.
pub(crate) struct Snapshot {
    pub root: Root,
    pub slot: usize,
}

/// What is known of free space.
pub(crate) enum Map {
    /// The trees have not been walked yet.
    Unknown,
    /// A thread walks them.
    Walking,
    Known(Space),
    Failed(Error),
}

/// Free space, and what of it is promised.
pub(crate) struct Books {
    pub map: Map,
    pub reserved: u64,
}

pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub lineage: Lineage,
    pub io_kind: IoKind,
    pub read_only: bool,
    pub pool: BufferPool,
    pub cache: NodeCache,
    pub canary: Option<Canary>,
    current: RwLock<Arc<Snapshot>>,
    books: Mutex<Books>,
    pub books_changed: Condvar,
    /// Generations that the walk must find the places of, newest first: those that either slot lists.
    pub to_walk: Vec<Kept>,
    /// The generations that each slot listed when the store was opened, up to the one that stands.
    pub listed_at_open: [Vec<u64>; 2],
    /// Generations that are held.
    holds: Mutex<Holds>,
    /// Held while the file of tags is changed.
    pub tagging: Mutex<()>,
    /// A slot lists a generation newer than the current one: it must be rewritten before any place is reused.
    unsettled: AtomicBool,
    writing: Mutex<Turns>,
    writing_done: Condvar,
    /// Held while the store gets another size.
    resizing: Mutex<()>,
    poison: Mutex<Option<String>>,
    /// The first damage met in the newest generation.
    damage: Mutex<Option<Fault>>,
    pub closing: AtomicBool,
    /// The disk again, as the sides that it is made of. Last, so that its locks are let go after everything else.
    pub mirrored: Option<Arc<Mirrored>>,
    /// And as one behind which another store stands.
    pub loan: Option<Arc<Borrowing>>,
}

/// The parts of [`Shared`] that differ from one way of opening to another.
pub(crate) struct Parts {
    pub disk: Arc<dyn Disk>,
    pub io_kind: IoKind,
    pub read_only: bool,
    pub canary: Option<Canary>,
    pub mirrored: Option<Arc<Mirrored>>,
    pub loan: Option<Arc<Borrowing>>,
    /// What was not as it should be with the sides.
    pub notes: Vec<String>,
}

impl Shared {
    pub fn new(parts: Parts, found: crate::recover::Found) -> Self {
        Self {
            disk: parts.disk,
            lineage: found.snapshot.root.lineage.clone(),
            io_kind: parts.io_kind,
            read_only: parts.read_only,
            pool: BufferPool::default(),
            cache: NodeCache::new(),
            canary: parts.canary,
            current: RwLock::new(Arc::new(found.snapshot)),
            books: Mutex::new(Books { map: Map::Unknown, reserved: 0 }),
            books_changed: Condvar::new(),
            to_walk: found.to_walk,
            listed_at_open: found.listed,
            holds: Mutex::new(Holds::default()),
            tagging: Mutex::new(()),
            unsettled: AtomicBool::new(found.unsettled),
            writing: Mutex::default(),
            writing_done: Condvar::new(),
            resizing: Mutex::new(()),
            poison: Mutex::new(None),
            damage: Mutex::new(None),
            closing: AtomicBool::new(false),
            mirrored: parts.mirrored,
            loan: parts.loan,
        }
    }

    /// The store's name.
    pub fn id(&self) -> StoreId {
        self.lineage.id()
    }

    /// The disk as the sides that it is made of.
    pub fn mirrored(&self) -> Result<&Arc<Mirrored>, Error> {
        let told = || Error::BadArgument("a store on a disk of the caller's has no mirrors".to_owned());
        self.mirrored.as_ref().ok_or_else(told)
    }

    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn publish(&self, mut snapshot: Snapshot) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // The store may have got another size while the root was being written.
        snapshot.root.places = current.root.places;
        *current = Arc::new(snapshot);
    }

    /// Takes a root that another handle wrote.
    pub fn replace(&self, snapshot: Snapshot) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Changes the root in force in memory; the next root write carries it to the disk.
    pub fn amend(&self, change: impl FnOnce(&mut Root)) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut root = current.root.clone();
        change(&mut root);
        *current = Arc::new(Snapshot { root, slot: current.slot });
    }

    pub fn reader(&self, generation: u64) -> Reader<'_> {
        let places = self.current().root.places;
        let (lineage, generation) = (&self.lineage, Generation(generation));
        Reader { disk: &*self.disk, cache: &self.cache, lineage, places, generation, canary: self.canary }
    }

    pub fn holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to commit; waits while another commit has it. Who came first gets it first: who makes one small commit after the
    /// other keeps nobody waiting for more than one of them.
    pub fn start_writing(self: &Arc<Self>) -> Writer {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = writing.next;
        writing.next += 1;
        while writing.now != turn {
            writing = self.writing_done.wait(writing).unwrap_or_else(PoisonError::into_inner);
        }
        Writer(Arc::clone(self))
    }

    /// Takes the right to give the store another size.
    pub fn start_resizing(&self) -> MutexGuard<'_, ()> {
        self.resizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a point in going on with what takes long.
    ///
    /// # Errors
    /// The store is being closed.
    pub fn go_on(&self) -> Result<(), Error> {
        if self.closing.load(Ordering::Relaxed) || self.mirrored()?.is_stopping() {
            return Err(Error::BadArgument("the store was closed meanwhile".to_owned()));
        }
        Ok(())
    }

    pub fn poison(&self, e: &Error) {
        let mut poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
        if poison.is_none() {
            tracing::error!("the store takes no more commits: {e}");
            *poison = Some(e.to_string());
        }
    }

    pub fn damage(&self) -> Option<Fault> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that the newest generation is damaged, if that is what `e` says.
    pub fn note_damage(&self, e: &Error) {
        if let Error::Corrupt(fault) = e {
            self.damage.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| fault.clone());
        }
    }

    /// Another handle takes over: nothing is written through this one once this returns.
    pub fn retire(self: &Arc<Self>) {
        self.closing.store(true, Ordering::Relaxed);
        let _writer = self.start_writing();
        let mut poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
        poison.get_or_insert_with(|| "it was opened anew".to_owned());
    }

    pub fn check_writable(&self) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        match &*self.poison.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(Error::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Queues a write. Failures other than want of space poison the store.
    pub fn write(&self, place: u64, buffer: DiskBuf) -> Result<(), Error> {
        self.check_writable()?;
        let written = self.disk.write_at(place * PAGE_SIZE as u64, buffer);
        written.map_err(|e| self.write_failed("write to the store", e))
    }

    /// Waits for queued writes; as [`Shared::write`] for failures.
    pub fn drain(&self) -> Result<(), Error> {
        self.disk.drain().map_err(|e| self.write_failed("write to the store", e))
    }

    /// Makes everything written durable. Any failure poisons the store.
    pub fn flush(&self) -> Result<(), Error> {
        self.disk.flush().map_err(|e| {
            let e = Error::io("flush the store", e);
            self.poison(&e);
            e
        })
    }

    /// Waits for the writes of a commit that has been given up.
    pub fn drain_aborted(&self) {
        if let Err(e) = self.drain() {
            tracing::debug!("a write of a commit that was given up failed: {e}");
        }
    }

    fn write_failed(&self, what: &str, e: std::io::Error) -> Error {
        if no_space(&e) {
            return Error::Full { needed: 1, available: 0 };
        }
        let e = Error::io(what, e);
        self.poison(&e);
        e
    }

    /// Writes `root` to `slot` and flushes. When this fails, nobody knows what the slot holds: the store is poisoned.
    pub fn write_root(&self, root: &Root, slot: usize) -> Result<(), Error> {
        self.check_writable()?;
        let mut buffer = self.pool.take().map_err(|e| Error::io("get a write buffer", e))?;
        let mut encoded = root.encode(slot);
        Canary::spoil_root(self.canary, root, slot, &mut encoded);
        buffer.extend(&encoded[..]);
        let written = self.disk.write_at(SLOT_PLACES[slot] * PAGE_SIZE as u64, buffer);
        written.map_err(|e| {
            let e = Error::io("write the root of the store", e);
            self.poison(&e);
            e
        })?;
        crash_point("root-written");
        if Canary::SkipRootFlush.planted(self.canary) { Ok(()) } else { self.flush() }
    }

    /// Writes the root in force, as `change` makes it, to both slots, so that nothing else is listed anywhere.
    pub fn settle(&self, change: impl FnOnce(&mut Root)) -> Result<(), Error> {
        let start = self.current();
        let mut root = start.root.clone();
        change(&mut root);
        let mut slot = start.slot;
        for _ in 0..2 {
            slot = 1 - slot;
            root = root.next();
            self.write_root(&root, slot)?;
            self.publish(Snapshot { root: root.clone(), slot });
        }
        self.unsettled.store(false, Ordering::Release);
        let mut books = self.books();
        if let Map::Known(space) = &mut books.map {
            space.listed(0, root.listed());
            space.listed(1, root.listed());
        }
        Ok(())
    }

    /// Makes sure that no slot lists a generation newer than the one in force.
    pub fn settle_if_needed(&self) -> Result<(), Error> {
        if self.unsettled.load(Ordering::Acquire) { self.settle(|_| ()) } else { Ok(()) }
    }

    /// Takes up to `want` places for the commit that is under way, if any are free.
    pub fn allocate_free(&self, cursor: u64, want: u64, purpose: Purpose) -> Option<Run> {
        let mut books = self.books();
        let Map::Known(space) = &mut books.map else { unreachable!("a commit begins when the map is known") };
        space.allocate(cursor, want, purpose)
    }

    /// The same; drops older generations if there are none.
    pub fn allocate(&self, cursor: u64, want: u64, purpose: Purpose) -> Result<Run, Error> {
        loop {
            if let Some(run) = self.allocate_free(cursor, want, purpose) {
                return Ok(run);
            }
            let Some(at) = self.holds().first_to_go(&self.current().root) else {
                return Err(Error::Full { needed: 1, available: 0 });
            };
            self.settle(|root| {
                let dropped = root.kept.remove(at);
                tracing::info!("space runs short: generation {} is kept no longer", dropped.generation);
            })?;
        }
    }

    /// Has the host find space for all that is reserved.
    pub fn back_ahead(&self, books: &mut Books, reserved: u64) -> Result<(), Error> {
        let Map::Known(space) = &mut books.map else { return Ok(()) };
        let ask = |run: Run| self.disk.preallocate(run.start * PAGE_SIZE as u64, run.len * PAGE_SIZE as u64);
        match space.back_ahead(reserved, ask) {
            Ok(_) => Ok(()),
            Err((found, e)) if no_space(&e) => Err(Error::Full { needed: reserved, available: found }),
            Err((_, e)) => Err(Error::io("find space for the store", e)),
        }
    }

    /// Frees places that no root refers to.
    pub fn release(&self, runs: impl IntoIterator<Item = Run>) {
        let mut books = self.books();
        if let Map::Known(space) = &mut books.map {
            runs.into_iter().for_each(|run| space.release(run));
        }
    }
}

/// Whose turn it is to commit.
#[derive(Default)]
struct Turns {
    /// The turn of who comes next.
    next: u64,
    /// The turn that it is.
    now: u64,
}

/// The right to commit, held by one at a time.
pub(crate) struct Writer(pub Arc<Shared>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner).now += 1;
        self.0.writing_done.notify_all();
    }
}
