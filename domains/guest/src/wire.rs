//! How the arguments of an [`interface!`](crate::interface!) travel in a message.
//!
//! Numbers take the four words in order, and after those 8 bytes of the string each, least first. Texts and bytes take the string: two
//! bytes of length, then the bytes. Keys take the four keys in order. What does not fit is [`DoesNotFit`], and what was not
//! made so is [`Malformed`]; nothing else can go wrong, whatever the other side sends.

use crate::abi::MAX_STRING;
use crate::keys::Key;
use crate::{Reply, Slot};
use alloc::string::String;
use alloc::vec::Vec;

/// A message is too small for the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoesNotFit;

/// A message does not hold what the interface says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Words, string and keys of a message that is being made.
#[derive(Debug, Default)]
pub struct Outgoing {
    words: [u64; 4],
    word_count: usize,
    string: Vec<u8>,
    keys: [Option<Slot>; 4],
}

impl Outgoing {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number.
    ///
    /// # Errors
    /// [`DoesNotFit`].
    pub fn word(&mut self, word: u64) -> Result<(), DoesNotFit> {
        if let Some(place) = self.words.get_mut(self.word_count) {
            (*place, self.word_count) = (word, self.word_count + 1);
            return Ok(());
        }
        self.append(&word.to_le_bytes())
    }

    /// Adds bytes, with their length.
    ///
    /// # Errors
    /// [`DoesNotFit`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), DoesNotFit> {
        let len = u16::try_from(bytes.len()).map_err(|_| DoesNotFit)?;
        self.append(&len.to_le_bytes())?;
        self.append(bytes)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`DoesNotFit`].
    pub fn key(&mut self, key: Slot) -> Result<(), DoesNotFit> {
        let free = self.keys.iter_mut().find(|place| place.is_none()).ok_or(DoesNotFit)?;
        *free = Some(key);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DoesNotFit> {
        if self.string.len() + bytes.len() > MAX_STRING {
            return Err(DoesNotFit);
        }
        self.string.extend_from_slice(bytes);
        Ok(())
    }

    /// The message as an answer.
    pub fn into_reply(self) -> Reply {
        Reply { words: self.words, string: self.string, keys: self.keys, ..Reply::default() }
    }

    /// Its words.
    #[must_use]
    pub const fn words(&self) -> [u64; 4] {
        self.words
    }

    /// Its string.
    #[must_use]
    pub fn string(&self) -> &[u8] {
        &self.string
    }

    /// Its keys.
    #[must_use]
    pub const fn keys(&self) -> &[Option<Slot>; 4] {
        &self.keys
    }
}

/// Words, string and keys of a message that came.
#[derive(Debug)]
pub struct Incoming<'a> {
    words: [u64; 4],
    word_count: usize,
    string: &'a [u8],
    keys: &'a mut [Option<Slot>; 4],
    key_count: usize,
}

impl<'a> Incoming<'a> {
    /// What came. Keys that are asked for are taken out of `keys`.
    #[must_use]
    pub const fn new(words: [u64; 4], string: &'a [u8], keys: &'a mut [Option<Slot>; 4]) -> Self {
        Self { words, word_count: 0, string, keys, key_count: 0 }
    }

    /// The next number.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn word(&mut self) -> Result<u64, Malformed> {
        if let Some(word) = self.words.get(self.word_count) {
            self.word_count += 1;
            return Ok(*word);
        }
        let bytes = self.take(8)?;
        bytes.try_into().map(u64::from_le_bytes).map_err(|_| Malformed)
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.take(2)?.try_into().map(u16::from_le_bytes).map_err(|_| Malformed)?;
        self.take(len.into())
    }

    /// The next key.
    ///
    /// # Errors
    /// [`Malformed`] if it did not come.
    pub fn key(&mut self) -> Result<Slot, Malformed> {
        let key = self.keys.get_mut(self.key_count).and_then(Option::take);
        self.key_count += 1;
        key.ok_or(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.string.split_at_checked(len).ok_or(Malformed)?;
        self.string = rest;
        Ok(taken)
    }
}

