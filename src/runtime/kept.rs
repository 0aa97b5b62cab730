//! The figures of the last checkpoints, beside the store: `status` shows them when no runtime runs, also after it was killed.

use super::Runtime;
use semper_checkpoint::{Checkpointer, Summary};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

const FILE: &str = "figures";
const NEW: &str = "figures.new";
/// The first line; a file with another is not read.
const TITLE: &str = "Semper figures 1";
/// How old they may be when the runtime is killed.
const EVERY: Duration = Duration::from_secs(1);
/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// Keeps them from now on, as long as the checkpointer is there.
pub(super) fn keep(dir: &Path, checkpointer: &Arc<Checkpointer>) -> io::Result<()> {
    let (dir, checkpointer) = (dir.to_path_buf(), Arc::downgrade(checkpointer));
    let run = move || {
        let mut known = 0;
        while let Some(summary) = Weak::upgrade(&checkpointer).map(|checkpointer| checkpointer.summary()) {
            if summary.totals.committed != known {
                known = summary.totals.committed;
                write(&dir, &summary);
            }
            thread::sleep(EVERY);
        }
    };
    thread::Builder::new().name("figures".into()).spawn(run).map(drop)
}

impl Runtime {
    /// As they are now, for who looks after the end.
    pub(super) fn keep_figures(&self) {
        write(&self.dir, &self.checkpointer.summary());
    }
}

fn write(dir: &Path, summary: &Summary) {
    let write = || -> io::Result<()> {
        fs::write(dir.join(NEW), format!("{TITLE}\n{}\n", serde_json::to_string(summary)?))?;
        fs::rename(dir.join(NEW), dir.join(FILE))
    };
    if let Err(error) = write() {
        tracing::debug!(%error, "the figures of the last checkpoints are not kept");
    }
}

/// Those that the last runtime left; none if it left none that can be read.
pub(super) fn read(dir: &Path) -> Option<Summary> {
    let mut text = String::new();
    File::open(dir.join(FILE)).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(text.strip_prefix(TITLE)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_figures_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        write(dir.path(), &Summary::default());
        assert_eq!(read(dir.path()), Some(Summary::default()));
        for spoilt in
            ["", "Semper figures 2\n{}\n", "Semper figures 1\n{\"last\":\n", "Semper figures 1\n{}\n", "\0\0\0\0"]
        {
            fs::write(dir.path().join(FILE), spoilt).unwrap();
            assert_eq!(read(dir.path()), None, "{spoilt:?}");
        }
    }
}
