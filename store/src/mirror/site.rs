//! A place where a side lies.

use crate::directory::{self, Lock, NEW_FILE, PAGES_FILE};
use crate::disk::Disk;
use crate::error::Error;
use crate::file::{FileDisk, IoChoice, IoKind};
use crate::folder::{DirFolder, Folder};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file of a side that says which others there are.
pub const MIRRORS_FILE: &str = "mirrors";

/// A side's disk and what is noted beside it. `DirSite` is a directory; the simulated one fails with its disk.
pub trait Site: Send + Sync {
    /// Keeps others from opening it for writing, until all who know it are dropped.
    ///
    /// # Errors
    /// [`Error::InUse`], what the host says.
    fn lock(&self) -> Result<(), Error>;

    /// Opens the pages, and says how they are written.
    ///
    /// # Errors
    /// [`Error::Missing`], what the host says.
    fn open(&self) -> Result<(Arc<dyn Disk>, IoKind), Error>;

    /// Makes the pages if there are none, with zeros, and `len` bytes long if they are shorter.
    ///
    /// # Errors
    /// What the host says.
    fn make(&self, len: u64) -> Result<(), Error>;

    /// The small file `name`, if it is there.
    ///
    /// # Errors
    /// What the host says.
    fn note(&self, name: &str) -> io::Result<Option<String>>;

    /// Replaces a small file as a whole, durably; none: removes it.
    ///
    /// # Errors
    /// What the host says.
    fn keep(&self, name: &str, text: Option<&str>) -> Result<(), Error>;

    /// The folder `name` beside the pages.
    fn folder(&self, name: &str) -> Arc<dyn Folder>;

    /// Whether what was opened is still there, under its name: what is written to a file that was removed is lost.
    ///
    /// # Errors
    /// It is not.
    fn stands(&self) -> io::Result<()> {
        Ok(())
    }

    /// Its directory, if it lies in one.
    fn dir(&self) -> Option<&Path> {
        None
    }
}

/// From the place of a side, as the record names it, to the side.
pub trait Sites: Send + Sync {
    /// The side there, the same one each time.
    fn at(&self, place: &str) -> Arc<dyn Site>;
}

/// Sides in directories.
#[derive(Default)]
pub(crate) struct Dirs {
    io: IoChoice,
    read_only: bool,
    known: Mutex<BTreeMap<String, Arc<DirSite>>>,
}

impl Dirs {
    pub fn new(io: IoChoice, read_only: bool) -> Arc<Self> {
        Arc::new(Self { io, read_only, known: Mutex::default() })
    }
}

impl Sites for Dirs {
    fn at(&self, place: &str) -> Arc<dyn Site> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let site = known.entry(place.to_owned()).or_insert_with(|| {
            let (dir, io, read_only) = (PathBuf::from(place), self.io, self.read_only);
            Arc::new(DirSite { dir, io, read_only, lock: Mutex::new(None), opened: Mutex::new(None) })
        });
        Arc::clone(site) as Arc<dyn Site>
    }
}

/// A side in a directory.
pub(crate) struct DirSite {
    dir: PathBuf,
    io: IoChoice,
    read_only: bool,
    lock: Mutex<Option<Lock>>,
    /// Device and number of the file that was opened.
    opened: Mutex<Option<(u64, u64)>>,
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn node(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Site for DirSite {
    fn lock(&self) -> Result<(), Error> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            *lock = Some(directory::lock(&self.dir)?);
        }
        Ok(())
    }

    fn open(&self) -> Result<(Arc<dyn Disk>, IoKind), Error> {
        let path = directory::pages(&self.dir)?;
        let disk = if self.read_only { FileDisk::open_read_only(&path) } else { FileDisk::open(&path, self.io) };
        let disk = disk.map_err(|e| Error::io(format!("open {}", path.display()), e))?;
        let kind = disk.kind();
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = node(&path).ok();
        Ok((Arc::new(disk), kind))
    }

    fn make(&self, len: u64) -> Result<(), Error> {
        let path = self.dir.join(PAGES_FILE);
        let made = || -> io::Result<()> {
            if path.symlink_metadata().is_err() {
                let new = self.dir.join(NEW_FILE);
                File::create(&new)?.set_len(len)?;
                fs::rename(&new, &path)?;
            }
            let there = fs::metadata(&path)?;
            if there.is_file() && there.len() < len {
                File::options().write(true).open(&path)?.set_len(len)?;
            }
            File::open(&self.dir)?.sync_all()
        };
        made().map_err(|e| Error::io(format!("make {}", path.display()), e))
    }

    fn note(&self, name: &str) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        match File::open(self.dir.join(name)) {
            // A byte that is none of a text spoils its line, and no other.
            Ok(file) => file.take(super::record::LONGEST).read_to_end(&mut bytes).map(|_| Some(lossy(&bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // The directory itself has to be there, for this to say something.
                fs::metadata(&self.dir).map(|_| None)
            }
            Err(e) => Err(e),
        }
    }

    fn keep(&self, name: &str, text: Option<&str>) -> Result<(), Error> {
        match text {
            Some(text) => directory::replace(&self.dir, name, text),
            None => match fs::remove_file(self.dir.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    Err(Error::io(format!("remove {name} in {}", self.dir.display()), e))
                }
                _ => Ok(()),
            },
        }
    }

    fn folder(&self, name: &str) -> Arc<dyn Folder> {
        let dir = self.dir.join(name);
        Arc::new(if self.read_only { DirFolder::read_only(&dir) } else { DirFolder::new(&dir) })
    }

    fn stands(&self) -> io::Result<()> {
        let found = node(&self.dir.join(PAGES_FILE))?;
        match *self.opened.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(opened) if opened != found => Err(io::Error::other("another file lies there now")),
            _ => Ok(()),
        }
    }

    fn dir(&self) -> Option<&Path> {
        Some(&self.dir)
    }
}
