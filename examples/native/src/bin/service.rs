//! A key-value service on the network, of native domains, without a line of persistence code: one domain has the map, and each of many
//! sessions serves one connection after the other. The first domain is their keeper: a session that faults loses its connection and begins anew.
//! What it speaks is that of `examples/linux/src/bin/kv-service.rs`. `hub` is the same in one domain.
//!
//! ```text
//! semper run world --listen 127.0.0.1:7000 --native -- service 7000 [SESSIONS [KIB OF A SESSION'S HEAP]]
//! ```
#![no_std]
#![no_main]

extern crate alloc;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::convert::Infallible;
use protocol::{LONGEST, Store, answer, request};
use semper_domain::abi::{SLOTS, slot};
use semper_domain::keys::{Bank, Connection, Domain, Key, Meter, Network};
use semper_domain::{
    CallError, Caller, Child, Error, Fault, Reply, Request, Server, Spawn, Template, args, entry, give_up, interface,
    println,
};

#[path = "../protocol.rs"]
mod protocol;

/// Connections that are served at a time, if nothing else is said.
const SESSIONS: u64 = 64;
/// KiB of a session's heap, if nothing else is said.
const HEAP_KIB: u64 = 256;
/// Bytes of answers that are sent together: one request more, and a session holds no more of them.
const TOGETHER: usize = 8 << 10;
/// The badge of the key by which the kernel calls the keeper.
const KERNEL: u64 = 1;
/// A session's slots.
const OUTSIDE: u8 = 0;
const STORE: u8 = 1;

interface! {
    /// The map.
    pub trait Values, client ValuesClient, fails Infallible {
        /// Puts a value; how many were ever put.
        1 => fn put(name: &[u8], value: &[u8]) -> u64;
        /// The value of a name.
        2 => fn get(name: &[u8]) -> Option<Vec<u8>>;
        /// How many names there are.
        3 => fn size() -> u64;
    }
}

entry!(main);

#[derive(Default)]
struct Map {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    version: u64,
}

impl Values for Map {
    fn put(&mut self, _: &mut Caller, name: &[u8], value: &[u8]) -> Result<u64, Infallible> {
        self.values.insert(name.into(), value.into());
        self.version += 1;
        Ok(self.version)
    }

    fn get(&mut self, _: &mut Caller, name: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.values.get(name).cloned())
    }

    fn size(&mut self, _: &mut Caller) -> Result<u64, Infallible> {
        Ok(self.values.len() as u64)
    }
}

fn store(_: u64) {
    Map::default().serve().expect("a server can wait");
}

/// The map, as a session asks it.
struct Asker(ValuesClient);

impl Store for Asker {
    type Failure = CallError<Infallible>;

    fn put(&mut self, name: &[u8], value: &[u8]) -> Result<u64, Self::Failure> {
        self.0.put(name, value)
    }

    fn get(&mut self, name: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Self::Failure> {
        Ok(self.0.get(name)?.map(Cow::Owned))
    }

    fn size(&mut self) -> Result<u64, Self::Failure> {
        self.0.size()
    }
}

/// Until the other side ends it, or asks for what cannot be understood.
fn converse(map: &mut Asker, with: &Connection) -> Result<(), Error> {
    let (mut asked, mut piece) = (Vec::new(), [0; LONGEST]);
    loop {
        let came = with.receive(&mut piece)?;
        asked.extend_from_slice(&piece[..came]);
        let mut answers = Vec::new();
        let mut done = 0;
        while let Ok(Some(request)) = request(&asked[done..]) {
            answer(map, &request, &mut answers);
            done += request.len;
            if answers.len() >= TOGETHER {
                with.send_all(&answers)?;
                answers.clear();
            }
        }
        with.send_all(&answers)?;
        if came == 0 || request(&asked[done..]).is_err() || asked.len() - done > LONGEST {
            return Ok(());
        }
        asked.drain(..done);
    }
}

fn session(port: u64) {
    let (network, mut map) = (Network::at(OUTSIDE), Asker(ValuesClient::at(STORE)));
    loop {
        let (connection, _) = network.accept(port as u16).expect("the port was granted");
        // What a restart or the other side broke off is no affair of the service's.
        let _ = converse(&mut map, &connection);
        connection.close().expect("it is open");
    }
}

/// A session that faulted begins anew; whoever it served is told by the end of the connection.
fn repair(domain: Domain, template: Template) -> Result<(), Error> {
    domain.stop()?;
    for taken in (0..SLOTS).filter(|taken| ![OUTSIDE, STORE, slot::MEMORY].contains(taken)) {
        if let Ok(connection) = domain.get_slot::<Connection>(taken) {
            let _ = connection.close();
            domain.clear_slot(taken)?;
        }
    }
    let memory = domain.get_slot(slot::MEMORY)?;
    Child { domain, memory, template }.restart()
}

fn main() -> Result<(), Error> {
    let mut numbers = args().skip(1).map(|arg| arg.parse::<u64>().unwrap_or(0));
    let (port, sessions) = (numbers.next().unwrap_or(7000), numbers.next().unwrap_or(SESSIONS));
    let heap = numbers.next().unwrap_or(HEAP_KIB) << 10;
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::JOURNAL]);
    let (bank, meter, network) = (Bank::at(slot::BANK), Meter::at(slot::METER), Network::at(slot::NETWORK));
    let map = Spawn::new(&bank, &meter, store, 0).heap(64 << 20).begin()?.domain.make_start_key(0)?;
    let keeper = Domain::at(slot::SELF).make_start_key(KERNEL)?;
    let mut template = Template::new(session, port);
    for _ in 0..sessions {
        let spawn = Spawn::new(&bank, &meter, session, port).heap(heap).share_code().own_memory();
        let spawn = spawn.key(OUTSIDE, &network).key(STORE, &map);
        template = spawn.begin_after(|domain| domain.set_keeper(Some(&keeper)))?.template;
    }
    println!("service: {sessions} sessions at port {port}");
    let kept = |request: &mut Request<'_>| match (request.badge, Fault::from_request(request)) {
        (KERNEL, Some(Fault::Domain { domain: Some(domain), .. })) => {
            repair(domain, template).map_or(Reply::code(1), |()| Reply::done())
        }
        _ => Reply::code(1),
    };
    Server::new().accepting(1).run(kept)
}
