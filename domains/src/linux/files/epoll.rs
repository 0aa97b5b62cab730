//! `epoll`: what a program is interested in are records, found by instance, descriptor and open file.
//!
//! An edge is told by counts of what came and of what room came, which are kept beside the records: after a restart, or a call that was
//! undone, what is ready is told once more.

use super::Errno;
use super::calls_poll::{ERR, HUP, RDHUP, READABLE, WRITABLE};
use super::descriptors::fd_number;
use super::flags::{O_CLOEXEC, O_RDWR};
use super::mail::Told;
use super::mirror::Keyed;
use super::node::{Node, NodeKind};
use super::records::{Interest, MAX_DESCRIPTORS, OpenFile, kind};
use super::{Files, State};
use crate::linux::{Answer, Program, Wait};
use std::time::Duration;

const ADD: u64 = 1;
const DELETE: u64 = 2;
const MODIFY: u64 = 3;
const EXCLUSIVE: u32 = 1 << 28;
const WAKEUP: u32 = 1 << 29;
const ONE_SHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
/// Bits that say how, and not what for.
const HOW: u32 = EXCLUSIVE | WAKEUP | ONE_SHOT | EDGE;
/// Bytes of `struct epoll_event`, which is packed.
const EVENT: u64 = 12;
/// Things that all instances of a program may be interested in.
const MAX_INTERESTS: usize = 4 * MAX_DESCRIPTORS as usize;
/// Events that one call may ask for (Linux: `EP_MAX_EVENTS`).
const MAX_EVENTS: u64 = i32::MAX as u64 / EVENT;

/// What an interest is found by.
pub(super) type InterestKey = (u64, u32, u64);

impl Keyed for Interest {
    type Key = InterestKey;
    fn key(&self) -> InterestKey {
        (self.epoll, self.fd, self.open)
    }
}

impl Files {
    fn interests_of(&self, epoll: u64) -> Vec<Interest> {
        self.interests.range((epoll, 0, 0)..=(epoll, u32::MAX, u64::MAX)).copied().collect()
    }

    /// An open file goes: nobody is interested in it any more.
    pub(super) fn forget_interests_in(&mut self, state: &mut State, open: u64) -> Result<(), Errno> {
        if self.interests.len() == 0 {
            return Ok(());
        }
        let gone: Vec<_> = self.interests.values().filter(|i| i.open == open).map(Keyed::key).collect();
        self.forget_interests(state, gone)
    }

    /// An instance goes.
    pub(super) fn forget_interests_of(&mut self, state: &mut State, epoll: u64) -> Result<(), Errno> {
        let gone = self.interests_of(epoll).iter().map(Keyed::key).collect();
        self.forget_interests(state, gone)
    }

    fn forget_interests(&mut self, state: &mut State, gone: Vec<InterestKey>) -> Result<(), Errno> {
        for key in gone {
            self.interests.remove(state, key)?;
            self.told.remove(&key);
        }
        Ok(())
    }
}

impl Program {
    fn epoll_at(&self, fd: u64) -> Result<u64, Errno> {
        match self.files.kind_of(self.files.usable(fd)?.node()?)? {
            NodeKind::Epoll(number) => Ok(number),
            _ => Err(Errno::EINVAL),
        }
    }

    /// How often it became ready, for input and for output; none: its level counts as an edge.
    fn edges(&self, open: &OpenFile) -> Result<Option<[u64; 2]>, Errno> {
        Ok(match self.files.kind_of(open.node()?)? {
            NodeKind::Socket(number) => Some(self.socket_edges(number)),
            NodeKind::Pipe(number) => {
                let ends = self.files.pipe_ends(number);
                let pipe = self.files.inode(number)?;
                Some([pipe.size << 1 | u64::from(ends.1), pipe.cursor << 1 | u64::from(ends.0)])
            }
            NodeKind::Unix(number) => Some(self.unix_edges(number)),
            // As in Linux, what it goes off more often before it is read is no edge.
            NodeKind::Timer(number) => Some([self.files.inode(number)?.cursor; 2]),
            NodeKind::Signals(_) => Some([self.signals.record.sequence; 2]),
            NodeKind::Event(number) => {
                let counter = self.files.inode(number)?;
                Some([counter.size, counter.size])
            }
            _ => None,
        })
    }

    /// What an interest has to be told of now, and the edges that it was told of with it.
    fn interesting(&mut self, interest: &Interest, wait: &mut Wait) -> Result<Option<(u32, Told)>, Errno> {
        let wanted = interest.events & !HOW;
        if wanted == 0 {
            // Told once.
            return Ok(None);
        }
        let Some(open) = self.files.opens.get(interest.open).copied() else { return Err(Errno::EIO) };
        let edges = if interest.events & EDGE == 0 { None } else { self.edges(&open)? };
        let (input, output) = (u32::from(READABLE | RDHUP), u32::from(WRITABLE));
        let ways = (wanted & input != 0, wanted & output != 0);
        let all = self.readiness_for(&open, ways, wait)?;
        let ready = u32::from(all) & wanted;
        if ready == 0 {
            return Ok(None);
        }
        if let Some(edges) = edges {
            let key = interest.key();
            if self.files.told.get(&key) == Some(&edges) {
                return Ok(None);
            }
            self.files.told.insert(key, edges);
        }
        Ok(Some((ready, Told { fd: interest.fd, open, ready: all })))
    }

