//! Unix sockets between descriptors of one program. They are memory: part of the program's state, and after a restart as they were.
//!
//! Each connected socket has a ring of what came for it: bytes ever written and ever read in its inode, as a pipe has. One that connects makes
//! the other end at once, without a descriptor, in the listener's queue. Messages (`SOCK_SEQPACKET`, `SOCK_DGRAM`) lie in the ring each behind
//! its length.

use super::super::state::State;
use super::mirror::Keyed;
use super::node::{Node, NodeKind};
use super::options;
use super::pipe::{bytes_in, ring};
use super::records::{OpenFile, UnixRecord, kind, socket as is};
use super::{Errno, Files, Host};
use crate::linux::{Answer, Program, Ready, Wait};
use zerocopy::FromZeros;

/// Bytes that wait for a socket at most (Linux: `wmem_default`).
pub(super) const CAPACITY: u64 = 212_992;
/// Bytes before each message.
const LENGTH: u64 = LENGTH_BYTES as u64;
const LENGTH_BYTES: usize = 4;
/// Connections that wait to be accepted, at most.
const MAX_BACKLOG: u32 = 128;

impl Keyed for UnixRecord {
    type Key = u64;
    fn key(&self) -> u64 {
        self.inode
    }
}

impl UnixRecord {
    /// Whether bytes come in messages.
    pub(super) const fn has_messages(&self) -> bool {
        self.kind != is::STREAM
    }

    /// The name that it is bound to: a path with its final zero, or behind a zero what is no path; empty: none.
    pub(super) fn name(&self) -> &[u8] {
        self.name.get(..usize::try_from(self.name_length).unwrap_or(usize::MAX)).unwrap_or(&self.name)
    }

    fn set_name(&mut self, name: &[u8]) {
        let name = &name[..name.len().min(self.name.len())];
        self.name[..name.len()].copy_from_slice(name);
        self.name_length = u32::try_from(name.len()).unwrap_or(0);
    }
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    /// Bytes that had room.
    pub count: usize,
    /// Bytes of the message; of a stream, the same.
    pub length: u64,
}

impl Files {
    pub(super) fn unix(&self, number: u64) -> Result<&UnixRecord, Errno> {
        self.unix.get(number).ok_or(Errno::EIO)
    }

    /// A new socket, without a descriptor.
    pub(super) fn new_unix(&mut self, state: &mut State, host: &Host, of: u32) -> Result<u64, Errno> {
        let inode = self.new_inode(state, host, kind::UNIX, 0o777)?;
        let options = options::defaults();
        self.unix.insert(state, UnixRecord { inode, kind: of, options, ..UnixRecord::new_zeroed() })?;
        Ok(inode)
    }

    /// Makes two sockets each other's peers.
    pub(super) fn join_unix(&mut self, state: &mut State, one: u64, other: u64) -> Result<(), Errno> {
        self.unix.update(state, one, |s| (s.state, s.peer) = (is::CONNECTED, other))?;
        self.unix.update(state, other, |s| (s.state, s.peer) = (is::CONNECTED, one))
    }

    /// The sockets that wait to be accepted, the first one first.
    fn queued(&self, listener: u64) -> Vec<u64> {
        let mut queued: Vec<_> =
            self.unix.values().filter(|s| s.listener == listener).map(|s| (s.turn, s.inode)).collect();
        queued.sort_unstable();
        queued.into_iter().map(|(_, inode)| inode).collect()
    }

    /// The socket of an inode that goes; `unread`: something came for it that nobody read.
    pub(super) fn forget_unix(
        &mut self,
        state: &mut State,
        host: &Host,
        number: u64,
        unread: bool,
    ) -> Result<(), Errno> {
        let gone = self.unix.remove(state, number)?;
        if self.unix.contains(gone.peer) {
            let reset = unread || gone.listener != 0;
            self.unix.update(state, gone.peer, |s| {
                s.peer = 0;
                // Who sends datagrams is not told of the end.
                if s.kind != is::DATAGRAM {
                    s.shut = is::SHUT_READ | is::SHUT_WRITE;
                    if reset {
                        s.error = Errno::ECONNRESET.0.into();
                    }
                }
            })?;
        }
        if gone.state == is::LISTENING {
            for waiting in self.queued(number) {
                self.unix.update(state, waiting, |s| (s.listener, s.turn) = (0, 1))?;
                // As one that was never accepted.
                let peer = self.unix(waiting)?.peer;
                if self.unix.contains(peer) {
                    self.unix.update(state, peer, |s| s.error = Errno::ECONNRESET.0.into())?;
                }
                self.forget(state, host, waiting)?;
            }
        }
        Ok(())
    }

