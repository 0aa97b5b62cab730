//! The journal, as native domains ask it by their keys.
//!
//! The executive never waits for the disk: what a domain asks is handed to a thread, which reads, or submits and is told; the
//! answer comes to the next turn. After a restart what was asked is asked again, and an append finds its record.

use super::ExecutiveError;
use super::recording::Told;
use super::turn::Turn;
use crate::kernel::Kernel;
use crate::objects::{self, InvokeError, JournalAsk, JournalOrder, Text};
use crate::table::RecordId;
use semper_journal::{Error, Record, Writer};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What a domain asked, with the string of its message.
struct Job {
    domain: RecordId,
    serial: u64,
    ask: JournalAsk,
    bytes: Vec<u8>,
}

/// An answer: words and a string.
type Answered = Result<([u64; 4], Vec<u8>), InvokeError>;

/// Answers that wait for the next turn, and the thread that they come from.
#[derive(Default)]
pub(super) struct Answers {
    ready: Mutex<Vec<(RecordId, u64, Answered)>>,
    asker: Mutex<Option<Sender<Job>>>,
}

impl Turn<'_> {
    /// Hands on what was asked, and gives the answers that came.
    pub(super) fn journal(&mut self) -> Result<(), ExecutiveError> {
        for (domain, serial, ask) in std::mem::take(&mut self.state.asks) {
            // Whoever is gone needs no answer.
            if !objects::still_waits(&self.kernel.objects().table, domain, serial) {
                continue;
            }
            let text = if ask.len > 0 { Text::Message { domain, len: ask.len } } else { Text::Empty };
            let bytes = self.text(&text, &[])?;
            self.state.buffer = bytes.clone();
            self.kernel.native.journal.ask(self.kernel, Job { domain, serial, ask, bytes });
        }
        let ready = std::mem::take(&mut *self.kernel.native.journal.lock());
        for (domain, serial, answer) in ready {
            let told = answer.map_or_else(Told::from, |(words, bytes)| Told { words, bytes, ..Told::default() });
            self.tell((domain, serial), told)?;
        }
        Ok(())
    }
}

impl Answers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(RecordId, u64, Answered)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a job to the thread, which is started with the first.
    fn ask(&self, kernel: &Kernel, job: Job) {
        let mut asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        if asker.is_none() {
            let (sender, jobs) = channel::<Job>();
            let kernel = kernel.myself();
            let spawned = std::thread::Builder::new().name("ask-journal".into()).spawn(move || {
                while let Ok(job) = jobs.recv() {
                    let Some(kernel) = kernel.upgrade() else { return };
                    do_job(&kernel, job);
                }
            });
            match spawned {
                Ok(_) => *asker = Some(sender),
                Err(error) => tracing::error!(%error, "the thread that asks the journal cannot be started"),
            }
        }
        let (domain, serial) = (job.domain, job.serial);
        if asker.as_ref().is_none_or(|asker| asker.send(job).is_err()) {
            kernel.native.tell(domain, serial, Err(InvokeError::JournalBroken));
        }
    }
}

impl super::Executive {
    /// An answer for the next turn.
    fn tell(&self, domain: RecordId, serial: u64, told: Answered) {
        self.journal.lock().push((domain, serial, told));
        self.ring();
    }
}

fn do_job(kernel: &Arc<Kernel>, job: Job) {
    let Job { domain, serial, ask, bytes } = job;
    let writer = Writer::from_word(ask.writer);
    if ask.order == JournalOrder::Append {
        let weak: Weak<Kernel> = kernel.myself();
        let number = ask.number;
        let told = move |result: Result<(bool, u64), Error>| {
            let Some(kernel) = weak.upgrade() else { return };
            let told = match result {
                Ok((true, place)) => Ok(([place, 0, 0, 0], Vec::new())),
                Ok((false, _)) => found(&kernel, writer, number),
                Err(error) => Err(refusal(&error)),
            };
            kernel.native.tell(domain, serial, told);
        };
        match kernel.journal.append_then(writer, number, &bytes, told) {
            None => {}
            Some(Ok(_)) => kernel.native.tell(domain, serial, found(kernel, writer, number)),
            Some(Err(error)) => kernel.native.tell(domain, serial, Err(refusal(&error))),
        }
        return;
    }
    let record = kernel.journal.to_read().and_then(|journal| match (journal, ask.order) {
        (None, _) => Ok(None),
        (Some(journal), JournalOrder::Last) => journal.last(writer, ask.number),
        (Some(journal), JournalOrder::Next) => journal.next_of(writer, ask.number),
        (Some(journal), _) => journal.find(writer, ask.number),
    });
    let told = match record {
        Ok(Some(Record { sequence, number, time, bytes, .. })) => Ok(([sequence, 1, number, time], bytes)),
        Ok(None) => Ok(([0; 4], Vec::new())),
        Err(error) => Err(refusal(&error)),
    };
    kernel.native.tell(domain, serial, told);
}

/// What an append says that found its record.
fn found(kernel: &Arc<Kernel>, writer: Writer, number: u64) -> Answered {
    let record = kernel.journal.to_read().and_then(|journal| journal.map_or(Ok(None), |j| j.find(writer, number)));
    match record {
        Ok(Some(record)) => Ok(([record.sequence, 1, 0, 0], record.bytes)),
        Ok(None) => Err(InvokeError::JournalBroken),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &Error) -> InvokeError {
    match error {
        Error::Full(_) => InvokeError::JournalFull,
        error => {
            tracing::debug!(%error, "a domain's call to the journal fails");
            InvokeError::JournalBroken
        }
    }
}
