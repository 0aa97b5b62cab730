//! A tour of the objects: each row of docs/objects.md is used by a domain, and a line tells what came of it. What needs a restart is in
//! `vigil`, what is refused in `refusals`, factories in `calculator`.
#![no_std]
#![no_main]

use core::arch::asm;
use semper_domain::abi::{RESUME_SLOT, slot};
use semper_domain::keys::{Bank, Clock, Console, Discrim, Domain, Key, Log, Meter, Page, Quota, Random, Resume, Start};
use semper_domain::{Error, Fault, Reply, Request, Rights, Server, Slot, Spawn, entry, give_up, println, serve};

const PAGE: u64 = 4096;
/// Where children map what they share with the first domain.
const WINDOW: u64 = 0x1_0000_0000;
/// The badge of the key by which the kernel calls the first domain as a keeper.
const KERNEL: u64 = 77;

entry!(main);

fn bank() -> Bank {
    Bank::at(slot::BANK)
}

fn meter() -> Meter {
    Meter::at(slot::METER)
}

/// Why something is refused, or that it is not.
fn refusal<T>(result: Result<T, Error>) -> Error {
    result.err().unwrap_or(Error::NoKernel)
}

/// A child's end: whoever calls it gets a number.
fn report(number: u64) {
    serve(|_| Reply::words([number]).and_end()).expect("a server can wait");
}

fn told(child: &Domain) -> Result<u64, Error> {
    child.make_start_key(0)?.order(1).call().map(|answer| answer.words[0])
}

/// A child that `finish` prepares.
fn child(start: fn(u64), finish: impl FnOnce(&Domain) -> Result<(), Error>) -> Result<Domain, Error> {
    Ok(Spawn::new(&bank(), &meter(), start, 0).heap(32 << 10).begin_after(finish)?.domain)
}

/// As a keeper: takes one message of the kernel's, does what `repair` does, and lets the domain go on.
fn keep(mut repair: impl FnMut(Fault) -> Result<u64, Error>) -> Result<u64, Error> {
    let mut found = Err(Error::Void { which: semper_domain::Which::Invoked });
    Server::new().accepting(1).run(|request: &mut Request<'_>| {
        let known = request.badge == KERNEL;
        found = Fault::from_request(request).filter(|_| known).map_or(Ok(0), &mut repair);
        Reply::code(u32::from(found.is_err())).and_end()
    })?;
    found
}

fn keeper_key() -> Result<Start, Error> {
    Domain::at(slot::SELF).make_start_key(KERNEL)
}

fn pages() -> Result<(), Error> {
    let page = bank().buy_page()?;
    page.write(4090, b"inside")?;
    let mut bytes = [0; 6];
    page.read(4090, &mut bytes)?;
    let weaker = page.weaken(Rights::READ)?;
    println!("page: reads {:?}, {}", core::str::from_utf8(&bytes), refusal(weaker.write(0, b"x")));
    page.zero()?;
    weaker.read(4090, &mut bytes)?;
    println!("page: then holds {bytes:?}");
    drop(weaker);
    // Mapped by a key that reads, it cannot be written, whatever the domain does.
    let read_only = page.weaken(Rights::READ)?;
    let keeper = keeper_key()?;
    let writer = child(writes, |domain| {
        domain.map(WINDOW / PAGE, &read_only, 0, 1)?;
        domain.set_keeper(Some(&keeper))
    })?;
    let address = keep(|fault| match fault {
        Fault::Domain { signal, address, domain: Some(domain), .. } => {
            // The writer gets the right that it lacks.
            domain.unmap(WINDOW / PAGE)?;
            domain.map(WINDOW / PAGE, &page, 0, 1)?;
            Ok(address << 8 | signal)
        }
        _ => Err(Error::Busy),
    })?;
    println!("page: a write to a read-only mapping is signal {} at {:#x}", address & 0xff, address >> 8);
    println!("page: mapped writable, it goes on and reads {}", told(&writer)?);
    bank().sell(&page)?;
    println!("page: sold, {}", refusal(page.zero()));
    Ok(())
}

