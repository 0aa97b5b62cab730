//! What a domain and the kernel agree on: addresses, the message pages, the boot block. The kernel includes this file too.

/// Where a domain's control pages lie in its process.
pub const CONTROL: u64 = 0x6000_0000_0000;
/// The page of a domain that holds [`Message`].
pub const MESSAGE: u64 = CONTROL + 17 * 4096;
/// The page that holds the string of the message being sent, and then of the one received.
pub const STRING: u64 = MESSAGE + 4096;
/// Most bytes of a string.
pub const MAX_STRING: usize = 4096;
/// Code of one page. Calling its first byte invokes what [`Message`] says and returns when there is an answer, or, in reply and wait,
/// a message. It keeps the registers that functions keep (System V ABI), the x87 and SSE control words, and the segment bases;
/// all others are lost.
pub const INVOKE: u64 = CONTROL + 0x10_0000;
/// The number of the system call by which a Linux program invokes keys: `rdi` points to a [`Message`], `rsi` to [`MAX_STRING`]
/// bytes for the string. Both are read and written. The result is 0, or a negative errno if they cannot be.
pub const SYSCALL: u64 = 0x5365_6d70;

/// Key slots of a domain.
pub const SLOTS: u8 = 16;
/// The slot of the key that answers the last call.
pub const RESUME_SLOT: u8 = 16;
/// As the slot of a key: none. Where an answer's keys go: it is dropped.
pub const NO_SLOT: u8 = 255;
/// As the slot that is invoked: the domain's own slots ("own slots" in `docs/objects.md`).
pub const OWN: u8 = 255;
/// Answers from here on are errors of the kernel's; `docs/objects.md` lists them.
pub const FIRST_ERROR: u32 = 0x8000_0001;

/// `how`: wait for the answer.
pub const CALL: u8 = 0;
/// `how`: go on; while the callee is busy, the sender waits.
pub const SEND: u8 = 1;
/// `how`: answer by a resume key, then wait for any message. By an empty slot: only wait.
pub const REPLY_AND_WAIT: u8 = 2;

/// An invocation, and below it what came back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Message {
    /// The slot of the key that is invoked, or [`OWN`].
    pub slot: u8,
    /// [`CALL`], [`SEND`] or [`REPLY_AND_WAIT`].
    pub how: u8,
    /// Zero.
    pub zero: u16,
    /// The order code; in a reply the answer, below [`FIRST_ERROR`].
    pub order: u32,
    /// Words.
    pub words: [u64; 4],
    /// Slots of the keys that go with it; [`NO_SLOT`]: none.
    pub keys: [u8; 4],
    /// Slots for the keys that come back; [`NO_SLOT`]: dropped.
    pub accept: [u8; 4],
    /// Bytes of the string.
    pub string_len: u32,
    /// Zero.
    pub zero2: u32,
    /// When to give up, nanoseconds of the world's monotonic clock; 0: never. For all that can wait but a reply and
    /// wait: calls and sends to domains, timers, input, generations, the journal, the network.
    pub deadline: u64,

    /// What came back: the answer to a call; the order code of a message to this domain.
    pub code: u32,
    /// Which of the four keys came, bit by bit.
    pub got_keys: u8,
    /// 1: it is a message whose sender waits for an answer, by the key in [`RESUME_SLOT`].
    pub answerable: u8,
    /// Zero.
    pub zero3: u16,
    /// Words that came back.
    pub got_words: [u64; 4],
    /// The badge of the start key by which the message came.
    pub badge: u64,
    /// Bytes of the string that came back.
    pub got_string_len: u32,
    /// Zero.
    pub zero4: u32,
}

const _: () = assert!(core::mem::size_of::<Message>() == 120);

/// The first word of [`Boot`]: "semperd1".
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"semperd1");

/// The top of a program's memory; the first argument of its entry points here. The stack grows down from it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// The first address of its memory segment, which holds image, heap, stack and this, all readable, writable and executable.
    pub memory_start: u64,
    /// The end of it.
    pub memory_end: u64,
    /// Where its heap may begin: the end of the image.
    pub heap_start: u64,
    /// Where its heap ends and the room for the stack begins.
    pub heap_end: u64,
    /// The image's entry point.
    pub entry: u64,
    /// What a domain that is made of the same image shall do; 0: be the program itself. See `spawn`.
    pub start: u64,
    /// An argument for it.
    pub argument: u64,
    /// Bytes of the arguments that follow, each ended by a zero byte; the first is the program's name.
    pub args_len: u64,
}

/// Room for [`Boot`] and the arguments at the top of the memory.
pub const BOOT_BYTES: u64 = 4096;

/// The keys that `semper run --native` gives the first domain of a program, by slot.
pub mod slot {
    /// Console: standard input and output.
    pub const CONSOLE: u8 = 0;
    /// Clock.
    pub const CLOCK: u8 = 1;
    /// Random.
    pub const RANDOM: u8 = 2;
    /// Bank of its own.
    pub const BANK: u8 = 3;
    /// Meter of its own.
    pub const METER: u8 = 4;
    /// Log.
    pub const LOG: u8 = 5;
    /// Checkpoint.
    pub const CHECKPOINT: u8 = 6;
    /// Restart.
    pub const RESTART: u8 = 7;
    /// Discrim.
    pub const DISCRIM: u8 = 8;
    /// Its own domain key.
    pub const SELF: u8 = 9;
    /// Segment: its memory.
    pub const MEMORY: u8 = 10;
    /// Segment, read-only: the memory as it was before the first instruction; what factories and `spawn` copy.
    pub const IMAGE: u8 = 11;
    /// Network, if something was granted.
    pub const NETWORK: u8 = 14;
    /// Journal.
    pub const JOURNAL: u8 = 15;
}
