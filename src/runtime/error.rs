//! Why a runtime cannot do something, by who can help.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// An error of the assembled runtime.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// There is no store there.
    #[error("{0} holds no store; `semper run` makes one")]
    NoStore(PathBuf),
    /// There is something else.
    #[error("{dir} is no store: it holds `{found}` and no `pages`; name the directory of a store")]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// A name in it.
        found: String,
    },
    /// The program file is not there.
    #[error("there is no program {0}")]
    NoProgram(PathBuf),
    /// The program cannot be run: not an ELF file, dynamic, another architecture.
    #[error("{program} cannot be run: {reason}")]
    NotRunnable {
        /// Which.
        program: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no such object, domain or program.
    #[error("{} holds no object and no program {object:?}; semper ls {} lists them", dir.display(), dir.display())]
    NoObject {
        /// The store.
        dir: PathBuf,
        /// What was asked for.
        object: String,
    },
    /// A file of the user's cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The world has moved away.
    #[error(
        "the world of {} has moved to {to}: it goes on there, and not here; a move that did not come to its end is ended by semper move {}", dir.display(), dir.display()
    )]
    Moved {
        /// The store that it left.
        dir: PathBuf,
        /// Where it went.
        to: String,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] semper_journal::Error),
    /// The user asked for something that cannot be.
    #[error("{0}")]
    Refused(String),
    /// The limit on memory is below what programs need.
    #[error("the memory limit is too small: programs need at least {}M", least >> 20)]
    MemoryTooSmall {
        /// The least limit, in bytes.
        least: u64,
    },
    /// What a held generation would keep does not fit beside what the programs may write.
    #[error(
        "{dir} is too full to hold a generation beside what its programs may write; grow it: semper grow {dir} SIZE"
    )]
    TooFullToHold {
        /// The store.
        dir: String,
    },
    /// What programs have does not fit into a store of the size that was asked for.
    #[error(
        "{dir} cannot be made as small as {}: programs have {} in it{}; {}M would do{}",
        mib(*bytes), mib(*stored), beside(*resident), least.div_ceil(1 << 20), at_rest(*resident)
    )]
    TooSmall {
        /// The store.
        dir: String,
        /// What was asked for.
        bytes: u64,
        /// What the newest generation and held ones have, in bytes.
        stored: u64,
        /// What is in memory, in bytes; none: the store is at rest.
        resident: Option<u64>,
        /// The least that would do now, in bytes.
        least: u64,
    },
    /// The store is damaged, and the world ended because of it.
    #[error("{0}")]
    Damaged(super::End),
    /// The store.
    #[error(transparent)]
    Store(#[from] semper_store::Error),
    /// The pager.
    #[error(transparent)]
    Pager(#[from] semper_pager::Error),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] semper_checkpoint::CheckpointError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] semper_domains::kernel::KernelError),
}

fn mib(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}

fn beside(resident: Option<u64>) -> String {
    match resident {
        Some(bytes) => format!(
            ", and {} in memory, where every page may be written again before the place of the old one is free",
            mib(bytes)
        ),
        None => ", and need room beside it for what they write".to_owned(),
    }
}

fn at_rest(resident: Option<u64>) -> &'static str {
    if resident.is_some() { " now, and less at rest, where nothing is in memory: semper stop" } else { "" }
}

impl RuntimeError {
    /// That `dir`, which has no pages, is not a store: something else, or nothing yet.
    #[must_use]
    pub fn no_store(dir: &Path) -> Self {
        let entry = std::fs::read_dir(dir).ok().and_then(|mut entries| entries.next()?.ok());
        let dir = dir.to_path_buf();
        match entry {
            Some(entry) => Self::NotAStore { dir, found: entry.file_name().to_string_lossy().into_owned() },
            None => Self::NoStore(dir),
        }
    }
}