    /// Whether an instance has something to tell.
    pub(super) fn epoll_ready(&mut self, epoll: u64, wait: &mut Wait) -> Result<bool, Errno> {
        let mut any = false;
        for interest in self.files.interests_of(epoll) {
            let key = interest.key();
            let told = self.files.told.get(&key).copied();
            any |= self.interesting(&interest, wait)?.is_some();
            // Only looked at.
            match told {
                Some(told) => self.files.told.insert(key, told),
                None => self.files.told.remove(&key),
            };
        }
        Ok(any)
    }
}

pub(super) fn epoll_create(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if ((a[0] & 0xffff_ffff) as u32).cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    create(p, false)
}

pub(super) fn epoll_create1(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    if a[0] & 0xffff_ffff & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    create(p, a[0] & O_CLOEXEC != 0)
}

fn create(p: &mut Program, close_on_exec: bool) -> Result<Answer, Errno> {
    p.files.free_fd(0)?;
    let inode = p.files.new_inode(&mut p.state, &p.host, kind::EPOLL, 0o600)?;
    let fd = p.files.open_node(&mut p.state, Node::Inode(inode), O_RDWR, close_on_exec)?;
    Ok(Answer::Value(u64::from(fd)))
}

pub(super) fn epoll_ctl(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (operation, fd) = (a[1] & 0xffff_ffff, fd_number(a[2])?);
    let event = if operation == DELETE { None } else { Some(read_event(p, a[3])?) };
    let instance = p.files.usable(a[0])?.number;
    let open = p.files.open_at(a[2])?;
    let what = p.files.kind_of(open.node()?)?;
    if !matches!(
        what,
        NodeKind::Socket(_)
            | NodeKind::Unix(_)
            | NodeKind::Timer(_)
            | NodeKind::Signals(_)
            | NodeKind::Pipe(_)
            | NodeKind::Console(_)
            | NodeKind::Epoll(_)
            | NodeKind::Event(_)
            | NodeKind::Device(_)
    ) {
        return Err(Errno::EPERM);
    }
    let epoll = p.epoll_at(a[0])?;
    // Instances in instances are not served.
    if open.number == instance || matches!(what, NodeKind::Epoll(_)) {
        return Err(Errno::EINVAL);
    }
    let key = (epoll, fd, open.number);
    let known = p.files.interests.contains(key);
    match (operation, event) {
        (ADD, Some(_)) if known => return Err(Errno::EEXIST),
        (ADD, Some(_)) if p.files.interests.len() >= MAX_INTERESTS => return Err(Errno::ENOSPC),
        (ADD, Some((events, data))) => {
            p.files.interests.insert(&mut p.state, Interest { epoll, open: open.number, fd, events, data })?;
        }
        (MODIFY | DELETE, _) if !known => return Err(Errno::ENOENT),
        (MODIFY, Some((events, data))) => {
            let exclusive = p.files.interests.get(key).is_some_and(|i| i.events & EXCLUSIVE != 0);
            if exclusive || events & EXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            p.files.interests.update(&mut p.state, key, |i| (i.events, i.data) = (events, data))?;
        }
        (DELETE, None) => {
            p.files.interests.remove(&mut p.state, key)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    // What is ready when it is added or changed is told.
    p.files.told.remove(&key);
    Ok(Answer::Value(0))
}

fn read_event(p: &Program, at: u64) -> Result<(u32, u64), Errno> {
    let events: u32 = p.user.read_value(at)?;
    // These are always told of.
    let events = events | u32::from(ERR | HUP);
    Ok((events, p.user.read_value(at.wrapping_add(4))?))
}

pub(super) fn epoll_wait(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let milliseconds = ((a[3] & 0xffff_ffff) as u32).cast_signed();
    wait_until(p, a, u64::try_from(milliseconds).ok().map(Duration::from_millis))
}

pub(super) fn epoll_pwait(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    p.mask_for_call(a[4], a[5])?;
    epoll_wait(p, a)
}

pub(super) fn epoll_pwait2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let timeout = p.timeout(a[3], 1)?;
    p.mask_for_call(a[4], a[5])?;
    wait_until(p, a, timeout)
}

fn wait_until(p: &mut Program, a: [u64; 6], timeout: Option<Duration>) -> Result<Answer, Errno> {
    let (address, most) = (a[1], a[2] & 0xffff_ffff);
    if most == 0 || most > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    let epoll = p.epoll_at(a[0])?;
    let mut interests = p.files.interests_of(epoll);
    let most = most.min(interests.len().max(1) as u64);
    if p.user.writable(address, most * EVENT) < most * EVENT {
        return Err(Errno::EFAULT);
    }
    // Who was told last comes last, so that all have their turn.
    let last = p.files.last_told.get(&epoll).copied();
    let turn = last.map_or(0, |last| interests.partition_point(|interest| interest.key() <= last));
    interests.rotate_left(turn);
    let (mut wait, mut told) = (Wait::default(), 0);
    let mut readable = Vec::new();
    for interest in interests {
        let Some((events, one)) = p.interesting(&interest, &mut wait)? else { continue };
        if events & u32::from(READABLE) != 0 {
            readable.push(one);
        }
        let at = address + told * EVENT;
        p.user.write_value(at, &events)?;
        p.user.write_value(at + 4, &interest.data)?;
        if interest.events & ONE_SHOT != 0 {
            p.files.interests.update(&mut p.state, interest.key(), |i| i.events &= HOW)?;
        }
        p.files.last_told.insert(epoll, interest.key());
        told += 1;
        if told == most {
            break;
        }
    }
    if told == 0
        && let Some(answer) = p.nothing_ready(timeout, wait)?
    {
        return Ok(answer);
    }
    p.fetch_ahead(&readable);
    Ok(Answer::Value(told))
}
