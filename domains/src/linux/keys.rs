//! Invoking keys from a Linux program: the reserved system call [`guest::SYSCALL`](crate::guest::SYSCALL).
//!
//! The message and its string are copied out of the program's memory once; what came back is copied in when it is there. While
//! the call waits, a record says that it was begun: given again, also after a restart, it looks for its answer and begins nothing.
//!
//! **Signals.** One that is due and not ignored ends the wait, as in other calls (`EINTR`, or given again after a handler with
//! `SA_RESTART`), but only while nothing is lost by it: while the message was not taken, or while the program waits for a message, a
//! timer, a generation. Once another domain took the message, handlers run when its answer, or the deadline of the call, has
//! come. A signal that ends the program always does.

use super::signals::Signals;
use super::state::State;
use super::{Answer, Call, Errno, ExitStatus, Program, Wait};
use crate::cpu::Cpu;
use crate::guest::{MAX_STRING, Message, SYSCALL};
use crate::table::{Record, RecordId};
use std::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a message.
pub const MESSAGE_BYTES: usize = size_of::<Message>();
/// Where in a message begins what comes back.
pub const CAME_BACK: usize = offset_of!(Message, code);

/// The served call.
pub const CALLS: &[Call] = &[Call {
    number: 0x5365_6d70,
    name: "semper_invoke",
    handler: invoke,
    note: "of Semper: invokes a key (docs/native.md)",
}];
const _: () = assert!(SYSCALL == 0x5365_6d70);

/// What became of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invoked {
    /// Something came back: an answer, or a message.
    Came,
    /// It waits; the program's bell rings when that is over.
    Waits,
    /// It was not begun, since a console that it writes to holds as much as it may; the program's bell rings when it holds less.
    Full,
    /// The domain ended itself, with this code.
    Ended(u8),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The second half of the message.
    pub half: [u8; MESSAGE_BYTES - CAME_BACK],
    /// The string.
    pub string: Vec<u8>,
}

/// The keys of one program, as its domain holds them.
pub trait Keys: Send + Sync {
    /// Invokes what `message` says, with this string, of at most [`MAX_STRING`] bytes.
    ///
    /// # Errors
    /// `ENOSYS`: the program has no domain. `EIO`: segment 0 is damaged. Nothing was invoked.
    fn invoke(&self, message: &Message, string: &[u8]) -> Result<Invoked, Errno>;
    /// What became of the invocation that waited.
    ///
    /// # Errors
    /// As [`Keys::invoke`].
    fn state(&self) -> Result<Invoked, Errno>;
    /// What came back last.
    fn received(&self) -> Received;
    /// Gives up the wait. False: something came meanwhile, or another domain took the message.
    fn withdraw(&self) -> bool;
}

/// An invocation that was begun and has not given its answer to the program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct KeyCall {
    /// Address of the message.
    message: u64,
    /// Address of the string.
    string: u64,
}

impl Record for KeyCall {
    const KIND: u16 = 8;
    const NAME: &'static str = "invocation";
}

/// The invocation that a program stands in, if it does.
pub(super) fn load(state: &State) -> Option<(RecordId, KeyCall)> {
    state.iter::<KeyCall>().next()
}

fn invoke(p: &mut Program, _: &mut Cpu<'_>, [message, string, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let (call, invoked) = match p.key_call {
        Some((_, call)) => (call, p.host.keys.state()),
        None => {
            let (asked, text) = p.read_message(message, string)?;
            let call = KeyCall { message, string };
            // Before it is begun: from then on nothing may fail.
            p.key_call = Some((p.state.insert(&call)?, call));
            (call, p.host.keys.invoke(&asked, &text))
        }
    };
    match invoked {
        Ok(Invoked::Waits) => return Ok(Answer::Wait(Wait::default())),
        Ok(Invoked::Came | Invoked::Ended(_)) | Err(_) => {}
        Ok(Invoked::Full) => {
            p.forget_key_call()?;
            return Ok(Answer::Wait(Wait { output_room: true, ..Wait::default() }));
        }
    }
    p.forget_key_call()?;
    let result = match invoked {
        Ok(Invoked::Ended(code)) => return p.end(ExitStatus::Code(code)).map(Answer::Ended),
        Ok(_) => p.write_received(&call),
        Err(errno) => Err(errno),
    };
    // An error would undo that the call is over.
    Ok(Answer::Value(result.err().map_or(0, Errno::as_result)))
}

impl Program {
    /// Reads a message and its string, once. All of both must be there to be written, too.
    fn read_message(&self, message: u64, string: u64) -> Result<(Message, Vec<u8>), Errno> {
        let mut bytes = [0; MESSAGE_BYTES];
        for (address, length) in [(message, MESSAGE_BYTES as u64), (string, MAX_STRING as u64)] {
            if self.user.readable(address, length) < length || self.user.writable(address, length) < length {
                return Err(Errno::EFAULT);
            }
        }
        self.user.read_into(message, &mut bytes)?;
        let asked = crate::native::message_of(bytes);
        // A longer one is refused by the length that the message gives.
        let length = usize::try_from(asked.string_len).unwrap_or(MAX_STRING).min(MAX_STRING);
        Ok((asked, self.user.read(string, length)?))
    }

    fn write_received(&self, call: &KeyCall) -> Result<(), Errno> {
        let Received { half, string } = self.host.keys.received();
        self.user.write(call.message.wrapping_add(CAME_BACK as u64), &half)?;
        self.user.write(call.string, &string)
    }

    /// The invocation is over.
    fn forget_key_call(&mut self) -> Result<(), Errno> {
        match self.key_call.take() {
            Some((id, _)) => self.state.remove(id),
            None => Ok(()),
        }
    }

    /// Whether a signal that is due ends the wait of call `number`.
    pub(super) fn gives_up(&mut self, number: u64) -> bool {
        if number != SYSCALL || self.key_call.is_none() {
            return true;
        }
        if !self.host.keys.withdraw() && !self.signals.ends() {
            return false;
        }
        self.state.begin();
        match self.forget_key_call() {
            Ok(()) => self.state.commit(),
            Err(_) => self.undo(),
        }
        true
    }
}

impl Signals {
    /// Whether a signal that is due ends the program.
    fn ends(&self) -> bool {
        self.due().any(|signal| self.action(signal).handler == super::signals::SIG_DFL)
    }
}
