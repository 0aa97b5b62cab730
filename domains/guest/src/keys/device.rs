//! Keys to what the kernel is and has.

use super::order;
use super::{Done, Key, keys};
use crate::abi::MAX_STRING;
use crate::{Call, Error, KeyType, Rights};
use alloc::vec::Vec;

keys! {
    /// Tells what keys are, without using them.
    Discrim;
    /// Tells the time.
    Clock;
    /// Wakes its waiter at a time, restarts or not.
    Timer: weaken;
    /// Random numbers.
    Random;
    /// A stream to the outside.
    Console: weaken;
    /// The log of the runtime.
    Log;
    /// Asks for checkpoints and waits for them.
    Checkpoint;
    /// Tells of restarts.
    Restart;
    /// Records that no roll-back touches.
    Journal: weaken;
}

/// What a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Classified {
    /// What it designates.
    pub key_type: KeyType,
    /// What its holder may do.
    pub rights: Rights,
    /// Whether it does anything.
    pub live: bool,
    /// Whether nothing can be sent outward by it. A factory key is judged by its own order.
    pub discreet: bool,
}

impl Discrim {
    /// What a key is, without using it.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no discrim key.
    pub fn classify(&self, key: &impl Key) -> Result<Classified, Error> {
        let call = Call::new(self.slot(), order::Discrim::CLASSIFY).key(0, key.slot());
        let [number, rights, live, discreet] = call.got()?;
        Ok(Classified {
            key_type: KeyType::from_number(number).unwrap_or(KeyType::Null),
            rights: Rights::from_bits(rights),
            live: live != 0,
            discreet: discreet != 0,
        })
    }

    /// Whether two keys designate the same object, and whether they are the same key.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no discrim key.
    pub fn compare(&self, a: &impl Key, b: &impl Key) -> Result<(bool, bool), Error> {
        let call = Call::new(self.slot(), order::Discrim::COMPARE).key(0, a.slot()).key(1, b.slot());
        call.got().map(|words| (words[0] != 0, words[1] != 0))
    }
}

impl Clock {
    /// The world's monotonic time in nanoseconds: it never goes back, and stands while the world does not run.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no clock key.
    pub fn monotonic(&self) -> Result<u64, Error> {
        Call::new(self.slot(), order::Clock::MONOTONIC).got().map(|words| words[0])
    }

    /// Wall time in nanoseconds since 1970.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no clock key.
    pub fn wall(&self) -> Result<u64, Error> {
        Call::new(self.slot(), order::Clock::WALL).got().map(|words| words[0])
    }
}

impl Timer {
    /// Sets the time of the monotonic clock, in nanoseconds, at which it goes off; 0: never.
    ///
    /// # Errors
    /// [`Error::NoRight`] without WRITE.
    pub fn set(&self, nanoseconds: u64) -> Result<(), Error> {
        Call::new(self.slot(), order::Timer::SET).words([nanoseconds]).done()
    }

    /// Waits until it goes off; returns when it did. At once if it has since it was set.
    ///
    /// # Errors
    /// [`Error::Busy`] if another domain waits for it.
    pub fn wait(&self) -> Result<u64, Error> {
        Call::new(self.slot(), order::Timer::WAIT).got().map(|words| words[0])
    }

    /// When it will go off, and when it went off; 0: not set, not gone off.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ.
    pub fn read(&self) -> Result<(u64, u64), Error> {
        Call::new(self.slot(), order::Timer::READ).got().map(|words| (words[0], words[1]))
    }
}

impl Random {
    /// 256 random bits.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no random key.
    pub fn words(&self) -> Result<[u64; 4], Error> {
        Call::new(self.slot(), order::Random::WORDS).got()
    }

    /// Fills `buffer` with random bytes.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no random key.
    pub fn fill(&self, buffer: &mut [u8]) -> Result<(), Error> {
        for part in buffer.chunks_mut(MAX_STRING) {
            Call::new(self.slot(), order::Random::BYTES).words([part.len() as u64]).call_into(part)?;
        }
        Ok(())
    }
}

