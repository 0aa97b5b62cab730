//! The `linux` personality: the keeper that lets unmodified x86-64 Linux programs be domains.
//!
//! **Promise.** A program sees a small, truthful Linux: memory calls, files that live in the store, a console, clocks, sockets,
//! signals of its own. All of a program's state is records in its state segment, changed by one transaction a call, so
//! memory, files and console roll back together. What is kept beside the records is a cache that [`Program::load`] makes
//! again from them. A call that is not served answers `ENOSYS`, is named once in the log, and never corrupts.
//!
//! A program holds keys, too, and invokes them by a call of its own (`keys`).
//!
//! **How a call runs.** The platform gives a stopped domain's [`Cpu`](crate::cpu::Cpu) to [`Program::syscall`]. The handler reads its
//! arguments once, checks them, changes records in one transaction and answers. A handler that must wait says
//! for what ([`Answer::Wait`]) and leaves nothing half done: the same call is given again when what it waits for may have
//! come, also after a restart. What has to be done inside the domain's process is an [`Order`](crate::abi::Order).

pub mod calls;
mod code;
mod dynamic;
mod errno;
mod files;
mod host;
mod identity;
mod keys;
mod loader;
mod mail;
mod memory;
mod mm;
mod names;
mod network;
mod pool;
mod process;
mod program;
mod signal_calls;
mod signal_frame;
mod signals;
mod stack;
mod state;
mod time;
mod user;
pub mod vma;

pub use calls::Call;
pub use dynamic::Needs;
pub use errno::Errno;
pub use files::{HELD_LIMIT, ImportError, StreamState};
pub use host::{
    Appending, Clock, Console, ConsoleKind, Host, Input, Journal, JournalRecord, JournalTrouble, Restart, Room,
    SegmentError, Segments, Stream, Wanted,
};
pub use keys::{CAME_BACK, Invoked, Keys, MESSAGE_BYTES, Received};
pub use loader::{LoadError, check_image};
pub(crate) use loader::{Piece, fixed_image};
pub use mail::{Letter, Mail, Parcel};
pub use network::{Accepted, Network, NoNetwork, Ready};
pub use process::{Identity, PARENT, PID, UID};
pub use program::{Program, ProgramSpec, Start};
pub use state::State;
pub use user::{CHUNK, MAX_RW, UserMemory};

#[cfg(test)]
mod tests;

use std::time::Duration;

/// What a domain in a blocking call waits for; it goes on at whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// Domain monotonic time at which the call ends at the latest.
    pub until: Option<Duration>,
    /// Input on the console.
    pub input: bool,
    /// Room in the held output.
    pub output_room: bool,
    /// Something of the network.
    pub network: bool,
    /// The journal's disk: [`Journal::work`] does it. No signal ends this wait.
    pub journal: bool,
    /// Room in the store: [`Segments::make_room`] makes it. No signal ends this wait.
    pub room: bool,
}

/// What a handler of one call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value of the call.
    Value(u64),
    /// Not yet: give the same call again when this has come.
    Wait(Wait),
    /// The registers are set already (a signal frame was built or undone).
    Registers,
    /// The program has ended.
    Ended(ExitStatus),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exit, with this code (0..=255).
    Code(u8),
    /// By a signal.
    Signal(u8),
}

/// What the platform does with the domain after a call, a fault or an interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Let it go on.
    Resume,
    /// Keep it stopped, and give the same cause again when this may have come.
    Wait(Wait),
    /// It has ended.
    Ended(ExitStatus),
}

/// A processor exception of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Linux signal number: SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP.
    pub signal: u32,
    /// `si_code`.
    pub code: u32,
    /// `si_addr`.
    pub address: u64,
}
