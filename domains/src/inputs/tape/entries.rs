//! Steps of native domains: many that are served by one kernel, in an order that is a part of what has to be told again.
//!
//! A step is an *entry* of the kernel: a domain is served that posted, an answer comes from outside, time has passed. Most of the time the domain
//! that is served next is the one that came after the same one before; only where it is not, the entry is written down.

use super::super::wire::{Item, Question};
use super::{Mode, Tape, sum};
use serde::{Deserialize, Serialize};

/// What the kernel does next. Domains are named by the number of the segment of their control pages, which no other ever has, from that of the first
/// object on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// It serves a domain that posted.
    Posted(u64),
    /// It gives a domain that waits for the outside what came.
    Told(u64),
    /// It looks who waits no longer, since time has passed.
    Expired,
    /// It takes apart a piece of what is to be taken apart.
    Worked,
    /// It charges the processor time of a domain.
    Charged(u64),
    /// It lets the first domain of a program begin.
    Begins(u64),
}

/// As many bits of the checksum of what was done are kept with an entry.
const fn check(sum: u32) -> u16 {
    (sum & 0xffff) as u16
}

impl Tape {
    /// A step begins that is `entry`; what is `usual` is not written down.
    pub fn enters(&self, entry: Entry, usual: Option<Entry>) {
        let inner = &mut *self.lock();
        (inner.stepping, inner.index, inner.stop_at) = (true, 2, 2);
        // What nobody called for needs no check.
        inner.told = !matches!(entry, Entry::Posted(_));
        if !matches!(inner.mode, Mode::Live) || inner.cut || usual == Some(entry) {
            return;
        }
        let mut answer = Vec::new();
        super::wire::put_value(&mut answer, &(entry, check(sum(&inner.position))));
        inner.put(&Item { step: inner.position.step, index: 1, question: Question::Entry, answer });
    }

    /// In a replay, before a step: which entry it is; `usual` if nothing is written down.
    ///
    /// # Errors
    /// A sentence, if it does not fit.
    pub fn entry(&self, usual: Option<Entry>) -> Result<Entry, String> {
        let inner = &mut *self.lock();
        let (step, shown) = (inner.position.step, sum(&inner.position));
        let Mode::Replay { source, .. } = &mut inner.mode else { return Err("nothing is told again".into()) };
        let next = source.next(step).map_err(|error| error.to_string())?;
        let told = next.filter(|item| item.step == step && item.question == Question::Entry).is_some();
        let record = source.place().0;
        if !told {
            return usual.ok_or_else(|| format!("record {record} of the journal does not say what step {step} is"));
        }
        let item = source.take().ok_or_else(|| "the entry is gone".to_owned())?;
        match postcard::from_bytes::<(Entry, u16)>(&item.answer) {
            Ok((entry, was)) if was == check(shown) => Ok(entry),
            Ok(_) => Err(format!("by record {record} of the journal, before step {step}, it had done something else")),
            Err(_) => Err(format!("record {record} of the journal does not say what step {step} is")),
        }
    }

    /// What is called for in the step that began: all of it counts as shown, which is what each record has a checksum of.
    pub fn calls(&self, call: &[&[u8]]) {
        if self.is_on() {
            let inner = &mut *self.lock();
            call.iter().for_each(|bytes| inner.position.shows(bytes));
            inner.stop = sum(&inner.position);
        }
    }

    /// What is done does not fit what is told again, for this reason: nothing of it may leave.
    pub fn fails(&self, why: &str) {
        self.lock().differs.get_or_insert_with(|| why.to_owned());
    }

    /// The record of the journal that is told again, and the step.
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        let inner = self.lock();
        let record = match &inner.mode {
            Mode::Replay { source, .. } => source.place().0,
            _ => 0,
        };
        (record, inner.position.step)
    }

    /// Nothing is recorded any more.
    pub fn stop(&self) {
        let mut inner = self.lock();
        self.on.store(false, std::sync::atomic::Ordering::SeqCst);
        *inner = super::Inner::default();
    }
}
