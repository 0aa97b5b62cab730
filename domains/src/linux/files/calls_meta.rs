//! Calls that tell of files and change what is told.

use super::flags::{AT_EACCESS, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use super::node::{Node, NodeKind};
use super::records::NAME_MAX;
use super::{Errno, Files};
use crate::linux::{Answer, Program};

const DONE: Answer = Answer::Value(0);
const NANOS: i64 = 1_000_000_000;

/// The node that a path with `AT_*` flags means; an empty path is the descriptor itself if the flags say so.
fn node_at(p: &Program, dirfd: u64, address: u64, flags: u64) -> Result<Node, Errno> {
    let path = if address == 0 && flags & AT_EMPTY_PATH != 0 { Vec::new() } else { p.path(address)? };
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        if dirfd & 0xffff_ffff == AT_FDCWD & 0xffff_ffff {
            return p.files.cwd();
        }
        return p.files.open_at(dirfd)?.node();
    }
    p.find(dirfd, &path, flags & AT_SYMLINK_NOFOLLOW == 0)?.existing()
}

fn put_stat(p: &mut Program, node: Node, out: u64) -> Result<Answer, Errno> {
    let stat = p.files.metadata(&p.host, node)?.stat();
    p.user.write_value(out, &stat)?;
    Ok(DONE)
}

pub(super) fn stat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = node_at(p, AT_FDCWD, a[0], 0)?;
    put_stat(p, node, a[1])
}

pub(super) fn lstat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = node_at(p, AT_FDCWD, a[0], AT_SYMLINK_NOFOLLOW)?;
    put_stat(p, node, a[1])
}

pub(super) fn fstat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = p.files.open_at(a[0])?.node()?;
    put_stat(p, node, a[1])
}

pub(super) fn newfstatat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    const NO_AUTOMOUNT: u64 = 0x800;
    if a[3] & 0xffff_ffff & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    let node = node_at(p, a[0], a[1], a[3])?;
    put_stat(p, node, a[2])
}

pub(super) fn statx(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if a[2] & 0xffff_ffff & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | 0x6800) != 0 || a[3] & 0x8000_0000 != 0 {
        return Err(Errno::EINVAL);
    }
    let node = node_at(p, a[0], a[1], a[2])?;
    let statx = p.files.metadata(&p.host, node)?.statx();
    p.user.write_value(a[4], &statx)?;
    Ok(DONE)
}

pub(super) fn access(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    may(p, AT_FDCWD, a[0], a[1], 0)
}

pub(super) fn faccessat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    may(p, a[0], a[1], a[2], 0)
}

pub(super) fn faccessat2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    may(p, a[0], a[1], a[2], a[3] & 0xffff_ffff)
}

fn may(p: &mut Program, dirfd: u64, path: u64, wanted: u64, flags: u64) -> Result<Answer, Errno> {
    let wanted = u32::try_from(wanted & 0xffff_ffff).unwrap_or(u32::MAX);
    if wanted > 7 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let node = node_at(p, dirfd, path, flags)?;
    p.files.permitted(node, wanted)?;
    Ok(DONE)
}

/// Files have no extended attributes, as on a file system without them.
pub(super) fn xattr(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    node_at(p, AT_FDCWD, a[0], 0).and(Err(Errno::EOPNOTSUPP))
}

pub(super) fn lxattr(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    node_at(p, AT_FDCWD, a[0], AT_SYMLINK_NOFOLLOW).and(Err(Errno::EOPNOTSUPP))
}

pub(super) fn fxattr(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    p.files.usable(a[0]).and(Err(Errno::EOPNOTSUPP))
}

pub(super) fn chmod(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = node_at(p, AT_FDCWD, a[0], 0)?;
    set_mode(p, node, a[1])
}

pub(super) fn fchmod(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = p.files.usable(a[0])?.node()?;
    set_mode(p, node, a[1])
}

pub(super) fn fchmodat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = node_at(p, a[0], a[1], 0)?;
    set_mode(p, node, a[2])
}

pub(super) fn fchmodat2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = node_at(p, a[0], a[1], a[3])?;
    set_mode(p, node, a[2])
}

fn set_mode(p: &mut Program, node: Node, mode: u64) -> Result<Answer, Errno> {
    match p.files.kind_of(node)? {
        NodeKind::Symlink(_) => return Err(Errno::EOPNOTSUPP),
        NodeKind::Console(_) => return Ok(DONE),
        NodeKind::Proc(_) => return Err(Errno::EPERM),
        _ => {}
    }
    let mode = u32::try_from(mode & 0o7777).unwrap_or(0);
    change(p, node, |inode| inode.mode = mode)
}

fn change(p: &mut Program, node: Node, change: impl FnOnce(&mut super::records::Inode)) -> Result<Answer, Errno> {
    let Node::Inode(number) = node else { return Ok(DONE) };
    let now = Files::now(&p.host);
    p.files.inodes.update(&mut p.state, number, |inode| {
        inode.changed = now;
        change(inode);
    })?;
    Ok(DONE)
}

