//! Bytes into and out of sockets.
//!
//! A call that waits in the middle of its bytes says in the socket's record how many have moved, and goes on there when it is given again.

use super::flow::{Flow, Piece, STEP};
use super::records::{OpenFile, SocketRecord, socket as is};
use super::{Errno, options};
use crate::linux::{Answer, MAX_RW, Program, Wait};

/// Flags of `send` and `recv`.
pub(super) const MSG_OOB: u64 = 1;
pub(super) const MSG_PEEK: u64 = 2;
pub(super) const MSG_TRUNC: u64 = 0x20;
pub(super) const MSG_DONTWAIT: u64 = 0x40;
pub(super) const MSG_WAITALL: u64 = 0x100;
pub(super) const MSG_ERRQUEUE: u64 = 0x2000;
pub(super) const MSG_NOSIGNAL: u64 = 0x4000;
pub(super) const MSG_FASTOPEN: u64 = 0x2000_0000;

/// Until something comes from outside.
pub(super) fn network() -> Wait {
    Wait { network: true, ..Wait::default() }
}

impl Program {
    /// Sends a program's memory.
    pub(super) fn send_pieces(
        &mut self,
        socket: SocketRecord,
        open: OpenFile,
        pieces: &[Piece],
        flags: u64,
    ) -> Result<Answer, Errno> {
        let number = socket.inode;
        if socket.shut & is::SHUT_WRITE != 0 {
            return Err(Errno::EPIPE);
        }
        let (total, wanted) = self.accessible(pieces, |user, piece| user.readable(piece.address, piece.length));
        let blocking = !open.nonblocking() && flags & MSG_DONTWAIT == 0;
        let mut done = socket.progress.min(total);
        let mut buffer = Vec::new();
        let mut first = true;
        while done < total || first {
            first = false;
            let step = usize::try_from(total - done).unwrap_or(STEP).min(STEP);
            buffer.resize(step, 0);
            self.gather(pieces, done, &mut buffer)?;
            match self.send_step(number, &buffer, done == 0) {
                Ok(_) if total == 0 && wanted > 0 => return Err(Errno::EFAULT),
                Ok(count) => done += count as u64,
                Err(errno) => match self.moved_none(errno, blocking, socket, done, options::SEND_TIMEOUT)? {
                    Some(answer) => return Ok(answer),
                    None => break,
                },
            }
        }
        self.ended(&socket, done)
    }

    /// Receives into a program's memory.
    pub(super) fn receive_pieces(
        &mut self,
        socket: SocketRecord,
        open: OpenFile,
        pieces: &[Piece],
        flags: u64,
    ) -> Result<Answer, Errno> {
        let number = socket.inode;
        let (total, wanted) = self.accessible(pieces, |user, piece| user.writable(piece.address, piece.length));
        if total == 0 && wanted > 0 {
            return Err(Errno::EFAULT);
        }
        let blocking = !open.nonblocking() && flags & MSG_DONTWAIT == 0;
        let look = flags & MSG_PEEK != 0;
        let whole = flags & (MSG_WAITALL | MSG_PEEK) == MSG_WAITALL;
        let mut done = if whole { socket.progress.min(total) } else { 0 };
        let mut buffer = Vec::new();
        while done < total {
            let step = usize::try_from(total - done).unwrap_or(STEP).min(STEP);
            buffer.resize(step, 0);
            let got = match self.connection(number) {
                Ok(_) if socket.shut & is::SHUT_READ != 0 => Ok(0),
                Ok(connection) => self.host.network.receive(connection, &mut buffer, look),
                Err(errno) => Err(errno),
            };
            match got {
                Ok(0) => break,
                Ok(count) => {
                    self.scatter(pieces, done, &buffer[..count])?;
                    done += count as u64;
                    if look || count < step && !whole {
                        break;
                    }
                }
                Err(Errno::EAGAIN) if done > 0 && !whole => break,
                Err(errno) => match self.moved_none(errno, blocking, socket, done, options::RECEIVE_TIMEOUT)? {
                    Some(answer) => return Ok(answer),
                    None => break,
                },
            }
        }
        self.ended(&socket, done)
    }

    /// Sends a step, for calls that move bytes between files.
    pub(super) fn push_socket(&mut self, number: u64, nonblocking: bool, data: &[u8]) -> Result<Flow, Errno> {
        match self.send_step(number, data, true) {
            Err(Errno::EAGAIN) if !nonblocking => Ok(Flow::Wait(network())),
            sent => sent.map(Flow::Done),
        }
    }

