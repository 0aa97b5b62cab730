//! The network as a program sees it: ports that it was given, and connections by number. The host's sockets stay outside.

use super::Errno;
use std::net::{Ipv4Addr, SocketAddrV4};

/// What a connection or a port is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ready {
    /// Something can be received or accepted, or told about receiving.
    pub input: bool,
    /// Something can be sent, or told about sending.
    pub output: bool,
    /// The peer sends no more.
    pub input_ended: bool,
    /// Nothing goes either way any more.
    pub hung_up: bool,
    /// There is an error to be told.
    pub failed: bool,
}

/// A connection that came to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Accepted {
    /// Its number, never used again in this life.
    pub connection: u64,
    /// Who connected.
    pub peer: SocketAddrV4,
    /// To which address of the host.
    pub local: Ipv4Addr,
}

/// The sockets outside the store. No call waits: `EAGAIN` says not yet, and the program's bell rings when that may have changed. A
/// connection that is not there, as after a restart, is `ECONNRESET`.
pub trait Network: Send + Sync {
    /// The host's address of a port that the program may bind.
    ///
    /// # Errors
    /// `EACCES`: it was not granted.
    fn granted(&self, port: u16) -> Result<Ipv4Addr, Errno>;
    /// Who connects to the port is let in from now on, `backlog` of them before they are accepted.
    ///
    /// # Errors
    /// As [`Network::granted`]; what the host says.
    fn listen(&self, port: u16, backlog: u32) -> Result<(), Errno>;
    /// Nobody is let in any more.
    fn stop_listening(&self, port: u16);
    /// The next connection of a port.
    ///
    /// # Errors
    /// `EAGAIN`: there is none yet, or the program has as many as it may have; what the host says.
    fn accept(&self, port: u16) -> Result<Accepted, Errno>;
    /// Begins to connect.
    ///
    /// # Errors
    /// `EACCES`: that was not granted; `ENOBUFS`: the program has as many connections as it may have; what the host says.
    fn connect(&self, to: SocketAddrV4) -> Result<u64, Errno>;
    /// The address of this end, once the connection stands.
    ///
    /// # Errors
    /// `EAGAIN`: not yet; why it came to nothing.
    fn connected(&self, connection: u64) -> Result<SocketAddrV4, Errno>;
    /// Receives; 0 bytes: there will never be more. Bytes that are only looked at stay.
    ///
    /// # Errors
    /// `EAGAIN`, or what became of the connection.
    fn receive(&self, connection: u64, out: &mut [u8], look: bool) -> Result<usize, Errno>;
    /// Takes what there is room for, to be sent when that is safe.
    ///
    /// # Errors
    /// `EAGAIN`: no room. `EPIPE`: nothing can be sent any more. Else an error to be told, until [`Network::take_error`] took it.
    fn send(&self, connection: u64, data: &[u8]) -> Result<usize, Errno>;
    /// The error that is to be told, once.
    fn take_error(&self, connection: u64) -> Option<Errno>;
    /// Nothing will be received, or nothing more be sent; the peer is told of the latter after all that was sent before.
    fn shut_down(&self, connection: u64, receiving: bool, sending: bool);
    /// The program has no more to do with it: it ends after all that was sent before; with a reset if `reset`.
    fn close(&self, connection: u64, reset: bool);
    /// What a port that listens is ready for.
    fn port_ready(&self, port: u16) -> Ready;
    /// What a connection is ready for.
    ///
    /// # Errors
    /// It is not there.
    fn ready(&self, connection: u64) -> Result<Ready, Errno>;
    /// How often something came, and how often room came: it grows with each.
    fn edges(&self, connection: u64) -> [u64; 2];
    /// How often somebody connected to a port: it grows with each.
    fn port_edges(&self, port: u16) -> u64;
}

/// The network of who was given none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNetwork;

impl Network for NoNetwork {
    fn granted(&self, _: u16) -> Result<Ipv4Addr, Errno> {
        Err(Errno::EACCES)
    }

    fn listen(&self, _: u16, _: u32) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }

    fn stop_listening(&self, _: u16) {}

    fn accept(&self, _: u16) -> Result<Accepted, Errno> {
        Err(Errno::EINVAL)
    }

    fn connect(&self, _: SocketAddrV4) -> Result<u64, Errno> {
        Err(Errno::EACCES)
    }

    fn connected(&self, _: u64) -> Result<SocketAddrV4, Errno> {
        Err(Errno::ECONNRESET)
    }

    fn receive(&self, _: u64, _: &mut [u8], _: bool) -> Result<usize, Errno> {
        Err(Errno::ECONNRESET)
    }

    fn send(&self, _: u64, _: &[u8]) -> Result<usize, Errno> {
        Err(Errno::ECONNRESET)
    }

    fn take_error(&self, _: u64) -> Option<Errno> {
        Some(Errno::ECONNRESET)
    }

    fn shut_down(&self, _: u64, _: bool, _: bool) {}

    fn close(&self, _: u64, _: bool) {}

    fn port_ready(&self, _: u16) -> Ready {
        Ready::default()
    }

    fn ready(&self, _: u64) -> Result<Ready, Errno> {
        Err(Errno::ECONNRESET)
    }

    fn edges(&self, _: u64) -> [u64; 2] {
        [0; 2]
    }

    fn port_edges(&self, _: u16) -> u64 {
        0
    }
}
