//! What a domain calls for, as it is recorded; and the time-stamp counter, which is read for domains that are recorded.

use super::turn::Turn;
use super::{Around, ExecutiveError};
use crate::guest::{MAX_STRING, Message};
use crate::objects::{self, Fault};
use crate::table::RecordId;
use std::sync::Arc;

/// What tells one message from others, but for its string.
fn message_bytes(message: &Message) -> [u8; 64] {
    let mut bytes = [0; 64];
    let (head, words) = bytes.split_at_mut(24);
    head[0] = message.slot;
    head[1..5].copy_from_slice(&message.order.to_le_bytes());
    head[5..9].copy_from_slice(&message.string_len.to_le_bytes());
    head[9..13].copy_from_slice(&message.keys);
    head[13..17].copy_from_slice(&message.accept);
    head[17..21].copy_from_slice(&u32::from(message.how).to_le_bytes());
    let all = message.words.iter().chain([&message.deadline]);
    words.chunks_exact_mut(8).zip(all).for_each(|(place, word)| place.copy_from_slice(&word.to_le_bytes()));
    bytes
}

impl Turn<'_> {
    /// What a domain calls for is a part of what is recorded.
    pub(super) fn note_call(&mut self, id: RecordId, message: &Message) -> Result<(), ExecutiveError> {
        let tape = Arc::clone(&self.kernel.native.tape);
        if !tape.is_on() {
            return Ok(());
        }
        let mut string = std::mem::take(&mut self.state.buffer);
        string.resize((message.string_len as usize).min(MAX_STRING), 0);
        if !string.is_empty() {
            self.mailbox(id)?.read_string(&mut string);
        }
        tape.calls(&[&message_bytes(message), &string]);
        self.state.buffer = string;
        Ok(())
    }

    pub(super) fn note_fault(&self, fault: &Fault) {
        let words = [fault.cause.into(), fault.address, fault.detail, fault.instruction];
        let words = words.map(u64::to_le_bytes);
        self.kernel.native.tape.calls(&[words.as_flattened()]);
    }

    /// Whether a domain faulted since it may not read the time-stamp counter, which was then read for it.
    pub(super) fn reads_counter(&mut self, id: RecordId) -> Result<bool, ExecutiveError> {
        let tape = Arc::clone(&self.kernel.native.tape);
        let before = match self.native(id)?.general() {
            Ok(registers) if tape.is_on() => registers,
            _ => return Ok(false),
        };
        let mut code = [0; 3];
        let (areas, _) = self.areas(id)?;
        let Some(area) = areas.iter().find(|area| area.contains(before.rip)) else { return Ok(false) };
        let within = before.rip - area.address;
        let len = usize::try_from(area.length - within).unwrap_or(3).min(3);
        area.segment.read_at(area.offset + within, &mut code[..len])?;
        let length = match code {
            [0x0f, 0x31, _] => 2,
            [0x0f, 0x01, 0xf9] => 3,
            _ => return Ok(false),
        };
        let now = objects::Surroundings::monotonic(&Around(self.kernel));
        let mut after = before;
        (after.rax, after.rdx) = (now & 0xffff_ffff, now >> 32);
        if length == 3 {
            after.rcx = 0;
        }
        after.rip += length;
        let native = self.native(id)?;
        native.frame()?.store(&before, &after);
        native.touched = true;
        Ok(true)
    }
}
