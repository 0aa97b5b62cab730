//! `timerfd`: a timer that a program reads, or waits for beside other things. It runs on the domain's own time, so one across a restart goes
//! off when it should; one that is set to a time of the wall clock follows that.

use super::Errno;
use super::flags::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use super::flow::Flow;
use super::node::{Node, NodeKind};
use super::records::{Inode, kind};
use crate::linux::time::{Timespec, nanos};
use crate::linux::{Answer, Host, Program, Wait};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bit of a timer's inode: it was made for the wall clock.
pub(super) const WALL: u64 = 1;
/// Bit: what it is set to is a time of the wall clock.
pub(super) const SET_BY_WALL: u64 = 2;
/// Flags of `timerfd_settime`: an absolute time; be told when the clock is set, which never happens here.
const ABSOLUTE: u64 = 1;
const CANCEL_ON_SET: u64 = 2;

/// `struct itimerspec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Setting {
    interval: Timespec,
    value: Timespec,
}

/// Now, on the clock that counts for a timer.
fn now(host: &Host, timer: &Inode) -> u64 {
    let wall = timer.device & SET_BY_WALL != 0;
    nanos(if wall { host.clock.realtime() } else { host.clock.monotonic() })
}

impl Inode {
    /// How often a timer went off since it was last read, at a time of its clock.
    fn expirations(&self, now: u64) -> u64 {
        match (self.cursor, self.size) {
            (0, _) => 0,
            (at, _) if at > now => 0,
            (_, 0) => 1,
            (at, interval) => 1 + (now - at) / interval,
        }
    }

    /// When it goes off next; 0: never.
    fn next(&self, now: u64) -> u64 {
        match self.expirations(now) {
            0 => self.cursor,
            _ if self.size == 0 => 0,
            count => self.cursor.saturating_add(self.size.saturating_mul(count)),
        }
    }
}

impl Program {
    /// Whether a timer has gone off, and when it does next, on the monotonic clock.
    pub(super) fn timer_due(&self, number: u64) -> Result<(bool, Option<Duration>), Errno> {
        let timer = self.files.inode(number)?;
        let now = now(&self.host, timer);
        let next = match timer.next(now) {
            0 => None,
            at => Some(self.host.clock.monotonic() + Duration::from_nanos(at.saturating_sub(now))),
        };
        Ok((timer.expirations(now) > 0, next))
    }

    pub(super) fn read_timer(&mut self, number: u64, nonblocking: bool, out: &mut [u8]) -> Result<Flow, Errno> {
        let Some(out) = out.first_chunk_mut::<8>() else { return Err(Errno::EINVAL) };
        let timer = *self.files.inode(number)?;
        let now = now(&self.host, &timer);
        let count = timer.expirations(now);
        if count == 0 {
            let (_, until) = self.timer_due(number)?;
            return if nonblocking { Err(Errno::EAGAIN) } else { Ok(Flow::Wait(Wait { until, ..Wait::default() })) };
        }
        self.files.inodes.update(&mut self.state, number, |i| i.cursor = timer.next(now))?;
        *out = count.to_ne_bytes();
        Ok(Flow::Done(8))
    }

    fn timer_at(&self, fd: u64) -> Result<u64, Errno> {
        match self.files.kind_of(self.files.usable(fd)?.node()?)? {
            NodeKind::Timer(number) => Ok(number),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What a timer is set to, as the program sees it.
    fn timer_setting(&self, number: u64) -> Result<Setting, Errno> {
        let timer = self.files.inode(number)?;
        let now = now(&self.host, timer);
        let left = timer.next(now).saturating_sub(now);
        Ok(Setting { interval: Duration::from_nanos(timer.size).into(), value: Duration::from_nanos(left).into() })
    }
}

pub(super) fn timerfd_create(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (clock, flags) = (a[0] & 0xffff_ffff, a[1] & 0xffff_ffff);
    let wall = match clock {
        0 | 8 => WALL,
        1 | 7 | 9 => 0,
        _ => return Err(Errno::EINVAL),
    };
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    p.files.free_fd(0)?;
    let inode = p.files.new_inode(&mut p.state, &p.host, kind::TIMER, 0o600)?;
    p.files.inodes.update(&mut p.state, inode, |i| i.device = wall)?;
    let status = O_RDWR | flags & O_NONBLOCK;
    let fd = p.files.open_node(&mut p.state, Node::Inode(inode), status, flags & O_CLOEXEC != 0)?;
    Ok(Answer::Value(u64::from(fd)))
}

pub(super) fn timerfd_settime(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let number = p.timer_at(a[0])?;
    let flags = a[1] & 0xffff_ffff;
    if flags & !(ABSOLUTE | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let wanted: Setting = p.user.read_value(a[2])?;
    let (interval, value) = (nanos(wanted.interval.duration()?), nanos(wanted.value.duration()?));
    if a[3] != 0 {
        p.user.write_value(a[3], &p.timer_setting(number)?)?;
    }
    let mut timer = *p.files.inode(number)?;
    timer.device &= WALL;
    if flags & ABSOLUTE != 0 && timer.device == WALL {
        timer.device |= SET_BY_WALL;
    }
    timer.cursor = match value {
        0 => 0,
        at if flags & ABSOLUTE != 0 => at,
        after => now(&p.host, &timer).saturating_add(after),
    };
    timer.size = interval;
    p.files.inodes.update(&mut p.state, number, |i| *i = timer)?;
    Ok(Answer::Value(0))
}

pub(super) fn timerfd_gettime(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let number = p.timer_at(a[0])?;
    p.user.write_value(a[1], &p.timer_setting(number)?)?;
    Ok(Answer::Value(0))
}
