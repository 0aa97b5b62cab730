//! What is said over the control socket.

use rkyv::{Archive, Deserialize, Serialize};

/// What a command asks of the runtime.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Request {
    /// What is in the store and how it goes. Answered by [`Reply::Status`].
    Status,
    /// A checkpoint now. Answered by [`Reply::Committed`].
    Checkpoint,
    /// A final checkpoint and a clean end. Answered by [`Reply::Stopped`].
    Stop,
    /// A new program, whose standard input, output and error are the three descriptors sent along. Answered by
    /// [`Reply::Started`], and by [`Reply::Ended`] once it has ended.
    Run(Program),
    /// The end of a domain. Answered by [`Reply::Ended`].
    Wait {
        /// Which domain.
        domain: u64,
    },
    /// A signal of the terminal that a domain is connected to. Answered by [`Reply::Signal`].
    Signal {
        /// Which domain.
        domain: u64,
        /// The number of the signal.
        signal: u8,
    },
    /// Whoever sits at a domain's terminal goes away. Answered by [`Reply::Detached`], and from then on nothing is read from there.
    Detach {
        /// Which domain.
        domain: u64,
    },
    /// The banks and what they sold. Answered by [`Reply::Document`].
    List {
        /// Levels of banks below the prime bank.
        depth: u32,
    },
    /// One object. Answered by [`Reply::Document`].
    Inspect {
        /// `INDEX.VERSION`, or the name of a program.
        object: String,
    },
    /// Something done to a domain. Answered by [`Reply::Done`], once it is durable.
    Operate {
        /// `INDEX.VERSION`, or the name of a program.
        domain: String,
        /// What.
        act: Act,
    },
    /// A generation stays readable. Answered by [`Reply::Generation`]; it stays until the connection ends.
    Hold {
        /// Which; none: the newest.
        generation: Option<u64>,
    },
    /// The world comes to a stand. Answered by [`Reply::Generation`], the one at which it stands; then [`Request::Moved`] is to come on
    /// the same connection, and if it does not, the world goes on.
    HandOver,
    /// The world lives elsewhere from now on. Answered by [`Reply::Done`] once that is durable.
    Moved {
        /// Where it went.
        to: String,
        /// What no other move has.
        id: [u8; 16],
    },
    /// A generation gets a name, and stays. Answered by [`Reply::Generation`].
    Tag {
        /// The name.
        name: String,
        /// Which; none: the newest.
        generation: Option<u64>,
    },
    /// A name is taken away. Answered by [`Reply::Generation`].
    Untag {
        /// The name.
        name: String,
    },
    /// The store gets larger. Answered by [`Reply::Done`].
    Grow {
        /// To this size.
        size_bytes: u64,
    },
    /// A directory becomes a mirror of the store, or one again. Answered by [`Reply::Done`] when it is one; it is brought up to date then.
    AddMirror {
        /// The directory, an absolute path.
        dir: Vec<u8>,
        /// The most bytes to copy in a second.
        rate: u64,
    },
    /// A directory is no mirror of the store any more. Answered by [`Reply::Done`].
    RemoveMirror {
        /// The directory, an absolute path.
        dir: Vec<u8>,
    },
    /// Blocks that are rotten on some sides of the store are written anew. Answered by [`Reply::Mended`].
    Mend {
        /// Which.
        blocks: Vec<Rotten>,
    },
    /// What of the journal is rotten on some sides of the store, and not on all, is written anew. Answered by [`Reply::JournalMended`].
    MendJournal,
    /// Old records of the journal go. Answered by [`Reply::Trimmed`].
    TrimJournal {
        /// Records before this one.
        before: Option<u64>,
        /// Records from before this time, nanoseconds since 1970.
        older_than: Option<u64>,
        /// So much that it has not more bytes.
        keep_bytes: Option<u64>,
        /// Only what is in a backup.
        only_covered: bool,
    },
    /// Records of the journal are in a backup. Answered by [`Reply::Done`].
    CoverJournal {
        /// Those before this one.
        before: u64,
    },
    /// A debugger on a native domain. Answered by [`Reply::Done`]; from then on the connection carries
    /// [`super::DebugRequest`]s and [`super::DebugReply`]s, and its end is the end of the session.
    Debug {
        /// `INDEX.VERSION`, or the name of a program.
        domain: String,
        /// Whether the domain is left stopped at the end.
        leave_stopped: bool,
    },
    /// The store gets smaller. Answered by [`Reply::Done`], once its file is as long as asked.
    Shrink {
        /// To this size.
        size_bytes: u64,
    },
}

