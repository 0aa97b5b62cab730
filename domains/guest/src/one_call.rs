//! One invocation, put together step by step.

use crate::abi::{self, Message};
use crate::slot::NO_KEYS;
use crate::{Error, Slot, raw};
use alloc::vec::Vec;

/// An invocation that is being put together.
#[derive(Debug)]
#[must_use = "nothing is invoked before `call` or `send`"]
pub struct Call<'a> {
    message: Message,
    string: &'a [u8],
    accept: [Option<Slot>; 4],
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    /// 0, or what the domain that answered says.
    pub code: u32,
    /// Words.
    pub words: [u64; 4],
    /// The string.
    pub string: Vec<u8>,
    /// The keys that came, in the slots that were taken for them.
    pub keys: [Option<Slot>; 4],
}

impl<'a> Call<'a> {
    /// Invokes the key in `slot` with this order code.
    pub fn new(slot: &Slot, order: u32) -> Self {
        let message = Message { slot: slot.number(), order, keys: NO_KEYS, accept: NO_KEYS, ..Message::default() };
        Self { message, string: &[], accept: [None, None, None, None] }
    }

    /// With these words, first to last.
    pub fn words<const N: usize>(mut self, words: [u64; N]) -> Self {
        self.message.words[..N].copy_from_slice(&words);
        self
    }

    /// With this string, of at most [`abi::MAX_STRING`] bytes.
    pub const fn string(mut self, string: &'a [u8]) -> Self {
        self.string = string;
        self
    }

    /// With a copy of the key in `slot` as key `n`, 0 to 3.
    pub const fn key(mut self, n: usize, slot: &Slot) -> Self {
        self.message.keys[n] = slot.number();
        self
    }

    /// Takes a free slot for key `n` of the answer.
    ///
    /// # Errors
    /// [`Error::NoFreeSlot`].
    pub fn accept(self, n: usize) -> Result<Self, Error> {
        let slot = Slot::take()?;
        Ok(self.accept_in(n, slot))
    }

    /// Key `n` of the answer goes into `slot`.
    pub fn accept_in(mut self, n: usize, slot: Slot) -> Self {
        self.message.accept[n] = slot.number();
        self.accept[n] = Some(slot);
        self
    }

    /// Gives up at this time of the monotonic clock, in nanoseconds. For all that can wait but a reply and wait.
    pub const fn deadline(mut self, nanoseconds: u64) -> Self {
        self.message.deadline = nanoseconds;
        self
    }

    /// Calls, and waits for the answer.
    ///
    /// # Errors
    /// What the kernel refuses the call for; an answer code of the domain that answered is no error.
    pub fn call(self) -> Result<Answer, Error> {
        self.call_with(|answer, string| {
            answer.string = string.to_vec();
        })
    }

    /// Calls, and puts the string of the answer into `buffer`. Returns the answer, without string, and how many bytes came: those that
    /// the buffer does not hold are lost.
    ///
    /// # Errors
    /// As [`Call::call`].
    pub fn call_into(self, buffer: &mut [u8]) -> Result<(Answer, usize), Error> {
        let mut came = 0;
        let answer = self.call_with(|_, string| {
            came = string.len();
            let fits = came.min(buffer.len());
            buffer[..fits].copy_from_slice(&string[..fits]);
        })?;
        Ok((answer, came))
    }

    /// Calls, and adds the string of the answer to `bytes`.
    pub(crate) fn call_onto(self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        self.call_with(|_, string| bytes.extend_from_slice(string)).map(drop)
    }

    /// Sends, and goes on when the callee has taken the message.
    ///
    /// # Errors
    /// What the kernel refuses the message for.
    pub fn send(mut self) -> Result<(), Error> {
        self.message.how = abi::SEND;
        self.call_with(|_, _| ()).map(drop)
    }

    fn call_with(mut self, take: impl FnOnce(&mut Answer, &[u8])) -> Result<Answer, Error> {
        let mut answer = Answer::default();
        raw::invoke(&mut self.message, self.string, |string| take(&mut answer, string))?;
        let Message { code, got_words, got_keys, .. } = self.message;
        if code >= abi::FIRST_ERROR {
            return Err(Error::from_answer(code, got_words));
        }
        (answer.code, answer.words) = (code, got_words);
        for (n, slot) in self.accept.into_iter().enumerate() {
            answer.keys[n] = slot.filter(|_| got_keys >> n & 1 == 1);
        }
        Ok(answer)
    }
}

impl Answer {
    /// Key `n` of the answer.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if it did not come.
    #[allow(clippy::cast_possible_truncation)] // 0 to 3
    pub fn key(&mut self, n: usize) -> Result<Slot, Error> {
        self.keys[n].take().ok_or(Error::MissingKey { argument: n as u8 })
    }
}
