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
}

impl Restart {
    /// How often the world was restarted, and what this life is called. Never rolled back.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] if this is no restart key.
    pub fn read(&self) -> Result<Life, Error> {
        let [restarts, first, second, _] = Call::new(self.slot(), order::Restart::READ).got()?;
        Ok(Life { restarts, id: [first, second] })
    }
}
