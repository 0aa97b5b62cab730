//! A folder beside the pages, with the same files on every side: the journal's.
//!
//! Of a file that is being copied to a side that is filled, what is written meanwhile goes to the side as far as the file is there already; the rest
//! is copied later, as no write is under way.

use super::set::{Failed, Mirrored, Set, Side, State};
use crate::disk::{BUFFER_LEN, Disk, DiskBuf};
use crate::folder::Folder;
use crate::width::to_usize;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Folders that every side has.
pub(super) const FOLDERS: [&str; 1] = ["journal"];

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

    /// Does `what` to the folder of every side; those where it fails go away, unless it fails on all that are whole.
    fn each(&self, what: impl Fn(&dyn Folder) -> io::Result<()>) -> io::Result<()> {
        let set = self.mirrored.set();
        let done = written(&set).map(|(side, _)| (side.number, what(&*side.site.folder(&self.name))));
        let failed: Vec<Failed> = done.filter_map(|(number, done)| Some((number, done.err()?))).collect();
        self.mirrored.judge(&set, failed)
    }
}

impl Folder for MirroredFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        self.first(|folder| folder.names())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        // There has to be one.
        self.first(|folder| folder.open(name))?;
        let (mirrored, folder, name) = (Arc::clone(&self.mirrored), self.name.clone(), name.to_owned());
        let file = MirroredFile { mirrored, folder, name, disks: Mutex::default() };
        // Who has it open keeps it, also when the name goes.
        let set = self.mirrored.set();
        written(&set).for_each(|(side, _)| drop(file.disk(side)));
        Ok(Arc::new(file))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn Disk>> {
        let set = self.mirrored.set();
        let (gate, mut failed, mut made) = (self.mirrored.gate(), Vec::new(), 0);
        for (side, _) in written(&set) {
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
        self.each(|folder| match folder.remove(name) {
            Err(e) if is_none(&e) && there.is_ok() => Ok(()),
            other => other,
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.each(|folder| folder.sync())
    }
}

/// A side's file, and how often the side had come back when it was opened.
type Opened = (u64, Arc<dyn Disk>);

/// A file of all sides.
struct MirroredFile {
    mirrored: Arc<Mirrored>,
    folder: String,
    name: String,
    disks: Mutex<BTreeMap<u32, Opened>>,
}

impl MirroredFile {
    fn disk(&self, side: &Side) -> io::Result<Arc<dyn Disk>> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((turn, disk)) = disks.get(&side.number)
            && *turn == side.turn
        {
            return Ok(Arc::clone(disk));
        }
        let disk = side.site.folder(&self.folder).open(&self.name)?;
        disks.insert(side.number, (side.turn, Arc::clone(&disk)));
        Ok(disk)
    }

    fn each(&self, what: impl Fn(&dyn Disk) -> io::Result<()>) -> io::Result<()> {
        let set = self.mirrored.set();
        let mut failed = Vec::new();
        for (side, whole) in written(&set) {
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

    fn flush(&self) -> io::Result<()> {
        self.each(|disk| disk.flush())
    }

    fn len(&self) -> io::Result<u64> {
        self.first(|disk| disk.len())
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
}

/// Empties the folders of a side that is to be filled. (That they are whole up to some point is not known of it.)
pub(super) fn empty(side: &Side) -> io::Result<()> {
    for folder in FOLDERS.map(|name| side.site.folder(name)) {
        let names = match folder.names() {
            Err(e) if is_none(&e) => continue,
            names => names?,
        };
        names.iter().try_for_each(|name| folder.remove(name))?;
        folder.sync()?;
    }
    Ok(())
}

/// Copies the folders to a side that is being filled; `pace` is told of each stretch.
pub(super) fn copy(
    mirrored: &Arc<Mirrored>,
    number: u32,
    pace: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    for name in FOLDERS {
        let from = MirroredFolder::new(mirrored, name);
        let names = match from.names() {
            Err(e) if is_none(&e) => continue,
            names => names?,
        };
        let to = |set: &Set| set.side(number).map(|side| side.site.folder(name)).ok_or(io::ErrorKind::NotFound);
        for file in &names {
            let source = match from.open(file) {
                // It went meanwhile.
                Err(e) if is_none(&e) => continue,
                source => source?,
            };
            let len = source.len()?;
            for offset in (0..len).step_by(BUFFER_LEN) {
                let set = mirrored.set();
                let folder = to(&set)?;
                let gate = mirrored.gate();
                if from.first(|folder| folder.open(file)).is_err() {
                    break;
                }
                let target = match folder.open(file) {
                    Err(e) if is_none(&e) => folder.create(file, len)?,
                    target => target?,
                };
                let mut bytes = vec![0; to_usize((len - offset).min(BUFFER_LEN as u64))];
                source.read_at(offset, &mut bytes)?;
                let mut buffer = mirrored.buffer()?;
                buffer.extend(&bytes);
                target.write_at(offset, buffer)?;
                drop(gate);
                if offset + bytes.len() as u64 == len {
                    target.flush()?;
                }
                pace(bytes.len() as u64)?;
            }
        }
        let folder = to(&mirrored.set())?;
        if !names.is_empty() {
            folder.sync()?;
        }
    }
    Ok(())
}
