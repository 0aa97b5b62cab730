//! Calls on sockets.

use super::Errno;
use super::address::{ADDRESS, AF_INET};
use super::calls_io::broken_pipe;
use super::calls_unix::{self, AF_UNIX};
use super::flags::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use super::flow::Piece;
use super::options;
use super::records::{SocketRecord, socket as is};
use super::socket::Connect;
use super::transfer::{
    MSG_DONTWAIT, MSG_ERRQUEUE, MSG_FASTOPEN, MSG_NOSIGNAL, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, network,
};
use crate::linux::{Answer, Program};
use std::net::Ipv4Addr;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const DONE: Answer = Answer::Value(0);
pub(super) const SOCK_STREAM: u64 = 1;
pub(super) const SOCK_DGRAM: u64 = 2;
pub(super) const SOCK_SEQPACKET: u64 = 5;
/// As flags of `socket` and `accept4`, which are those of `open`.
pub(super) const FLAGS: u64 = O_NONBLOCK | O_CLOEXEC;
const IPPROTO_TCP: u64 = 6;

/// `MSG_TRUNC` in what `recvmsg` tells.
const CUT: u32 = 0x20;

/// `struct msghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Message {
    name: u64,
    name_length: u32,
    pad: u32,
    pieces: u64,
    count: u64,
    control: u64,
    control_length: u64,
    flags: u32,
    end: u32,
}

