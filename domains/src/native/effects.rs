//! What the object layer asks for, after each transaction and before the next capture.

use super::ExecutiveError;
use super::recording::Told;
use super::turn::Turn;
use crate::inputs::Question;
use crate::linux::ExitStatus;
use crate::objects::{self, Effect, InvokeError, Text};
use crate::table::RecordId;
use semper_store::{PAGE_SIZE, PageRange};
use std::sync::atomic::Ordering::SeqCst;

const PAGE: u64 = PAGE_SIZE as u64;
const SIGKILL: u8 = 9;

impl Turn<'_> {
    /// Performs effects in their order, each of them: what they follow from has happened. One that the machine or the store refuses is told,
    /// and so is the invoker. `given`: the bytes of a [`Text::Given`].
    pub fn perform(&mut self, effects: &[Effect], given: &[u8]) -> Result<(), ExecutiveError> {
        let mut result = Ok(());
        let recorded = self.kernel.native.tape.is_on();
        for effect in effects {
            if recorded {
                self.note_touch(effect);
            }
            match self.perform_one(effect, given) {
                Ok(()) => {}
                Err(ExecutiveError::Table(error)) => result = Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, ?effect, "what an order asks for cannot be done");
                    self.kernel.native.tape.cut("the machine refused what an order asked for");
                    self.state.refused = Some(InvokeError::Unusable);
                }
            }
        }
        result
    }

    fn perform_one(&mut self, effect: &Effect, given: &[u8]) -> Result<(), ExecutiveError> {
        match *effect {
            Effect::Deliver { to, delivery } => {
                let len = self.give(to, &delivery.text, given)?;
                self.mailbox(to)?.put_delivery(&delivery, len);
                self.mail_came(to);
                self.execute(to)
            }
            Effect::Answer { to, answer } => self.answer_or_refuse(to, &answer, given),
            Effect::Resume { domain } => self.execute(domain),
            Effect::Begin { domain, entry } => {
                self.stops(domain);
                self.halt(domain)?;
                self.put_away(domain)?;
                self.native(domain)?.begin(entry)?;
                self.execute(domain)
            }
            Effect::Halt { domain } => {
                self.stops(domain);
                if !self.halt(domain)? {
                    return self.lost(domain);
                }
                let stopped = self.kernel.objects().table.get::<objects::Domain>(domain);
                if stopped.is_ok_and(|core| core.has(objects::STOPPED)) {
                    // It may have said that it waits, and run on.
                    self.put_away_soon(domain)?;
                }
                Ok(())
            }
            Effect::Ended { domain, code } => {
                let code = u8::try_from(code & 0xff).unwrap_or(0);
                self.program_ended(domain, ExitStatus::Code(code))
            }
            Effect::Gone { domain } => {
                self.stops(domain);
                self.state.recording.sharing.forget(domain);
                if let Some(native) = self.state.natives.remove(&domain.index())
                    && let Some(process) = native.process
                {
                    process.end();
                }
                // The first domain of a program may have sold itself.
                self.program_ended(domain, ExitStatus::Signal(SIGKILL))
            }
            Effect::Remap { domain } => self.remap(domain),
            Effect::SetRegisters { domain, text } => {
                let bytes = self.text(&text, given)?;
                // Who stands in a signal handler goes on with what the frame says then; who stands in an invocation with what it saved.
                let in_handler =
                    self.loaded(domain).is_some_and(|n| n.control.context() != 0 && n.live_process().is_some());
                if !in_handler {
                    self.put_away(domain)?;
                }
                if self.native(domain)?.set_registers(&bytes).is_err() {
                    // Whether its pages have room for the extended state is known only here.
                    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    self.state.refused = Some(InvokeError::BadString { len });
                }
                self.state.buffer = bytes;
                Ok(())
            }
            Effect::NewSegment { segment, .. } => self.segment(segment).map(drop),
            Effect::Resize { segment, pages } => {
                // First those who map what is beyond its end do so no longer, or one of them might write there yet.
                self.remap_all(segment)?;
                Ok(self.segment(segment)?.discard(PageRange::between(pages, super::SEGMENT_PAGES))?)
            }
            Effect::DropSegment { segment } => {
                self.remap_all(segment)?;
                // A segment that is not open would be forgotten, not removed.
                let id = self.segment(segment)?.id();
                self.kernel.pager.remove_segment(id);
                self.state.open.forget(segment);
                Ok(())
            }
            Effect::CopySegment { from, to, pages } => {
                self.state.wrote = true;
                Ok(self.segment(to)?.copy_from(&*self.segment(from)?, pages)?)
            }
            Effect::Zero { place, len } => self.zero(place, len),
            Effect::Unmap { place } => self.remap_all(place.segment),
            Effect::Write { place, text } => {
                self.state.wrote = true;
                let bytes = self.text(&text, given)?;
                self.segment(place.segment)?.write_at(place.offset, &bytes)?;
                self.state.buffer = bytes;
                Ok(())
            }
            Effect::ConsoleWrite { console, text } => {
                let bytes = self.text(&text, given)?;
                let done = self.console_write(console, &bytes);
                self.state.buffer = bytes;
                done
            }
            Effect::ConsoleRead { console, domain, serial, len } => {
                self.console_read(console, domain, serial, len);
                Ok(())
            }
            // It was written before.
            Effect::Log { .. } if self.kernel.native.is_retelling() => Ok(()),
            Effect::Log { domain, text } => {
                let bytes = self.text(&text, given)?;
                let line = String::from_utf8_lossy(&bytes).trim_end().escape_debug().to_string();
                tracing::info!(domain = %domain, "{line}");
                let name = self.name_of(domain);
                let dir = self.kernel.beside.own();
                let log = self.state.log.get_or_insert_with(|| super::log::Log::new(dir));
                log.add(&format!("{domain:?}"), &name, &bytes);
                self.state.buffer = bytes;
                Ok(())
            }
            Effect::Checkpoint => {
                self.kernel.surroundings.hasten();
                Ok(())
            }
            Effect::AwaitDurable { domain, serial } => {
                self.state.durable[0].push((domain, serial));
                self.kernel.surroundings.hasten();
                Ok(())
            }
            Effect::AskJournal { domain, serial, ask } => {
                self.state.asks.push((domain, serial, ask));
                self.kernel.native.ring();
                Ok(())
            }
            Effect::AskNetwork { domain, serial, ask } => {
                self.state.network.add(domain, serial, ask);
                Ok(())
            }
            Effect::Work => {
                self.state.work = true;
                Ok(())
            }
        }
    }

    /// A domain is stopped from outside itself: if it runs, nobody can say where.
    fn stops(&mut self, id: RecordId) {
        if self.kernel.native.tape.is_live() && self.was_let_go(id) {
            self.kernel.native.tape.cut("a domain was stopped while it ran");
        }
    }

    fn zero(&mut self, place: objects::Place, len: u64) -> Result<(), ExecutiveError> {
        let segment = self.segment(place.segment)?;
        let end = place.offset.saturating_add(len);
        let whole = PageRange::between(place.offset.div_ceil(PAGE), (end / PAGE).max(place.offset.div_ceil(PAGE)));
        let zeros = [0u8; PAGE_SIZE];
        let edges = [(place.offset, end.min(whole.first.0 * PAGE)), ((whole.end() * PAGE).max(place.offset), end)];
        for (from, to) in edges {
            if from < to && to - from < PAGE {
                segment.write_at(from, &zeros[..usize::try_from(to - from).unwrap_or(0)])?;
            }
        }
        if whole.count > 0 {
            segment.discard(whole)?;
        }
        Ok(())
    }

    /// Copies a string into a domain's string page; its length.
    pub fn give(&mut self, to: RecordId, text: &Text, given: &[u8]) -> Result<u32, ExecutiveError> {
        if *text == Text::Empty {
            return Ok(0);
        }
        let bytes = self.text(text, given)?;
        self.mailbox(to)?.write_string(&bytes);
        let len = u32::try_from(bytes.len()).unwrap_or(0);
        self.state.buffer = bytes;
        Ok(len)
    }

    /// The bytes of a string, in the buffer; give it back.
    pub fn text(&mut self, text: &Text, given: &[u8]) -> Result<Vec<u8>, ExecutiveError> {
        let mut buffer = std::mem::take(&mut self.state.buffer);
        buffer.clear();
        let size = |len: u32| (len as usize).min(crate::guest::MAX_STRING);
        match *text {
            Text::Empty => {}
            Text::Message { domain, len } => {
                buffer.resize(size(len), 0);
                self.mailbox(domain)?.read_string(&mut buffer);
            }
            Text::Registers { domain } => {
                buffer = self.native(domain)?.registers(crate::guest::MAX_STRING);
            }
            Text::Stored { place, len } => {
                buffer.resize(size(len), 0);
                self.segment(place.segment)?.read_at(place.offset, &mut buffer)?;
            }
            Text::Random { len } => {
                let found = self.kernel.native.tape.ask(Question::Random, None, || {
                    let mut found = vec![0; size(len)];
                    crate::kernel::random(&mut found);
                    found
                });
                buffer.extend_from_slice(&found[..size(len).min(found.len())]);
            }
            Text::Given { len } => buffer.extend_from_slice(&given[..size(len).min(given.len())]),
        }
        Ok(buffer)
    }

    /// Whoever waited for a generation that is durable now has its answer.
    pub fn durable(&mut self) -> Result<(), ExecutiveError> {
        if !std::mem::take(&mut self.state.committed) {
            return Ok(());
        }
        let generation = self.kernel.native.generation.load(SeqCst);
        for wait in std::mem::take(&mut self.state.durable[1]) {
            self.tell(wait, Told { words: [generation, 0, 0, 0], ..Told::default() })?;
        }
        Ok(())
    }
}
