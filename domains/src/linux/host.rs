//! What the personality is given by the kernel: segments, a console, a network, clocks, randomness, answers, keys. Nothing else reaches it.

use super::Errno;
use semper_pager::Segment;
use semper_store::SegmentId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// A segment could not be made or opened.
#[derive(Debug, Error)]
#[error("{what}: {reason}")]
pub struct SegmentError {
    /// What was tried.
    pub what: String,
    /// Why it failed.
    pub reason: String,
}

/// Makes and opens segments on behalf of one domain.
pub trait Segments: Send + Sync {
    /// A new empty segment of this domain's, sparse, up to `pages` pages.
    ///
    /// # Errors
    /// When the store or the machine has no room.
    fn create(&self, pages: u64) -> Result<Arc<Segment>, SegmentError>;
    /// One of this domain's segments.
    ///
    /// # Errors
    /// When there is no such segment.
    fn open(&self, id: SegmentId) -> Result<Arc<Segment>, SegmentError>;
    /// Destroys one of this domain's segments.
    fn remove(&self, id: SegmentId);
    /// Whether the store has room for `pages` more pages now.
    fn room_for(&self, pages: u64) -> bool;
    /// The same for a call that can wait. Asked again after [`Room::Later`], it tells whether any was made.
    fn room(&self, pages: u64) -> Room {
        if self.room_for(pages) { Room::Now } else { Room::Never }
    }
    /// Makes the room that a call waits for, if it can be made. Called outside of all locks; takes as long as checkpoints do.
    fn make_room(&self) {}
}

/// Whether there is room for what a program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Room {
    /// There is.
    Now,
    /// Perhaps when what is in memory is in the store as well: wait with [`super::Wait::room`], and give the call again.
    Later,
    /// There is none.
    Never,
}

/// One of the three console streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    In,
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What the host has connected to a stream; a program's `fstat` and `isatty` show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsoleKind {
    /// A terminal of this many rows and columns.
    Terminal {
        /// Lines.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// A pipe, socket or other stream.
    Pipe,
    /// A regular file of this size.
    File {
        /// Bytes.
        size: u64,
    },
    /// The null device, or nothing at all.
    Null,
}

/// The result of asking for console input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// This many bytes were put into the buffer (at least one).
    Bytes(usize),
    /// Nothing yet; wait with [`super::Wait::input`].
    NotYet,
    /// There will never be more.
    End,
}

/// The console outside the store. Positions are absolute: bytes since the program began.
pub trait Console: Send + Sync {
    /// Reads input from `position` on. The host keeps what was given since the last commit, so that asking again for
    /// the same position, also after a restart, gives the same bytes.
    fn read(&self, position: u64, out: &mut [u8]) -> Input;
    /// The program was told that input ends. At a terminal the end is told once: who reads on waits for more.
    fn end_was_told(&self) {}
    /// The modes that the terminal has now (the kernel's `struct termios`), if there is one.
    fn terminal_modes(&self) -> Option<[u8; 36]> {
        None
    }
    /// The terminal is to have these modes; of output those bytes keep the old ones that were written before, `written` in number.
    fn set_terminal_modes(&self, _modes: &[u8; 36], _written: u64) {}
    /// What was typed and not read is thrown away.
    fn flush_input(&self) {}
    /// What is connected.
    fn kind(&self, stream: Stream) -> ConsoleKind;
    /// Whether standard error goes where standard output goes (`2>&1`): one order of bytes then holds for both.
    fn is_joined(&self) -> bool;
    /// Whether nobody will ever read an output stream any more; output that is held back shows that late.
    fn is_broken(&self, stream: Stream) -> bool;
    /// Whether output may be written now, as `now` finds out: that depends on how far it has left, which no state of the program's tells alone.
    fn may_write(&self, now: &dyn Fn() -> bool) -> bool {
        now()
    }
    /// The program shows these bytes, on whichever output stream.
    fn shows(&self, _bytes: &[u8]) {}
    /// The program appended output up to absolute position `written` of `stream` (it lies in the stream's segment).
    fn wrote(&self, stream: Stream, written: u64);
}

