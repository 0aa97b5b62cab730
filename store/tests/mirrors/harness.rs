//! One store on three sides, troubled again and again.

use crate::model::{World, compare, step};
use semper_store::sim::{Failure, SimRng, SimSides};
use semper_store::{
    Canary, CreateOptions, Disk as _, Error, Generation, MIRRORS_FILE, MirrorState, MirrorStatus, OpenOptions, Sites,
    Store,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::Scope;

const SIDES: usize = 3;
const SIZE: u64 = 3 << 20;

semper_store::sim_counts! {
    /// What a run did.
    #[allow(dead_code, reason = "printed")]
    pub struct Outcome {
        pub crashes: u64,
        pub commits: u64,
        /// Sides that went away while the store went on.
        pub dropped: u64,
        /// Sides that were brought up to date.
        pub filled: u64,
        /// Tries to do so that were cut off.
        pub cut_off: u64,
        /// Blocks written anew.
        pub mended: u64,
        /// Sides that were looked at alone.
        pub alone: u64,
        pub full: u64,
        /// Times that the store was made smaller, and larger.
        pub shrunk: u64,
        pub grown: u64,
    }
}

pub struct Harness {
    sides: Arc<SimSides>,
    rng: SimRng,
    canary: Option<Canary>,
    worlds: BTreeMap<u64, World>,
    announced: u64,
    in_doubt: Option<u64>,
    /// A side that is rotten, which has to be put right before the next trouble.
    rotten: Option<String>,
    pub outcome: Outcome,
}

impl Harness {
    pub fn new(seed: u64, canary: Option<Canary>) -> Self {
        let sides = SimSides::new(SIDES);
        let options = CreateOptions { size_bytes: SIZE, ..CreateOptions::default() };
        drop(Store::create_on(sides.side("0").disk().clone(), &options).unwrap());
        Self {
            sides,
            rng: SimRng::new(seed.wrapping_mul(0x1234_5678_9abc_def1)),
            canary,
            worlds: BTreeMap::from([(0, World::default())]),
            announced: 0,
            in_doubt: None,
            rotten: None,
            outcome: Outcome::default(),
        }
    }

    /// So many times: trouble, crash, recovery. A sentence says what did not hold.
    pub fn run(mut self, cycles: u64) -> Result<Outcome, String> {
        for cycle in 0..cycles {
            self.cycle().map_err(|e| format!("cycle {cycle}: {e}"))?;
        }
        Ok(self.outcome)
    }

    fn cycle(&mut self) -> Result<(), String> {
        self.pull_one();
        let store = self.recover()?;
        if let Some(rotten) = self.rotten.take() {
            self.put_right(&store, &rotten)?;
        }
        if self.sides_known(&store) < SIDES && self.rng.one_in(3) {
            self.add(&store)?;
        }
        let wholes = whole(&store);
        self.plan_trouble();
        let store = Arc::new(store);
        let filled = std::thread::scope(|scope| {
            let filling = self.fill_one(scope, &store);
            let worked = self.work(&store);
            let filled = filling.map(|thread| thread.join().unwrap());
            worked.map(|()| filled)
        })?;
        match filled {
            Some(Ok(())) => self.outcome.filled += 1,
            Some(Err(_)) => self.outcome.cut_off += 1,
            None => {}
        }
        self.outcome.dropped += wholes.iter().filter(|side| !whole(&store).contains(side)).count() as u64;
        if self.sides.side("0").disk().is_on() && self.rng.one_in(3) {
            self.look_alone(&store)?;
        }
        drop(store);
        self.sides.all().for_each(|(_, side)| side.disk().power_cycle(&mut self.rng));
        self.sides.all().for_each(|(_, side)| side.disk().plug());
        self.outcome.crashes += 1;
        let wholes = self.noted_whole();
        if wholes.len() > 1 && self.rng.one_in(4) {
            self.rot(&wholes);
        }
        Ok(())
    }

    fn sides_known(&self, store: &Store) -> usize {
        store.mirrors().len().max(1)
    }

    /// A side may be missing at opening, but not the one that knows best.
    fn pull_one(&mut self) {
        if self.rotten.is_some() || !self.rng.one_in(4) {
            return;
        }
        let known = |name: &str| {
            let text = self.sides.side(name).noted(MIRRORS_FILE)?;
            text.contains(&format!("member {name} whole")).then(|| epoch(&text))
        };
        let best = (0..SIDES).map(|side| side.to_string()).max_by_key(|name| known(name)).unwrap();
        let pulled = self.rng.below(SIDES as u64).to_string();
        if known(&best).is_some() && pulled != best {
            self.sides.side(&pulled).disk().pull();
        }
    }

    fn recover(&mut self) -> Result<Store, String> {
        let there = |name: &String| {
            let side = self.sides.side(name);
            !side.disk().is_gone() && (name == "0" || side.noted(MIRRORS_FILE).is_some())
        };
        let names: Vec<String> = (0..SIDES).map(|side| side.to_string()).filter(there).collect();
        let home = self.rng.pick(&names).clone();
        let sites = Arc::clone(&self.sides) as Arc<dyn Sites>;
        let opened = Store::open_at(&sites, &home, &self.options());
        let store = opened.map_err(|e| format!("opening at {home} fails: {e}"))?;
        let stands = store.generation().0;
        if stands != self.announced && Some(stands) != self.in_doubt {
            let sides = store.mirrors();
            return Err(format!("generation {stands} stands, {} was announced: {sides:?}", self.announced));
        }
        for info in store.generations() {
            self.verify(&store, info.generation)?;
        }
        self.announced = stands;
        self.in_doubt = None;
        self.worlds.retain(|number, _| *number <= stands && *number + 300 > stands);
        Ok(store)
    }

    fn verify(&self, store: &Store, generation: Generation) -> Result<(), String> {
        let world = self.worlds.get(&generation.0).ok_or_else(|| format!("{generation} was never committed"))?;
        match compare(store, generation, world) {
            Ok(None) => Ok(()),
            Ok(Some(wrong)) => Err(wrong),
            Err(e) => Err(format!("{generation}: {e}; {:?}", store.mirrors())),
        }
    }

    /// A side whose roots are rotten was left out.
    fn put_right(&mut self, store: &Store, rotten: &str) -> Result<(), String> {
        let left_out =
            |side: &MirrorStatus| side.place.to_str() == Some(rotten) && matches!(side.state, MirrorState::Away { .. });
        if let Some(side) = store.mirrors().into_iter().find(left_out) {
            store
                .fill_mirror(side.number, None, &|_, _| Vec::new())
                .map_err(|e| format!("filling the rotten side {rotten}: {e}"))?;
        }
        self.scrub(store)
    }

    /// Everything is read on every side; what is rotten is put right.
    fn scrub(&mut self, store: &Store) -> Result<(), String> {
        let report = store.check(&mut |_| ());
        if !report.faults.is_empty() {
            return Err(format!("lost on every side: {:?}", report.faults));
        }
        for rotten in &report.rotten {
            let mended = store.mend(&rotten.block).ok_or_else(|| format!("not mended: {}", rotten.fault))?;
            self.outcome.mended += u64::from(mended);
        }
        self.outcome.mended += store.mirrors().iter().map(|side| side.mended).sum::<u64>();
        let again = store.check(&mut |_| ());
        if again.is_sound() { Ok(()) } else { Err(format!("not put right: {again:?}")) }
    }

    fn add(&mut self, store: &Store) -> Result<(), String> {
        let known = store.mirrors();
        let free = (1..SIDES).map(|side| side.to_string()).find(|name| {
            let side = self.sides.side(name);
            let blank = side.noted(MIRRORS_FILE).is_none() && !side.disk().is_gone();
            blank && !known.iter().any(|side| side.place.to_str() == Some(name))
        });
        match free {
            Some(name) => store.add_mirror_at(&name).map(drop).map_err(|e| format!("adding {name}: {e}")),
            None => Ok(()),
        }
    }

    /// Brings a side up to date that is away, beside the commits.
    fn fill_one<'s>(
        &mut self,
        scope: &'s Scope<'s, '_>,
        store: &Arc<Store>,
    ) -> Option<std::thread::ScopedJoinHandle<'s, Result<(), Error>>> {
        let away = store.mirrors().into_iter().find(|side| matches!(side.state, MirrorState::Away { .. }))?;
        if self.rng.one_in(4) {
            return None;
        }
        let store = Arc::clone(store);
        Some(scope.spawn(move || store.fill_mirror(away.number, None, &|_, _| Vec::new())))
    }

    fn plan_trouble(&mut self) {
        let name = self.rng.below(SIDES as u64).to_string();
        let disk = self.sides.side(&name).disk();
        let at = disk.calls() + self.rng.below(60);
        match self.rng.below(12) {
            0..3 => disk.fail_at(at, Failure::PowerLoss),
            3..6 => disk.fail_at(at, Failure::Gone),
            6 => disk.fail_at(at, Failure::Eio),
            7 => disk.fail_at(at, Failure::Enospc),
            8 => disk.fail_at_flush(self.rng.below(8)),
            _ => {}
        }
    }

    fn work(&mut self, store: &Store) -> Result<(), String> {
        for _ in 0..1 + self.rng.below(6) {
            if !self.commit(store)? || self.rng.one_in(16) && !self.resize(store)? {
                break;
            }
        }
        Ok(())
    }

    /// One commit; false if the store is of no more use.
    fn commit(&mut self, store: &Store) -> Result<bool, String> {
        let several = whole(store).len() > 1;
        let mut commit = match store.begin() {
            Ok(commit) => commit,
            Err(e @ Error::Corrupt(_)) => return Err(format!("no commit can begin: {e}")),
            Err(e) => return self.failed(store, "no commit can begin", &e, several),
        };
        let number = commit.generation().0;
        let mut world = self.worlds[&store.generation().0].clone();
        for _ in 0..=self.rng.below(8) {
            match step(&mut world, &mut commit, &mut self.rng) {
                Ok(()) => {}
                Err(Error::Full { .. }) => {
                    self.outcome.full += 1;
                    return Ok(true);
                }
                Err(e) => return self.failed(store, "a commit fails", &e, several),
            }
        }
        self.worlds.insert(number, world);
        self.in_doubt = Some(number);
        match commit.commit() {
            Ok(_) => {
                self.announced = number;
                self.in_doubt = None;
                self.outcome.commits += 1;
                Ok(true)
            }
            Err(Error::Full { .. }) => {
                self.outcome.full += 1;
                self.in_doubt = None;
                Ok(true)
            }
            Err(e) => self.failed(store, "a commit fails", &e, several),
        }
    }

    /// Another size, with commits between the steps; false if the store is of no more use.
    fn resize(&mut self, store: &Store) -> Result<bool, String> {
        let several = whole(store).len() > 1;
        let size = (2 << 20) + self.rng.below(SIZE - (2 << 20)) / 4096 * 4096;
        if size >= store.space().total * 4096 {
            return match store.grow(size) {
                Ok(()) => {
                    self.outcome.grown += 1;
                    Ok(true)
                }
                Err(e) => self.failed(store, "growing fails", &e, several),
            };
        }
        let mut beside = Ok(true);
        let shrunk = store.shrink(size, &mut |_| {
            self.moved(store);
            beside = if self.rng.one_in(3) { self.commit(store) } else { Ok(true) };
            if beside == Ok(true) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if beside != Ok(true) {
            return beside;
        }
        self.moved(store);
        match shrunk {
            Ok(()) => {
                self.outcome.shrunk += 1;
                let there = |name: &String| self.sides.side(name).disk().len().unwrap_or(size);
                match whole(store).into_iter().find(|name| there(name) != size) {
                    Some(name) => Err(format!("side {name} has {} bytes, not {size}", there(&name))),
                    None => Ok(true),
                }
            }
            Err(Error::DoesNotFit { .. } | Error::StillHeld { .. }) => Ok(true),
            Err(e) => self.failed(store, "making it smaller fails", &e, several),
        }
    }

    /// Commits that moved blocks have made no other world; one more may be durable and not announced.
    fn moved(&mut self, store: &Store) {
        let newest = store.generation().0;
        let world = self.worlds[&self.announced].clone();
        for number in self.announced + 1..=newest + 1 {
            self.worlds.insert(number, world.clone());
        }
        (self.announced, self.in_doubt) = (newest, Some(newest + 1));
    }

    /// Without a loss of power a failure of one side is none of the store, if another is there.
    fn failed(&self, store: &Store, what: &str, e: &Error, several: bool) -> Result<bool, String> {
        let on = self.sides.side("0").disk().is_on();
        if matches!(e, Error::Corrupt(_)) || on && several {
            return Err(format!("{what}: {e}; {:?}", store.mirrors()));
        }
        Ok(false)
    }

    /// The sides that the newest record says to be whole.
    fn noted_whole(&self) -> Vec<String> {
        let texts = self.sides.all().filter_map(|(_, side)| side.noted(MIRRORS_FILE));
        let newest = texts.max_by_key(|text| epoch(text)).unwrap_or_default();
        newest.lines().filter_map(|line| line.split_once(" whole ")).map(|(_, place)| place.to_owned()).collect()
    }

    /// What each side that counts has on its medium: it could go on alone.
    fn look_alone(&mut self, store: &Store) -> Result<(), String> {
        for name in whole(store) {
            let copy = self.sides.side(&name).disk().copy();
            let alone = Store::open_on(copy, &self.options()).map_err(|e| format!("side {name} alone: {e}"))?;
            if alone.generation().0 != self.announced && Some(alone.generation().0) != self.in_doubt {
                return Err(format!("side {name} alone is at {}, not {}", alone.generation(), self.announced));
            }
            for info in alone.generations() {
                self.verify(&alone, info.generation).map_err(|e| format!("side {name} alone: {e}"))?;
            }
            self.outcome.alone += 1;
        }
        Ok(())
    }

    /// One side rots while everything is off; another one is whole.
    fn rot(&mut self, wholes: &[String]) {
        let name: &String = self.rng.pick(wholes);
        self.rotten = Some(name.clone());
        let disk = self.sides.side(name).disk();
        let pages = disk.written_pages();
        for _ in 0..1 + self.rng.below(4) {
            let (a, b) = (*self.rng.pick(&pages), *self.rng.pick(&pages));
            match self.rng.below(4) {
                0 => disk.swap(a, b),
                1 => disk.refuse(a),
                _ => disk.rot(a * 4096 + self.rng.below(4096), 1 << self.rng.below(8)),
            }
        }
    }

    fn options(&self) -> OpenOptions {
        OpenOptions { walk_in_commit: true, canary: self.canary, ..OpenOptions::default() }
    }
}

/// The names of the sides that are whole.
fn whole(store: &Store) -> Vec<String> {
    let all = store.mirrors();
    if all.is_empty() {
        return vec!["0".to_owned()];
    }
    let whole = all.into_iter().filter(|side| side.state == MirrorState::Whole);
    whole.map(|side| side.place.to_string_lossy().into_owned()).collect()
}

/// The epoch that a record speaks of.
fn epoch(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("epoch ")?.split(' ').next()?.parse().ok())
}
