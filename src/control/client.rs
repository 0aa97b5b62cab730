//! The command's end of the control socket.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::message::{Refusal, Reply, Request};
use super::socket;
use super::wire::{self, WireError};

/// How long the runtime may take to accept a request. It answers from a thread that does nothing else, so a longer
/// silence means that it is stuck or stopped.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing listens.
    #[error("no runtime is running on this store")]
    NotRunning,
    /// The socket could not be reached for another reason.
    #[error("cannot reach the runtime of this store: {0}")]
    Unreachable(io::Error),
    /// The runtime ended before it answered; what was asked may have been done.
    #[error("the runtime ended before it answered")]
    Ended,
    /// The exchange failed.
    #[error(transparent)]
    Wire(WireError),
    /// The runtime refused.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The runtime answered something else.
    #[error("the runtime gave an answer that does not fit the request: {0:?}")]
    Unexpected(Box<Reply>),
}

impl From<WireError> for ControlError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::HungUp => Self::Ended,
            // It ended before it had read the request, so nothing came of that.
            WireError::Socket(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Self::NotRunning
            }
            error => Self::Wire(error),
        }
    }
}

/// A connection to a running runtime, good for one request.
#[derive(Debug)]
pub struct Connection {
    pub(super) stream: UnixStream,
}

impl Connection {
    /// Connects to the runtime of `store`.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`] when there is none.
    pub fn open(store: &Path) -> Result<Connection, ControlError> {
        let stream = socket::connect(store).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::NotRunning,
            _ => ControlError::Unreachable(error),
        })?;
        stream.set_write_timeout(Some(REQUEST_TIMEOUT)).map_err(ControlError::Unreachable)?;
        Ok(Connection { stream })
    }

    /// Sends the request, with a console if it is one that starts a program.
    ///
    /// # Errors
    /// When the runtime does not take it.
    pub fn send(&self, request: &Request, console: &[&dyn AsFd]) -> Result<(), ControlError> {
        let console: Vec<_> = console.iter().map(|descriptor| descriptor.as_fd()).collect();
        Ok(wire::send(&self.stream, request, &console)?)
    }

    /// Waits for the next answer, however long it takes: a checkpoint may be large, a program may run for years.
    ///
    /// # Errors
    /// [`ControlError::Refused`] when the runtime refused; another when it ended without an answer.
    pub fn receive(&self) -> Result<Reply, ControlError> {
        match wire::receive(&self.stream)?.0 {
            Reply::Refused(refusal) => Err(ControlError::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`Connection::send`] and [`Connection::receive`].
    pub fn ask(&self, request: &Request) -> Result<Reply, ControlError> {
        self.send(request, &[])?;
        self.receive()
    }
}
