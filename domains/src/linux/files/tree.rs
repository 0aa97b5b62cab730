//! The tree of names: inodes made and forgotten, names added, removed and moved.

use super::super::state::State;
use super::mirror::{Keyed, Mirror};
use super::node::{Node, PROC_MOUNT, Proc, ROOT};
use super::records::{Dirent, INLINE_TARGET, Inode, LINK_MAX, NAME_MAX, kind};
use super::{Errno, Files, Host, damaged};
use std::collections::HashMap;
use zerocopy::FromZeros;

/// Cookies of names begin here; `.` and `..` come before.
pub(super) const FIRST_COOKIE: u64 = 3;

impl Keyed for Inode {
    type Key = u64;
    fn key(&self) -> u64 {
        self.number
    }
}

impl Keyed for Dirent {
    type Key = (u64, u64);
    fn key(&self) -> (u64, u64) {
        (self.parent, self.cookie)
    }
}

/// All names, by directory: in the order they were made, and by name.
pub(super) struct Names {
    entries: Mirror<Dirent>,
    cookies: HashMap<u64, HashMap<Vec<u8>, u64>>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { entries: Mirror::new(), cookies: HashMap::new() }
    }

    pub(super) fn load(state: &State) -> Result<Self, Errno> {
        let entries = Mirror::<Dirent>::load(state)?;
        let mut cookies: HashMap<u64, HashMap<Vec<u8>, u64>> = HashMap::new();
        for entry in entries.values() {
            if cookies.entry(entry.parent).or_default().insert(entry.name().to_vec(), entry.cookie).is_some() {
                return Err(damaged(&format!("a name stands twice in directory {}", entry.parent)));
            }
        }
        Ok(Self { entries, cookies })
    }

    pub(super) fn find(&self, parent: u64, name: &[u8]) -> Option<&Dirent> {
        let cookie = *self.cookies.get(&parent)?.get(name)?;
        self.entries.get((parent, cookie))
    }

    /// The names of a directory from a cookie on.
    pub(super) fn from(&self, parent: u64, cookie: u64) -> impl Iterator<Item = &Dirent> {
        self.entries.range((parent, cookie)..=(parent, u64::MAX))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Dirent> {
        self.entries.values()
    }

    fn insert(&mut self, state: &mut State, entry: Dirent) -> Result<(), Errno> {
        self.entries.insert(state, entry)?;
        self.cookies.entry(entry.parent).or_default().insert(entry.name().to_vec(), entry.cookie);
        Ok(())
    }

    fn remove(&mut self, state: &mut State, parent: u64, name: &[u8]) -> Result<Dirent, Errno> {
        let cookie = self.find(parent, name).ok_or(Errno::ENOENT)?.cookie;
        let entry = self.entries.remove(state, (parent, cookie))?;
        if let Some(names) = self.cookies.get_mut(&parent) {
            names.remove(name);
            if names.is_empty() {
                self.cookies.remove(&parent);
            }
        }
        Ok(entry)
    }
}

impl Files {
    /// A new inode without a name.
    pub(super) fn new_inode(&mut self, state: &mut State, host: &Host, kind: u32, mode: u32) -> Result<u64, Errno> {
        let mut inode = Inode::new_zeroed();
        let now = Self::now(host);
        inode.number = self.settings.get().next_inode;
        (inode.kind, inode.mode) = (kind, mode & 0o7777);
        (inode.accessed, inode.modified, inode.changed, inode.born) = (now, now, now, now);
        if kind == super::kind::DIRECTORY {
            (inode.links, inode.cursor) = (2, FIRST_COOKIE);
        }
        self.settings.update(state, |s| s.next_inode += 1)?;
        self.inodes.insert(state, inode)?;
        Ok(inode.number)
    }

    pub(super) fn make_root(&mut self, state: &mut State, host: &Host) -> Result<(), Errno> {
        let root = self.new_inode(state, host, kind::DIRECTORY, 0o755)?;
        debug_assert_eq!(root, ROOT);
        self.inodes.update(state, root, |i| i.parent = root)
    }

