//! Sockets: what a program's records say of them. The sockets of the host are behind [`Network`](crate::linux::Network).
//!
//! A connection is named by its number and the life in which it was made. In another life it is gone: calls on it answer `ECONNRESET`.
//! A listener is told by its port, and listens in every life.

use super::super::state::State;
use super::mirror::Keyed;
use super::node::{Node, NodeKind};
use super::records::{SocketRecord, kind, socket as is};
use super::{Errno, Files, Host};
use crate::linux::{Accepted, Program, Ready};
use std::net::{Ipv4Addr, SocketAddrV4};

impl Keyed for SocketRecord {
    type Key = u64;
    fn key(&self) -> u64 {
        self.inode
    }
}

/// What is closed outside once the transaction that closed it has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// A port that listened.
    Port(u16),
    /// A connection; with a reset.
    Connection(u64, bool),
}

/// As what a socket can be found ready.
pub(super) const GONE: Ready = Ready { input: true, output: true, input_ended: true, hung_up: true, failed: true };

impl SocketRecord {
    pub(super) fn local(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(self.local_address), self.local_port)
    }

    pub(super) fn peer(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(self.peer_address), self.peer_port)
    }

    pub(super) fn set_local(&mut self, address: SocketAddrV4) {
        (self.local_address, self.local_port) = (address.ip().to_bits(), address.port());
    }

    pub(super) fn set_peer(&mut self, address: SocketAddrV4) {
        (self.peer_address, self.peer_port) = (address.ip().to_bits(), address.port());
    }

    /// The connection that it names in this life.
    pub(super) fn live(&self, host: &Host) -> Option<u64> {
        let has_one = matches!(self.state, is::CONNECTING | is::CONNECTED);
        (has_one && self.life == (host.restart)().id).then_some(self.connection)
    }
}

impl Files {
    pub(super) fn socket(&self, number: u64) -> Result<&SocketRecord, Errno> {
        self.sockets.get(number).ok_or(Errno::EIO)
    }

    /// Makes a socket and a descriptor of it.
    pub(super) fn new_socket(
        &mut self,
        state: &mut State,
        host: &Host,
        record: SocketRecord,
        flags: u64,
        close_on_exec: bool,
    ) -> Result<u32, Errno> {
        let inode = self.new_inode(state, host, kind::SOCKET, 0o777)?;
        self.sockets.insert(state, SocketRecord { inode, ..record })?;
        self.open_node(state, Node::Inode(inode), flags, close_on_exec)
    }

    /// The socket of an inode that goes.
    pub(super) fn forget_socket(&mut self, state: &mut State, host: &Host, number: u64) -> Result<(), Errno> {
        let gone = self.sockets.remove(state, number)?;
        if gone.state == is::LISTENING {
            self.closed.push(Closed::Port(gone.local_port));
        } else if let Some(connection) = gone.live(host) {
            self.closed.push(Closed::Connection(connection, gone.resets()));
        }
        Ok(())
    }

    /// What has begun to move by a call that was then interrupted; it is forgotten.
    pub(super) fn take_progress(&mut self, state: &mut State) -> Result<Option<u64>, Errno> {
        let begun = self.sockets.values().find(|socket| socket.progress > 0).copied();
        let Some(socket) = begun else { return Ok(None) };
        self.sockets.update(state, socket.inode, |s| s.progress = 0)?;
        Ok(Some(socket.progress))
    }

    /// Whether another socket has the port.
    pub(super) fn port_is_bound(&self, port: u16) -> bool {
        self.sockets.values().any(|s| matches!(s.state, is::BOUND | is::LISTENING) && s.local_port == port)
    }
}

impl Program {
    /// The ports that it listens at, each with its backlog.
    #[must_use]
    pub fn listening(&self) -> Vec<(u16, u32)> {
        let listening = self.files.sockets.values().filter(|socket| socket.state == is::LISTENING);
        listening.map(|socket| (socket.local_port, socket.backlog)).collect()
    }

    /// A call was undone: what it closed is not.
    pub(in crate::linux) fn keep_sockets(&mut self) {
        self.files.closed.clear();
    }

    /// The call is done: what it closed is closed outside.
    pub(in crate::linux) fn close_sockets(&mut self) {
        for closed in std::mem::take(&mut self.files.closed) {
            match closed {
                Closed::Port(port) => self.host.network.stop_listening(port),
                Closed::Connection(connection, reset) => self.host.network.close(connection, reset),
            }
        }
    }

    /// What a transfer that waited has moved, if a signal ends it now.
    pub(in crate::linux) fn moved_so_far(&mut self) -> Option<u64> {
        self.state.begin();
        match self.files.take_progress(&mut self.state) {
            Ok(moved) => {
                self.state.commit();
                moved
            }
            Err(_) => {
                self.undo();
                None
            }
        }
    }

