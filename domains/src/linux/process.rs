//! What a program is to itself: identity, limits, name, timers, what it waits for, how it ended. And the calls about it.

use super::signals::MAX_PENDING;
use super::state::State;
use super::time::{Timespec, nanos};
use super::{Answer, Call, Errno, ExitStatus, LoadError, Program, ProgramSpec, Wait};
use crate::abi::{TASK_END, WINDOW_END};
use crate::cpu::Cpu;
use crate::table::{Record, RecordId};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Process (and thread) number that every program sees of itself.
pub const PID: u32 = 1000;
/// Number of its parent.
pub const PARENT: u32 = 1;
/// User and group.
pub const UID: u32 = 1000;

/// The numbers by which a program knows itself; the stub answers them without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Process.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

const NO_LIMIT: u64 = u64::MAX;
const LIMITS: usize = 16;
const RLIMIT_STACK: usize = 3;
const RLIMIT_CORE: usize = 4;
const RLIMIT_NPROC: usize = 6;
const RLIMIT_NOFILE: usize = 7;
const RLIMIT_MEMLOCK: usize = 8;
const RLIMIT_AS: usize = 9;
const RLIMIT_SIGPENDING: usize = 11;
const RLIMIT_NICE: usize = 13;
const RLIMIT_RTPRIO: usize = 14;
/// Most that one getrandom fills before it answers.
const RANDOM_STEP: usize = 64 << 10;

/// The served calls.
pub const CALLS: &[Call] = &[
    Call { number: 24, name: "sched_yield", handler: zero, note: "" },
    Call { number: 39, name: "getpid", handler: getpid, note: "always 1000" },
    Call { number: 60, name: "exit", handler: exit, note: "" },
    Call { number: 63, name: "uname", handler: uname, note: "Linux 6.1.0-semper on x86_64" },
    Call { number: 97, name: "getrlimit", handler: getrlimit, note: "" },
    Call { number: 99, name: "sysinfo", handler: sysinfo, note: "uptime and a memory of the window's size" },
    Call { number: 102, name: "getuid", handler: getuid, note: "always 1000" },
    Call { number: 104, name: "getgid", handler: getuid, note: "always 1000" },
    Call { number: 107, name: "geteuid", handler: getuid, note: "always 1000" },
    Call { number: 108, name: "getegid", handler: getuid, note: "always 1000" },
    Call { number: 109, name: "setpgid", handler: setpgid, note: "the group it is in already" },
    Call { number: 110, name: "getppid", handler: getppid, note: "always 1" },
    Call { number: 111, name: "getpgrp", handler: getpid, note: "" },
    Call { number: 115, name: "getgroups", handler: zero, note: "none" },
    Call { number: 118, name: "getresuid", handler: getresid, note: "" },
    Call { number: 120, name: "getresgid", handler: getresid, note: "" },
    Call { number: 121, name: "getpgid", handler: getpgid, note: "of itself" },
    Call { number: 124, name: "getsid", handler: getpgid, note: "of itself" },
    Call { number: 140, name: "getpriority", handler: getpriority, note: "always 0" },
    Call { number: 141, name: "setpriority", handler: zero, note: "accepted" },
    Call {
        number: 157,
        name: "prctl",
        handler: prctl,
        note: "name, dumpable, death signal, no_new_privs; others EINVAL",
    },
    Call { number: 158, name: "arch_prctl", handler: arch_prctl, note: "fs and gs base" },
    Call { number: 160, name: "setrlimit", handler: setrlimit, note: "RLIMIT_AS is enforced" },
    Call { number: 186, name: "gettid", handler: getpid, note: "always 1000" },
    Call {
        number: 202,
        name: "futex",
        handler: futex,
        note: "for one thread: waking finds nobody, waiting ends by timeout or signal",
    },
    Call { number: 203, name: "sched_setaffinity", handler: zero, note: "accepted" },
    Call { number: 204, name: "sched_getaffinity", handler: sched_getaffinity, note: "one processor" },
    Call { number: 218, name: "set_tid_address", handler: set_tid_address, note: "" },
    Call { number: 231, name: "exit_group", handler: exit, note: "" },
    Call {
        number: 273,
        name: "set_robust_list",
        handler: set_robust_list,
        note: "accepted; there is no other thread to tell",
    },
    Call { number: 302, name: "prlimit64", handler: prlimit, note: "of itself; RLIMIT_AS is enforced" },
    Call { number: 309, name: "getcpu", handler: getcpu, note: "always 0" },
    Call { number: 318, name: "getrandom", handler: getrandom, note: "" },
    Call {
        number: 324,
        name: "membarrier",
        handler: membarrier,
        note: "private barriers, which one thread has for nothing",
    },
];

