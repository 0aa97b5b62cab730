//! Many connections of one port in one hand-over: what is sent on them, and what came on any of them, as parcels.
//!
//! **Promise.** What a domain gives is checked before it is used. A peer that takes nothing, says little or says much takes nothing from the
//! others: nothing waits for one connection; of what came, each that is ready gives a slice in its turn; who does not take what it
//! asked for is not heard. A connection on which more is sent than it takes is lost.
//!
//! **How the ready ones are found.** Whoever hears of a socket, the poller or a commit, leaves a *hint*, one for each connection until it is
//! seen. A try takes the hints and looks at these connections alone, so that it costs nothing for those that are silent.

use super::connection::{Input, Served};
use super::{Connection, HostNetwork, MAX_CONNECTIONS, SEND_LIMIT, Wants};
use crate::guest::MAX_STRING;
use crate::linux::Network;
use crate::parcel::{self, CAME, CLOSE, END, ENDED, GONE, HEAD, Head, WANT};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes that one connection gives in its turn while others are ready.
const SLICE: usize = 1 << 10;
/// Nobody has a turn in an answer that has less room for bytes than this.
const LEAST: usize = 64;
/// Who is let in in one try.
const LET_IN: usize = 64;

const _: () = assert!(HEAD + LEAST <= MAX_STRING && MAX_STRING <= u16::MAX as usize && SEND_LIMIT <= u32::MAX as usize);

/// What is served at one port.
#[derive(Default)]
pub(super) struct Serving {
    /// It was told that all connections of before are gone.
    told: bool,
    open: HashMap<u32, One>,
    /// Who is to be looked at, in turn.
    ready: VecDeque<u32>,
}

struct One {
    /// As the network calls it.
    number: u64,
    /// None: the network has given it up.
    connection: Weak<Connection>,
    /// It is among the ready ones.
    queued: bool,
    /// That it came was not told yet; that its peer ended was.
    new: bool,
    ended: bool,
    /// It is to be told when there is room.
    wants: bool,
    /// More was sent on it than it takes.
    lost: bool,
}

/// What a look at a connection came to.
enum Seen {
    /// A parcel, or nothing; whether it is to be looked at again.
    Parcel(Option<(u16, usize)>, bool),
    /// There is room, as was asked: what came is told after what is sent then.
    Room,
    Gone,
}

impl Serving {
    fn queue(&mut self, key: u32) {
        if let Some(one) = self.open.get_mut(&key)
            && !std::mem::replace(&mut one.queued, true)
        {
            self.ready.push_back(key);
        }
    }

    fn forget(&mut self, key: u32) {
        if self.open.remove(&key).is_some_and(|one| one.queued) {
            self.ready.retain(|ready| *ready != key);
        }
    }
}

impl One {
    /// Bytes that it takes; none: it takes nothing any more.
    fn room(&self) -> Option<usize> {
        self.connection.upgrade().and_then(|connection| connection.room()).filter(|_| !self.lost)
    }

    /// Looks at it; bytes that came are put into `bytes`.
    fn look(&mut self, bytes: &mut [u8]) -> Seen {
        let mut flags = if std::mem::take(&mut self.new) { CAME } else { 0 };
        let connection = self.connection.upgrade().filter(|connection| !self.lost && connection.room().is_some());
        let Some(connection) = connection else { return Seen::Gone };
        let free = connection.has_room();
        if self.wants {
            self.wants = !free;
            return if free { Seen::Room } else { Seen::Parcel(None, false) };
        }
        let input = if free && !self.ended { connection.look_for(bytes) } else { Input::None };
        let (count, again) = match input {
            Input::None => (0, false),
            Input::Bytes(count, again) => (count, again),
            Input::Ended => {
                self.ended = true;
                flags |= ENDED;
                (0, false)
            }
            Input::Failed => return Seen::Gone,
        };
        Seen::Parcel((count > 0 || flags != 0).then_some((flags, count)), again)
    }
}

/// What the order calls a connection of this life.
const fn name(life: u32, key: u32) -> u64 {
    (life as u64) << 32 | key as u64
}

/// The reverse, if it is of this life.
#[allow(clippy::cast_possible_truncation)] // its halves
fn key_of(connection: u64, life: u32) -> Option<u32> {
    (connection >> 32 == u64::from(life)).then_some(connection as u32)
}

fn put(answer: &mut Vec<u8>, head: Head, bytes: &[u8]) {
    answer.extend_from_slice(&head.to_bytes());
    answer.extend_from_slice(bytes);
}

