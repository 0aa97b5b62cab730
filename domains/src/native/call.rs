//! What a domain calls for, as it is recorded; and instructions that are executed for it: reading the time-stamp counter, where it is recorded,
//! and asking what the processor is, where it has answers.

use super::turn::Turn;
use super::{Around, ExecutiveError};
use crate::cpu::Registers;
use crate::guest::{MAX_STRING, Message};
use crate::objects::{self, Fault, NO_LINK};
use crate::processor::{Answers, is_question};
use crate::table::RecordId;
use std::sync::Arc;

const SIGSEGV: u32 = 11;

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

    /// What a domain is told by `cpuid`, as the program is told whose bank it comes from; none: whatever the processor says.
    pub(super) fn answers(&self, id: RecordId) -> Result<Option<Arc<Answers>>, ExecutiveError> {
        let programs = &self.state.programs;
        if programs.values().all(|program| program.answers.is_none()) {
            return Ok(None);
        }
        let objects = self.kernel.objects();
        let mut bank = objects.table.get::<objects::Domain>(id)?.owned.bank;
        while bank != NO_LINK {
            if let Some(program) = programs.values().find(|program| program.bank().index() == bank) {
                return Ok(program.answers.clone());
            }
            let above: objects::Bank = objects.table.at(bank)?.1;
            // Banks get nearer to the prime bank, also where a store is damaged.
            bank = if above.depth == 0 { NO_LINK } else { above.owned.bank };
        }
        Ok(None)
    }

    /// The code where a domain stands; zeros beyond what it maps.
    fn code(&mut self, id: RecordId, at: u64) -> Result<[u8; 3], ExecutiveError> {
        let mut code = [0; 3];
        let (areas, _) = self.areas(id)?;
        let Some(area) = areas.iter().find(|area| area.contains(at)) else { return Ok(code) };
        let within = at - area.address;
        let len = usize::try_from(area.length - within).unwrap_or(3).min(3);
        area.segment.read_at(area.offset + within, &mut code[..len])?;
        Ok(code)
    }

    /// Whether a domain faulted by asking what the processor is; it was told then. No debugger hears of it.
    pub(super) fn asks_processor(&mut self, id: RecordId) -> Result<bool, ExecutiveError> {
        let Some(answers) = self.answers(id)? else { return Ok(false) };
        let Ok(before) = self.native(id)?.general() else { return Ok(false) };
        let [first, second, _] = self.code(id, before.rip)?;
        if !is_question([first, second], before.trap) {
            return Ok(false);
        }
        let fault = self.native(id)?.fault(SIGSEGV, &before);
        self.note_fault(&fault);
        let mut after = before;
        answers.give(&mut after);
        self.goes_on_with(id, &before, &after)
    }

    fn goes_on_with(&mut self, id: RecordId, before: &Registers, after: &Registers) -> Result<bool, ExecutiveError> {
        let native = self.native(id)?;
        native.frame()?.store(before, after);
        native.touched = true;
        Ok(true)
    }

    /// Whether a domain faulted since it may not read the time-stamp counter, which was then read for it.
    pub(super) fn reads_counter(&mut self, id: RecordId) -> Result<bool, ExecutiveError> {
        let tape = Arc::clone(&self.kernel.native.tape);
        let before = match self.native(id)?.general() {
            Ok(registers) if tape.is_on() => registers,
            _ => return Ok(false),
        };
        let length = match self.code(id, before.rip)? {
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
        self.goes_on_with(id, &before, &after)
    }
}
