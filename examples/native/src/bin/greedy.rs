//! A hostile program that takes all that it can get: its domains breed more of themselves until their bank is empty, and it exhausts mappings,
//! slots, banks above each other and meters above each other. `greedy [ROUNDS]`: what it could not get is told; then all is given back.
#![no_std]
#![no_main]

use core::convert::Infallible;
use semper_domain::abi::{SLOTS, slot};
use semper_domain::keys::{Bank, Domain, Key, Meter, Quota};
use semper_domain::{CallError, Caller, Error, Resource, Slot, Spawn, args, entry, give_up, interface, println};

/// Where its domains have their keys.
const BANK: u8 = 0;
const METER: u8 = 1;
/// What they may have all together.
const ALLOWED: Quota = Quota { pages: 6000, records: 600 };
/// More than may lie above each other.
const DEEP: usize = 40;
const WINDOW: u64 = 1 << 20;

interface! {
    /// A domain that breeds.
    pub trait Breeder, client BreederClient, fails Infallible {
        /// Makes two of its kind, and lets them do so, until nothing more can be bought; how many there are.
        1 => fn breed(depth: u64) -> u64;
    }
}

extern crate alloc;
use alloc::string::{String, ToString};

entry!(main);

struct Breeds;

impl Breeder for Breeds {
    fn breed(&mut self, _: &mut Caller, depth: u64) -> Result<u64, Infallible> {
        let mut count = 1;
        if depth == 0 {
            return Ok(count);
        }
        for _ in 0..2 {
            let (bank, meter) = (Bank::at(BANK), Meter::at(METER));
            let Ok(child) = breeder(&bank, &meter) else { break };
            count += child.breed(depth - 1).unwrap_or(0);
        }
        Ok(count)
    }
}

fn breeds(_: u64) {
    Breeds.serve().expect("a server can wait");
}

fn breeder(bank: &Bank, meter: &Meter) -> Result<BreederClient, Error> {
    let image = Slot::fixed(slot::IMAGE);
    let spawn = Spawn::new(bank, meter, breeds, 0).share_code().heap(16 << 10).stack(32 << 10);
    let domain = spawn.key(BANK, bank).key(METER, meter).key(slot::IMAGE, &image).begin()?.domain;
    domain.make_start_key(0).map(BreederClient::from)
}

/// Which limit stopped it.
fn limit<T>(result: Result<T, Error>) -> Option<Resource> {
    match result {
        Err(Error::Limit { of, .. }) => Some(of),
        _ => None,
    }
}

/// Its name.
fn told(found: Option<Resource>) -> String {
    found.map_or_else(|| "of everything".into(), |of| of.to_string())
}

/// Breeds until nothing more can be had from a purse, and gives it back; what was used of it.
fn empty_a_bank() -> Result<(u64, bool), CallError<Infallible>> {
    let purse = Bank::at(slot::BANK).buy_bank(ALLOWED)?;
    let first = breeder(&purse, &Meter::at(slot::METER))?;
    let count = first.breed(12)?;
    drop(first);
    while purse.buy_node().is_ok() {}
    let full = limit(purse.buy_domain()).is_some();
    purse.destroy()?;
    Ok((count, full))
}

fn map_too_often() -> Result<Option<Resource>, Error> {
    let (me, page) = (Domain::at(slot::SELF), Bank::at(slot::BANK).buy_page()?);
    let mut found = None;
    let mut at = WINDOW;
    while found.is_none() {
        found = limit(me.map(at, &page, 0, 1));
        at += 1;
    }
    (WINDOW..at - 1).try_for_each(|at| me.unmap(at))?;
    Bank::at(slot::BANK).sell(&page)?;
    Ok(found)
}

/// Puts one thing above another until that is refused.
fn pile<K: Key>(first: K, next: impl Fn(&K) -> Result<K, Error>) -> Option<Resource> {
    let mut top = first;
    for _ in 0..DEEP {
        match next(&top) {
            Ok(above) => top = above,
            refused => return limit(refused),
        }
    }
    None
}

fn main() -> Result<(), CallError<Infallible>> {
    let rounds: u64 = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1);
    give_up(&[slot::RANDOM, slot::LOG, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::MEMORY]);
    for round in 1..=rounds {
        let (count, full) = empty_a_bank()?;
        println!(
            "round {round}: {} domains were bred, their bank was empty: {full}",
            if count > 20 { "many" } else { "few" }
        );
        let mappings = told(map_too_often()?);
        let purse = Bank::at(slot::BANK).buy_bank(ALLOWED)?;
        let banks = told(pile(purse.copy()?, |bank| bank.buy_bank(ALLOWED)));
        let meters = told(pile(Meter::at(slot::METER).copy()?, |meter| meter.make(Meter::UNLIMITED, &purse)));
        purse.destroy()?;
        println!("round {round}: refused: more {mappings}, more {banks}, more {meters}");
        let mut slots = 0;
        let mut taken: [Option<Slot>; SLOTS as usize] = [const { None }; SLOTS as usize];
        for place in &mut taken {
            *place = Slot::take().ok();
            slots += u64::from(place.is_some());
        }
        println!("round {round}: {slots} slots were free, and no more");
    }
    println!("greedy: it came through");
    Ok(())
}