fn writes(_: u64) {
    let word = WINDOW as *mut u64;
    // SAFETY: what is mapped there is this domain's to write; where it is not, it faults.
    unsafe { word.write_volatile(6) };
    // SAFETY: as above.
    report(unsafe { word.read_volatile() });
}

fn segments() -> Result<(), Error> {
    let segment = bank().buy_segment(2)?;
    segment.write(2 * PAGE - 1, &[1])?;
    println!("segment: {} pages; beyond them, {}", segment.pages()?, refusal(segment.write(2 * PAGE - 1, &[1, 2])));
    segment.truncate(1)?;
    segment.truncate(2)?;
    let mut byte = [9];
    segment.read(2 * PAGE - 1, &mut byte)?;
    println!("segment: cut and grown again it reads {}", byte[0]);
    let weaker = segment.weaken(Rights::READ)?;
    println!("segment: {}; {}", refusal(weaker.zero(0, 1)), refusal(weaker.truncate(1)));
    drop(weaker);
    // A keeper supplies what a domain touches beyond its end.
    let keeper = keeper_key()?;
    segment.set_keeper(Some(&keeper))?;
    drop(keeper);
    let reader = child(touches, |domain| {
        segment.truncate(8)?;
        domain.map(WINDOW / PAGE, &segment, 0, 8)?;
        segment.truncate(1)
    })?;
    let page = keep(|fault| match fault {
        Fault::Segment { page, .. } => {
            segment.truncate(page + 1)?;
            segment.write(page * PAGE, &[42])?;
            Ok(page)
        }
        _ => Err(Error::Busy),
    })?;
    println!("segment: its keeper supplied page {page}, the reader read {}", told(&reader)?);
    bank().sell(&segment)
}

fn touches(_: u64) {
    // SAFETY: what is mapped there may be read; where the segment does not reach, it faults.
    report(unsafe { ((WINDOW + 5 * PAGE) as *const u8).read_volatile() }.into());
}

fn nodes() -> Result<(), Error> {
    let (node, page) = (bank().buy_node()?, bank().buy_page()?);
    page.write(0, b"in")?;
    node.store(15, &page)?;
    let other = bank().buy_page()?;
    node.swap(15, &other)?;
    let mut bytes = [0; 2];
    other.read(0, &mut bytes)?;
    println!("node: swapped, the other slot holds {:?}", core::str::from_utf8(&bytes));
    drop(other);
    node.store(15, &page)?;
    drop(page);
    let fetch_only = node.weaken(Rights::READ.or(Rights::STRONG))?;
    println!("node: {}", refusal(fetch_only.clear()));
    drop(fetch_only);
    let weak = node.weaken(Rights::READ)?;
    let fetched: Page = weak.fetch(15)?;
    fetched.read(0, &mut bytes)?;
    println!("node: through a weak key a page is read, but {}", refusal(fetched.write(0, b"x")));
    drop(fetched);
    node.store(1, &meter())?;
    println!("node: through a weak key a meter is nothing: {}", refusal(weak.fetch::<Meter>(1)));
    node.clear()?;
    println!("node: cleared, {}", refusal(node.fetch::<Page>(15)));
    Ok(())
}

/// Says that it is there, and waits until somebody changes one of its registers.
fn spins(_: u64) {
    let mut number: u64 = 0;
    // SAFETY: it writes to the page that is mapped there for that.
    unsafe {
        asm!("2: mov qword ptr [rsi], 1", "test rdi, rdi", "jz 2b", in("rsi") WINDOW, inout("rdi") number, options(nostack));
    }
    report(number);
}

