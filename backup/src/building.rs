//! A store gets its name when it is complete: until then it lies under another.

use crate::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The directory in which a store is made; removed when dropped, and when it is found left over by who was killed.
pub struct Building {
    target: PathBuf,
    path: PathBuf,
    lock: Option<File>,
}

impl Building {
    /// For what will be `target`.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody else makes it; what the host says.
    pub fn new(target: &Path) -> Result<Self, Error> {
        let (parent, name) = parts(target)?;
        let hidden = |what: &str| parent.join(format!(".{name}.{what}"));
        let (path, lock_path) = (hidden("restoring"), hidden("restoring-lock"));
        let lock = File::create(&lock_path).map_err(Error::at("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy(target.to_owned())),
            Err(fs::TryLockError::Error(e)) => return Err(Error::at("lock", &lock_path)(e)),
        }
        let building = Self { target: target.to_owned(), path, lock: Some(lock) };
        building.clear().map_err(Error::at("remove what an earlier restore left in", &building.path))?;
        Ok(building)
    }

    /// Where it is made.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name. From then on it is there, wholly and durably.
    ///
    /// # Errors
    /// What the host says.
    pub fn finish(self) -> Result<(), Error> {
        let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::at("flush", dir));
        sync(&self.path)?;
        fs::rename(&self.path, &self.target).map_err(Error::at("give its name to", &self.target))?;
        sync(&parts(&self.target)?.0)
    }

    fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if let Err(e) = self.clear() {
            tracing::warn!("{} is left over and can be removed: {e}", self.path.display());
        }
        // Removed while it is locked, so that it is ours.
        let _ = fs::remove_file(format!("{}-lock", self.path.display()));
        self.lock = None;
    }
}

/// The directory in which `target` lies, and its name.
fn parts(target: &Path) -> Result<(PathBuf, String), Error> {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some(name) = name else { return Err(Error::Exists(target.to_owned())) };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), name))
}
