//! Calls on Unix sockets.

use super::calls_socket::{FLAGS, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};
use super::flags::{AT_FDCWD, O_CLOEXEC, O_NONBLOCK, O_RDWR};
use super::flow::{Flow, Piece};
use super::node::{Node, NodeKind};
use super::records::{OpenFile, UnixRecord, kind, socket as is};
use super::transfer::{MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC};
use super::unix::{CAPACITY, Came};
use super::{Errno, options};
use crate::linux::{Answer, Program, Wait};

/// The family, and its old name.
pub(super) const AF_UNIX: u16 = 1;
/// Bytes of the longest name in an address.
const NAME: usize = 108;
/// May make names in a directory.
const W_OK: u32 = 2;

const DONE: Answer = Answer::Value(0);

/// What an address says.
struct Name {
    /// The inode of the path; 0: it is no path.
    place: u64,
    /// As a record has it; empty: none.
    bytes: Vec<u8>,
}

/// The kind of socket that a call asks for.
fn wanted(kind: u64, protocol: u64) -> Result<u32, Errno> {
    match (kind & 0xf, protocol) {
        (SOCK_STREAM, 0 | 1) => Ok(is::STREAM),
        (SOCK_SEQPACKET, 0 | 1) => Ok(is::SEQPACKET),
        (SOCK_DGRAM, 0 | 1) => Ok(is::DATAGRAM),
        (SOCK_STREAM | SOCK_SEQPACKET | SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

pub(super) fn socket(p: &mut Program, kind: u64, protocol: u64) -> Result<Answer, Errno> {
    let of = wanted(kind, protocol)?;
    p.files.free_fd(0)?;
    let number = p.files.new_unix(&mut p.state, &p.host, of)?;
    let flags = O_RDWR | kind & O_NONBLOCK;
    let fd = p.files.open_node(&mut p.state, Node::Inode(number), flags, kind & O_CLOEXEC != 0)?;
    Ok(Answer::Value(u64::from(fd)))
}

pub(super) fn socketpair(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let [family, kind, protocol] = [a[0], a[1], a[2]].map(|word| word & 0xffff_ffff);
    if kind & !(0xf | FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    if family != u64::from(AF_UNIX) {
        return Err(if family == 2 || family == 10 { Errno::EOPNOTSUPP } else { Errno::EAFNOSUPPORT });
    }
    let of = wanted(kind, protocol)?;
    if p.user.writable(a[3], 8) < 8 {
        return Err(Errno::EFAULT);
    }
    let (state, host) = (&mut p.state, &p.host);
    let [one, other] = [p.files.new_unix(state, host, of)?, p.files.new_unix(state, host, of)?];
    let mut open =
        |number| p.files.open_node(state, Node::Inode(number), O_RDWR | kind & O_NONBLOCK, kind & O_CLOEXEC != 0);
    let pair = [open(one)?, open(other)?];
    p.files.join_unix(state, one, other)?;
    p.user.write_value(a[3], &pair)?;
    Ok(DONE)
}

pub(super) fn bind(p: &mut Program, socket: &UnixRecord, a: [u64; 6]) -> Result<Answer, Errno> {
    let (path, name) = p.unix_address(a[1], a[2])?;
    let unnamed = socket.state == is::NEW && !name.is_empty();
    let place = match path {
        None if !unnamed => return Err(Errno::EINVAL),
        None => 0,
        Some(path) => {
            let place = p.find(AT_FDCWD, &path, false)?;
            if place.node.is_some() {
                return Err(Errno::EADDRINUSE);
            }
            if !unnamed {
                return Err(Errno::EINVAL);
            }
            let (parent, file) = place.free_name()?;
            p.files.permitted(Node::Inode(parent), W_OK)?;
            let mode = 0o777 & !p.files.settings.get().umask;
            let number = p.files.new_inode(&mut p.state, &p.host, kind::NAME, mode)?;
            p.files.add_name(&mut p.state, &p.host, parent, file, number)?;
            number
        }
    };
    p.name_unix(socket, place, &name)?;
    Ok(DONE)
}

pub(super) fn connect(p: &mut Program, (socket, open): (&UnixRecord, &OpenFile), a: [u64; 6]) -> Result<Answer, Errno> {
    let name = p.unix_name(a[1], a[2])?;
    match p.connect_unix(socket, name.place, &name.bytes)? {
        Some(()) => Ok(DONE),
        None => p.wait_on_unix(socket, !open.nonblocking(), options::SEND_TIMEOUT),
    }
}

pub(super) fn accept(
    p: &mut Program,
    (socket, open): (&UnixRecord, &OpenFile),
    flags: u64,
    (at, length_at): (u64, u64),
) -> Result<Answer, Errno> {
    if socket.state != is::LISTENING {
        return Err(if socket.kind == is::DATAGRAM { Errno::EOPNOTSUPP } else { Errno::EINVAL });
    }
    let Some(next) = p.next_unix(socket.inode) else {
        return p.wait_on_unix(socket, !open.nonblocking(), options::RECEIVE_TIMEOUT);
    };
    let fd = p.accept_unix(next, O_RDWR | flags & O_NONBLOCK, flags & O_CLOEXEC != 0)?;
    p.tell_unix_name(at, length_at, p.files.unix(next)?.peer)?;
    Ok(Answer::Value(u64::from(fd)))
}

pub(super) fn getpeername(p: &mut Program, socket: &UnixRecord, at: u64, length_at: u64) -> Result<Answer, Errno> {
    if socket.state != is::CONNECTED {
        return Err(Errno::ENOTCONN);
    }
    p.tell_unix_name(at, length_at, socket.peer)?;
    Ok(DONE)
}

impl Program {
    /// The path, if it is one, and the name in an address that the program gives.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL`, `EAFNOSUPPORT`.
    fn unix_address(&self, at: u64, length: u64) -> Result<(Option<Vec<u8>>, Vec<u8>), Errno> {
        let length = usize::try_from(length & 0xffff_ffff).map_err(|_| Errno::EINVAL)?;
        if !(2..=NAME + 2).contains(&length) {
            return Err(Errno::EINVAL);
        }
        let raw = self.user.read(at, length)?;
        if raw[..2] != AF_UNIX.to_le_bytes() {
            return Err(Errno::EINVAL);
        }
        let name = &raw[2..];
        if name.first().is_none_or(|first| *first == 0) {
            return Ok((None, name.to_vec()));
        }
        let path = name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let told = [&path[..], b"\0"].concat();
        Ok((Some(path), told))
    }

    /// Who is meant by an address.
    ///
    /// # Errors
    /// As above; what a path comes to, `ECONNREFUSED` if it is no socket's.
    fn unix_name(&self, at: u64, length: u64) -> Result<Name, Errno> {
        let (path, bytes) = self.unix_address(at, length)?;
        let Some(path) = path else { return Ok(Name { place: 0, bytes }) };
        let node = self.find(AT_FDCWD, &path, true)?.existing()?;
        self.files.permitted(node, W_OK)?;
        match self.files.kind_of(node)? {
            NodeKind::Name(place) => Ok(Name { place, bytes }),
            _ => Err(Errno::ECONNREFUSED),
        }
    }

    /// Tells the program the name of a socket, which may be gone or have none.
    pub(super) fn tell_unix_name(&self, at: u64, length_at: u64, number: u64) -> Result<(), Errno> {
        let name = self.files.unix(number).map(|socket| socket.name().to_vec()).unwrap_or_default();
        self.tell_address(at, length_at, &[&AF_UNIX.to_le_bytes(), &name[..]].concat())
    }

    /// Sends a program's memory; to a socket of messages as one.
    pub(super) fn send_unix(
        &mut self,
        (socket, open): (&UnixRecord, &OpenFile),
        pieces: &[Piece],
        flags: u64,
    ) -> Result<Answer, Errno> {
        let (total, wanted) = self.accessible(pieces, |user, piece| user.readable(piece.address, piece.length));
        if total < wanted && (total == 0 || socket.has_messages()) {
            return Err(Errno::EFAULT);
        }
        if socket.has_messages() && total > CAPACITY {
            return Err(Errno::EMSGSIZE);
        }
        let blocking = !open.nonblocking() && flags & MSG_DONTWAIT == 0;
        if let Some(wait) = self.host.room(super::data::pages_of(total.min(CAPACITY)))? {
            return if blocking { Ok(Answer::Wait(wait)) } else { Err(Errno::EAGAIN) };
        }
        let mut buffer = vec![0; usize::try_from(total.min(CAPACITY)).unwrap_or(0)];
        self.gather(pieces, 0, &mut buffer)?;
        if socket.kind == is::SEQPACKET
            && let Some(errno) = self.take_unix_error(socket.inode)?
        {
            // It is told once, and an error would undo that.
            return Ok(Answer::Value(errno.as_result()));
        }
        match self.put_unix(socket.inode, &buffer) {
            Ok(count) => Ok(Answer::Value(count as u64)),
            Err(Errno::EAGAIN) => self.wait_on_unix(socket, blocking, options::SEND_TIMEOUT),
            Err(errno) => Err(errno),
        }
    }

    /// Receives into a program's memory; whether a message was cut is told too.
    pub(super) fn receive_unix(
        &mut self,
        (socket, open): (&UnixRecord, &OpenFile),
        pieces: &[Piece],
        flags: u64,
    ) -> Result<(Answer, bool), Errno> {
        let (total, wanted) = self.accessible(pieces, |user, piece| user.writable(piece.address, piece.length));
        if total == 0 && wanted > 0 {
            return Err(Errno::EFAULT);
        }
        let mut buffer = vec![0; usize::try_from(total.min(CAPACITY)).unwrap_or(0)];
        if buffer.is_empty() && !socket.has_messages() {
            return Ok((DONE, false));
        }
        match self.take_unix(socket.inode, &mut buffer, flags & MSG_PEEK != 0) {
            Ok(Came { count, length }) => {
                self.scatter(pieces, 0, &buffer[..count])?;
                let told = if flags & MSG_TRUNC != 0 { length } else { count as u64 };
                Ok((Answer::Value(told), (count as u64) < length))
            }
            Err(Errno::EAGAIN) => {
                let blocking = !open.nonblocking() && flags & MSG_DONTWAIT == 0;
                self.wait_on_unix(socket, blocking, options::RECEIVE_TIMEOUT).map(|answer| (answer, false))
            }
            // As above.
            Err(Errno::ECONNRESET) => Ok((Answer::Value(Errno::ECONNRESET.as_result()), false)),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a step, for calls that move bytes between files.
    pub(super) fn push_unix(&mut self, number: u64, nonblocking: bool, data: &[u8]) -> Result<Flow, Errno> {
        match self.put_unix(number, data) {
            Err(Errno::EAGAIN) if !nonblocking => Ok(Flow::Wait(Wait::default())),
            put => put.map(Flow::Done),
        }
    }
}
