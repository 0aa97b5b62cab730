//! The ways of writing that this machine has.

#[path = "../../../tests/needs/mod.rs"]
pub mod needs;

use io_uring::IoUring;
use semper_store::IoChoice;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Plain writes, and io_uring unless the kernel or the file system of `dir` refuses it, which is said. They are asked without the store: if
/// they offer it, the store has no excuse.
pub fn kinds(dir: &Path) -> Vec<IoChoice> {
    match offered(dir) {
        Ok(()) => vec![IoChoice::Plain, IoChoice::Uring],
        Err(e) => {
            needs::refused(&format!("io_uring with O_DIRECT: {e}"));
            vec![IoChoice::Plain]
        }
    }
}

fn offered(dir: &Path) -> io::Result<()> {
    let file = tempfile::NamedTempFile::new_in(dir)?;
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(file.path())?;
    IoUring::new(1).map(|_| ())
}
