//! Calls that change the tree of names.

use super::Errno;
use super::flags::{AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, W_OK};
use super::node::{Node, NodeKind};
use super::path::Last;
use super::records::{PATH_MAX, kind};
use crate::linux::{Answer, Program};

const DONE: Answer = Answer::Value(0);

pub(super) fn getcwd(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let mut path = p.files.path_of(p.files.cwd()?)?;
    path.push(0);
    if path.len() as u64 > a[1] {
        return Err(Errno::ERANGE);
    }
    if path.len() > PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    p.user.write(a[0], &path)?;
    Ok(Answer::Value(path.len() as u64))
}

pub(super) fn chdir(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let path = p.path(a[0])?;
    let node = p.find(AT_FDCWD, &path, true)?.existing()?;
    go_to(p, node)
}

pub(super) fn fchdir(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let node = p.files.open_at(a[0])?.node()?;
    go_to(p, node)
}

fn go_to(p: &mut Program, node: Node) -> Result<Answer, Errno> {
    if !p.files.kind_of(node)?.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    p.files.permitted(node, super::flags::X_OK)?;
    let old = p.files.cwd()?;
    p.files.settings.update(&mut p.state, |s| s.cwd = node.word())?;
    if let Node::Inode(number) = old {
        p.files.forget(&mut p.state, &p.host, number)?;
    }
    Ok(DONE)
}

pub(super) fn mkdir(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    make_directory(p, AT_FDCWD, a[0], a[1])
}

pub(super) fn mkdirat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    make_directory(p, a[0], a[1], a[2])
}

fn make_directory(p: &mut Program, dirfd: u64, address: u64, mode: u64) -> Result<Answer, Errno> {
    let path = p.path(address)?;
    let place = p.find(dirfd, &path, false)?;
    let (parent, name) = place.free_directory_name()?;
    p.files.permitted(Node::Inode(parent), W_OK)?;
    let mode = super::calls_open::mode_of(p, mode & 0o1777);
    p.files.make_directory(&mut p.state, &p.host, parent, name, mode)?;
    Ok(DONE)
}

pub(super) fn rmdir(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    remove_directory(p, AT_FDCWD, a[0])
}

pub(super) fn unlink(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    remove_name(p, AT_FDCWD, a[0])
}

pub(super) fn unlinkat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    match a[2] & 0xffff_ffff {
        0 => remove_name(p, a[0], a[1]),
        AT_REMOVEDIR => remove_directory(p, a[0], a[1]),
        _ => Err(Errno::EINVAL),
    }
}

fn remove_directory(p: &mut Program, dirfd: u64, address: u64) -> Result<Answer, Errno> {
    let path = p.path(address)?;
    let place = p.find(dirfd, &path, false)?;
    let other = match place.last {
        Last::DotDot => Errno::ENOTEMPTY,
        Last::Dot if path.iter().all(|&b| b == b'/') => Errno::EBUSY,
        _ => Errno::EINVAL,
    };
    let (parent, name, _) = place.used_name(other)?;
    p.files.permitted(Node::Inode(parent), W_OK)?;
    p.files.remove_directory(&mut p.state, &p.host, parent, name)?;
    Ok(DONE)
}

fn remove_name(p: &mut Program, dirfd: u64, address: u64) -> Result<Answer, Errno> {
    let path = p.path(address)?;
    let place = p.find(dirfd, &path, false)?;
    if place.node.is_some_and(|node| p.files.kind_of(node).is_ok_and(NodeKind::is_directory)) {
        return Err(Errno::EISDIR);
    }
    let (parent, name, _) = place.used_name(Errno::EISDIR)?;
    p.files.permitted(Node::Inode(parent), W_OK)?;
    p.files.unlink(&mut p.state, &p.host, parent, name)?;
    Ok(DONE)
}

pub(super) fn rename(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    move_name(p, (AT_FDCWD, a[0]), (AT_FDCWD, a[1]), 0)
}

pub(super) fn renameat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    move_name(p, (a[0], a[1]), (a[2], a[3]), 0)
}

pub(super) fn renameat2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    move_name(p, (a[0], a[1]), (a[2], a[3]), a[4] & 0xffff_ffff)
}

