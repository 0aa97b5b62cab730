//! A program's own signals: what it asked for, what waits, and what is delivered when.
//!
//! Everything is in records, so a pending signal survives restarts. A handler's frame is built on the program's own
//! stack, exactly as Linux builds it.

use super::signal_frame::{self, BadFrame};
use super::state::State;
use super::{Errno, ExitStatus, Fault, LoadError, Program};
use crate::cpu::Cpu;
use crate::table::{Record, RecordId};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) const SIGKILL: u8 = 9;
pub(super) const SIGSEGV: u8 = 11;
pub(super) const SIGALRM: u8 = 14;
pub(super) const SIGSTOP: u8 = 19;
/// Highest signal number.
pub(super) const MAX_SIGNAL: u8 = 64;
/// First of the signals that queue.
const FIRST_QUEUED: u8 = 32;
/// Signals that may wait at one time.
pub(super) const MAX_PENDING: usize = 1024;

pub(super) const SIG_DFL: u64 = 0;
pub(super) const SIG_IGN: u64 = 1;

pub(super) const SA_ONSTACK: u64 = 0x0800_0000;
pub(super) const SA_RESTART: u64 = 0x1000_0000;
pub(super) const SA_NODEFER: u64 = 0x4000_0000;
pub(super) const SA_RESETHAND: u64 = 0x8000_0000;
pub(super) const SA_RESTORER: u64 = 0x0400_0000;

/// `si_code`: sent by the kernel.
pub(super) const SI_KERNEL: i32 = 0x80;

/// The bit of a signal in a mask.
pub(super) const fn bit(signal: u8) -> u64 {
    1 << (signal - 1)
}

/// What no mask may hold.
pub(super) const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);

/// Mask and alternate stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct SignalsRecord {
    /// Blocked signals.
    pub mask: u64,
    /// The mask to go back to when a call with a temporary one is over.
    pub saved_mask: u64,
    /// Whether there is one.
    pub has_saved: u64,
    /// The alternate stack.
    pub stack: AltStack,
    /// Counts queued signals.
    pub sequence: u64,
}

impl Record for SignalsRecord {
    const KIND: u16 = 4;
    const NAME: &'static str = "signal state";
}

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct AltStack {
    pub address: u64,
    pub flags: u32,
    pub pad: u32,
    pub size: u64,
}

impl AltStack {
    pub const ON: u32 = 1;
    pub const DISABLED: u32 = 2;
    pub const AUTODISARM: u32 = 1 << 31;
    pub const NONE: Self = Self { address: 0, flags: Self::DISABLED, pad: 0, size: 0 };

    /// Whether `rsp` lies on it.
    pub const fn holds(&self, rsp: u64) -> bool {
        self.flags & Self::AUTODISARM == 0 && rsp > self.address && rsp - self.address <= self.size
    }

    /// What `sigaltstack` says of it.
    pub const fn status(&self, rsp: u64) -> u32 {
        if self.size == 0 {
            Self::DISABLED
        } else if self.holds(rsp) {
            Self::ON
        } else {
            0
        }
    }
}

/// What the program wants done about one signal.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Action {
    pub signal: u64,
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

impl Record for Action {
    const KIND: u16 = 5;
    const NAME: &'static str = "signal action";
}

/// One signal that waits; the words are those of `siginfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Info {
    pub signal: u32,
    pub code: i32,
    /// The union's first two words: sender, or address.
    pub words: [u64; 2],
    pub sequence: u64,
}

impl Record for Info {
    const KIND: u16 = 6;
    const NAME: &'static str = "pending signal";
}

impl Info {
    /// A signal that the kernel sends.
    pub fn from_kernel(signal: u8) -> Self {
        Self { signal: u32::from(signal), code: SI_KERNEL, words: [0; 2], sequence: 0 }
    }

    /// A signal that the program sent to itself.
    pub fn from_self(signal: u8, code: i32) -> Self {
        let sender = u64::from(super::process::PID) | u64::from(super::process::UID) << 32;
        Self { signal: u32::from(signal), code, words: [sender, 0], sequence: 0 }
    }

    pub fn number(&self) -> u8 {
        u8::try_from(self.signal).unwrap_or(SIGKILL)
    }
}

/// What was done about the signals that were due.
pub(super) enum Delivered {
    /// The program goes on, perhaps in a handler.
    Resume,
    /// A signal ended it.
    Ended(ExitStatus),
}

/// The records behind the signals.
pub(super) struct Signals {
    id: RecordId,
    pub record: SignalsRecord,
    actions: BTreeMap<u8, (RecordId, Action)>,
    pending: Vec<(RecordId, Info)>,
}

impl Signals {
    pub fn create(state: &mut State) -> Result<Self, Errno> {
        let record = SignalsRecord { mask: 0, saved_mask: 0, has_saved: 0, stack: AltStack::NONE, sequence: 0 };
        Ok(Self { id: state.insert(&record)?, record, actions: BTreeMap::new(), pending: Vec::new() })
    }

