//! `signalfd`: signals that a program reads instead of handling them. Which ones is in the inode; those that wait are the program's.

use super::Errno;
use super::flags::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use super::flow::Flow;
use super::node::{Node, NodeKind};
use super::records::kind;
use crate::linux::signals::{Info, SI_KERNEL, UNBLOCKABLE};
use crate::linux::{Answer, Program, Wait};

/// Bytes of `struct signalfd_siginfo`.
const INFO: usize = 128;
/// `si_code` of a signal that `sigqueue` sent, with a value.
const SI_QUEUE: i32 = -1;

/// A signal as `struct signalfd_siginfo`.
fn told(info: &Info) -> [u8; INFO] {
    let mut out = [0; INFO];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &info.signal.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    if info.code != SI_KERNEL {
        // Sender and user.
        put(12, &info.words[0].to_le_bytes());
    }
    if info.code == SI_QUEUE {
        // As a number, and as an address.
        put(44, &info.words[1].to_le_bytes()[..4]);
        put(48, &info.words[1].to_le_bytes());
    }
    out
}

impl Program {
    pub(super) fn read_signals(&mut self, number: u64, nonblocking: bool, out: &mut [u8]) -> Result<Flow, Errno> {
        if out.len() < INFO {
            return Err(Errno::EINVAL);
        }
        let wanted = self.files.inode(number)?.cursor;
        let mut done = 0;
        for place in out.chunks_exact_mut(INFO) {
            let Some(info) = self.signals.take(&mut self.state, wanted)? else { break };
            place.copy_from_slice(&told(&info));
            done += INFO;
        }
        match done {
            0 if nonblocking => Err(Errno::EAGAIN),
            0 => Ok(Flow::Wait(Wait::default())),
            done => Ok(Flow::Done(done)),
        }
    }
}

pub(super) fn signalfd(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    signalfd4(p, [a[0], a[1], a[2], 0, 0, 0])
}

pub(super) fn signalfd4(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let flags = a[3] & 0xffff_ffff;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 || a[2] != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = p.user.read_value::<u64>(a[1])? & !UNBLOCKABLE;
    if a[0] & 0xffff_ffff == 0xffff_ffff {
        p.files.free_fd(0)?;
        let inode = p.files.new_inode(&mut p.state, &p.host, kind::SIGNALS, 0o600)?;
        p.files.inodes.update(&mut p.state, inode, |i| i.cursor = mask)?;
        let status = O_RDWR | flags & O_NONBLOCK;
        let fd = p.files.open_node(&mut p.state, Node::Inode(inode), status, flags & O_CLOEXEC != 0)?;
        return Ok(Answer::Value(u64::from(fd)));
    }
    match p.files.kind_of(p.files.usable(a[0])?.node()?)? {
        NodeKind::Signals(number) => p.files.inodes.update(&mut p.state, number, |i| i.cursor = mask)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(Answer::Value(a[0] & 0xffff_ffff))
}
