//! The key-value service of `service`, in one domain that serves all connections at once, without a line of persistence code. It is handed
//! what came on many of them together, and hands back the answers together.
//!
//! ```text
//! semper run world --listen 127.0.0.1:7000 --native --native-memory 256M -- hub 7000
//! ```
#![no_std]
#![no_main]

extern crate alloc;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::convert::Infallible;
use protocol::{LONGEST, Store, answer, request};
use semper_domain::abi::slot;
use semper_domain::keys::{Arrival, Arrivals, Key, Network, Parcel, Parcels, Peer};
use semper_domain::{Error, args, entry, give_up, println};

#[path = "../protocol.rs"]
mod protocol;

/// Bytes of answers after which the others have their turn.
const TOGETHER: usize = 8 << 10;
/// More than an answer has beside the value.
const BESIDE: usize = 64;
/// Bytes of requests that one connection may have waiting.
const MOST: usize = 64 << 10;

entry!(main);

#[derive(Default)]
struct Map {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    version: u64,
}

impl Store for Map {
    type Failure = Infallible;

    fn put(&mut self, name: &[u8], value: &[u8]) -> Result<u64, Infallible> {
        self.version += 1;
        match self.values.get_mut(name) {
            // Its page is all that changes.
            Some(old) if old.len() == value.len() => old.copy_from_slice(value),
            Some(old) => *old = value.into(),
            None => drop(self.values.insert(name.into(), value.into())),
        }
        Ok(self.version)
    }

    fn get(&mut self, name: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Infallible> {
        Ok(self.values.get(name).map(|value| Cow::Borrowed(&value[..])))
    }

    fn size(&mut self) -> Result<u64, Infallible> {
        Ok(self.values.len() as u64)
    }
}

/// What is known of a connection with something half done.
#[derive(Default)]
struct Session {
    /// What it asked and was not answered.
    asked: Vec<u8>,
    /// It asks no more.
    ended: bool,
    /// It waits for its turn, or for room.
    waits: bool,
}

/// What becomes of a connection.
enum Then {
    Nothing,
    Waits,
    Closes,
}

#[derive(Default)]
struct Hub {
    map: Map,
    sessions: BTreeMap<Peer, Session>,
    /// Answers on their way, kept for its memory.
    answers: Vec<u8>,
}

impl Hub {
    /// Answers the requests of `asked`, as many as there is room for; how many bytes of it are done.
    fn serve(&mut self, peer: Peer, asked: &[u8], room: usize, parcels: &mut Parcels) -> (usize, Then) {
        self.answers.clear();
        let (mut done, most) = (0, room.min(TOGETHER));
        let then = loop {
            match request(&asked[done..]) {
                Ok(None) if asked.len() - done <= LONGEST => break Then::Nothing,
                Ok(Some(_)) if self.answers.len() + LONGEST + BESIDE > most => break Then::Waits,
                Ok(Some(request)) if request.len <= LONGEST => {
                    answer(&mut self.map, &request, &mut self.answers);
                    done += request.len;
                }
                _ => break Then::Closes,
            }
        };
        parcels.send(peer, &self.answers);
        (done, then)
    }

    fn came(&mut self, parcel: &Parcel<'_>, parcels: &mut Parcels) {
        let Parcel { peer, bytes, room, is_end, .. } = *parcel;
        let mut session = self.sessions.remove(&peer).unwrap_or_default();
        session.ended |= is_end;
        if session.waits && (is_end || !bytes.is_empty()) {
            // It came before it was heard that this one has enough to do.
            session.asked.extend_from_slice(bytes);
            return self.keep(peer, session, parcels);
        }
        let (done, then) = if session.asked.is_empty() {
            let (done, then) = self.serve(peer, bytes, room, parcels);
            session.asked.extend_from_slice(&bytes[done..]);
            (0, then)
        } else {
            session.asked.extend_from_slice(bytes);
            self.serve(peer, &session.asked, room, parcels)
        };
        session.asked.drain(..done);
        session.waits = matches!(then, Then::Waits);
        match then {
            Then::Waits => {
                parcels.want_room(peer);
                self.keep(peer, session, parcels);
            }
            Then::Nothing if !session.ended => self.keep(peer, session, parcels),
            _ => parcels.close(peer),
        }
    }

    fn keep(&mut self, peer: Peer, session: Session, parcels: &mut Parcels) {
        if session.asked.len() > MOST {
            parcels.close(peer);
        } else if !session.asked.is_empty() {
            self.sessions.insert(peer, session);
        }
    }
}

fn main() -> Result<(), Error> {
    let port = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(7000);
    give_up(&[slot::BANK, slot::METER, slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::JOURNAL]);
    let network = Network::at(slot::NETWORK);
    let (mut hub, mut parcels, mut arrivals) = (Hub::default(), Parcels::new(), Arrivals::new());
    println!("hub: serves all at port {port}");
    loop {
        network.serve(port, &mut parcels, &mut arrivals)?;
        for arrival in arrivals.iter() {
            match arrival {
                Arrival::AllGone => hub.sessions.clear(),
                Arrival::Gone(peer) => drop(hub.sessions.remove(&peer)),
                Arrival::Parcel(parcel) => hub.came(&parcel, &mut parcels),
            }
        }
    }
}
