//! Pipes within one program: a ring in a segment, with the bytes ever written and ever read in the inode.

use super::flow::Flow;
use super::node::Node;
use super::records::Inode;
use super::{Errno, Files};
use crate::linux::{Program, Wait};

/// Bytes that a pipe holds (Linux's default).
pub(super) const CAPACITY: u64 = 64 * 1024;
/// Writes up to this long are all or nothing.
const ATOMIC: u64 = 4096;

impl Files {
    /// Bytes waiting in a pipe.
    pub(super) fn pipe_bytes(&self, number: u64) -> u64 {
        self.inodes.get(number).map_or(0, bytes_in)
    }

    /// Whether anybody can read and anybody can write the pipe.
    pub(super) fn pipe_ends(&self, number: u64) -> (bool, bool) {
        let word = Node::Inode(number).word();
        let mut ends = (false, false);
        for open in self.opens.values().filter(|open| open.node == word) {
            ends.0 |= open.readable();
            ends.1 |= open.writable();
        }
        ends
    }
}

impl Program {
    pub(super) fn read_pipe(&mut self, number: u64, nonblocking: bool, out: &mut [u8]) -> Result<Flow, Errno> {
        let waiting = self.files.pipe_bytes(number);
        let count = usize::try_from(waiting).unwrap_or(usize::MAX).min(out.len());
        if count == 0 {
            if out.is_empty() || !self.files.pipe_ends(number).1 {
                return Ok(Flow::Done(0));
            }
            // Only a signal handler of the program itself can write now.
            return if nonblocking { Err(Errno::EAGAIN) } else { Ok(Flow::Wait(Wait::default())) };
        }
        let at = self.files.inode(number)?.cursor;
        let segment = self.files.segment_made(&mut self.state, &self.host, number)?;
        for (position, from, to) in ring(CAPACITY, at, count) {
            segment.read_at(position, &mut out[from..to]).map_err(|_| Errno::EIO)?;
        }
        self.files.inodes.update(&mut self.state, number, |i| i.cursor += count as u64)?;
        Ok(Flow::Done(count))
    }

    pub(super) fn write_pipe(&mut self, number: u64, nonblocking: bool, data: &[u8]) -> Result<Flow, Errno> {
        if !self.files.pipe_ends(number).0 {
            return Err(Errno::EPIPE);
        }
        let room = CAPACITY.saturating_sub(self.files.pipe_bytes(number));
        let length = data.len() as u64;
        if data.is_empty() {
            return Ok(Flow::Done(0));
        }
        if room == 0 || length <= ATOMIC && room < length {
            return if nonblocking { Err(Errno::EAGAIN) } else { Ok(Flow::Wait(Wait::default())) };
        }
        if let Some(wait) = self.host.room(super::data::pages_of(room.min(length)))? {
            return if nonblocking { Err(Errno::EAGAIN) } else { Ok(Flow::Wait(wait)) };
        }
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
        let at = self.files.inode(number)?.size;
        let segment = self.files.segment_made(&mut self.state, &self.host, number)?;
        self.files.inodes.update(&mut self.state, number, |i| i.size += count as u64)?;
        for (position, from, to) in ring(CAPACITY, at, count) {
            segment.write_at(position, &data[from..to]).map_err(|_| Errno::EIO)?;
        }
        Ok(Flow::Done(count))
    }
}

/// Bytes that wait in what is read and written by positions.
pub(super) const fn bytes_in(inode: &Inode) -> u64 {
    inode.size.saturating_sub(inode.cursor)
}

/// The one or two runs in a ring of `capacity` bytes of `count` bytes from absolute position `at`: place, and range in the caller's bytes.
pub(super) fn ring(capacity: u64, at: u64, count: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let place = at % capacity;
    let first = usize::try_from(capacity - place).unwrap_or(usize::MAX).min(count);
    [(place, 0, first), (0, first, count)].into_iter().filter(|&(_, from, to)| from < to)
}