/// What can be put into a message.
pub trait Put {
    /// Puts it.
    ///
    /// # Errors
    /// [`DoesNotFit`].
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit>;
}

/// What can be taken out of a message.
pub trait Take<'a>: Sized {
    /// How many keys it takes at most.
    const KEYS: usize = 0;

    /// Takes it.
    ///
    /// # Errors
    /// [`Malformed`].
    fn take(from: &mut Incoming<'a>) -> Result<Self, Malformed>;
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Put for $number {
            fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
                out.word(u64::from(self))
            }
        }

        impl Take<'_> for $number {
            fn take(from: &mut Incoming<'_>) -> Result<Self, Malformed> {
                from.word()?.try_into().map_err(|_| Malformed)
            }
        }
    )* };
}
numbers!(u8, u16, u32, u64);

impl Put for i64 {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.word(self.cast_unsigned())
    }
}

impl Take<'_> for i64 {
    fn take(from: &mut Incoming<'_>) -> Result<Self, Malformed> {
        from.word().map(u64::cast_signed)
    }
}

impl Put for bool {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.word(self.into())
    }
}

impl Take<'_> for bool {
    fn take(from: &mut Incoming<'_>) -> Result<Self, Malformed> {
        match from.word()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

impl Put for &[u8] {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.bytes(self)
    }
}

impl<'a> Take<'a> for &'a [u8] {
    fn take(from: &mut Incoming<'a>) -> Result<Self, Malformed> {
        from.bytes()
    }
}

impl Put for &str {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.bytes(self.as_bytes())
    }
}

impl<'a> Take<'a> for &'a str {
    fn take(from: &mut Incoming<'a>) -> Result<Self, Malformed> {
        core::str::from_utf8(from.bytes()?).map_err(|_| Malformed)
    }
}

impl Put for Vec<u8> {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.bytes(&self)
    }
}

impl Take<'_> for Vec<u8> {
    fn take(from: &mut Incoming<'_>) -> Result<Self, Malformed> {
        from.bytes().map(<[u8]>::to_vec)
    }
}

impl Put for String {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.bytes(self.as_bytes())
    }
}

impl Take<'_> for String {
    fn take(from: &mut Incoming<'_>) -> Result<Self, Malformed> {
        <&str>::take(from).map(Self::from)
    }
}

impl<K: Key> Put for K {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.key(self.into_slot())
    }
}

impl<K: Key> Take<'_> for K {
    const KEYS: usize = 1;

    fn take(from: &mut Incoming<'_>) -> Result<Self, Malformed> {
        from.key().map(Self::from)
    }
}

impl<T: Put> Put for Option<T> {
    fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
        out.word(self.is_some().into())?;
        self.map_or(Ok(()), |value| value.put(out))
    }
}

impl<'a, T: Take<'a>> Take<'a> for Option<T> {
    const KEYS: usize = T::KEYS;

    fn take(from: &mut Incoming<'a>) -> Result<Self, Malformed> {
        if bool::take(from)? { T::take(from).map(Some) } else { Ok(None) }
    }
}

macro_rules! tuples {
    ($(($($part:ident)*);)*) => { $(
        impl<$($part: Put),*> Put for ($($part,)*) {
            #[allow(non_snake_case, unused_variables)]
            fn put(self, out: &mut Outgoing) -> Result<(), DoesNotFit> {
                let ($($part,)*) = self;
                $($part.put(out)?;)*
                Ok(())
            }
        }

        impl<'a, $($part: Take<'a>),*> Take<'a> for ($($part,)*) {
            const KEYS: usize = 0 $(+ $part::KEYS)*;

            #[allow(unused_variables, clippy::unused_unit)]
            fn take(from: &mut Incoming<'a>) -> Result<Self, Malformed> {
                Ok(($($part::take(from)?,)*))
            }
        }
    )* };
}
tuples! {
    ();
    (A B);
    (A B C);
    (A B C D);
}
