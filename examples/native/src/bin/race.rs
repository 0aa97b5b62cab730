//! Players that race to a referee. Whose call comes first decides on all that is printed, and so do the clock, random numbers, a timer, the journal and the
//! time-stamp counter: run with `--record`, it is the same after any failure. `race [LINES [PLAYERS [PAUSE_MICROSECONDS [rdrand | shared]]]]`;
//! with `rdrand` it asks the processor itself, with `shared` all count in one page of memory, and neither can be repeated.
#![no_std]
#![no_main]

use core::convert::Infallible;
use core::sync::atomic::{AtomicU64, Ordering};
use semper_domain::abi::slot;
use semper_domain::keys::{Appended, Bank, Clock, Domain, Journal, Key, Meter, Random, Timer};
use semper_domain::{CallError, Caller, Error, Spawn, args, entry, give_up, interface, println};

/// A player's slots.
const REFEREE: u8 = 0;
const CLOCK: u8 = 1;
const TIMER: u8 = 2;
/// Where the shared page is mapped: its number.
const SHARED: u64 = 0x40_0000;

interface! {
    /// Who decides what comes next.
    pub trait Referee, client RefereeClient, fails Infallible {
        /// A player's move; what has become of the race.
        1 => fn play(player: u64, number: u64) -> u64;
    }
}

entry!(main);

const fn mix(a: u64, b: u64) -> u64 {
    let a = a ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(a << 6).wrapping_add(a >> 2);
    a.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ a >> 33
}

fn counter() -> u64 {
    // SAFETY: the instruction has no preconditions.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The count in the shared page, and one more.
fn count() -> u64 {
    // SAFETY: whoever comes here has it mapped there.
    let place = unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>((SHARED << 12) as usize) };
    place.fetch_add(1, Ordering::Relaxed)
}

#[target_feature(enable = "rdrand")]
unsafe fn from_the_processor() -> u64 {
    let mut number = 0;
    core::arch::x86_64::_rdrand64_step(&mut number);
    number
}

struct Race {
    line: u64,
    lines: u64,
    state: u64,
    by_the_processor: bool,
    shared: bool,
}

impl Race {
    fn goes_on(&mut self, player: u64, number: u64) -> Result<(), Error> {
        self.state = mix(mix(self.state, player), number);
        match self.line % 8 {
            0 => self.state = mix(self.state, Random::at(slot::RANDOM).words()?[0]),
            2 => self.state = mix(self.state, Clock::at(slot::CLOCK).monotonic()?),
            4 => self.state = mix(self.state, counter()),
            // SAFETY: only where the user says so.
            5 if self.by_the_processor => self.state = mix(self.state, unsafe { from_the_processor() }),
            6 if self.shared => self.state = mix(self.state, count()),
            7 => {
                let done = Journal::at(slot::JOURNAL).append(self.line, &self.state.to_le_bytes())?;
                let (Appended::New(place) | Appended::There(place, _)) = done;
                self.state = mix(self.state, place);
            }
            _ => {}
        }
        println!("{} {:016x}", self.line, self.state);
        self.line += 1;
        Ok(())
    }
}

impl Referee for Race {
    fn play(&mut self, caller: &mut Caller, player: u64, number: u64) -> Result<u64, Infallible> {
        self.goes_on(player, number).expect("the keys are there");
        caller.end = self.line == self.lines;
        Ok(self.state)
    }
}

/// Its argument: its number, whether it counts in the shared page, and above that a pause in microseconds, which the first one sleeps.
fn player(argument: u64) {
    let (me, shared, pause) = (argument & 0xff, argument >> 8 & 1 == 1, argument >> 9);
    let referee = RefereeClient::at(REFEREE);
    let mut number = me;
    loop {
        if me == 1 && pause > 0 {
            let now = Clock::at(CLOCK).monotonic().expect("there is a clock");
            let timer = Timer::at(TIMER);
            timer.set(now + pause * 1000).expect("there is a timer");
            number = mix(number, timer.wait().expect("it goes off"));
        }
        for _ in 0..number % 3000 {
            number = core::hint::black_box(number.rotate_left(7).wrapping_add(me));
        }
        if shared {
            number = mix(number, count());
        }
        match referee.play(me, number) {
            Ok(state) => number = mix(number, state),
            Err(_) => return,
        }
    }
}

fn main() -> Result<(), CallError<Infallible>> {
    let number = |n, usual| args().nth(n).and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(usual);
    let what_else = |word| args().nth(4).as_deref() == Some(word);
    let (lines, players, pause) = (number(1, 100), number(2, 3), number(3, 0));
    give_up(&[slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::MEMORY]);
    let (bank, meter, clock) = (Bank::at(slot::BANK), Meter::at(slot::METER), Clock::at(slot::CLOCK));
    let referee = Domain::at(slot::SELF).make_start_key(0)?;
    let timer = bank.buy_timer()?;
    let (by_the_processor, shared) = (what_else("rdrand"), what_else("shared"));
    let page = bank.buy_segment(1)?;
    let maps = |domain: &Domain| if shared { domain.map(SHARED, &page, 0, 1) } else { Ok(()) };
    maps(&Domain::at(slot::SELF))?;
    for n in 1..=players {
        let spawn = Spawn::new(&bank, &meter, player, n | u64::from(shared) << 8 | pause << 9).key(REFEREE, &referee);
        spawn.key(CLOCK, &clock).key(TIMER, &timer).begin_after(maps)?;
    }
    Race { line: 0, lines, state: 0, by_the_processor, shared }.serve()?;
    Ok(())
}
