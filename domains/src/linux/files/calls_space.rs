//! Calls that change a file's size or what of it takes space.

use super::flags::{AT_FDCWD, W_OK};
use super::node::{Node, NodeKind};
use super::records::{FILE_BYTES, OpenFile};
use super::{Errno, data};
use crate::linux::{Answer, Program};

const DONE: Answer = Answer::Value(0);

pub(super) fn truncate(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let size = u64::try_from(a[1].cast_signed()).map_err(|_| Errno::EINVAL)?;
    let path = p.path(a[0])?;
    let node = p.find(AT_FDCWD, &path, true)?.existing()?;
    match p.files.kind_of(node)? {
        NodeKind::Regular(number) => {
            p.files.permitted(Node::Inode(number), W_OK)?;
            p.files.set_size(&mut p.state, &p.host, number, size)?;
            Ok(DONE)
        }
        kind if kind.is_directory() => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn ftruncate(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let open = p.files.usable(a[0])?;
    let size = u64::try_from(a[1].cast_signed()).map_err(|_| Errno::EINVAL)?;
    let number = regular(p, &open, Errno::EINVAL)?;
    if !open.writable() {
        return Err(Errno::EINVAL);
    }
    p.files.set_size(&mut p.state, &p.host, number, size)?;
    Ok(DONE)
}

fn regular(p: &Program, open: &OpenFile, other: Errno) -> Result<u64, Errno> {
    match p.files.kind_of(open.node()?)? {
        NodeKind::Regular(number) => Ok(number),
        _ => Err(other),
    }
}

/// `fallocate`: room is asked for, not set aside; holes and ranges of zeros are made.
pub(super) fn fallocate(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    const KEEP_SIZE: u64 = 1;
    const PUNCH_HOLE: u64 = 2;
    const ZERO_RANGE: u64 = 16;
    let open = p.files.usable(a[0])?;
    let mode = a[1] & 0xffff_ffff;
    let offset = u64::try_from(a[2].cast_signed()).map_err(|_| Errno::EINVAL)?;
    let length = u64::try_from(a[3].cast_signed()).ok().filter(|&n| n > 0).ok_or(Errno::EINVAL)?;
    let keeps = mode & KEEP_SIZE != 0;
    if !open.writable() {
        return Err(Errno::EBADF);
    }
    if matches!(p.files.kind_of(open.node()?)?, NodeKind::Pipe(_)) {
        return Err(Errno::ESPIPE);
    }
    let number = regular(p, &open, Errno::ENODEV)?;
    let end = offset.checked_add(length).filter(|&end| end <= FILE_BYTES).ok_or(Errno::EFBIG)?;
    match mode & !KEEP_SIZE {
        PUNCH_HOLE if keeps => {}
        0 | ZERO_RANGE => {
            if let Some(wait) = p.host.room(data::pages_of(length))? {
                return Ok(Answer::Wait(wait));
            }
        }
        _ => return Err(Errno::EOPNOTSUPP),
    }
    let inode = *p.files.inode(number)?;
    if !keeps && end > inode.size {
        p.files.set_size(&mut p.state, &p.host, number, end)?;
    }
    if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
        p.files.punch(&mut p.state, &p.host, inode, (offset, end))?;
    }
    Ok(DONE)
}
