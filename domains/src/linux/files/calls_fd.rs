//! Calls on descriptors themselves: duplicating, closing, flags, positions.

use super::Errno;
use super::descriptors::fd_number;
use super::devices::JOURNAL;
use super::flags::{O_CLOEXEC, O_DIRECT, O_NONBLOCK, O_RDWR, O_WRONLY, SETTABLE};
use super::journal::has_offset;
use super::node::{Node, NodeKind};
use super::records::{FILE_BYTES, MAX_DESCRIPTORS, kind};
use crate::linux::{Answer, Program};

const DONE: Answer = Answer::Value(0);

pub(super) fn close(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    p.files.close(&mut p.state, &p.host, fd_number(a[0])?)?;
    Ok(DONE)
}

/// `close_range`: also marks instead of closing.
pub(super) fn close_range(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    const UNSHARE: u64 = 2;
    const CLOEXEC: u64 = 4;
    let (first, last) = (a[0] & 0xffff_ffff, a[1] & 0xffff_ffff);
    if a[2] & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    let chosen: Vec<u32> =
        p.files.descriptors.values().map(|d| d.fd).filter(|&fd| (first..=last).contains(&u64::from(fd))).collect();
    for fd in chosen {
        if a[2] & CLOEXEC != 0 {
            p.files.descriptors.update(&mut p.state, fd, |d| d.close_on_exec = 1)?;
        } else {
            p.files.close(&mut p.state, &p.host, fd)?;
        }
    }
    Ok(DONE)
}

pub(super) fn dup(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    duplicate_from(p, a[0], 0, false)
}

fn duplicate_from(p: &mut Program, old: u64, least: u64, close_on_exec: bool) -> Result<Answer, Errno> {
    let open = p.files.open_at(old)?.number;
    let least = u32::try_from(least).ok().filter(|&least| least < MAX_DESCRIPTORS).ok_or(Errno::EINVAL)?;
    let fd = p.files.free_fd(least)?;
    p.files.duplicate(&mut p.state, open, fd, close_on_exec)?;
    Ok(Answer::Value(u64::from(fd)))
}

pub(super) fn dup2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let new = fd_number(a[1])?;
    p.files.open_at(a[0])?;
    if fd_number(a[0])? == new {
        return Ok(Answer::Value(u64::from(new)));
    }
    duplicate_to(p, a[0], new, false)
}

pub(super) fn dup3(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if a[2] & !O_CLOEXEC != 0 || a[0] & 0xffff_ffff == a[1] & 0xffff_ffff {
        return Err(Errno::EINVAL);
    }
    let new = fd_number(a[1])?;
    duplicate_to(p, a[0], new, a[2] & O_CLOEXEC != 0)
}

fn duplicate_to(p: &mut Program, old: u64, new: u32, close_on_exec: bool) -> Result<Answer, Errno> {
    let open = p.files.open_at(old)?.number;
    if p.files.descriptors.contains(new) {
        p.files.close(&mut p.state, &p.host, new)?;
    }
    p.files.duplicate(&mut p.state, open, new, close_on_exec)?;
    Ok(Answer::Value(u64::from(new)))
}

