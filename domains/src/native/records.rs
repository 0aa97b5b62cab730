//! What segment 0 says of native programs beside the objects, and who runs.

use crate::inputs::Position;
use crate::kernel::objects::{FileIdentity, LifeState, name_of};
use crate::linux::ExitStatus;
use crate::objects::LinuxDomain;
use crate::table::{Record, RecordId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest name of a native program, in bytes.
pub const NAME_BYTES: usize = 40;

/// A native program: the first domain, what it may use, and its console.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NativeProgram {
    /// Its number, of the same row as the numbers of Linux programs; also that of its console.
    pub id: u64,
    /// Whether it lives.
    pub life: LifeState,
    /// Bytes of the name.
    pub name_len: u32,
    /// The object of its first domain.
    pub domain: u64,
    /// Its bank.
    pub bank: u64,
    /// Segments of standard output and error.
    pub outputs: [u64; 2],
    /// Bytes ever written to them.
    pub written: [u64; 2],
    /// Bytes of them that the host has.
    pub released: [u64; 2],
    /// Bytes ever read from standard input.
    pub input: u64,
    /// Standard input, output and error outside.
    pub console: [FileIdentity; 3],
    /// Its name, UTF-8.
    pub name: [u8; NAME_BYTES],
}

impl Record for NativeProgram {
    const KIND: u16 = 4;
    const NAME: &'static str = "native program";
}

const _: () = assert!(size_of::<NativeProgram>() <= 240 && size_of::<RunList>() <= 240);

impl NativeProgram {
    /// The name; damaged bytes show as replacement characters.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(&self.name, self.name_len)
    }

    /// Its first domain.
    #[must_use]
    pub const fn domain(&self) -> RecordId {
        RecordId::from_u64(self.domain)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        self.life.exit()
    }
}

/// The objects of a live Linux program: nothing in its own record names them, so that records of before stay as they are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LinuxObject {
    /// The number of the program.
    pub id: u64,
    /// Its domain.
    pub domain: u64,
    /// The bank that sold it.
    pub bank: u64,
}

impl Record for LinuxObject {
    const KIND: u16 = 6;
    const NAME: &'static str = "objects of a Linux program";
}

impl LinuxObject {
    /// Both objects.
    #[must_use]
    pub const fn domain(&self) -> LinuxDomain {
        LinuxDomain { bank: RecordId::from_u64(self.bank), domain: RecordId::from_u64(self.domain) }
    }
}

/// How far the inputs of the native domains go that are recorded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NativeInputs {
    /// Where they stand.
    pub position: Position,
    /// Whose records the inputs are, as one word.
    pub writer: u64,
}

impl Record for NativeInputs {
    const KIND: u16 = 10;
    const NAME: &'static str = "position among the inputs of native domains";
}

/// Domains in one record of the run list.
pub const RUN_LIST: usize = 28;

/// Some of the domains that run, as of the capture: a restart makes processes for them and no others.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RunList {
    /// Their objects; 0: none.
    pub domains: [u64; RUN_LIST],
}

impl Record for RunList {
    const KIND: u16 = 5;
    const NAME: &'static str = "run list";
}
