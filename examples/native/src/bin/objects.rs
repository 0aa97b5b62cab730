//! Very many objects in one bank: `objects N` buys N pages, keeps keys to a few of them, waits for a restart of the world if there is a second
//! argument, finds what it wrote, and destroys the bank.
#![no_std]
#![no_main]

use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Clock, Console, Key, Page, Quota, Restart};
use semper_domain::{Error, args, entry, println};

/// How many keys it keeps.
const KEPT: u64 = 16;

entry!(main);

fn main() -> Result<(), Error> {
    let mut numbers = args().skip(1).map(|arg| arg.parse::<u64>().unwrap_or(0));
    let count = numbers.next().unwrap_or(1000).max(KEPT);
    let (bank, clock) = (Bank::at(slot::BANK), Clock::at(slot::CLOCK));
    let kept = bank.buy_node()?;
    let purse = bank.buy_bank(Quota { pages: count, records: count })?;

    let begun = clock.monotonic()?;
    for n in 0..count {
        let page = purse.buy_page()?;
        let place = n * KEPT / count;
        if n == (place * count).div_ceil(KEPT) {
            page.write(0, &n.to_le_bytes())?;
            kept.store(place as u8, &page)?;
        }
    }
    let each = |begun: u64| Ok::<u64, Error>((clock.monotonic()? - begun) / count);
    println!("{} pages were bought", purse.usage()?.used.records);
    if numbers.next().is_some() {
        println!("buying one took {} ns", each(begun)?);
        let restart = Restart::at(slot::RESTART);
        let life = restart.read()?.id;
        // Whatever comes as input is only a moment to look.
        while restart.read()?.id == life && !Console::at(slot::CONSOLE).read(1)?.is_empty() {}
    }

    let mut right = 0;
    for place in 0..KEPT {
        let mut number = [0; 8];
        kept.fetch::<Page>(place as u8)?.read(0, &mut number)?;
        right += u64::from(u64::from_le_bytes(number) == (place * count).div_ceil(KEPT));
    }
    println!("{right} of {KEPT} hold what was written");
    let begun = clock.monotonic()?;
    purse.destroy()?;
    let gone = kept.fetch::<Page>(0)?.zero() == Err(Error::Void { which: semper_domain::Which::Invoked });
    println!("destroyed with their bank: {gone}");
    if args().nth(2).is_some() {
        println!("freeing one took {} ns", each(begun)?);
    }
    Ok(())
}
