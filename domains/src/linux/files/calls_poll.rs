//! `poll` and `select`. Files are always ready; the console, pipes and sockets may not be.
//!
//! The deadline of a wait is a record of the program's, made when the call is first given, so that a timeout does not
//! begin anew when the call is given again.

use super::Errno;
use super::mail::Told;
use super::node::NodeKind;
use super::records::{MAX_DESCRIPTORS, OpenFile};
use crate::linux::{Answer, ConsoleKind, Input, Program, Ready, Stream, Wait};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const IN: u16 = 1;
const OUT: u16 = 4;
pub(super) const ERR: u16 = 8;
pub(super) const HUP: u16 = 16;
pub(super) const RDHUP: u16 = 0x2000;
const NVAL: u16 = 32;
pub(super) const READABLE: u16 = IN | 0x40;
pub(super) const WRITABLE: u16 = OUT | 0x100;

/// `struct pollfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: u16,
    revents: u16,
}

/// As `poll` tells it.
fn bits_of(ready: Ready) -> u16 {
    [
        (ready.input, READABLE),
        (ready.output, WRITABLE),
        (ready.input_ended, RDHUP),
        (ready.hung_up, HUP),
        (ready.failed, ERR),
    ]
    .into_iter()
    .fold(0, |bits, (is, bit)| if is { bits | bit } else { bits })
}

/// The earlier of two times, where none is never.
fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

impl Program {
    /// What an open file is ready for, and what to wait for otherwise.
    fn readiness(&mut self, open: &OpenFile, wait: &mut Wait) -> Result<u16, Errno> {
        Ok(match self.files.kind_of(open.node()?)? {
            NodeKind::Pipe(number) => {
                let (readers, writers) = self.files.pipe_ends(number);
                let waiting = self.files.pipe_bytes(number);
                let mut ready = 0;
                if open.readable() {
                    ready |= if waiting > 0 { READABLE } else { 0 } | if writers { 0 } else { HUP };
                }
                if open.writable() {
                    ready |= if super::pipe::CAPACITY - waiting >= 4096 { WRITABLE } else { 0 };
                    ready |= if readers { 0 } else { ERR };
                }
                ready
            }
            NodeKind::Console(n) => {
                let mut ready = 0;
                if open.readable() {
                    let kind = self.host.console.kind(Stream::In);
                    ready |= match self.host.console.read(self.files.input_position(), &mut [0]) {
                        Input::Bytes(_) => READABLE,
                        Input::End if kind == ConsoleKind::Pipe => HUP,
                        Input::End => READABLE,
                        Input::NotYet => 0,
                    };
                    wait.input = true;
                }
                if open.writable() {
                    let stream = super::console::output_of(&self.host, n);
                    ready |= if self.host.console.is_broken(stream) { ERR | WRITABLE } else { 0 };
                    ready |= if self.files.output_has_room(&self.host, stream) { WRITABLE } else { 0 };
                    wait.output_room |= ready & WRITABLE == 0;
                }
                ready
            }
            NodeKind::Socket(number) => {
                wait.network = true;
                bits_of(self.socket_ready(number)?)
            }
            NodeKind::Unix(number) => bits_of(self.unix_ready(number)?),
            NodeKind::Timer(number) => {
                let (due, next) = self.timer_due(number)?;
                wait.until = earlier(wait.until, next);
                if due { READABLE } else { 0 }
            }
            NodeKind::Signals(number) => {
                let wanted = self.files.inode(number)?.cursor;
                if self.signals.pending_set() & wanted == 0 { 0 } else { READABLE }
            }
            NodeKind::Event(number) => {
                let (input, output) = self.files.inode(number)?.counter_ready();
                bits_of(Ready { input, output, ..Ready::default() })
            }
            NodeKind::Epoll(number) => {
                if self.epoll_ready(number, wait)? {
                    READABLE
                } else {
                    0
                }
            }
            _ => READABLE | WRITABLE,
        })
    }

    /// The same; of what to wait for, only what is wanted: input, and output.
    pub(super) fn readiness_for(
        &mut self,
        open: &OpenFile,
        (input, output): (bool, bool),
        wait: &mut Wait,
    ) -> Result<u16, Errno> {
        let mut one = Wait::default();
        let ready = self.readiness(open, &mut one)?;
        wait.input |= one.input && input;
        wait.output_room |= one.output_room && output;
        wait.network |= one.network;
        wait.until = earlier(wait.until, one.until.filter(|_| input));
        Ok(ready)
    }

    /// Ends a wait that found nothing: at the deadline, or by waiting on.
    pub(super) fn nothing_ready(&mut self, timeout: Option<Duration>, mut wait: Wait) -> Result<Option<Answer>, Errno> {
        if let Some(timeout) = timeout {
            if timeout.is_zero() {
                return Ok(None);
            }
            let until = self.deadline_in(timeout)?;
            if self.host.clock.monotonic() >= until {
                return Ok(None);
            }
            wait.until = earlier(wait.until, Some(until));
        }
        Ok(Some(Answer::Wait(wait)))
    }

    /// `struct timespec` (or `timeval`, with `unit` nanoseconds in its second word); 0: no timeout.
    pub(super) fn timeout(&self, address: u64, unit: u64) -> Result<Option<Duration>, Errno> {
        if address == 0 {
            return Ok(None);
        }
        let [seconds, fraction] = self.user.read_value::<[i64; 2]>(address)?;
        let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
        let fraction = u64::try_from(fraction).map_err(|_| Errno::EINVAL)?;
        if unit == 1 && fraction >= 1_000_000_000 {
            return Err(Errno::EINVAL);
        }
        // Hundreds of years are for ever.
        let seconds = Duration::from_secs(seconds.min(1 << 33));
        Ok(Some(seconds + Duration::from_nanos(fraction.min(1 << 52).saturating_mul(unit))))
    }

