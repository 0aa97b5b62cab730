//! A key-value service on the network, of native domains, without a line of persistence code: one domain has the map, and each of many
//! sessions serves one connection after the other. The first domain is their keeper: a session that faults loses its connection and begins anew.
//! What it speaks is that of `examples/linux/src/bin/kv-service.rs`.
//!
//! ```text
//! semper run world --listen 127.0.0.1:7000 --native -- service 7000 [SESSIONS [KIB OF A SESSION'S HEAP]]
//! ```
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::convert::Infallible;
use semper_domain::abi::{SLOTS, slot};
use semper_domain::keys::{Bank, Connection, Domain, Key, Meter, Network};
use semper_domain::{
    CallError, Caller, Child, Error, Fault, Reply, Request, Server, Spawn, Template, args, entry, give_up, interface,
    println,
};

/// Connections that are served at a time, if nothing else is said.
const SESSIONS: u64 = 64;
/// KiB of a session's heap, if nothing else is said.
const HEAP_KIB: u64 = 256;
/// Bytes of the longest request.
const LONGEST: usize = 3 << 10;
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

/// A request: its words, how many bytes it has, and whether it is a client of Redis that asks.
type Asked<'a> = (Vec<&'a [u8]>, usize, bool);

/// The first request. None: it is not all there.
fn request(asked: &[u8]) -> Result<Option<Asked<'_>>, ()> {
    let line =
        |at: usize| asked[at..].iter().position(|byte| *byte == b'\n').map(|end| (&asked[at..at + end], at + end + 1));
    let Some((first, mut at)) = line(0) else { return Ok(None) };
    let number = |line: &[u8], mark: u8| -> Result<usize, ()> {
        let digits = line.trim_ascii_end().strip_prefix(&[mark]).and_then(|digits| core::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).filter(|number| *number <= LONGEST).ok_or(())
    };
    if first.first() != Some(&b'*') {
        return Ok(Some((first.trim_ascii_end().splitn(3, |byte| *byte == b' ').collect(), at, false)));
    }
    let mut words = Vec::new();
    for _ in 0..number(first, b'*')? {
        let Some((length, begin)) = line(at) else { return Ok(None) };
        let length = number(length, b'$')?;
        if asked.len() < begin + length + 2 {
            return Ok(None);
        }
        words.push(&asked[begin..begin + length]);
        at = begin + length + 2;
    }
    Ok(Some((words, at, true)))
}

fn answer(map: &ValuesClient, words: &[&[u8]], redis: bool) -> Result<Vec<u8>, CallError<Infallible>> {
    let name = words.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    Ok(match (&name[..], words.get(1..).unwrap_or_default()) {
        (b"set", [key, value]) => {
            let version = map.put(key, value)?;
            if redis { b"+OK\r\n".to_vec() } else { format!("ok {version}\n").into_bytes() }
        }
        (b"get", [key]) => match (map.get(key)?, redis) {
            (Some(value), false) => [b"is ", &value[..], b"\n"].concat(),
            (Some(value), true) => [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat(),
            (None, false) => b"none\n".to_vec(),
            (None, true) => b"$-1\r\n".to_vec(),
        },
        (b"size" | b"dbsize", []) => {
            let size = map.size()?;
            if redis { format!(":{size}\r\n").into_bytes() } else { format!("{size}\n").into_bytes() }
        }
        (b"ping", []) => b"+PONG\r\n".to_vec(),
        _ if redis => b"-ERR there are SET KEY VALUE, GET KEY, DBSIZE and PING\r\n".to_vec(),
        _ => b"what?\n".to_vec(),
    })
}

/// Until the other side ends it, or asks for what cannot be understood.
fn converse(map: &ValuesClient, with: &Connection) -> Result<(), Error> {
    let (mut asked, mut piece) = (Vec::new(), [0; LONGEST]);
    loop {
        let came = with.receive(&mut piece)?;
        asked.extend_from_slice(&piece[..came]);
        let mut answers = Vec::new();
        let mut done = 0;
        while let Ok(Some((words, length, redis))) = request(&asked[done..]) {
            match answer(map, &words, redis) {
                Ok(bytes) => answers.extend_from_slice(&bytes),
                // It is too long for a message, say: that of others may not be.
                Err(error) if redis => answers.extend_from_slice(format!("-ERR {error}\r\n").as_bytes()),
                Err(error) => answers.extend_from_slice(format!("error: {error}\n").as_bytes()),
            }
            done += length;
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
    let (network, map) = (Network::at(OUTSIDE), ValuesClient::at(STORE));
    loop {
        let (connection, _) = network.accept(port as u16).expect("the port was granted");
        // What a restart or the other side broke off is no affair of the service's.
        let _ = converse(&map, &connection);
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