/// Time as the domain sees it.
pub trait Clock: Send + Sync {
    /// Monotonic time; continues across restarts without a jump back.
    fn monotonic(&self) -> Duration;
    /// Wall time since 1970.
    fn realtime(&self) -> Duration;
    /// Processor time that the domain has used.
    fn cpu(&self) -> Duration;
}

/// Whether the journal is asked for to be written to: then it is made if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To be read.
    ToRead,
    /// To be written to.
    ToWrite,
}

/// What an append to the journal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Appending {
    /// It is written, and durable.
    Written,
    /// The program has a record of this number already, and that is durable.
    There,
}

/// Why a call to the journal does not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JournalTrouble {
    /// Not yet: wait with [`super::Wait::journal`], and give the call again.
    Wait,
    /// There is no room for it.
    Full,
    /// The record is too long.
    TooLong,
    /// The journal, or the record, cannot be used.
    Broken,
}

/// A record of the program's in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Its place in the journal.
    pub sequence: u64,
    /// When it was written, nanoseconds since 1970.
    pub time: u64,
    /// The number that the program gave it.
    pub number: u64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The records of one program in the journal, which no roll-back touches. No call waits for the disk.
pub trait Journal: Send + Sync {
    /// Appends a record. After [`JournalTrouble::Wait`] the same call tells what became of it.
    ///
    /// # Errors
    /// [`JournalTrouble`].
    fn append(&self, number: u64, bytes: &[u8]) -> Result<Appending, JournalTrouble>;
    /// The durable record of this number.
    ///
    /// # Errors
    /// [`JournalTrouble`].
    fn find(&self, number: u64) -> Result<Option<JournalRecord>, JournalTrouble>;
    /// The durable record with the largest number that is not above `number`.
    ///
    /// # Errors
    /// [`JournalTrouble`].
    fn last(&self, number: u64) -> Result<Option<JournalRecord>, JournalTrouble>;
    /// The first durable record from this place in the journal on.
    ///
    /// # Errors
    /// [`JournalTrouble`].
    fn next(&self, from: u64) -> Result<Option<JournalRecord>, JournalTrouble>;
    /// The place after the last durable record.
    ///
    /// # Errors
    /// [`JournalTrouble`].
    fn end(&self) -> Result<u64, JournalTrouble>;
    /// Does what a call that has to wait waits for. Called outside of all locks; may take as long as the disk does.
    fn work(&self);
}

/// The life of the world that a program is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Lives before it.
    pub restarts: u64,
    /// What no other life has.
    pub id: [u64; 2],
    /// The generation from which it goes on.
    pub generation: u64,
    /// When it began, nanoseconds since 1970.
    pub began: u64,
}

/// Fills with random bytes.
pub type Fill = dyn Fn(&mut [u8]) + Send + Sync;

/// Everything a program's personality is given.
#[derive(Clone)]
pub struct Host {
    /// Segments of this domain.
    pub segments: Arc<dyn Segments>,
    /// Its console.
    pub console: Arc<dyn Console>,
    /// What it may reach.
    pub network: Arc<dyn super::Network>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its records in the journal.
    pub journal: Arc<dyn Journal>,
    /// The life that it is in.
    pub restart: Arc<dyn Fn() -> Restart + Send + Sync>,
    /// Fills with random bytes.
    pub random: Arc<Fill>,
    /// What it is told by `cpuid`; none: whatever the processor says.
    pub answers: Option<Arc<crate::processor::Answers>>,
    /// Its keys.
    pub keys: Arc<dyn super::Keys>,
    /// The domain's name, for log lines.
    pub name: String,
}

impl Host {
    /// Asks for room for `pages` more pages: there is (none), or the call waits.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(super) fn room(&self, pages: u64) -> Result<Option<super::Wait>, Errno> {
        match self.segments.room(pages) {
            Room::Now => Ok(None),
            Room::Later => Ok(Some(super::Wait { room: true, ..super::Wait::default() })),
            Room::Never => Err(Errno::ENOSPC),
        }
    }
}
