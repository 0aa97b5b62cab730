//! The frame of a signal handler on the program's stack, byte for byte as Linux on x86-64 lays it out:
//!
//! ```text
//! higher   ... the interrupted stack, its red zone of 128 bytes
//!          XSAVE area, 64-byte aligned, ends with FP_XSTATE_MAGIC2
//!          siginfo (128), ucontext (304), pretcode (8)   <- rsp, such that rsp + 8 is 16-byte aligned
//! ```

use super::Program;
use super::signals::{Action, AltStack, Info, SA_ONSTACK, SA_RESTORER, SIGSEGV, UNBLOCKABLE};
use crate::abi::TASK_END;
use crate::cpu::{Cpu, ExtendedState, Registers};
use crate::platform::xstate;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;
/// Flags that a program may set by returning from a signal: AC RF OF DF TF SF ZF AF PF CF.
const USER_FLAGS: u64 = 0x5_0dd5;
/// Interrupts on, and the bit that is always set.
const FIXED_FLAGS: u64 = 0x202;
/// DF, RF, TF: cleared when a handler begins.
const HANDLER_CLEARS: u64 = 0x1_0500;

/// Bytes of the part that every x86-64 processor has.
const FXSAVE: usize = 512;
/// Offsets in the FXSAVE part.
const FCW: usize = 0;
const MXCSR: usize = 24;
const SW_RESERVED: usize = 464;
const SW_FEATURES: usize = 472;
/// Offset of the XSAVE header, and of what follows it.
const XSTATE_BV: usize = 512;
const XSTATE_END: usize = 576;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// The largest area that any processor of today has is 11 KiB.
const MAX_EXTENDED: usize = 16 << 10;

/// The frame cannot be written, or not be read back: SIGSEGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadFrame;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Frame {
    pretcode: u64,
    uc_flags: u64,
    uc_link: u64,
    stack: AltStack,
    regs: Registers,
    fpstate: u64,
    reserved: [u64; 8],
    sigmask: u64,
    info: SigInfo,
}

const _: () = assert!(size_of::<Frame>() == 440);

/// `siginfo_t`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct SigInfo {
    signal: u32,
    errno: u32,
    code: i32,
    pad: u32,
    words: [u64; 14],
}

impl From<&Info> for SigInfo {
    fn from(info: &Info) -> Self {
        let mut words = [0; 14];
        words[..2].copy_from_slice(&info.words);
        Self { signal: info.signal, errno: 0, code: info.code, pad: 0, words }
    }
}

