//! The message page and the string page of a domain, as the kernel reads and writes them.

use crate::abi::{CONTROL_PAGES, MESSAGE_OFFSET};
use crate::guest::{MAX_STRING, Message};
use crate::linux::{CAME_BACK, MESSAGE_BYTES, Received};
use crate::objects::{Answer, Delivery};
use crate::platform::control::Control;
use semper_store::PageRange;

/// Offset of the string's page within the control segment.
const STRING_OFFSET: u64 = MESSAGE_OFFSET + 4096;
/// Offset of what came back.
const CAME_BACK_OFFSET: u64 = MESSAGE_OFFSET + CAME_BACK as u64;

/// The message that these bytes are.
#[must_use]
pub fn message_of(bytes: [u8; MESSAGE_BYTES]) -> Message {
    // SAFETY: a message is plain integers: any bytes are one.
    unsafe { std::mem::transmute(bytes) }
}

/// Both pages of one domain.
pub struct Mailbox<'a>(pub &'a Control);

impl Mailbox<'_> {
    /// What the domain asks, copied once.
    #[must_use]
    pub fn message(&self) -> Message {
        let mut bytes = [0u8; MESSAGE_BYTES];
        self.0.read(MESSAGE_OFFSET, &mut bytes);
        message_of(bytes)
    }

    /// The first bytes of its string page.
    pub fn read_string(&self, out: &mut [u8]) {
        self.0.read(STRING_OFFSET, out);
    }

    /// Puts a string before it.
    pub fn write_string(&self, bytes: &[u8]) {
        self.0.write(STRING_OFFSET, bytes);
    }

    /// Puts an answer before it; `len`: bytes of the string.
    pub fn put_answer(&self, answer: &Answer, len: u32) {
        self.put(answer.code, answer.keys, false, &answer.words, 0, len);
    }

    /// Puts a message before it; `len`: bytes of the string.
    pub fn put_delivery(&self, delivery: &Delivery, len: u32) {
        self.put(delivery.order, delivery.keys, delivery.answerable, &delivery.words, delivery.badge, len);
    }

    fn put(&self, code: u32, keys: u8, answerable: bool, words: &[u64; 4], badge: u64, len: u32) {
        let first = u64::from(code) | u64::from(keys) << 32 | u64::from(answerable) << 40;
        let all = [first, words[0], words[1], words[2], words[3], badge, u64::from(len)];
        for (offset, word) in (CAME_BACK_OFFSET..).step_by(8).zip(all) {
            self.0.set_word(offset, word);
        }
    }

    /// What was put there last.
    #[must_use]
    pub fn received(&self) -> Received {
        let mut half = [0; MESSAGE_BYTES - CAME_BACK];
        self.0.read(CAME_BACK_OFFSET, &mut half);
        let [.., a, b, c, d, _, _, _, _] = half;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(MAX_STRING).min(MAX_STRING);
        let mut string = vec![0; len];
        self.read_string(&mut string);
        Received { half, string }
    }

    /// What the kernel put there is not seen by the dirty tracking: both pages are marked.
    pub fn mark_dirty(&self) {
        self.0.view().mark_dirty(PageRange::between(MESSAGE_OFFSET >> 12, CONTROL_PAGES));
    }
}
