//! The store of the machine: a list of maps.

use super::{Content, Fault, Machine};
use semper_checkpoint::{Durable, PageSink, Transaction, WriteError};
use semper_store::{Committed, Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId};
use std::time::Duration;

pub struct FakeCommit<'a> {
    machine: &'a Machine,
    content: Content,
    pages: u64,
}

impl PageSink for FakeCommit<'_> {
    fn put(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), WriteError> {
        if self.machine.step(2).fails(Fault::PutFull) {
            return Err(WriteError::Full { needed: 1, available: 0 });
        }
        for (page, index) in data.chunks_exact(PAGE_SIZE).zip(first.0..) {
            let value = u64::from_le_bytes(page[..8].try_into().unwrap());
            self.content.insert((segment.0, index), value);
            self.pages += 1;
        }
        Ok(())
    }

    fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), WriteError> {
        self.content.retain(|at, _| at.0 != segment.0 || !range.contains(PageIndex(at.1)));
        Ok(())
    }

    fn remove_segment(&mut self, segment: SegmentId) -> Result<(), WriteError> {
        self.content.retain(|at, _| at.0 != segment.0);
        Ok(())
    }
}

impl Transaction for FakeCommit<'_> {
    fn commit(self) -> Result<Committed, WriteError> {
        let mut state = self.machine.step(500);
        if state.fails(Fault::CommitFull) {
            return Err(WriteError::Full { needed: 9, available: 1 });
        }
        if state.fails(Fault::CommitPoisons) {
            state.poisoned = true;
            return Err(WriteError::Poisoned("flush: EIO".into()));
        }
        let generation = state.generations.last_key_value().map_or(0, |(last, _)| *last) + 1;
        let content: Content = self.content.into_iter().filter(|(_, value)| *value != 0).collect();
        state.generations.insert(generation, content);
        state.events.push("commit".into());
        let time = Duration::from_micros(500);
        Ok(Committed {
            generation: Generation(generation),
            pages: self.pages,
            bytes: self.pages * PAGE_SIZE as u64,
            write_time: time,
            flush_time: time,
        })
    }
}

impl Durable for Machine {
    type Commit<'a> = FakeCommit<'a>;

    fn begin(&self) -> Result<FakeCommit<'_>, WriteError> {
        let mut state = self.step(10);
        state.begun += 1;
        if state.poisoned {
            return Err(WriteError::Poisoned("flush: EIO".into()));
        }
        if state.fails(Fault::Begin) {
            return Err(WriteError::Refused("the old tree cannot be read".into()));
        }
        drop(state);
        Ok(FakeCommit { machine: self, content: self.newest(), pages: 0 })
    }

    fn generation(&self) -> Generation {
        Generation(self.lock().generations.last_key_value().map_or(0, |(last, _)| *last))
    }

    fn free_bytes(&self) -> u64 {
        self.lock().free
    }
}