fn move_name(p: &mut Program, from: (u64, u64), to: (u64, u64), flags: u64) -> Result<Answer, Errno> {
    const NOREPLACE: u64 = 1;
    if flags & !NOREPLACE != 0 {
        return Err(Errno::EINVAL);
    }
    let (old_path, new_path) = (p.path(from.1)?, p.path(to.1)?);
    let (old, new) = (p.find(from.0, &old_path, false)?, p.find(to.0, &new_path, false)?);
    let (old_parent, old_name, child) = old.used_name(Errno::EBUSY)?;
    if flags & NOREPLACE != 0 && new.node.is_some() {
        return Err(Errno::EEXIST);
    }
    let is_directory = p.files.inode(child)?.kind == kind::DIRECTORY;
    if (old.slash || new.slash) && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    let (new_parent, new_name) = match new.node {
        Some(_) => {
            let (parent, name, _) = new.used_name(Errno::EBUSY)?;
            (parent, name)
        }
        None => new.free_directory_name()?,
    };
    // What lies in the moved directory cannot be a target, nor can what holds it.
    if new.node.is_some_and(|node| matches!(node, Node::Inode(n) if n != child && p.files.lies_within(old_parent, n))) {
        return Err(Errno::ENOTEMPTY);
    }
    for parent in [old_parent, new_parent] {
        p.files.permitted(Node::Inode(parent), W_OK)?;
    }
    p.files.rename(&mut p.state, &p.host, (old_parent, old_name), (new_parent, new_name))?;
    Ok(DONE)
}

pub(super) fn link(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    make_link(p, (AT_FDCWD, a[0]), (AT_FDCWD, a[1]), 0)
}

pub(super) fn linkat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    make_link(p, (a[0], a[1]), (a[2], a[3]), a[4] & 0xffff_ffff)
}

fn make_link(p: &mut Program, from: (u64, u64), to: (u64, u64), flags: u64) -> Result<Answer, Errno> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let (old, new) = (p.path(from.1)?, p.path(to.1)?);
    let node = if old.is_empty() && flags & AT_EMPTY_PATH != 0 {
        p.files.open_at(from.0)?.node()?
    } else {
        p.find(from.0, &old, flags & AT_SYMLINK_FOLLOW != 0)?.existing()?
    };
    let place = p.find(to.0, &new, false)?;
    let (parent, name) = place.free_name()?;
    let Node::Inode(number) = node else { return Err(Errno::EXDEV) };
    let inode = p.files.inode(number)?;
    if inode.kind == kind::DIRECTORY {
        return Err(Errno::EPERM);
    }
    if inode.links == 0 {
        return Err(Errno::ENOENT);
    }
    p.files.permitted(Node::Inode(parent), W_OK)?;
    p.files.add_name(&mut p.state, &p.host, parent, name, number)?;
    Ok(DONE)
}

pub(super) fn symlink(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    make_symlink(p, a[0], AT_FDCWD, a[1])
}

pub(super) fn symlinkat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    make_symlink(p, a[0], a[1], a[2])
}

fn make_symlink(p: &mut Program, target: u64, dirfd: u64, address: u64) -> Result<Answer, Errno> {
    let (target, path) = (p.path(target)?, p.path(address)?);
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let place = p.find(dirfd, &path, false)?;
    let (parent, name) = place.free_name()?;
    p.files.permitted(Node::Inode(parent), W_OK)?;
    if let Some(wait) = p.host.room(1)? {
        return Ok(Answer::Wait(wait));
    }
    let number = p.files.new_inode(&mut p.state, &p.host, kind::SYMLINK, 0o777)?;
    p.files.add_name(&mut p.state, &p.host, parent, name, number)?;
    p.files.set_target(&mut p.state, &p.host, number, &target)?;
    Ok(DONE)
}

pub(super) fn readlink(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    read_link(p, AT_FDCWD, a[0], a[1], a[2])
}

pub(super) fn readlinkat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    read_link(p, a[0], a[1], a[2], a[3])
}

fn read_link(p: &mut Program, dirfd: u64, path: u64, out: u64, size: u64) -> Result<Answer, Errno> {
    if size & 0xffff_ffff == 0 || size & 0x8000_0000 != 0 {
        return Err(Errno::EINVAL);
    }
    let path = p.path(path)?;
    let node = match path.is_empty() {
        true => p.files.open_at(dirfd)?.node()?,
        false => p.find(dirfd, &path, false)?.existing()?,
    };
    let target = match p.files.kind_of(node)? {
        NodeKind::Symlink(number) => p.files.target(&p.host, number)?,
        NodeKind::Proc(proc) if NodeKind::Proc(proc).is_symlink() => p.proc_target(proc)?,
        _ if path.is_empty() => return Err(Errno::ENOENT),
        _ => return Err(Errno::EINVAL),
    };
    let length = usize::try_from(size & 0xffff_ffff).unwrap_or(usize::MAX).min(target.len());
    p.user.write(out, &target[..length])?;
    Ok(Answer::Value(length as u64))
}

pub(super) fn umask(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let old = p.files.settings.get().umask;
    let new = u32::try_from(a[0] & 0o777).unwrap_or(0);
    p.files.settings.update(&mut p.state, |s| s.umask = new)?;
    Ok(Answer::Value(u64::from(old)))
}