impl Console {
    /// Writes. What is written leaves when a durable generation contains it.
    ///
    /// # Errors
    /// [`Error::NoRight`] without WRITE, [`Error::Rescinded`].
    pub fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        for part in bytes.chunks(MAX_STRING) {
            Call::new(self.slot(), order::Console::WRITE).string(part).done()?;
        }
        Ok(())
    }

    /// Waits for input, and takes at most so many bytes of it, 1 to [`MAX_STRING`]; none: its end.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ, [`Error::Rescinded`].
    pub fn read(&self, bytes: usize) -> Result<Vec<u8>, Error> {
        Call::new(self.slot(), order::Console::READ).words([bytes as u64]).call().map(|answer| answer.string)
    }
}

impl Log {
    /// A line for the log of the runtime, with the domain's name. What is longer than [`MAX_STRING`] becomes several.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no log key.
    pub fn write(&self, line: &[u8]) -> Result<(), Error> {
        for part in line.chunks(MAX_STRING) {
            Call::new(self.slot(), order::Log::WRITE).string(part).done()?;
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Asks for a checkpoint soon; does not wait.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no checkpoint key.
    pub fn request(&self) -> Result<(), Error> {
        Call::new(self.slot(), order::Checkpoint::REQUEST).done()
    }

    /// Asks for a checkpoint and waits until a durable generation contains this call; returns that.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ and WRITE.
    pub fn wait(&self) -> Result<u64, Error> {
        Call::new(self.slot(), order::Checkpoint::WAIT).got().map(|words| words[0])
    }

    /// The newest durable generation.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ.
    pub fn newest(&self) -> Result<u64, Error> {
        Call::new(self.slot(), order::Checkpoint::NEWEST).got().map(|words| words[0])
    }
}

/// A life of the world: from one start to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// How often the world was restarted.
    pub restarts: u64,
    /// What no other life has.
    pub id: [u64; 2],
    /// The generation from which it goes on.
    pub generation: u64,
}

impl Restart {
    /// How often the world was restarted, and what this life is called. Never rolled back.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no restart key.
    pub fn read(&self) -> Result<Life, Error> {
        let [restarts, first, second, generation] = Call::new(self.slot(), order::Restart::READ).got()?;
        Ok(Life { restarts, id: [first, second], generation })
    }

    /// When this life began, nanoseconds since 1970.
    ///
    /// # Errors
    /// As [`Restart::read`].
    pub fn when(&self) -> Result<u64, Error> {
        let [began, ..] = Call::new(self.slot(), order::Restart::WHEN).got()?;
        Ok(began)
    }
}

/// A record of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the journal.
    pub place: u64,
    /// The number that it was given.
    pub number: u64,
    /// When it was written, nanoseconds since 1970.
    pub time: u64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// What an append did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Appended {
    /// The record was written, at this place in the journal.
    New(u64),
    /// The number was used before, perhaps in a life that was rolled back: the place, and what was written then.
    There(u64, Vec<u8>),
}

impl Journal {
    /// Writes a record of at most [`MAX_STRING`] bytes, and waits until it is durable. A number that was used already finds its record,
    /// and nothing is written: so what the first append of a number decided holds for ever.
    ///
    /// # Errors
    /// [`Error::JournalFull`], [`Error::JournalBroken`], [`Error::NoRight`] without WRITE.
    pub fn append(&self, number: u64, bytes: &[u8]) -> Result<Appended, Error> {
        let answer = Call::new(self.slot(), order::Journal::APPEND).words([number]).string(bytes).call()?;
        let [place, there, ..] = answer.words;
        Ok(if there == 0 { Appended::New(place) } else { Appended::There(place, answer.string) })
    }

    /// The record of this number.
    ///
    /// # Errors
    /// [`Error::JournalBroken`], [`Error::NoRight`] without READ.
    pub fn find(&self, number: u64) -> Result<Option<Record>, Error> {
        self.one(order::Journal::FIND, number)
    }

    /// The record with the largest number that is not above this one.
    ///
    /// # Errors
    /// As [`Journal::find`].
    pub fn last(&self, number: u64) -> Result<Option<Record>, Error> {
        self.one(order::Journal::LAST, number)
    }

    /// The first record from this place in the journal on.
    ///
    /// # Errors
    /// As [`Journal::find`].
    pub fn next(&self, place: u64) -> Result<Option<Record>, Error> {
        self.one(order::Journal::NEXT, place)
    }

    fn one(&self, order: u32, word: u64) -> Result<Option<Record>, Error> {
        let answer = Call::new(self.slot(), order).words([word]).call()?;
        let [place, there, number, time] = answer.words;
        Ok((there != 0).then_some(Record { place, number, time, bytes: answer.string }))
    }
}