/// Puts the frame on the stack and the registers at the handler's beginning. Nothing is changed on failure.
pub(super) fn build(p: &Program, cpu: &mut Cpu<'_>, info: &Info, action: &Action) -> Result<(), BadFrame> {
    if action.flags & SA_RESTORER == 0 || action.handler >= TASK_END {
        return Err(BadFrame);
    }
    let signals = &p.signals.record;
    let mut sp = cpu.regs.rsp.wrapping_sub(128);
    let mut on_alternate = signals.stack.holds(sp);
    if action.flags & SA_ONSTACK != 0 && signals.stack.status(sp) == 0 {
        sp = signals.stack.address.wrapping_add(signals.stack.size);
        on_alternate = true;
    }
    let (area, flags) = saved_area(cpu.extended);
    let fpstate = sp.wrapping_sub(area.len() as u64) & !63;
    let at = (fpstate.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    // A frame that would reach below the alternate stack must not be written over whatever lies there.
    if on_alternate && (at <= signals.stack.address || at - signals.stack.address > signals.stack.size) {
        return Err(BadFrame);
    }
    let frame = Frame {
        pretcode: action.restorer,
        uc_flags: flags | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
        uc_link: 0,
        stack: signals.stack,
        regs: Registers { old_mask: mask_to_restore(p), ..cpu.regs },
        fpstate,
        reserved: [0; 8],
        sigmask: mask_to_restore(p),
        info: SigInfo::from(info),
    };
    p.user.write(fpstate, &area).and_then(|()| p.user.write_value(at, &frame)).map_err(|_| BadFrame)?;
    reset_extended(cpu.extended);
    let r = &mut cpu.regs;
    r.rdi = u64::from(info.signal);
    r.rsi = at + std::mem::offset_of!(Frame, info) as u64;
    r.rdx = at + std::mem::offset_of!(Frame, uc_flags) as u64;
    r.rax = 0;
    r.rip = action.handler;
    r.rsp = at;
    r.eflags &= !HANDLER_CLEARS;
    Ok(())
}

/// The mask in the frame: what holds again after the handler.
fn mask_to_restore(p: &Program) -> u64 {
    let record = &p.signals.record;
    if record.has_saved == 0 { record.mask } else { record.saved_mask }
}

/// Takes registers, mask and alternate stack back from the frame below `rsp`. Nothing is changed on failure.
pub(super) fn undo(p: &mut Program, cpu: &mut Cpu<'_>) -> Result<(), BadFrame> {
    let frame: Frame = p.user.read_value(cpu.regs.rsp.wrapping_sub(8)).map_err(|_| BadFrame)?;
    if frame.regs.rip >= TASK_END {
        return Err(BadFrame);
    }
    restore_area(p, cpu.extended, frame.fpstate)?;
    let old = cpu.regs;
    cpu.regs = Registers {
        eflags: (old.eflags & !USER_FLAGS) | (frame.regs.eflags & USER_FLAGS) | FIXED_FLAGS,
        // cs, then gs and fs as they are, then ss.
        selectors: (old.selectors & 0x0000_ffff_ffff_0000) | USER_CS | USER_SS << 48,
        error: old.error,
        trap: old.trap,
        cr2: old.cr2,
        old_mask: old.old_mask,
        ..frame.regs
    };
    let record = &mut p.signals.record;
    record.mask = frame.sigmask & !UNBLOCKABLE;
    let stack = frame.stack;
    let allowed = AltStack::AUTODISARM | AltStack::DISABLED | AltStack::ON;
    if !record.stack.holds(cpu.regs.rsp) && stack.flags & !allowed == 0 {
        record.stack = match stack.flags & AltStack::DISABLED {
            0 if stack.size >= super::signal_calls::MIN_STACK => {
                AltStack { flags: stack.flags & AltStack::AUTODISARM, pad: 0, ..stack }
            }
            0 => record.stack,
            _ => AltStack::NONE,
        };
    }
    Ok(())
}

fn word32(area: &[u8], at: usize) -> u32 {
    area.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn put32(area: &mut [u8], at: usize, value: u32) {
    if let Some(place) = area.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// The area's length by its own words, if they make sense: the bytes that follow the XSAVE area by 4.
fn extended_len(area: &[u8]) -> Option<usize> {
    let len = usize::try_from(word32(area, SW_RESERVED + 4)).ok()?;
    (word32(area, SW_RESERVED) == MAGIC1 && (XSTATE_END + 4..=MAX_EXTENDED).contains(&len)).then_some(len)
}

/// The extended state as it goes into a frame, and the flag that says that it has the extended part.
fn saved_area(extended: &dyn ExtendedState) -> (Vec<u8>, u64) {
    let mut area = extended.load();
    match extended_len(&area) {
        Some(len) => {
            area.resize(len, 0);
            put32(&mut area, len - 4, MAGIC2);
            (area, UC_FP_XSTATE)
        }
        None => {
            if area.len() < FXSAVE {
                area = initial(FXSAVE);
            }
            area.truncate(FXSAVE);
            (area, 0)
        }
    }
}

/// The state in which Linux starts a program, and each handler.
fn initial(len: usize) -> Vec<u8> {
    let mut area = vec![0; len];
    put32(&mut area, FCW, 0x37f);
    put32(&mut area, MXCSR, 0x1f80);
    area
}

/// A handler begins with fresh floating-point state. The layout words stay, so the area keeps its size.
fn reset_extended(extended: &mut dyn ExtendedState) {
    let current = extended.load();
    if current.len() < FXSAVE {
        return;
    }
    let mut fresh = initial(current.len());
    fresh[MXCSR + 4..MXCSR + 8].copy_from_slice(&current[MXCSR + 4..MXCSR + 8]);
    fresh[SW_RESERVED..FXSAVE].copy_from_slice(&current[SW_RESERVED..FXSAVE]);
    if let Some(len) = extended_len(&current).filter(|&len| len <= fresh.len()) {
        put32(&mut fresh, len - 4, MAGIC2);
    }
    // It has the size of what was loaded, so it fits.
    let _ = extended.store(&fresh);
}

/// Restores the extended state that a frame points to. Reserved bits are cleared, and the layout is this processor's:
/// what a program made up must not fault where the domain is continued.
fn restore_area(p: &Program, extended: &mut dyn ExtendedState, fpstate: u64) -> Result<(), BadFrame> {
    if fpstate == 0 {
        reset_extended(extended);
        return Ok(());
    }
    let current = extended.load();
    let mut area = p.user.read(fpstate, FXSAVE).map_err(|_| BadFrame)?;
    if let Some(len) = extended_len(&area) {
        let whole = p.user.read(fpstate, len).map_err(|_| BadFrame)?;
        if word32(&whole, len - 4) == MAGIC2 {
            area = whole;
        }
    }
    if current.len() < FXSAVE {
        let state: &[u8] = if area[..SW_RESERVED] == initial(FXSAVE)[..SW_RESERVED] { &[] } else { &area };
        return extended.store(state).map_err(|_| BadFrame);
    }
    let legacy_only = area.len() == FXSAVE;
    if !legacy_only && extended_len(&current).is_some_and(|len| len != area.len()) {
        // It was written on another processor.
        xstate::cut(&mut area, u64::from(current[SW_FEATURES]) & 7).map_err(|_| BadFrame)?;
    }
    area.resize(current.len(), 0);
    area[SW_RESERVED..FXSAVE].copy_from_slice(&current[SW_RESERVED..FXSAVE]);
    let mxcsr_mask = match word32(&current, MXCSR + 4) {
        0 => 0xffbf,
        mask => mask,
    };
    let mxcsr = word32(&area, MXCSR) & mxcsr_mask;
    put32(&mut area, MXCSR, mxcsr);
    put32(&mut area, MXCSR + 4, word32(&current, MXCSR + 4));
    if let Some(len) = extended_len(&current).filter(|&len| len <= area.len()) {
        let mut header = [0; 8];
        if legacy_only {
            header[0] = 3;
        } else {
            for (i, byte) in header.iter_mut().enumerate() {
                *byte = area[XSTATE_BV + i] & current[SW_FEATURES + i];
            }
        }
        area[XSTATE_BV..XSTATE_END].fill(0);
        area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&header);
        put32(&mut area, len - 4, MAGIC2);
    }
    extended.store(&area).map_err(|_| BadFrame)
}

/// A frame that cannot be read back is a SIGSEGV, which finds its handler only if it is not blocked.
pub(super) fn bad_return() -> Info {
    Info::from_kernel(SIGSEGV)
}
