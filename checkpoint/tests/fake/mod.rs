//! A machine of plain maps: memory that a scripted program writes to, a store that is a list of maps, and a world that may refuse.
//! The program runs whenever the checkpointer does something while the world is not frozen, so every interleaving is a script.

mod store;

use semper_checkpoint::{
    Capture, CaptureError, CheckpointError, Clock, FreezeError, Inconsistency, PageSink, Scanned, Stage, World,
    WriteError,
};
use semper_store::{Committed, PAGE_SIZE, PageIndex, PageRange, SegmentId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where a page is.
pub type At = (u64, u64);
/// What all pages hold; zero is absent.
pub type Content = BTreeMap<At, u64>;

/// What the program does next.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Write(At, u64),
    /// Writes so many pages of segment 9 from 0 on.
    Fill(u64),
    Discard(At, u64),
    Drop(u64),
    Rest,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Freeze,
    Check,
    Scan,
    Copy,
    PutFull,
    Begin,
    CommitFull,
    CommitPoisons,
}

#[derive(Default)]
pub struct State {
    pub memory: Content,
    dirty: BTreeSet<At>,
    inflight: BTreeSet<At>,
    discards: Vec<Removal>,
    inflight_discards: Vec<Removal>,
    pub frozen: bool,
    pub script: VecDeque<Act>,
    /// Which faults are armed, and how many calls they let pass.
    pub faults: Vec<(Fault, u32)>,
    pub poisoned: bool,
    pub generations: BTreeMap<u64, Content>,
    pub events: Vec<String>,
    captured: Option<Content>,
    pub announced: u64,
    pub free: u64,
    pub pressed: bool,
    pub begun: u64,
    pub idle: bool,
    /// Pages go to a real store, so that `generations` stays empty.
    pub elsewhere: bool,
    pub staged_peak: u64,
}

#[derive(Debug, Clone, Copy)]
enum Removal {
    Pages(At, u64),
    Segment(u64),
}

impl Removal {
    fn covers(self, at: At) -> bool {
        match self {
            Self::Pages((segment, first), count) => at.0 == segment && (first..first + count).contains(&at.1),
            Self::Segment(segment) => at.0 == segment,
        }
    }
}

/// Memory, store and world in one.
#[derive(Default)]
pub struct Machine {
    state: Mutex<State>,
    pub now: AtomicU64,
}

impl Machine {
    pub fn new(script: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let machine = Self::default();
        machine.lock().script = script.into_iter().collect();
        Arc::new(machine)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().events)
    }

    pub fn arm(&self, fault: Fault, after: u32) {
        self.lock().faults.push((fault, after));
    }

    fn spend(&self, micros: u64) {
        self.now.fetch_add(micros, Ordering::Relaxed);
    }

    /// Something is done that takes time: the program runs, if it is not frozen.
    pub fn step(&self, micros: u64) -> MutexGuard<'_, State> {
        self.spend(micros);
        let mut state = self.lock();
        state.run();
        state
    }

    pub fn newest(&self) -> Content {
        self.lock().generations.last_key_value().map(|(_, content)| content.clone()).unwrap_or_default()
    }
}

impl State {
    pub fn run(&mut self) {
        if self.frozen {
            return;
        }
        match self.script.pop_front() {
            None | Some(Act::Rest) => {}
            Some(act) => self.act(act),
        }
    }

    pub fn act(&mut self, act: Act) {
        assert!(!self.frozen, "nothing is written while the world stands");
        match act {
            Act::Rest => {}
            Act::Write(at, value) => {
                self.memory.insert(at, value);
                self.dirty.insert(at);
            }
            Act::Fill(pages) => {
                for page in 0..pages {
                    *self.memory.entry((9, page)).or_default() += 1;
                    self.dirty.insert((9, page));
                }
            }
            Act::Discard(at, count) => self.discard(Removal::Pages(at, count)),
            Act::Drop(segment) => self.discard(Removal::Segment(segment)),
        }
    }

    fn discard(&mut self, removal: Removal) {
        self.memory.retain(|at, _| !removal.covers(*at));
        for set in [&mut self.dirty, &mut self.inflight] {
            set.retain(|at| !removal.covers(*at));
        }
        self.discards.push(removal);
    }

    pub fn fails(&mut self, fault: Fault) -> bool {
        let Some(at) = self.faults.iter().position(|(armed, _)| *armed == fault) else { return false };
        if self.faults[at].1 == 0 {
            self.faults.remove(at);
            return true;
        }
        self.faults[at].1 -= 1;
        false
    }
}

pub struct FakeScan {
    removals: Vec<Removal>,
    pages: Vec<At>,
}

impl Scanned for FakeScan {
    fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.removals.is_empty()
    }
}

#[derive(Default)]
pub struct FakeStaging(Vec<Step>);

enum Step {
    Remove(Removal),
    Put(At, u64),
}

fn page_of(value: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE_SIZE];
    page[..8].copy_from_slice(&value.to_le_bytes());
    page
}

fn give(step: &Step, sink: &mut dyn PageSink) -> Result<(), WriteError> {
    match *step {
        Step::Remove(Removal::Segment(segment)) => sink.remove_segment(SegmentId(segment)),
        Step::Remove(Removal::Pages((segment, first), count)) => {
            sink.remove(SegmentId(segment), PageRange::between(first, first + count))
        }
        Step::Put((segment, page), value) => sink.put(SegmentId(segment), PageIndex(page), &page_of(value)),
    }
}

