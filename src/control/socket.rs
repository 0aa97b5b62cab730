//! Where the socket is: `control` in the directory of the store.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The file name of the socket in the store.
pub const SOCKET_NAME: &str = "control";

/// Connects to the runtime of `store`.
pub fn connect(store: &Path) -> io::Result<UnixStream> {
    let (_directory, path) = short_path(store)?;
    UnixStream::connect(path)
}

/// Makes the socket of `store`. The caller holds the lock of the store, so a socket that is there already is a dead
/// runtime's.
pub fn listen(store: &Path) -> io::Result<UnixListener> {
    let (_directory, path) = short_path(store)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A way to the socket that is short enough for a socket address (107 bytes), however deep the store lies: through a
/// descriptor of its directory.
fn short_path(store: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let directory = rustix::fs::open(store, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd()));
    Ok((directory, path))
}
