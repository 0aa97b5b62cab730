//! What a path or a descriptor can lead to: a file with an inode, a console stream, or something in `/proc`.

use super::records::kind;
use super::{Errno, Files, Host};
use crate::linux::Stream;

/// The root directory.
pub(super) const ROOT: u64 = 1;
/// The directory under which `/proc` appears.
pub(super) const PROC_MOUNT: u64 = 2;

/// The terminal, whichever streams it is connected to; as a stream's number.
const TERMINAL: u64 = 3;
const STREAMS: u64 = 1 << 56;
const PROC: u64 = 2 << 56;
const FD_LINKS: u64 = 3 << 56;
const CLASS: u64 = 0xff << 56;

/// A made-up file of `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proc {
    /// `/proc`.
    Root,
    /// `/proc/self`, a link to the program's own number.
    SelfLink,
    /// `/proc/PID`.
    Own,
    /// `/proc/PID/exe`, which leads to the program's file.
    Exe,
    /// `/proc/PID/cwd`.
    Cwd,
    /// `/proc/PID/root`.
    RootLink,
    /// `/proc/PID/fd`.
    FdDirectory,
    /// `/proc/PID/fd/N`, which leads to the open file.
    FdLink(u32),
    /// `/proc/PID/maps`.
    Maps,
    /// `/proc/PID/cmdline`.
    Cmdline,
    /// `/proc/PID/comm`.
    Comm,
    /// `/proc/PID/environ`.
    Environ,
    /// `/proc/PID/status`.
    Status,
    /// `/proc/PID/stat`.
    Stat,
    /// `/proc/PID/statm`.
    Statm,
    /// `/proc/PID/auxv`.
    Auxv,
    /// `/proc/meminfo`.
    Meminfo,
    /// `/proc/cpuinfo`.
    Cpuinfo,
    /// `/proc/uptime`.
    Uptime,
    /// `/proc/stat`.
    SystemStat,
    /// `/proc/loadavg`.
    Loadavg,
    /// `/proc/version`.
    Version,
}

impl Proc {
    const NUMBERED: [Self; 21] = [
        Self::Root,
        Self::SelfLink,
        Self::Own,
        Self::Exe,
        Self::Cwd,
        Self::RootLink,
        Self::FdDirectory,
        Self::Maps,
        Self::Cmdline,
        Self::Comm,
        Self::Environ,
        Self::Status,
        Self::Stat,
        Self::Statm,
        Self::Auxv,
        Self::Meminfo,
        Self::Cpuinfo,
        Self::Uptime,
        Self::SystemStat,
        Self::Loadavg,
        Self::Version,
    ];

    /// What it is, as an inode's kind.
    pub(super) const fn kind(self) -> u32 {
        match self {
            Self::Root | Self::Own | Self::FdDirectory => kind::DIRECTORY,
            Self::SelfLink | Self::Exe | Self::Cwd | Self::RootLink | Self::FdLink(_) => kind::SYMLINK,
            _ => kind::REGULAR,
        }
    }
}

/// Anything that a path or a descriptor can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A file with an inode.
    Inode(u64),
    /// A console stream: 0, 1, 2, or 3 for the terminal.
    Console(u8),
    /// A made-up file.
    Proc(Proc),
}

impl Node {
    /// The terminal (`/dev/tty`).
    pub(super) const TERMINAL: Self = Self::Console(3);

    /// As one word, for records; also its inode number in `stat`.
    pub fn word(self) -> u64 {
        match self {
            Self::Inode(number) => number,
            Self::Console(n) => STREAMS | u64::from(n),
            Self::Proc(Proc::FdLink(fd)) => FD_LINKS | u64::from(fd),
            Self::Proc(p) => PROC | Proc::NUMBERED.iter().position(|&q| q == p).unwrap_or(0) as u64,
        }
    }

    /// From [`Node::word`]; `None` for a word that is none.
    pub fn from_word(word: u64) -> Option<Self> {
        let low = word & !CLASS;
        match word & CLASS {
            0 => Some(Self::Inode(low)),
            STREAMS if low <= TERMINAL => u8::try_from(low).ok().map(Self::Console),
            PROC => usize::try_from(low).ok().and_then(|i| Proc::NUMBERED.get(i)).map(|&p| Self::Proc(p)),
            FD_LINKS => u32::try_from(low).ok().map(|fd| Self::Proc(Proc::FdLink(fd))),
            _ => None,
        }
    }
}

/// The number of a stream in records and nodes.
pub(super) const fn stream_number(stream: Stream) -> u8 {
    match stream {
        Stream::In => 0,
        Stream::Out => 1,
        Stream::Err => 2,
    }
}

/// What a node is, as far as calls must tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file in the store.
    Regular(u64),
    /// A directory in the store.
    Directory(u64),
    /// A symbolic link in the store.
    Symlink(u64),
    /// A device, by its number.
    Device(u64),
    /// A pipe.
    Pipe(u64),
    /// A console stream.
    Console(u8),
    /// Something in `/proc`.
    Proc(Proc),
    /// A socket.
    Socket(u64),
    /// An instance of `epoll`.
    Epoll(u64),
    /// A counter of `eventfd`.
    Event(u64),
    /// A Unix socket.
    Unix(u64),
    /// A path to a Unix socket.
    Name(u64),
    /// A timer of `timerfd`.
    Timer(u64),
    /// Signals of `signalfd`.
    Signals(u64),
}

impl NodeKind {
    /// Whether it has names in it.
    pub const fn is_directory(self) -> bool {
        match self {
            Self::Directory(_) => true,
            Self::Proc(p) => p.kind() == kind::DIRECTORY,
            _ => false,
        }
    }

    /// Whether it leads elsewhere.
    pub const fn is_symlink(self) -> bool {
        match self {
            Self::Symlink(_) => true,
            Self::Proc(p) => p.kind() == kind::SYMLINK,
            _ => false,
        }
    }
}

impl Files {
    /// What `node` is.
    ///
    /// # Errors
    /// `ENOENT` if it is gone.
    pub(super) fn kind_of(&self, node: Node) -> Result<NodeKind, Errno> {
        match node {
            Node::Console(n) => Ok(NodeKind::Console(n)),
            Node::Proc(p) => Ok(NodeKind::Proc(p)),
            Node::Inode(number) => {
                let inode = self.inodes.get(number).ok_or(Errno::ENOENT)?;
                Ok(match inode.kind {
                    kind::DIRECTORY => NodeKind::Directory(number),
                    kind::SYMLINK => NodeKind::Symlink(number),
                    kind::DEVICE => NodeKind::Device(inode.device),
                    kind::FIFO => NodeKind::Pipe(number),
                    kind::SOCKET => NodeKind::Socket(number),
                    kind::EPOLL => NodeKind::Epoll(number),
                    kind::EVENT => NodeKind::Event(number),
                    kind::UNIX => NodeKind::Unix(number),
                    kind::NAME => NodeKind::Name(number),
                    kind::TIMER => NodeKind::Timer(number),
                    kind::SIGNALS => NodeKind::Signals(number),
                    _ => NodeKind::Regular(number),
                })
            }
        }
    }

    /// Nanoseconds since 1970, for time stamps.
    pub(super) fn now(host: &Host) -> i64 {
        i64::try_from(host.clock.realtime().as_nanos()).unwrap_or(i64::MAX)
    }
}
