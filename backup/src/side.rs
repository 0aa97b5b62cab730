//! The files beside the pages that a world needs to go on elsewhere: `console/`, described in `docs/format-console.md`.
//!
//! They are no part of a generation and go on changing under a live runtime. What is read *before* the generation is pinned never
//! speaks of output or input beyond it: a mark says how far output of an earlier commit had left, and the log of input begins no later than the
//! generation's position. The count of lives is read *after*, so that no life of the store comes again in its copy.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// The directory in which they lie.
const DIRECTORY: &str = "console";

/// The file that counts lives.
const LIFE: &str = "life";

/// The most bytes of them all together that are taken into memory.
const MOST: usize = 32 << 20;

/// How often a file that changes is read again.
const TRIES: u32 = 100;

/// Whether a file of a backup may be written there: `console/` and one name.
pub(crate) fn is_path(path: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
    path.strip_prefix(DIRECTORY)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|name| !name.is_empty() && !name.starts_with('.') && name.chars().all(letter))
}

/// The files, with their content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideFiles {
    files: Vec<(String, Vec<u8>)>,
}

impl SideFiles {
    /// Reads those of the store in `dir`: before its generation is pinned.
    ///
    /// # Errors
    /// What the host says; more of them than fit in memory (32 MiB).
    pub fn read(dir: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(dir.join(DIRECTORY)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(e),
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        let mut read = Self::default();
        let mut room = MOST;
        for name in names {
            let path = format!("{DIRECTORY}/{name}");
            if name == LIFE || !is_path(&path) {
                continue;
            }
            if let Some(content) = steady(&dir.join(&path), room)? {
                room -= content.len();
                read.files.push((path, content));
            }
        }
        Ok(read)
    }

    /// Adds what has to be read when the generation is pinned.
    ///
    /// # Errors
    /// As [`SideFiles::read`].
    pub fn read_pinned(&mut self, dir: &Path) -> io::Result<()> {
        let path = format!("{DIRECTORY}/{LIFE}");
        if let Some(content) = steady(&dir.join(&path), MOST)? {
            self.files.push((path, content));
        }
        Ok(())
    }

    /// Them all, by their path in the store's directory.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// Takes a piece of one, as it comes out of a stream; false if there is no room for it.
    pub(crate) fn add(&mut self, path: &str, offset: u64, data: &[u8]) -> bool {
        if offset == 0 {
            self.files.push((path.to_owned(), Vec::new()));
        }
        let used: usize = self.files.iter().map(|(path, content)| path.len() + content.len()).sum();
        if used.saturating_add(data.len()) > 2 * MOST {
            return false;
        }
        if let Some((_, content)) = self.files.last_mut() {
            content.extend_from_slice(data);
        }
        true
    }

    /// Writes them into `dir`, durably.
    ///
    /// # Errors
    /// What the host says.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(dir.join(DIRECTORY))?;
        for (path, content) in &self.files {
            let mut file = File::create(dir.join(path))?;
            file.write_all(content)?;
            file.sync_all()?;
        }
        File::open(dir.join(DIRECTORY))?.sync_all()
    }
}

/// A file as it is at one instant: read until two readings are the same. None if it is not there (any more).
fn steady(path: &Path, room: usize) -> io::Result<Option<Vec<u8>>> {
    let mut last = None;
    for _ in 0..TRIES {
        let now = match File::open(path) {
            Ok(file) if file.metadata()?.is_file() => {
                let mut content = Vec::new();
                file.take(room as u64 + 1).read_to_end(&mut content)?;
                if content.len() > room {
                    let told = format!("{} is too long for a backup; take a checkpoint first", path.display());
                    return Err(io::Error::other(told));
                }
                content
            }
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if last.as_ref() == Some(&now) {
            return Ok(last);
        }
        last = Some(now);
        std::thread::yield_now();
    }
    Err(io::Error::other(format!("{} does not hold still", path.display())))
}