impl Machine {
    fn steps(&self, scan: &FakeScan) -> Result<Vec<Step>, CaptureError> {
        let mut steps: Vec<Step> = scan.removals.iter().map(|removal| Step::Remove(*removal)).collect();
        for at in &scan.pages {
            let mut state = self.step(1);
            if state.fails(Fault::Copy) {
                return Err(CaptureError::Memory("a frame cannot be read".into()));
            }
            // As it is now, which may be later than the scan.
            steps.push(Step::Put(*at, state.memory.get(at).copied().unwrap_or(0)));
        }
        Ok(steps)
    }
}

impl Capture for Machine {
    type Scan = FakeScan;
    type Staging = FakeStaging;

    fn scan(&self, stage: Stage) -> Result<FakeScan, CaptureError> {
        let mut state = self.step(1000);
        assert!(state.frozen || stage == Stage::Live, "a frozen scan of a running world");
        if state.fails(Fault::Scan) {
            return Err(CaptureError::Memory("the page table cannot be read".into()));
        }
        let pages = std::mem::take(&mut state.dirty);
        let removals = std::mem::take(&mut state.discards);
        state.inflight.extend(&pages);
        state.inflight_discards.extend(&removals);
        let name = if stage == Stage::Frozen { "scan frozen" } else { "scan live" };
        state.events.push(format!("{name} {}", pages.len()));
        Ok(FakeScan { removals, pages: pages.into_iter().collect() })
    }

    fn copy(&self, scan: &FakeScan, staging: &mut FakeStaging) -> Result<(), CaptureError> {
        staging.0.extend(self.steps(scan)?);
        let mut state = self.lock();
        let held = staging.0.len() as u64;
        state.staged_peak = state.staged_peak.max(held);
        let how = if state.frozen { "copy frozen" } else { "copy" };
        state.events.push(how.into());
        Ok(())
    }

    fn copy_into(&self, scan: &FakeScan, sink: &mut dyn PageSink) -> Result<(), CaptureError> {
        let how = if self.lock().frozen { "stream frozen" } else { "stream" };
        self.lock().events.push(how.into());
        for step in &self.steps(scan)? {
            give(step, sink)?;
        }
        Ok(())
    }

    fn drain(&self, staging: &mut FakeStaging, _keep: u64, sink: &mut dyn PageSink) -> Result<(), CaptureError> {
        for step in staging.0.drain(..) {
            give(&step, sink)?;
        }
        Ok(())
    }

    fn clear(&self, staging: &mut FakeStaging) {
        staging.0.clear();
    }

    fn committed(&self) {
        let mut state = self.lock();
        state.inflight.clear();
        state.inflight_discards.clear();
    }

    fn abandon(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.dirty.append(&mut state.inflight);
        let later = std::mem::take(&mut state.discards);
        state.discards.append(&mut state.inflight_discards);
        state.discards.extend(later);
        state.events.push("abandon".into());
    }

    fn wants_checkpoint(&self) -> bool {
        self.lock().pressed
    }

    fn dirty_bytes(&self) -> u64 {
        (self.lock().dirty.len() * PAGE_SIZE) as u64
    }
}

impl World for Machine {
    fn idle(&self) -> bool {
        self.lock().idle
    }

    fn freeze(&self) -> Result<(), FreezeError> {
        let mut state = self.step(100);
        if state.fails(Fault::Freeze) {
            return Err(FreezeError::Refused("a domain does not answer".into()));
        }
        assert!(!std::mem::replace(&mut state.frozen, true), "frozen twice");
        state.events.push("freeze".into());
        Ok(())
    }

    fn check(&self) -> Result<(), Inconsistency> {
        let mut state = self.step(10);
        assert!(state.frozen);
        if state.fails(Fault::Check) { Err(Inconsistency("a node without an owner".into())) } else { Ok(()) }
    }

    fn captured(&self) {
        let mut state = self.lock();
        assert!(state.frozen);
        state.captured = Some(state.memory.iter().filter(|(_, v)| **v != 0).map(|(at, v)| (*at, *v)).collect());
        state.events.push("captured".into());
    }

    fn thaw(&self) {
        let mut state = self.lock();
        assert!(std::mem::replace(&mut state.frozen, false), "thawed without a freeze");
        state.events.push("thaw".into());
    }

    fn committed(&self, committed: &Committed) {
        let mut state = self.lock();
        let captured = state.captured.take().expect("captured before committed");
        let generation = committed.generation.0;
        if !state.elsewhere {
            assert_eq!(
                state.generations.get(&generation),
                Some(&captured),
                "generation {generation} is what was captured"
            );
        }
        assert!(generation >= state.announced);
        state.announced = generation;
        state.events.push(format!("committed {generation}"));
    }

    fn failed(&self, error: &CheckpointError) {
        let mut state = self.lock();
        assert!(!state.frozen, "the world runs after a failure");
        state.captured = None;
        state.events.push(format!("failed: {error}"));
    }
}

impl Clock for Machine {
    fn now(&self) -> Duration {
        Duration::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Duration {
        self.now()
    }

    fn sleep(&self, time: Duration) {
        self.spend(u64::try_from(time.as_micros()).unwrap());
        std::thread::yield_now();
    }
}
