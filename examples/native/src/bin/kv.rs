//! A key-value server with many clients and not a line of persistence code: its map is a map on its heap.
//! `kv [ENTRIES]`, for each of the clients. `kv serve`: the server alone, for programs that are given a key to it. `kv client [ENTRIES]`:
//! a client of whatever server the key in slot 12 leads to.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use map::{Map, MapClient};
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Domain, Key, Meter, Start};
use semper_domain::{CallError, Caller, Error, Spawn, args, argument, entry, give_up, interface, println};

#[path = "../map.rs"]
mod map;

const CLIENTS: u64 = 4;
/// Where a client has the key to the store.
const STORE: u8 = 0;
/// Where a client that is a program of its own was given it.
const GIVEN: u8 = 12;

interface! {
    /// A client of the map, as the one who made it sees it.
    pub trait Work, client WorkClient, fails Infallible {
        /// Waits until it is done; how many values were not as it had put them?
        1 => fn wrong() -> u64;
    }
}

entry!(main);

#[derive(Default)]
struct Store(BTreeMap<String, Vec<u8>>);

impl Map for Store {
    fn put(&mut self, _: &mut Caller, name: &str, value: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.insert(name.into(), value.into()))
    }

    fn get(&mut self, _: &mut Caller, name: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.get(name).cloned())
    }

    fn remove(&mut self, _: &mut Caller, name: &str) -> Result<bool, Infallible> {
        Ok(self.0.remove(name).is_some())
    }

    fn census(&mut self, _: &mut Caller) -> Result<(u64, u64), Infallible> {
        Ok((self.0.len() as u64, self.0.values().flatten().map(|byte| u64::from(*byte)).sum()))
    }

    fn close(&mut self, caller: &mut Caller) -> Result<(), Infallible> {
        caller.end = true;
        Ok(())
    }
}

fn store(_: u64) {
    Store::default().serve().expect("a server can wait");
}

struct Done(u64);

impl Work for Done {
    fn wrong(&mut self, caller: &mut Caller) -> Result<u64, Infallible> {
        caller.end = true;
        Ok(self.0)
    }
}

/// Its argument: its number, and above it how many entries it works on.
fn client(argument: u64) {
    let (me, entries) = (argument & 0xff, argument >> 8);
    let map = MapClient::at(STORE);
    let wrong = work(&map, me, entries).expect("the map answers");
    Done(wrong).serve().expect("a server can wait");
}

fn value(me: u64, n: u64) -> Vec<u8> {
    (0..n % 50).map(|at| (me * 31 + n * 7 + at) as u8).collect()
}

/// Puts entries, replaces a third of them, removes a fifth, and reads all. How many were not as they should be?
fn work(map: &MapClient, me: u64, entries: u64) -> Result<u64, CallError<Infallible>> {
    let mut wrong = 0;
    for n in 0..entries {
        wrong += u64::from(map.put(&format!("{me}/{n}"), &value(me, n))?.is_some());
    }
    for n in (0..entries).step_by(3) {
        wrong += u64::from(map.put(&format!("{me}/{n}"), &value(me, n + 1))? != Some(value(me, n)));
    }
    for n in (0..entries).step_by(5) {
        wrong += u64::from(!map.remove(&format!("{me}/{n}"))?);
    }
    for n in 0..entries {
        let expected = (n % 5 != 0).then(|| value(me, if n % 3 == 0 { n + 1 } else { n }));
        wrong += u64::from(map.get(&format!("{me}/{n}"))? != expected);
    }
    Ok(wrong)
}

/// The server as a program of its own, until a client closes it.
fn serve() -> Result<(), CallError<Infallible>> {
    let mut store = Store::default();
    store.serve()?;
    println!("kv: closed with {} values", store.0.len());
    Ok(())
}

/// A client of a server that is another program.
fn call(entries: u64) -> Result<(), CallError<Infallible>> {
    let map = MapClient::at(GIVEN);
    let wrong = work(&map, 1, entries)?;
    let (count, sum) = map.census()?;
    println!("kv: {entries} entries, {count} are left with sum {sum}, {wrong} wrong");
    map.close()
}

fn main() -> Result<(), CallError<Infallible>> {
    assert_eq!(argument(), 0, "children begin elsewhere");
    let entries = |n| args().nth(n).and_then(|arg| arg.parse().ok()).unwrap_or(500);
    match args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some("client") => call(entries(2)),
        _ => all(entries(1)),
    }
}

/// A server and its clients, all of them domains of this program.
fn all(entries: u64) -> Result<(), CallError<Infallible>> {
    // What is not needed is not held; the clients' keys take the room.
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::SELF, slot::MEMORY]);
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));

    let server = Spawn::new(&bank, &meter, store, 0).heap(8 << 20).begin()?.domain;
    let map = server.make_start_key(0)?;
    let clients: Vec<Domain> = (1..=CLIENTS)
        .map(|n| Ok(Spawn::new(&bank, &meter, client, n | entries << 8).key(STORE, &map).begin()?.domain))
        .collect::<Result<_, Error>>()?;
    let mut wrong = 0;
    for client in &clients {
        let start: Start = client.make_start_key(0)?;
        wrong += WorkClient::from(start).wrong()?;
    }
    let (count, sum) = MapClient::from(map).census()?;
    println!("kv: {CLIENTS} clients, {entries} entries each, {count} are left with sum {sum}, {wrong} wrong");
    Ok(())
}
