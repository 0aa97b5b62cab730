//! A simulated folder: its disks are stretches of one simulated disk, so that one plan of failures and one loss of power is for all.

use super::{SimDisk, SimRng};
use crate::PAGE_SIZE;
use crate::disk::{Disk, DiskBuf};
use crate::folder::Folder;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes between the starts of two disks.
const STRETCH: u64 = 1 << 32;

/// Where a disk lies, and its length.
type Place = (u64, u64);

#[derive(Default)]
struct Names {
    live: BTreeMap<String, Place>,
    durable: BTreeMap<String, Place>,
    next: u64,
}

/// A folder in memory that misbehaves as its [`SimFolder::disk`] is told to.
pub struct SimFolder {
    disk: Arc<SimDisk>,
    names: Mutex<Names>,
}

impl SimFolder {
    /// An empty folder that obeys.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let disk = SimDisk::new();
        disk.truncate(u64::MAX);
        Arc::new(Self { disk, names: Mutex::default() })
    }

    /// An empty folder at the same power as `disk`.
    #[must_use]
    pub fn beside(disk: &SimDisk) -> Arc<Self> {
        let disk = disk.beside();
        disk.truncate(u64::MAX);
        Arc::new(Self { disk, names: Mutex::default() })
    }

    /// What all its disks lie on: failures, lies and rot are planned there.
    #[must_use]
    pub fn disk(&self) -> &Arc<SimDisk> {
        &self.disk
    }

    /// As [`SimDisk::power_cycle`]; names that were not synced are kept or lost, each by itself.
    pub fn power_cycle(&self, rng: &mut SimRng) {
        self.disk.power_cycle(rng);
        let mut names = self.lock();
        let all: Vec<String> = names.live.keys().chain(names.durable.keys()).cloned().collect();
        for name in all {
            if names.live.get(&name) == names.durable.get(&name) {
                continue;
            }
            let stands = if rng.one_in(2) { names.live.get(&name) } else { names.durable.get(&name) };
            match stands.copied() {
                Some(place) => names.durable.insert(name, place),
                None => names.durable.remove(&name),
            };
        }
        names.live = names.durable.clone();
    }

    /// Loses a name at rest, as somebody who deletes a file does; says whether there was one.
    pub fn delete(&self, name: &str) -> bool {
        let mut names = self.lock();
        names.durable.remove(name);
        names.live.remove(name).is_some()
    }

    /// The pages of the simulated disk that hold something of the file `name`.
    #[must_use]
    pub fn written_pages(&self, name: &str) -> Vec<u64> {
        let place = self.lock().live.get(name).copied();
        let of = |page: &u64| place.is_some_and(|(base, len)| (base..base + len).contains(&(page * PAGE_SIZE as u64)));
        self.disk.written_pages().into_iter().filter(of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder for SimFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.drain()?;
        Ok(self.lock().live.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.disk.drain()?;
        let (base, len) = self.lock().live.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: Arc::clone(&self.disk), base, len }))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn Disk>> {
        assert!(len <= STRETCH, "a simulated disk has at most 4 GiB");
        self.disk.drain()?;
        let mut names = self.lock();
        if names.live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let base = names.next * STRETCH;
        names.next += 1;
        names.live.insert(name.to_owned(), (base, len));
        Ok(Arc::new(SimFile { disk: Arc::clone(&self.disk), base, len }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.drain()?;
        self.lock().live.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.drain()?;
        let mut names = self.lock();
        names.durable = names.live.clone();
        Ok(())
    }
}

struct SimFile {
    disk: Arc<SimDisk>,
    base: u64,
    len: u64,
}

impl SimFile {
    fn within(&self, offset: u64, len: usize) -> io::Result<u64> {
        if offset + len as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.base + offset)
    }
}

impl Disk for SimFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(self.within(offset, out.len())?, out)
    }

    fn write_at(&self, offset: u64, data: DiskBuf) -> io::Result<()> {
        self.disk.write_at(self.within(offset, data.len())?, data)
    }

    fn drain(&self) -> io::Result<()> {
        self.disk.drain()
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush_within(self.base..self.base + STRETCH)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn preallocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