    /// Gives a connection bytes to send. `tells`: an error is told to the program, and so is no longer the connection's.
    fn send_step(&mut self, number: u64, data: &[u8], tells: bool) -> Result<usize, Errno> {
        let connection = match self.connection(number) {
            // Linux says so of sending, and ENOTCONN of receiving.
            Err(Errno::ENOTCONN) => return Err(Errno::EPIPE),
            connection => connection?,
        };
        self.host.network.send(connection, data).inspect_err(|errno| {
            if tells && *errno != Errno::EAGAIN {
                let _ = self.host.network.take_error(connection);
            }
        })
    }

    /// A step moved nothing, for this reason: the call waits, fails, or (none) is over with the bytes that moved before.
    fn moved_none(
        &mut self,
        errno: Errno,
        blocking: bool,
        socket: SocketRecord,
        done: u64,
        timeout: usize,
    ) -> Result<Option<Answer>, Errno> {
        match errno {
            Errno::EAGAIN if blocking => self.wait_on_socket(socket, done, timeout),
            errno if done == 0 => Err(errno),
            _ => Ok(None),
        }
    }

    /// Waits on, with what has moved; none: the socket's own timeout is over.
    pub(super) fn wait_on_socket(
        &mut self,
        socket: SocketRecord,
        done: u64,
        timeout: usize,
    ) -> Result<Option<Answer>, Errno> {
        let mut wait = network();
        if let Some(timeout) = socket.timeout(timeout) {
            let until = self.deadline_in(timeout)?;
            if self.host.clock.monotonic() >= until {
                return if done == 0 { Err(Errno::EAGAIN) } else { Ok(None) };
            }
            wait.until = Some(until);
        }
        if done != socket.progress {
            self.change_socket(socket.inode, |s| s.progress = done)?;
        }
        Ok(Some(Answer::Wait(wait)))
    }

    /// The call has moved `done` bytes and is over.
    fn ended(&mut self, socket: &SocketRecord, done: u64) -> Result<Answer, Errno> {
        if socket.progress != 0 {
            self.change_socket(socket.inode, |s| s.progress = 0)?;
        }
        Ok(Answer::Value(done))
    }

    /// Bytes of the pieces up to the first that cannot be used, and bytes that were asked for.
    pub(super) fn accessible(
        &self,
        pieces: &[Piece],
        usable: impl Fn(&crate::linux::UserMemory, &Piece) -> u64,
    ) -> (u64, u64) {
        let (mut total, mut wanted) = (0_u64, 0_u64);
        let mut whole = true;
        for piece in pieces {
            wanted = wanted.saturating_add(piece.length);
            if whole {
                let there = usable(&self.user, piece).min(piece.length);
                total = total.saturating_add(there);
                whole = there == piece.length;
            }
        }
        (total.min(MAX_RW), wanted)
    }

    /// The bytes of the pieces from `skip` on.
    pub(super) fn gather(&self, pieces: &[Piece], skip: u64, out: &mut [u8]) -> Result<(), Errno> {
        let mut filled = 0;
        for (address, length) in parts(pieces, skip, out.len()) {
            self.user.read_into(address, &mut out[filled..filled + length])?;
            filled += length;
        }
        Ok(())
    }

    /// Puts bytes into the pieces from `skip` on.
    pub(super) fn scatter(&self, pieces: &[Piece], skip: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut put = 0;
        for (address, length) in parts(pieces, skip, bytes.len()) {
            self.user.write(address, &bytes[put..put + length])?;
            put += length;
        }
        Ok(())
    }
}

/// Where `count` bytes lie in the pieces, from the byte `skip` on: address and length.
fn parts(pieces: &[Piece], mut skip: u64, mut count: usize) -> Vec<(u64, usize)> {
    let mut parts = Vec::new();
    for piece in pieces {
        if count == 0 {
            break;
        }
        if skip >= piece.length {
            skip -= piece.length;
            continue;
        }
        let length = usize::try_from(piece.length - skip).unwrap_or(usize::MAX).min(count);
        parts.push((piece.address.wrapping_add(skip), length));
        (skip, count) = (0, count - length);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_where_the_pieces_say() {
        let pieces = [(100, 3), (200, 0), (300, 5)].map(|(address, length)| Piece { address, length });
        assert_eq!(parts(&pieces, 0, 8), [(100, 3), (300, 5)]);
        assert_eq!(parts(&pieces, 2, 3), [(102, 1), (300, 2)]);
        assert_eq!(parts(&pieces, 3, 1), [(300, 1)]);
        assert_eq!(parts(&pieces, 8, 1), []);
        assert_eq!(parts(&[], 0, 4), []);
    }
}
