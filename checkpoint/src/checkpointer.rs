//! The thread that takes checkpoints when the policy says so, and the handle to it.

use crate::clock::{Clock, HostClock};
use crate::engine::{Engine, Outcome};
use crate::error::CheckpointError;
use crate::figures::{History, Trigger};
use crate::schedule::{Held, Next, Policy, Schedule, Wanted};
use crate::seam::{Capture, Durable};
use crate::status::Summary;
use crate::ticket::{Answer, Ticket};
use crate::world::World;
use semper_store::Generation;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the handle and the thread share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Answered by the next capture.
    asked: Vec<Answer>,
    /// Answered when the current attempt ends.
    captured: Vec<Answer>,
    /// Answered by the final checkpoint and by no other; it is wanted while there are any.
    last: Vec<Answer>,
    stop: bool,
    paused: bool,
    held: Held,
    /// What was held and is in the current attempt; wanted again if it fails.
    held_captured: Held,
    /// The thread takes no more checkpoints, for this reason.
    ended: Option<CheckpointError>,
    history: History,
    status: Summary,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The handle to the checkpointer. Dropping it ends the thread without a further checkpoint.
pub struct Checkpointer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    /// Starts the thread. The first interval starts now.
    ///
    /// # Errors
    /// [`CheckpointError::Start`] if the host gives no thread.
    pub fn start<D, C>(
        durable: Arc<D>,
        capture: Arc<C>,
        world: Arc<dyn World>,
        policy: Policy,
    ) -> Result<Arc<Self>, CheckpointError>
    where
        C: Capture + 'static,
        D: Durable + 'static,
    {
        Self::start_with(durable, capture, world, policy, Arc::new(HostClock::default()))
    }

    /// The same with another clock.
    ///
    /// # Errors
    /// [`CheckpointError::Start`] if the host gives no thread.
    pub fn start_with<D, C>(
        durable: Arc<D>,
        capture: Arc<C>,
        world: Arc<dyn World>,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, CheckpointError>
    where
        C: Capture + 'static,
        D: Durable + 'static,
    {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        shared.lock().status.generation = durable.generation().0;
        let told = Arc::downgrade(&shared);
        capture.on_pressure(Box::new(move || {
            if let Some(shared) = told.upgrade() {
                shared.changed.notify_all();
            }
        }));
        let schedule = Schedule::new(policy, clock.now());
        let engine = Engine::new(capture, durable, world, Arc::clone(&clock), policy.limits);
        let mut driver = Driver { shared: Arc::clone(&shared), schedule, engine, clock };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
            semper_pager::run_soon();
            driver.run();
        });
        let thread = thread.map_err(|error| CheckpointError::Start(error.to_string()))?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Something is held: the next checkpoint is wanted soon.
    pub fn hasten(&self, held: Held) {
        let mut state = self.shared.lock();
        if state.held < held {
            state.held = held;
            drop(state);
            self.shared.changed.notify_all();
        }
    }

    /// Memory or space may have changed: look at once, not at the next poll.
    pub fn nudge(&self) {
        self.shared.changed.notify_all();
    }

    /// Asks for a checkpoint that contains all that happened before this call.
    #[must_use]
    pub fn request(&self) -> Ticket {
        let (ticket, answer) = Ticket::new();
        let mut state = self.shared.lock();
        match &state.ended {
            Some(reason) => answer.give(Err(reason.clone())),
            None => state.asked.push(answer),
        }
        drop(state);
        self.shared.changed.notify_all();
        ticket
    }

    /// Takes the final checkpoint of a clean end and waits for it. After success the world stands, frozen, and no further checkpoint is taken;
    /// after a failure it runs, and checkpoints go on.
    ///
    /// # Errors
    /// Why it failed.
    pub fn final_checkpoint(&self) -> Result<Generation, CheckpointError> {
        let (ticket, answer) = Ticket::new();
        {
            let mut state = self.shared.lock();
            if let Some(reason) = &state.ended {
                return Err(reason.clone());
            }
            state.last.push(answer);
        }
        self.shared.changed.notify_all();
        ticket.wait_forever()
    }

    /// Takes checkpoints only when asked, until [`Checkpointer::unpause`].
    pub fn pause(&self) {
        self.shared.change(|state| state.paused = true);
    }

    /// Goes on after a pause.
    pub fn unpause(&self) {
        self.shared.change(|state| state.paused = false);
    }

    /// Ends the thread, after the current checkpoint if there is one, and takes no other. Whoever waits gets [`CheckpointError::Ended`].
    pub fn shut_down(&self) {
        self.shared.change(|state| state.stop = true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread cannot wait for itself: this is the world calling from within a checkpoint.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let state = self.shared.lock();
        let mut status = state.status.clone();
        status.paused = state.paused;
        status.ended = state.ended.as_ref().map(ToString::to_string);
        status.totals = state.history.totals();
        status.pauses = state.history.pauses();
        status.last = state.history.last().cloned().collect();
        status
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// The thread's side.
struct Driver<C: Capture, D: Durable> {
    shared: Arc<Shared>,
    schedule: Schedule,
    engine: Engine<C, D>,
    clock: Arc<dyn Clock>,
}

impl<C: Capture, D: Durable> Driver<C, D> {
    fn run(&mut self) {
        let _end = EndOnDrop(Arc::clone(&self.shared));
        while let Some(trigger) = self.wait() {
            self.schedule.started(self.clock.now(), trigger);
            let shared = Arc::clone(&self.shared);
            let result = self.engine.checkpoint(trigger, &mut || shared.lock().capture(trigger));
            let failed = match &result {
                Ok(_) => None,
                Err(CheckpointError::Full { .. }) => Some(Some(self.engine.durable().free_bytes())),
                Err(_) => Some(None),
            };
            self.schedule.ended(self.clock.now(), failed);
            if self.shared.lock().conclude(trigger, result) {
                return;
            }
        }
    }

    /// Waits until a checkpoint is to be taken; `None`: never again.
    fn wait(&mut self) -> Option<Trigger> {
        loop {
            // Before the lock: neither must keep `hasten` waiting.
            let (pager, dirty) = (self.engine.source().wants_checkpoint(), self.dirty());
            let starving = self.engine.source().starving();
            let free = self.engine.durable().free_bytes();
            let state = self.shared.lock();
            if state.stop {
                return None;
            }
            let wanted = Wanted {
                end: !state.last.is_empty(),
                request: !state.asked.is_empty(),
                held: state.held,
                dirty,
                pager,
                starving,
                free,
                paused: state.paused,
            };
            let now = self.clock.now();
            match self.schedule.next(now, &wanted) {
                Next::Now(trigger) => return Some(trigger),
                Next::Wait(until) => {
                    let time = until.saturating_sub(now).max(Duration::from_micros(100));
                    drop(self.shared.changed.wait_timeout(state, time));
                }
            }
        }
    }

    fn dirty(&self) -> u64 {
        if self.schedule.policy().dirty_limit > 0 { self.engine.source().dirty_bytes() } else { 0 }
    }
}

impl State {
    /// The world stands: whoever asked until now gets this checkpoint.
    fn capture(&mut self, trigger: Trigger) {
        self.captured.append(&mut self.asked);
        if trigger == Trigger::Final {
            self.captured.append(&mut self.last);
        }
        self.held_captured = self.held_captured.max(std::mem::take(&mut self.held));
    }

    /// Takes note of what an attempt came to and answers who waits for it. `true`: there will be no other.
    fn conclude(&mut self, trigger: Trigger, result: Result<Outcome, CheckpointError>) -> bool {
        let mut answers = std::mem::take(&mut self.captured);
        let held = std::mem::take(&mut self.held_captured);
        self.status.note(&result);
        match result {
            Ok(outcome) => {
                let generation = outcome.generation();
                match outcome {
                    Outcome::Committed(figures) => self.history.record(*figures),
                    Outcome::Unchanged { stopped, .. } => self.history.unchanged(stopped),
                }
                if trigger == Trigger::Final {
                    self.ended = Some(CheckpointError::Finished);
                }
                answers.into_iter().for_each(|answer| answer.give(Ok(generation)));
            }
            Err(error) => {
                self.history.failed();
                self.held = self.held.max(held);
                answers.append(&mut self.asked);
                if error.is_final() {
                    self.ended = Some(error.clone());
                }
                if trigger == Trigger::Final || error.is_final() {
                    answers.append(&mut self.last);
                }
                answers.into_iter().for_each(|answer| answer.give(Err(error.clone())));
            }
        }
        self.ended.is_some()
    }
}

/// However the thread ends, nobody waits for it any longer.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let why = if std::thread::panicking() { "it failed by a bug" } else { "it was stopped" };
        let mut state = self.0.lock();
        let reason = state.ended.get_or_insert_with(|| CheckpointError::Ended(why.into())).clone();
        let mut answers = std::mem::take(&mut state.captured);
        answers.append(&mut state.asked);
        answers.append(&mut state.last);
        answers.into_iter().for_each(|answer| answer.give(Err(reason.clone())));
    }
}
