//! Bytes into and out of open files of every kind, and between them and a program's memory.

use super::Errno;
use super::devices::JOURNAL;
use super::node::NodeKind;
use super::records::OpenFile;
use crate::linux::{Answer, MAX_RW, Program, Wait};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that one step of a transfer holds in the kernel.
pub(super) const STEP: usize = 256 * 1024;
/// Pieces that one call may give (Linux: `UIO_MAXIOV`).
const MAX_PIECES: u64 = 1024;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// This many bytes.
    Done(usize),
    /// None, until this.
    Wait(Wait),
}

/// Where a transfer is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// At the open file's offset, which moves.
    Offset,
    /// Here.
    Here(u64),
}

/// One piece of a program's memory, as `struct iovec`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Piece {
    pub address: u64,
    pub length: u64,
}

impl Program {
    /// The pieces of an `iovec` array.
    ///
    /// # Errors
    /// `EINVAL` for too many or a length that is negative, `EFAULT`.
    pub(super) fn pieces(&self, address: u64, count: u64) -> Result<Vec<Piece>, Errno> {
        if count > MAX_PIECES {
            return Err(Errno::EINVAL);
        }
        let mut pieces = Vec::new();
        for i in 0..count {
            let piece: Piece = self.user.read_value(address.checked_add(i * 16).ok_or(Errno::EFAULT)?)?;
            if piece.length > i64::MAX.cast_unsigned() {
                return Err(Errno::EINVAL);
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// Reads from an open file into memory.
    pub(super) fn read_pieces(&mut self, open: OpenFile, at: At, pieces: &[Piece]) -> Result<Answer, Errno> {
        if !open.readable() {
            return Err(Errno::EBADF);
        }
        match self.files.kind_of(open.node()?)? {
            NodeKind::Device(JOURNAL) => return self.read_journal(&open, at, pieces),
            NodeKind::Socket(number) => {
                let socket = *self.files.socket(number)?;
                return self.receive_pieces(socket, open, pieces, 0);
            }
            NodeKind::Unix(number) => {
                let socket = *self.files.unix(number)?;
                return self.receive_unix((&socket, &open), pieces, 0).map(|(answer, _)| answer);
            }
            _ => {}
        }
        let start = if let At::Here(at) = at { at } else { open.offset };
        let mut done = 0_u64;
        let mut buffer = Vec::new();
        'pieces: for piece in pieces {
            let wanted = piece.length.min(MAX_RW - done);
            let mut left = self.user.writable(piece.address, wanted);
            let mut address = piece.address;
            if left == 0 && wanted > 0 {
                if done > 0 {
                    break;
                }
                // Kinds that cannot be read say so before the address is looked at.
                self.pull(&open, at, start, &mut [])?;
                return Err(Errno::EFAULT);
            }
            while left > 0 {
                let step = usize::try_from(left).unwrap_or(STEP).min(STEP);
                buffer.resize(step.max(buffer.len()), 0);
                let buffer = &mut buffer[..step];
                let flow = self.pull(&open, at, start + done, buffer);
                let count = match flow {
                    Ok(Flow::Done(count)) => count,
                    Ok(Flow::Wait(_)) | Err(_) if done > 0 => break 'pieces,
                    Ok(Flow::Wait(wait)) => return Ok(Answer::Wait(wait)),
                    Err(errno) => return Err(errno),
                };
                self.user.write(address, &buffer[..count])?;
                done += count as u64;
                address += count as u64;
                left -= count as u64;
                if count < step {
                    break 'pieces;
                }
            }
            if address < piece.address.saturating_add(wanted) {
                break;
            }
        }
        if done == 0 {
            self.pull(&open, at, start, &mut [])?;
        }
        self.advance(&open, at, start, done)?;
        Ok(Answer::Value(done))
    }

    /// Writes memory to an open file.
    pub(super) fn write_pieces(&mut self, open: OpenFile, at: At, pieces: &[Piece]) -> Result<Answer, Errno> {
        if !open.writable() {
            return Err(Errno::EBADF);
        }
        match self.files.kind_of(open.node()?)? {
            NodeKind::Device(JOURNAL) => return self.write_journal(at, pieces),
            NodeKind::Socket(number) => {
                let socket = *self.files.socket(number)?;
                return self.send_pieces(socket, open, pieces, 0);
            }
            NodeKind::Unix(number) => {
                let socket = *self.files.unix(number)?;
                return self.send_unix((&socket, &open), pieces, 0);
            }
            _ => {}
        }
        let start = self.write_start(&open, at)?;
        let mut done = 0_u64;
        let mut buffer = Vec::new();
        'pieces: for piece in pieces {
            let wanted = piece.length.min(MAX_RW - done);
            let mut left = self.user.readable(piece.address, wanted);
            let mut address = piece.address;
            if left == 0 && wanted > 0 {
                if done > 0 {
                    break;
                }
                return Err(Errno::EFAULT);
            }
            while left > 0 {
                let step = usize::try_from(left).unwrap_or(STEP).min(STEP);
                buffer.resize(step.max(buffer.len()), 0);
                let buffer = &mut buffer[..step];
                self.user.read_into(address, buffer)?;
                let count = match self.push(&open, start + done, buffer, done) {
                    Ok(Flow::Done(count)) => count,
                    Ok(Flow::Wait(_)) | Err(_) if done > 0 => break 'pieces,
                    Ok(Flow::Wait(wait)) => return Ok(Answer::Wait(wait)),
                    Err(errno) => return Err(errno),
                };
                done += count as u64;
                address += count as u64;
                left -= count as u64;
                if count < step {
                    break 'pieces;
                }
            }
            if address < piece.address.saturating_add(wanted) {
                break;
            }
        }
        self.advance(&open, at, start, done)?;
        Ok(Answer::Value(done))
    }

    /// Where a write begins.
    pub(super) fn write_start(&self, open: &OpenFile, at: At) -> Result<u64, Errno> {
        if open.appends()
            && let NodeKind::Regular(number) = self.files.kind_of(open.node()?)?
        {
            return Ok(self.files.inode(number)?.size);
        }
        Ok(if let At::Here(at) = at { at } else { open.offset })
    }

    /// Moves the offset of an open file after a transfer.
    pub(super) fn advance(&mut self, open: &OpenFile, at: At, start: u64, done: u64) -> Result<(), Errno> {
        let moves = match self.files.kind_of(open.node()?)? {
            NodeKind::Regular(_) | NodeKind::Proc(_) => true,
            NodeKind::Device(device) => super::journal::has_offset(device),
            _ => false,
        };
        if at == At::Offset && moves && start + done != open.offset {
            self.files.set_offset(&mut self.state, open.number, start + done)?;
        }
        Ok(())
    }

    /// Reads a step from an open file; `position` is where it is in a file that has positions.
    pub(super) fn pull(&mut self, open: &OpenFile, at: At, position: u64, out: &mut [u8]) -> Result<Flow, Errno> {
        match self.files.kind_of(open.node()?)? {
            NodeKind::Regular(number) => self.files.read_data(&self.host, number, position, out).map(Flow::Done),
            NodeKind::Directory(_) => Err(Errno::EISDIR),
            NodeKind::Symlink(_) | NodeKind::Name(_) => Err(Errno::EBADF),
            NodeKind::Device(device) => self.read_device(device, position, out).map(Flow::Done),
            NodeKind::Pipe(number) => self.read_pipe(number, open.nonblocking(), out),
            NodeKind::Console(_) => self.read_console(open.nonblocking(), at, out),
            NodeKind::Socket(_) | NodeKind::Unix(_) | NodeKind::Epoll(_) => Err(Errno::EINVAL),
            NodeKind::Event(number) => self.read_counter(number, open.nonblocking(), out),
            NodeKind::Timer(number) => self.read_timer(number, open.nonblocking(), out),
            NodeKind::Signals(number) => self.read_signals(number, open.nonblocking(), out),
            NodeKind::Proc(proc) => {
                if NodeKind::Proc(proc).is_directory() {
                    return Err(Errno::EISDIR);
                }
                Ok(Flow::Done(part_of(&self.proc_text(proc), position, out)))
            }
        }
    }

    /// Writes a step to an open file; `done` bytes of the same call were written before.
    pub(super) fn push(&mut self, open: &OpenFile, position: u64, data: &[u8], done: u64) -> Result<Flow, Errno> {
        match self.files.kind_of(open.node()?)? {
            NodeKind::Regular(number) => self.files.write_data(&mut self.state, &self.host, number, position, data),
            NodeKind::Device(device) => self.write_device(device, data).map(Flow::Done),
            NodeKind::Pipe(number) => self.write_pipe(number, open.nonblocking(), data),
            NodeKind::Console(n) => self.write_console(n, open.nonblocking(), data, done),
            NodeKind::Socket(number) => self.push_socket(number, open.nonblocking(), data),
            NodeKind::Unix(number) => self.push_unix(number, open.nonblocking(), data),
            NodeKind::Epoll(_) | NodeKind::Timer(_) | NodeKind::Signals(_) => Err(Errno::EINVAL),
            NodeKind::Event(number) => self.write_counter(number, open.nonblocking(), data),
            NodeKind::Directory(_) | NodeKind::Symlink(_) | NodeKind::Name(_) => Err(Errno::EBADF),
            NodeKind::Proc(_) => Err(Errno::EINVAL),
        }
    }
}

/// Copies what a made-up file has at `position`; how much that is.
pub(super) fn part_of(text: &[u8], position: u64, out: &mut [u8]) -> usize {
    let rest = usize::try_from(position).ok().and_then(|at| text.get(at..)).unwrap_or(&[]);
    let count = rest.len().min(out.len());
    out[..count].copy_from_slice(&rest[..count]);
    count
}
