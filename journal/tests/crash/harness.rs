//! One journal, crashed again and again.

use crate::model::{Asked, Model};
use semper_journal::{Appended, Canary, Error, Journal, Kind, Lost, Options, Reader, Seen, Submitted, Writer};
use semper_store::sim::{Failure, SimFolder, SimRng};
use semper_store::{Folder, StoreId};
use std::sync::Arc;

pub const STORE: StoreId = StoreId([9; 16]);
/// Small, so that segments are many.
pub const SEGMENT: u64 = 64 << 10;

/// What a run may do.
#[derive(Clone, Copy)]
pub struct Setting {
    pub canary: Option<Canary>,
    /// Let flushes lie, bits rot and files vanish now and then.
    pub dishonest: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self { canary: None, dishonest: true }
    }
}

semper_store::sim_counts! {
    /// What a run did.
    #[allow(dead_code, reason = "printed")]
    pub struct Outcome {
        pub crashes: u64,
        pub records: u64,
        /// Appends of a number that was there.
        pub found_again: u64,
        pub trims: u64,
        pub full: u64,
        /// Restarts without a loss of power.
        pub restarts: u64,
        pub crashed_openings: u64,
        /// Unacknowledged records that were there after all, and that were not.
        pub in_doubt_kept: u64,
        pub in_doubt_lost: u64,
        /// Recoveries after a lie, rot, or a file that vanished.
        pub damaged: u64,
        /// Records that were told to be lost.
        pub told_lost: u64,
        /// Journals of which nothing could be used.
        pub destroyed: u64,
    }
}

pub struct Harness {
    folder: Arc<SimFolder>,
    rng: SimRng,
    setting: Setting,
    model: Model,
    /// What was asked for and not acknowledged, in order.
    in_doubt: Vec<Asked>,
    /// The first record, should a trim have come through that failed.
    trim_in_doubt: Option<u64>,
    /// What the store knows of the journal.
    seen: u64,
    damaged: bool,
    lie_planned: bool,
    /// A call is to fail with EIO: if it is a read, what it was to read is told as lost, this once.
    eio_planned: bool,
    /// Two pages changed places: the last two batches may be gone, and look like one that was being written.
    swapped: bool,
    pub outcome: Outcome,
}

pub fn options(canary: Option<Canary>) -> Options {
    Options { segment_bytes: SEGMENT, canary, ..Options::default() }
}

pub fn folder(of: &Arc<SimFolder>) -> Arc<dyn Folder> {
    Arc::clone(of) as Arc<dyn Folder>
}

impl Harness {
    pub fn new(seed: u64, setting: Setting) -> Self {
        let sim = SimFolder::new();
        drop(Journal::open(folder(&sim), STORE, 0, &options(None)).unwrap());
        Self {
            folder: sim,
            rng: SimRng::new(seed.wrapping_mul(0x1234_5678_9abc_def1)),
            setting,
            model: Model::default(),
            in_doubt: Vec::new(),
            trim_in_doubt: None,
            seen: 0,
            damaged: false,
            lie_planned: false,
            eio_planned: false,
            swapped: false,
            outcome: Outcome::default(),
        }
    }

    /// Crashes `cycles` times, and verifies after each. A sentence says what did not hold.
    pub fn run(mut self, cycles: u64) -> Result<Outcome, String> {
        for cycle in 0..cycles {
            self.cycle().map_err(|e| format!("cycle {cycle}: {e}"))?;
        }
        Ok(self.outcome)
    }

    fn cycle(&mut self) -> Result<(), String> {
        let journal = self.recover()?;
        self.plan_trouble();
        for _ in 0..1 + self.rng.below(8) {
            if !self.act(&journal)? {
                break;
            }
        }
        if self.lie_planned && !self.folder.disk().lie_pending() {
            self.damaged = true;
        }
        // A thread of the journal's may still write a note; a process that is killed has none.
        journal.quiesce();
        drop(journal);
        // What a lie left in doubt shows when the power goes.
        if !self.lie_planned && self.rng.one_in(4) && self.folder.disk().is_on() {
            // The process was killed, and the power stays.
            self.folder.disk().forget_failure();
            self.outcome.restarts += 1;
        } else {
            self.folder.power_cycle(&mut self.rng);
            self.outcome.crashes += 1;
        }
        // One fault at a time: two may hide each other.
        if self.setting.dishonest && !self.damaged && self.rng.one_in(20) {
            self.rot();
        }
        Ok(())
    }

