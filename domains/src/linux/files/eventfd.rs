//! `eventfd`: a counter that a program adds to and waits for; what event loops wake themselves by. The inode has the counter, how often it
//! was added to, and whether a read takes one or all of it.

use super::Errno;
use super::flags::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use super::flow::Flow;
use super::node::Node;
use super::records::{Inode, kind};
use crate::linux::{Answer, Program, Wait};

/// `EFD_SEMAPHORE`; the other flags are those of `open`.
const SEMAPHORE: u64 = 1;
/// The counter stays below this.
const LIMIT: u64 = u64::MAX;

impl Inode {
    /// Whether a read of the counter does not wait, and whether adding one does not.
    pub(super) const fn counter_ready(&self) -> (bool, bool) {
        (self.cursor > 0, self.cursor < LIMIT - 1)
    }
}

impl Program {
    pub(super) fn read_counter(&mut self, number: u64, nonblocking: bool, out: &mut [u8]) -> Result<Flow, Errno> {
        let Some(out) = out.first_chunk_mut::<8>() else { return Err(Errno::EINVAL) };
        let counter = self.files.inode(number)?;
        let (value, rest) = match (counter.cursor, counter.device) {
            (0, _) => return if nonblocking { Err(Errno::EAGAIN) } else { Ok(Flow::Wait(Wait::default())) },
            (all, 0) => (all, 0),
            (all, _) => (1, all - 1),
        };
        self.files.inodes.update(&mut self.state, number, |i| i.cursor = rest)?;
        *out = value.to_ne_bytes();
        Ok(Flow::Done(8))
    }

    pub(super) fn write_counter(&mut self, number: u64, nonblocking: bool, data: &[u8]) -> Result<Flow, Errno> {
        let Some(data) = data.first_chunk::<8>() else { return Err(Errno::EINVAL) };
        let more = u64::from_ne_bytes(*data);
        if more == LIMIT {
            return Err(Errno::EINVAL);
        }
        if LIMIT - self.files.inode(number)?.cursor <= more {
            return if nonblocking { Err(Errno::EAGAIN) } else { Ok(Flow::Wait(Wait::default())) };
        }
        self.files.inodes.update(&mut self.state, number, |i| {
            i.cursor += more;
            i.size = i.size.wrapping_add(1);
        })?;
        Ok(Flow::Done(8))
    }
}

pub(super) fn eventfd(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    eventfd2(p, [a[0], 0, 0, 0, 0, 0])
}

pub(super) fn eventfd2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (count, flags) = (a[0] & 0xffff_ffff, a[1] & 0xffff_ffff);
    if flags & !(SEMAPHORE | O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    p.files.free_fd(0)?;
    let inode = p.files.new_inode(&mut p.state, &p.host, kind::EVENT, 0o600)?;
    p.files.inodes.update(&mut p.state, inode, |i| (i.cursor, i.device) = (count, flags & SEMAPHORE))?;
    let status = O_RDWR | flags & O_NONBLOCK;
    let fd = p.files.open_node(&mut p.state, Node::Inode(inode), status, flags & O_CLOEXEC != 0)?;
    Ok(Answer::Value(u64::from(fd)))
}
