//! A folder beside the pages, with the same files on every side: the journal's.
//!
//! * What a side has lost of it, a file or the end of one, it gets from another ([`restore`]). What rots in a file only its reader can tell: see [`Disk::mend`].
//! * A side that is filled keeps the files of which it is known that it has all ([`Kept`]); the others are copied beside what is written. One file speaks of
//!   all others, as the roots do of pages: to that side it is written when it has the rest durably, and not before.

use super::set::{Failed, Mirrored, Set, Side, State};
use crate::canary::Canary;
use crate::disk::{BUFFER_LEN, Disk, DiskBuf};
use crate::error::by_medium;
use crate::folder::Folder;
use crate::ids::PAGE_SIZE;
use crate::width::to_usize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Folders that every side has, each with the file that speaks of the others.
pub(super) const FOLDERS: [(&str, &str); 1] = [("journal", "state")];

/// Which files of a side that was away need no copying: of its folder, and the one of the sides that are whole.
pub type Kept<'k> = &'k (dyn Fn(&dyn Folder, &dyn Folder) -> Vec<String> + Sync);

/// The folder `name` of all sides.
pub(crate) struct MirroredFolder {
    mirrored: Arc<Mirrored>,
    name: String,
}

/// Sides that are written: those that are whole, and then those that are filled.
fn written(set: &Set) -> impl Iterator<Item = (&Side, bool)> {
    set.sides.iter().filter_map(|side| match side.state {
        State::Whole(_) => Some((side, true)),
        State::Filling(_) => Some((side, false)),
        State::Away(_) => None,
    })
}

fn is_none(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
}

/// Whether a file is the one that speaks of the others.
fn speaks(folder: &str, file: &str) -> bool {
    FOLDERS.contains(&(folder, file))
}

impl Mirrored {
    /// Whether a side that is filled has all of its folders, so that it is treated as the others are.
    fn is_even(&self, side: &Side) -> bool {
        side.tally.even.load(Ordering::Acquire) || Canary::SpeakEarly.planted(self.canary)
    }

    /// Whether a file of a side is written now; if not, it is copied there later.
    fn takes(&self, side: &Side, whole: bool, folder: &str, file: &str) -> bool {
        if whole || self.is_even(side) {
            return true;
        }
        side.tally.unflushed.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned());
        !speaks(folder, file) && !Canary::CopyBlind.planted(self.canary)
    }
}

impl MirroredFolder {
    pub fn new(mirrored: &Arc<Mirrored>, name: &str) -> Self {
        Self { mirrored: Arc::clone(mirrored), name: name.to_owned() }
    }

    /// The first answer of a side that is whole.
    fn first<T>(&self, ask: impl Fn(&dyn Folder) -> io::Result<T>) -> io::Result<T> {
        let mut refused = None;
        for (side, _) in self.mirrored.set().whole() {
            match ask(&*side.site.folder(&self.name)) {
                Ok(answer) => return Ok(answer),
                Err(e) => {
                    refused.get_or_insert(e);
                }
            }
        }
        Err(refused.unwrap_or_else(|| io::Error::other("no side is whole")))
    }

    /// What is in the folder of each side that is whole and can be read.
    fn names_of(&self, set: &Set) -> io::Result<Vec<(u32, BTreeSet<String>)>> {
        let (mut all, mut refused) = (Vec::new(), None);
        for (side, _) in set.whole() {
            match side.site.folder(&self.name).names() {
                Ok(names) => all.push((side.number, names.into_iter().collect())),
                Err(e) if is_none(&e) => {
                    refused.get_or_insert(e);
                    all.push((side.number, BTreeSet::new()));
                }
                Err(e) => refused = Some(e),
            }
        }
        match refused {
            Some(e) if all.iter().all(|(_, names)| names.is_empty()) => Err(e),
            _ => Ok(all),
        }
    }

