//! One journal on three sides, troubled again and again.

use crate::model::{Asked, Model};
use semper_journal::{Appended, Error, JOURNAL_DIR, Journal, Kind, Options, Reader, Seen, Submitted, kept, verify};
use semper_store::sim::{Failure, SimRng, SimSide, SimSides};
use semper_store::{CreateOptions, Folder, MIRRORS_FILE, MirrorState, OpenOptions, Sites, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SIDES: usize = 3;
/// Small, so that segments are many.
const SEGMENT: u64 = 32 << 10;

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    Journal(semper_journal::Canary),
    Store(semper_store::Canary),
    /// A side that comes back keeps all files whose names the others have.
    KeepNewest,
}

semper_store::sim_counts! {
    /// What a run did.
    pub struct Outcome {
        pub crashes: u64,
        pub records: u64,
        /// Sides that went away while the journal went on.
        pub dropped: u64,
        /// Sides that were brought up to date, and tries that were cut off.
        pub filled: u64,
        pub cut_off: u64,
        /// Files that were not copied, since the side had them.
        pub kept: u64,
        /// What was written anew.
        pub mended: u64,
        /// Times that one side alone was left.
        pub alone: u64,
        pub trims: u64,
    }
}

pub struct Harness {
    sides: Arc<SimSides>,
    rng: SimRng,
    bug: Bug,
    model: Model,
    /// What was asked for and not acknowledged, in order.
    in_doubt: Vec<Asked>,
    trim_in_doubt: Option<u64>,
    /// A side is rotten, and is to be put right before the next trouble.
    rotten: bool,
    kept: Arc<AtomicU64>,
    outcome: Outcome,
}

fn whole(store: &Store) -> Vec<u32> {
    let sides = store.mirrors().into_iter().filter(|side| side.state == MirrorState::Whole);
    sides.map(|side| side.number).collect()
}

impl Harness {
    pub fn new(seed: u64, bug: Bug) -> Self {
        let sides = SimSides::new(SIDES);
        let options = CreateOptions { size_bytes: 2 << 20, ..CreateOptions::default() };
        drop(Store::create_on(sides.side("0").disk().clone(), &options).unwrap());
        let rng = SimRng::new(seed.wrapping_mul(0x1234_5678_9abc_def1));
        let (model, in_doubt, kept, outcome) = Default::default();
        Self { sides, rng, bug, model, in_doubt, trim_in_doubt: None, rotten: false, kept, outcome }
    }

    /// So many times: trouble, crash, recovery. A sentence says what did not hold.
    pub fn run(mut self, cycles: u64) -> Result<Outcome, String> {
        for cycle in 0..cycles {
            self.cycle().map_err(|e| format!("cycle {cycle}: {e}"))?;
        }
        self.outcome.kept = self.kept.load(Ordering::Relaxed);
        Ok(self.outcome)
    }

    fn cycle(&mut self) -> Result<(), String> {
        self.pull_some();
        let (store, journal) = self.recover()?;
        if store.mirrors().len() < SIDES && self.rng.one_in(3) {
            self.add(&store)?;
        }
        let wholes = whole(&store);
        self.plan_trouble(&store, wholes.len());
        let filled = std::thread::scope(|scope| {
            let away = store.mirrors().into_iter().find(|side| matches!(side.state, MirrorState::Away { .. }));
            let filling = away.filter(|_| !self.rng.one_in(4)).map(|side| {
                let (store, kept, bug) = (&store, Arc::clone(&self.kept), self.bug);
                scope.spawn(move || fill(store, side.number, bug, &kept))
            });
            let worked = self.work(&journal);
            let filled = filling.map(|thread| thread.join().unwrap());
            worked.map(|()| filled)
        })?;
        match filled {
            Some(Ok(())) => self.outcome.filled += 1,
            Some(Err(_)) => self.outcome.cut_off += 1,
            None => {}
        }
        self.outcome.dropped += wholes.iter().filter(|side| !whole(&store).contains(side)).count() as u64;
        journal.quiesce();
        drop((journal, store));
        let killed = self.rng.one_in(4) && self.sides.side("0").disk().is_on();
        for (_, side) in self.sides.all() {
            if killed && !side.disk().is_gone() {
                side.files().disk().forget_failure();
                side.disk().forget_failure();
            } else {
                side.disk().power_cycle(&mut self.rng);
                side.files().power_cycle(&mut self.rng);
            }
            side.disk().plug();
            side.files().disk().plug();
        }
        self.outcome.crashes += 1;
        let wholes = self.noted_whole();
        if wholes.len() > 1 && self.rng.one_in(4) {
            let side = self.rng.pick(&wholes).clone();
            self.rot(&side);
        }
        Ok(())
    }