/// A limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Limit {
    soft: u64,
    hard: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct ProcessRecord {
    limits: [Limit; LIMITS],
    name: [u8; 16],
    /// Monotonic nanoseconds of the real timer, 0: not armed; and its interval.
    timer: u64,
    interval: u64,
    /// When the waiting call ends, 0: no call waits with a time.
    wait_until: u64,
    /// 0: it runs; 1: ended with a code; 2: by a signal.
    ended: u32,
    status: u32,
    dumpable: u32,
    death_signal: u32,
}

impl Record for ProcessRecord {
    const KIND: u16 = 3;
    const NAME: &'static str = "process";
}

/// The process record and its place.
pub(super) struct Process {
    id: RecordId,
    record: ProcessRecord,
    /// A bug made the state unreadable: it counts as killed.
    poisoned: bool,
}

impl Process {
    pub fn create(state: &mut State, spec: &ProgramSpec<'_>) -> Result<Self, Errno> {
        let mut limits = [Limit { soft: NO_LIMIT, hard: NO_LIMIT }; LIMITS];
        limits[RLIMIT_STACK].soft = super::stack::STACK_BYTES;
        limits[RLIMIT_CORE].soft = 0;
        for (which, bound) in [
            (RLIMIT_NPROC, 1),
            (RLIMIT_NOFILE, u64::from(super::files::MAX_DESCRIPTORS)),
            (RLIMIT_MEMLOCK, 8 << 20),
            (RLIMIT_SIGPENDING, MAX_PENDING as u64),
            (RLIMIT_NICE, 0),
            (RLIMIT_RTPRIO, 0),
        ] {
            limits[which] = Limit { soft: bound, hard: bound };
        }
        let mut name = [0; 16];
        let base = spec.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let len = base.len().min(15);
        name[..len].copy_from_slice(&base[..len]);
        let record = ProcessRecord {
            limits,
            name,
            timer: 0,
            interval: 0,
            wait_until: 0,
            ended: 0,
            status: 0,
            dumpable: 1,
            death_signal: 0,
        };
        Ok(Self { id: state.insert(&record)?, record, poisoned: false })
    }

    pub fn load(state: &State) -> Result<Self, LoadError> {
        let (id, record) = state
            .iter::<ProcessRecord>()
            .next()
            .ok_or_else(|| LoadError::Damaged("it has no process record".into()))?;
        Ok(Self { id, record, poisoned: false })
    }

    pub fn check(&self) -> Option<String> {
        (self.record.ended > 2).then(|| format!("it ended in way {}", self.record.ended))
    }

    fn save(&self, state: &mut State) -> Result<(), Errno> {
        state.update(self.id, &self.record)
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        let status = u8::try_from(self.record.status).unwrap_or(super::signals::SIGKILL);
        match self.record.ended {
            _ if self.poisoned => Some(ExitStatus::Signal(super::signals::SIGKILL)),
            0 => None,
            1 => Some(ExitStatus::Code(status)),
            _ => Some(ExitStatus::Signal(status)),
        }
    }

    /// Records how it ends.
    pub fn end(&mut self, state: &mut State, status: ExitStatus) -> Result<(), Errno> {
        (self.record.ended, self.record.status) = match status {
            ExitStatus::Code(code) => (1, u32::from(code)),
            ExitStatus::Signal(signal) => (2, u32::from(signal)),
        };
        self.save(state)
    }

    pub fn poison(&mut self) {
        self.poisoned = true;
    }

    /// The program's own bound on its addresses.
    pub fn address_space_limit(&self) -> u64 {
        self.record.limits[RLIMIT_AS].soft
    }

    /// When the real timer fires.
    pub fn timer_deadline(&self) -> Option<Duration> {
        (self.record.timer != 0).then(|| Duration::from_nanos(self.record.timer))
    }