    pub fn load(state: &State) -> Result<Self, LoadError> {
        let (id, record) =
            state.iter::<SignalsRecord>().next().ok_or_else(|| LoadError::Damaged("it has no signal state".into()))?;
        let mut actions = BTreeMap::new();
        for (id, action) in state.iter::<Action>() {
            let signal = u8::try_from(action.signal).ok().filter(|s| (1..=MAX_SIGNAL).contains(s));
            let signal = signal.ok_or_else(|| LoadError::Damaged(format!("it handles a signal {}", action.signal)))?;
            actions.insert(signal, (id, action));
        }
        let mut pending: Vec<_> = state.iter::<Info>().collect();
        if let Some((_, bad)) = pending.iter().find(|(_, i)| i.signal == 0 || i.signal > u32::from(MAX_SIGNAL)) {
            return Err(LoadError::Damaged(format!("a signal {} is pending", bad.signal)));
        }
        pending.sort_by_key(|(_, info)| info.sequence);
        Ok(Self { id, record, actions, pending })
    }

    /// Writes mask and stack.
    pub fn save(&self, state: &mut State) -> Result<(), Errno> {
        state.update(self.id, &self.record)
    }

    /// What is asked for `signal`.
    pub fn action(&self, signal: u8) -> Action {
        let none = Action { signal: u64::from(signal), ..Action::default() };
        self.actions.get(&signal).map_or(none, |&(_, action)| action)
    }

    /// Asks for something else; a signal that is ignored from now on is not pending any more.
    pub fn set_action(&mut self, state: &mut State, signal: u8, action: Action) -> Result<(), Errno> {
        let action = Action { signal: u64::from(signal), mask: action.mask & !UNBLOCKABLE, ..action };
        match self.actions.get_mut(&signal) {
            Some((id, kept)) => {
                state.update(*id, &action)?;
                *kept = action;
            }
            None => {
                let id = state.insert(&action)?;
                self.actions.insert(signal, (id, action));
            }
        }
        if self.ignores(signal) {
            while let Some(at) = self.pending.iter().position(|(_, i)| i.number() == signal) {
                state.remove(self.pending.remove(at).0)?;
            }
        }
        Ok(())
    }

    /// Whether the signal has no effect when it is not blocked.
    pub fn ignores(&self, signal: u8) -> bool {
        match self.action(signal).handler {
            SIG_IGN => true,
            // CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH: nothing here can stop a program.
            SIG_DFL => matches!(signal, 17..=23 | 28),
            _ => false,
        }
    }

    /// Whether the program has made up its mind about a signal: it handles, ignores or blocks it, or it does nothing by itself.
    pub fn wishes(&self, signal: u8) -> bool {
        self.record.mask & bit(signal) != 0 || self.action(signal).handler != SIG_DFL || self.ignores(signal)
    }

    /// The signals that wait.
    pub fn pending_set(&self) -> u64 {
        self.pending.iter().fold(0, |set, (_, info)| set | bit(info.number()))
    }

    /// Whether a call that waits must end: a signal is due that is not ignored.
    pub fn interrupts(&self) -> bool {
        self.due().next().is_some()
    }

    /// The signals that are due: neither blocked nor ignored.
    pub fn due(&self) -> impl Iterator<Item = u8> {
        let pending = self.pending.iter().map(|(_, info)| info.number());
        pending.filter(|&signal| self.record.mask & bit(signal) == 0 && !self.ignores(signal))
    }

    /// Makes a signal wait (or vanish, if it is ignored).
    pub fn send(&mut self, state: &mut State, info: Info) -> Result<(), Errno> {
        let signal = info.number();
        let blocked = self.record.mask & bit(signal) != 0;
        if !blocked && self.ignores(signal) {
            return Ok(());
        }
        if signal < FIRST_QUEUED && self.pending_set() & bit(signal) != 0 {
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Errno::EAGAIN);
        }
        self.record.sequence += 1;
        let info = Info { sequence: self.record.sequence, ..info };
        let id = state.insert(&info)?;
        self.pending.push((id, info));
        self.save(state)
    }

    /// Takes the next waiting signal that `wanted` holds: lowest number first, then in order.
    pub fn take(&mut self, state: &mut State, wanted: u64) -> Result<Option<Info>, Errno> {
        let next = self
            .pending
            .iter()
            .enumerate()
            .filter(|(_, (_, info))| wanted & bit(info.number()) != 0)
            .min_by_key(|(_, (_, info))| (info.signal, info.sequence))
            .map(|(at, _)| at);
        let Some(at) = next else { return Ok(None) };
        let (id, info) = self.pending.remove(at);
        state.remove(id)?;
        Ok(Some(info))
    }

    /// Blocks `mask` until the call that stands now is over; on the second entry of a waiting call nothing changes.
    pub fn set_temporary_mask(&mut self, state: &mut State, mask: u64) -> Result<(), Errno> {
        if self.record.has_saved != 0 {
            return Ok(());
        }
        self.record.saved_mask = self.record.mask;
        self.record.has_saved = 1;
        self.record.mask = mask & !UNBLOCKABLE;
        self.save(state)
    }

    fn end_temporary_mask(&mut self, state: &mut State) -> Result<(), Errno> {
        if self.record.has_saved == 0 {
            return Ok(());
        }
        self.record.mask = self.record.saved_mask;
        self.record.has_saved = 0;
        self.save(state)
    }
}