    /// Changes the signal mask for the time of the call.
    pub(super) fn mask_for_call(&mut self, address: u64, size: u64) -> Result<(), Errno> {
        if address == 0 {
            return Ok(());
        }
        if size != 8 {
            return Err(Errno::EINVAL);
        }
        let mask = self.user.read_value::<u64>(address)?;
        self.signals.set_temporary_mask(&mut self.state, mask)
    }
}

pub(super) fn poll(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let milliseconds = (a[2] & 0xffff_ffff) as u32;
    let timeout = u64::try_from(milliseconds.cast_signed()).ok().map(Duration::from_millis);
    poll_until(p, a[0], a[1], timeout)
}

pub(super) fn ppoll(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let timeout = p.timeout(a[2], 1)?;
    p.mask_for_call(a[3], a[4])?;
    poll_until(p, a[0], a[1], timeout)
}

fn poll_until(p: &mut Program, address: u64, count: u64, timeout: Option<Duration>) -> Result<Answer, Errno> {
    let count = count & 0xffff_ffff;
    if count > u64::from(MAX_DESCRIPTORS) {
        return Err(Errno::EINVAL);
    }
    if p.user.writable(address, count * 8) < count * 8 {
        return Err(Errno::EFAULT);
    }
    let (mut ready, mut wait) = (0, Wait::default());
    let (mut polled, mut told) = (Vec::new(), Vec::new());
    for i in 0..count {
        let mut entry: PollFd = p.user.read_value(address + i * 8)?;
        entry.revents = match u64::try_from(entry.fd) {
            Err(_) => 0,
            Ok(fd) => match p.files.usable(fd) {
                Err(_) => NVAL,
                Ok(open) => {
                    let wanted = (entry.events & READABLE != 0, entry.events & WRITABLE != 0);
                    let events = p.readiness_for(&open, wanted, &mut wait)?;
                    if events & entry.events & READABLE != 0 {
                        told.push(Told { fd: (fd & 0xffff_ffff) as u32, open, ready: events });
                    }
                    events & (entry.events | ERR | HUP)
                }
            },
        };
        ready += u64::from(entry.revents != 0);
        polled.push(entry.revents);
    }
    if ready == 0
        && let Some(answer) = p.nothing_ready(timeout, wait)?
    {
        return Ok(answer);
    }
    for (i, revents) in polled.iter().enumerate() {
        p.user.write_value(address + i as u64 * 8 + 6, revents)?;
    }
    p.fetch_ahead(&told);
    Ok(Answer::Value(ready))
}

pub(super) fn select(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let timeout = p.timeout(a[4], 1000)?;
    select_until(p, a[0], [a[1], a[2], a[3]], timeout, (a[4], 1000))
}

pub(super) fn pselect6(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let timeout = p.timeout(a[4], 1)?;
    if a[5] != 0 {
        let [mask, size] = p.user.read_value::<[u64; 2]>(a[5])?;
        p.mask_for_call(mask, size)?;
    }
    select_until(p, a[0], [a[1], a[2], a[3]], timeout, (a[4], 1))
}

/// Words of a set of all descriptors.
const WORDS: usize = MAX_DESCRIPTORS as usize / 64;

fn select_until(
    p: &mut Program,
    count: u64,
    sets: [u64; 3],
    timeout: Option<Duration>,
    (remaining_at, unit): (u64, u64),
) -> Result<Answer, Errno> {
    let count = u64::try_from((((count & 0xffff_ffff) as u32).cast_signed()).max(-1)).map_err(|_| Errno::EINVAL)?;
    let count = count.min(u64::from(MAX_DESCRIPTORS));
    let bytes = usize::try_from(count.div_ceil(64) * 8).unwrap_or(0);
    let mut asked = [[0_u64; WORDS]; 3];
    for (set, &address) in asked.iter_mut().zip(&sets) {
        if address != 0 {
            p.user.read_into(address, &mut set.as_mut_bytes()[..bytes])?;
        }
    }
    let (mut found, mut ready, mut wait) = ([[0_u64; WORDS]; 3], 0, Wait::default());
    for fd in 0..count {
        let (word, bit) = (usize::try_from(fd / 64).unwrap_or(0), 1_u64 << (fd % 64));
        let wanted: [bool; 3] = std::array::from_fn(|i| asked[i][word] & bit != 0);
        if wanted == [false; 3] {
            continue;
        }
        let open = p.files.usable(fd)?;
        let events = p.readiness_for(&open, (wanted[0], wanted[1]), &mut wait)?;
        for (i, mask) in [READABLE | HUP | ERR, WRITABLE | ERR, 0].into_iter().enumerate() {
            if wanted[i] && events & mask != 0 {
                found[i][word] |= bit;
                ready += 1;
            }
        }
    }
    if ready == 0
        && let Some(answer) = p.nothing_ready(timeout, wait)?
    {
        return Ok(answer);
    }
    for (set, &address) in found.iter().zip(&sets) {
        if address != 0 {
            p.user.write(address, &set.as_bytes()[..bytes])?;
        }
    }
    tell_remaining(p, timeout, remaining_at, unit);
    Ok(Answer::Value(ready))
}

/// Linux tells how much of the timeout was left; memory that cannot be written is not an error.
fn tell_remaining(p: &mut Program, timeout: Option<Duration>, address: u64, unit: u64) {
    let Some(timeout) = timeout else { return };
    let left = match p.process.wait_deadline() {
        Some(until) => until.saturating_sub(p.host.clock.monotonic()),
        None => timeout,
    };
    let words = [left.as_secs(), u64::from(left.subsec_nanos()) / unit];
    // Nothing to do about memory that is read-only.
    let _ = p.user.write_value(address, &words);
}
