//! Where the figures are measured: a directory on a real disk.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use crate::Outcome;
use crate::memory::Beyond;

/// `statfs` types of file systems that have no disk under them.
const TMPFS: i128 = 0x0102_1994;
const RAMFS: i128 = 0x8584_58f6;

/// The directory, the programs in it, and what one figure leaves for another.
pub struct Place {
    dir: tempfile::TempDir,
    quick: bool,
    stores: u32,
    /// What the runtime took beyond the frames, under each load.
    pub beyond: Vec<Beyond>,
}

impl Place {
    /// A new directory below `dir`, or below the first of `TMPDIR` and the target directory that lies on a disk.
    pub fn new(dir: Option<PathBuf>, quick: bool) -> Outcome<Self> {
        let base = match dir {
            Some(dir) if in_memory(&dir)? => {
                return Err(format!("{} is not on a disk, so it would measure nothing", dir.display()).into());
            }
            Some(dir) => dir,
            None => [std::env::temp_dir(), PathBuf::from(env!("CARGO_TARGET_TMPDIR"))]
                .into_iter()
                .find(|dir| in_memory(dir).is_ok_and(|memory| !memory))
                .ok_or("no directory on a disk; name one with --dir")?,
        };
        let dir = tempfile::Builder::new().prefix("semper-figures-").tempdir_in(base)?;
        Ok(Self { dir, quick, stores: 0, beyond: Vec::new() })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether a short run is wanted, that only shows that everything works.
    pub fn quick(&self) -> bool {
        self.quick
    }

    /// One of two numbers: of a full run, of a quick one.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The path of a new store.
    pub fn store(&mut self) -> PathBuf {
        self.stores += 1;
        self.path().join(format!("store-{}", self.stores))
    }

    /// The kind of file system.
    pub fn file_system(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let path = self.path().canonicalize().unwrap_or_else(|_| self.path().to_path_buf());
        mounts
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ').skip(1);
                Some((words.next()?, words.next()?))
            })
            .filter(|(mount, _)| path.starts_with(mount))
            .max_by_key(|(mount, _)| mount.len())
            .map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind.to_owned())
    }
}

fn in_memory(dir: &Path) -> Outcome<bool> {
    let kind = statfs(dir).map_err(|error| format!("{}: {error}", dir.display()))?.f_type;
    Ok([TMPFS, RAMFS].contains(&i128::from(kind)))
}
