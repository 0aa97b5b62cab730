//! One store, crashed again and again.

use crate::model::{World, compare, compare_changes, step};
use semper_store::sim::{Failure, SimDisk, SimRng};
use semper_store::{Canary, CreateOptions, Disk as _, Error, Generation, Hold, OpenOptions, Store};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Generations back from the newest whose worlds are remembered: more than one store that is made smaller makes.
const REMEMBERED: u64 = 300;

/// What a run may do.
#[derive(Clone, Copy)]
pub struct Setting {
    pub canary: Option<Canary>,
    /// Let flushes lie and bits rot now and then.
    pub dishonest: bool,
    pub size_bytes: u64,
    /// Walk for free space in a thread, as the runtime does, instead of in the first commit. What is done is then the same for a seed, but not
    /// which of the two a planned failure meets: their calls to the disk come in any order.
    pub walk_in_thread: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self { canary: None, dishonest: true, size_bytes: 3 << 20, walk_in_thread: false }
    }
}

semper_store::sim_counts! {
    /// What a run did.
    #[allow(dead_code, reason = "printed")]
    pub struct Outcome {
        pub crashes: u64,
        pub commits: u64,
        /// Openings that found a root or tree unusable.
        pub torn_recoveries: u64,
        /// Crashes while opening.
        pub crashed_recoveries: u64,
        /// Lies or rot that damaged the newest generation, found by a checksum, and an older one taken.
        pub rewound: u64,
        /// No generation was left.
        pub destroyed: u64,
        pub full: u64,
        /// Generations held over some commits.
        pub held: u64,
        /// Times that an older generation was made the newest again.
        pub gone_back: u64,
        /// Times that the store was made smaller, and larger.
        pub shrunk: u64,
        pub grown: u64,
        /// Times that it was not made smaller: what is in use does not fit, or something there is held.
        pub stayed: u64,
        /// Ends without loss of power: what was not flushed is still read.
        pub killed: u64,
        /// Openings that found the newest generation, which had one flush, cut off.
        pub cut_off: u64,
        pub sealed: u64,
    }
}

fn is_kept(store: &Store, generation: Generation) -> bool {
    store.generations().iter().any(|kept| kept.generation == generation)
}

pub struct Harness {
    disk: Arc<SimDisk>,
    rng: SimRng,
    setting: Setting,
    /// Every generation that was announced, or that may have become durable unannounced.
    worlds: BTreeMap<u64, World>,
    announced: u64,
    /// The generation whose commit failed on the way.
    in_doubt: Option<u64>,
    /// Older generations may have been damaged beyond what a crash does.
    sound_from: u64,
    /// The newest may have been, too.
    damaged: bool,
    lie_planned: bool,
    /// Up to the last loss of power.
    failed_flushes: u64,
    pub outcome: Outcome,
}

