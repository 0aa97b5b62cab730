//! The records that files are made of, as they lie in the state segment, and the limits on them.

use crate::table::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Pages that a regular file's segment may have (64 GiB): the largest file.
pub const FILE_PAGES: u64 = 1 << 24;
/// Bytes in the largest file.
pub const FILE_BYTES: u64 = FILE_PAGES * semper_store::PAGE_SIZE as u64;
/// Pages of an output stream's segment (16 TiB): what a program can write to one console stream in its life.
pub const STREAM_PAGES: u64 = 1 << 32;
/// Descriptors are below this; also what `RLIMIT_NOFILE` is.
pub const MAX_DESCRIPTORS: u32 = 1024;
/// Bytes in a name.
pub const NAME_MAX: usize = 255;
/// Bytes in a path, with its final zero.
pub const PATH_MAX: usize = 4096;
/// Names that one file may have (as ext4).
pub const LINK_MAX: u32 = 65_000;
/// Symbolic link targets up to this long lie in the inode, longer ones in a segment.
pub const INLINE_TARGET: usize = 256;

/// What an inode is (the values of `d_type`).
pub mod kind {
    /// Pipe.
    pub const FIFO: u32 = 1;
    /// Character device.
    pub const DEVICE: u32 = 2;
    /// Directory.
    pub const DIRECTORY: u32 = 4;
    /// Regular file.
    pub const REGULAR: u32 = 8;
    /// Symbolic link.
    pub const SYMLINK: u32 = 10;
    /// Socket.
    pub const SOCKET: u32 = 12;
    /// Instance of `epoll`, which Linux gives no type.
    pub const EPOLL: u32 = 16;
    /// Counter of `eventfd`, which has none either.
    pub const EVENT: u32 = 17;
    /// Unix socket; shown as [`SOCKET`].
    pub const UNIX: u32 = 18;
    /// A path that a Unix socket was bound to; shown so too.
    pub const NAME: u32 = 19;
    /// Timer of `timerfd`, without a type.
    pub const TIMER: u32 = 20;
    /// Signals of `signalfd`, without a type.
    pub const SIGNALS: u32 = 21;
}

/// The type under which an inode is shown.
pub const fn shown(of: u32) -> u32 {
    match of {
        kind::UNIX | kind::NAME => kind::SOCKET,
        kind::EPOLL | kind::EVENT | kind::TIMER | kind::SIGNALS => 0,
        of => of,
    }
}

/// A file of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Inode {
    /// Its number; never used again for another file.
    pub number: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// Permission bits.
    pub mode: u32,
    /// Names (for a directory: 2 and its subdirectories).
    pub links: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of content; for a pipe or what comes for a Unix socket, bytes ever written; for a counter, how often it was added to; for one
    /// that listens, connections that ever came; for a timer, its interval in nanoseconds.
    pub size: u64,
    /// Segment with the content; 0: none yet (all zeros).
    pub segment: u64,
    /// The directory that a directory lies in.
    pub parent: u64,
    /// Device number of a device. Counter: 1 if a read takes one of it, 0 if all. Timer: bits of [`super::timerfd`].
    pub device: u64,
    /// Directory: cookie of the next name. Pipe, Unix socket: bytes ever read. Counter: its value. Timer: when it goes off, in nanoseconds of
    /// its clock; 0: it is not set. Signals: which.
    pub cursor: u64,
    /// Last access, nanoseconds since 1970 (set by calls only, not by reading).
    pub accessed: i64,
    /// Last change of the content.
    pub modified: i64,
    /// Last change of anything.
    pub changed: i64,
    /// When it was made.
    pub born: i64,
    /// A short target of a symbolic link.
    pub target: [u8; INLINE_TARGET],
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Dirent {
    /// The directory.
    pub parent: u64,
    /// Where the name stands in the directory; grows with each new name, so that reading goes on rightly after changes.
    pub cookie: u64,
    /// What is named.
    pub child: u64,
    /// Bytes of the name.
    pub length: u64,
    /// The name.
    pub name: [u8; 256],
}

impl Dirent {
    /// The name.
    pub fn name(&self) -> &[u8] {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        self.name.get(..length).unwrap_or(&self.name)
    }
}

/// An open file description: what `dup` shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenFile {
    /// Its number; never used again.
    pub number: u64,
    /// What is open, as [`super::node::Node::word`].
    pub node: u64,
    /// `O_*` flags: access mode and status flags.
    pub flags: u64,
    /// Where the next read or write is.
    pub offset: u64,
}

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Descriptor {
    /// Its number.
    pub fd: u32,
    /// 1: closed by execve.
    pub close_on_exec: u32,
    /// The open file.
    pub open: u64,
}

