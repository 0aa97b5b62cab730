//! The sides as one disk.

use super::record::Record;
use super::site::{Site, Sites};
use crate::canary::Canary;
use crate::disk::{BufferPool, Disk, DiskBuf};
use crate::error::{by_medium, no_space};
use crate::ids::PAGE_SIZE;
use crate::root::FIRST_PLACE;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Where pages and nodes begin. What lies before, the roots, makes a side a store: it is written last to one that is being filled.
const ROOTS_END: u64 = FIRST_PLACE * PAGE_SIZE as u64;

/// How a side stands.
#[derive(Clone)]
pub(super) enum State {
    /// It has everything, and is read and written.
    Whole(Arc<dyn Disk>),
    /// It is written, and not read yet.
    Filling(Arc<dyn Disk>),
    /// It is neither; with the reason.
    Away(String),
}

/// A side.
#[derive(Clone)]
pub(super) struct Side {
    pub number: u32,
    pub place: String,
    pub site: Arc<dyn Site>,
    pub state: State,
    /// How often it has come back.
    pub turn: u64,
    pub tally: Arc<Tally>,
}

/// What is counted of a side.
#[derive(Default)]
pub(super) struct Tally {
    /// Blocks that were written anew from another side.
    pub mended: AtomicU64,
    /// Bytes that were copied to it, and that are to be in all.
    pub done: AtomicU64,
    pub total: AtomicU64,
    /// A thread is bringing it up to date.
    pub busy: AtomicBool,
    /// While it is filled: it has all of its folders, and what speaks of them is written to it too.
    pub even: AtomicBool,
    /// Files of its folders that were written and not flushed, while it is filled.
    pub unflushed: Mutex<BTreeSet<String>>,
}

/// The sides as they are now.
pub(super) struct Set {
    /// None: the store has no mirrors.
    pub record: Option<Record>,
    /// The one that is read first comes first.
    pub sides: Vec<Side>,
}

impl Set {
    pub fn side(&self, number: u32) -> Option<&Side> {
        self.sides.iter().find(|side| side.number == number)
    }

    pub fn whole(&self) -> impl Iterator<Item = (&Side, &Arc<dyn Disk>)> {
        self.sides.iter().filter_map(|side| match &side.state {
            State::Whole(disk) => Some((side, disk)),
            _ => None,
        })
    }

    fn filling(&self) -> impl Iterator<Item = (&Side, &Arc<dyn Disk>)> {
        self.sides.iter().filter_map(|side| match &side.state {
            State::Filling(disk) => Some((side, disk)),
            _ => None,
        })
    }
}

/// A failure of one side.
pub(super) type Failed = (u32, io::Error);

/// Sides that are written in step; with one side as good as that side's disk itself.
pub(crate) struct Mirrored {
    pub(super) sites: Arc<dyn Sites>,
    pub(super) read_only: bool,
    set: RwLock<Arc<Set>>,
    /// Held while it is changed who is whole.
    pub(super) change: Mutex<()>,
    /// Held while writes are queued, and by who writes over what is there: he sees all sides alike.
    gate: Mutex<()>,
    /// A failure of writes, met by who did not make them: for who did.
    owed: Mutex<Option<io::Error>>,
    pool: BufferPool,
    /// Sides that are being brought up to date are given up.
    pub(super) stopping: AtomicBool,
    /// How often files of folders were made anew under who has them open.
    pub(super) remade: AtomicU64,
    pub(super) canary: Option<Canary>,
    writes: AtomicU64,
}

impl Mirrored {
    pub(super) fn new(sites: Arc<dyn Sites>, read_only: bool, set: Set, canary: Option<Canary>) -> Arc<Self> {
        Arc::new(Self {
            sites,
            read_only,
            set: RwLock::new(Arc::new(set)),
            change: Mutex::new(()),
            gate: Mutex::new(()),
            owed: Mutex::new(None),
            pool: BufferPool::default(),
            stopping: AtomicBool::new(false),
            remade: AtomicU64::new(0),
            canary,
            writes: AtomicU64::new(0),
        })
    }