impl Harness {
    pub fn new(seed: u64, setting: Setting) -> Self {
        let disk = SimDisk::new();
        let options = CreateOptions { size_bytes: setting.size_bytes, ..CreateOptions::default() };
        Store::create_on(disk.clone(), &options).unwrap();
        Self {
            disk,
            rng: SimRng::new(seed.wrapping_mul(0x1234_5678_9abc_def1)),
            setting,
            worlds: BTreeMap::from([(0, World::default())]),
            announced: 0,
            in_doubt: None,
            sound_from: 0,
            damaged: false,
            lie_planned: false,
            failed_flushes: 0,
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
        let mut store = self.recover()?;
        self.plan_trouble();
        if self.rng.one_in(8) && store.seal().is_ok() {
            self.outcome.sealed += 1;
        }
        if self.rng.one_in(6) {
            match self.rewind(store)? {
                Some(again) => store = again,
                None => return self.end_of_cycle(),
            }
        }
        let held = if self.rng.one_in(3) { self.hold(&store) } else { None };
        let commits = 1 + self.rng.below(6);
        for _ in 0..commits {
            if !self.commit(&store)? || self.rng.one_in(12) && !self.resize(&store)? {
                break;
            }
        }
        if let Some(held) = held {
            self.outcome.held += 1;
            // Damage may be older than the hold.
            self.verify(&store, held.generation(), self.damaged || held.generation().0 < self.sound_from)?;
        }
        self.compare_changes(&store)?;
        if self.lie_planned && !self.disk.lie_pending() {
            self.damaged = true;
        }
        drop(store);
        self.end_of_cycle()
    }

    fn end_of_cycle(&mut self) -> Result<(), String> {
        let unharmed = self.disk.is_on() && self.disk.failed_flushes() == self.failed_flushes && !self.lie_planned;
        if unharmed && self.rng.one_in(3) {
            self.disk.forget_failure();
            self.outcome.killed += 1;
            return Ok(());
        }
        self.disk.power_cycle(&mut self.rng);
        self.failed_flushes = self.disk.failed_flushes();
        self.outcome.crashes += 1;
        if self.setting.dishonest && self.rng.one_in(15) {
            self.rot();
        }
        Ok(())
    }

    fn world(&self, generation: Generation) -> Result<&World, String> {
        self.worlds.get(&generation.0).ok_or_else(|| format!("{generation} was never committed"))
    }

    /// A generation that is kept, not too old.
    fn kept(&mut self, store: &Store) -> Generation {
        let newest = store.generation().0;
        let kept: Vec<Generation> = store.generations().iter().map(|info| info.generation).collect();
        let near: Vec<Generation> = kept.into_iter().filter(|kept| kept.0 + 12 > newest).collect();
        *self.rng.pick(&near)
    }

    fn hold(&mut self, store: &Store) -> Option<Hold> {
        let generation = self.kept(store);
        store.hold(generation).ok()
    }

    /// Goes back to some generation, and opens the store again; none if the disk failed.
    fn rewind(&mut self, store: Store) -> Result<Option<Store>, String> {
        let to = self.kept(&store);
        if to.0 < self.sound_from {
            return Ok(Some(store));
        }
        let Ok(number) = store.begin().map(|commit| commit.generation().0) else { return Ok(None) };
        let world = self.world(to)?.clone();
        self.worlds.insert(number, world);
        self.in_doubt = Some(number);
        match store.rewind(to) {
            Ok(made) if made.0 == number => {
                self.announced = number;
                self.in_doubt = None;
                self.outcome.gone_back += 1;
                let Ok(again) = Store::open_on(self.disk.clone(), &self.options()) else { return Ok(None) };
                let stands = again.generation();
                if stands.0 != number {
                    if again.recovery().fallen_back.is_empty() {
                        return Err(format!("{stands} stands after going back, which made {number}"));
                    }
                    // A page that it needs could not be read, which was told.
                    self.stand_at(stands.0);
                }
                Ok(Some(again))
            }
            Ok(made) => Err(format!("{made} was made by going back to {to}, not {number}")),
            Err(e @ Error::Corrupt(_)) => Err(format!("going back to {to} fails: {e}")),
            Err(_) => Ok(None),
        }
    }

    /// What differs between two generations, or what one holds.
    fn compare_changes(&mut self, store: &Store) -> Result<(), String> {
        if !self.rng.one_in(4) {
            return Ok(());
        }
        let (from, to) = (self.kept(store), self.kept(store));
        let from = if self.rng.one_in(4) { None } else { Some((from, self.world(from)?)) };
        let oldest = from.map_or(to.0, |(from, _)| from.0.min(to.0));
        match compare_changes(store, from, (to, self.world(to)?)) {
            Ok(None) | Err(Error::Io { .. }) => Ok(()),
            Ok(Some(wrong)) => Err(wrong),
            Err(_) if self.damaged || oldest < self.sound_from => Ok(()),
            Err(e) => Err(format!("the changes up to {to}: {e}")),
        }
    }

    fn plan_trouble(&mut self) {
        let at = self.disk.calls() + self.rng.below(50);
        self.lie_planned = false;
        match self.rng.below(12) {
            0..7 => self.disk.fail_at(at, Failure::PowerLoss),
            7 => self.disk.fail_at(at, Failure::Eio),
            8 => self.disk.fail_at(at, Failure::Enospc),
            9 if self.setting.dishonest => {
                self.disk.lie_at_flush(self.rng.below(8));
                self.lie_planned = true;
            }
            _ => {}
        }
    }

    fn rot(&mut self) {
        let pages = self.disk.written_pages();
        let (a, b) = (*self.rng.pick(&pages), *self.rng.pick(&pages));
        if self.rng.one_in(4) {
            self.disk.swap(a, b);
        } else {
            self.disk.rot(a * 4096 + self.rng.below(4096), 1 << self.rng.below(8));
        }
        self.damaged = true;
    }

    /// One commit; false if the store is of no more use.
    fn commit(&mut self, store: &Store) -> Result<bool, String> {
        let mut commit = match store.begin() {
            Ok(commit) => commit,
            Err(e @ Error::Corrupt(_)) => return Err(format!("no commit can begin: {e}")),
            Err(_) => return Ok(false),
        };
        let number = commit.generation().0;
        let mut world = self.world(store.generation())?.clone();
        for _ in 0..=self.rng.below(8) {
            match step(&mut world, &mut commit, &mut self.rng) {
                Ok(()) => {}
                Err(Error::Full { .. }) => {
                    self.outcome.full += 1;
                    return Ok(true);
                }
                Err(e @ Error::Corrupt(_)) => return Err(format!("a commit fails: {e}")),
                Err(_) => return Ok(false),
            }
        }
        if self.rng.one_in(12) {
            return Ok(true);
        }
        if self.rng.one_in(2) {
            commit.set_one_flush();
        }
        self.worlds.insert(number, world);
        self.in_doubt = Some(number);
        match commit.commit() {
            Ok(committed) => {
                if committed.generation.0 != number || store.generation().0 != number {
                    return Err(format!("generation {number} was announced as another"));
                }
                self.announced = number;
                self.in_doubt = None;
                self.outcome.commits += 1;
                if self.rng.one_in(10) { self.verify(store, Generation(number), false) } else { Ok(()) }.map(|()| true)
            }
            Err(Error::Full { .. }) => {
                self.outcome.full += 1;
                self.in_doubt = None;
                if store.generation().0 == self.announced { Ok(true) } else { Err("a full store moved on".to_owned()) }
            }
            Err(e @ Error::Corrupt(_)) => Err(format!("a commit fails: {e}")),
            Err(_) => Ok(false),
        }
    }

    /// Another size, with commits between the steps; false if the store is of no more use.
    fn resize(&mut self, store: &Store) -> Result<bool, String> {
        let size = (2 << 20) + self.rng.below(self.setting.size_bytes - (2 << 20)) / 4096 * 4096;
        let has = store.space().total * 4096;
        if size >= has {
            let grown = store.grow(size).is_ok();
            self.outcome.grown += u64::from(grown);
            return Ok(grown);
        }
        // What a commit between two steps came to.
        let mut beside = Ok(true);
        let shrunk = store.shrink(size, &mut |_| {
            beside = self.moved(store).and_then(|()| if self.rng.one_in(3) { self.commit(store) } else { Ok(true) });
            let on = beside == Ok(true) && !self.rng.one_in(40);
            if on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if beside != Ok(true) {
            return beside;
        }
        self.moved(store)?;
        let free_map = |store: &Store| store.check(&mut |_| ()).free_map_holds != Some(false);
        match shrunk {
            Ok(()) => {
                self.outcome.shrunk += 1;
                let length = self.disk.len().unwrap_or(size);
                if length != size || store.space().total * 4096 != size || !free_map(store) {
                    return Err(format!("made smaller to {size}, it has {length} bytes, {:?}", store.space()));
                }
                Ok(true)
            }
            Err(Error::DoesNotFit { .. } | Error::StillHeld { .. } | Error::Shrink(_)) => {
                self.outcome.stayed += 1;
                if store.space().total * 4096 == has { Ok(true) } else { Err("a fence was left".to_owned()) }
            }
            Err(e @ Error::Corrupt(_)) => Err(format!("making it smaller fails: {e}")),
            Err(_) => Ok(false),
        }
    }

    /// Commits that moved blocks have made no other world; one more may be durable and not announced.
    fn moved(&mut self, store: &Store) -> Result<(), String> {
        let newest = store.generation().0;
        let world = self.world(Generation(self.announced))?.clone();
        for number in self.announced + 1..=newest + 1 {
            self.worlds.insert(number, world.clone());
        }
        self.announced = newest;
        self.in_doubt = Some(newest + 1);
        Ok(())
    }

    /// A failed comparison in words. Faults that are found by a checksum are all right where `may_be_damaged`; a
    /// disk that fails or loses its power on the way says nothing. A generation whose damage was found is not listed any more, held or not.
    fn verify(&self, store: &Store, generation: Generation, may_be_damaged: bool) -> Result<(), String> {
        if may_be_damaged && store.generations().iter().all(|info| info.generation != generation) {
            return Ok(());
        }
        let world = self.world(generation)?;
        match compare(store, generation, world) {
            Ok(None) | Err(Error::Io { .. }) => Ok(()),
            // The walk, which may be under way, drops older generations whose trees do not hold.
            Ok(Some(_)) if may_be_damaged && !is_kept(store, generation) => Ok(()),
            Ok(Some(wrong)) => Err(wrong),
            Err(_) if may_be_damaged => Ok(()),
            Err(e) => Err(format!("{generation}: {e}")),
        }
    }

    fn options(&self) -> OpenOptions {
        let Setting { canary, walk_in_thread, .. } = self.setting;
        OpenOptions { walk_in_commit: !walk_in_thread, canary, ..OpenOptions::default() }
    }

    fn recover(&mut self) -> Result<Store, String> {
        if self.rng.one_in(5) {
            self.crash_while_opening();
        }
        if self.damaged {
            return self.recover_damaged();
        }
        let store = Store::open_on(self.disk.clone(), &self.options()).map_err(|e| format!("opening fails: {e}"))?;
        let stands = store.generation().0;
        if stands != self.announced && Some(stands) != self.in_doubt {
            return Err(format!(
                "generation {stands} stands, {} was announced: {:?}",
                self.announced,
                store.recovery()
            ));
        }
        self.outcome.torn_recoveries += u64::from(!store.recovery().fallen_back.is_empty());
        self.outcome.cut_off += u64::from(store.recovery().fallen_back.iter().any(|why| why.contains("was cut off")));
        self.verify(&store, Generation(stands), false)?;
        let kept = store.generations();
        if kept.len() < 2 && stands > self.sound_from {
            return Err(format!("generation {stands} stands alone"));
        }
        {
            let info = self.rng.pick(&kept).to_owned();
            self.verify(&store, info.generation, info.generation.0 < self.sound_from)?;
        }
        self.stand_at(stands);
        Ok(store)
    }

    fn crash_while_opening(&mut self) {
        self.disk.fail_at(self.disk.calls() + self.rng.below(25), Failure::PowerLoss);
        if let Ok(store) = Store::open_on(self.disk.clone(), &self.options()) {
            // The walk, and the rewriting of roots, belong to it.
            drop(store.begin());
        }
        self.disk.power_cycle(&mut self.rng);
        self.outcome.crashed_recoveries += 1;
    }

    /// After a lie or rot: the newest generation that holds throughout. What does not must have been found out.
    fn recover_damaged(&mut self) -> Result<Store, String> {
        self.damaged = false;
        let mut newest = None;
        loop {
            let options = OpenOptions { newest, ..self.options() };
            let Ok(store) = Store::open_on(self.disk.clone(), &options) else {
                return Ok(self.start_anew());
            };
            let stands = store.generation();
            let world = self.worlds.get(&stands.0).ok_or_else(|| format!("{stands} was never committed"))?;
            match compare(&store, stands, world) {
                Ok(Some(wrong)) => return Err(format!("not found out: {wrong}")),
                Ok(None) if store.begin().is_ok() => {
                    self.sound_from = stands.0;
                    self.stand_at(stands.0);
                    return Ok(store);
                }
                _ if stands.0 == 0 => return Ok(self.start_anew()),
                _ => self.outcome.rewound += 1,
            }
            newest = Some(Generation(stands.0 - 1));
        }
    }

    /// Every generation is damaged; that was found out, and no more can be asked.
    fn start_anew(&mut self) -> Store {
        let outcome = self.outcome;
        *self = Self::new(self.rng.bits(), self.setting);
        self.outcome = outcome;
        self.outcome.destroyed += 1;
        Store::open_on(self.disk.clone(), &self.options()).unwrap()
    }

    fn stand_at(&mut self, generation: u64) {
        self.announced = generation;
        self.in_doubt = None;
        self.worlds.retain(|number, _| *number <= generation && *number + REMEMBERED > generation);
    }
}
