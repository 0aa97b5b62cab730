//! A port of the host that leads to a port of a program's.

use super::grants::Listen;
use super::{errno, look};
use crate::linux::Errno;
use rustix::event::PollFlags;
use rustix::net::Shutdown;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Connections that the host keeps before they are accepted.
const MAX_BACKLOG: u32 = 1024;

/// It is bound as long as the program lives, so that nobody else can take it, and lets in whom the program's listener would.
pub(super) struct Port {
    pub(super) grant: Listen,
    pub(super) listener: TcpListener,
    /// What the poller calls it.
    pub(super) token: u64,
    listening: AtomicBool,
    /// Somebody may have come since it was last found that nobody had.
    maybe: AtomicBool,
    pub(super) edges: AtomicU64,
}

impl Port {
    pub(super) fn open(grant: Listen, token: u64) -> std::io::Result<Self> {
        // It listens for a moment: only so does the host say whether another one listens there.
        let listener = TcpListener::bind(grant.address)?;
        listener.set_nonblocking(true)?;
        let port = Self {
            grant,
            listener,
            token,
            listening: AtomicBool::new(false),
            maybe: AtomicBool::new(true),
            edges: AtomicU64::new(0),
        };
        rustix::net::shutdown(&port.listener, Shutdown::Read)?;
        Ok(port)
    }

    pub(super) fn listen(&self, backlog: u32) -> Result<(), Errno> {
        let backlog = i32::try_from(backlog.clamp(1, MAX_BACKLOG)).unwrap_or(1);
        rustix::net::listen(&self.listener, backlog).map_err(|e| errno(&e.into()))?;
        self.listening.store(true, SeqCst);
        Ok(())
    }

    pub(super) fn stop(&self) {
        if self.listening.swap(false, SeqCst)
            && let Err(error) = rustix::net::shutdown(&self.listener, Shutdown::Read)
        {
            tracing::warn!(%error, address = %self.grant.address, "a port still lets connections in");
        }
    }

    pub(super) fn accept(&self) -> Result<(TcpStream, SocketAddrV4, Ipv4Addr), Errno> {
        if !self.listening.load(SeqCst) {
            return Err(Errno::EINVAL);
        }
        loop {
            match self.listener.accept() {
                Ok((stream, SocketAddr::V4(peer))) => {
                    stream.set_nonblocking(true).map_err(|e| errno(&e))?;
                    let local = match stream.local_addr() {
                        Ok(SocketAddr::V4(local)) => *local.ip(),
                        _ => *self.grant.address.ip(),
                    };
                    return Ok((stream, peer, local));
                }
                // It came and went.
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(errno(&error)),
            }
        }
    }

    /// Whether somebody waits to be let in.
    pub(super) fn is_ready(&self) -> bool {
        if !self.listening.load(SeqCst) || !self.maybe.swap(false, SeqCst) {
            return false;
        }
        let ready = look(&self.listener, PollFlags::IN).intersects(PollFlags::IN);
        if ready {
            self.maybe.store(true, SeqCst);
        }
        ready
    }

    /// The host says that somebody came.
    pub(super) fn event(&self) {
        self.maybe.store(true, SeqCst);
        self.edges.fetch_add(1, SeqCst);
    }
}
