//! A crowd: so many domains, each an account and a server, that pay each other in an order that chance chooses. A payment is a message
//! that makes its receiver pay on, up to four times. After each round the book is compared with what plain arithmetic says: each message
//! was counted once by who sent it and once by who took it, and the accounts hold together what they held at first.
//! `crowd MEMBERS BUSY PAYERS ROUNDS PAYMENTS [wait]`: of the members only the first BUSY are ever paid; each payer begins so many payments a
//! round. With `wait` the first round begins after a line of input.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use semper_domain::abi::slot;
use semper_domain::keys::{Bank, Console, Key, Meter, Node, Segment, Start};
use semper_domain::{CallError, Caller, Error, Rights, Spawn, args, entry, give_up, interface, println};

/// What an account holds at first.
const OPENING: i64 = 1000;
/// A payment goes on at most so often.
const HOPS: u64 = 4;
/// Keys in a node.
const FAN: u64 = 16;

interface! {
    /// An account that pays on.
    pub trait Member, client MemberClient, fails Infallible {
        /// Takes an amount, and pays on to a member behind it that `seed` chooses, if there are hops left.
        1 => fn pay(amount: u64, hops: u64, seed: u64);
        /// What it has, how many messages it took, and how many it sent.
        2 => fn tell() -> (u64, u64, u64);
    }
}

interface! {
    /// Somebody who begins payments, as the one who made it sees it.
    pub trait Payer, client PayerClient, fails Infallible {
        /// Waits until its round is done.
        2 => fn done();
    }
}

entry!(main);

/// Where members and payers have the directory of all of them, and the book.
const DIRECTORY: u8 = 0;
const BOOK: u8 = 1;

/// How large the crowd is: what everybody is told as its argument.
#[derive(Clone, Copy)]
struct Crowd {
    /// Its own number: members first, then payers.
    me: u64,
    busy: u64,
    /// Levels of the directory.
    levels: u64,
}

impl Crowd {
    const fn argument(self) -> u64 {
        self.me | self.busy << 24 | self.levels << 48
    }

    const fn from_argument(argument: u64) -> Self {
        Self { me: argument & 0xff_ffff, busy: argument >> 24 & 0xff_ffff, levels: argument >> 48 }
    }
}

/// The next of a row of numbers that look random.
const fn next(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// To whom number `me` pays on, and how much; only to members behind it, so that nobody waits for himself. None: there is none.
const fn choice(me: u64, busy: u64, seed: u64) -> Option<(u64, i64)> {
    if me + 1 >= busy {
        return None;
    }
    Some((me + 1 + seed % (busy - me - 1), (seed >> 40) as i64 % 500 - 200))
}

/// A line of the book.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Account {
    holds: i64,
    took: u64,
    sent: u64,
}

impl Account {
    const BYTES: u64 = 32;

    fn from_bytes(bytes: &[u8]) -> Self {
        let word = |n: usize| bytes[8 * n..8 * n + 8].try_into().map_or(0, u64::from_le_bytes);
        // One that was never written is one that nobody paid.
        Self { holds: if word(3) == 0 { OPENING } else { word(0) as i64 }, took: word(1), sent: word(2) }
    }

