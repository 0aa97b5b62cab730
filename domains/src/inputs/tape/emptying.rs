//! What is written down leaves the tape, on its way to the journal.

use super::super::wire;
use super::{Inner, Mode, Tape};
use std::time::Duration;

/// Bytes that wait to be written to the journal before the program waits for it.
const FULL_BYTES: usize = 4 << 20;
/// Bytes from which on the journal is asked to take them.
const MUCH_BYTES: usize = 32 << 10;

/// What was taken off the tape, to be put into the journal.
#[derive(Debug, Default)]
pub struct Taken {
    /// The records: their numbers, and what they hold.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Whether all that the program did up to here follows from what is recorded once they are.
    pub covers: bool,
}

impl Tape {
    /// Between two steps: what is to be written to the journal. `all`: also the steps alone, so that what the program did in them is sure to
    /// be done again.
    pub fn take(&self, all: bool) -> Taken {
        if !self.is_on() {
            return Taken::default();
        }
        let mut inner = self.lock();
        if inner.differs.is_some() {
            return Taken::default();
        }
        let steps = inner.position.step;
        if matches!(inner.mode, Mode::Live)
            && !inner.cut
            && (!inner.out.items.is_empty() || all && steps > inner.out.steps)
        {
            inner.close_record(steps, None);
        }
        let done = std::mem::take(&mut inner.out.done);
        inner.out.bytes = 0;
        let mut records = Vec::new();
        for (head, items) in done {
            records.push((inner.position.number, wire::record(&head, &items)));
            inner.position.number += 1;
        }
        let covers = match inner.mode {
            Mode::Off | Mode::Standing => false,
            Mode::Live => !inner.cut && inner.reached == inner.position.branch,
            Mode::Replay { .. } => true,
        };
        drop(inner);
        self.emptied.notify_all();
        Taken { records, covers }
    }

    /// Whether so much waits that the journal should take it.
    #[must_use]
    pub fn has_much(&self) -> bool {
        self.is_on() && self.lock().out.bytes > MUCH_BYTES
    }

    /// Waits while more waits to be written than may; not for ever.
    pub fn wait_for_room(&self) {
        if !self.is_on() {
            return;
        }
        let inner = self.lock();
        let full = |inner: &mut Inner| inner.out.bytes > FULL_BYTES;
        let _ = self.emptied.wait_timeout_while(inner, Duration::from_secs(1), full);
    }
}