    fn side(&self, name: &str) -> &Arc<SimSide> {
        self.sides.side(name)
    }

    /// The number of the epoch of a side that takes itself for whole.
    fn epoch(&self, name: &str) -> Option<u64> {
        let Some(text) = self.side(name).noted(MIRRORS_FILE) else { return (name == "0").then_some(0) };
        let epochs = text.lines().filter_map(|line| line.strip_prefix("epoch ")?.split(' ').next()?.parse().ok());
        text.contains(&format!(" whole {name}\n")).then(|| epochs.max().unwrap_or(0))
    }

    /// Sides that are whole by the newest record.
    fn noted_whole(&self) -> Vec<String> {
        let names = (0..SIDES).map(|side| side.to_string());
        let known: Vec<(u64, String)> = names.filter_map(|name| Some((self.epoch(&name)?, name))).collect();
        let newest = known.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0);
        let text =
            known.iter().find(|(epoch, _)| *epoch == newest).and_then(|(_, name)| self.side(name).noted(MIRRORS_FILE));
        let text = text.unwrap_or_else(|| " whole 0\n".to_owned());
        known.into_iter().map(|(_, name)| name).filter(|name| text.contains(&format!(" whole {name}\n"))).collect()
    }

    /// Some sides are missing at opening, but not one that knows best.
    fn pull_some(&mut self) {
        if self.rotten || !self.rng.one_in(3) {
            return;
        }
        let best: Vec<String> = {
            let wholes = self.noted_whole();
            let newest = wholes.iter().map(|name| self.epoch(name)).max().flatten();
            wholes.into_iter().filter(|name| self.epoch(name) == newest).collect()
        };
        let stays = self.rng.pick(&best).clone();
        let all = self.rng.one_in(2);
        for name in (0..SIDES).map(|side| side.to_string()).filter(|name| *name != stays) {
            if all || self.rng.one_in(2) {
                self.side(&name).disk().pull();
                self.side(&name).files().disk().pull();
            }
        }
        self.outcome.alone += u64::from(all);
    }

    fn open(&mut self) -> Result<(Store, Arc<Journal>), String> {
        let there = |name: &String| {
            let side = self.side(name);
            !side.disk().is_gone() && (name == "0" || side.noted(MIRRORS_FILE).is_some())
        };
        let names: Vec<String> = (0..SIDES).map(|side| side.to_string()).filter(there).collect();
        let home = self.rng.pick(&names).clone();
        let canary = if let Bug::Store(canary) = self.bug { Some(canary) } else { None };
        let options = OpenOptions { walk_in_commit: true, canary, ..OpenOptions::default() };
        let store = Store::open_at(&(Arc::clone(&self.sides) as Arc<dyn Sites>), &home, &options);
        let store = store.map_err(|e| format!("opening at {home} fails: {e}"))?;
        let canary = if let Bug::Journal(canary) = self.bug { Some(canary) } else { None };
        let options = Options { segment_bytes: SEGMENT, canary, ..Options::default() };
        let folder = store.folder(JOURNAL_DIR).map_err(|e| e.to_string())?;
        let journal = Journal::open(folder, store.id(), 0, &options);
        let journal = journal.map_err(|e| format!("opening the journal fails: {e}, {:?}", store.mirrors()))?;
        Ok((store, journal))
    }

    fn recover(&mut self) -> Result<(Store, Arc<Journal>), String> {
        if !self.rotten && self.rng.one_in(6) {
            let disk = Arc::clone(self.side("0").files().disk());
            disk.fail_at(disk.calls() + self.rng.below(40), Failure::PowerLoss);
            drop(self.open().inspect(|(_, journal)| journal.quiesce()));
            let gone: Vec<bool> = self.sides.all().map(|(_, side)| side.disk().is_gone()).collect();
            for ((_, side), gone) in self.sides.all().zip(gone) {
                side.disk().power_cycle(&mut self.rng);
                side.files().power_cycle(&mut self.rng);
                if gone {
                    side.disk().pull();
                    side.files().disk().pull();
                }
            }
        }
        let (store, journal) = self.open()?;
        if let Some(e) = journal.trouble() {
            return Err(format!("it says: {e}, {:?}", store.mirrors()));
        }
        let folder = store.folder(JOURNAL_DIR).map_err(|e| e.to_string())?;
        self.compare(&folder, &store)?;
        self.look_up(&journal)?;
        if std::mem::take(&mut self.rotten) || self.rng.one_in(4) {
            let looked = verify(Arc::clone(&folder), store.id(), &mut |_| ()).map_err(|e| e.to_string())?;
            if !looked.lost.is_empty() {
                return Err(format!("lost on all sides: {:?}", looked.lost));
            }
            self.outcome.mended += looked.rotten + store.mirrors().iter().map(|side| side.mended).sum::<u64>();
            let again = verify(folder, store.id(), &mut |_| ()).map_err(|e| e.to_string())?;
            if again.rotten > 0 || !again.lost.is_empty() {
                return Err(format!("not put right: {again:?}"));
            }
        }
        Ok((store, journal))
    }

    /// All that was acknowledged is there, and nothing that was never asked for.
    fn compare(&mut self, folder: &Arc<dyn Folder>, store: &Store) -> Result<(), String> {
        let mut reader = Reader::open(Arc::clone(folder), store.id(), 0).map_err(|e| e.to_string())?;
        if reader.first() != self.model.first {
            if Some(reader.first()) != self.trim_in_doubt {
                return Err(format!("it begins with {} instead of {}", reader.first(), self.model.first));
            }
            self.model.trim(reader.first());
        }
        self.trim_in_doubt = None;
        let mut doubt = std::mem::take(&mut self.in_doubt).into_iter();
        let mut next = reader.first();
        while let Some(seen) = reader.step().map_err(|e| e.to_string())? {
            let Seen::Record(record) = seen else { return Err(format!("{seen:?} of {:?}", store.mirrors())) };
            if record.sequence != next {
                return Err(format!("{record:?} comes instead of record {next}"));
            }
            next += 1;
            match self.model.records.get(&record.sequence) {
                Some(asked) if asked.is(&record) => {}
                None if record.kind == Kind::Note => self.model.add_note(record.sequence),
                None if record.sequence >= self.model.end => match doubt.find(|asked| asked.is(&record)) {
                    Some(asked) => self.model.add(record.sequence, asked),
                    None => return Err(format!("{record:?} was never asked for")),
                },
                _ => return Err(format!("{record:?} is another")),
            }
        }
        if next < self.model.end {
            return Err(format!("it ends at {next} instead of {}, {:?}", self.model.end, store.mirrors()));
        }
        Ok(())
    }

    fn look_up(&mut self, journal: &Arc<Journal>) -> Result<(), String> {
        let all: Vec<_> = self.model.records.iter().map(|(s, a)| (*s, *a)).collect();
        for _ in 0..4.min(all.len()) {
            let (sequence, asked) = *self.rng.pick(&all);
            match journal.find(asked.writer, asked.number) {
                Ok(Some(record)) if record.sequence == sequence && asked.is(&record) => {}
                other => return Err(format!("record {sequence} is looked for, and is {other:?}")),
            }
        }
        Ok(())
    }

    fn add(&mut self, store: &Store) -> Result<(), String> {
        let known = store.mirrors();
        let free = (1..SIDES).map(|side| side.to_string()).find(|name| {
            let blank = self.side(name).noted(MIRRORS_FILE).is_none() && !self.side(name).disk().is_gone();
            blank && !known.iter().any(|side| side.place.to_str() == Some(name))
        });
        free.map_or(Ok(()), |name| store.add_mirror_at(&name).map(drop).map_err(|e| format!("adding {name}: {e}")))
    }

    fn plan_trouble(&mut self, store: &Store, wholes: usize) {
        let away = store.mirrors().into_iter().find(|side| side.state != MirrorState::Whole);
        let name = match away {
            // What is copied is to be cut off at every place.
            Some(side) if self.rng.one_in(2) => side.place.display().to_string(),
            _ => self.rng.below(SIDES as u64).to_string(),
        };
        let disk = Arc::clone(self.side(&name).files().disk());
        let at = disk.calls() + self.rng.below(150);
        match self.rng.below(12) {
            0..3 => disk.fail_at(at, Failure::PowerLoss),
            3..6 => disk.fail_at(at, Failure::Gone),
            6 if wholes > 1 => disk.fail_at(at, Failure::Eio),
            7 => disk.fail_at(at, Failure::Enospc),
            8 | 9 => disk.fail_at_flush(self.rng.below(8)),
            _ => {}
        }
    }

    fn work(&mut self, journal: &Arc<Journal>) -> Result<(), String> {
        for _ in 0..2 + self.rng.below(16) {
            let goes_on = if self.rng.one_in(12) { self.trim(journal) } else { self.append(journal)? };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn trim(&mut self, journal: &Arc<Journal>) -> bool {
        let before = self.model.first + self.rng.below(self.model.end - self.model.first + 1);
        let whole = journal.spans().into_iter().take_while(|(_, end, _)| *end <= before).last();
        self.trim_in_doubt = whole.map(|(_, end, _)| end);
        let Ok(trimmed) = journal.trim(before, "a test") else { return false };
        self.trim_in_doubt = None;
        if trimmed.segments > 0 {
            self.outcome.trims += 1;
            self.model.trim(trimmed.first);
            journal.quiesce();
        }
        journal.trouble().is_none()
    }

    /// A batch; false if the journal is of no more use.
    fn append(&mut self, journal: &Arc<Journal>) -> Result<bool, String> {
        let (mut batch, mut tickets): (Vec<Asked>, Vec<_>) = Default::default();
        for _ in 0..1 + self.rng.below(3) {
            let asked = Asked::new(&mut self.rng, &self.model);
            if batch.iter().any(|other| (other.writer, other.number) == (asked.writer, asked.number)) {
                continue;
            }
            match journal.submit(asked.writer, asked.number, &asked.bytes()) {
                Ok(Submitted::New(ticket)) => {
                    batch.push(asked);
                    tickets.push(ticket);
                }
                Ok(_) => return Err(format!("{asked:?} is there already")),
                Err(_) => break,
            }
        }
        self.in_doubt.extend(&batch);
        let mut failed = None;
        for (asked, ticket) in batch.iter().zip(tickets) {
            match ticket.wait() {
                Ok(sequence) => {
                    self.in_doubt.retain(|other| other != asked);
                    self.model.add(sequence, *asked);
                    self.outcome.records += 1;
                }
                Err(e) => failed = Some(e),
            }
        }
        Ok(match failed {
            None => journal.trouble().is_none(),
            Some(Error::Full(_)) => false,
            Some(_) => {
                let asked = Asked::new(&mut self.rng, &self.model);
                if let Ok(Appended::New(_)) = journal.append(asked.writer, asked.number, b"after a failure") {
                    return Err("a journal whose flush failed takes another record".to_owned());
                }
                false
            }
        })
    }

    /// Spoils one side: some pages, or a file.
    fn rot(&mut self, side: &str) {
        let files = Arc::clone(self.side(side).files());
        let names = files.names().unwrap_or_default();
        if names.is_empty() {
            return;
        }
        self.rotten = true;
        if self.rng.one_in(4) {
            let count = if self.rng.one_in(3) { names.len() } else { 1 };
            for _ in 0..count {
                files.delete(&self.rng.pick(&names).clone());
            }
            return;
        }
        for _ in 0..1 + self.rng.below(6) {
            let pages = files.written_pages(&self.rng.pick(&names).clone());
            if pages.is_empty() {
                continue;
            }
            let page = *self.rng.pick(&pages);
            match self.rng.below(4) {
                0 => files.disk().refuse(page),
                1 => files.disk().swap(page, *self.rng.pick(&pages)),
                _ => files.disk().rot(page * 4096 + self.rng.below(4096), 1 << self.rng.below(8)),
            }
        }
    }
}

fn fill(store: &Store, number: u32, bug: Bug, count: &AtomicU64) -> Result<(), semper_store::Error> {
    store.fill_mirror(number, None, &|side, whole| {
        let kept = match bug {
            Bug::KeepNewest => side.names().unwrap_or_default().into_iter().filter(|name| name != "state").collect(),
            _ => kept(side, whole, store.id()),
        };
        count.fetch_add(kept.len() as u64, Ordering::Relaxed);
        kept
    })
}
