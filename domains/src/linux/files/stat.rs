//! What `stat` tells of files of every kind.

use super::console::shown_stream;
use super::flags::S_IFMT;
use super::node::Node;
use super::records::{kind, shown};
use super::{Errno, Files, Host};
use crate::linux::process::UID;
use crate::linux::{ConsoleKind, Stream};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Device number of the files in the store, of `/proc`, and of the console.
const STORE: u64 = 0x1d;
const PROC: u64 = 0x16;
const CONSOLE: u64 = 0x18;
/// `/dev/pts/0`, as which a terminal shows itself.
const TERMINAL: u64 = 0x8800;
const NULL: u64 = 0x103;
/// Bytes that are best read at once.
const BLOCK: u64 = 4096;

/// What is told of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub device: u64,
    pub number: u64,
    pub mode: u32,
    pub links: u32,
    pub special: u64,
    pub size: u64,
    pub accessed: i64,
    pub modified: i64,
    pub changed: i64,
    pub born: i64,
}

/// `struct stat`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Stat {
    device: u64,
    number: u64,
    links: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    special: u64,
    size: u64,
    block: u64,
    blocks: u64,
    times: [[i64; 2]; 3],
    unused: [u64; 3],
}

/// `struct statx`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Statx {
    mask: u32,
    block: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    number: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    /// Access, birth, change, modification.
    times: [[i64; 2]; 4],
    special: [u32; 2],
    device: [u32; 2],
    spare: [u64; 14],
}

const _: () = assert!(size_of::<Stat>() == 144 && size_of::<Statx>() == 256);

fn time(nanos: i64) -> [i64; 2] {
    [nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000)]
}

fn major_minor(device: u64) -> [u32; 2] {
    [u32::try_from(device >> 8 & 0xfff).unwrap_or(0), u32::try_from(device & 0xff).unwrap_or(0)]
}

impl Metadata {
    fn blocks(&self) -> u64 {
        if self.mode & S_IFMT == kind::REGULAR << 12 { self.size.div_ceil(BLOCK) * (BLOCK / 512) } else { 0 }
    }

    pub(super) fn stat(&self) -> Stat {
        let mut stat = Stat::new_zeroed();
        (stat.device, stat.number, stat.links, stat.mode) =
            (self.device, self.number, u64::from(self.links), self.mode);
        (stat.uid, stat.gid, stat.special, stat.size) = (UID, UID, self.special, self.size);
        (stat.block, stat.blocks) = (BLOCK, self.blocks());
        stat.times = [time(self.accessed), time(self.modified), time(self.changed)];
        stat
    }

    pub(super) fn statx(&self) -> Statx {
        const BASIC_AND_BIRTH: u32 = 0xfff;
        let mut statx = Statx::new_zeroed();
        (statx.mask, statx.block) = (BASIC_AND_BIRTH, 4096);
        (statx.links, statx.uid, statx.gid) = (self.links, UID, UID);
        statx.mode = u16::try_from(self.mode).unwrap_or(0);
        (statx.number, statx.size, statx.blocks) = (self.number, self.size, self.blocks());
        statx.times = [time(self.accessed), time(self.born), time(self.changed), time(self.modified)];
        (statx.special, statx.device) = (major_minor(self.special), major_minor(self.device));
        statx
    }
}

impl Files {
    /// What is told of a node.
    ///
    /// # Errors
    /// `ENOENT` if it is gone.
    pub(super) fn metadata(&self, host: &Host, node: Node) -> Result<Metadata, Errno> {
        match node {
            Node::Inode(number) => {
                let i = self.inode(number)?;
                let size = match i.kind {
                    kind::REGULAR | kind::SYMLINK => i.size,
                    kind::DIRECTORY => BLOCK,
                    _ => 0,
                };
                Ok(Metadata {
                    device: STORE,
                    number,
                    mode: shown(i.kind) << 12 | i.mode,
                    links: match i.kind {
                        kind::FIFO | kind::SOCKET | kind::UNIX => 1,
                        of if shown(of) == 0 => 1,
                        _ => i.links,
                    },
                    special: i.device,
                    size,
                    accessed: i.accessed,
                    modified: i.modified,
                    changed: i.changed,
                    born: i.born,
                })
            }
            Node::Console(n) => Ok(self.console_metadata(host, n)),
            Node::Proc(p) => {
                let mode = match p.kind() {
                    kind::REGULAR => 0o444,
                    kind::DIRECTORY => 0o555,
                    _ => 0o777,
                };
                let now = Self::now(host);
                let links = if p.kind() == kind::DIRECTORY { 2 } else { 1 };
                Ok(Metadata {
                    device: PROC,
                    number: node.word(),
                    mode: p.kind() << 12 | mode,
                    links,
                    accessed: now,
                    modified: now,
                    changed: now,
                    born: now,
                    ..Metadata::default()
                })
            }
        }
    }

    fn console_metadata(&self, host: &Host, n: u8) -> Metadata {
        // One file for both shows as one.
        let n = if n == 2 && host.console.is_joined() { 1 } else { n };
        let stream = shown_stream(host, n);
        let now = Self::now(host);
        let (mode, special, size) = match host.console.kind(stream) {
            ConsoleKind::Terminal { .. } => (kind::DEVICE << 12 | 0o620, TERMINAL, 0),
            ConsoleKind::Null => (kind::DEVICE << 12 | 0o666, NULL, 0),
            ConsoleKind::Pipe => (kind::FIFO << 12 | 0o600, 0, 0),
            ConsoleKind::File { size } => {
                let written = self.stream_record(stream).written;
                (kind::REGULAR << 12 | 0o644, 0, if stream == Stream::In { size } else { size.max(written) })
            }
        };
        // All streams of a terminal are the same file.
        let number = if special == TERMINAL { 3 } else { u64::from(n) + 4 };
        let times = (now, now, now, now);
        let (accessed, modified, changed, born) = times;
        Metadata { device: CONSOLE, number, mode, links: 1, special, size, accessed, modified, changed, born }
    }
}
