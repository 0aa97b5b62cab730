//! A stopped domain's processor state, as Linux wrote it into the signal frame.

use thiserror::Error;

/// The general registers, in the order of `struct sigcontext` (x86-64).
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[allow(missing_docs)]
pub struct Registers {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    /// cs, gs, fs, ss: sixteen bits each.
    pub selectors: u64,
    /// Page-fault error code and the like.
    pub error: u64,
    /// The processor's exception number.
    pub trap: u64,
    /// Unused by the 64-bit frame.
    pub old_mask: u64,
    /// The address of a page fault.
    pub cr2: u64,
}

/// Bytes of a register state, as messages and orders carry it, without its extended part: [`Registers`], fs and gs base.
pub const PLAIN_STATE: usize = size_of::<Registers>() + 16;
/// Bytes of the least extended state, which only has x87 and SSE.
pub const LEGACY_AREA: usize = 512;

/// Whether so many bytes can be a register state: [`Registers`], these and the bases, or these and an XSAVE area.
#[must_use]
pub fn is_register_state(len: u32) -> bool {
    let len = len as usize;
    len == size_of::<Registers>() || len == PLAIN_STATE || len >= PLAIN_STATE + LEGACY_AREA
}

/// The floating-point and vector state cannot be what a program hands back to `rt_sigreturn`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the extended processor state of {0} bytes is not one this processor could have saved")]
pub struct BadExtendedState(pub usize);

/// The extended (x87/SSE/AVX) state beside the registers, read and written only when a signal of the program's own needs it.
pub trait ExtendedState {
    /// The XSAVE area exactly as Linux laid it out (64-byte aligned in the frame), with its `sw_reserved` words; empty: the initial state.
    fn load(&self) -> Vec<u8>;
    /// Replaces it; empty means the initial state.
    ///
    /// # Errors
    /// [`BadExtendedState`] if it is not of a size this frame can hold; nothing is changed then.
    fn store(&mut self, area: &[u8]) -> Result<(), BadExtendedState>;
}

/// One stopped domain: what a personality reads and changes before the domain goes on.
pub struct Cpu<'a> {
    /// General registers; the next instruction is at `rip`.
    pub regs: Registers,
    /// Base of the fs segment (thread-local storage).
    pub fs_base: u64,
    /// Base of the gs segment.
    pub gs_base: u64,
    /// Vector state.
    pub extended: &'a mut dyn ExtendedState,
}

impl Cpu<'_> {
    /// The system call that the domain stands in: number and six arguments.
    #[must_use]
    pub fn call(&self) -> (u64, [u64; 6]) {
        let r = &self.regs;
        (r.rax, [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9])
    }
}
