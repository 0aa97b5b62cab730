//! Sides of a mirrored store on simulated disks.

use super::{SimDisk, SimFolder};
use crate::disk::Disk;
use crate::error::Error;
use crate::file::IoKind;
use crate::folder::Folder;
use crate::mirror::{Site, Sites};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A simulated disk, and what is noted beside it.
pub struct SimSide {
    disk: Arc<SimDisk>,
    folder: Arc<SimFolder>,
    notes: Mutex<BTreeMap<String, String>>,
}

impl SimSide {
    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &Arc<SimDisk> {
        &self.disk
    }

    /// The folder beside it, on a disk of its own at the same power.
    #[must_use]
    pub fn files(&self) -> &Arc<SimFolder> {
        &self.folder
    }

    /// What a small file says, whether or not the disk is there.
    #[must_use]
    pub fn noted(&self, name: &str) -> Option<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl Site for SimSide {
    fn lock(&self) -> Result<(), Error> {
        Ok(())
    }

    fn open(&self) -> Result<(Arc<dyn Disk>, IoKind), Error> {
        self.disk.len().map_err(|e| Error::io("open a side", e))?;
        Ok((Arc::clone(&self.disk) as Arc<dyn Disk>, IoKind::Custom))
    }

    fn make(&self, len: u64) -> Result<(), Error> {
        let failed = |e| Error::io("make a side", e);
        if self.disk.len().map_err(failed)? < len { self.disk.set_len(len).map_err(failed) } else { Ok(()) }
    }

    fn folder(&self, _name: &str) -> Arc<dyn Folder> {
        Arc::clone(&self.folder) as Arc<dyn Folder>
    }

    fn note(&self, name: &str) -> io::Result<Option<String>> {
        self.disk.len()?;
        Ok(self.noted(name))
    }

    fn keep(&self, name: &str, text: Option<&str>) -> Result<(), Error> {
        let done = self.disk.drain();
        // Whether a replacement that failed was made after all is as good as random.
        if done.is_ok() || !self.disk.is_gone() && self.disk.calls().is_multiple_of(2) {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            match text {
                Some(text) => notes.insert(name.to_owned(), text.to_owned()),
                None => notes.remove(name),
            };
        }
        done.map_err(|e| Error::io(format!("write the file {name}"), e))
    }
}

/// The sides of one store, at one power.
pub struct SimSides {
    sides: BTreeMap<String, Arc<SimSide>>,
}

impl SimSides {
    /// So many, named by their numbers.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        let first = SimDisk::new();
        let disks = (0..count).map(|i| if i == 0 { Arc::clone(&first) } else { first.beside() });
        let side = |disk: Arc<SimDisk>| {
            let folder = SimFolder::beside(&disk);
            Arc::new(SimSide { disk, folder, notes: Mutex::default() })
        };
        let sides = disks.enumerate().map(|(i, disk)| (i.to_string(), side(disk))).collect();
        Arc::new(Self { sides })
    }

    /// A side.
    ///
    /// # Panics
    /// There is none of that name.
    #[must_use]
    pub fn side(&self, name: &str) -> &Arc<SimSide> {
        &self.sides[name]
    }

    /// All of them, with their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Arc<SimSide>)> {
        self.sides.iter().map(|(name, side)| (&**name, side))
    }
}

impl Sites for SimSides {
    fn at(&self, place: &str) -> Arc<dyn Site> {
        Arc::clone(self.side(place)) as Arc<dyn Site>
    }
}
