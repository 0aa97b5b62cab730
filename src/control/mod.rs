//! The control socket: how commands talk to the runtime that is running on a store.
//!
//! Promise: whatever a peer sends, the runtime stays up, spends a bounded amount of memory and time on it, and does
//! nothing that was not a valid request of its own user. Invariants:
//!
//! * A peer of another user (root excepted) is hung up on before a byte of it is read.
//! * A frame is at most [`wire::MAX_FRAME_BYTES`] long and is validated before it is used.
//! * A connection carries one request, or one debugger's session; a peer that is slow to send it or to take the reply is dropped.
//!
//! `docs/format-control.md` describes the bytes.

mod client;
mod debug;
mod message;
mod server;
mod socket;
pub mod wire;

pub use client::{Connection, ControlError};
pub use debug::{DebugConnection, DebugReply, DebugRequest, Debugged, MAX_MEMORY_BYTES};
pub use message::{Act, Ending, Gone, Program, Refusal, Reply, Request, Rotten};
pub use server::{Handed, Served, Server};
pub use socket::{Bound, SOCKET_NAME};