    /// After how long it fires again; zero: never.
    pub fn timer_interval(&self) -> Duration {
        Duration::from_nanos(self.record.interval)
    }

    pub fn set_timer(&mut self, state: &mut State, at: Option<Duration>, interval: Duration) -> Result<(), Errno> {
        self.record.timer = at.map_or(0, |at| nanos(at).max(1));
        self.record.interval = at.map_or(0, |_| nanos(interval));
        self.save(state)
    }

    /// When the waiting call ends.
    pub fn wait_deadline(&self) -> Option<Duration> {
        (self.record.wait_until != 0).then(|| Duration::from_nanos(self.record.wait_until))
    }

    /// The waiting call is over.
    pub fn clear_wait(&mut self, state: &mut State) -> Result<(), Errno> {
        if self.record.wait_until == 0 {
            return Ok(());
        }
        self.record.wait_until = 0;
        self.save(state)
    }
}

impl Program {
    /// When a call that waits for `timeout` ends: counted from its first entry, however often it is given again.
    pub(super) fn deadline_in(&mut self, timeout: Duration) -> Result<Duration, Errno> {
        if let Some(until) = self.process.wait_deadline() {
            return Ok(until);
        }
        let until = nanos(self.host.clock.monotonic().saturating_add(timeout)).max(1);
        self.process.record.wait_until = until;
        self.process.save(&mut self.state)?;
        Ok(Duration::from_nanos(until))
    }

    /// Records that the program ends.
    pub(super) fn end(&mut self, status: ExitStatus) -> Result<ExitStatus, Errno> {
        self.process.end(&mut self.state, status)?;
        Ok(status)
    }

    /// Who the program is to itself.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { pid: PID, parent: PARENT, uid: UID, gid: UID }
    }

    /// The name that `PR_SET_NAME` gave, for `/proc/self/comm`.
    #[must_use]
    pub fn thread_name(&self) -> &[u8] {
        let name = &self.process.record.name;
        &name[..name.iter().position(|&b| b == 0).unwrap_or(name.len())]
    }
}

/// The lower half of an argument: what a call that takes an `int` sees.
pub(super) const fn word(argument: u64) -> u32 {
    (argument & 0xffff_ffff) as u32
}

fn zero(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Ok(Answer::Value(0))
}

fn getpid(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Ok(Answer::Value(u64::from(PID)))
}

fn getppid(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Ok(Answer::Value(u64::from(PARENT)))
}

fn getuid(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Ok(Answer::Value(u64::from(UID)))
}

fn getpgid(_: &mut Program, _: &mut Cpu<'_>, [pid, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if matches!(word(pid), 0 | PID) { Ok(Answer::Value(u64::from(PID))) } else { Err(Errno::ESRCH) }
}

fn setpgid(_: &mut Program, _: &mut Cpu<'_>, [pid, group, ..]: [u64; 6]) -> Result<Answer, Errno> {
    match (word(pid), word(group)) {
        (0 | PID, 0 | PID) => Ok(Answer::Value(0)),
        (0 | PID, _) => Err(Errno::EPERM),
        _ => Err(Errno::ESRCH),
    }
}

fn getresid(p: &mut Program, _: &mut Cpu<'_>, [a, b, c, ..]: [u64; 6]) -> Result<Answer, Errno> {
    for at in [a, b, c] {
        p.user.write_value(at, &UID)?;
    }
    Ok(Answer::Value(0))
}

