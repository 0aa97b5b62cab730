//! Clocks, sleeps and timers, on the domain's own time: it continues across restarts without a jump back.

use super::process::{PID, word};
use super::signals::{Info, SIGALRM};
use super::{Answer, Call, Errno, Program, Wait};
use crate::cpu::Cpu;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NANOS: u64 = 1_000_000_000;
/// Bit of `clock_nanosleep` and timers: the time is absolute.
const TIMER_ABSTIME: u64 = 1;
/// Ticks of `times` in a second.
const TICKS: u64 = 100;

/// The served calls.
pub const CALLS: &[Call] = &[
    Call { number: 35, name: "nanosleep", handler: nanosleep, note: "a sleep across a restart ends when it should" },
    Call { number: 36, name: "getitimer", handler: getitimer, note: "ITIMER_REAL; the others are never armed" },
    Call { number: 37, name: "alarm", handler: alarm, note: "" },
    Call {
        number: 38,
        name: "setitimer",
        handler: setitimer,
        note: "ITIMER_REAL; arming ITIMER_VIRTUAL or ITIMER_PROF is EINVAL",
    },
    Call { number: 96, name: "gettimeofday", handler: gettimeofday, note: "" },
    Call { number: 98, name: "getrusage", handler: getrusage, note: "processor time only, all of it as user time" },
    Call { number: 100, name: "times", handler: times, note: "all processor time is user time" },
    Call { number: 201, name: "time", handler: time, note: "" },
    Call {
        number: 228,
        name: "clock_gettime",
        handler: clock_gettime,
        note: "monotonic clocks continue across restarts; wall time jumps",
    },
    Call { number: 229, name: "clock_getres", handler: clock_getres, note: "" },
    Call {
        number: 230,
        name: "clock_nanosleep",
        handler: clock_nanosleep,
        note: "an absolute sleep on the wall clock does not notice that the clock is set while it sleeps",
    },
];

/// `struct timespec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Timespec {
    seconds: i64,
    nanos: i64,
}

impl Timespec {
    /// As a duration.
    ///
    /// # Errors
    /// `EINVAL` if it is negative or has a second or more of nanoseconds.
    pub fn duration(self) -> Result<Duration, Errno> {
        let nanos = u32::try_from(self.nanos).ok().filter(|&n| u64::from(n) < NANOS).ok_or(Errno::EINVAL)?;
        let seconds = u64::try_from(self.seconds).map_err(|_| Errno::EINVAL)?;
        // Two hundred thousand years are as good as for ever, and no sum overflows.
        Ok(Duration::new(seconds.min(1 << 42), nanos))
    }
}

impl From<Duration> for Timespec {
    fn from(d: Duration) -> Self {
        Self { seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: i64::from(d.subsec_nanos()) }
    }
}

/// `struct timeval`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Timeval {
    seconds: i64,
    micros: i64,
}

impl Timeval {
    fn duration(self) -> Result<Duration, Errno> {
        let micros = u64::try_from(self.micros).ok().filter(|&m| m < 1_000_000).ok_or(Errno::EINVAL)?;
        Ok(Timespec { seconds: self.seconds, nanos: 0 }.duration()? + Duration::from_micros(micros))
    }
}

impl From<Duration> for Timeval {
    fn from(d: Duration) -> Self {
        Self { seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), micros: i64::from(d.subsec_micros()) }
    }
}

/// `struct itimerval`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Itimerval {
    interval: Timeval,
    value: Timeval,
}

/// Nanoseconds, cut at the largest number.
pub(super) fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// Time on the clock of this number.
fn clock(p: &Program, number: u64) -> Result<Duration, Errno> {
    let clock = &p.host.clock;
    Ok(match word(number) {
        // REALTIME, REALTIME_COARSE, REALTIME_ALARM, TAI.
        0 | 5 | 8 | 11 => clock.realtime(),
        // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME, BOOTTIME_ALARM.
        1 | 4 | 6 | 7 | 9 => clock.monotonic(),
        // PROCESS_CPUTIME_ID, THREAD_CPUTIME_ID.
        2 | 3 => clock.cpu(),
        // The same clocks of a process by its number, as `clock_getcpuclockid` makes them: bits 0..2 = 2, or 6 a thread's.
        word if matches!(word & 7, 2 | 6) && matches!(!word >> 3, 0 | PID) => clock.cpu(),
        _ => return Err(Errno::EINVAL),
    })
}

fn clock_gettime(p: &mut Program, _: &mut Cpu<'_>, [number, out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let now = Timespec::from(clock(p, number)?);
    p.user.write_value(out, &now)?;
    Ok(Answer::Value(0))
}

fn clock_getres(p: &mut Program, _: &mut Cpu<'_>, [number, out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    clock(p, number)?;
    if out != 0 {
        let coarse = matches!(word(number), 5 | 6);
        p.user.write_value(out, &Timespec { seconds: 0, nanos: if coarse { 4_000_000 } else { 1 } })?;
    }
    Ok(Answer::Value(0))
}

fn gettimeofday(p: &mut Program, _: &mut Cpu<'_>, [time, zone, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if time != 0 {
        p.user.write_value(time, &Timeval::from(p.host.clock.realtime()))?;
    }
    if zone != 0 {
        p.user.write_value(zone, &0u64)?;
    }
    Ok(Answer::Value(0))
}

fn time(p: &mut Program, _: &mut Cpu<'_>, [out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let now = p.host.clock.realtime().as_secs();
    if out != 0 {
        p.user.write_value(out, &now)?;
    }
    Ok(Answer::Value(now))
}