    /// Does `what` to the folder of every side that takes `file`; those where it fails go away, unless it fails on all that are whole.
    fn each(&self, file: Option<&str>, what: impl Fn(&dyn Folder) -> io::Result<()>) -> io::Result<()> {
        let set = self.mirrored.set();
        let takes = |(side, whole): &(&Side, bool)| match file {
            Some(file) => self.mirrored.takes(side, *whole, &self.name, file),
            None => *whole || self.mirrored.is_even(side),
        };
        let done = written(&set).filter(takes).map(|(side, _)| (side.number, what(&*side.site.folder(&self.name))));
        let failed: Vec<Failed> = done.filter_map(|(number, done)| Some((number, done.err()?))).collect();
        self.mirrored.judge(&set, failed)
    }
}

impl Folder for MirroredFolder {
    /// All that any side has: what one has lost is found on another.
    fn names(&self) -> io::Result<Vec<String>> {
        let all = self.names_of(&self.mirrored.set())?;
        Ok(all.into_iter().flat_map(|(_, names)| names).collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let (mirrored, folder, name) = (Arc::clone(&self.mirrored), self.name.clone(), name.to_owned());
        let file = MirroredFile { mirrored, folder, name, disks: Mutex::default() };
        // Who has it open keeps it, also when the name goes.
        let (set, mut refused, mut lens) = (self.mirrored.set(), None, BTreeSet::new());
        for (side, whole) in written(&set) {
            match file.disk(side).and_then(|disk| disk.len()) {
                Ok(len) if whole => drop(lens.insert(Some(len))),
                Err(e) if whole => {
                    lens.extend(is_none(&e).then_some(None));
                    refused.get_or_insert(e);
                }
                _ => {}
            }
        }
        if !lens.iter().any(Option::is_some) {
            return Err(refused.unwrap_or_else(|| io::Error::other("no side is whole")));
        }
        if lens.len() > 1 && !self.mirrored.read_only {
            restore(&self.mirrored, &file.folder, &file.name)?;
        }
        Ok(Arc::new(file))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn Disk>> {
        let set = self.mirrored.set();
        let (gate, mut failed, mut made) = (self.mirrored.gate(), Vec::new(), 0);
        for (side, whole) in written(&set) {
            if !self.mirrored.takes(side, whole, &self.name, name) {
                continue;
            }
            let folder = side.site.folder(&self.name);
            match folder.create(name, len) {
                Ok(_) => made += 1,
                // Left over on this side alone.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && made > 0 => {
                    let again = folder.remove(name).and_then(|()| folder.create(name, len));
                    failed.extend(again.err().map(|e| (side.number, e)));
                }
                Err(e) => failed.push((side.number, e)),
            }
        }
        self.mirrored.judge(&set, failed)?;
        drop(gate);
        self.open(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let there = self.first(|folder| folder.open(name)).map(drop);
        let _gate = self.mirrored.gate();
        self.each(Some(name), |folder| match folder.remove(name) {
            Err(e) if is_none(&e) && there.is_ok() => Ok(()),
            other => other,
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.each(None, |folder| folder.sync())
    }
}

/// A side's file; and how often the side had come back, and files anew, when it was opened.
type Opened = ((u64, u64), Arc<dyn Disk>);

/// A file of all sides.
struct MirroredFile {
    mirrored: Arc<Mirrored>,
    folder: String,
    name: String,
    disks: Mutex<BTreeMap<u32, Opened>>,
}

impl MirroredFile {
    fn disk(&self, side: &Side) -> io::Result<Arc<dyn Disk>> {
        let now = (side.turn, self.mirrored.remade.load(Ordering::Acquire));
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let known = disks.get(&side.number).cloned().filter(|((turn, _), _)| *turn == side.turn);
        if let Some((then, disk)) = &known
            && *then == now
        {
            return Ok(Arc::clone(disk));
        }
        match (side.site.folder(&self.folder).open(&self.name), known) {
            (Err(e), Some((_, disk))) if is_none(&e) && matches!(side.state, State::Whole(_)) => {
                disks.insert(side.number, (now, Arc::clone(&disk)));
                Ok(disk)
            }
            (opened, _) => {
                let disk = opened?;
                disks.insert(side.number, (now, Arc::clone(&disk)));
                Ok(disk)
            }
        }
    }

    /// Does `what` to the file of every side that takes it.
    fn each(&self, what: impl Fn(&dyn Disk) -> io::Result<()>) -> io::Result<()> {
        self.each_that(|side, whole| self.mirrored.takes(side, whole, &self.folder, &self.name), what)
    }

    fn each_that(
        &self,
        that: impl Fn(&Side, bool) -> bool,
        what: impl Fn(&dyn Disk) -> io::Result<()>,
    ) -> io::Result<()> {
        let set = self.mirrored.set();
        let mut failed = Vec::new();
        for (side, whole) in written(&set).filter(|(side, whole)| that(side, *whole)) {
            match self.disk(side).and_then(|disk| what(&*disk)) {
                // It is copied there later.
                Err(e) if !whole && is_none(&e) => {}
                done => failed.extend(done.err().map(|e| (side.number, e))),
            }
        }
        self.mirrored.judge(&set, failed)
    }

    fn first<T>(&self, mut ask: impl FnMut(&dyn Disk) -> io::Result<T>) -> io::Result<T> {
        let mut refused = None;
        for (side, _) in self.mirrored.set().whole() {
            match self.disk(side).and_then(|disk| ask(&*disk)) {
                Ok(answer) => return Ok(answer),
                Err(e) => {
                    refused.get_or_insert(e);
                }
            }
        }
        Err(refused.unwrap_or_else(|| io::Error::other("no side is whole")))
    }
}

impl Disk for MirroredFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.first(|disk| disk.read_at(offset, out))
    }

    fn write_at(&self, offset: u64, data: DiskBuf) -> io::Result<()> {
        let _gate = self.mirrored.gate();
        self.each(|disk| disk.write_at(offset, self.mirrored.copied(&data)?))
    }

    fn drain(&self) -> io::Result<()> {
        self.each(|disk| disk.drain())
    }

    /// A side that is being filled is flushed by who fills it: an append does not wait for that.
    fn flush(&self) -> io::Result<()> {
        self.each_that(|side, whole| whole || self.mirrored.is_even(side), |disk| disk.flush())
    }

    fn len(&self) -> io::Result<u64> {
        let set = self.mirrored.set();
        let lens = set.whole().filter_map(|(side, _)| self.disk(side).and_then(|disk| disk.len()).ok());
        lens.max().map_or_else(|| self.first(|disk| disk.len()), Ok)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.each(|disk| disk.set_len(len))
    }

    fn capacity(&self) -> io::Result<u64> {
        self.first(|disk| disk.capacity())
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.each(|disk| disk.preallocate(offset, len))
    }

    fn copies(&self) -> Vec<u32> {
        self.mirrored.copies()
    }

    fn read_copy(&self, copy: u32, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.mirrored.set().side(copy) {
            Some(side) if matches!(side.state, State::Whole(_)) => self.disk(side)?.read_at(offset, out),
            _ => Err(io::Error::other("this side is away")),
        }
    }

    fn write_copy(&self, copy: u32, offset: u64, data: DiskBuf) -> io::Result<()> {
        let _gate = self.mirrored.gate();
        let set = self.mirrored.set();
        let Some(side) = set.side(copy).filter(|side| matches!(side.state, State::Whole(_))) else { return Ok(()) };
        if self.mirrored.read_only {
            return Ok(());
        }
        let pages = data.len().div_ceil(PAGE_SIZE) as u64;
        match self.disk(side).and_then(|disk| disk.write_at(offset, data).and_then(|()| disk.flush())) {
            Ok(()) => {
                side.tally.mended.fetch_add(pages, Ordering::Relaxed);
                tracing::debug!("byte {offset} of {} in {} was rotten, and is written anew", self.name, side.place);
                Ok(())
            }
            Err(e) => self.mirrored.judge(&set, vec![(copy, e)]),
        }
    }

    fn mend(&self, offset: u64, out: &mut [u8], holds: &dyn Fn(&[u8]) -> bool) -> Option<u32> {
        let _gate = self.mirrored.gate();
        let set = self.mirrored.set();
        let disks = set.whole().map(|(side, _)| (side, self.disk(side))).collect();
        self.mirrored.mend_among(&set, disks, offset, out, holds, &self.name)
    }
}

/// Brings a file to sides that are whole and have lost it, or the end of it.
fn restore(mirrored: &Arc<Mirrored>, folder: &str, name: &str) -> io::Result<()> {
    let set = mirrored.set();
    let given = set.whole().map(|(side, _)| (side.number, give(mirrored, &set, side, folder, name)));
    let failed = given.filter_map(|(number, given)| Some((number, given.err()?))).collect();
    mirrored.judge(&set, failed)
}

/// Copies to a side what it has not of a file and another side has.
fn give(mirrored: &Mirrored, set: &Set, side: &Side, folder: &str, name: &str) -> io::Result<()> {
    let to = side.site.folder(folder);
    let mut from = None;
    loop {
        // Nobody writes, makes or removes meanwhile.
        let _gate = mirrored.gate();
        let others = set.whole().filter(|(other, _)| other.number != side.number);
        let opened = others.filter_map(|(other, _)| other.site.folder(folder).open(name).ok());
        let Some((len, source)) = opened.filter_map(|disk| Some((disk.len().ok()?, disk))).max_by_key(|(len, _)| *len)
        else {
            return Ok(());
        };
        let target = match to.open(name) {
            Err(e) if is_none(&e) => {
                tracing::warn!("{folder}/{name} in {} is gone, and is made anew", side.place);
                let made = to.create(name, len)?;
                from = Some(0);
                mirrored.remade.fetch_add(1, Ordering::AcqRel);
                made
            }
            target => target?,
        };
        let have = target.len()?;
        let at = from.unwrap_or(have / PAGE_SIZE as u64 * PAGE_SIZE as u64);
        if at >= len {
            if from.is_some() {
                target.flush()?;
                to.sync()?;
            }
            return Ok(());
        }
        if have < len {
            target.set_len(len)?;
        }
        let count = copy_some(mirrored, &*source, &*target, at, len)?;
        side.tally.mended.fetch_add(count / PAGE_SIZE as u64, Ordering::Relaxed);
        from = Some(at + count);
    }
}

/// Copies a buffer full, up to `len`; says how many bytes.
fn copy_some(mirrored: &Mirrored, source: &dyn Disk, target: &dyn Disk, at: u64, len: u64) -> io::Result<u64> {
    let mut bytes = vec![0; to_usize((len - at).min(BUFFER_LEN as u64))];
    match source.read_at(at, &mut bytes) {
        // What cannot be read is left as zeros: its reader tells what is missing.
        Err(e) if by_medium(&e) => {
            for (page, offset) in bytes.chunks_mut(PAGE_SIZE).zip((at..).step_by(PAGE_SIZE)) {
                match source.read_at(offset, page) {
                    Err(e) if by_medium(&e) => page.fill(0),
                    read => read?,
                }
            }
        }
        read => read?,
    }
    let mut buffer = mirrored.buffer()?;
    buffer.extend(&bytes);
    target.write_at(at, buffer)?;
    Ok(bytes.len() as u64)
}

/// Brings files to sides that are whole and have lost them.
pub(super) fn look_after(mirrored: &Arc<Mirrored>) -> io::Result<()> {
    for (name, _) in FOLDERS {
        let set = mirrored.set();
        let folder = MirroredFolder::new(mirrored, name);
        let all = {
            let _gate = mirrored.gate();
            match folder.names_of(&set) {
                Err(e) if is_none(&e) => continue,
                all => all?,
            }
        };
        let names: BTreeSet<&String> = all.iter().flat_map(|(_, names)| names).collect();
        for file in names {
            if !all.iter().all(|(_, names)| names.contains(file)) {
                restore(mirrored, name, file)?;
            }
        }
    }
    Ok(())
}

/// What of the folders a side keeps that begins to be filled; the rest goes. It is written already.
pub(super) fn keep(mirrored: &Arc<Mirrored>, number: u32, kept: Kept<'_>) -> io::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for (name, speaks) in FOLDERS {
        let folder = folder_of(mirrored, number, name)?;
        let from = MirroredFolder::new(mirrored, name);
        let keeps: BTreeSet<String> = kept(&*folder, &from).into_iter().collect();
        let _gate = mirrored.gate();
        let there = match folder.names() {
            Err(e) if is_none(&e) => continue,
            names => names?,
        };
        for file in there.iter().filter(|file| *file != speaks && !keeps.contains(*file)) {
            folder.remove(file)?;
        }
        folder.sync()?;
        mirrored.remade.fetch_add(1, Ordering::AcqRel);
        all.extend(keeps);
    }
    Ok(all)
}

fn folder_of(mirrored: &Mirrored, number: u32, name: &str) -> io::Result<Arc<dyn Folder>> {
    let set = mirrored.set();
    let side = set.side(number).ok_or(io::ErrorKind::NotFound)?;
    Ok(side.site.folder(name))
}

/// Copies the folders to a side that is being filled, but for what it keeps; `pace` is told of each stretch.
pub(super) fn copy(
    mirrored: &Arc<Mirrored>,
    number: u32,
    kept: &BTreeSet<String>,
    pace: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    for (name, speaks) in FOLDERS {
        let from = MirroredFolder::new(mirrored, name);
        let names = match from.names() {
            Err(e) if is_none(&e) => continue,
            names => names?,
        };
        for file in names.iter().filter(|file| *file != speaks && !kept.contains(*file)) {
            let source = match from.open(file) {
                // It went meanwhile.
                Err(e) if is_none(&e) => continue,
                source => source?,
            };
            let len = source.len()?;
            let mut at = 0;
            while at < len {
                let gate = mirrored.gate();
                match from.first(|folder| folder.open(file)) {
                    Err(e) if is_none(&e) => break,
                    there => drop(there?),
                }
                let folder = folder_of(mirrored, number, name)?;
                let target = match folder.open(file) {
                    Err(e) if is_none(&e) => folder.create(file, len)?,
                    target => target?,
                };
                let count = copy_some(mirrored, &*source, &*target, at, len)?;
                drop(gate);
                at += count;
                if at == len {
                    target.flush()?;
                }
                pace(count)?;
            }
        }
        finish(mirrored, number, &from, speaks)?;
    }
    let set = mirrored.set();
    let side = set.side(number).ok_or(io::ErrorKind::NotFound)?;
    side.tally.even.store(true, Ordering::Release);
    Ok(())
}

/// Makes durable on a side what was written to it meanwhile, and then gives it the file that speaks of the others.
fn finish(mirrored: &Arc<Mirrored>, number: u32, from: &MirroredFolder, speaks: &str) -> io::Result<()> {
    let folder = folder_of(mirrored, number, &from.name)?;
    let set = mirrored.set();
    let side = set.side(number).ok_or(io::ErrorKind::NotFound)?;
    // To be called by who holds the gate: what is noted there is written then.
    let take = || std::mem::take(&mut *side.tally.unflushed.lock().unwrap_or_else(PoisonError::into_inner));
    let flush = |files: BTreeSet<String>| -> io::Result<()> {
        for file in files.iter().filter(|file| *file != speaks) {
            match folder.open(file) {
                Err(e) if is_none(&e) => {}
                disk => disk?.flush()?,
            }
        }
        Ok(())
    };
    // Most of it beside the appends.
    let files = {
        let _gate = mirrored.gate();
        take()
    };
    flush(files)?;
    let source = match from.open(speaks) {
        Err(e) if is_none(&e) => return Ok(()),
        source => source?,
    };
    let _gate = mirrored.gate();
    flush(take())?;
    folder.sync()?;
    let len = source.len()?;
    let target = match folder.open(speaks) {
        Err(e) if is_none(&e) => folder.create(speaks, len)?,
        target => target?,
    };
    let mut at = 0;
    while at < len {
        at += copy_some(mirrored, &*source, &*target, at, len)?;
    }
    target.flush()?;
    folder.sync()?;
    side.tally.even.store(true, Ordering::Release);
    Ok(())
}
