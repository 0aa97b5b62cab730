//! Where the socket is: `control` in the directory of the store.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

/// The file name of the socket in the store.
pub const SOCKET_NAME: &str = "control";
/// Commands that may wait to be answered.
const BACKLOG: i32 = 128;

/// Connects to the runtime of `store`.
pub fn connect(store: &Path) -> io::Result<UnixStream> {
    let (_directory, path) = short_path(store)?;
    UnixStream::connect(path)
}

/// The socket of a store, to which nobody can connect yet.
#[derive(Debug)]
pub struct Bound(OwnedFd);

impl Bound {
    /// From now on commands can.
    pub(super) fn listen(self) -> io::Result<UnixListener> {
        rustix::net::listen(&self.0, BACKLOG)?;
        Ok(self.0.into())
    }
}

/// Makes the socket of `store`. The caller holds the lock of the store, so a socket that is there already is a dead
/// runtime's.
pub fn bind(store: &Path) -> io::Result<Bound> {
    let (_directory, path) = short_path(store)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Bound(socket))
}

/// A way to the socket that is short enough for a socket address (107 bytes), however deep the store lies: through a
/// descriptor of its directory.
fn short_path(store: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let directory = rustix::fs::open(store, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd()));
    Ok((directory, path))
}
