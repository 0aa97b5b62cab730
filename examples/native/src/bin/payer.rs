//! Decides a random token for each of so many payments, once for all lives of the world: what the journal has is what holds.
#![no_std]
#![no_main]

use semper_domain::abi::slot;
use semper_domain::keys::{Appended, Journal, Key, Random};
use semper_domain::{Error, args, entry, println};

entry!(main);

fn main() -> Result<(), Error> {
    let payments: u64 = args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let (journal, random) = (Journal::at(slot::JOURNAL), Random::at(slot::RANDOM));
    let mut found = 0;
    for number in 1..=payments {
        let [token, ..] = random.words()?;
        let token = match journal.append(number, &token.to_le_bytes())? {
            Appended::New(_) => token,
            Appended::There(_, bytes) => {
                found += 1;
                bytes.try_into().map(u64::from_le_bytes).unwrap_or(0)
            }
        };
        println!("pay {number} {token:016x}");
    }
    let last = journal.last(u64::MAX)?.map_or(0, |record| record.number);
    let (mut count, mut place) = (0, 0);
    while let Some(record) = journal.next(place)? {
        (count, place) = (count + 1, record.place + 1);
    }
    let first = journal.find(1)?.is_some_and(|record| record.bytes.len() == 8);
    println!("payer: {count} records, the last is {last}, the first is there: {first}");
    // Not told by how many lives it took: the log says.
    semper_domain::keys::Log::at(slot::LOG).write(if found > 0 {
        b"some were found again"
    } else {
        b"none was found again"
    })
}
