//! Descriptors and open file descriptions.

use super::super::state::State;
use super::flags::{KEPT, O_ACCMODE, O_APPEND, O_NONBLOCK, O_PATH, O_RDWR, O_WRONLY};
use super::mirror::Keyed;
use super::node::Node;
use super::records::{Descriptor, MAX_DESCRIPTORS, OpenFile, StreamRecord};
use super::{Errno, Files, Host};

impl Keyed for OpenFile {
    type Key = u64;
    fn key(&self) -> u64 {
        self.number
    }
}

impl Keyed for Descriptor {
    type Key = u32;
    fn key(&self) -> u32 {
        self.fd
    }
}

impl Keyed for StreamRecord {
    type Key = u64;
    fn key(&self) -> u64 {
        self.stream
    }
}

impl OpenFile {
    /// What is open.
    pub(super) fn node(&self) -> Result<Node, Errno> {
        Node::from_word(self.node).ok_or(Errno::EIO)
    }

    /// Opened for reading.
    pub(super) const fn readable(&self) -> bool {
        self.flags & O_PATH == 0 && self.flags & O_ACCMODE != O_WRONLY
    }

    /// Opened for writing.
    pub(super) const fn writable(&self) -> bool {
        self.flags & O_PATH == 0 && matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR)
    }

    /// Writes go to the end.
    pub(super) const fn appends(&self) -> bool {
        self.flags & O_APPEND != 0
    }

    /// Calls answer `EAGAIN` instead of waiting.
    pub(super) const fn nonblocking(&self) -> bool {
        self.flags & O_NONBLOCK != 0
    }

    /// Only names a file (`O_PATH`).
    pub(super) const fn only_path(&self) -> bool {
        self.flags & O_PATH != 0
    }
}

/// The descriptor that a register holds: its lower half, as in Linux.
pub(super) fn fd_number(register: u64) -> Result<u32, Errno> {
    let fd = u32::try_from(register & 0xffff_ffff).map_err(|_| Errno::EBADF)?;
    if fd < MAX_DESCRIPTORS { Ok(fd) } else { Err(Errno::EBADF) }
}

impl Files {
    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub(super) fn open_at(&self, register: u64) -> Result<OpenFile, Errno> {
        let fd = fd_number(register)?;
        let descriptor = self.descriptors.get(fd).ok_or(Errno::EBADF)?;
        self.opens.get(descriptor.open).copied().ok_or(Errno::EIO)
    }

    /// As [`Files::open_at`], for calls that `O_PATH` descriptors do not serve.
    pub(super) fn usable(&self, register: u64) -> Result<OpenFile, Errno> {
        let open = self.open_at(register)?;
        if open.only_path() { Err(Errno::EBADF) } else { Ok(open) }
    }

    /// The lowest free descriptor from `least` on.
    ///
    /// # Errors
    /// `EMFILE`.
    pub(super) fn free_fd(&self, least: u32) -> Result<u32, Errno> {
        let mut free = least;
        for descriptor in self.descriptors.range(least..) {
            if descriptor.fd != free {
                break;
            }
            free += 1;
        }
        if free < MAX_DESCRIPTORS { Ok(free) } else { Err(Errno::EMFILE) }
    }

    /// Opens a node under the lowest free descriptor.
    ///
    /// # Errors
    /// `EMFILE`, and what the table says.
    pub(super) fn open_node(
        &mut self,
        state: &mut State,
        node: Node,
        flags: u64,
        close_on_exec: bool,
    ) -> Result<u32, Errno> {
        let fd = self.free_fd(0)?;
        let number = self.settings.get().next_open;
        self.settings.update(state, |s| s.next_open += 1)?;
        self.opens.insert(state, OpenFile { number, node: node.word(), flags: flags & KEPT, offset: 0 })?;
        let close_on_exec = u32::from(close_on_exec);
        self.descriptors.insert(state, Descriptor { fd, close_on_exec, open: number })?;
        Ok(fd)
    }

    /// Makes `fd`, which must be free, another descriptor of an open file.
    pub(super) fn duplicate(
        &mut self,
        state: &mut State,
        open: u64,
        fd: u32,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        self.descriptors.insert(state, Descriptor { fd, close_on_exec: u32::from(close_on_exec), open })
    }

    /// Closes a descriptor; with the last one of an open file that goes too, and with it a file without names.
    ///
    /// # Errors
    /// `EBADF`.
    pub(super) fn close(&mut self, state: &mut State, host: &Host, fd: u32) -> Result<(), Errno> {
        if !self.descriptors.contains(fd) {
            return Err(Errno::EBADF);
        }
        let open = self.descriptors.remove(state, fd)?.open;
        if self.descriptors.values().any(|descriptor| descriptor.open == open) {
            return Ok(());
        }
        let closed = self.opens.remove(state, open)?;
        self.forget_interests_in(state, open)?;
        if let Node::Inode(number) = closed.node()? {
            if !self.is_held(number) {
                self.segments.remove(&number);
            }
            self.forget(state, host, number)?;
        }
        Ok(())
    }

    /// Sets where the next read or write of an open file is.
    pub(super) fn set_offset(&mut self, state: &mut State, open: u64, offset: u64) -> Result<(), Errno> {
        self.opens.update(state, open, |o| o.offset = offset)
    }
}