fn getpriority(_: &mut Program, _: &mut Cpu<'_>, [which, who, ..]: [u64; 6]) -> Result<Answer, Errno> {
    match (word(which), word(who)) {
        // The call answers 20 minus the nice value.
        (0 | 1, 0 | PID) | (2, 0 | UID) => Ok(Answer::Value(20)),
        (0..=2, _) => Err(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

fn exit(p: &mut Program, _: &mut Cpu<'_>, [code, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let code = u8::try_from(code & 0xff).unwrap_or(u8::MAX);
    p.end(ExitStatus::Code(code)).map(Answer::Ended)
}

fn uname(p: &mut Program, _: &mut Cpu<'_>, [out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let mut names = [0u8; 6 * 65];
    let fields: [&[u8]; 6] = [b"Linux", b"semper", b"6.1.0-semper", b"#1 SMP Semper", b"x86_64", b"(none)"];
    for (place, text) in names.chunks_exact_mut(65).zip(fields) {
        place[..text.len()].copy_from_slice(text);
    }
    p.user.write(out, &names)?;
    Ok(Answer::Value(0))
}

fn sysinfo(p: &mut Program, _: &mut Cpu<'_>, [out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let mut words = [0u64; 14];
    let total = p.mm.record.limit.min(WINDOW_END);
    words[0] = p.host.clock.monotonic().as_secs();
    words[4] = total;
    words[5] = total - p.user.vmas.bytes().min(total);
    // procs, then a pad; totalhigh and freehigh; mem_unit.
    words[10] = 1;
    words[13] = 1;
    p.user.write_value(out, &words)?;
    Ok(Answer::Value(0))
}

fn limit_index(which: u64) -> Result<usize, Errno> {
    usize::try_from(word(which)).ok().filter(|&w| w < LIMITS).ok_or(Errno::EINVAL)
}

fn change_limit(p: &mut Program, which: usize, new: Limit) -> Result<(), Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    if new.hard > p.process.record.limits[which].hard {
        return Err(Errno::EPERM);
    }
    p.process.record.limits[which] = new;
    p.process.save(&mut p.state)
}

fn getrlimit(p: &mut Program, _: &mut Cpu<'_>, [which, out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let limit = p.process.record.limits[limit_index(which)?];
    p.user.write_value(out, &limit)?;
    Ok(Answer::Value(0))
}

fn setrlimit(p: &mut Program, _: &mut Cpu<'_>, [which, new, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let which = limit_index(which)?;
    let new: Limit = p.user.read_value(new)?;
    change_limit(p, which, new)?;
    Ok(Answer::Value(0))
}

fn prlimit(p: &mut Program, _: &mut Cpu<'_>, [pid, which, new, old, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if !matches!(word(pid), 0 | PID) {
        return Err(Errno::ESRCH);
    }
    let which = limit_index(which)?;
    let before = p.process.record.limits[which];
    if new != 0 {
        let new: Limit = p.user.read_value(new)?;
        change_limit(p, which, new)?;
    }
    if old != 0 {
        p.user.write_value(old, &before)?;
    }
    Ok(Answer::Value(0))
}

fn sched_getaffinity(p: &mut Program, _: &mut Cpu<'_>, [pid, size, out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if !matches!(word(pid), 0 | PID) {
        return Err(Errno::ESRCH);
    }
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    p.user.write_value(out, &1u64)?;
    Ok(Answer::Value(8))
}

fn getcpu(p: &mut Program, _: &mut Cpu<'_>, [cpu, node, ..]: [u64; 6]) -> Result<Answer, Errno> {
    for at in [cpu, node].into_iter().filter(|&at| at != 0) {
        p.user.write_value(at, &0u32)?;
    }
    Ok(Answer::Value(0))
}

fn prctl(p: &mut Program, _: &mut Cpu<'_>, [option, a, b, c, d, _]: [u64; 6]) -> Result<Answer, Errno> {
    match word(option) {
        // PR_SET_PDEATHSIG: the parent is the machine's, and it never dies.
        1 if a <= u64::from(super::signals::MAX_SIGNAL) => {
            p.process.record.death_signal = word(a);
            p.process.save(&mut p.state)?;
        }
        2 => p.user.write_value(a, &p.process.record.death_signal)?,
        3 => return Ok(Answer::Value(u64::from(p.process.record.dumpable))),
        4 if a <= 1 => {
            p.process.record.dumpable = word(a);
            p.process.save(&mut p.state)?;
        }
        // PR_SET_NAME, PR_GET_NAME.
        15 => {
            let name = match p.user.read_cstr(a, 15) {
                Err(Errno::ENAMETOOLONG) => p.user.read(a, 15)?,
                name => name?,
            };
            p.process.record.name = [0; 16];
            p.process.record.name[..name.len()].copy_from_slice(&name);
            p.process.save(&mut p.state)?;
        }
        16 => p.user.write_value(a, &p.process.record.name)?,
        // PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS: there are none to be had.
        38 if [a, b, c, d] == [1, 0, 0, 0] => {}
        39 if [a, b, c, d] == [0; 4] => return Ok(Answer::Value(1)),
        // PR_SET_TIMERSLACK, PR_GET_TIMERSLACK.
        29 => {}
        30 => return Ok(Answer::Value(50_000)),
        _ => return Err(Errno::EINVAL),
    }
    Ok(Answer::Value(0))
}

