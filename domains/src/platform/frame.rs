//! The signal frame: where Linux wrote the registers of a stopped domain, in the domain's control pages.
//!
//! Layout (x86-64 `struct rt_sigframe`): return address (8), ucontext (304), siginfo (128); the XSAVE area above it, 64-byte
//! aligned, pointed to by the ucontext. The domain may have written anything here: the context's address is checked
//! to lie in the signal stack, and what is loaded is data until the stub's `rt_sigreturn`, where Linux checks it.

use super::PlatformError;
use super::control::Control;
use super::xstate::Layout;
use crate::abi::{CONTROL, SIGNAL_STACK, SIGNAL_STACK_BYTES};
use crate::cpu::{BadExtendedState, ExtendedState, LEGACY_AREA, Registers};
use semper_store::{PAGE_SIZE, PageRange};
use zerocopy::IntoBytes;

/// Bytes of `struct ucontext` that the kernel writes.
const CONTEXT_BYTES: u64 = CONTEXT_LEN as u64;
const CONTEXT_LEN: usize = 304;
/// Where the general registers begin in it.
const REGISTERS: u64 = 40;
/// Where the pointer to the extended state stands in it.
const EXTENDED: u64 = 224;
/// Where the signal mask stands in it.
const MASK: u64 = 296;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const FLAGS: u64 = 1 | 2 | 4;
/// `sw_reserved.extended_size` in the XSAVE area: the whole area including the trailing magic.
const EXTENDED_SIZE: u64 = 464 + 4;
const MAGIC1: u32 = 0x4650_5853;
/// Size of the area when only x87 and SSE state was saved.
const LEGACY_BYTES: u64 = LEGACY_AREA as u64;

/// User code and stack selectors, gs and fs zero.
pub const USER_SELECTORS: u64 = 0x33 | 0x2b << 48;
/// Interrupts enabled, the bit that is always one.
pub const INITIAL_FLAGS: u64 = 0x202;

/// Where a made-up frame stands below the stack's end: room for any extended state above it.
const INITIAL_ROOM: u64 = 0x3800;

/// A frame found in the control pages.
pub struct Frame<'a> {
    control: &'a Control,
    /// Offset of the ucontext within the control segment.
    at: u64,
}

impl<'a> Frame<'a> {
    /// The frame that the header points to.
    ///
    /// # Errors
    /// [`PlatformError::BadFrame`] if the pointer leaves the signal stack.
    pub fn find(control: &'a Control) -> Result<Self, PlatformError> {
        let at = control.context().wrapping_sub(CONTROL);
        let end = SIGNAL_STACK + SIGNAL_STACK_BYTES;
        if !(SIGNAL_STACK..=end - CONTEXT_BYTES).contains(&at) || !at.is_multiple_of(8) {
            return Err(PlatformError::BadFrame("the frame is not on the signal stack"));
        }
        Ok(Self { control, at })
    }

    /// Writes the frame of a domain that has not run yet, and points the header to it.
    ///
    /// # Errors
    /// Never in practice: the place is fixed.
    pub fn initial(control: &'a Control, rip: u64, rsp: u64) -> Result<Self, PlatformError> {
        let at = SIGNAL_STACK + SIGNAL_STACK_BYTES - INITIAL_ROOM;
        control.set_context(CONTROL + at);
        let frame = Self { control, at };
        let mut context = [0u8; CONTEXT_LEN];
        context[..8].copy_from_slice(&FLAGS.to_ne_bytes());
        context[16..24].copy_from_slice(&(CONTROL + SIGNAL_STACK).to_ne_bytes());
        context[32..40].copy_from_slice(&SIGNAL_STACK_BYTES.to_ne_bytes());
        frame.control.write(at, &context);
        let none = Registers::default();
        frame.store(
            &none,
            &Registers { rip, rsp, eflags: INITIAL_FLAGS, selectors: USER_SELECTORS, ..Registers::default() },
        );
        Ok(frame)
    }

    /// The general registers, copied once.
    #[must_use]
    pub fn load(&self) -> Registers {
        let mut registers = Registers::default();
        for (at, place) in (self.at + REGISTERS..).step_by(8).zip(registers.as_mut_bytes().chunks_exact_mut(8)) {
            place.copy_from_slice(&self.word(at).to_ne_bytes());
        }
        registers
    }

