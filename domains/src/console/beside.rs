//! The small files of consoles, in the directory of the store and in those of its mirrors.
//!
//! What is in the first counts. The others get the same writes, as far as they take them, so that the loss of a disk is as the death of the runtime; none is
//! flushed, and a mirror that does not take a write is no reason for a console to fail.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// The directory within the store's.
pub const CONSOLE_DIR: &str = "console";

/// The directories in which the files of consoles lie.
#[derive(Debug)]
pub struct Beside {
    own: PathBuf,
    /// Held for writing while files are copied: nobody writes to them then.
    twins: RwLock<Twins>,
}

#[derive(Debug, Default)]
struct Twins {
    /// How often they have changed.
    turn: u64,
    dirs: Vec<PathBuf>,
}

impl Beside {
    /// Those of a store in `dir`, which has no mirrors yet.
    #[must_use]
    pub fn new(dir: &Path) -> Arc<Self> {
        Arc::new(Self { own: dir.join(CONSOLE_DIR), twins: RwLock::default() })
    }

    /// The store's own.
    #[must_use]
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// From now on the mirrors are in `stores`. One that was none before gets what there is, and loses what it had.
    pub fn mirror_to(&self, stores: &[PathBuf]) {
        let dirs: Vec<PathBuf> = stores.iter().map(|dir| dir.join(CONSOLE_DIR)).collect();
        if self.twins().dirs == dirs {
            return;
        }
        let mut twins = self.twins.write().unwrap_or_else(PoisonError::into_inner);
        for dir in dirs.iter().filter(|dir| !twins.dirs.contains(dir)) {
            if let Err(error) = copy_files(&self.own, dir) {
                tracing::warn!(%error, "{} does not know of this life of the world", dir.display());
            }
        }
        *twins = Twins { turn: twins.turn + 1, dirs };
    }

    /// Removes a file everywhere.
    pub fn remove(&self, name: &str) {
        let twins = self.twins();
        for dir in twins.dirs.iter().chain([&self.own]) {
            let _ = fs::remove_file(dir.join(name));
        }
    }

    fn twins(&self) -> RwLockReadGuard<'_, Twins> {
        self.twins.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what lies in `to` what is known in `from` of what has left, what was read and how many lives there were.
///
/// # Errors
/// What the host says.
pub fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    let none = |e: io::Error| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) };
    fs::remove_dir_all(to).or_else(none)?;
    let entries = match fs::read_dir(from) {
        Err(e) => return none(e),
        Ok(entries) => entries,
    };
    fs::create_dir(to)?;
    for entry in entries {
        let name = entry?.file_name();
        let is_ours =
            name == "life" || matches!(Path::new(&name).extension(), Some(end) if end == "mark" || end == "in");
        if is_ours {
            // It may go meanwhile, at the end of a program.
            fs::copy(from.join(&name), to.join(&name)).map(drop).or_else(none)?;
        }
    }
    Ok(())
}

/// A file of a console.
pub struct SideFile {
    beside: Arc<Beside>,
    name: String,
    own: File,
    /// The same in the mirrors, as of a turn.
    twins: Mutex<(u64, Vec<File>)>,
}

impl SideFile {
    /// Opens it, and makes it if there is none.
    ///
    /// # Errors
    /// What the host says of the store's own.
    pub fn open(beside: &Arc<Beside>, name: String) -> io::Result<Self> {
        let own = File::options().read(true).write(true).create(true).truncate(false).open(beside.own.join(&name))?;
        Ok(Self { beside: Arc::clone(beside), name, own, twins: Mutex::default() })
    }

    /// Its length.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.own.metadata()?.len())
    }

    /// Fills `out` from `at`.
    pub fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        self.own.read_exact_at(out, at)
    }

    /// Writes all of `bytes` at `at`.
    pub fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.each(|file| file.write_all_at(bytes, at))
    }

    /// Gives it another length.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.each(|file| file.set_len(len))
    }

    fn each(&self, what: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
        let now = self.beside.twins();
        what(&self.own)?;
        let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        if twins.0 != now.turn {
            let open = |dir: &PathBuf| {
                let path = dir.join(&self.name);
                File::options().write(true).create(true).truncate(false).open(path).ok()
            };
            *twins = (now.turn, now.dirs.iter().filter_map(open).collect());
        }
        for file in &twins.1 {
            if let Err(error) = what(file) {
                tracing::debug!(%error, "the file {} of a console is not written on a mirror", self.name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_gets_what_there_is_and_what_comes_and_one_that_is_gone_hinders_nobody() {
        let place = tempfile::tempdir().unwrap();
        let store = |name: &str| {
            let dir = place.path().join(name);
            fs::create_dir_all(&dir).unwrap();
            dir
        };
        let (own, one, other) = (store("own"), store("one"), store("other"));
        fs::create_dir(own.join(CONSOLE_DIR)).unwrap();
        fs::create_dir(one.join(CONSOLE_DIR)).unwrap();
        fs::write(one.join("console/9.mark"), "of another life").unwrap();
        let beside = Beside::new(&own);
        let file = SideFile::open(&beside, "1.in".to_owned()).unwrap();
        file.write_all_at(b"before", 0).unwrap();
        beside.mirror_to(&[one.clone(), other.clone()]);
        file.write_all_at(b" after", 6).unwrap();
        let read = |dir: &Path| fs::read_to_string(dir.join("console/1.in")).unwrap_or_default();
        assert_eq!([read(&own), read(&one), read(&other)], ["before after"; 3]);
        assert!(!one.join("console/9.mark").exists(), "no older word is kept");
        // One goes away, and comes back.
        fs::rename(&other, place.path().join("away")).unwrap();
        file.set_len(3).unwrap();
        beside.mirror_to(std::slice::from_ref(&one));
        fs::rename(place.path().join("away"), &other).unwrap();
        file.write_all_at(b"orn", 3).unwrap();
        assert_eq!([read(&own), read(&one)], ["beforn"; 2]);
        beside.mirror_to(&[one.clone(), other.clone()]);
        file.write_all_at(b"!", 6).unwrap();
        assert_eq!([read(&own), read(&one), read(&other)], ["beforn!"; 3]);
        beside.remove("1.in");
        assert!([&own, &one, &other].iter().all(|dir| !dir.join("console/1.in").exists()));
    }
}
