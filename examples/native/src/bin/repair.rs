//! A domain divides by zero, its keeper puts another number there, and the instruction goes on: `repair TIMES` prints the nanoseconds from the
//! fault to the next instruction.
#![no_std]
#![no_main]

use core::arch::asm;
use core::convert::Infallible;
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Clock, Key, Meter, Segment};
use semper_domain::{
    CallError, Caller, Fault, Reply, Request, Server, Spawn, args, entry, give_up, interface, println,
};

/// Where the keeper has its key to the page that both know, and where the worker maps it.
const SHARED: u8 = 0;
const WINDOW: u64 = 0x1_0000_0000;
/// Where the worker has its clock.
const CLOCK: u8 = 0;
/// The badge of the key by which the kernel calls the keeper.
const KERNEL: u64 = 1;
/// The signal of a division by zero.
const ARITHMETIC: u64 = 8;

interface! {
    /// The worker, as the one who made it sees it.
    pub trait Worker, client WorkerClient, fails Infallible {
        /// Divides by zero so many times: the nanoseconds of that, and the sum of the results.
        1 => fn divide(times: u64) -> (u64, u64);
    }
}

entry!(main);

fn keeper(_: u64) {
    let shared = Segment::at(SHARED);
    let answer = |request: &mut Request<'_>| {
        let known = request.badge == KERNEL;
        match Fault::from_request(request) {
            Some(Fault::Domain { signal: ARITHMETIC, .. }) if known => match shared.write(0, &2_u64.to_le_bytes()) {
                Ok(()) => Reply::done(),
                Err(_) => Reply::code(1),
            },
            _ => Reply::code(1),
        }
    };
    Server::new().run(answer).expect("a server can wait");
}

/// Divides by the word in the page; zero is a fault.
fn quotient(n: u64) -> u64 {
    let low;
    // SAFETY: the page is mapped, and the word in it is a number; the instruction changes nothing but the two registers.
    unsafe {
        asm!("div qword ptr [{}]", in(reg) WINDOW, inlateout("rax") n => low, inlateout("rdx") 0_u64 => _, options(nostack))
    };
    low
}

struct Divides;

impl Worker for Divides {
    fn divide(&mut self, _: &mut Caller, times: u64) -> Result<(u64, u64), Infallible> {
        let clock = Clock::at(CLOCK);
        let begun = clock.monotonic().unwrap_or(0);
        let mut sum = 0;
        for n in 0..times {
            // SAFETY: the page is mapped writable, and nothing of Rust's lies in it.
            unsafe { (WINDOW as *mut u64).write_volatile(0) };
            sum += quotient(2 * n);
        }
        Ok((clock.monotonic().unwrap_or(0) - begun, sum))
    }
}

fn worker(_: u64) {
    Divides.serve().expect("a server can wait");
}

fn main() -> Result<(), CallError<Infallible>> {
    let times: u64 = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1000).max(1);
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));
    give_up(&[slot::RANDOM, slot::LOG, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::SELF, slot::MEMORY]);
    let shared = bank.buy_segment(1)?;
    let keeper = Spawn::new(&bank, &meter, keeper, 0).key(SHARED, &shared).begin()?.domain;
    let called = keeper.make_start_key(KERNEL)?;
    let clock = Clock::at(slot::CLOCK);
    let worker = Spawn::new(&bank, &meter, worker, 0).key(CLOCK, &clock).begin_after(|domain| {
        domain.map(WINDOW / 4096, &shared, 0, 1)?;
        domain.set_keeper(Some(&called))
    })?;
    let (nanos, sum) = WorkerClient::from(worker.domain.make_start_key(0)?).divide(times)?;
    assert_eq!(sum, times * (times - 1) / 2);
    println!("repair: {times} divisions by zero repaired, {} ns each", nanos / times);
    Ok(())
}