/// One of the console's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StreamRecord {
    /// 0, 1, 2.
    pub stream: u64,
    /// Output: the segment that holds `released..written`.
    pub segment: u64,
    /// Output: bytes ever written.
    pub written: u64,
    /// Output: bytes that the host has taken.
    pub released: u64,
    /// Input: bytes read.
    pub position: u64,
}

/// What there is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// Number of the next inode.
    pub next_inode: u64,
    /// Number of the next open file.
    pub next_open: u64,
    /// Current directory, as a node.
    pub cwd: u64,
    /// The program's own file; 0: not said yet.
    pub image: u64,
    /// Symbolic link inode with the program's path; 0: not said yet.
    pub image_path: u64,
    /// The stack pointer with which the program began; 0: not said yet.
    pub stack: u64,
    /// Mode bits that new files do not get.
    pub umask: u32,
    /// The terminal's `struct termios`, as the program set it.
    pub termios: [u8; 36],
}

/// What a socket record can say.
pub mod socket {
    /// Made, and nothing else.
    pub const NEW: u32 = 0;
    /// It has an address.
    pub const BOUND: u32 = 1;
    /// It listens.
    pub const LISTENING: u32 = 2;
    /// A connection was begun.
    pub const CONNECTING: u32 = 3;
    /// It has a connection, of this life or of another one.
    pub const CONNECTED: u32 = 4;
    /// Bit: the program receives no more.
    pub const SHUT_READ: u32 = 1;
    /// Bit: it sends no more.
    pub const SHUT_WRITE: u32 = 2;
    /// Kinds of Unix sockets, as Linux numbers them: a stream of bytes.
    pub const STREAM: u32 = 1;
    /// Messages, without listening.
    pub const DATAGRAM: u32 = 2;
    /// Messages.
    pub const SEQPACKET: u32 = 5;
    /// Places for options.
    pub const OPTIONS: usize = 32;
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketRecord {
    /// Its inode.
    pub inode: u64,
    /// One of [`socket`].
    pub state: u32,
    /// Bits of [`socket`].
    pub shut: u32,
    /// The life in which its connection was made.
    pub life: [u64; 2],
    /// Its connection there.
    pub connection: u64,
    /// Bytes that the call in which the program waits has moved.
    pub progress: u64,
    /// Its own IPv4 address.
    pub local_address: u32,
    /// The other end's.
    pub peer_address: u32,
    /// Its own port.
    pub local_port: u16,
    /// The other end's.
    pub peer_port: u16,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Options, each at its place.
    pub options: [u32; socket::OPTIONS],
}

/// A Unix socket. What came for it lies in the segment of its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixRecord {
    /// Its inode.
    pub inode: u64,
    /// One of [`socket`]: never connecting.
    pub state: u32,
    /// Bits of [`socket`].
    pub shut: u32,
    /// The other end; 0: it is gone, or there never was one.
    pub peer: u64,
    /// The listener in whose queue it waits to be accepted; 0: none.
    pub listener: u64,
    /// Its place in that queue.
    pub turn: u64,
    /// The inode of the path that it was bound to; 0: it was bound to none.
    pub name_place: u64,
    /// An error that the program is to be told once; 0: none.
    pub error: u32,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Whether it has a stream or messages: one of [`socket`].
    pub kind: u32,
    /// Bytes of its name.
    pub name_length: u32,
    /// What it was bound to: a path with a zero behind it, or a name with a zero before it.
    pub name: [u8; 112],
    /// Options, each at its place.
    pub options: [u32; socket::OPTIONS],
}

/// What an instance of `epoll` watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Interest {
    /// The inode of the instance.
    pub epoll: u64,
    /// The open file.
    pub open: u64,
    /// The descriptor by which it was named.
    pub fd: u32,
    /// `EPOLL*` bits.
    pub events: u32,
    /// What the program is told with them.
    pub data: u64,
}

macro_rules! records {
    ($($type:ident = $kind:literal, $name:literal;)*) => {
        $(impl Record for $type {
            const KIND: u16 = $kind;
            const NAME: &'static str = $name;
        }
        const _: () = assert!(size_of::<$type>() <= 480);)*
    };
}

records! {
    Inode = 0x0200, "inode";
    Dirent = 0x0201, "directory entry";
    OpenFile = 0x0202, "open file";
    Descriptor = 0x0203, "descriptor";
    StreamRecord = 0x0204, "console stream";
    Settings = 0x0205, "file settings";
    SocketRecord = 0x0206, "socket";
    Interest = 0x0207, "epoll interest";
    UnixRecord = 0x0208, "Unix socket";
}
