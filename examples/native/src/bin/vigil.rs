//! What a restart of the world leaves as it was, and what it does not: a timer goes off, a deadline passes, a durable generation stays, and
//! the world has another life. It waits for a restart, then for a line of input, and tells.
#![no_std]
#![no_main]

use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Checkpoint, Clock, Console, Key, Meter, Restart, Start, Timer};
use semper_domain::{Error, Reply, Spawn, args, entry, give_up, println, serve};

/// Where the children have their keys.
const FIRST: u8 = 0;
const SECOND: u8 = 1;
/// The order by which the impatient one is sent its deadline.
const UNTIL: u32 = 2;

entry!(main);

/// Waits for its timer at once, and tells everybody who asks when it went off.
fn sleeper(_: u64) {
    let gone_off = Timer::at(FIRST).wait().unwrap_or(0);
    serve(|_| Reply::words([gone_off])).expect("a server can wait");
}

/// Takes a message and never answers.
fn silent(_: u64) {
    serve(|_| {
        let _ = Timer::at(FIRST).wait();
        Reply::done()
    })
    .expect("a server can wait");
}

/// Is sent a deadline, and calls the silent one until then; tells when it had passed, or 0 if it was no deadline that ended the call.
fn impatient(_: u64) {
    let mut passed = 0;
    serve(|request| {
        if request.order == UNTIL {
            let call = Start::at(FIRST).order(1).deadline(request.words[0]).call();
            let now = || Clock::at(SECOND).monotonic().unwrap_or(0);
            passed = if matches!(call, Err(Error::Timeout)) { now() } else { 0 };
        }
        Reply::words([passed])
    })
    .expect("a server can wait");
}

fn ask(key: &Start) -> Result<u64, Error> {
    key.order(1).call().map(|answer| answer.words[0])
}

fn main() -> Result<(), Error> {
    let wait: u64 = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1000);
    give_up(&[slot::RANDOM, slot::LOG, slot::DISCRIM, slot::SELF, slot::MEMORY]);
    let (bank, meter, clock) = (Bank::at(slot::BANK), Meter::at(slot::METER), Clock::at(slot::CLOCK));
    let (restart, checkpoint) = (Restart::at(slot::RESTART), Checkpoint::at(slot::CHECKPOINT));
    let (life, first) = (restart.read()?, restart.when()?);

    let timer = bank.buy_timer()?;
    let sleeper = Spawn::new(&bank, &meter, sleeper, 0).key(FIRST, &timer).begin()?.domain.make_start_key(0)?;
    let never = bank.buy_timer()?;
    let silent = Spawn::new(&bank, &meter, silent, 0).key(FIRST, &never).begin()?.domain.make_start_key(0)?;
    drop(never);
    let impatient = Spawn::new(&bank, &meter, impatient, 0).key(FIRST, &silent).key(SECOND, &clock);
    let impatient = impatient.begin()?.domain.make_start_key(0)?;
    drop(silent);

    let due = clock.monotonic()? + wait * 1_000_000;
    timer.set(due)?;
    drop(timer);
    impatient.order(UNTIL).words([due]).send()?;
    let pause = bank.buy_timer()?;
    // They wait before the world ends.
    pause.set(clock.monotonic()? + 50_000_000)?;
    pause.wait()?;
    println!("vigil: waits for a restart");
    let durable = checkpoint.wait()?;
    let mut now = restart.read()?;
    while now.restarts == life.restarts {
        pause.set(clock.monotonic()? + 10_000_000)?;
        pause.wait()?;
        now = restart.read()?;
    }
    let line = Console::at(slot::CONSOLE).read(100)?;
    println!("console: {:?}", core::str::from_utf8(&line));
    // Whatever was rolled back, the lives were not.
    let now = restart.read()?;
    println!("restart: {} restarts, another life: {}", now.restarts - life.restarts, now.id != life.id);
    let (began, wall) = (restart.when()?, clock.wall()?);
    println!("restart: this life began later, and not in the future: {}", first < began && began <= wall);
    println!("checkpoint: the generation is durable: {}", checkpoint.newest()? >= durable);
    println!("timer: set before the restart, it went off at its time: {}", ask(&sleeper)? >= due);
    println!("deadline: set before the restart, it passed, and not too early: {}", ask(&impatient)? >= due);
    checkpoint.request()?;
    println!("checkpoint: a later generation is waited for: {}", checkpoint.wait()? > durable);
    Ok(())
}