    /// The socket behind a descriptor: its inode, and the flags of the open file.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    pub(super) fn socket_at(&self, fd: u64) -> Result<(SocketRecord, super::OpenFile), Errno> {
        let open = self.files.usable(fd)?;
        let NodeKind::Socket(number) = self.files.kind_of(open.node()?)? else { return Err(Errno::ENOTSOCK) };
        Ok((*self.files.socket(number)?, open))
    }

    pub(super) fn change_socket(&mut self, number: u64, change: impl FnOnce(&mut SocketRecord)) -> Result<(), Errno> {
        self.files.sockets.update(&mut self.state, number, change)
    }

    /// The connection of a socket, once it stands.
    ///
    /// # Errors
    /// `ENOTCONN`; `EAGAIN`: not yet; `ECONNRESET`: it was of another life; why it came to nothing.
    pub(super) fn connection(&mut self, number: u64) -> Result<u64, Errno> {
        let socket = *self.files.socket(number)?;
        match (socket.state, socket.live(&self.host)) {
            (is::CONNECTED, Some(connection)) => Ok(connection),
            (is::CONNECTING, Some(connection)) => {
                let local = self.host.network.connected(connection)?;
                self.change_socket(number, |s| {
                    s.state = is::CONNECTED;
                    s.set_local(local);
                })?;
                Ok(connection)
            }
            (is::CONNECTED | is::CONNECTING, None) => Err(Errno::ECONNRESET),
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// Connects, or goes on with it. An error is a value: the records change with it.
    pub(super) fn connect_socket(&mut self, socket: SocketRecord, to: SocketAddrV4) -> Result<Connect, Errno> {
        let number = socket.inode;
        match (socket.state, socket.live(&self.host)) {
            (is::CONNECTING, Some(connection)) => self.connect_on(number, connection, false),
            // It was begun in another life: nothing was said on it.
            (is::NEW | is::BOUND, _) | (is::CONNECTING, None) => {
                let connection = self.host.network.connect(to)?;
                let life = (self.host.restart)().id;
                let began = self.change_socket(number, |s| {
                    (s.state, s.life, s.connection) = (is::CONNECTING, life, connection);
                    s.set_peer(to);
                });
                if let Err(errno) = began {
                    self.host.network.close(connection, true);
                    return Err(errno);
                }
                self.connect_on(number, connection, true)
            }
            _ => Err(Errno::EISCONN),
        }
    }

    fn connect_on(&mut self, number: u64, connection: u64, first: bool) -> Result<Connect, Errno> {
        match self.connection(number) {
            Ok(_) => Ok(Connect::Stands),
            Err(Errno::EAGAIN) => Ok(Connect::Pending { first }),
            Err(errno) => {
                self.change_socket(number, |s| (s.state, s.connection) = (is::NEW, 0))?;
                self.files.closed.push(Closed::Connection(connection, true));
                Ok(Connect::Failed(errno))
            }
        }
    }

    /// A connection that came, as a socket.
    pub(super) fn accepted(
        &mut self,
        listener: &SocketRecord,
        accepted: Accepted,
        flags: u64,
        close_on_exec: bool,
    ) -> Result<u32, Errno> {
        let mut record = SocketRecord { shut: 0, progress: 0, backlog: 0, state: is::CONNECTED, ..*listener };
        (record.life, record.connection) = ((self.host.restart)().id, accepted.connection);
        let bound = listener.local();
        let local = if bound.ip().is_unspecified() { accepted.local } else { *bound.ip() };
        record.set_local(SocketAddrV4::new(local, bound.port()));
        record.set_peer(accepted.peer);
        let made = self.files.new_socket(&mut self.state, &self.host, record, flags, close_on_exec);
        if made.is_err() {
            self.host.network.close(accepted.connection, true);
        }
        made
    }

    /// Shuts one side or both.
    pub(super) fn shut_socket(&mut self, socket: SocketRecord, receiving: bool, sending: bool) -> Result<(), Errno> {
        let bits = if receiving { is::SHUT_READ } else { 0 } | if sending { is::SHUT_WRITE } else { 0 };
        match (socket.state, socket.live(&self.host)) {
            (is::CONNECTED | is::CONNECTING, Some(connection)) => {
                self.change_socket(socket.inode, |s| s.shut |= bits)?;
                self.host.network.shut_down(connection, receiving, sending);
                Ok(())
            }
            (is::LISTENING, _) if receiving => {
                self.change_socket(socket.inode, |s| s.state = is::BOUND)?;
                self.files.closed.push(Closed::Port(socket.local_port));
                Ok(())
            }
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// What a socket is ready for.
    pub(super) fn socket_ready(&self, number: u64) -> Result<Ready, Errno> {
        let socket = self.files.socket(number)?;
        Ok(match (socket.state, socket.live(&self.host)) {
            (is::LISTENING, _) => self.host.network.port_ready(socket.local_port),
            (is::CONNECTED | is::CONNECTING, Some(connection)) => {
                let ready = self.host.network.ready(connection).unwrap_or(GONE);
                let shut = socket.shut & is::SHUT_READ != 0;
                let both = shut && socket.shut & is::SHUT_WRITE != 0;
                Ready {
                    input: ready.input || shut,
                    input_ended: ready.input_ended || shut,
                    hung_up: ready.hung_up || both,
                    ..ready
                }
            }
            (is::CONNECTED | is::CONNECTING, None) => GONE,
            _ => Ready { output: true, hung_up: true, ..Ready::default() },
        })
    }

    /// How often it became ready, for input and for output.
    pub(super) fn socket_edges(&self, number: u64) -> [u64; 2] {
        let Ok(socket) = self.files.socket(number) else { return [0; 2] };
        match (socket.state, socket.live(&self.host)) {
            (is::LISTENING, _) => [self.host.network.port_edges(socket.local_port), 0],
            (_, Some(connection)) => self.host.network.edges(connection),
            _ => [0; 2],
        }
    }

    /// The error that is to be told, once.
    pub(super) fn socket_error(&self, socket: &SocketRecord) -> Option<Errno> {
        match (socket.state, socket.live(&self.host)) {
            (is::CONNECTED | is::CONNECTING, Some(connection)) => self.host.network.take_error(connection),
            (is::CONNECTED | is::CONNECTING, None) => Some(Errno::ECONNRESET),
            _ => None,
        }
    }
}

/// How far a connection that was begun is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connect {
    /// It stands.
    Stands,
    /// Not yet; whether it was begun by this call.
    Pending {
        /// It was.
        first: bool,
    },
    /// It came to nothing.
    Failed(Errno),
}
