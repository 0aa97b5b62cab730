//! A pager written as a domain. A segment begins without pages; whoever touches it faults, and the kernel calls the segment's keeper,
//! which makes the segment long enough, writes what belongs there, and lets the instruction run again. `pager [ROUNDS]`: so often the pages are taken away and read again.
#![no_std]
#![no_main]

use core::convert::Infallible;
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Domain, Key, Meter, Segment};
use semper_domain::{
    CallError, Caller, Error, Fault, Reply, Request, Server, Spawn, args, entry, give_up, interface, println,
};

const PAGE: u64 = 4096;
/// How many pages the segment can have.
const PAGES: u64 = 64;
/// Where the reader maps it.
const WINDOW: u64 = 0x1_0000_0000;
/// Where the pager has its key to the segment.
const SEGMENT: u8 = 0;
/// The badge of the key by which the kernel calls the pager. Others have other keys.
const KERNEL: u64 = 1;

interface! {
    /// The reader, as the one who made it sees it.
    pub trait Reader, client ReaderClient, fails Infallible {
        /// Reads every seventh page, then all: the sums of the words.
        1 => fn read() -> (u64, u64);
    }
}

entry!(main);

/// Word `n` of a page.
const fn word(page: u64, n: u64) -> u64 {
    page * 1_000_003 + n * 17
}

fn pager(_: u64) {
    let segment = Segment::at(SEGMENT);
    let mut faults = 0;
    let answer = |request: &mut Request<'_>| {
        let badge = request.badge;
        match Fault::from_request(request) {
            Some(Fault::Segment { page, .. }) if badge == KERNEL => match supply(&segment, page) {
                Ok(()) => {
                    faults += 1;
                    Reply::done()
                }
                Err(_) => Reply::code(1),
            },
            _ => Reply::words([faults]),
        }
    };
    Server::new().accepting(1).run(answer).expect("a server can wait");
}

/// Makes the segment reach to `page`, with what belongs there.
fn supply(segment: &Segment, page: u64) -> Result<(), Error> {
    let have = segment.pages()?;
    if page >= PAGES {
        return Err(Error::BadWord { word: 0, value: page });
    }
    if have > page {
        return Ok(());
    }
    segment.truncate(page + 1)?;
    for page in have..=page {
        let mut bytes = [0; PAGE as usize];
        for (place, n) in bytes.chunks_exact_mut(8).zip(0..) {
            place.copy_from_slice(&word(page, n).to_le_bytes());
        }
        segment.write(page * PAGE, &bytes)?;
    }
    Ok(())
}

struct Eye;

impl Reader for Eye {
    fn read(&mut self, _: &mut Caller) -> Result<(u64, u64), Infallible> {
        let sum = |page: u64| -> u64 {
            let at = (WINDOW + page * PAGE) as *const u64;
            // The segment is mapped there; a page that it does not have yet is the pager's affair.
            // SAFETY: mapped readable, and nobody writes a page after it was supplied.
            (0..PAGE / 8).map(|n| unsafe { at.add(n as usize).read_volatile() }).fold(0, u64::wrapping_add)
        };
        let some = (0..PAGES).step_by(7).map(sum).fold(0, u64::wrapping_add);
        let all = (0..PAGES).map(sum).fold(0, u64::wrapping_add);
        Ok((some, all))
    }
}

fn reader(_: u64) {
    Eye.serve().expect("a server can wait");
}

fn main() -> Result<(), CallError<Infallible>> {
    let rounds: u64 = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1);
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::SELF, slot::MEMORY]);
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));
    let segment = bank.buy_segment(PAGES)?;
    let pager = Spawn::new(&bank, &meter, pager, 0).key(SEGMENT, &segment).begin()?.domain;
    segment.set_keeper(Some(&pager.make_start_key(KERNEL)?))?;
    let reader: Domain = Spawn::new(&bank, &meter, reader, 0)
        .begin_after(|domain| {
            domain.map(WINDOW / PAGE, &segment, 0, PAGES)?;
            segment.truncate(0)
        })?
        .domain;
    let eye = ReaderClient::from(reader.make_start_key(0)?);
    let sum = |pages: &mut dyn Iterator<Item = u64>| {
        pages.flat_map(|page| (0..PAGE / 8).map(move |n| word(page, n))).fold(0, u64::wrapping_add)
    };
    let expected = (sum(&mut (0..PAGES).step_by(7)), sum(&mut (0..PAGES)));
    let mut right = true;
    for _ in 0..rounds {
        right &= eye.read()? == expected;
        segment.truncate(0)?;
    }
    let faults = pager.make_start_key(0)?.order(9).call()?.words[0];
    println!("pager: {PAGES} pages read {rounds} times, {faults} faults, contents right: {right}");
    Ok(())
}