    /// Writes back the general registers that differ, and an empty signal mask. A call changes one or two: whatever else
    /// is written here travels between two processors' caches, at every call. The pages are marked dirty at the freeze.
    pub fn store(&self, before: &Registers, after: &Registers) {
        let pairs = before.as_bytes().chunks_exact(8).zip(after.as_bytes().chunks_exact(8));
        for (at, (_, now)) in (self.at + REGISTERS..).step_by(8).zip(pairs).filter(|(_, (old, now))| old != now) {
            let mut word = [0u8; 8];
            word.copy_from_slice(now);
            self.control.set_word(at, u64::from_ne_bytes(word));
        }
        if self.word(self.at + MASK) != 0 {
            self.control.set_word(self.at + MASK, 0);
        }
    }

    /// Puts an XSAVE area, for a frame that has none or one as large.
    ///
    /// # Errors
    /// [`PlatformError::BadFrame`] if it has no room.
    pub fn store_extended(&mut self, area: &[u8]) -> Result<(), PlatformError> {
        ExtendedState::store(self, area).map_err(|_| PlatformError::BadFrame("no room for the extended state"))
    }

    /// Makes the XSAVE area one that Linux takes here, if it comes from another processor.
    ///
    /// # Errors
    /// [`PlatformError::Lacking`] if it holds what this one has no place for; [`PlatformError::BadFrame`] never in practice.
    pub fn fit(&mut self) -> Result<(), PlatformError> {
        let mut area = ExtendedState::load(self);
        if Layout::here().fit(&mut area)? {
            self.store_extended(&area)?;
            self.control.view().mark_dirty(self.pages());
        }
        Ok(())
    }

    /// Where the XSAVE area lies, if there is one and it lies on the signal stack.
    fn extended(&self) -> Option<(u64, u64)> {
        let address = self.word(self.at + EXTENDED);
        let at = address.wrapping_sub(CONTROL);
        let end = SIGNAL_STACK + SIGNAL_STACK_BYTES;
        if address == 0 || at < self.at + CONTEXT_BYTES || !at.is_multiple_of(64) || at > end - LEGACY_BYTES {
            return None;
        }
        let mut magic = [0u8; 8];
        self.control.read(at + EXTENDED_SIZE - 4, &mut magic);
        let (magic1, size) = (u32::from_ne_bytes([magic[0], magic[1], magic[2], magic[3]]), &magic[4..8]);
        let size = u64::from(u32::from_ne_bytes([size[0], size[1], size[2], size[3]]));
        let size = if magic1 == MAGIC1 { size } else { LEGACY_BYTES };
        (LEGACY_BYTES..=end - at).contains(&size).then_some((at, size))
    }

    fn word(&self, at: u64) -> u64 {
        self.control.word_at(at)
    }

    /// The pages that hold the frame: from the ucontext to the end of the stack.
    #[must_use]
    pub fn pages(&self) -> PageRange {
        let page = PAGE_SIZE as u64;
        PageRange::between((self.at - 8) / page, (SIGNAL_STACK + SIGNAL_STACK_BYTES) / page)
    }
}

impl ExtendedState for Frame<'_> {
    fn load(&self) -> Vec<u8> {
        let Some((at, size)) = self.extended() else { return Vec::new() };
        let mut area = vec![0u8; usize::try_from(size).unwrap_or(0)];
        self.control.read(at, &mut area);
        area
    }

    fn store(&mut self, area: &[u8]) -> Result<(), BadExtendedState> {
        let view = self.control;
        if area.is_empty() {
            view.write(self.at + EXTENDED, &[0; 8]);
            return Ok(());
        }
        // The area keeps its place if there is one; a domain that never ran has none: it goes below the stack's end.
        let bad = BadExtendedState(area.len());
        let length = area.len() as u64;
        if !(LEGACY_BYTES..=SIGNAL_STACK_BYTES / 4).contains(&length) {
            return Err(bad);
        }
        let at = match self.extended() {
            Some((at, size)) if length <= size => at,
            _ => (SIGNAL_STACK + SIGNAL_STACK_BYTES - length) & !63,
        };
        if at < self.at + CONTEXT_BYTES {
            return Err(bad);
        }
        view.write(at, area);
        view.write(self.at + EXTENDED, (CONTROL + at).as_bytes());
        Ok(())
    }
}