    /// A new directory with a name; the name must be free.
    pub(super) fn make_directory(
        &mut self,
        state: &mut State,
        host: &Host,
        parent: u64,
        name: &[u8],
        mode: u32,
    ) -> Result<u64, Errno> {
        let number = self.new_inode(state, host, kind::DIRECTORY, mode)?;
        self.inodes.update(state, number, |i| i.parent = parent)?;
        self.add_name(state, host, parent, name, number)?;
        Ok(number)
    }

    /// The node that a name in a directory leads to.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOENT` if the directory is gone.
    pub(super) fn lookup(&self, directory: Node, name: &[u8]) -> Result<Option<Node>, Errno> {
        match directory {
            Node::Proc(p) => self.lookup_proc(p, name),
            Node::Console(_) => Err(Errno::ENOTDIR),
            Node::Inode(number) => {
                if self.inode(number)?.kind != kind::DIRECTORY {
                    return Err(Errno::ENOTDIR);
                }
                Ok(self.names.find(number, name).map(|entry| match entry.child {
                    PROC_MOUNT => Node::Proc(Proc::Root),
                    child => Node::Inode(child),
                }))
            }
        }
    }

    /// Gives an inode a name.
    ///
    /// # Errors
    /// `EEXIST`, `EMLINK`, `ENAMETOOLONG`, `ENOENT` if the directory was removed.
    pub(super) fn add_name(
        &mut self,
        state: &mut State,
        host: &Host,
        parent: u64,
        name: &[u8],
        child: u64,
    ) -> Result<(), Errno> {
        let is_directory = self.inode(child)?.kind == kind::DIRECTORY;
        let holder = *self.inode(parent)?;
        if holder.links == 0 {
            return Err(Errno::ENOENT);
        }
        if self.names.find(parent, name).is_some() {
            return Err(Errno::EEXIST);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.inode(child)?.links >= LINK_MAX || is_directory && holder.links >= LINK_MAX {
            return Err(Errno::EMLINK);
        }
        let mut entry = Dirent::new_zeroed();
        (entry.parent, entry.cookie, entry.child, entry.length) = (parent, holder.cursor, child, name.len() as u64);
        entry.name[..name.len()].copy_from_slice(name);
        self.names.insert(state, entry)?;
        let now = Self::now(host);
        self.inodes.update(state, parent, |i| {
            i.cursor += 1;
            (i.modified, i.changed) = (now, now);
            i.links += u32::from(is_directory);
        })?;
        self.inodes.update(state, child, |i| {
            i.changed = now;
            if is_directory {
                i.parent = parent;
            } else {
                i.links += 1;
            }
        })
    }

    /// Takes a name away and tells what it led to; the caller forgets that if nothing else holds it.
    pub(super) fn take_name(&mut self, state: &mut State, host: &Host, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        let child = self.names.remove(state, parent, name)?.child;
        let is_directory = self.inode(child)?.kind == kind::DIRECTORY;
        let now = Self::now(host);
        self.inodes.update(state, parent, |i| {
            (i.modified, i.changed) = (now, now);
            i.links -= u32::from(is_directory);
        })?;
        self.inodes.update(state, child, |i| {
            i.changed = now;
            i.links -= u32::from(!is_directory);
        })?;
        Ok(child)
    }

    /// Removes a file's name (`unlink`).
    pub(super) fn unlink(&mut self, state: &mut State, host: &Host, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let child = self.names.find(parent, name).ok_or(Errno::ENOENT)?.child;
        if self.inode(child)?.kind == kind::DIRECTORY {
            return Err(Errno::EISDIR);
        }
        self.take_name(state, host, parent, name)?;
        self.forget(state, host, child)
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(
        &mut self,
        state: &mut State,
        host: &Host,
        parent: u64,
        name: &[u8],
    ) -> Result<(), Errno> {
        let child = self.names.find(parent, name).ok_or(Errno::ENOENT)?.child;
        self.may_remove_directory(child)?;
        self.take_name(state, host, parent, name)?;
        self.inodes.update(state, child, |i| i.links = 0)?;
        self.forget(state, host, child)
    }

    fn may_remove_directory(&self, number: u64) -> Result<(), Errno> {
        if self.inode(number)?.kind != kind::DIRECTORY {
            return Err(Errno::ENOTDIR);
        }
        if number == PROC_MOUNT {
            return Err(Errno::EBUSY);
        }
        if self.names.from(number, 0).next().is_some() {
            return Err(Errno::ENOTEMPTY);
        }
        Ok(())
    }

    /// Moves a name; what the new name led to before is removed.
    pub(super) fn rename(
        &mut self,
        state: &mut State,
        host: &Host,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
    ) -> Result<(), Errno> {
        let child = self.names.find(from.0, from.1).ok_or(Errno::ENOENT)?.child;
        let is_directory = self.inode(child)?.kind == kind::DIRECTORY;
        if child == PROC_MOUNT {
            return Err(Errno::EBUSY);
        }
        if is_directory && self.lies_within(to.0, child) {
            return Err(Errno::EINVAL);
        }
        let replaced = self.names.find(to.0, to.1).map(|entry| entry.child);
        if replaced == Some(child) {
            return Ok(());
        }
        if let Some(old) = replaced {
            if is_directory {
                self.may_remove_directory(old)?;
            } else if self.inode(old)?.kind == kind::DIRECTORY {
                return Err(Errno::EISDIR);
            }
            self.take_name(state, host, to.0, to.1)?;
            if is_directory {
                self.inodes.update(state, old, |i| i.links = 0)?;
            }
        }
        self.take_name(state, host, from.0, from.1)?;
        self.add_name(state, host, to.0, to.1, child)?;
        replaced.map_or(Ok(()), |old| self.forget(state, host, old))
    }

    /// Whether `directory` is `ancestor` or lies below it.
    pub(super) fn lies_within(&self, mut directory: u64, ancestor: u64) -> bool {
        loop {
            if directory == ancestor {
                return true;
            }
            match self.inodes.get(directory) {
                Some(inode) if directory != ROOT && inode.parent != directory => directory = inode.parent,
                _ => return false,
            }
        }
    }

    /// Destroys an inode (0: none) that nothing holds any more; the last thing that a call does.
    pub(super) fn forget(&mut self, state: &mut State, host: &Host, number: u64) -> Result<(), Errno> {
        let Some(inode) = self.inodes.get(number).copied() else { return Ok(()) };
        if inode.links > 0 || self.is_held(number) {
            return Ok(());
        }
        self.inodes.remove(state, number)?;
        match inode.kind {
            kind::SOCKET => self.forget_socket(state, host, number)?,
            kind::UNIX => self.forget_unix(state, host, number, super::pipe::bytes_in(&inode) > 0)?,
            kind::EPOLL => self.forget_interests_of(state, number)?,
            _ => {}
        }
        self.segments.remove(&number);
        if inode.segment != 0 {
            host.segments.remove(semper_store::SegmentId(inode.segment));
        }
        Ok(())
    }

    /// Whether something other than a name holds the inode.
    pub(super) fn is_held(&self, number: u64) -> bool {
        let settings = self.settings.get();
        let word = Node::Inode(number).word();
        settings.cwd == word
            || settings.image == number
            || settings.image_path == number
            || self.opens.values().any(|open| open.node == word)
            // It waits to be accepted.
            || self.unix.get(number).is_some_and(|socket| socket.listener != 0)
    }

    /// Sets a new symbolic link's target.
    pub(super) fn set_target(
        &mut self,
        state: &mut State,
        host: &Host,
        number: u64,
        target: &[u8],
    ) -> Result<(), Errno> {
        if target.len() <= INLINE_TARGET {
            return self.inodes.update(state, number, |i| {
                i.target[..target.len()].copy_from_slice(target);
                i.size = target.len() as u64;
            });
        }
        let segment = self.segment_made(state, host, number)?;
        self.inodes.update(state, number, |i| i.size = target.len() as u64)?;
        segment.write_at(0, target).map_err(|_| Errno::EIO)
    }

    /// The target of a symbolic link of the tree.
    pub(super) fn target(&self, host: &Host, number: u64) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(number)?;
        let length = usize::try_from(inode.size).unwrap_or(usize::MAX).min(super::PATH_MAX);
        if length <= INLINE_TARGET {
            return Ok(inode.target[..length].to_vec());
        }
        let segment = host.segments.open(semper_store::SegmentId(inode.segment)).map_err(|_| Errno::EIO)?;
        let mut target = vec![0; length];
        segment.read_at(0, &mut target).map_err(|_| Errno::EIO)?;
        Ok(target)
    }
}