fn times(p: &mut Program, _: &mut Cpu<'_>, [out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let ticks = |d: Duration| nanos(d) / (NANOS / TICKS);
    if out != 0 {
        p.user.write_value(out, &[ticks(p.host.clock.cpu()), 0, 0, 0])?;
    }
    Ok(Answer::Value(ticks(p.host.clock.monotonic())))
}

fn getrusage(p: &mut Program, _: &mut Cpu<'_>, [who, out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let used = match word(who).cast_signed() {
        0 | 1 => p.host.clock.cpu(),
        -1 => Duration::ZERO,
        _ => return Err(Errno::EINVAL),
    };
    let user = Timeval::from(used);
    let mut words = [0u64; 18];
    words[0] = user.seconds.cast_unsigned();
    words[1] = user.micros.cast_unsigned();
    p.user.write_value(out, &words)?;
    Ok(Answer::Value(0))
}

fn nanosleep(p: &mut Program, cpu: &mut Cpu<'_>, [time, left, ..]: [u64; 6]) -> Result<Answer, Errno> {
    clock_nanosleep(p, cpu, [1, 0, time, left, 0, 0])
}

fn clock_nanosleep(p: &mut Program, _: &mut Cpu<'_>, [number, flags, time, ..]: [u64; 6]) -> Result<Answer, Errno> {
    match word(number) {
        3 => return Err(Errno::EINVAL),
        4..=6 => return Err(Errno::EOPNOTSUPP),
        _ => {}
    }
    let on_clock = clock(p, number)?;
    let wanted = p.user.read_value::<Timespec>(time)?.duration()?;
    let until = if flags & TIMER_ABSTIME == 0 {
        p.deadline_in(wanted)?
    } else {
        // What is left on that clock, counted on the monotonic one; asked again each time, so a restart is no matter.
        p.host.clock.monotonic() + wanted.saturating_sub(on_clock)
    };
    if until <= p.host.clock.monotonic() {
        return Ok(Answer::Value(0));
    }
    Ok(Answer::Wait(Wait { until: Some(until), ..Wait::default() }))
}

/// A signal ended a call that waited: what the call says. A relative sleep tells what is left of it.
pub(super) fn interrupted(p: &Program, number: u64, [_, b, _, d, ..]: [u64; 6]) -> Errno {
    let left_at = match number {
        35 => b,
        230 if b & TIMER_ABSTIME == 0 => d,
        _ => 0,
    };
    if let (35 | 230, Some(until)) = (number, p.process.wait_deadline())
        && left_at != 0
    {
        let left = until.saturating_sub(p.host.clock.monotonic());
        if p.user.write_value(left_at, &Timespec::from(left)).is_err() {
            return Errno::EFAULT;
        }
    }
    Errno::EINTR
}

fn alarm(p: &mut Program, _: &mut Cpu<'_>, [seconds, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let now = p.host.clock.monotonic();
    let (_, left) = remaining(p, now);
    let wanted = Duration::from_secs(seconds & 0xffff_ffff);
    p.process.set_timer(&mut p.state, (!wanted.is_zero()).then(|| now + wanted), Duration::ZERO)?;
    // Rounded, but an alarm that is armed never says 0.
    let answer = match left {
        l if l.is_zero() => 0,
        l => (l + Duration::from_millis(500)).as_secs().max(1),
    };
    Ok(Answer::Value(answer))
}

/// Interval and time left of the timer; zeros when it is not armed.
fn remaining(p: &Program, now: Duration) -> (Duration, Duration) {
    match p.process.timer_deadline() {
        // A timer that is due but did not fire yet has some time left.
        Some(at) => (p.process.timer_interval(), at.saturating_sub(now).max(Duration::from_micros(1))),
        None => (Duration::ZERO, Duration::ZERO),
    }
}

fn getitimer(p: &mut Program, _: &mut Cpu<'_>, [which, out, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let (interval, value) = match word(which) {
        0 => remaining(p, p.host.clock.monotonic()),
        1 | 2 => (Duration::ZERO, Duration::ZERO),
        _ => return Err(Errno::EINVAL),
    };
    p.user.write_value(out, &Itimerval { interval: interval.into(), value: value.into() })?;
    Ok(Answer::Value(0))
}

fn setitimer(p: &mut Program, cpu: &mut Cpu<'_>, [which, new, old, ..]: [u64; 6]) -> Result<Answer, Errno> {
    let (interval, value) = match new {
        0 => (Duration::ZERO, Duration::ZERO),
        at => {
            let wanted: Itimerval = p.user.read_value(at)?;
            (wanted.interval.duration()?, wanted.value.duration()?)
        }
    };
    if old != 0 {
        getitimer(p, cpu, [which, old, 0, 0, 0, 0])?;
    }
    match word(which) {
        0 => {
            let at = (!value.is_zero()).then(|| p.host.clock.monotonic() + value);
            p.process.set_timer(&mut p.state, at, interval)?;
        }
        1 | 2 if value.is_zero() => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(Answer::Value(0))
}

/// The timer is due: SIGALRM, and the next time if it repeats (what was missed meanwhile is one signal, as in Linux).
pub(super) fn fire(p: &mut Program, now: Duration) -> Result<(), Errno> {
    let Some(at) = p.process.timer_deadline() else { return Ok(()) };
    let interval = p.process.timer_interval();
    let next = if interval.is_zero() {
        None
    } else {
        let missed = nanos(now.saturating_sub(at)) / nanos(interval).max(1);
        Some(Duration::from_nanos(nanos(at).saturating_add(nanos(interval).saturating_mul(missed + 1))))
    };
    p.process.set_timer(&mut p.state, next, interval)?;
    p.signals.send(&mut p.state, Info::from_kernel(SIGALRM))
}
