//! Many domains that wait, and some that run: what they cost. `idle IDLE RUNNING` makes them, and says in nanoseconds how long a message to
//! one without a process takes with its answer, and in bytes how much of the object table each of them has. `RUNNING` of them, the
//! first among them, then compute for ever; the first says at what time of the wall clock it goes on after a restart.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Clock, Key, Meter, Node, Start};
use semper_domain::{Error, Reply, Slot, Spawn, args, entry, println, serve};

/// Bytes of a record of the object table.
const RECORD: u64 = 256;
/// The domains that get a message: the first ones, which have been put away when all are made.
const ASKED: u64 = 16;
/// Nobody looks at the clock for so long but by a restart, in nanoseconds.
const JUMP: u64 = 300_000_000;

entry!(main);

fn idler(_: u64) {
    serve(|request| Reply::words(request.words)).expect("a server can wait");
}

fn runner(_: u64) {
    loop {
        core::hint::spin_loop();
    }
}

fn make(start: fn(u64), bank: &Bank) -> Result<Start, Error> {
    let meter = Meter::at(slot::METER);
    let spawn = Spawn::new(bank, &meter, start, 0).share_code().heap(16 << 10).stack(16 << 10);
    spawn.begin()?.domain.make_start_key(0)
}

/// Nanoseconds of a message with its answer, to each of the domains in the node.
fn first_messages(asked: &Node, count: u64, clock: &Clock) -> Result<Vec<u64>, Error> {
    let mut times = Vec::new();
    for n in 0..count {
        let start: Start = asked.fetch(n as u8)?;
        let before = clock.monotonic()?;
        let answer = start.order(1).words([n]).call()?;
        times.push(clock.monotonic()? - before);
        assert_eq!(answer.words[0], n);
    }
    times.sort_unstable();
    Ok(times)
}

fn main() -> Result<(), Error> {
    let mut numbers = args().skip(1).map(|arg| arg.parse::<u64>().unwrap_or(0));
    let (idle, running) = (numbers.next().unwrap_or(1000).max(1), numbers.next().unwrap_or(0));
    // Making a domain takes slots; this key is not needed.
    drop(Slot::owned(slot::JOURNAL));
    let (bank, clock) = (Bank::at(slot::BANK), Clock::at(slot::CLOCK));
    let asked = bank.buy_node()?;

    let before = (clock.monotonic()?, bank.usage()?.used.records);
    for n in 0..idle {
        let start = make(idler, &bank)?;
        if n < ASKED {
            asked.store(n as u8, &start)?;
        }
    }
    println!("made {}", clock.monotonic()? - before.0);
    println!("bytes {}", (bank.usage()?.used.records - before.1) * RECORD / idle);

    let times = first_messages(&asked, idle.min(ASKED), &clock)?;
    println!("message {}", times[times.len() / 2]);
    for _ in 1..running {
        make(runner, &bank)?;
    }
    println!("ready {running}");
    if running == 0 {
        // Until somebody writes to it, that is for ever.
        return serve(|_| Reply::done());
    }
    let mut last = clock.wall()?;
    loop {
        let now = clock.wall()?;
        if now - last > JUMP {
            println!("first {now}");
        }
        last = now;
    }
}
