//! A bank. Its accounts are start keys to one ledger, told apart by their badges: who holds the key to an account may pay from it, and
//! nobody else can. Tellers move money between accounts; an auditor, whose only key reads the book, finds the same total at every moment.
//! `bank [PAYMENTS]`, for each teller.
#![no_std]
#![no_main]

use core::convert::Infallible;
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Domain, Key, Meter, Segment, Start};
use semper_domain::{CallError, Caller, Error, Rights, Spawn, args, entry, failures, give_up, interface, println};

const ACCOUNTS: u64 = 8;
const TELLERS: u64 = 3;
const OPENING: u64 = 1000;

failures! {
    /// Why a payment is not made.
    pub enum Refusal {
        /// There is not enough money.
        Short = 1, "there is not enough money";
        /// There is no such account.
        Nobody = 2, "there is no such account";
    }
}

interface! {
    /// An account: the one of the badge.
    pub trait Account, client AccountClient, fails Refusal {
        /// Pays to another account; gives what is left.
        1 => fn pay(to: u64, amount: u64) -> u64;
        /// What is there.
        2 => fn balance() -> u64;
    }
}

interface! {
    /// A teller, as the one who made it sees it.
    pub trait Teller, client TellerClient, fails Infallible {
        /// Waits until it is done; how many payments were made, and how many refused?
        1 => fn report() -> (u64, u64);
    }
}

interface! {
    /// An auditor.
    pub trait Auditor, client AuditorClient, fails Infallible {
        /// Adds up the book so many times; how often was the total another one?
        1 => fn audit(times: u64, total: u64) -> u64;
    }
}

entry!(main);

/// Writes the book after each payment, as one string: whoever reads it finds a payment wholly or not at all.
struct Ledger {
    book: Segment,
    balances: [u64; ACCOUNTS as usize],
}

impl Ledger {
    fn write(&self) {
        let mut bytes = [0; 8 * ACCOUNTS as usize];
        for (place, balance) in bytes.chunks_exact_mut(8).zip(self.balances) {
            place.copy_from_slice(&balance.to_le_bytes());
        }
        self.book.write(0, &bytes).expect("the book is ours");
    }
}

impl Account for Ledger {
    fn pay(&mut self, caller: &mut Caller, to: u64, amount: u64) -> Result<u64, Refusal> {
        let from = caller.badge as usize;
        let to = usize::try_from(to).ok().filter(|to| *to < self.balances.len()).ok_or(Refusal::Nobody)?;
        self.balances[from] = self.balances[from].checked_sub(amount).ok_or(Refusal::Short)?;
        self.balances[to] += amount;
        self.write();
        Ok(self.balances[from])
    }

    fn balance(&mut self, caller: &mut Caller) -> Result<u64, Refusal> {
        Ok(self.balances[caller.badge as usize])
    }
}

/// Where the ledger and the auditor have the key to the book.
const BOOK: u8 = 0;

fn ledger(_: u64) {
    let mut ledger = Ledger { book: Segment::at(BOOK), balances: [OPENING; ACCOUNTS as usize] };
    ledger.write();
    ledger.serve().expect("a server can wait");
}

/// Reads the book.
struct Reader(Segment);

impl Auditor for Reader {
    fn audit(&mut self, _: &mut Caller, times: u64, total: u64) -> Result<u64, Infallible> {
        let mut wrong = 0;
        for _ in 0..times {
            let mut bytes = [0; 8 * ACCOUNTS as usize];
            self.0.read(0, &mut bytes).expect("the book may be read");
            let sum: u64 = bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap_or([0; 8]))).sum();
            wrong += u64::from(sum != total);
        }
        // The key does not let it write.
        assert!(matches!(self.0.write(0, &[1]), Err(Error::NoRight { .. })), "an auditor could write the book");
        Ok(wrong)
    }
}

fn auditor(_: u64) {
    Reader(Segment::at(BOOK)).serve().expect("a server can wait");
}

struct Report(u64, u64);

impl Teller for Report {
    fn report(&mut self, caller: &mut Caller) -> Result<(u64, u64), Infallible> {
        caller.end = true;
        Ok((self.0, self.1))
    }
}

/// Its argument: its number, and above it how many payments to make, from the accounts whose keys are in its slots 0 and 1.
fn teller(argument: u64) {
    let (me, payments) = (argument & 0xff, argument >> 8);
    let accounts = [AccountClient::at(0), AccountClient::at(1)];
    let mut random = me * 0x9e37_79b9_7f4a_7c15;
    let mut report = Report(0, 0);
    for _ in 0..payments {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (from, to, amount) = (&accounts[random as usize & 1], (random >> 8) % ACCOUNTS, (random >> 32) % 400);
        match from.pay(to, amount) {
            Ok(_) => report.0 += 1,
            Err(CallError::Refused(Refusal::Short)) => report.1 += 1,
            Err(error) => panic!("a payment: {error}"),
        }
    }
    report.serve().expect("a server can wait");
}

fn main() -> Result<(), CallError<Infallible>> {
    let payments = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(300);
    // What is not needed is not held.
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::SELF, slot::MEMORY]);
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));
    let book = bank.buy_segment(1)?;
    let ledger = Spawn::new(&bank, &meter, ledger, 0).key(BOOK, &book).begin()?.domain;
    let read_only = book.weaken(Rights::READ)?;
    let auditor = Spawn::new(&bank, &meter, auditor, 0).key(BOOK, &read_only).begin()?.domain;
    drop((book, read_only));

    let mut tellers: [Option<Domain>; TELLERS as usize] = [const { None }; TELLERS as usize];
    for (n, teller_key) in (1..).zip(&mut tellers) {
        let accounts: [Start; 2] = [ledger.make_start_key(2 * n - 2)?, ledger.make_start_key(2 * n - 1)?];
        let [first, second] = &accounts;
        let spawn = Spawn::new(&bank, &meter, teller, n | payments << 8).key(0, first).key(1, second);
        *teller_key = Some(spawn.begin()?.domain);
    }

    let total = ACCOUNTS * OPENING;
    let audit = AuditorClient::from(auditor.make_start_key(0)?);
    let mut wrong = audit.audit(200, total)?;
    let (mut made, mut refused) = (0, 0);
    for teller in tellers.into_iter().flatten() {
        let (done, short) = TellerClient::from(teller.make_start_key(0)?).report()?;
        (made, refused) = (made + done, refused + short);
        wrong += audit.audit(50, total)?;
    }
    assert_eq!(made + refused, TELLERS * payments);
    let mut sum = 0;
    for account in 0..ACCOUNTS {
        sum += AccountClient::from(ledger.make_start_key(account)?).balance().unwrap_or(0);
    }
    println!(
        "bank: {} payments by {TELLERS} tellers, the accounts hold {sum}, {wrong} audits disagree",
        made + refused
    );
    Ok(())
}