    /// The socket that is bound to a path, or to a name; each kind of socket has names of its own.
    fn bound_to(&self, place: u64, name: &[u8], of: u32) -> Option<&UnixRecord> {
        let there = |s: &&UnixRecord| if place == 0 { s.kind == of && s.name() == name } else { s.name_place == place };
        self.unix.values().filter(|s| matches!(s.state, is::BOUND | is::LISTENING)).find(there)
    }

    /// Whether the two ends of connections and of queues know each other; what is wrong, if anything.
    pub(super) fn check_unix(&self) -> Option<String> {
        for s in self.unix.values() {
            let wrong = |what: &str| Some(format!("Unix socket {} {what}", s.inode));
            let Some(inode) = self.inodes.get(s.inode).filter(|i| i.kind == kind::UNIX) else {
                return wrong("is of no inode");
            };
            if s.state > is::CONNECTED || !matches!(s.kind, is::STREAM | is::DATAGRAM | is::SEQPACKET) {
                return wrong("is of no kind or state");
            }
            if s.peer != 0 && self.unix.get(s.peer).is_none_or(|peer| peer.peer != s.inode) {
                return wrong("has a peer that does not know it");
            }
            if s.listener != 0 && self.unix.get(s.listener).is_none_or(|l| l.state != is::LISTENING) {
                return wrong("waits where nobody listens");
            }
            if bytes_in(inode) > CAPACITY && s.state != is::LISTENING || s.name_length as usize > s.name.len() {
                return wrong("has more bytes than it can have");
            }
        }
        let inodes = self.inodes.values().filter(|i| i.kind == kind::UNIX).count();
        (inodes != self.unix.len())
            .then(|| format!("there are {} Unix sockets and {inodes} inodes of them", self.unix.len()))
    }
}

impl Program {
    /// The Unix socket behind a descriptor; none: it is something else.
    ///
    /// # Errors
    /// `EBADF`.
    pub(super) fn unix_at(&self, fd: u64) -> Result<Option<(UnixRecord, OpenFile)>, Errno> {
        let open = self.files.usable(fd)?;
        match self.files.kind_of(open.node()?)? {
            NodeKind::Unix(number) => Ok(Some((*self.files.unix(number)?, open))),
            _ => Ok(None),
        }
    }

    pub(super) fn change_unix(&mut self, number: u64, change: impl FnOnce(&mut UnixRecord)) -> Result<(), Errno> {
        self.files.unix.update(&mut self.state, number, change)
    }

    /// Gives a socket a name; `place` is the inode of a path, 0 without one.
    pub(super) fn name_unix(&mut self, socket: &UnixRecord, place: u64, name: &[u8]) -> Result<(), Errno> {
        if self.files.bound_to(place, name, socket.kind).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        self.change_unix(socket.inode, |s| {
            (s.state, s.name_place) = (is::BOUND, place);
            s.set_name(name);
        })
    }