    pub(super) fn set(&self) -> Arc<Set> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn publish(&self, set: Set) {
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The small file `name`, of the first side that is whole and can be read.
    ///
    /// # Errors
    /// None can.
    pub fn note(&self, name: &str) -> io::Result<Option<String>> {
        let set = self.set();
        let mut failed = None;
        for (side, _) in set.whole() {
            match side.site.note(name) {
                Ok(text) => return Ok(text),
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The directory of the side that is read first, if it lies in one.
    pub fn home_dir(&self) -> Option<PathBuf> {
        let set = self.set();
        set.whole().find_map(|(side, _)| side.site.dir().map(Path::to_owned))
    }

    /// Whether what takes long is to be given up.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// An empty write buffer.
    pub(super) fn buffer(&self) -> io::Result<DiskBuf> {
        self.pool.take()
    }

    /// A copy of a write buffer.
    pub(super) fn copied(&self, data: &DiskBuf) -> io::Result<DiskBuf> {
        let mut copy = self.pool.take()?;
        copy.extend(data);
        Ok(copy)
    }

    /// A copy of `data` for each side but the last, which takes `data` itself.
    fn write_all(&self, set: &Set, offset: u64, data: DiskBuf) -> Vec<Failed> {
        let mut disks: Vec<(u32, &Arc<dyn Disk>)> = set.whole().map(|(side, disk)| (side.number, disk)).collect();
        let count = self.writes.fetch_add(1, Ordering::Relaxed);
        if Canary::WriteOneSide.planted(self.canary) && count % 17 == 16 {
            disks.truncate(1);
        }
        if offset >= ROOTS_END && !Canary::FillBlind.planted(self.canary) {
            disks.extend(set.filling().map(|(side, disk)| (side.number, disk)));
        }
        let Some(((last, disk), others)) = disks.split_last() else { return Vec::new() };
        let mut failed = Vec::new();
        for (number, other) in others {
            if let Err(e) = self.copied(&data).and_then(|copy| other.write_at(offset, copy)) {
                failed.push((*number, e));
            }
        }
        if let Err(e) = disk.write_at(offset, data) {
            failed.push((*last, e));
        }
        failed
    }

    /// Does `what` to every side that is whole, at once; and then as [`Self::judge`].
    fn each(&self, what: impl Fn(&dyn Disk) -> io::Result<()> + Sync) -> io::Result<()> {
        let set = self.set();
        let disks: Vec<(u32, &Arc<dyn Disk>)> = set.whole().map(|(side, disk)| (side.number, disk)).collect();
        let Some(((first, disk), others)) = disks.split_first() else { return Ok(()) };
        let others = if Canary::FlushOneSide.planted(self.canary) { &[] } else { others };
        let mut failed = Vec::new();
        std::thread::scope(|scope| {
            let what = &what;
            let started: Vec<_> =
                others.iter().map(|(number, disk)| (*number, scope.spawn(move || what(&***disk)))).collect();
            if let Err(e) = what(&***disk) {
                failed.push((*first, e));
            }
            for (number, thread) in started {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => failed.push((number, e)),
                    Err(_) => failed.push((number, io::Error::other("a thread panicked"))),
                }
            }
        });
        self.judge(&set, failed)
    }

    /// What failures of some sides mean: those sides go away. If every side that is whole has failed, none goes away, and the
    /// failure is the disk's.
    pub(super) fn judge(&self, set: &Set, failed: Vec<Failed>) -> io::Result<()> {
        if failed.is_empty() {
            return Ok(());
        }
        let has_failed = |number: u32| failed.iter().any(|(other, _)| *other == number);
        if set.whole().all(|(side, _)| has_failed(side.number)) {
            let mut errors: Vec<io::Error> = failed.into_iter().map(|(_, e)| e).collect();
            let worst = errors.iter().position(|e| !no_space(e)).unwrap_or(0);
            return Err(errors.swap_remove(worst));
        }
        self.drop_sides(failed)
    }

    /// Waits for all writes, for who holds the gate; failures are told to who made the writes.
    fn quiet(&self) -> Arc<Set> {
        if let Err(e) = self.drain_all() {
            self.owed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
        }
        self.set()
    }

    fn drain_all(&self) -> io::Result<()> {
        let set = self.set();
        let all = set.whole().chain(set.filling());
        let failed = all.filter_map(|(side, disk)| Some((side.number, disk.drain().err()?))).collect();
        self.judge(&set, failed)
    }

    fn told(&self) -> io::Result<()> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Copies a range to a side that is being filled, as no write is under way.
    pub(super) fn copy_to(&self, number: u32, offset: u64, len: usize) -> io::Result<()> {
        let gone = || io::Error::other("it is not being brought up to date any more");
        let _gate = self.gate();
        let set = self.quiet();
        if self.owed.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Err(io::Error::other("the store itself cannot be written"));
        }
        let Some(Side { state: State::Filling(to), .. }) = set.side(number) else { return Err(gone()) };
        let mut buffer = self.pool.take()?;
        let mut bytes = vec![0; len];
        read_any(&set, offset, &mut bytes)?;
        buffer.extend(&bytes);
        to.write_at(offset, buffer)?;
        to.drain()
    }
}

/// Reads from the first side that is whole and gives it.
fn read_any(set: &Set, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let mut first = None;
    for (side, disk) in set.whole() {
        match disk.read_at(offset, out) {
            Ok(()) => return Ok(()),
            Err(e) => {
                tracing::debug!("{} cannot be read at byte {offset}: {e}", side.place);
                first.get_or_insert(e);
            }
        }
    }
    Err(first.unwrap_or_else(|| io::Error::other("no side is whole")))
}

impl Disk for Mirrored {
    /// What the medium of the first side refuses is said so, since only who knows the checksum can tell what may stand in for it.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let set = self.set();
        let Some((_, disk)) = set.whole().next() else { return read_any(&set, offset, out) };
        match disk.read_at(offset, out) {
            Err(e) if !by_medium(&e) && set.whole().count() > 1 => read_any(&set, offset, out),
            other => other,
        }
    }

    fn will_read(&self, offset: u64, len: u64) {
        self.set().whole().take(1).for_each(|(_, disk)| disk.will_read(offset, len));
    }

    fn write_at(&self, offset: u64, data: DiskBuf) -> io::Result<()> {
        self.told()?;
        let _gate = self.gate();
        let set = self.set();
        let failed = self.write_all(&set, offset, data);
        self.judge(&set, failed)
    }

    fn drain(&self) -> io::Result<()> {
        self.drain_all()?;
        self.told()
    }

    /// A side that is being filled is flushed by who fills it: a commit does not wait for that.
    fn flush(&self) -> io::Result<()> {
        self.told()?;
        self.each(|disk| disk.flush())
    }

    fn len(&self) -> io::Result<u64> {
        let set = self.set();
        let (mut least, mut failed) = (None, Vec::new());
        for (side, disk) in set.whole() {
            match disk.len() {
                Ok(len) => least = Some(least.map_or(len, |least: u64| least.min(len))),
                Err(e) => failed.push((side.number, e)),
            }
        }
        self.judge(&set, failed)?;
        least.ok_or_else(|| io::Error::other("no side is whole"))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let set = self.set();
        let grown = |disk: &Arc<dyn Disk>| if disk.len()? < len { disk.set_len(len) } else { Ok(()) };
        let all = set.whole().chain(set.filling());
        let failed = all.filter_map(|(side, disk)| Some((side.number, grown(disk).err()?))).collect();
        self.judge(&set, failed)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        let set = self.set();
        let cut = |disk: &Arc<dyn Disk>| if disk.len()? > len { disk.cut(len) } else { Ok(()) };
        let all = set.whole().chain(set.filling());
        let failed = all.filter_map(|(side, disk)| Some((side.number, cut(disk).err()?))).collect();
        self.judge(&set, failed)
    }

    /// That of the side with the most: one that has less goes away when its disk is full.
    fn capacity(&self) -> io::Result<u64> {
        let set = self.set();
        let most = set.whole().filter_map(|(_, disk)| disk.capacity().ok()).max();
        most.map_or_else(|| self.len(), Ok)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let set = self.set();
        let all = set.whole().chain(set.filling());
        let failed = all.filter_map(|(side, disk)| Some((side.number, disk.preallocate(offset, len).err()?))).collect();
        self.judge(&set, failed)
    }

    fn copies(&self) -> Vec<u32> {
        self.set().whole().map(|(side, _)| side.number).collect()
    }

    fn read_copy(&self, copy: u32, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.set().side(copy) {
            Some(Side { state: State::Whole(disk), .. }) => disk.read_at(offset, out),
            _ => Err(io::Error::other("this side is away")),
        }
    }

    fn mend(&self, offset: u64, out: &mut [u8], holds: &dyn Fn(&[u8]) -> bool) -> Option<u32> {
        if self.set().whole().count() < 2 {
            return None;
        }
        let _gate = self.gate();
        let set = if self.read_only { self.set() } else { self.quiet() };
        let disks = set.whole().map(|(side, disk)| (side, Ok(Arc::clone(disk)))).collect();
        self.mend_among(&set, disks, offset, out, holds, "the pages")
    }
}

impl Mirrored {
    /// As [`Disk::mend`], among the disks of these sides; for who holds the gate. `what` they are, in words.
    pub(super) fn mend_among(
        &self,
        set: &Set,
        disks: Vec<(&Side, io::Result<Arc<dyn Disk>>)>,
        offset: u64,
        out: &mut [u8],
        holds: &dyn Fn(&[u8]) -> bool,
        what: &str,
    ) -> Option<u32> {
        let (mut bad, mut good) = (Vec::new(), None);
        for (side, disk) in disks {
            let mut bytes = vec![0; out.len()];
            match disk.as_ref().map(|disk| disk.read_at(offset, &mut bytes)) {
                Ok(Ok(())) if holds(&bytes) => good = good.or(Some(bytes)),
                _ => bad.push((side, disk)),
            }
        }
        out.copy_from_slice(&good?);
        if self.read_only {
            return Some(u32::try_from(bad.len()).unwrap_or(u32::MAX));
        }
        let (mut failed, count) = (Vec::new(), bad.len());
        for (side, disk) in bad {
            match disk.and_then(|disk| self.rewrite(&disk, offset, out)) {
                Ok(()) => {
                    let place = offset / PAGE_SIZE as u64;
                    if side.tally.mended.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::warn!(
                            "place {place} of {what} in {} was rotten, and is written anew; more of it is counted only",
                            side.place
                        );
                    } else {
                        tracing::debug!("place {place} of {what} in {} was rotten, and is written anew", side.place);
                    }
                }
                Err(e) => failed.push((side.number, e)),
            }
        }
        let mended = u32::try_from(count - failed.len()).unwrap_or(u32::MAX);
        // What it means that a side cannot be noted as away shows with the next write.
        let _ = self.judge(set, failed);
        Some(mended)
    }

    /// Writes a block anew, durably: what is counted as mended is.
    fn rewrite(&self, disk: &Arc<dyn Disk>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = self.pool.take()?;
        buffer.extend(bytes);
        disk.write_at(offset, buffer)?;
        disk.flush()
    }
}
