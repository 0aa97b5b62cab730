//! The records of segment 0.

use super::journal::JournalRecord;
use super::network::GrantRecord;
use super::processor::{AnswersRecord, ProcessorRecord};
use crate::linux::ExitStatus;
use crate::native::{LinuxObject, NativeInputs, NativeProgram, RunList};
use crate::table::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a record slot in segment 0.
pub const RECORD_BYTES: u32 = 256;
/// Pages of segment 0: room for 33 million records. Those that are not used do not exist.
pub const OBJECT_PAGES: u64 = 1 << 21;
/// Longest name of a domain, in bytes.
pub const NAME_BYTES: usize = 64;

/// What is one of a kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct WorldRecord {
    /// The number of the next new segment.
    pub next_segment: u64,
    /// The number of the next new domain.
    pub next_domain: u64,
    /// Domain monotonic time at the capture, nanoseconds.
    pub monotonic: u64,
    /// Wall time then, nanoseconds since 1970.
    pub wall: u64,
}

impl Record for WorldRecord {
    const KIND: u16 = 1;
    const NAME: &'static str = "world";
}

/// A segment: whose it is and how many pages it can have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SegmentRecord {
    /// Its number.
    pub id: u64,
    /// Pages it can have.
    pub pages: u64,
    /// The domain it belongs to.
    pub domain: u64,
}

impl Record for SegmentRecord {
    const KIND: u16 = 2;
    const NAME: &'static str = "segment";
}

/// The kinds of records in segment 0 that are found by kind, wherever they are defined: each its own.
const KINDS: [u16; 11] = [
    WorldRecord::KIND,
    SegmentRecord::KIND,
    DomainRecord::KIND,
    NativeProgram::KIND,
    RunList::KIND,
    LinuxObject::KIND,
    JournalRecord::KIND,
    GrantRecord::KIND,
    ProcessorRecord::KIND,
    NativeInputs::KIND,
    AnswersRecord::KIND,
];

const _: () = {
    let mut n = 1;
    while n < KINDS.len() {
        assert!(KINDS[n - 1] < KINDS[n], "two records of segment 0 have one kind");
        n += 1;
    }
};

/// A domain lives.
pub const ALIVE: u32 = 1;
/// It has ended; its last output may still wait.
pub const ENDED: u32 = 2;
/// It has ended and given back everything but this record.
pub const FINISHED: u32 = 3;
/// It lives, and an operator stopped it.
pub const HELD: u32 = 4;

/// A file outside the store that a console stream was connected to: by what it is found again after a restart.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FileIdentity {
    /// Device; with inode 0: not a regular file.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// File offset of the stream's byte 0.
    pub base: i64,
}

impl FileIdentity {
    /// Whether both are the same regular file.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.inode != 0 && (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Whether a program lives, and how it ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LifeState {
    /// `ALIVE`, `HELD`, `ENDED` or `FINISHED`.
    pub state: u32,
    /// 0: a code, 1: a signal.
    exit_kind: u32,
    /// Code or signal.
    exit_value: u32,
}

impl LifeState {
    /// It lives.
    pub const ALIVE: Self = Self { state: ALIVE, exit_kind: 0, exit_value: 0 };

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        let value = u8::try_from(self.exit_value & 0xff).unwrap_or(0);
        match (self.state, self.exit_kind) {
            (ENDED | FINISHED, 0) => Some(ExitStatus::Code(value)),
            (ENDED | FINISHED, _) => Some(ExitStatus::Signal(value)),
            _ => None,
        }
    }

    /// It ended like this.
    #[must_use]
    pub fn ended(status: ExitStatus) -> Self {
        let (exit_kind, exit_value) = match status {
            ExitStatus::Code(code) => (0, u32::from(code)),
            ExitStatus::Signal(signal) => (1, u32::from(signal)),
        };
        Self { state: ENDED, exit_kind, exit_value }
    }
}

/// A name of which the first `len` bytes count; damaged bytes show as replacement characters.
#[must_use]
pub fn name_of(bytes: &[u8], len: u32) -> String {
    let len = usize::try_from(len).unwrap_or(bytes.len()).min(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// A domain.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DomainRecord {
    /// Its number.
    pub id: u64,
    /// Whether it lives.
    pub life: LifeState,
    /// Bytes of the name.
    pub name_len: u32,
    /// Segment of its memory.
    pub memory: u64,
    /// Segment of its control pages.
    pub control: u64,
    /// Segment of its program state.
    pub program: u64,
    /// Wall time of its start, nanoseconds since 1970.
    pub started: u64,
    /// Processor time used, nanoseconds, at the capture.
    pub cpu: u64,
    /// Standard input, output and error outside.
    pub console: [FileIdentity; 3],
    /// Its name, UTF-8.
    pub name: [u8; NAME_BYTES],
}

impl Record for DomainRecord {
    const KIND: u16 = 3;
    const NAME: &'static str = "domain";
}

impl DomainRecord {
    /// The name; damaged bytes show as replacement characters.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(&self.name, self.name_len)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        self.life.exit()
    }
}