fn domains() -> Result<(), Error> {
    let there = bank().buy_page()?;
    let child = child(spins, |domain| domain.map(WINDOW / PAGE, &there, 0, 1))?;
    let state = child.state()?;
    println!("domain: {}, stopped: {}; {}", state.state, state.stopped, refusal(child.registers()));
    let mut byte = [0];
    while byte == [0] {
        there.read(0, &mut byte)?;
    }
    child.stop()?;
    let mut registers = child.general_registers()?;
    println!(
        "domain: stopped: {}, its registers hold {:#x} and {}",
        child.state()?.stopped,
        registers.rsi,
        registers.rdi
    );
    registers.rdi = 7;
    child.set_registers(&registers.as_bytes())?;
    child.start()?;
    println!("domain: with another register it goes on and reports {}", told(&child)?);
    child.set_slot(3, &Clock::at(slot::CLOCK))?;
    let copy: Clock = child.get_slot(3)?;
    println!("domain: a key of its slots tells the time: {}", copy.monotonic()? > 0);
    child.clear_slot(3)?;
    println!("domain: cleared, {}", refusal(child.get_slot::<Clock>(3)));
    drop(copy);
    let weaker = child.weaken(Rights::READ)?;
    println!("domain: {}", refusal(weaker.stop()));
    bank().sell(&child)?;
    println!("domain: sold, {}", refusal(weaker.state()));
    Ok(())
}

fn echoes(_: u64) {
    serve(|request| Reply::words([request.badge, request.words[0]])).expect("a server can wait");
}

fn start_keys() -> Result<(), Error> {
    let server = child(echoes, |_| Ok(()))?;
    let start = server.make_start_key(123_456)?;
    let words = start.order(9).words([5]).call()?.words;
    println!("start: the callee sees badge {} and word {}", words[0], words[1]);
    let no_call = start.no_call()?;
    println!("start: {}; a send: {:?}", refusal(no_call.order(1).call()), no_call.order(1).send());
    server.revoke_start_keys()?;
    println!("start: revoked, {}", refusal(start.order(1).call()));
    Ok(())
}

/// Answers its first caller by a copy of the resume key, then tries another copy; tells the next what came of it.
fn answers_twice(_: u64) {
    let mut second = 0;
    serve(|request| {
        if request.order == 1 {
            let copies = [(); 2].map(|()| Slot::fixed(RESUME_SLOT).copy().map(Resume::from));
            let [Ok(one), Ok(other)] = copies else { return Reply::code(2) };
            let _ = one.answer(0).words([1]).send();
            second = u64::from(matches!(other.answer(0).words([2]).send(), Err(Error::Void { .. })));
        }
        Reply::words([second])
    })
    .expect("a server can wait");
}

fn resume_keys() -> Result<(), Error> {
    let server = child(answers_twice, |_| Ok(()))?;
    let start = server.make_start_key(0)?;
    let first = start.order(1).call()?.words[0];
    println!("resume: answered with {first}; the other copy was void: {}", start.order(2).call()?.words[0] == 1);
    Ok(())
}

/// Computes for longer than its budget.
fn computes(_: u64) {
    let mut sum = 0_u64;
    for n in 0..100_000_000_u64 {
        sum = core::hint::black_box(sum ^ n);
    }
    report(sum);
}

fn meters() -> Result<(), Error> {
    let budget = meter().make(1_000_000, &bank())?;
    let keeper = keeper_key()?;
    budget.set_keeper(Some(&keeper))?;
    drop(keeper);
    let computer = child(computes, |domain| domain.set_meter(&budget))?;
    let used = keep(|fault| match fault {
        Fault::Meter { used, meter: Some(meter) } => {
            meter.set(Meter::UNLIMITED)?;
            Ok(used)
        }
        _ => Err(Error::Busy),
    })?;
    println!("meter: its keeper was called with all of it used: {}", used >= 1_000_000);
    println!("meter: granted more, the domain ends its sum: {}", told(&computer)?);
    println!("meter: {}", refusal(budget.weaken(Rights::READ)?.grant(1)));
    Ok(())
}

