//! A debugger's session over the control socket: many requests on one connection, whose end is its end.

use std::os::unix::net::UnixStream;

use rkyv::{Archive, Deserialize, Serialize};

use super::client::{Connection, ControlError};
use super::message::{Reply, Request};
use super::wire::{self, WireError};

/// The most bytes of memory in one message.
pub const MAX_MEMORY_BYTES: u32 = 1 << 16;

/// What a debugger asks of the domain that it is on.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DebugRequest {
    /// The register state. Answered by [`DebugReply::Bytes`].
    Registers,
    /// Another register state. Answered by [`DebugReply::Done`].
    SetRegisters {
        /// Of the form that [`DebugRequest::Registers`] gives; a shorter one leaves the rest as it is.
        state: Vec<u8>,
    },
    /// Memory. Answered by [`DebugReply::Bytes`], fewer than asked for if not all of it is mapped.
    Read {
        /// The first address.
        address: u64,
        /// Bytes.
        len: u32,
    },
    /// Other memory. Answered by [`DebugReply::Done`].
    Write {
        /// The first address.
        address: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A breakpoint. Answered by [`DebugReply::Done`].
    Breakpoint {
        /// Where.
        address: u64,
        /// Set, or taken away.
        on: bool,
    },
    /// The domain goes on. Answered by [`DebugReply::Done`] at once.
    Go {
        /// For one instruction.
        step: bool,
        /// The fault that it stands at goes to its keeper.
        pass_on: bool,
    },
    /// The domain stops. Answered by [`DebugReply::Done`].
    Interrupt,
    /// Whether it stands. Answered by [`DebugReply::Stood`], or by [`DebugReply::Runs`] after that time.
    Wait {
        /// How long the answer may take.
        milliseconds: u32,
    },
    /// The domain ends. Answered by [`DebugReply::Done`].
    Kill,
}

/// What the runtime answers.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DebugReply {
    /// The bytes that were asked for.
    Bytes(Vec<u8>),
    /// It is done, or cannot be: what it concerns is not mapped, or not with that right.
    Done(bool),
    /// The domain stands.
    Stood {
        /// By this signal; 0: it is gone.
        signal: u32,
        /// At a breakpoint.
        breakpoint: bool,
    },
    /// The domain runs, or waits.
    Runs,
    /// It failed, for this reason.
    Failed(String),
}

/// A domain that a debugger is on.
pub trait Debugged: Send {
    /// Serves one request.
    fn serve(&mut self, request: DebugRequest) -> DebugReply;
}

/// Serves a debugger until it hangs up.
pub fn serve(stream: &UnixStream, mut debugged: Box<dyn Debugged>) -> Result<(), WireError> {
    // A person may think for hours before the next request.
    stream.set_read_timeout(None)?;
    loop {
        match wire::receive(stream) {
            Ok((request, _)) => wire::send(stream, &debugged.serve(request), &[])?,
            Err(WireError::HungUp) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The command's end of a session.
#[derive(Debug)]
pub struct DebugConnection(UnixStream);

impl Connection {
    /// Begins a session with a domain.
    ///
    /// # Errors
    /// [`ControlError::Refused`] when there is no such domain, or it cannot be debugged.
    pub fn debug(self, domain: &str, leave_stopped: bool) -> Result<DebugConnection, ControlError> {
        match self.ask(&Request::Debug { domain: domain.to_owned(), leave_stopped })? {
            Reply::Done => Ok(DebugConnection(self.stream)),
            other => Err(ControlError::Unexpected(Box::new(other))),
        }
    }
}

impl DebugConnection {
    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub fn ask(&mut self, request: &DebugRequest) -> Result<DebugReply, ControlError> {
        wire::send(&self.0, request, &[])?;
        Ok(wire::receive(&self.0)?.0)
    }
}
