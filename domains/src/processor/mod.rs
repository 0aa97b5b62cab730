//! What a program may know of the processor, so that it can go on at another one.
//!
//! **Promise.** A program that was started with a [`Level`] is told by the instruction `cpuid` what every processor of the level has, and nothing
//! beyond; and it is told the same for ever, on whichever processor it goes on.
//!
//! * [`answers`]: what it is told: a table, taken when it is started.
//! * [`code`]: where it asks. A program's process cannot be kept from `cpuid` by every kernel and processor. Where it can, the instruction faults.
//!   Everywhere, each one that is found in code which comes from a file is replaced by one that faults.
//!
//! Whoever serves the fault looks at the two bytes where it happened: [`is_question`]. What is not kept from programs: the instructions
//! themselves, `xgetbv`, and `cpuid` in code that a program makes or changes at run time (where it does not fault).

pub mod answers;
pub mod code;

pub use answers::{Answer, Answers};

use std::fmt;
use std::str::FromStr;

/// The instruction `cpuid`.
pub const CPUID: [u8; 2] = [0x0f, 0xa2];
/// What stands in its place: `int 0x71`, which no program may execute and none has.
pub const REPLACED: [u8; 2] = [0xcd, 0x71];
/// The processor's exception that both raise: a general protection fault.
pub const PROTECTION: u64 = 13;

/// Whether `code` is one of the two, where a domain faulted by exception `trap`.
#[must_use]
pub fn is_question(code: [u8; 2], trap: u64) -> bool {
    trap == PROTECTION && (code == CPUID || code == REPLACED)
}

/// A set of instructions that the field has a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `x86-64-v2`, of about 2009 on.
    V2,
    /// `x86-64-v3`, of about 2015 on.
    V3,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::V2, Self::V3];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
        }
    }

    /// The number that stands for it.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// The level that a number stands for.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.code() == code)
    }

    /// What it has beyond the first x86-64 processors, by the names in Linux and Rust.
    #[must_use]
    pub fn features(self) -> &'static [&'static str] {
        const V3: &[&str] = &[
            "sse3",
            "ssse3",
            "sse4.1",
            "sse4.2",
            "popcnt",
            "cmpxchg16b",
            "movbe",
            "xsave",
            "avx",
            "f16c",
            "fma",
            "bmi1",
            "bmi2",
            "lzcnt",
            "avx2",
        ];
        match self {
            Self::V2 => &V3[..6],
            Self::V3 => V3,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let name = if text == "baseline" { Self::V2.name() } else { text };
        Self::ALL.into_iter().find(|level| level.name() == name).ok_or(())
    }
}

/// Whether this kernel and processor let `cpuid` fault in a process that asks for that.
#[must_use]
pub fn can_fault() -> bool {
    // Linux names it among the flags where both are so; asking for it would keep this process from `cpuid`.
    let known = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    known
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == "cpuid_fault"))
}