    fn write(&self, book: &Segment, number: u64) -> Result<(), Error> {
        let mut bytes = [0; Self::BYTES as usize];
        for (place, word) in bytes.chunks_exact_mut(8).zip([self.holds as u64, self.took, self.sent, 1]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        book.write(number * Self::BYTES, &bytes)
    }
}

/// The directory: nodes of nodes, and in the last ones start keys.
fn look_up(root: &Node, levels: u64, number: u64) -> Result<Start, Error> {
    let digit = |level: u64| (number / FAN.pow((levels - 1 - level) as u32) % FAN) as u8;
    let mut node: Option<Node> = None;
    for level in 0..levels - 1 {
        node = Some(node.as_ref().unwrap_or(root).fetch(digit(level))?);
    }
    node.as_ref().unwrap_or(root).fetch(digit(levels - 1))
}

/// The directory while it is filled: the nodes on the way to the last entry.
struct Filling {
    path: Vec<Node>,
    levels: u64,
    count: u64,
}

impl Filling {
    fn add(&mut self, bank: &Bank, key: &Start) -> Result<(), Error> {
        for level in 0..self.levels {
            let below = FAN.pow((self.levels - 1 - level) as u32);
            let digit = (self.count / below % FAN) as u8;
            if level + 1 == self.levels {
                self.path[level as usize].store(digit, key)?;
            } else if self.count.is_multiple_of(below) {
                self.path.truncate(level as usize + 1);
                let node = bank.buy_node()?;
                self.path[level as usize].store(digit, &node)?;
                self.path.push(node);
            }
        }
        self.count += 1;
        Ok(())
    }
}

/// A member or a payer at work.
struct Worker {
    crowd: Crowd,
    account: Account,
    directory: Node,
    book: Segment,
}

impl Worker {
    fn new(argument: u64) -> Self {
        let (directory, book) = (Node::at(DIRECTORY), Segment::at(BOOK));
        let account = Account { holds: OPENING, ..Account::default() };
        Self { crowd: Crowd::from_argument(argument), account, directory, book }
    }

    fn pay_on(&mut self, to: u64, amount: i64, hops: u64, seed: u64) {
        self.account.holds -= amount;
        self.account.sent += 1;
        let key = look_up(&self.directory, self.crowd.levels, to).expect("everybody is in the directory");
        MemberClient::from(key).pay(amount as u64, hops, seed).expect("a member takes what it is paid");
    }

    fn note(&self) {
        self.account.write(&self.book, self.crowd.me).expect("the book can be written");
    }
}

impl Member for Worker {
    fn pay(&mut self, _: &mut Caller, amount: u64, hops: u64, seed: u64) -> Result<(), Infallible> {
        self.account.holds += amount as i64;
        self.account.took += 1;
        if hops > 0
            && let Some((to, amount)) = choice(self.crowd.me, self.crowd.busy, seed)
        {
            self.pay_on(to, amount, hops - 1, next(seed));
        }
        self.note();
        Ok(())
    }

