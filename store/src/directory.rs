//! The directory of a store: what lies in it, and who has it open.

use crate::error::Error;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The file (or symlink to a block device) with the pages.
pub const PAGES_FILE: &str = "pages";

/// The file whose `flock` marks the store as open; it holds the pid of its holder in decimal.
pub const LOCK_FILE: &str = "lock";

/// The file that names generations which are not used, because damage was found in them.
pub const DAMAGE_FILE: &str = "damage";

/// The file that names generations which stay.
pub const TAGS_FILE: &str = "tags";

/// What a new `pages` file is called until it is a store.
pub(crate) const NEW_FILE: &str = "pages.new";

/// Held while a store is open for writing.
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Locks the store in `dir`.
pub(crate) fn lock(dir: &Path) -> Result<Lock, Error> {
    let path = dir.join(LOCK_FILE);
    let what = || format!("open {}", path.display());
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(|e| Error::io(what(), e))?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, nix::Error::EAGAIN)) => {
            let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(Error::InUse { dir: dir.to_owned(), pid });
        }
        Err((_, e)) => return Err(Error::io(format!("lock {}", path.display()), e.into())),
    };
    // Only for the sentence that a second opener gets; the lock holds without it.
    let noted = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    if let Err(e) = noted {
        tracing::debug!("cannot write the pid into {}: {e}", path.display());
    }
    Ok(Lock { _file: file })
}

/// Where the pages of the store in `dir` lie.
pub(crate) fn pages(dir: &Path) -> Result<PathBuf, Error> {
    let path = dir.join(PAGES_FILE);
    match fs::metadata(&path) {
        Ok(m) if m.is_file() || m.file_type().is_block_device() => Ok(path),
        Ok(_) => Err(Error::not_a_store("it is neither a file nor a block device").about(&path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::Missing { dir: dir.to_owned() }),
        Err(e) => Err(Error::io(format!("open {}", path.display()), e)),
    }
}

/// Makes `dir` ready for a new store. Says whether it holds a `pages` that someone laid there (a symlink to a device or
/// to a file elsewhere) to be used.
pub(crate) fn prepare(dir: &Path) -> Result<bool, Error> {
    fs::create_dir_all(dir).map_err(|e| Error::io(format!("create the directory {}", dir.display()), e))?;
    let list = fs::read_dir(dir).map_err(|e| Error::io(format!("read the directory {}", dir.display()), e))?;
    let mut laid = false;
    for entry in list {
        let entry = entry.map_err(|e| Error::io(format!("read the directory {}", dir.display()), e))?;
        let name = entry.file_name();
        if name == PAGES_FILE && entry.file_type().is_ok_and(|t| t.is_symlink()) {
            laid = true;
        } else if name != LOCK_FILE && name != NEW_FILE {
            return Err(Error::NotEmpty { dir: dir.to_owned(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(laid)
}

/// Replaces the small file `name` in `dir` as a whole, durably.
pub(crate) fn replace(dir: &Path, name: &str, text: &str) -> Result<(), Error> {
    let new = dir.join(format!("{name}.new"));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(name))
    });
    written.map_err(|e| Error::io(format!("write the file {name} in {}", dir.display()), e))?;
    sync(dir)
}

/// Makes the names in `dir` durable.
pub(crate) fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io(format!("flush {}", dir.display()), e))
}
