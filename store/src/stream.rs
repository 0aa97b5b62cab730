//! The write stream of a commit: pages and nodes, one after the other, into large buffers and free places.

use crate::crash::crash_point;
use crate::disk::DiskBuf;
use crate::error::Error;
use crate::freemap::{Run, into_runs};
use crate::ids::PAGE_SIZE;
use crate::root::FIRST_PLACE;
use crate::shared::Shared;
use crate::space::Purpose;
use std::sync::Arc;

/// The most places to ask for at once: one write buffer's worth.
const MOST: u64 = (crate::disk::BUFFER_LEN / PAGE_SIZE) as u64;

/// Where the stream goes on; made by [`Stream::next`].
pub(crate) struct Stream {
    shared: Arc<Shared>,
    /// What is left of the run that is being filled.
    run: Run,
    /// How many places the next run is asked to have: small commits take few.
    ask: u64,
    /// Not written yet: the buffer, and the place of its first page.
    buffer: Option<(DiskBuf, u64)>,
    /// Everything taken, to give it back if the commit fails.
    taken: Vec<Run>,
    /// Places of blocks that were replaced within this commit, of which nothing is under way any more: used again before an older
    /// generation is dropped for space. Part of `taken`.
    again: Vec<Run>,
    /// Whether `run` is one of those.
    from_again: bool,
    /// Places of blocks that were replaced within this commit; their writes may be under way.
    replaced: Vec<u64>,
    /// Whether something has been queued.
    pub wrote: bool,
    pub bytes: u64,
}

impl Stream {
    pub fn new(shared: Arc<Shared>) -> Self {
        let run = Run { start: FIRST_PLACE, len: 0 };
        let (taken, again, replaced) = (Vec::new(), Vec::new(), Vec::new());
        Self { shared, run, ask: 16, buffer: None, taken, again, from_again: false, replaced, wrote: false, bytes: 0 }
    }

    /// The place of the next block. It stays the same until a block is appended.
    pub fn next(&mut self, purpose: Purpose) -> Result<u64, Error> {
        if self.run.len == 0 {
            self.run = self.next_run(purpose)?;
        }
        Ok(self.run.start)
    }

    fn next_run(&mut self, purpose: Purpose) -> Result<Run, Error> {
        self.from_again = false;
        let free = self.shared.allocate_free(self.run.start, self.ask, purpose);
        if free.is_none() {
            if self.again.is_empty() && !self.replaced.is_empty() {
                // A second write to a place must not overtake the first.
                self.submit()?;
                self.shared.drain()?;
                self.again = into_runs(std::mem::take(&mut self.replaced));
            }
            if let Some(run) = self.again.pop() {
                self.from_again = true;
                return Ok(run);
            }
        }
        let run = match free {
            Some(run) => run,
            None => self.shared.allocate(self.run.start, self.ask, purpose)?,
        };
        self.ask = (self.ask * 4).min(MOST);
        match self.taken.last_mut() {
            Some(last) if last.end() == run.start => last.len += run.len,
            _ => self.taken.push(run),
        }
        Ok(run)
    }

    /// Notes that the block at `place`, which this commit wrote, is not part of it any more.
    pub fn replace(&mut self, place: u64) {
        self.replaced.push(place);
    }

    /// Adds a block (one page) at the place that [`Stream::next`] said.
    pub fn append(&mut self, block: &[u8]) -> Result<(), Error> {
        assert!(self.run.len > 0 && block.len() == PAGE_SIZE, "`next` comes before `append`, and blocks are pages");
        let place = self.run.start;
        let fits = self.buffer.as_ref().is_some_and(|(buffer, first)| {
            first + (buffer.len() / PAGE_SIZE) as u64 == place && buffer.room() >= PAGE_SIZE
        });
        if !fits {
            self.submit()?;
            let buffer = self.shared.pool.take().map_err(|e| Error::io("get a write buffer", e))?;
            self.buffer = Some((buffer, place));
        }
        let (buffer, _) = self.buffer.as_mut().expect("made above");
        buffer.extend(block);
        let full = buffer.room() < PAGE_SIZE;
        self.run = Run { start: place + 1, len: self.run.len - 1 };
        if full { self.submit() } else { Ok(()) }
    }

    /// Queues what is in the buffer.
    pub fn submit(&mut self) -> Result<(), Error> {
        let Some((buffer, place)) = self.buffer.take() else { return Ok(()) };
        self.bytes += buffer.len() as u64;
        self.wrote = true;
        crash_point("buffer-full");
        self.shared.write(place, buffer)?;
        crash_point("buffer-queued");
        Ok(())
    }

    /// Gives back the places that were taken but not filled.
    pub fn trim(&mut self) {
        if self.run.len == 0 {
            return;
        }
        if self.from_again {
            self.again.push(std::mem::replace(&mut self.run, Run { start: FIRST_PLACE, len: 0 }));
            return;
        }
        let last = self.taken.last_mut().expect("what is left is of the last run");
        last.len -= self.run.len;
        if last.len == 0 {
            self.taken.pop();
        }
        self.shared.release([std::mem::replace(&mut self.run, Run { start: FIRST_PLACE, len: 0 })]);
    }

    /// Keeps everything but what was replaced: the commit has succeeded.
    pub fn keep(&mut self) {
        self.trim();
        self.taken.clear();
        let replaced = into_runs(std::mem::take(&mut self.replaced));
        self.shared.release(self.again.drain(..).chain(replaced));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        self.buffer = None;
        // A write still under way must not meet one of the next commit at the same place.
        self.shared.drain_aborted();
        self.shared.release(self.taken.drain(..));
    }
}