pub(super) fn fcntl(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    const FD_CLOEXEC: u64 = 1;
    const F_UNLCK: u16 = 2;
    let open = p.files.open_at(a[0])?;
    let fd = fd_number(a[0])?;
    match a[1] {
        0 => duplicate_from(p, a[0], a[2], false),
        1030 => duplicate_from(p, a[0], a[2], true),
        1 => Ok(Answer::Value(p.files.descriptors.get(fd).map_or(0, |d| u64::from(d.close_on_exec)))),
        2 => {
            let close_on_exec = u32::from(a[2] & FD_CLOEXEC != 0);
            p.files.descriptors.update(&mut p.state, fd, |d| d.close_on_exec = close_on_exec)?;
            Ok(DONE)
        }
        3 => Ok(Answer::Value(open.flags)),
        _ if open.only_path() => Err(Errno::EBADF),
        4 => {
            let flags = open.flags & !SETTABLE | a[2] & SETTABLE;
            p.files.opens.update(&mut p.state, open.number, |o| o.flags = flags)?;
            Ok(DONE)
        }
        // Locks: the program is alone with its files, so every lock is free and granted.
        5 | 36 => {
            p.user.write_value(a[2], &F_UNLCK)?;
            Ok(DONE)
        }
        6 | 7 | 37 | 38 => {
            p.user.read_value::<u16>(a[2])?;
            Ok(DONE)
        }
        8 | 9 => Ok(DONE),
        1031 | 1032 => match p.files.kind_of(open.node()?)? {
            NodeKind::Pipe(_) => Ok(Answer::Value(super::pipe::CAPACITY)),
            _ => Err(Errno::EBADF),
        },
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn flock(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    p.files.usable(a[0])?;
    // Shared, exclusive, unlock; with or without "do not block".
    if matches!(a[1] & !4, 1 | 2 | 8) { Ok(DONE) } else { Err(Errno::EINVAL) }
}

/// What is durable follows the checkpoints: nothing to do at once.
pub(super) fn fsync(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    match p.files.kind_of(p.files.usable(a[0])?.node()?)? {
        NodeKind::Regular(_) | NodeKind::Directory(_) => Ok(DONE),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn sync(_: &mut Program, _: [u64; 6]) -> Result<Answer, Errno> {
    Ok(DONE)
}

pub(super) fn fadvise(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    match p.files.kind_of(p.files.usable(a[0])?.node()?)? {
        NodeKind::Pipe(_) => Err(Errno::ESPIPE),
        _ if a[3] > 5 => Err(Errno::EINVAL),
        _ => Ok(DONE),
    }
}

/// Where a seek goes.
///
/// # Errors
/// `EINVAL` before the start or for an unknown `whence`, `EOVERFLOW`.
pub(super) fn seek_target(offset: i64, whence: u64, current: u64, end: u64) -> Result<u64, Errno> {
    let from = match whence {
        0 => 0,
        1 => current,
        2 => end,
        _ => return Err(Errno::EINVAL),
    };
    let from = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
    let target = from.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    u64::try_from(target).map_err(|_| Errno::EINVAL)
}

pub(super) fn lseek(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let open = p.files.usable(a[0])?;
    let (offset, whence) = (a[1].cast_signed(), a[2] & 0xffff_ffff);
    let target = match p.files.kind_of(open.node()?)? {
        NodeKind::Pipe(_)
        | NodeKind::Symlink(_)
        | NodeKind::Socket(_)
        | NodeKind::Unix(_)
        | NodeKind::Name(_)
        | NodeKind::Epoll(_)
        | NodeKind::Timer(_) => return Err(Errno::ESPIPE),
        NodeKind::Event(_) | NodeKind::Signals(_) => return Ok(DONE),
        NodeKind::Console(n) => return p.seek_console(n, offset, whence).map(Answer::Value),
        NodeKind::Device(JOURNAL) => return p.seek_journal(&open, offset, whence),
        NodeKind::Device(device) if has_offset(device) => seek_target(offset, whence, open.offset, 0)?,
        NodeKind::Device(_) => return Ok(DONE),
        NodeKind::Regular(number) => {
            let size = p.files.inode(number)?.size;
            match whence {
                // The whole file counts as data.
                3 | 4 if !u64::try_from(offset).is_ok_and(|at| at < size) => return Err(Errno::ENXIO),
                3 => offset.cast_unsigned(),
                4 => size,
                _ => seek_target(offset, whence, open.offset, size)?,
            }
        }
        NodeKind::Directory(number) => {
            let end = p.files.inode(number)?.cursor;
            seek_target(offset, whence, open.offset, end)?
        }
        NodeKind::Proc(_) if whence == 2 => return Err(Errno::EINVAL),
        NodeKind::Proc(_) => seek_target(offset, whence, open.offset, 0)?,
    };
    if target > FILE_BYTES {
        return Err(Errno::EINVAL);
    }
    p.files.set_offset(&mut p.state, open.number, target)?;
    Ok(Answer::Value(target))
}

pub(super) fn pipe(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    make_pipe(p, a[0], 0)
}

pub(super) fn pipe2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if a[1] & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    make_pipe(p, a[0], a[1])
}

fn make_pipe(p: &mut Program, address: u64, flags: u64) -> Result<Answer, Errno> {
    if p.user.writable(address, 8) < 8 {
        return Err(Errno::EFAULT);
    }
    let number = p.files.new_inode(&mut p.state, &p.host, kind::FIFO, 0o600)?;
    let (node, close_on_exec, status) = (Node::Inode(number), flags & O_CLOEXEC != 0, flags & O_NONBLOCK);
    let read = p.files.open_node(&mut p.state, node, status, close_on_exec)?;
    let write = p.files.open_node(&mut p.state, node, status | O_WRONLY, close_on_exec)?;
    debug_assert!(status & O_RDWR == 0);
    p.user.write_value(address, &[read, write])?;
    Ok(DONE)
}