fn arch_prctl(p: &mut Program, cpu: &mut Cpu<'_>, [code, address, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let base = match word(code) {
        0x1001 => &mut cpu.gs_base,
        0x1002 => &mut cpu.fs_base,
        0x1003 => return p.user.write_value(address, &cpu.fs_base).map(|()| Answer::Value(0)),
        0x1004 => return p.user.write_value(address, &cpu.gs_base).map(|()| Answer::Value(0)),
        _ => return Err(Errno::EINVAL),
    };
    if address >= TASK_END {
        return Err(Errno::EPERM);
    }
    *base = address;
    Ok(Answer::Value(0))
}

fn set_tid_address(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    // The word is cleared when a thread of several ends; there is one.
    Ok(Answer::Value(u64::from(PID)))
}

fn set_robust_list(_: &mut Program, _: &mut Cpu<'_>, [_, size, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if size == 24 { Ok(Answer::Value(0)) } else { Err(Errno::EINVAL) }
}

fn getrandom(p: &mut Program, _: &mut Cpu<'_>, [out, length, flags, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let length = length.min(super::MAX_RW);
    let possible = p.user.writable(out, length);
    if possible == 0 && length > 0 {
        return Err(Errno::EFAULT);
    }
    let mut buffer = vec![0; RANDOM_STEP.min(usize::try_from(possible).unwrap_or(RANDOM_STEP))];
    let mut done = 0;
    while done < possible {
        let n = buffer.len().min(usize::try_from(possible - done).unwrap_or(RANDOM_STEP));
        (p.host.random)(&mut buffer[..n]);
        p.user.write(out + done, &buffer[..n])?;
        done += n as u64;
    }
    Ok(Answer::Value(done))
}

fn membarrier(_: &mut Program, _: &mut Cpu<'_>, [command, flags, ..]: [u64; 6]) -> Result<Answer, Errno> {
    match (word(command), word(flags)) {
        // QUERY: private expedited, its registration, sync-core and its registration.
        (0, 0) => Ok(Answer::Value(0x78)),
        (0x8 | 0x10 | 0x20 | 0x40, 0) => Ok(Answer::Value(0)),
        _ => Err(Errno::EINVAL),
    }
}

fn futex(
    p: &mut Program,
    _: &mut Cpu<'_>,
    [at, operation, value, timeout, _, mask]: [u64; 6],
) -> Result<Answer, Errno> {
    if !at.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let realtime = operation & 0x100 != 0;
    match word(operation) & 0x7f {
        // WAIT, WAIT_BITSET.
        kind @ (0 | 9) => {
            if kind == 9 && word(mask) == 0 {
                return Err(Errno::EINVAL);
            }
            if p.user.read_value::<u32>(at)? != word(value) {
                return Err(Errno::EAGAIN);
            }
            let until = futex_deadline(p, kind == 0, realtime, timeout)?;
            if until.is_some_and(|u| u <= p.host.clock.monotonic()) {
                return Err(Errno::ETIMEDOUT);
            }
            Ok(Answer::Wait(Wait { until, ..Wait::default() }))
        }
        // WAKE, REQUEUE, WAKE_BITSET: nobody waits.
        1 | 3 | 10 => p.user.read_value::<u32>(at).map(|_| Answer::Value(0)),
        _ => Err(Errno::ENOSYS),
    }
}

/// When a futex wait ends: WAIT takes a span, WAIT_BITSET a point of time.
fn futex_deadline(p: &mut Program, span: bool, realtime: bool, timeout: u64) -> Result<Option<Duration>, Errno> {
    if timeout == 0 {
        return Ok(None);
    }
    let time = p.user.read_value::<Timespec>(timeout)?.duration()?;
    let clock = &p.host.clock;
    Ok(Some(match (span, realtime) {
        (true, _) => p.deadline_in(time)?,
        (false, false) => time,
        (false, true) => clock.monotonic() + time.saturating_sub(clock.realtime()),
    }))
}
