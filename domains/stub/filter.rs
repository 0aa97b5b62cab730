//! The seccomp policy of a domain's process, as data.
//!
//! Everything a program calls is turned into SIGSYS. Only code inside the stub's own image may make the calls below, and
//! since a hostile program may jump there, their arguments are bounded too: with them it can change the protection of
//! its own window, drop its own page-table entries, wait, and end itself: nothing that it could not do to itself anyway.

use crate::abi::{CONTROL, STUB_BASE, WINDOW_END};
use crate::sys;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub k: u32,
}

#[repr(C)]
pub struct Program {
    pub len: u16,
    pub instructions: *const Instruction,
}

const ALLOW: u32 = 0x7fff_0000;
const TRAP: u32 = 0x0003_0000;
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

const fn load(offset: u32) -> Instruction {
    Instruction { code: 0x20, if_true: 0, if_false: 0, k: offset }
}
const fn equal(k: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code: 0x15, if_true, if_false, k }
}
const fn greater(k: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code: 0x25, if_true, if_false, k }
}
const fn ret(k: u32) -> Instruction {
    Instruction { code: 0x06, if_true: 0, if_false: 0, k }
}

/// `struct seccomp_data`: number, architecture, instruction pointer (low, high), six arguments.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const IP_HIGH: u32 = 12;
const ARG0_LOW: u32 = 16;
const ARG0_HIGH: u32 = 20;
const ARG1_HIGH: u32 = 28;
const ARG2_LOW: u32 = 32;

const WINDOW_HIGH: u32 = (WINDOW_END >> 32) as u32;

/// Jumps are relative to the next instruction; the two verdicts stand last.
pub static POLICY: [Instruction; 27] = [
    load(ARCH),
    equal(AUDIT_ARCH_X86_64, 0, 23), // 1: a 32-bit call is the program's
    load(IP_HIGH),
    equal((STUB_BASE >> 32) as u32, 0, 21), // 3: not the stub: the program's
    load(NUMBER),
    equal(sys::SCHED_YIELD as u32, 20, 0),   // 5: while it spins
    equal(sys::RT_SIGRETURN as u32, 19, 0),  // 6: back to the program
    equal(sys::CLOCK_GETTIME as u32, 18, 0), // 7: time, answered in the stub
    equal(sys::EXIT_GROUP as u32, 17, 0),    // 8: its own end
    equal(sys::ARCH_PRCTL as u32, 0, 3),     // 9: its own segment bases, and nothing else of it
    load(ARG0_LOW),
    greater(sys::ARCH_SET_GS as u32 - 1, 0, 13), // 11
    greater(sys::ARCH_GET_GS as u32, 12, 13),    // 12
    equal(sys::FUTEX as u32, 0, 2),              // 13: wait and wake on its own control page
    load(ARG0_HIGH),
    equal((CONTROL >> 32) as u32, 10, 9), // 15
    equal(sys::MPROTECT as u32, 3, 0),    // 16: its own window
    equal(sys::MADVISE as u32, 0, 7),     // 17: anything else of the stub's: refused
    load(ARG2_LOW),
    equal(4, 0, 5),                 // 19: MADV_DONTNEED only
    load(ARG0_HIGH),                // 20: mprotect and madvise: start within the window
    greater(WINDOW_HIGH - 1, 3, 0), // 21
    load(ARG1_HIGH),                // 22: and no longer than it; the gap behind the window is empty
    greater(WINDOW_HIGH, 1, 0),     // 23
    equal(0xffff_ffff, 1, 1),       // 24: always on to ALLOW
    ret(TRAP),                      // 25
    ret(ALLOW),                     // 26
];

/// As [`POLICY`], for a native domain: it has no clock but by a key, and its memory map is changed by making its process anew.
pub static NATIVE_POLICY: [Instruction; 22] = [
    load(ARCH),
    equal(AUDIT_ARCH_X86_64, 0, 18), // 1
    load(IP_HIGH),
    equal((STUB_BASE >> 32) as u32, 0, 16), // 3
    load(NUMBER),
    equal(sys::SCHED_YIELD as u32, 15, 0),  // 5
    equal(sys::RT_SIGRETURN as u32, 14, 0), // 6
    equal(sys::EXIT_GROUP as u32, 13, 0),   // 7
    equal(sys::ARCH_PRCTL as u32, 0, 3),    // 8: its segment bases
    load(ARG0_LOW),
    greater(sys::ARCH_SET_GS as u32 - 1, 0, 9), // 10
    greater(sys::ARCH_GET_GS as u32, 8, 9),     // 11
    equal(sys::FUTEX as u32, 0, 2),             // 12: on its own control pages
    load(ARG0_HIGH),
    equal((CONTROL >> 32) as u32, 6, 5), // 14
    equal(sys::MADVISE as u32, 0, 4),    // 15: MADV_DONTNEED, beginning in its own window
    load(ARG2_LOW),
    equal(4, 0, 2), // 17
    load(ARG0_HIGH),
    greater(WINDOW_HIGH - 1, 0, 1), // 19
    ret(TRAP),                      // 20
    ret(ALLOW),                     // 21
];
