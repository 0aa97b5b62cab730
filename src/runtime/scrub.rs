//! What scrubs read and found, beside the store: `status` shows it, with a runtime or without.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "scrub";
/// The first line; a file with another is not read.
const TITLE: &str = "Semper scrub 1\n";
/// The file always has as many bytes, so that it is written at once.
const BYTES: usize = 1024;

/// What is known of scrubs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ScrubStatus {
    /// Whether one is under way.
    #[serde(default)]
    pub live: bool,
    /// The one that is, or was when it was ended.
    pub now: Option<ScrubPass>,
    /// The last that came to its end.
    pub last: Option<ScrubPass>,
}

/// One reading of a store.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ScrubPass {
    /// The newest generation that is read.
    pub generation: u64,
    /// When it began, in seconds since 1970.
    pub begun_at: u64,
    /// When it came to its end; none: it has not.
    pub ended_at: Option<u64>,
    /// Pages read, those of the trees counted.
    pub pages: u64,
    /// About how many there are.
    pub pages_total: u64,
    /// What did not hold.
    pub faults: u64,
    /// What was rotten on one side of a mirrored store, and was written anew.
    #[serde(default)]
    pub repaired: u64,
}

impl ScrubStatus {
    /// What the file in `dir` says; none if there is none that can be read.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let file = File::open(dir.join(FILE)).ok()?;
        let mut text = String::new();
        (&file).take(BYTES as u64).read_to_string(&mut text).ok()?;
        let status: Self = serde_json::from_str(text.strip_prefix(TITLE)?).ok()?;
        let live = matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
        Some(Self { live, ..status })
    }
}

/// A scrub that is under way, the only one of its store.
#[derive(Debug)]
pub struct Scrubbing {
    file: File,
    status: ScrubStatus,
}

impl Scrubbing {
    /// Begins to keep what is read and found in `dir`; none if another one does.
    ///
    /// # Errors
    /// What the host says.
    pub fn begin(dir: &Path) -> io::Result<Option<Self>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join(FILE))?;
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            // A file system without locks has to do without.
            Err(fs::TryLockError::Error(_)) | Ok(()) => {}
        }
        let status = ScrubStatus::read(dir).unwrap_or_default();
        Ok(Some(Self { file, status: ScrubStatus { live: false, ..status } }))
    }

    /// A reading of `generation` begins.
    pub fn pass(&mut self, generation: u64) {
        let now = ScrubPass { generation, begun_at: seconds(), ..ScrubPass::default() };
        self.status.now = Some(now);
        self.write();
    }

    /// So far it has come.
    pub fn at(&mut self, pages: u64, pages_total: u64) {
        if let Some(now) = &mut self.status.now {
            (now.pages, now.pages_total) = (pages, pages_total);
        }
        self.write();
    }

    /// It has come to its end.
    pub fn end(&mut self, pages: u64, faults: u64, repaired: u64) {
        if let Some(now) = self.status.now.take() {
            self.status.last =
                Some(ScrubPass { ended_at: Some(seconds()), pages, pages_total: pages, faults, repaired, ..now });
        }
        self.write();
    }

    fn write(&self) {
        let write = || -> io::Result<()> {
            let text = format!("{TITLE}{}", serde_json::to_string(&self.status)?);
            self.file.write_all_at(format!("{text:<width$}\n", width = BYTES - 1).as_bytes(), 0)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "how far the scrub has come is not kept");
        }
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_shown_and_what_is_no_record_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let read = || ScrubStatus::read(dir.path());
        assert_eq!(read(), None);
        let mut scrub = Scrubbing::begin(dir.path()).unwrap().unwrap();
        assert!(Scrubbing::begin(dir.path()).unwrap().is_none());
        scrub.pass(u64::MAX);
        scrub.at(u64::MAX, u64::MAX);
        scrub.end(u64::MAX, u64::MAX, u64::MAX);
        scrub.pass(u64::MAX);
        scrub.at(u64::MAX, u64::MAX);
        let status = read().unwrap();
        assert!(status.live && status.now.is_some(), "{status:?}");
        assert_eq!(status.last.unwrap().faults, u64::MAX);
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().len(), BYTES as u64, "the longest fits");
        drop(scrub);
        assert!(!read().unwrap().live, "it was ended");
        let mut scrub = Scrubbing::begin(dir.path()).unwrap().unwrap();
        scrub.pass(7);
        assert_eq!(read().unwrap().last.unwrap().faults, u64::MAX, "what was found before is kept");
        for spoilt in ["", "Semper scrub 2\n{}\n", "Semper scrub 1\n{\"now\":\n", "\0\0\0\0"] {
            fs::write(dir.path().join(FILE), spoilt).unwrap();
            assert_eq!(read(), None, "{spoilt:?}");
        }
    }
}