/// Delivers a processor exception: to its handler, or the program ends.
pub(super) fn deliver_fault(p: &mut Program, cpu: &mut Cpu<'_>, fault: Fault) -> Result<Delivered, Errno> {
    let signal = u8::try_from(fault.signal).ok().filter(|s| (1..=MAX_SIGNAL).contains(s)).unwrap_or(SIGSEGV);
    let info =
        Info { signal: u32::from(signal), code: fault.code.cast_signed(), words: [fault.address, 0], sequence: 0 };
    force(p, cpu, &info)?.map_or_else(|| deliver_pending(p, cpu, None), |end| Ok(Delivered::Ended(end)))
}

/// Delivers a signal that cannot wait: blocked, ignored or without a handler it ends the program.
pub(super) fn force(p: &mut Program, cpu: &mut Cpu<'_>, info: &Info) -> Result<Option<ExitStatus>, Errno> {
    let signal = info.number();
    let blocked = p.signals.record.mask & bit(signal) != 0;
    if blocked || p.signals.action(signal).handler <= SIG_IGN {
        return Ok(Some(ExitStatus::Signal(signal)));
    }
    handle(p, cpu, info)
}

/// Delivers what waits and is not blocked. `interrupted` is the call that a signal ended, if one did.
pub(super) fn deliver_pending(
    p: &mut Program,
    cpu: &mut Cpu<'_>,
    mut interrupted: Option<u64>,
) -> Result<Delivered, Errno> {
    if interrupted.is_none() {
        p.signals.end_temporary_mask(&mut p.state)?;
    }
    while let Some(info) = p.signals.take(&mut p.state, !p.signals.record.mask)? {
        let signal = info.number();
        if p.signals.ignores(signal) {
            continue;
        }
        let action = p.signals.action(signal);
        if action.handler == SIG_DFL {
            return Ok(Delivered::Ended(ExitStatus::Signal(signal)));
        }
        if let Some(number) = interrupted.take()
            && action.flags & SA_RESTART != 0
            && restarts(number)
        {
            restart(cpu, number);
        }
        if let Some(end) = handle(p, cpu, &info)? {
            return Ok(Delivered::Ended(end));
        }
    }
    if let Some(number) = interrupted.filter(|&number| restarts(number)) {
        restart(cpu, number);
    }
    p.signals.end_temporary_mask(&mut p.state)?;
    Ok(Delivered::Resume)
}

/// Builds the handler's frame; a stack that cannot hold it is a SIGSEGV.
fn handle(p: &mut Program, cpu: &mut Cpu<'_>, info: &Info) -> Result<Option<ExitStatus>, Errno> {
    let signal = info.number();
    let action = p.signals.action(signal);
    if signal_frame::build(p, cpu, info, &action) == Err(BadFrame) {
        if signal == SIGSEGV || p.signals.action(SIGSEGV).handler <= SIG_IGN {
            return Ok(Some(ExitStatus::Signal(SIGSEGV)));
        }
        return match p.signals.record.mask & bit(SIGSEGV) {
            0 => handle(p, cpu, &Info::from_kernel(SIGSEGV)),
            _ => Ok(Some(ExitStatus::Signal(SIGSEGV))),
        };
    }
    if action.flags & SA_RESETHAND != 0 {
        p.signals.set_action(&mut p.state, signal, Action { handler: SIG_DFL, ..action })?;
    }
    let record = &mut p.signals.record;
    record.has_saved = 0;
    record.mask |= action.mask;
    if action.flags & SA_NODEFER == 0 {
        record.mask |= bit(signal);
    }
    record.mask &= !UNBLOCKABLE;
    if record.stack.flags & AltStack::AUTODISARM != 0 {
        record.stack = AltStack::NONE;
    }
    p.signals.save(&mut p.state)?;
    Ok(None)
}

/// Makes the program give the call again when it goes on: `syscall` has two bytes.
const fn restart(cpu: &mut Cpu<'_>, number: u64) {
    cpu.regs.rip = cpu.regs.rip.wrapping_sub(2);
    cpu.regs.rax = number;
}

/// Whether `SA_RESTART` restarts this call. Waits for time, for signals and for many descriptors never restart.
const fn restarts(number: u64) -> bool {
    // poll, select, pause, nanosleep, sigtimedwait, sigsuspend, clock_nanosleep, epoll_wait, pselect6, ppoll,
    // epoll_pwait, epoll_pwait2
    !matches!(number, 7 | 23 | 34 | 35 | 128 | 130 | 230 | 232 | 270 | 271 | 281 | 441)
}