    fn plan_trouble(&mut self) {
        let disk = self.folder.disk();
        let at = disk.calls() + self.rng.below(40);
        (self.lie_planned, self.eio_planned) = (false, false);
        match self.rng.below(12) {
            0..6 => disk.fail_at(at, Failure::PowerLoss),
            6 | 7 => {
                disk.fail_at(at, Failure::Eio);
                self.eio_planned = true;
            }
            8 => disk.fail_at(at, Failure::Enospc),
            9 if self.setting.dishonest => {
                disk.lie_at_flush(self.rng.below(8));
                self.lie_planned = true;
            }
            _ => {}
        }
    }

    fn rot(&mut self) {
        if self.rng.one_in(4) {
            let names = self.folder.names().unwrap();
            let name = self.rng.pick(&names).clone();
            self.folder.delete(&name);
        } else {
            let pages = self.folder.disk().written_pages();
            let (a, b) = (*self.rng.pick(&pages), *self.rng.pick(&pages));
            match self.rng.below(4) {
                0 => {
                    self.folder.disk().swap(a, b);
                    self.swapped = true;
                }
                1 => self.folder.disk().refuse(a),
                _ => self.folder.disk().rot(a * 4096 + self.rng.below(4096), 1 << self.rng.below(8)),
            }
        }
        self.damaged = true;
    }

    /// One thing that a runtime does; false if the journal is of no more use.
    fn act(&mut self, journal: &Arc<Journal>) -> Result<bool, String> {
        match self.rng.below(12) {
            0 => self.trim(journal),
            1 | 2 => self.append_again(journal),
            _ => self.append(journal),
        }
    }

    fn trim(&mut self, journal: &Arc<Journal>) -> Result<bool, String> {
        let before = self.model.first + self.rng.below(self.model.end - self.model.first + 1);
        let whole = journal.spans().into_iter().take_while(|(_, end, _)| *end <= before).last();
        self.trim_in_doubt = whole.map(|(_, end, _)| end);
        match journal.trim(before, "a test") {
            Ok(trimmed) if trimmed.segments == 0 => Ok(true),
            Ok(trimmed) => {
                self.outcome.trims += 1;
                self.trim_in_doubt = None;
                self.model.trim(trimmed.first);
                // The note of it is on its way in another thread; a seed is to repeat what it does.
                journal.quiesce();
                self.append(journal)
            }
            Err(_) => Ok(false),
        }
    }

    fn append_again(&mut self, journal: &Arc<Journal>) -> Result<bool, String> {
        let numbers: Vec<_> = self.model.numbers.values().copied().collect();
        if numbers.is_empty() {
            return Ok(true);
        }
        let sequence = *self.rng.pick(&numbers);
        let asked = self.model.records[&sequence];
        match journal.append(asked.writer, asked.number, b"another") {
            Ok(Appended::There(record)) if record.sequence == sequence && asked.is(&record) => {
                self.outcome.found_again += 1;
                Ok(true)
            }
            Ok(other) => Err(format!("record {sequence} was asked for again, and gives {other:?}")),
            Err(Error::Io { .. } | Error::Poisoned(_)) => Ok(false),
            // The read that was to fail.
            Err(Error::Lost(_)) if self.eio_planned => Ok(true),
            Err(_) if self.lie_planned => Ok(false),
            Err(e) => Err(format!("record {sequence} was asked for again, and gives {e}")),
        }
    }

