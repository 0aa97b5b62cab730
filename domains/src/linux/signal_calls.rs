//! The calls about a program's own signals.

use super::process::{PID, word};
use super::signal_frame::{self, SigInfo};
use super::signals::{self, Action, AltStack, Info, MAX_SIGNAL, SIGKILL, SIGSTOP, UNBLOCKABLE};
use super::time::Timespec;
use super::{Answer, Call, Errno, Program, Wait};
use crate::cpu::Cpu;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Smallest alternate stack (`MINSIGSTKSZ`).
pub(super) const MIN_STACK: u64 = 2048;
/// Bytes of a signal mask.
const MASK_BYTES: u64 = 8;
const SI_USER: i32 = 0;
const SI_TKILL: i32 = -6;

/// The served calls.
pub const CALLS: &[Call] = &[
    Call { number: 13, name: "rt_sigaction", handler: sigaction, note: "" },
    Call { number: 14, name: "rt_sigprocmask", handler: sigprocmask, note: "" },
    Call { number: 15, name: "rt_sigreturn", handler: sigreturn, note: "" },
    Call { number: 34, name: "pause", handler: pause, note: "" },
    Call {
        number: 62,
        name: "kill",
        handler: kill,
        note: "to the program itself; others are ESRCH. Stop signals have no effect",
    },
    Call { number: 127, name: "rt_sigpending", handler: sigpending, note: "" },
    Call { number: 128, name: "rt_sigtimedwait", handler: sigtimedwait, note: "" },
    Call { number: 129, name: "rt_sigqueueinfo", handler: sigqueueinfo, note: "to the program itself" },
    Call { number: 130, name: "rt_sigsuspend", handler: sigsuspend, note: "" },
    Call { number: 131, name: "sigaltstack", handler: sigaltstack, note: "" },
    Call { number: 200, name: "tkill", handler: tkill, note: "to the program itself" },
    Call { number: 234, name: "tgkill", handler: tgkill, note: "to the program itself" },
];

/// `struct sigaction` as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct SigAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

fn signal_number(argument: u64) -> Result<u8, Errno> {
    u8::try_from(word(argument)).ok().filter(|s| (1..=MAX_SIGNAL).contains(s)).ok_or(Errno::EINVAL)
}

fn sigaction(p: &mut Program, _: &mut Cpu<'_>, [signal, new, old, size, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let signal = signal_number(signal)?;
    if size != MASK_BYTES || (new != 0 && matches!(signal, SIGKILL | SIGSTOP)) {
        return Err(Errno::EINVAL);
    }
    let before = p.signals.action(signal);
    if new != 0 {
        let SigAction { handler, flags, restorer, mask } = p.user.read_value(new)?;
        let action = Action { signal: u64::from(signal), handler, flags, restorer, mask };
        p.signals.set_action(&mut p.state, signal, action)?;
    }
    if old != 0 {
        let Action { handler, flags, restorer, mask, .. } = before;
        p.user.write_value(old, &SigAction { handler, flags, restorer, mask })?;
    }
    Ok(Answer::Value(0))
}

fn sigprocmask(p: &mut Program, _: &mut Cpu<'_>, [how, new, old, size, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if size != MASK_BYTES {
        return Err(Errno::EINVAL);
    }
    let before = p.signals.record.mask;
    if new != 0 {
        let set: u64 = p.user.read_value(new)?;
        let mask = match how {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        p.signals.record.mask = mask & !UNBLOCKABLE;
        if p.signals.record.mask != before {
            p.signals.save(&mut p.state)?;
        }
    }
    if old != 0 {
        p.user.write_value(old, &before)?;
    }
    Ok(Answer::Value(0))
}

fn sigreturn(p: &mut Program, cpu: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    if signal_frame::undo(p, cpu).is_ok() {
        p.signals.save(&mut p.state)?;
        return Ok(Answer::Registers);
    }
    match signals::force(p, cpu, &signal_frame::bad_return())? {
        Some(status) => p.end(status).map(Answer::Ended),
        None => Ok(Answer::Registers),
    }
}

fn pause(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Ok(Answer::Wait(Wait::default()))
}

/// Sends `signal` (0: only asks whether there is somebody).
fn send(p: &mut Program, signal: u64, code: i32) -> Result<Answer, Errno> {
    if word(signal) != 0 {
        let info = Info::from_self(signal_number(signal)?, code);
        p.signals.send(&mut p.state, info)?;
    }
    Ok(Answer::Value(0))
}

