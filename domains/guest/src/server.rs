//! A domain that answers messages.

use crate::abi::{self, Message, NO_SLOT, RESUME_SLOT};
use crate::keys::Key;
use crate::{Error, Slot, raw};
use alloc::vec::Vec;

/// A message that came.
#[derive(Debug)]
pub struct Request<'a> {
    /// The order code.
    pub order: u32,
    /// Words.
    pub words: [u64; 4],
    /// The string.
    pub string: &'a [u8],
    /// The keys, as far as the server [accepts](Server::accepting) them. Those that are not taken out are lost with the request.
    pub keys: [Option<Slot>; 4],
    /// The badge of the start key by which it came: the maker of that key chose it, so it tells who or what is meant.
    pub badge: u64,
    /// Whether the sender waits for an answer.
    pub answerable: bool,
}

/// An answer.
#[derive(Debug, Default)]
#[must_use]
pub struct Reply {
    /// 0 for success; else, below [`abi::FIRST_ERROR`], what the client and the server agree on.
    pub code: u32,
    /// Words.
    pub words: [u64; 4],
    /// The string, of at most [`abi::MAX_STRING`] bytes.
    pub string: Vec<u8>,
    /// The keys; copies of them go.
    pub keys: [Option<Slot>; 4],
    /// Whether the server ends after this answer.
    pub last: bool,
}

impl Reply {
    /// Success, with nothing to tell.
    pub fn done() -> Self {
        Self::default()
    }

    /// An answer with this code.
    pub fn code(code: u32) -> Self {
        Self { code, ..Self::default() }
    }

    /// Success, with these words.
    pub fn words<const N: usize>(words: [u64; N]) -> Self {
        let mut reply = Self::default();
        reply.words[..N].copy_from_slice(&words);
        reply
    }

    /// Success, with this string.
    pub fn string(string: impl Into<Vec<u8>>) -> Self {
        Self { string: string.into(), ..Self::default() }
    }

    /// Success, with this key.
    pub fn key(key: impl Key) -> Self {
        Self { keys: [Some(key.into_slot()), None, None, None], ..Self::default() }
    }

    /// The same, and the server ends after it.
    pub fn and_end(mut self) -> Self {
        self.last = true;
        self
    }
}

/// Answers messages until an answer is the [last](Reply::last). Keys that come are dropped: a [`Server`] can accept them.
///
/// # Errors
/// Those of [`Server::run`].
pub fn serve(handler: impl FnMut(&mut Request<'_>) -> Reply) -> Result<(), Error> {
    Server::new().run(handler)
}

/// A domain that answers messages, one after the other, first come first served.
#[derive(Debug, Default)]
pub struct Server {
    accepting: usize,
    accept: [Option<Slot>; 4],
}

impl Server {
    /// One that accepts no keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first `keys` keys of a message are accepted, 0 to 4. While that many slots are not free, the last of them are dropped.
    #[must_use]
    pub fn accepting(mut self, keys: usize) -> Self {
        self.accepting = keys.min(self.accept.len());
        self
    }

    /// Answers messages until an answer is the [last](Reply::last).
    ///
    /// A client that is gone when its answer comes is nobody's error: the answer is dropped.
    ///
    /// # Errors
    /// When no message can be waited for; [`Error::StringTooLong`] for an answer.
    pub fn run(mut self, mut handler: impl FnMut(&mut Request<'_>) -> Reply) -> Result<(), Error> {
        let mut string = Vec::new();
        let mut message = self.wait(Reply::default(), &mut string)?;
        loop {
            let mut request = self.request(&message, &string);
            let mut reply = handler(&mut request);
            // Slots whose keys were not taken out are used again: the next message overwrites them.
            for (slot, unused) in self.accept.iter_mut().zip(core::mem::take(&mut request.keys)) {
                if slot.is_none() {
                    *slot = unused;
                }
            }
            if message.answerable == 0 {
                reply = Reply { last: reply.last, ..Reply::default() };
            }
            if reply.last {
                return if message.answerable == 0 { Ok(()) } else { answer(&reply) };
            }
            message = self.wait(reply, &mut string)?;
        }
    }

    fn request<'a>(&mut self, message: &Message, string: &'a [u8]) -> Request<'a> {
        let mut keys = [const { None }; 4];
        for (n, key) in keys.iter_mut().enumerate().filter(|(n, _)| message.got_keys >> n & 1 == 1) {
            *key = self.accept[n].take();
        }
        let Message { code: order, got_words: words, badge, .. } = *message;
        Request { order, words, string, keys, badge, answerable: message.answerable == 1 }
    }

    /// Answers the last caller, if it waits, and waits for the next message.
    fn wait(&mut self, reply: Reply, string: &mut Vec<u8>) -> Result<Message, Error> {
        for slot in self.accept.iter_mut().take(self.accepting).filter(|slot| slot.is_none()) {
            *slot = Slot::take().ok();
        }
        let accept = [0, 1, 2, 3].map(|n| self.accept[n].as_ref().map_or(NO_SLOT, Slot::number));
        let mut message = Message { accept, ..message(&reply, abi::REPLY_AND_WAIT) };
        let mut take = |text: &[u8]| {
            string.clear();
            string.extend_from_slice(text);
        };
        raw::invoke(&mut message, &reply.string, &mut take)?;
        if is_refused(&message) {
            // The caller is gone. Without its key there is only the waiting.
            Slot::fixed(RESUME_SLOT).clear()?;
            raw::invoke(&mut message, &[], &mut take)?;
            if is_refused(&message) {
                return Err(Error::from_answer(message.code, message.got_words));
            }
        }
        Ok(message)
    }
}

/// Whether it is no message but a refusal. A caller may use any order code; then it waits for an answer.
const fn is_refused(message: &Message) -> bool {
    message.code >= abi::FIRST_ERROR && message.answerable == 0
}

fn message(reply: &Reply, how: u8) -> Message {
    let keys = [0, 1, 2, 3].map(|n| reply.keys[n].as_ref().map_or(NO_SLOT, Slot::number));
    Message { slot: RESUME_SLOT, how, order: reply.code, words: reply.words, keys, ..Message::default() }
}

/// Answers the last caller and goes on.
fn answer(reply: &Reply) -> Result<(), Error> {
    let mut message = Message { accept: crate::slot::NO_KEYS, ..message(reply, abi::SEND) };
    raw::invoke(&mut message, &reply.string, |_| ())
}
