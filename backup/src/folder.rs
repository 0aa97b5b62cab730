//! A directory of files as a destination.

use crate::destination::{Destination, Entry, Lock, NewFile};
use crate::error::Error;
use semper_store::start_writeback;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How the name of a file ends until it is complete.
pub const PARTIAL: &str = ".partial";

/// Bytes that are written before the host is told to begin with them.
const STRETCH: u64 = 8 << 20;

/// A directory. Files are written under another name, flushed and renamed.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The directory at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The directory in which a file lies, and its name there.
    ///
    /// # Errors
    /// [`Error::BadPlace`] if `file` ends in no name.
    pub fn of(file: &Path) -> Result<(Self, String), Error> {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let why = "it has no file name".to_owned();
        let name = name.ok_or_else(|| Error::BadPlace { place: file.display().to_string(), why })?;
        Ok((Self::new(file.parent().unwrap_or(Path::new(""))), name))
    }

    /// What the system calls it.
    fn dir(&self) -> &Path {
        if self.path.as_os_str().is_empty() { Path::new(".") } else { &self.path }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn flush(&self) -> Result<(), Error> {
        File::open(self.dir()).and_then(|dir| dir.sync_all()).map_err(Error::at("flush", self.dir()))
    }
}

impl Destination for Folder {
    fn shown(&self, name: &str) -> String {
        if name.is_empty() { self.path.display().to_string() } else { self.at(name).display().to_string() }
    }

    fn make(&self) -> Result<(), Error> {
        fs::create_dir_all(self.dir()).map_err(Error::at("create", self.dir()))
    }

    fn identity(&self) -> Result<Option<(u64, u64)>, Error> {
        let found = self.dir().metadata().map_err(Error::at("look at", self.dir()))?;
        Ok(Some((found.dev(), found.ino())))
    }

    fn lock(&self) -> Result<Lock, Error> {
        let lock = File::open(self.dir()).map_err(Error::at("open the directory", self.dir()))?;
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Err(Error::Busy(self.path.clone())),
            // A file system without locks has to do without.
            _ => Ok(Lock::new(Some(lock))),
        }
    }

    fn list(&self) -> Result<Vec<Entry>, Error> {
        let failed = || Error::at("read the directory", self.dir());
        let mut found = Vec::new();
        for entry in fs::read_dir(self.dir()).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match fs::metadata(entry.path()) {
                Ok(file) => found.push(Entry { name, bytes: file.len() }),
                // Removed meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::at("look at", &entry.path())(e)),
            }
        }
        found.sort();
        Ok(found)
    }

    fn bytes(&self, name: &str) -> Result<u64, Error> {
        let path = self.at(name);
        Ok(fs::metadata(&path).map_err(Error::at("look at", &path))?.len())
    }

    fn piece(&self, name: &str, from: u64, len: usize) -> Result<Vec<u8>, Error> {
        let path = self.at(name);
        let mut piece = vec![0; len];
        let file = File::open(&path).map_err(Error::at("open", &path))?;
        file.read_exact_at(&mut piece, from).map_err(Error::at("read", &path))?;
        Ok(piece)
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        let path = self.at(name);
        Ok(Box::new(File::open(&path).map_err(Error::at("open", &path))?))
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>, Error> {
        let partial = self.at(&format!("{name}{PARTIAL}"));
        let file = File::create(&partial).map_err(Error::at("create", &partial))?;
        let (path, folder) = (self.at(name), self.clone());
        Ok(Box::new(PartialFile { file, partial: Some(partial), path, folder, written: 0, begun: 0 }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let from = self.at(from);
        fs::rename(&from, self.at(to)).map_err(Error::at("rename", &from))?;
        self.flush()
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.at(name);
        fs::remove_file(&path).map_err(Error::at("remove", &path))?;
        self.flush()
    }

    fn width(&self) -> usize {
        1
    }
}

/// A file until it gets its name.
struct PartialFile {
    file: File,
    partial: Option<PathBuf>,
    path: PathBuf,
    folder: Folder,
    /// Bytes written, and of those that the host was told to begin with.
    written: u64,
    begun: u64,
}

impl NewFile for PartialFile {
    fn publish(mut self: Box<Self>) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::at("flush", &self.path))?;
        if let Some(partial) = &self.partial {
            fs::rename(partial, &self.path).map_err(Error::at("give its name to", &self.path))?;
        }
        self.partial = None;
        self.folder.flush()
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        // The disk works while the rest is read and hashed, and the flush at the end is short.
        if self.written - self.begun >= STRETCH {
            start_writeback(&self.file, self.begun, self.written - self.begun);
            self.begun = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            let _ = fs::remove_file(partial);
        }
    }
}
