//! The domain's key slots: which are free, and who has which.

use crate::abi::{self, Message, OWN, SLOTS};
use crate::keys::order::Own;
use crate::{Error, raw};
use core::sync::atomic::{AtomicU32, Ordering};

/// The slots that hold keys at the beginning of the first domain of a program, if the kernel does not say: [`abi::slot`].
pub(crate) const FIRST_KEYS: u32 = ((1 << (abi::slot::IMAGE + 1)) - 1) | (1 << abi::slot::JOURNAL);

/// In [`TAKEN`]: the other bits mean something.
const KNOWN: u32 = 1 << 31;

/// Bit by bit, the slots that are in use. The kernel is asked which hold keys when the first one is taken: an operator may have
/// given some.
static TAKEN: AtomicU32 = AtomicU32::new(if cfg!(test) { FIRST_KEYS | KNOWN } else { 0 });

/// Says which slots hold keys when the program begins.
pub(crate) fn set_taken(taken: u32) {
    TAKEN.store(taken | KNOWN, Ordering::Relaxed);
}

/// The slots that are in use.
fn taken() -> u32 {
    let taken = TAKEN.load(Ordering::Relaxed);
    if taken & KNOWN != 0 {
        return taken;
    }
    set_taken(Slot::used().unwrap_or(FIRST_KEYS));
    TAKEN.load(Ordering::Relaxed)
}

/// A key slot of this domain. One that was taken is emptied and free again when this value is dropped; one that is
/// [fixed](Slot::fixed) is left as it is.
#[derive(PartialEq, Eq, Debug)]
pub struct Slot {
    number: u8,
    taken: bool,
}

impl Slot {
    /// A free slot; it is empty.
    ///
    /// # Errors
    /// [`Error::NoFreeSlot`].
    pub fn take() -> Result<Self, Error> {
        taken();
        let take = |taken: u32| (taken.trailing_ones() < u32::from(SLOTS)).then(|| taken | (taken + 1));
        let before = TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_err(|_| Error::NoFreeSlot)?;
        let number = u8::try_from(before.trailing_ones()).map_err(|_| Error::NoFreeSlot)?;
        Ok(Self { number, taken: true })
    }

    /// The slot of this number, whatever it holds: a well-known one such as [`abi::slot::CONSOLE`]. It is not emptied at the end.
    #[must_use]
    pub const fn fixed(number: u8) -> Self {
        Self { number, taken: false }
    }

    /// The slot of this number as one that is emptied and freed when the value is dropped: a key that the program was begun with and
    /// will not need for ever.
    #[must_use]
    pub const fn owned(number: u8) -> Self {
        Self { number, taken: true }
    }

    /// How many slots are free.
    #[must_use]
    pub fn free() -> u32 {
        u32::from(SLOTS) - (taken() & ((1 << SLOTS) - 1)).count_ones()
    }

    /// Which of the slots hold a key, void or not: bit by bit.
    ///
    /// # Errors
    /// [`Error::NoKernel`].
    pub fn used() -> Result<u32, Error> {
        let words = own_words(Own::USED, [0; 4])?;
        Ok(u32::try_from(words[0]).unwrap_or(FIRST_KEYS))
    }

    /// Its number, as messages carry it.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Another slot with the same key.
    ///
    /// # Errors
    /// [`Error::NoFreeSlot`].
    pub fn copy(&self) -> Result<Self, Error> {
        let copy = Self::take()?;
        own_order(Own::COPY, [self.number.into(), copy.number.into(), 0, 0])?;
        Ok(copy)
    }

    /// Exchanges the keys of two slots.
    ///
    /// # Errors
    /// [`Error::BadWord`] for a number that is no slot's.
    pub fn exchange(&self, other: &Self) -> Result<(), Error> {
        own_order(Own::EXCHANGE, [self.number.into(), other.number.into(), 0, 0])
    }

    /// Empties it.
    ///
    /// # Errors
    /// [`Error::BadWord`] for a number that is no slot's.
    pub fn clear(&self) -> Result<(), Error> {
        own_order(Own::CLEAR, [self.number.into(), 0, 0, 0])
    }

    /// Takes rights from the key in it, whatever its type.
    ///
    /// # Errors
    /// [`Error::BadWord`] for a number that is no slot's.
    pub fn weaken(&self, keep: crate::Rights) -> Result<(), Error> {
        own_order(Own::WEAKEN, [self.number.into(), keep.bits(), 0, 0])
    }
}

/// Gives up keys that the program was begun with, by slot: what it does not need it shall not hold. Their slots are free then.
pub fn give_up(slots: &[u8]) {
    for slot in slots {
        drop(Slot::owned(*slot));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.taken && self.number < SLOTS {
            // Emptying an own slot is never refused.
            let _ = self.clear();
            TAKEN.fetch_and(!(1 << self.number), Ordering::Relaxed);
        }
    }
}

/// An order of the domain's own slots.
pub(crate) fn own_order(order: u32, words: [u64; 4]) -> Result<(), Error> {
    own_words(order, words).map(drop)
}

/// An order of the domain's own slots, and the words that it gives.
fn own_words(order: u32, words: [u64; 4]) -> Result<[u64; 4], Error> {
    let mut message = Message { slot: OWN, order, words, keys: NO_KEYS, accept: NO_KEYS, ..Message::default() };
    raw::invoke(&mut message, &[], |_| ())?;
    if message.code == 0 { Ok(message.got_words) } else { Err(Error::from_answer(message.code, message.got_words)) }
}

/// No slot, four times.
pub(crate) const NO_KEYS: [u8; 4] = [abi::NO_SLOT; 4];