    fn tell(&mut self, _: &mut Caller) -> Result<(u64, u64, u64), Infallible> {
        Ok((self.account.holds as u64, self.account.took, self.account.sent))
    }
}

fn member(argument: u64) {
    Worker::new(argument).serve().expect("a server can wait");
}

/// The seed of a payment.
const fn seed_of(payer: u64, round: u64, n: u64) -> u64 {
    next(next(payer << 32 | round) ^ n)
}

/// Sent by the one who made it: the number of the round, and how many payments.
const ROUND: u32 = 1;

fn payer(argument: u64) {
    let mut me = Worker::new(argument);
    semper_domain::serve(|request| {
        if request.order == ROUND {
            let [round, payments, ..] = request.words;
            for n in 0..payments {
                let seed = seed_of(me.crowd.me, round, n);
                me.pay_on(seed % me.crowd.busy, (seed >> 32) as i64 % 300, HOPS, next(seed));
            }
            me.note();
        }
        semper_domain::Reply::done()
    })
    .expect("a server can wait");
}

/// What the book has to say, by plain arithmetic.
struct Model {
    busy: u64,
    accounts: Vec<Account>,
    messages: u64,
}

impl Model {
    fn pay(&mut self, payer: usize, number: u64, round: u64, n: u64) {
        let seed = seed_of(number, round, n);
        let (mut from, mut to, mut amount, mut seed) = (payer, seed % self.busy, (seed >> 32) as i64 % 300, next(seed));
        for hops in (0..=HOPS).rev() {
            self.accounts[from].holds -= amount;
            self.accounts[from].sent += 1;
            self.accounts[to as usize].holds += amount;
            self.accounts[to as usize].took += 1;
            self.messages += 1;
            let Some((behind, on)) = choice(to, self.busy, seed).filter(|_| hops > 0) else { return };
            (from, to, amount, seed) = (to as usize, behind, on, next(seed));
        }
    }
}

/// The crowd, as the one who made it sees it.
struct Made {
    members: u64,
    payers: u64,
    levels: u64,
    directory: Node,
    book: Segment,
    model: Model,
}

impl Made {
    fn new([members, busy, payers]: [u64; 3]) -> Result<Self, Error> {
        let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));
        let everybody = members + payers;
        let levels = (1..).find(|levels| FAN.pow(*levels) >= everybody).map_or(1, u64::from);
        let book = bank.buy_segment((everybody * Account::BYTES).div_ceil(4096))?;
        let root = bank.buy_node()?;
        let directory = root.weaken(Rights::READ.or(Rights::STRONG))?;
        let mut filling = Filling { path: vec![root], levels, count: 0 };
        for me in 0..everybody {
            let start = if me < members { member } else { payer };
            let argument = Crowd { me, busy, levels }.argument();
            let spawn = Spawn::new(&bank, &meter, start, argument).share_code().heap(16 << 10).stack(16 << 10);
            let domain = spawn.key(DIRECTORY, &directory).key(BOOK, &book).begin()?.domain;
            filling.add(&bank, &domain.make_start_key(me)?)?;
        }
        let accounts = vec![Account { holds: OPENING, ..Account::default() }; (busy + payers) as usize];
        Ok(Self { members, payers, levels, directory, book, model: Model { busy, accounts, messages: 0 } })
    }

    fn key(&self, number: u64) -> Result<Start, Error> {
        look_up(&self.directory, self.levels, number)
    }

    fn round(&mut self, round: u64, payments: u64) -> Result<(), CallError<Infallible>> {
        for payer in 0..self.payers {
            self.key(self.members + payer)?.order(ROUND).words([round, payments]).send()?;
            for n in 0..payments {
                self.model.pay((self.model.busy + payer) as usize, self.members + payer, round, n);
            }
        }
        for payer in 0..self.payers {
            PayerClient::from(self.key(self.members + payer)?).done()?;
        }
        Ok(())
    }

    /// The book: those who can be paid, then the payers.
    fn book(&self) -> Result<Vec<Account>, Error> {
        let mut bytes = vec![0; (self.model.busy * Account::BYTES) as usize];
        self.book.read(0, &mut bytes)?;
        let mut rest = vec![0; (self.payers * Account::BYTES) as usize];
        self.book.read(self.members * Account::BYTES, &mut rest)?;
        bytes.extend(rest);
        Ok(bytes.chunks_exact(Account::BYTES as usize).map(Account::from_bytes).collect())
    }

    fn audit(&self, what: &str, found: &[Account]) {
        let sum: i64 = found.iter().map(|account| account.holds).sum();
        let (took, sent) = found.iter().fold((0, 0), |(took, sent), a| (took + a.took, sent + a.sent));
        let wrong = found.iter().zip(&self.model.accounts).filter(|(found, wanted)| found != wanted).count();
        let untouched = (self.members - self.model.busy) as i64 * OPENING;
        println!("{what}: {sent} sent, {took} taken, the accounts hold {}, {wrong} are wrong", sum + untouched);
    }
}

fn main() -> Result<(), CallError<Infallible>> {
    let mut numbers = args().skip(1).map(|arg| arg.parse::<u64>().unwrap_or(1).max(1));
    let mut number = |default: u64| numbers.next().unwrap_or(default);
    let members = number(1000);
    let busy = number(members).min(members);
    let (payers, rounds, payments) = (number(40), number(3), number(10));
    let waits = args().nth(6).is_some_and(|arg| arg == "wait");
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::SELF, slot::MEMORY, slot::LOG]);
    let mut made = Made::new([members, busy, payers])?;
    println!("crowd: {members} members and {payers} payers");
    if waits {
        Console::at(slot::CONSOLE).read(100)?;
    }
    for round in 1..=rounds {
        made.round(round, payments)?;
        made.audit(&alloc::format!("round {round}"), &made.book()?);
    }
    // The members themselves remember the same as the book.
    let mut told = Vec::new();
    for number in 0..busy {
        let (holds, took, sent) = MemberClient::from(made.key(number)?).tell()?;
        told.push(Account { holds: holds as i64, took, sent });
    }
    told.extend_from_slice(&made.book()?[busy as usize..]);
    made.audit("crowd", &told);
    assert_eq!(made.model.messages, told.iter().map(|account| account.took).sum::<u64>());
    Ok(())
}