/// The program owns everything: giving it to itself is granted, to others not.
fn set_owner(node: Result<Node, Errno>, uid: u64, gid: u64) -> Result<Answer, Errno> {
    node?;
    let same = |id: u64| {
        let id = id & 0xffff_ffff;
        id == 0xffff_ffff || id == u64::from(crate::linux::process::UID)
    };
    if same(uid) && same(gid) || crate::linux::process::UID == 0 { Ok(DONE) } else { Err(Errno::EPERM) }
}

pub(super) fn chown(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    set_owner(node_at(p, AT_FDCWD, a[0], 0), a[1], a[2])
}

pub(super) fn lchown(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    set_owner(node_at(p, AT_FDCWD, a[0], AT_SYMLINK_NOFOLLOW), a[1], a[2])
}

pub(super) fn fchown(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    set_owner(p.files.usable(a[0]).and_then(|open| open.node()), a[1], a[2])
}

pub(super) fn fchownat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    set_owner(node_at(p, a[0], a[1], a[4]), a[2], a[3])
}

/// `utimensat`: without a path the descriptor's file.
pub(super) fn utimensat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    const NOW: i64 = 0x3fff_ffff;
    const OMIT: i64 = 0x3fff_fffe;
    if a[3] & 0xffff_ffff & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let now = Files::now(&p.host);
    let mut times = [Some(now), Some(now)];
    if a[2] != 0 {
        for (time, [seconds, nanos]) in times.iter_mut().zip(p.user.read_value::<[[i64; 2]; 2]>(a[2])?) {
            *time = match nanos {
                NOW => Some(now),
                OMIT => None,
                0..NANOS => Some(seconds.saturating_mul(NANOS).saturating_add(nanos)),
                _ => return Err(Errno::EINVAL),
            };
        }
    }
    let node = if a[1] == 0 { p.files.open_at(a[0])?.node()? } else { node_at(p, a[0], a[1], a[3])? };
    set_times(p, node, times)
}

fn set_times(p: &mut Program, node: Node, times: [Option<i64>; 2]) -> Result<Answer, Errno> {
    change(p, node, |inode| {
        inode.accessed = times[0].unwrap_or(inode.accessed);
        inode.modified = times[1].unwrap_or(inode.modified);
    })
}

/// `utimes`: microseconds.
pub(super) fn utimes(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    set_times_micros(p, AT_FDCWD, a[0], a[1])
}

pub(super) fn futimesat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    set_times_micros(p, a[0], a[1], a[2])
}

fn set_times_micros(p: &mut Program, dirfd: u64, path: u64, times: u64) -> Result<Answer, Errno> {
    let mut new = [Some(Files::now(&p.host)); 2];
    if times != 0 {
        for (time, [seconds, micros]) in new.iter_mut().zip(p.user.read_value::<[[i64; 2]; 2]>(times)?) {
            if !(0..1_000_000).contains(&micros) {
                return Err(Errno::EINVAL);
            }
            *time = Some(seconds.saturating_mul(NANOS).saturating_add(micros * 1000));
        }
    }
    let node = node_at(p, dirfd, path, 0)?;
    set_times(p, node, new)
}

/// `utime`: whole seconds.
pub(super) fn utime(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let mut times = [Some(Files::now(&p.host)); 2];
    if a[1] != 0 {
        times = p.user.read_value::<[i64; 2]>(a[1])?.map(|seconds| Some(seconds.saturating_mul(NANOS)));
    }
    let node = node_at(p, AT_FDCWD, a[0], 0)?;
    set_times(p, node, times)
}

pub(super) fn statfs(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = node_at(p, AT_FDCWD, a[0], 0)?;
    put_statfs(p, node, a[1])
}

pub(super) fn fstatfs(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = p.files.open_at(a[0])?.node()?;
    put_statfs(p, node, a[1])
}

/// `struct statfs`. Free space is what a power of two of pages would still fit: the store tells no more.
fn put_statfs(p: &mut Program, node: Node, out: u64) -> Result<Answer, Errno> {
    const TMPFS: u64 = 0x0102_1994;
    const PROC: u64 = 0x9fa0;
    let proc = matches!(node, Node::Proc(_));
    let free = if proc {
        0
    } else {
        (0..40).map(|n| 1_u64 << n).take_while(|&n| p.host.segments.room_for(n)).last().unwrap_or(0)
    };
    let used: u64 =
        if proc { 0 } else { p.files.inodes.values().map(|i| i.size.div_ceil(4096)).fold(0, u64::saturating_add) };
    let mut words = [0_u64; 15];
    words[0] = if proc { PROC } else { TMPFS };
    words[1] = 4096;
    words[2] = free.saturating_add(used);
    (words[3], words[4]) = (free, free);
    words[5] = 1 << 32;
    words[6] = (1 << 32) - p.files.inodes.len() as u64;
    words[8] = NAME_MAX as u64;
    words[9] = 4096;
    p.user.write_value(out, &words)?;
    Ok(DONE)
}