    /// Listens, or listens with another backlog.
    pub(super) fn listen_unix(&mut self, socket: &UnixRecord, backlog: u32) -> Result<(), Errno> {
        match socket.state {
            _ if socket.kind == is::DATAGRAM => Err(Errno::EOPNOTSUPP),
            is::BOUND | is::LISTENING => {
                self.change_unix(socket.inode, |s| (s.state, s.backlog) = (is::LISTENING, backlog.min(MAX_BACKLOG)))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Connects to whoever listens at a name. None: there is no room in its queue.
    pub(super) fn connect_unix(&mut self, socket: &UnixRecord, place: u64, name: &[u8]) -> Result<Option<()>, Errno> {
        match socket.state {
            is::NEW | is::BOUND => {}
            is::CONNECTED => return Err(Errno::EISCONN),
            _ => return Err(Errno::EINVAL),
        }
        let listener = *self.files.bound_to(place, name, socket.kind).ok_or(Errno::ECONNREFUSED)?;
        if listener.kind != socket.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if listener.state != is::LISTENING {
            return Err(Errno::ECONNREFUSED);
        }
        if self.files.queued(listener.inode).len() > listener.backlog as usize {
            return Ok(None);
        }
        let (state, host) = (&mut self.state, &self.host);
        let other = self.files.new_unix(state, host, listener.kind)?;
        let turn = self.files.inode(listener.inode)?.size + 1;
        self.files.inodes.update(state, listener.inode, |i| (i.size, i.cursor) = (turn, turn))?;
        self.files.join_unix(state, socket.inode, other)?;
        self.files.unix.update(state, other, |s| {
            (s.listener, s.turn, s.name_place) = (listener.inode, turn, listener.name_place);
            s.set_name(listener.name());
        })?;
        Ok(Some(()))
    }

    /// The next connection that waits for a listener.
    pub(super) fn next_unix(&self, listener: u64) -> Option<u64> {
        self.files.queued(listener).first().copied()
    }

    /// Gives a socket that waited its descriptor.
    pub(super) fn accept_unix(&mut self, number: u64, flags: u64, close_on_exec: bool) -> Result<u32, Errno> {
        let fd = self.files.open_node(&mut self.state, Node::Inode(number), flags, close_on_exec)?;
        self.change_unix(number, |s| (s.listener, s.turn) = (0, 0))?;
        Ok(fd)
    }

    /// Shuts one side or both, and the peer's other side.
    pub(super) fn shut_unix(&mut self, socket: &UnixRecord, receiving: bool, sending: bool) -> Result<(), Errno> {
        if socket.state != is::CONNECTED {
            return Err(Errno::ENOTCONN);
        }
        let bits = |receiving, sending| {
            let read = if receiving { is::SHUT_READ } else { 0 };
            read | if sending { is::SHUT_WRITE } else { 0 }
        };
        self.change_unix(socket.inode, |s| s.shut |= bits(receiving, sending))?;
        if socket.peer != 0 && socket.kind != is::DATAGRAM {
            self.change_unix(socket.peer, |s| s.shut |= bits(sending, receiving))?;
        }
        Ok(())
    }

    /// The error that is to be told, once.
    pub(super) fn take_unix_error(&mut self, number: u64) -> Result<Option<Errno>, Errno> {
        let error = self.files.unix(number)?.error;
        if error != 0 {
            self.change_unix(number, |s| s.error = 0)?;
        }
        Ok(u16::try_from(error).ok().filter(|error| *error != 0).map(Errno))
    }

    /// Puts bytes, or one message, into the ring of the peer.
    ///
    /// # Errors
    /// `EPIPE`, `ENOTCONN`, `EMSGSIZE`, `ECONNREFUSED` for a datagram to nobody; `EAGAIN`: there is no room.
    pub(super) fn put_unix(&mut self, number: u64, data: &[u8]) -> Result<usize, Errno> {
        let socket = *self.files.unix(number)?;
        if socket.state != is::CONNECTED {
            return Err(Errno::ENOTCONN);
        }
        if socket.shut & is::SHUT_WRITE != 0 {
            return Err(Errno::EPIPE);
        }
        if socket.peer == 0 {
            return Err(Errno::ECONNREFUSED);
        }
        let to = socket.peer;
        let inode = self.files.inode(to)?;
        let (at, room) = (inode.size, CAPACITY.saturating_sub(bytes_in(inode)));
        let head = if socket.has_messages() { LENGTH } else { 0 };
        let whole = data.len() as u64 + head;
        if head > 0 && whole > CAPACITY {
            return Err(Errno::EMSGSIZE);
        }
        if room == 0 || head > 0 && room < whole {
            return Err(Errno::EAGAIN);
        }
        let count = usize::try_from(room - head).unwrap_or(usize::MAX).min(data.len());
        if count == 0 && head == 0 {
            return Ok(0);
        }
        let length = u32::try_from(count).map_err(|_| Errno::EMSGSIZE)?.to_le_bytes();
        let segment = self.files.segment_made(&mut self.state, &self.host, to)?;
        self.files.inodes.update(&mut self.state, to, |i| i.size += head + count as u64)?;
        let put = |at: u64, bytes: &[u8]| {
            ring(CAPACITY, at, bytes.len())
                .try_for_each(|(place, from, to)| segment.write_at(place, &bytes[from..to]).map_err(|_| Errno::EIO))
        };
        if head > 0 {
            put(at, &length)?;
        }
        put(at + head, &data[..count])?;
        Ok(count)
    }

    /// Takes what came for a socket, or (`look`) leaves it there.
    ///
    /// # Errors
    /// `EAGAIN`: nothing; `ECONNRESET`, `EINVAL`, `ENOTCONN`.
    pub(super) fn take_unix(&mut self, number: u64, out: &mut [u8], look: bool) -> Result<Came, Errno> {
        let socket = *self.files.unix(number)?;
        let inode = self.files.inode(number)?;
        let (at, waiting) = (inode.cursor, bytes_in(inode));
        match socket.state {
            is::CONNECTED => {}
            is::NEW | is::BOUND if socket.has_messages() => return Err(Errno::ENOTCONN),
            _ => return Err(Errno::EINVAL),
        }
        if waiting == 0 {
            if let Some(errno) = self.take_unix_error(number)? {
                return Err(errno);
            }
            return if socket.shut & is::SHUT_READ != 0 {
                Ok(Came { count: 0, length: 0 })
            } else {
                Err(Errno::EAGAIN)
            };
        }
        let segment = self.files.segment_made(&mut self.state, &self.host, number)?;
        let get = |at: u64, out: &mut [u8]| {
            ring(CAPACITY, at, out.len())
                .try_for_each(|(place, from, to)| segment.read_at(place, &mut out[from..to]).map_err(|_| Errno::EIO))
        };
        let (head, length) = if socket.has_messages() {
            let mut length = [0; LENGTH_BYTES];
            get(at, &mut length)?;
            // A length that the ring cannot hold is no length: nothing beyond what waits is ever read.
            (LENGTH, u64::from(u32::from_le_bytes(length)).min(waiting.saturating_sub(LENGTH)))
        } else {
            (0, waiting)
        };
        let count = usize::try_from(length).unwrap_or(usize::MAX).min(out.len());
        get(at + head, &mut out[..count])?;
        let taken = if head > 0 { head + length } else { count as u64 };
        if !look {
            self.files.inodes.update(&mut self.state, number, |i| i.cursor += taken)?;
        }
        Ok(Came { count, length: if head > 0 { length } else { count as u64 } })
    }

    /// Bytes that can be read at once.
    pub(super) fn unix_bytes(&mut self, number: u64) -> Result<u64, Errno> {
        let socket = *self.files.unix(number)?;
        let inode = self.files.inode(number)?;
        match (socket.state, bytes_in(inode)) {
            (is::LISTENING, _) => Err(Errno::EINVAL),
            (_, 0) => Ok(0),
            (_, waiting) if !socket.has_messages() => Ok(waiting),
            (_, waiting) => {
                let (mut at, end) = (inode.cursor, inode.cursor + waiting);
                let segment = self.files.segment_made(&mut self.state, &self.host, number)?;
                let mut total = 0;
                while at < end {
                    let mut length = [0; LENGTH_BYTES];
                    for (place, from, to) in ring(CAPACITY, at, length.len()) {
                        segment.read_at(place, &mut length[from..to]).map_err(|_| Errno::EIO)?;
                    }
                    let length = u64::from(u32::from_le_bytes(length));
                    (total, at) = (total + length, at + LENGTH + length);
                    if socket.kind == is::DATAGRAM {
                        break;
                    }
                }
                Ok(total.min(waiting))
            }
        }
    }

    /// What a socket is ready for.
    pub(super) fn unix_ready(&self, number: u64) -> Result<Ready, Errno> {
        let socket = self.files.unix(number)?;
        Ok(match socket.state {
            is::LISTENING => Ready { input: self.next_unix(number).is_some(), ..Ready::default() },
            is::CONNECTED => {
                let room = match self.files.inodes.get(socket.peer) {
                    // As Linux has it: while a quarter is used at most.
                    Some(peer) => bytes_in(peer) * 4 <= CAPACITY,
                    None => true,
                };
                let ended = socket.shut & is::SHUT_READ != 0;
                Ready {
                    input: ended || bytes_in(self.files.inode(number)?) > 0,
                    output: room || socket.shut & is::SHUT_WRITE != 0,
                    input_ended: ended,
                    hung_up: ended && socket.shut & is::SHUT_WRITE != 0,
                    failed: socket.error != 0,
                }
            }
            _ => Ready { output: true, hung_up: socket.kind != is::DATAGRAM, ..Ready::default() },
        })
    }

    /// How often it became ready, for input and for output.
    pub(super) fn unix_edges(&self, number: u64) -> [u64; 2] {
        let Ok(socket) = self.files.unix(number) else { return [0; 2] };
        let came = self.files.inodes.get(number).map_or(0, |inode| inode.size);
        let room = self.files.inodes.get(socket.peer).map_or(0, |peer| peer.cursor);
        let ended = |bit: u32| u64::from(socket.shut & bit != 0);
        [came << 1 | ended(is::SHUT_READ), room << 1 | ended(is::SHUT_WRITE)]
    }

    /// A call finds nothing to do now: it waits, unless it is not to or has waited long enough.
    pub(super) fn wait_on_unix(
        &mut self,
        socket: &UnixRecord,
        blocking: bool,
        timeout: usize,
    ) -> Result<Answer, Errno> {
        if !blocking {
            return Err(Errno::EAGAIN);
        }
        let timeout = options::timeout(&socket.options, timeout);
        self.nothing_ready(timeout, Wait::default())?.ok_or(Errno::EAGAIN)
    }
}
