//! A supervisor: the keeper of a worker that panics now and then. It reads what the panic said out of the worker's memory and registers,
//! and begins the worker anew. Whoever waited for the worker gets a typed error, and goes on. `supervisor [ROUNDS]`
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec;
use core::convert::Infallible;
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Domain, Key, Meter, Start};
use semper_domain::{
    CallError, Caller, Child, Error, Fault, Registers, Reply, Request, Server, Spawn, args, entry, give_up, interface,
    memory_start, println,
};

/// The badge of the key by which the kernel calls the supervisor.
const KERNEL: u64 = 1;

interface! {
    /// A worker that is not to be trusted.
    pub trait Worker, client WorkerClient, fails Infallible {
        /// One hundred divided by `n`, and how many questions it has answered in this life.
        1 => fn divide(n: u64) -> (u64, u64);
    }
}

interface! {
    /// The supervisor.
    pub trait Supervisor, client SupervisorClient, fails Infallible {
        /// A key to the worker. It stays good whatever happens to the worker.
        10 => fn worker() -> Start;
        /// How often the worker was begun anew, and what its last panic said.
        11 => fn report() -> (u64, String);
    }
}

entry!(main);

struct Clerk {
    answered: u64,
}

impl Worker for Clerk {
    fn divide(&mut self, _: &mut Caller, n: u64) -> Result<(u64, u64), Infallible> {
        self.answered += 1;
        Ok((100 / n, self.answered))
    }
}

fn worker(_: u64) {
    Clerk { answered: 0 }.serve().expect("a server can wait");
}

struct Guard {
    child: Child,
    restarts: u64,
    last: String,
}

impl Guard {
    /// The worker faulted: what did it say? Then it begins anew.
    fn repair(&mut self, fault: &Fault, state: &[u8]) -> Result<(), Error> {
        if let Some((address, len)) = fault.panic_text(&Registers::from_bytes(state)) {
            let mut text = vec![0; len];
            self.child.memory.read(address.wrapping_sub(memory_start()), &mut text)?;
            self.last = String::from_utf8_lossy(&text).into_owned();
        }
        self.restarts += 1;
        self.child.restart()
    }
}

impl Supervisor for Guard {
    fn worker(&mut self, _: &mut Caller) -> Result<Start, Infallible> {
        Ok(self.child.domain.make_start_key(0).expect("the worker is ours"))
    }

    fn report(&mut self, _: &mut Caller) -> Result<(u64, String), Infallible> {
        Ok((self.restarts, self.last.clone()))
    }
}

fn supervisor(_: u64) {
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));
    let child = Spawn::new(&bank, &meter, worker, 0).begin().expect("the bank has enough");
    let myself = Domain::at(slot::SELF).make_start_key(KERNEL).expect("a slot is free");
    child.domain.set_keeper(Some(&myself)).expect("the worker is ours");
    let mut guard = Guard { child, restarts: 0, last: String::new() };
    let answer = |request: &mut Request<'_>| {
        if request.badge != KERNEL {
            return guard.answer(request);
        }
        let state = request.string;
        match Fault::from_request(request).map(|fault| guard.repair(&fault, state)) {
            // Nobody waits for this answer any more: the domain that faulted has begun anew.
            Some(Ok(())) => Reply::done(),
            _ => Reply::code(1),
        }
    };
    Server::new().accepting(1).run(answer).expect("a server can wait");
}

fn main() -> Result<(), CallError<Infallible>> {
    let rounds: u64 = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1);
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::SELF, slot::MEMORY]);
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));
    let image = semper_domain::Slot::fixed(slot::IMAGE);
    let spawn = Spawn::new(&bank, &meter, supervisor, 0);
    let spawn = spawn.key(slot::BANK, &bank).key(slot::METER, &meter).key(slot::IMAGE, &image).own_key();
    let supervisor = SupervisorClient::from(spawn.begin()?.domain.make_start_key(0)?);
    let worker = WorkerClient::from(supervisor.worker()?);

    let (mut answers, mut lost) = (0, 0);
    for (round, n) in (0..rounds).flat_map(|round| [5, 4, 0, 3, 2, 0, 0, 1].map(|n| (round, n))) {
        match worker.divide(n) {
            Ok((quotient, life)) => {
                answers += 1;
                if round == 0 {
                    println!("100 / {n} = {quotient}, answer {life} of this life");
                }
            }
            Err(CallError::Kernel(Error::CalleeRestarted)) => {
                lost += 1;
                if round == 0 {
                    println!("100 / {n}: the worker was begun anew");
                }
            }
            Err(error) => return Err(error),
        }
    }
    let (restarts, last) = supervisor.report()?;
    let reason = last.lines().last().unwrap_or_default();
    println!("supervisor: {answers} answers, {lost} questions lost, {restarts} restarts; the last panic: {reason}");
    Ok(())
}