pub(super) fn socket(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let [family, kind, protocol] = [a[0], a[1], a[2]].map(|word| word & 0xffff_ffff);
    if kind & !(0xf | FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    if family == u64::from(AF_UNIX) {
        return calls_unix::socket(p, kind, protocol);
    }
    if family != u64::from(AF_INET) {
        return Err(Errno::EAFNOSUPPORT);
    }
    match (kind & 0xf, protocol) {
        (SOCK_STREAM, 0 | IPPROTO_TCP) => {}
        (SOCK_STREAM | SOCK_DGRAM, _) => return Err(Errno::EPROTONOSUPPORT),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    }
    p.files.free_fd(0)?;
    let record = SocketRecord { options: options::defaults(), ..SocketRecord::new_zeroed() };
    let flags = O_RDWR | kind & O_NONBLOCK;
    let fd = p.files.new_socket(&mut p.state, &p.host, record, flags, kind & O_CLOEXEC != 0)?;
    Ok(Answer::Value(u64::from(fd)))
}

pub(super) fn bind(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if let Some((unix, _)) = p.unix_at(a[0])? {
        return calls_unix::bind(p, &unix, a);
    }
    let (socket, _) = p.socket_at(a[0])?;
    let address = p.read_address(a[1], a[2])?;
    if socket.state != is::NEW {
        return Err(Errno::EINVAL);
    }
    let (ip, port) = (*address.ip(), address.port());
    let there = ip.is_unspecified() || ip.is_loopback();
    // Without a port it can only be meant for connecting.
    if port != 0 {
        let host = p.host.network.granted(port)?;
        if !there && ip != host && host != Ipv4Addr::UNSPECIFIED {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if p.files.port_is_bound(port) {
            return Err(Errno::EADDRINUSE);
        }
    }
    p.change_socket(socket.inode, |s| {
        s.state = is::BOUND;
        s.set_local(address);
    })?;
    Ok(DONE)
}

pub(super) fn listen(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    // A negative backlog is a large one.
    let backlog = (a[1] & 0xffff_ffff) as u32;
    if let Some((unix, _)) = p.unix_at(a[0])? {
        p.listen_unix(&unix, backlog)?;
        return Ok(DONE);
    }
    let (socket, _) = p.socket_at(a[0])?;
    match socket.state {
        is::NEW => return Err(Errno::EACCES),
        is::BOUND if socket.local_port == 0 => return Err(Errno::EACCES),
        is::BOUND | is::LISTENING => {}
        _ => return Err(Errno::EINVAL),
    }
    p.change_socket(socket.inode, |s| (s.state, s.backlog) = (is::LISTENING, backlog))?;
    p.host.network.listen(socket.local_port, backlog)?;
    Ok(DONE)
}

pub(super) fn accept(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    accept4(p, [a[0], a[1], a[2], 0, 0, 0])
}

pub(super) fn accept4(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let flags = a[3] & 0xffff_ffff;
    if let Some((unix, open)) = p.unix_at(a[0])?.filter(|_| flags & !FLAGS == 0) {
        return calls_unix::accept(p, (&unix, &open), flags, (a[1], a[2]));
    }
    let (socket, open) = p.socket_at(a[0])?;
    if flags & !FLAGS != 0 || socket.state != is::LISTENING {
        return Err(Errno::EINVAL);
    }
    p.files.free_fd(0)?;
    p.address_room(a[1], a[2], ADDRESS)?;
    match p.host.network.accept(socket.local_port) {
        Ok(accepted) => {
            let close_on_exec = flags & O_CLOEXEC != 0;
            let fd = p.accepted(&socket, accepted, O_RDWR | flags & O_NONBLOCK, close_on_exec)?;
            p.write_address(a[1], a[2], accepted.peer)
                .inspect_err(|_| p.host.network.close(accepted.connection, true))?;
            Ok(Answer::Value(u64::from(fd)))
        }
        Err(Errno::EAGAIN) if !open.nonblocking() => {
            Ok(p.wait_on_socket(socket, 0, options::RECEIVE_TIMEOUT)?.unwrap_or(DONE))
        }
        Err(errno) => Err(errno),
    }
}

pub(super) fn connect(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if let Some((unix, open)) = p.unix_at(a[0])? {
        return calls_unix::connect(p, (&unix, &open), a);
    }
    let (socket, open) = p.socket_at(a[0])?;
    let to = p.read_address(a[1], a[2])?;
    let value = |errno: Errno| Ok(Answer::Value(errno.as_result()));
    match p.connect_socket(socket, to)? {
        Connect::Stands => Ok(DONE),
        Connect::Failed(errno) => value(errno),
        Connect::Pending { .. } if !open.nonblocking() => Ok(Answer::Wait(network())),
        Connect::Pending { first: true } => value(Errno::EINPROGRESS),
        Connect::Pending { first: false } => value(Errno::EALREADY),
    }
}

pub(super) fn getsockname(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if a[1] == 0 {
        return Err(Errno::EFAULT);
    }
    if let Some((unix, _)) = p.unix_at(a[0])? {
        p.tell_unix_name(a[1], a[2], unix.inode)?;
        return Ok(DONE);
    }
    let (socket, _) = p.socket_at(a[0])?;
    p.write_address(a[1], a[2], socket.local())?;
    Ok(DONE)
}

pub(super) fn getpeername(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if let Some((unix, _)) = p.unix_at(a[0])? {
        return if a[1] == 0 { Err(Errno::EFAULT) } else { calls_unix::getpeername(p, &unix, a[1], a[2]) };
    }
    let (socket, _) = p.socket_at(a[0])?;
    if socket.state == is::CONNECTING {
        // It may stand by now.
        let _ = p.connection(socket.inode);
    }
    if p.files.socket(socket.inode)?.state != is::CONNECTED {
        return Err(Errno::ENOTCONN);
    }
    if a[1] == 0 {
        return Err(Errno::EFAULT);
    }
    p.write_address(a[1], a[2], socket.peer())?;
    Ok(DONE)
}

pub(super) fn shutdown(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (receiving, sending) = match a[1] & 0xffff_ffff {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    if let Some((unix, _)) = p.unix_at(a[0])? {
        p.shut_unix(&unix, receiving, sending)?;
        return Ok(DONE);
    }
    let (socket, _) = p.socket_at(a[0])?;
    p.shut_socket(socket, receiving, sending)?;
    Ok(DONE)
}

pub(super) fn sendto(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if a[4] != 0
        && let Some((unix, _)) = p.unix_at(a[0])?
    {
        return Err(if unix.state == is::CONNECTED { Errno::EISCONN } else { Errno::EOPNOTSUPP });
    }
    send(p, a[0], &[Piece { address: a[1], length: a[2] }], a[3])
}

pub(super) fn sendmsg(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let message: Message = p.user.read_value(a[1])?;
    let pieces = p.message_pieces(&message)?;
    if message.control_length != 0 {
        // No descriptors are sent, and nothing else.
        return Err(Errno::EINVAL);
    }
    send(p, a[0], &pieces, a[2])
}

fn send(p: &mut Program, fd: u64, pieces: &[Piece], flags: u64) -> Result<Answer, Errno> {
    let unix = p.unix_at(fd)?;
    if unix.is_none() {
        p.socket_at(fd)?;
    }
    if flags & (MSG_OOB | MSG_FASTOPEN) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let sent = match unix {
        Some((unix, open)) => p.send_unix((&unix, &open), pieces, flags),
        None => p.socket_at(fd).and_then(|(socket, open)| p.send_pieces(socket, open, pieces, flags)),
    };
    match sent {
        Err(Errno::EPIPE) if flags & MSG_NOSIGNAL == 0 => broken_pipe(p),
        other => other,
    }
}

pub(super) fn recvfrom(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    // A connection does not say who sent: the address has no bytes.
    if a[4] != 0 && a[5] != 0 {
        p.user.read_value::<u32>(a[5])?;
    }
    let (answer, _) = receive(p, a[0], &[Piece { address: a[1], length: a[2] }], a[3])?;
    if a[4] != 0 && a[5] != 0 && matches!(answer, Answer::Value(_)) {
        p.user.write_value(a[5], &0_u32)?;
    }
    Ok(answer)
}

pub(super) fn recvmsg(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let message: Message = p.user.read_value(a[1])?;
    let pieces = p.message_pieces(&message)?;
    let told = [a[1].wrapping_add(8), a[1].wrapping_add(40), a[1].wrapping_add(48)];
    if p.user.writable(a[1], size_of::<Message>() as u64) < size_of::<Message>() as u64 {
        return Err(Errno::EFAULT);
    }
    let (answer, cut) = receive(p, a[0], &pieces, a[2])?;
    if matches!(answer, Answer::Value(_)) {
        p.user.write_value(told[0], &0_u32)?;
        p.user.write_value(told[1], &0_u64)?;
        p.user.write_value(told[2], &if cut { CUT } else { 0 })?;
    }
    Ok(answer)
}

/// Receives; whether there was more of a message is told too.
fn receive(p: &mut Program, fd: u64, pieces: &[Piece], flags: u64) -> Result<(Answer, bool), Errno> {
    if let Some((unix, open)) = p.unix_at(fd)? {
        return match flags & (MSG_OOB | MSG_ERRQUEUE) {
            0 => p.receive_unix((&unix, &open), pieces, flags),
            _ => Err(Errno::EOPNOTSUPP),
        };
    }
    let (socket, open) = p.socket_at(fd)?;
    if flags & MSG_OOB != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_ERRQUEUE != 0 {
        return Err(Errno::EAGAIN);
    }
    if flags & MSG_TRUNC != 0 {
        // Of a connection: as many bytes are thrown away.
        return Err(Errno::EOPNOTSUPP);
    }
    let flags = flags & (MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL);
    p.receive_pieces(socket, open, pieces, flags).map(|answer| (answer, false))
}

impl Program {
    fn message_pieces(&self, message: &Message) -> Result<Vec<Piece>, Errno> {
        match self.pieces(message.pieces, message.count) {
            Err(Errno::EINVAL) if message.count > 1024 => Err(Errno::EMSGSIZE),
            pieces => pieces,
        }
    }
}
