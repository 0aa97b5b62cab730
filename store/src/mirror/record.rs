//! What each side of a mirrored store knows of all: the file `mirrors`.

use crate::ids::StoreId;
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_64;

/// The first line; a file with another is of another version, or none of ours.
const TITLE: &str = "Semper mirrors 1";

/// The most sides that a store can have: each one more is a copy more of every write.
pub const MAX_SIDES: usize = 4;

/// Epochs that are remembered. A side that has been away for more can only be filled anew.
const REMEMBERED: usize = 256;

/// Bytes that the file has at most.
pub(crate) const LONGEST: u64 = 64 << 10;

/// What a side is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It has all that was committed.
    Whole,
    /// It has what was committed before it went away.
    Away,
    /// It is being brought up to date: parts of it are old and parts are new.
    Filling,
    /// It is no side any more.
    Removed,
}

impl Worth {
    const ALL: [Self; 4] = [Self::Whole, Self::Away, Self::Filling, Self::Removed];

    fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Away => "away",
            Self::Filling => "filling",
            Self::Removed => "removed",
        }
    }
}

/// One side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its number, which no other side of the store ever has.
    pub number: u32,
    pub worth: Worth,
    /// Where it lies: an absolute path.
    pub place: String,
}

/// A time during which the same sides were whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub number: u64,
    /// Random, so that two sides that went on without each other are told apart.
    pub mark: u64,
}

/// The record as it lies in one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub store: StoreId,
    /// The number of the side in which it lies.
    pub own: u32,
    pub members: Vec<Member>,
    /// Oldest first; never empty.
    pub epochs: Vec<Epoch>,
}

impl Record {
    /// Of a store that gets its first mirror.
    pub fn new(store: StoreId, home: &str, mark: u64) -> Self {
        let home = Member { number: 0, worth: Worth::Whole, place: home.to_owned() };
        Self { store, own: 0, members: vec![home], epochs: vec![Epoch { number: 1, mark }] }
    }

    /// The epoch that it speaks of.
    pub fn epoch(&self) -> Epoch {
        *self.epochs.last().expect("a record has an epoch")
    }

    pub fn member(&self, number: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.number == number)
    }

    /// Whether what `other` speaks of is part of this record's past.
    pub fn follows(&self, other: &Self) -> bool {
        self.epochs.contains(&other.epoch())
    }

    /// Whether `other` speaks of a time that this record remembers no more.
    pub fn forgot(&self, other: &Self) -> bool {
        self.epochs[0].number > other.epoch().number
    }

    /// A new epoch with the members that `change` makes of these.
    pub fn next(&self, mark: u64, change: impl FnOnce(&mut Vec<Member>)) -> Self {
        let mut next = self.clone();
        change(&mut next.members);
        next.epochs.push(Epoch { number: self.epoch().number + 1, mark });
        let old = next.epochs.len().saturating_sub(REMEMBERED);
        next.epochs.drain(..old);
        next
    }

    /// What is to be remembered of a next one that could not be written everywhere: its epoch, which some may have, and the members of this one.
    pub fn after(&self, tried: Self) -> Self {
        Self { members: self.members.clone(), ..tried }
    }

    /// The same as it lies in the side `own`.
    pub fn text(&self, own: u32) -> String {
        let mut text = format!("{TITLE}\nstore {}\nside {own}\n", self.store);
        for Member { number, worth, place } in &self.members {
            let _ = writeln!(text, "member {number} {} {place}", worth.word());
        }
        for Epoch { number, mark } in &self.epochs {
            let _ = writeln!(text, "epoch {number} {mark:016x}");
        }
        let sum = xxh3_64(text.as_bytes());
        let _ = writeln!(text, "sum {sum:016x}");
        text
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let body = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).ok_or("it is cut short")? + 1;
        if !text.starts_with(&format!("{TITLE}\n")) {
            return Err("it is of another version, or something else");
        }
        let sum = text[body..].trim_end().strip_prefix("sum ").and_then(hex);
        if sum != Some(xxh3_64(&text.as_bytes()[..body])) {
            return Err("its checksum does not match");
        }
        parse_lines(&text[..body]).ok_or("it says what cannot be")
    }
}

fn parse_lines(text: &str) -> Option<Record> {
    let mut lines = text.lines().skip(1);
    let store = lines.next()?.strip_prefix("store ")?.parse().ok()?;
    let own = lines.next()?.strip_prefix("side ")?.parse().ok()?;
    let (mut members, mut epochs) = (Vec::new(), Vec::new());
    for line in lines {
        if let Some(rest) = line.strip_prefix("member ") {
            let mut parts = rest.splitn(3, ' ');
            let number = parts.next()?.parse().ok()?;
            let word = parts.next()?;
            let worth = Worth::ALL.into_iter().find(|worth| worth.word() == word)?;
            members.push(Member { number, worth, place: parts.next()?.to_owned() });
        } else {
            let (number, mark) = line.strip_prefix("epoch ")?.split_once(' ')?;
            epochs.push(Epoch { number: number.parse().ok()?, mark: hex(mark)? });
        }
    }
    let ascends = epochs.windows(2).all(|pair| pair[0].number < pair[1].number);
    let known = members.iter().any(|member| member.number == own);
    (ascends && known && !epochs.is_empty()).then_some(Record { store, own, members, epochs })
}

fn hex(text: &str) -> Option<u64> {
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(StoreId([7; 16]), "/a b/c", 5).next(9, |members| {
            members.push(Member { number: 1, worth: Worth::Filling, place: "/d".to_owned() });
        })
    }

    #[test]
    fn what_is_written_is_read_and_every_changed_byte_is_noticed() {
        let text = record().text(1);
        assert_eq!(Record::parse(&text).unwrap(), Record { own: 1, ..record() });
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Record::parse(&changed).is_err(), "byte {at}");
            assert!(Record::parse(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn sides_that_went_on_apart_are_told_from_one_that_is_late() {
        let start = record();
        let (one, other) = (start.next(1, |_| ()), start.next(2, |_| ()));
        assert!(one.follows(&start) && other.follows(&start) && !start.follows(&one));
        assert!(!one.follows(&other) && !other.next(3, |_| ()).follows(&one));
        let far = (0..300).fold(one, |record, mark| record.next(mark, |_| ()));
        assert!(far.forgot(&start) && far.epochs.len() == REMEMBERED);
    }
}
