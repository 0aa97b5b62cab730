//! What the kernel is told to do, and what it is asked for.

use super::{InvokeError, NetworkAsk};
use crate::table::RecordId;

/// What the object layer asks of the kernel around it.
pub trait Surroundings {
    /// The world's monotonic clock, nanoseconds.
    fn monotonic(&self) -> u64;
    /// Wall time, nanoseconds since 1970.
    fn wall(&self) -> u64;
    /// 64 random bits.
    fn random(&self) -> u64;
    /// How often the world was restarted. Not rolled back.
    fn restarts(&self) -> u64;
    /// A number that no other life of this or another world has. Not rolled back.
    fn life(&self) -> [u64; 2];
    /// The generation from which this life goes on.
    fn resumed_from(&self) -> u64;
    /// When this life began, nanoseconds since 1970.
    fn began(&self) -> u64;
    /// The newest durable generation.
    fn generation(&self) -> u64;
}

/// What the journal is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum JournalOrder {
    /// Write the record of this number, which is the string of the invoker's message; or find it.
    Append = 1,
    /// The record of this number.
    Find = 2,
    /// The record with the largest number that is not above.
    Last = 3,
    /// The first record from this place on.
    Next = 4,
}

/// What a domain asks of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalAsk {
    /// Whose records: the badge of the key.
    pub writer: u64,
    /// What.
    pub order: JournalOrder,
    /// The number, or the place.
    pub number: u64,
    /// Bytes of the string in its message.
    pub len: u32,
}

/// Pages of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The number of the segment.
    pub segment: u64,
    /// The first byte.
    pub offset: u64,
}

/// Where the bytes of a string are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Text {
    /// The empty string.
    #[default]
    Empty,
    /// In the message buffer of a domain's control pages: what it sent.
    Message {
        /// Whose.
        domain: RecordId,
        /// How many bytes, as counted when it was sent.
        len: u32,
    },
    /// The register state of a domain, from the signal frame in its control pages.
    Registers {
        /// Whose.
        domain: RecordId,
    },
    /// In a segment.
    Stored {
        /// Where.
        place: Place,
        /// How many bytes.
        len: u32,
    },
    /// Random bytes.
    Random {
        /// How many.
        len: u32,
    },
    /// What the kernel has in hand where it calls [`super::complete`].
    Given {
        /// How many bytes.
        len: u32,
    },
}

/// What comes back from an invocation. Its keys are in the slots already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// 0: done; from [`super::FIRST_ERROR`] on: an [`InvokeError`]; else the callee's own.
    pub code: u32,
    /// The words.
    pub words: [u64; 4],
    /// The string.
    pub text: Text,
    /// Which of the four keys were given: bit by bit.
    pub keys: u8,
}

impl From<InvokeError> for Answer {
    fn from(error: InvokeError) -> Self {
        Self { code: error.code(), words: error.words(), ..Self::default() }
    }
}

/// A message, as the callee gets it. Its keys are in the callee's slots already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The badge of the start key that was invoked.
    pub badge: u64,
    /// The order code.
    pub order: u32,
    /// The words.
    pub words: [u64; 4],
    /// The string.
    pub text: Text,
    /// Which of the four keys were given: bit by bit.
    pub keys: u8,
    /// Whether the sender waits for an answer: slot 16 holds the key to give it by.
    pub answerable: bool,
}

/// What has to happen outside the table, after the transaction and before the next capture, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A domain that waited for a message has one: put it into its control pages and let it run.
    Deliver {
        /// Which domain.
        to: RecordId,
        /// The message.
        delivery: Delivery,
    },
    /// A domain that waited for an answer has it: put it into its control pages and let it run.
    Answer {
        /// Which domain.
        to: RecordId,
        /// The answer.
        answer: Answer,
    },
    /// A domain goes on at the instruction where it stands.
    Resume {
        /// Which domain.
        domain: RecordId,
    },
    /// A domain begins, or begins anew, with a fresh set of registers.
    Begin {
        /// Which domain.
        domain: RecordId,
        /// Instruction pointer, stack pointer, first argument.
        entry: [u64; 3],
    },
    /// A domain must not be executed any more: stopped, or at a fault that nobody took.
    Halt {
        /// Which domain.
        domain: RecordId,
    },
    /// A domain ended by itself.
    Ended {
        /// Which domain.
        domain: RecordId,
        /// What it says of its end.
        code: u64,
    },
    /// A domain is gone: end its process.
    Gone {
        /// Which domain.
        domain: RecordId,
    },
    /// Something is mapped that was not, or is no more: make a process of the domain anew, or change the one it has.
    Remap {
        /// Which domain.
        domain: RecordId,
    },
    /// A domain's registers become what is in the invoker's message.
    SetRegisters {
        /// Which domain.
        domain: RecordId,
        /// The string of the message.
        text: Text,
    },
    /// Make a segment.
    NewSegment {
        /// Its number.
        segment: u64,
        /// Its pages.
        pages: u64,
    },
    /// A segment has another length; what lies beyond it is gone.
    Resize {
        /// Its number.
        segment: u64,
        /// Its pages.
        pages: u64,
    },
    /// A segment is gone. Mappings of it are too, in whatever domain.
    DropSegment {
        /// Its number.
        segment: u64,
    },
    /// A segment becomes a copy of another.
    CopySegment {
        /// The number of the one to copy.
        from: u64,
        /// The number of the other.
        to: u64,
        /// How many pages.
        pages: u64,
    },
    /// Bytes of a segment become zeros.
    Zero {
        /// Where.
        place: Place,
        /// How many.
        len: u64,
    },
    /// Keys to pages or a segment are void: mappings made by them are no more, in whatever domain.
    Unmap {
        /// Where the pages lie.
        place: Place,
    },
    /// Bytes of a segment become the string of a message.
    Write {
        /// Where.
        place: Place,
        /// The string.
        text: Text,
    },
    /// A line for a console.
    ConsoleWrite {
        /// Its number.
        console: u64,
        /// The string.
        text: Text,
    },
    /// A domain waits for input: [`super::complete`] its call when there is some.
    ConsoleRead {
        /// Its number.
        console: u64,
        /// Who waits.
        domain: RecordId,
        /// In which call.
        serial: u64,
        /// The most bytes.
        len: u32,
    },
    /// A line for the log.
    Log {
        /// Whose.
        domain: RecordId,
        /// The string.
        text: Text,
    },
    /// Make a checkpoint soon.
    Checkpoint,
    /// A domain waits until this transaction is in a durable generation: [`super::complete`] its call then.
    AwaitDurable {
        /// Who waits.
        domain: RecordId,
        /// In which call.
        serial: u64,
    },
    /// A domain waits for what the journal says: [`super::complete`] its call then.
    AskJournal {
        /// Who waits.
        domain: RecordId,
        /// In which call.
        serial: u64,
        /// What it asks.
        ask: JournalAsk,
    },
    /// A domain waits for what comes of an order to the network: [`super::complete`] its call then.
    AskNetwork {
        /// Who waits.
        domain: RecordId,
        /// In which call.
        serial: u64,
        /// What it asks.
        ask: NetworkAsk,
    },
    /// There is something for [`super::work`] to do.
    Work,
}

/// What becomes of the invoker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on with this answer.
    Answered(Answer),
    /// It waits; an effect, of this or a later transaction, lets it go on.
    Waits,
}