fn banks() -> Result<(), Error> {
    let purse = bank().buy_bank(Quota { pages: 3, records: 20 })?;
    let pages = [purse.buy_page()?, purse.buy_page()?];
    let used = purse.usage()?;
    println!(
        "bank: {} of {} pages, {} of {} records",
        used.used.pages, used.allowed.pages, used.used.records, used.allowed.records
    );
    println!("bank: {}", refusal(purse.buy_segment(2)));
    let [first, second] = pages;
    purse.sell(&first)?;
    println!("bank: sold back, {} pages; {}", purse.usage()?.used.pages, refusal(first.zero()));
    drop(first);
    println!("bank: {}", refusal(bank().sell(&second)));
    let stale = second.copy()?;
    purse.renew(&second)?;
    println!("bank: renewed, {}; the new key writes: {:?}", refusal(stale.zero()), second.zero());
    drop(stale);
    let below = purse.buy_bank(Quota { pages: 100, records: 100 })?;
    println!("bank: below a quota, {}", refusal(below.buy_segment(3)));
    purse.set_limit(Quota { pages: 1, records: 100 })?;
    println!("bank: with a smaller quota, {}", refusal(below.buy_page()));
    purse.destroy()?;
    println!("bank: destroyed, {}; {}", refusal(second.zero()), refusal(below.usage()));
    Ok(())
}

fn illegal(_: u64) {
    // SAFETY: a fault, which the keeper steps over.
    unsafe { asm!("ud2", options(nomem, nostack)) };
    report(11);
}

fn domain_keeper() -> Result<(), Error> {
    let keeper = keeper_key()?;
    let faulty = child(illegal, |domain| domain.set_keeper(Some(&keeper)))?;
    drop(keeper);
    let signal = keep(|fault| match fault {
        Fault::Domain { signal, domain: Some(domain), .. } => {
            let mut registers = domain.general_registers()?;
            registers.rip += 2;
            domain.set_registers(&registers.as_bytes())?;
            Ok(signal)
        }
        _ => Err(Error::Busy),
    })?;
    println!("keeper: signal {signal} is stepped over, the domain reports {}", told(&faulty)?);
    Ok(())
}

fn devices() -> Result<(), Error> {
    let discrim = Discrim::at(slot::DISCRIM);
    let page = bank().buy_page()?;
    let seen = discrim.classify(&page)?;
    println!("discrim: a {} key with {}, live: {}, discreet: {}", seen.key_type, seen.rights, seen.live, seen.discreet);
    let seen = discrim.classify(&Console::at(slot::CONSOLE))?;
    println!("discrim: a {} key, discreet: {}", seen.key_type, seen.discreet);
    let weaker = page.weaken(Rights::READ)?;
    println!("discrim: the same object, the same key: {:?}", discrim.compare(&page, &weaker)?);
    bank().sell(&page)?;
    println!("discrim: sold, live: {}", discrim.classify(&weaker)?.live);

    let clock = Clock::at(slot::CLOCK);
    let (before, after) = (clock.monotonic()?, clock.monotonic()?);
    println!("clock: goes on: {}, tells the year: {}", after > before, clock.wall()? > 1_700_000_000_000_000_000);

    let random = Random::at(slot::RANDOM);
    let mut bytes = [0; 64];
    random.fill(&mut bytes)?;
    println!("random: differs: {}", random.words()? != random.words()? && bytes.iter().any(|byte| *byte != bytes[0]));

    let timer = bank().buy_timer()?;
    let at = clock.monotonic()? + 20_000_000;
    timer.set(at)?;
    println!("timer: goes off at its time: {}", timer.wait()? >= at);
    let reader = timer.weaken(Rights::READ)?;
    println!("timer: {}; {:?}", refusal(reader.set(1)), reader.read()?);

    Log::at(slot::LOG).write(b"a line of the tour")?;
    println!("log: written");
    Ok(())
}

fn main() -> Result<(), Error> {
    give_up(&[slot::MEMORY, slot::CHECKPOINT, slot::RESTART]);
    pages()?;
    segments()?;
    nodes()?;
    domains()?;
    start_keys()?;
    resume_keys()?;
    meters()?;
    banks()?;
    domain_keeper()?;
    devices()?;
    let line = Console::at(slot::CONSOLE).read(100)?;
    println!("console: {:?}; its end: {}", core::str::from_utf8(&line), Console::at(slot::CONSOLE).read(1)?.len());
    println!("tour: done");
    Ok(())
}
