//! Two domains that call each other: `pingpong CALLS BYTES` prints the nanoseconds of a call with its answer, with a string of 0 to 4096
//! bytes there and back.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Clock, Key, Meter};
use semper_domain::{Error, Reply, args, entry, println, serve, spawn};

/// The order that ends the server; others are answered with what came.
const END: u32 = 2;

entry!(main);

fn main() -> Result<(), Error> {
    let mut numbers = args().skip(1).map(|arg| arg.parse::<usize>().unwrap_or(0));
    let calls = numbers.next().unwrap_or(10_000).max(1) as u64;
    let bytes = numbers.next().unwrap_or(0).min(4096);

    let server = spawn(&Bank::at(slot::BANK), &Meter::at(slot::METER), pong, 0, &[])?;
    let start = server.make_start_key(0)?;
    let clock = Clock::at(slot::CLOCK);
    let string = vec![7; bytes];
    let mut answer = vec![0; bytes];
    let begun = clock.monotonic()?;
    for n in 0..calls {
        let (reply, came) = start.order(1).words([n, 1, 2, 3]).string(&string).call_into(&mut answer)?;
        assert_eq!((reply.words, came), ([n, 1, 2, 3], bytes));
    }
    let took = clock.monotonic()? - begun;
    assert_eq!(answer, string);
    start.order(END).call()?;
    println!("pingpong: {calls} calls with {bytes} bytes, {} ns each", took / calls);
    Ok(())
}

fn pong(_: u64) {
    let served = serve(|request| {
        let reply = Reply { words: request.words, string: request.string.to_vec(), ..Reply::default() };
        if request.order == END { reply.and_end() } else { reply }
    });
    served.expect("a server can wait");
}