impl HostNetwork {
    fn serving(&self) -> MutexGuard<'_, BTreeMap<u16, Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hints(hints: &Mutex<Vec<Served>>) -> MutexGuard<'_, Vec<Served>> {
        hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is to be looked at; who waits for it is still to be woken.
    pub(super) fn hint(&self, one: &Connection) {
        if let Some(served) = one.served.get()
            && !one.hinted.swap(true, SeqCst)
        {
            Self::hints(&self.hints).push(*served);
        }
    }

    /// Sends parcels on connections that were let in at `port`, in this life. Those to others, or to what is no more, are dropped.
    pub fn post(&self, port: u16, life: u32, parcels: &[u8]) {
        let mut all = self.serving();
        let serving = all.entry(port).or_default();
        let mut wants = Wants::default();
        for (head, bytes) in parcel::Heads(parcels) {
            if head.connection == 0 {
                for one in serving.open.values() {
                    self.close(one.number, true);
                }
                (serving.open, serving.ready) = (HashMap::new(), VecDeque::new());
            } else if let Some(key) = key_of(head.connection, life) {
                self.post_one(serving, key, (head.flags, bytes), &mut wants);
            }
        }
        self.tell(&wants);
    }

    fn post_one(&self, serving: &mut Serving, key: u32, (flags, bytes): (u16, &[u8]), wants: &mut Wants) {
        let Some(one) = serving.open.get_mut(&key).filter(|one| !one.lost) else { return };
        let number = one.number;
        if !bytes.is_empty() {
            // What has failed is told as gone.
            if one.room().is_some_and(|room| bytes.len() > room) {
                one.lost = true;
                self.close(number, true);
            }
            if one.lost || self.give(number, bytes, wants).is_err() && flags & CLOSE == 0 {
                return serving.queue(key);
            }
        }
        if flags & CLOSE != 0 {
            self.close(number, false);
            return serving.forget(key);
        }
        if flags & END != 0 {
            self.shut_down(number, false, true);
        }
        one.wants |= flags & WANT != 0;
        // What was given just now may have made room, where it leaves at once.
        if one.wants {
            serving.queue(key);
        }
    }

    /// What there is to tell of connections that were let in at `port`, as parcels, one of each at most; nothing is waited for.
    pub fn take(&self, port: u16, life: u32) -> Vec<u8> {
        let mut all = self.serving();
        for served in std::mem::take(&mut *Self::hints(&self.hints)) {
            let Some(serving) = all.get_mut(&served.port) else { continue };
            if let Some(connection) = serving.open.get(&served.key).and_then(|one| one.connection.upgrade()) {
                connection.hinted.store(false, SeqCst);
            }
            serving.queue(served.key);
        }
        let serving = all.entry(port).or_default();
        let mut answer = Vec::new();
        if !std::mem::replace(&mut serving.told, true) {
            put(&mut answer, Head { flags: GONE, ..Head::default() }, &[]);
        }
        self.let_in(port, life, serving);
        let (mut piece, mut later) = ([0; MAX_STRING], Vec::new());
        while answer.len() + HEAD + LEAST <= MAX_STRING
            && let Some(key) = serving.ready.pop_front()
        {
            let space = MAX_STRING - answer.len() - HEAD;
            let alone = serving.ready.is_empty() && later.is_empty();
            let slice = if alone { space } else { space.min(SLICE) };
            let Some(one) = serving.open.get_mut(&key) else { continue };
            one.queued = false;
            let (was_told, number) = (!one.new, one.number);
            let seen = one.look(&mut piece[..slice]);
            let room = one.room().unwrap_or(0);
            #[allow(clippy::cast_possible_truncation)] // see the assertion above
            let mut tell = |flags, bytes: &[u8]| {
                let (len, room) = (bytes.len() as u16, room as u32);
                put(&mut answer, Head { connection: name(life, key), len, flags, room }, bytes);
            };
            match seen {
                Seen::Parcel(parcel, again) => {
                    if let Some((flags, count)) = parcel {
                        tell(flags, &piece[..count]);
                    }
                    // In another answer: what the domain says to this one takes of the same room.
                    if again {
                        later.push(key);
                    }
                }
                Seen::Room => {
                    tell(0, &[]);
                    later.push(key);
                }
                Seen::Gone => {
                    if was_told {
                        tell(GONE, &[]);
                    }
                    if !one.lost {
                        self.close(number, false);
                    }
                    serving.forget(key);
                }
            }
        }
        later.into_iter().for_each(|key| serving.queue(key));
        answer
    }

    /// Lets in who waits to be.
    fn let_in(&self, port: u16, life: u32, serving: &mut Serving) {
        for _ in 0..LET_IN {
            if serving.open.len() >= MAX_CONNECTIONS || !self.port_ready(port).input {
                return;
            }
            // What the host lacks for a moment comes again.
            let Ok(came) = self.accept(port) else { return };
            let Ok(connection) = self.get(came.connection) else { continue };
            #[allow(clippy::cast_possible_truncation)] // the other half is of one that came long before
            let key = came.connection as u32;
            if serving.open.contains_key(&key) || name(life, key) == 0 {
                self.close(came.connection, true);
                continue;
            }
            // It has none yet.
            let _ = connection.served.set(Served { port, key });
            let one = One {
                number: came.connection,
                connection: Arc::downgrade(&connection),
                queued: false,
                new: true,
                ended: false,
                wants: false,
                lost: false,
            };
            serving.open.insert(key, one);
            serving.queue(key);
        }
    }
}

#[cfg(test)]
mod tests;