/// A block of the store, as what refers to it says.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rotten {
    /// Where it lies, in pages.
    pub place: u64,
    /// The generation that wrote it.
    pub birth: u64,
    /// Its checksum.
    pub checksum: u64,
    /// Segment and page; none for a tree node.
    pub page: Option<(u64, u64)>,
    /// How far a tree node is above the pages.
    pub level: u8,
}

/// What an operator does to a domain.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Act {
    /// It ends.
    Kill,
    /// It is not executed any more.
    Stop,
    /// It goes on.
    Start,
}

/// A program to start. Paths are absolute; names that need not be UTF-8 are bytes.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Program {
    /// Its name in the store, if not the file name of the program.
    pub name: Option<String>,
    /// The executable.
    pub path: Vec<u8>,
    /// Its arguments, the name it is called by first.
    pub args: Vec<Vec<u8>>,
    /// Its environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files to import: path here, name in the store.
    pub files: Vec<(Vec<u8>, String)>,
    /// Bytes of the memory of a native program; none: a Linux program.
    pub native: Option<u64>,
    /// Start keys that it is given: slot, `INDEX.VERSION` or name of the domain that is called, badge.
    pub keys: Vec<(u8, String, u64)>,
    /// Where the host listens for it, as IPv4 address and port, and which port it binds.
    pub listens: Vec<((u32, u16), u16)>,
    /// Where it may connect to.
    pub connects: Vec<(u32, u16)>,
    /// Whether what it is told by the outside is recorded.
    pub record: bool,
    /// The name of the level of processors that it is to be able to go on at; none: only on those that have what this one has.
    pub cpu: Option<String>,
}

/// What the runtime answers.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Reply {
    /// The status as JSON.
    Status {
        /// The document that `semper status --json` prints.
        json: String,
    },
    /// The checkpoint that was asked for is committed.
    Committed {
        /// Its generation.
        generation: u64,
    },
    /// The final checkpoint is committed and nothing runs any more.
    Stopped,
    /// The program runs.
    Started {
        /// The domain it became.
        domain: u64,
    },
    /// The domain has ended, or the runtime has stopped under it.
    Ended(Ending),
    /// What became of a signal.
    Signal {
        /// Whether the program handles, ignores or blocks it; if not, nothing was done.
        taken: bool,
    },
    /// The terminal is left alone now.
    Detached,
    /// The request was not carried out.
    Refused(Refusal),
    /// What was asked for, as JSON.
    Document {
        /// What the command prints with `--json`.
        json: String,
    },
    /// It is done.
    Done,
    /// It is done, with this generation.
    Generation {
        /// Its number.
        generation: u64,
    },
    /// What was written anew.
    Mended {
        /// Which of the blocks were not, by their place in the request: no side has what they should be, or they are not in use any more.
        left: Vec<u32>,
    },
    /// What of the journal was rotten on some sides and is written anew.
    JournalMended {
        /// How much: batches, records, pages that speak of them.
        repaired: u64,
    },
    /// What went of the journal; none: there is none.
    Trimmed(Option<Gone>),
}

/// What a trim took.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Gone {
    /// Records.
    pub records: u64,
    /// Segments.
    pub segments: u64,
    /// The first record that is still there.
    pub first: u64,
}

/// How a domain ended.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Ending {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Signaled(u8),
    /// Not yet: the runtime was stopped, and `semper resume` goes on.
    Stopped,
}

/// Why a request was not carried out.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// The exit code that the command should end with.
    pub code: u8,
    /// The sentence to show.
    pub message: String,
}