/// Whether a process argument names the program: its number, its group (0 or negative), or everybody it may signal.
fn is_self(target: u64) -> bool {
    let target = word(target);
    target == PID || target == 0 || target == PID.wrapping_neg()
}

fn kill(p: &mut Program, _: &mut Cpu<'_>, [target, signal, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if word(signal) > u32::from(MAX_SIGNAL) {
        return Err(Errno::EINVAL);
    }
    if !is_self(target) {
        return Err(Errno::ESRCH);
    }
    send(p, signal, SI_USER)
}

fn tkill(p: &mut Program, _: &mut Cpu<'_>, [thread, signal, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if word(signal) > u32::from(MAX_SIGNAL) || word(thread).cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    if word(thread) != PID {
        return Err(Errno::ESRCH);
    }
    send(p, signal, SI_TKILL)
}

fn tgkill(p: &mut Program, cpu: &mut Cpu<'_>, [group, thread, signal, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if word(group).cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    if word(group) != PID {
        return Err(Errno::ESRCH);
    }
    tkill(p, cpu, [thread, signal, 0, 0, 0, 0])
}

fn sigqueueinfo(p: &mut Program, _: &mut Cpu<'_>, [target, signal, info, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let given: [u64; 4] = p.user.read_value(info)?;
    if word(target) != PID {
        return Err(Errno::ESRCH);
    }
    if word(signal) == 0 {
        return Ok(Answer::Value(0));
    }
    let signal = signal_number(signal)?;
    let code = word(given[1]).cast_signed();
    let info = Info { signal: u32::from(signal), code, words: [given[2], given[3]], sequence: 0 };
    p.signals.send(&mut p.state, info)?;
    Ok(Answer::Value(0))
}

fn sigpending(p: &mut Program, _: &mut Cpu<'_>, [out, size, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if size > MASK_BYTES {
        return Err(Errno::EINVAL);
    }
    let set = p.signals.pending_set() & p.signals.record.mask;
    let bytes = set.to_le_bytes();
    p.user.write(out, &bytes[..usize::try_from(size).unwrap_or(8).min(8)])?;
    Ok(Answer::Value(0))
}

fn sigsuspend(p: &mut Program, _: &mut Cpu<'_>, [mask, size, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if size != MASK_BYTES {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = p.user.read_value(mask)?;
    p.signals.set_temporary_mask(&mut p.state, mask)?;
    Ok(Answer::Wait(Wait::default()))
}

fn sigtimedwait(p: &mut Program, _: &mut Cpu<'_>, [set, out, timeout, size, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if size != MASK_BYTES {
        return Err(Errno::EINVAL);
    }
    let wanted: u64 = p.user.read_value::<u64>(set)? & !UNBLOCKABLE;
    let timeout = match timeout {
        0 => None,
        at => Some(p.user.read_value::<Timespec>(at)?.duration()?),
    };
    if let Some(info) = p.signals.take(&mut p.state, wanted)? {
        if out != 0 {
            p.user.write_value(out, &SigInfo::from(&info))?;
        }
        return Ok(Answer::Value(u64::from(info.signal)));
    }
    let until = timeout.map(|t| p.deadline_in(t)).transpose()?;
    if until.is_some_and(|at| at <= p.host.clock.monotonic()) {
        return Err(Errno::EAGAIN);
    }
    Ok(Answer::Wait(Wait { until, ..Wait::default() }))
}

fn sigaltstack(p: &mut Program, cpu: &mut Cpu<'_>, [new, old, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let current = p.signals.record.stack;
    let status = current.status(cpu.regs.rsp);
    if new != 0 {
        let asked: AltStack = p.user.read_value(new)?;
        if status == AltStack::ON {
            return Err(Errno::EPERM);
        }
        p.signals.record.stack = match asked.flags & !AltStack::AUTODISARM {
            AltStack::DISABLED => AltStack::NONE,
            0 | AltStack::ON if asked.size < MIN_STACK => return Err(Errno::ENOMEM),
            0 | AltStack::ON => AltStack { flags: asked.flags & AltStack::AUTODISARM, pad: 0, ..asked },
            _ => return Err(Errno::EINVAL),
        };
        p.signals.save(&mut p.state)?;
    }
    if old != 0 {
        let flags = status | current.flags & AltStack::AUTODISARM;
        p.user.write_value(old, &AltStack { flags, ..current })?;
    }
    Ok(Answer::Value(0))
}
