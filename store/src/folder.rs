//! The only road to many files: what a journal keeps its segments in.

use crate::disk::Disk;
use crate::file::{FileDisk, IoChoice};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Zeros that a new file is filled with at once.
const FILL: usize = 1 << 20;

/// Named disks that come and go. [`DirFolder`] is a directory of files; the simulated one also loses and brings back names.
///
/// A name that was made or removed may be there or not after a crash until [`Folder::sync`] has returned `Ok`.
pub trait Folder: Send + Sync {
    /// The names in it, in order.
    ///
    /// # Errors
    /// What the host says; no such folder is one of its errors.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens the disk of this name.
    ///
    /// # Errors
    /// What the host says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Disk>>;

    /// Makes a disk of `len` bytes of zeros, all of which the host has given and written: to overwrite them changes nothing but them.
    /// Nothing is left of one that cannot be made.
    ///
    /// # Errors
    /// The host has no space, the name is taken, what else it says.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn Disk>>;

    /// Removes a name. Whoever has the disk open keeps it.
    ///
    /// # Errors
    /// What the host says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until names that were made and removed are durable.
    ///
    /// # Errors
    /// What the host says; nothing may be relied on then.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of files.
#[derive(Clone, Debug)]
pub struct DirFolder {
    dir: PathBuf,
    read_only: bool,
}

impl DirFolder {
    /// The directory `dir`, which is made with the first [`Folder::create`] if it is not there.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), read_only: false }
    }

    /// The directory `dir`, to look at.
    #[must_use]
    pub fn read_only(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), read_only: true }
    }

    fn fill(path: &Path, len: u64) -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).open(path)?;
        let zeros = vec![0; FILL];
        let mut left = len;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(FILL).min(FILL);
            file.write_all(&zeros[..now])?;
            left -= now as u64;
        }
        file.sync_all()
    }
}

impl Folder for DirFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let path = self.dir.join(name);
        let disk =
            if self.read_only { FileDisk::open_read_only(&path)? } else { FileDisk::open(&path, IoChoice::Plain)? };
        Ok(Arc::new(disk))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn Disk>> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        match fs::create_dir(&self.dir) {
            Ok(()) => self.dir.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        let path = self.dir.join(name);
        match Self::fill(&path, len) {
            Ok(()) => self.open(name),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
            Err(e) => {
                // Half a file would take the space that was missing.
                let _ = fs::remove_file(&path);
                Err(e)
            }
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        fs::remove_file(self.dir.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}