    /// A batch.
    fn append(&mut self, journal: &Arc<Journal>) -> Result<bool, String> {
        let mut batch: Vec<Asked> = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            let asked = Asked::new(&mut self.rng, &self.model);
            if !batch.iter().any(|other| (other.writer, other.number) == (asked.writer, asked.number)) {
                batch.push(asked);
            }
        }
        let mut tickets = Vec::new();
        let mut same = None;
        for asked in &batch {
            match journal.submit(asked.writer, asked.number, &asked.bytes()) {
                Ok(Submitted::New(ticket)) => tickets.push(ticket),
                Ok(Submitted::There(_) | Submitted::Same(_)) => return Err(format!("{asked:?} is there already")),
                Err(Error::Io { .. } | Error::Poisoned(_)) => break,
                Err(Error::Lost(_)) if self.eio_planned => break,
                Err(_) if self.lie_planned => break,
                Err(e) => return Err(format!("{asked:?} is refused: {e}")),
            }
            if same.is_none() {
                same = journal.submit(asked.writer, asked.number, b"twice").ok();
            }
        }
        if matches!(same, Some(Submitted::New(_))) {
            return Err("a record on its way is not found".to_owned());
        }
        batch.truncate(tickets.len());
        self.in_doubt.extend(&batch);
        let mut broken = None;
        for (asked, ticket) in batch.iter().zip(tickets) {
            match ticket.wait() {
                Ok(sequence) if sequence < self.model.end => {
                    return Err(format!("sequence {sequence} is given twice"));
                }
                Ok(sequence) => {
                    // Between them lie notes of the journal's own.
                    if self.model.last_batch < sequence && self.in_doubt.len() == batch.len() {
                        self.model.begin_batch(self.model.end);
                    }
                    self.in_doubt.remove(0);
                    self.model.add(sequence, *asked);
                    self.outcome.records += 1;
                }
                Err(e) => broken = Some(e),
            }
        }
        match broken {
            None => Ok(true),
            Some(Error::Full(_)) => {
                self.outcome.full += 1;
                self.in_doubt.clear();
                Ok(true)
            }
            Some(_) => {
                let asked = Asked::new(&mut self.rng, &self.model);
                match journal.append(asked.writer, asked.number, b"after a failure") {
                    Err(_) => Ok(false),
                    Ok(_) => Err("a journal whose flush failed takes another record".to_owned()),
                }
            }
        }
    }

    fn open(&self, accept_loss: bool) -> Result<Arc<Journal>, Error> {
        let options = Options { accept_loss, ..options(self.setting.canary) };
        Journal::open(folder(&self.folder), STORE, self.seen, &options)
    }

    fn recover(&mut self) -> Result<Arc<Journal>, String> {
        if self.rng.one_in(5) {
            let disk = self.folder.disk();
            disk.fail_at(disk.calls() + self.rng.below(30), Failure::PowerLoss);
            drop(self.open(false).inspect(|journal| journal.quiesce()));
            self.folder.power_cycle(&mut self.rng);
            self.outcome.crashed_openings += 1;
        }
        if self.damaged {
            return self.recover_damaged();
        }
        let journal = self.open(false).map_err(|e| format!("opening fails: {e}"))?;
        if let Some(e) = journal.trouble() {
            return Err(format!("nothing was done to it, and it says: {e}"));
        }
        let lost = self.compare()?;
        if !lost.is_empty() {
            return Err(format!("nothing was done to it, and records are lost: {lost:?}"));
        }
        self.look_up(&journal)?;
        if self.rng.one_in(2) {
            self.seen = self.model.end;
        }
        Ok(journal)
    }

    /// Reads all, and makes of what was in doubt what it is. What is told to be lost is returned.
    fn compare(&mut self) -> Result<Vec<Lost>, String> {
        let mut reader = Reader::open(folder(&self.folder), STORE, 0).map_err(|e| format!("reading: {e}"))?;
        if reader.first() != self.model.first {
            if self.trim_in_doubt != Some(reader.first()) {
                return Err(format!("it begins with {}, not {}", reader.first(), self.model.first));
            }
            self.model.trim(reader.first());
        }
        self.trim_in_doubt = None;
        let (mut lost, mut next) = (Vec::new(), self.model.first);
        let mut doubted = std::mem::take(&mut self.in_doubt).into_iter();
        while let Some(seen) = reader.step().map_err(|e| format!("reading: {e}"))? {
            let record = match seen {
                Seen::Record(record) => record,
                Seen::Lost { lost: told, .. } => {
                    if told.from != next {
                        return Err(format!("{told} is told after record {}", next - 1));
                    }
                    next = told.to + 1;
                    lost.push(told);
                    continue;
                }
            };
            if record.sequence != next {
                return Err(format!("record {} comes after {}", record.sequence, next - 1));
            }
            next += 1;
            match self.model.records.get(&record.sequence) {
                Some(asked) if asked.is(&record) => {}
                Some(_) => return Err(format!("record {} is another", record.sequence)),
                None if record.kind == Kind::Note => self.model.add_note(record.sequence),
                None if record.sequence < self.model.end => {
                    return Err(format!("record {} was never written", record.sequence));
                }
                None => match doubted.next() {
                    Some(asked) if asked.is(&record) => {
                        self.model.begin_batch(record.sequence);
                        self.model.add(record.sequence, asked);
                        self.outcome.in_doubt_kept += 1;
                    }
                    _ => return Err(format!("record {} is none that was asked for", record.sequence)),
                },
            }
        }
        self.outcome.in_doubt_lost += doubted.len() as u64;
        if next < self.model.end && !self.damaged {
            return Err(format!("records from {next} on are not there, and {} was acknowledged", self.model.end - 1));
        }
        let last = if self.swapped { self.model.batch_before } else { self.model.last_batch };
        if next < self.seen.min(self.model.end) || self.damaged && next < last {
            // Told by the handle, which knows what the store has seen.
            let journal = self.open(false);
            let told = journal.as_ref().map(|journal| journal.trouble());
            match told {
                Ok(Some(Error::Damaged(all))) if all.iter().any(|lost| lost.from <= next && next <= lost.to) => {
                    lost.extend(all.into_iter().filter(|lost| lost.to >= next));
                }
                Err(_) => {}
                Ok(other) => return Err(format!("records from {next} on are not there, and it says {other:?}")),
            }
        }
        if self.damaged {
            self.model.cut(next);
        }
        Ok(lost)
    }

    fn look_up(&mut self, journal: &Arc<Journal>) -> Result<(), String> {
        let all: Vec<_> = self.model.records.iter().map(|(s, a)| (*s, *a)).collect();
        for _ in 0..4 {
            if !all.is_empty() {
                let (sequence, asked) = *self.rng.pick(&all);
                match journal.find(asked.writer, asked.number) {
                    Ok(Some(record)) if record.sequence == sequence && asked.is(&record) => {}
                    other => return Err(format!("record {sequence} is looked for, and is {other:?}")),
                }
                let last = journal.last(asked.writer, u64::MAX).map_err(|e| e.to_string())?;
                let top = self.model.numbers.range((asked.writer, 0)..=(asked.writer, u64::MAX)).next_back();
                if last.map(|record| record.number) != top.map(|((_, number), _)| *number) {
                    return Err(format!("the last record of {} is another", asked.writer));
                }
            }
            let asked = Asked::new(&mut self.rng, &self.model);
            if let other @ (Ok(Some(_)) | Err(_)) = journal.find(asked.writer, asked.number) {
                return Err(format!("a record that was never written is {other:?}"));
            }
        }
        Ok(())
    }

    /// After a lie, rot, or a file that vanished: what is there is right, and what is not is told.
    fn recover_damaged(&mut self) -> Result<Arc<Journal>, String> {
        self.outcome.damaged += 1;
        let Ok(journal) = self.open(false) else {
            self.outcome.destroyed += 1;
            return self.start_anew();
        };
        let refuses = journal.trouble().is_some();
        let Ok(lost) = self.compare_or_unreadable()? else {
            self.outcome.destroyed += 1;
            return self.start_anew();
        };
        self.outcome.told_lost += lost.iter().map(|lost| lost.to - lost.from + 1).sum::<u64>();
        if lost.is_empty() && !refuses {
            (self.damaged, self.swapped) = (false, false);
            self.seen = self.seen.min(self.model.end);
            self.look_up(&journal)?;
            return Ok(journal);
        }
        let newest = journal.spans().last().map_or(self.model.first, |(_, end, _)| *end);
        if !refuses && lost.iter().any(|lost| lost.from >= newest) {
            return Err(format!("it takes more, though of its newest segment {lost:?} is lost"));
        }
        if refuses {
            let asked = Asked::new(&mut self.rng, &self.model);
            if journal.append(asked.writer, asked.number, b"no").is_ok() {
                return Err("a journal with lost records takes another".to_owned());
            }
        }
        journal.quiesce();
        drop(journal);
        // The operator gives up what is lost; then it goes on, and nothing is lost twice.
        let journal = self.open(true).map_err(|e| format!("giving up: {e}"))?;
        // Another writer: which numbers of the old ones are lost, nobody knows.
        let writer = Writer { number: 99, born: 1 };
        let asked = Asked { writer, ..Asked::new(&mut self.rng, &self.model) };
        let sequence = match journal.append(asked.writer, asked.number, &asked.bytes()) {
            Ok(Appended::New(sequence)) => sequence,
            other => return Err(format!("after giving up, an append gives {other:?}")),
        };
        journal.quiesce();
        drop(journal);
        let journal = self.open(false).map_err(|e| format!("after giving up: {e}"))?;
        match journal.find(asked.writer, asked.number) {
            Ok(Some(record)) if record.sequence == sequence && asked.is(&record) => {}
            other => return Err(format!("after giving up, record {sequence} is {other:?}")),
        }
        if let Some(e) = journal.trouble() {
            return Err(format!("after giving up it still says: {e}"));
        }
        self.start_anew()
    }

    /// Inside: the state cannot be read, which was told.
    fn compare_or_unreadable(&mut self) -> Result<Result<Vec<Lost>, ()>, String> {
        match Reader::open(folder(&self.folder), STORE, 0) {
            Ok(reader) if reader.first() > self.model.first && self.trim_in_doubt != Some(reader.first()) => {
                Err("it begins later than it was trimmed".to_owned())
            }
            // An older half of the state is right by itself: what was trimmed since is told as gone.
            Ok(reader) if reader.first() < self.model.first => Ok(Err(())),
            Ok(_) => self.compare().map(Ok),
            Err(_) => Ok(Err(())),
        }
    }

    fn start_anew(&mut self) -> Result<Arc<Journal>, String> {
        let outcome = self.outcome;
        *self = Self::new(self.rng.bits(), self.setting);
        self.outcome = outcome;
        self.open(false).map_err(|e| e.to_string())
    }
}
