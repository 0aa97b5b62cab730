//! One checkpoint, from the first round to the announcement.

use crate::clock::Clock;
use crate::error::CheckpointError;
use crate::figures::{Figures, Trigger};
use crate::plan::{Lessons, Limits, Plan, Step};
use crate::seam::{Capture, Durable, Scanned, Stage, Transaction};
use crate::stop::{Stopped, Stops, throttled};
use crate::world::World;
use semper_store::{Committed, Generation, crash_point};
use std::sync::Arc;
use std::time::Duration;

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A new generation.
    Committed(Box<Figures>),
    /// Nothing had changed since this generation.
    Unchanged {
        /// The newest generation.
        generation: Generation,
        /// How long the world stood to find that out.
        stopped: Duration,
    },
}

impl Outcome {
    /// The generation that contains what was captured.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        match self {
            Self::Committed(figures) => Generation(figures.generation),
            Self::Unchanged { generation, .. } => *generation,
        }
    }
}

/// Takes checkpoints, one at a time, in the calling thread. [`crate::Checkpointer`] decides when.
pub struct Engine<C: Capture, D: Durable> {
    capture: Arc<C>,
    durable: Arc<D>,
    world: Arc<dyn World>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    lessons: Lessons,
    /// For pages that are copied before they are written; kept from one checkpoint to the next, so that it is warm.
    staging: C::Staging,
}

/// What one attempt knows so far.
struct Attempt<'e, C: Capture, T: Transaction> {
    capture: &'e C,
    world: &'e dyn World,
    clock: &'e dyn Clock,
    limits: Limits,
    staging: &'e mut C::Staging,
    commit: T,
    /// Pages in `staging`.
    staged: u64,
    changed: bool,
    figures: Tally,
}

#[derive(Default)]
struct Tally {
    stops: Stops,
    rounds: u32,
    copied: u64,
    remainder: u64,
    freeze: Duration,
    check: Duration,
    scan: Duration,
    copy: Duration,
}

impl<C: Capture, D: Durable> Engine<C, D> {
    /// Takes pages from `capture` to `durable`.
    pub fn new(capture: Arc<C>, durable: Arc<D>, world: Arc<dyn World>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self { capture, durable, world, clock, limits, lessons: Lessons::default(), staging: C::Staging::default() }
    }

    /// Where pages go.
    #[must_use]
    pub const fn durable(&self) -> &Arc<D> {
        &self.durable
    }

    /// Where pages come from.
    #[must_use]
    pub const fn source(&self) -> &Arc<C> {
        &self.capture
    }

    /// Takes one. `at_capture` is called in the final stop, when it is settled that whatever happened before belongs to this checkpoint.
    ///
    /// # Errors
    /// Whatever it came to nothing for. Every page is dirty again then, and the world runs.
    pub fn checkpoint(&mut self, trigger: Trigger, at_capture: &mut dyn FnMut()) -> Result<Outcome, CheckpointError> {
        let result = self.attempt(trigger, at_capture);
        if let Err(error) = &result {
            self.capture.clear(&mut self.staging);
            self.capture.abandon();
            self.world.failed(error);
        }
        result
    }

    fn attempt(&mut self, trigger: Trigger, at_capture: &mut dyn FnMut()) -> Result<Outcome, CheckpointError> {
        let started = self.clock.now();
        crash_point("before-first-round");
        let idle = trigger == Trigger::Interval && self.world.idle();
        if !idle {
            self.world.before_capture();
        }
        let newest = self.durable.generation();
        let (mut plan, mut step) = Plan::start(self.limits, &mut self.lessons);
        let mut first = None;
        if idle || step == Step::Round {
            let scan = self.capture.scan(Stage::Live)?;
            crash_point("after-first-scan");
            if idle && scan.is_empty() && newest != Generation(0) {
                return Ok(Outcome::Unchanged { generation: newest, stopped: Duration::ZERO });
            }
            step = Step::Round;
            first = Some(scan);
        }
        let mut attempt = Attempt {
            capture: &*self.capture,
            world: &*self.world,
            clock: &*self.clock,
            limits: self.limits,
            staging: &mut self.staging,
            commit: self.durable.begin()?,
            staged: 0,
            changed: false,
            figures: Tally::default(),
        };
        let kept = loop {
            match step {
                Step::Round => {
                    let pages = attempt.round(&mut plan, first.take())?;
                    step = plan.after(step, pages);
                }
                Step::Short => {
                    let pages = attempt.short_stop(&mut plan)?;
                    step = plan.after(step, pages);
                }
                Step::Final { .. } => match attempt.final_stop(&mut plan, step, trigger, at_capture)? {
                    FinalStop::Captured { pages, kept } => {
                        plan.learn(pages, &mut self.lessons);
                        break kept;
                    }
                    FinalStop::Yielded { pages } => step = plan.after(step, pages),
                },
            }
        };
        let thaw_on_failure = kept.then(|| ThawOnFailure(&*self.world));
        let outcome = attempt.finish(trigger, started, newest)?;
        if let Some(guard) = thaw_on_failure {
            std::mem::forget(guard);
        }
        let committed = match &outcome {
            Finished::Committed(committed, _) => *committed,
            Finished::Unchanged(..) => Committed {
                generation: newest,
                pages: 0,
                bytes: 0,
                write_time: Duration::ZERO,
                flush_time: Duration::ZERO,
            },
        };
        self.capture.committed();
        self.world.committed(&committed);
        crash_point("after-announce");
        Ok(match outcome {
            Finished::Committed(_, mut figures) => {
                figures.total = self.clock.now() - started;
                figures.at = self.clock.wall();
                Outcome::Committed(figures)
            }
            Finished::Unchanged(stopped) => Outcome::Unchanged { generation: newest, stopped },
        })
    }
}

/// After the final stop of a final checkpoint the world stands; if the commit fails, it goes on.
struct ThawOnFailure<'a>(&'a dyn World);

impl Drop for ThawOnFailure<'_> {
    fn drop(&mut self) {
        self.0.thaw();
    }
}

enum FinalStop {
    Captured { pages: u64, kept: bool },
    Yielded { pages: u64 },
}

enum Finished {
    Committed(Committed, Box<Figures>),
    Unchanged(Duration),
}

impl<C: Capture, T: Transaction> Attempt<'_, C, T> {
    /// A round while domains run. The first one may have been scanned already.
    fn round(&mut self, plan: &mut Plan, scan: Option<C::Scan>) -> Result<u64, CheckpointError> {
        let is_first = self.figures.rounds == 0;
        crash_point("before-round");
        let scan = match scan {
            Some(scan) => scan,
            None => self.capture.scan(Stage::Live)?,
        };
        self.figures.rounds += 1;
        self.take_at_pace(&scan, plan)?;
        crash_point(if is_first { "after-first-round" } else { "after-round" });
        Ok(scan.pages())
    }

    /// Stop, scan, thaw; copy outside of the stop.
    fn short_stop(&mut self, plan: &mut Plan) -> Result<u64, CheckpointError> {
        let stopped = Stopped::now(self.world, self.clock)?;
        crash_point("short-frozen");
        let scan = self.capture.scan(Stage::Frozen)?;
        self.figures.stops.add(stopped.thaw());
        crash_point("short-thawed");
        self.take_at_pace(&scan, plan)?;
        crash_point("after-round");
        Ok(scan.pages())
    }

    /// Copies what a scan found while the world runs, as fast as the plan lets it.
    fn take_at_pace(&mut self, scan: &C::Scan, plan: &mut Plan) -> Result<(), CheckpointError> {
        let Some(pace) = plan.pace(scan.pages()) else { return self.take(scan, Stage::Live) };
        crash_point("throttled");
        let mut stops = self.figures.stops;
        let result = throttled((self.world, self.clock), pace, &mut stops, || self.take(scan, Stage::Live));
        self.figures.stops = stops;
        result
    }

    fn final_stop(
        &mut self,
        plan: &mut Plan,
        step: Step,
        trigger: Trigger,
        at_capture: &mut dyn FnMut(),
    ) -> Result<FinalStop, CheckpointError> {
        crash_point("before-stop");
        let (clock, world) = (self.clock, self.world);
        let stopped = Stopped::now(world, clock)?;
        crash_point("frozen");
        let frozen = clock.now();
        world.check()?;
        crash_point("after-check");
        let checked = clock.now();
        let scan = self.capture.scan(Stage::Frozen)?;
        crash_point("after-scan");
        let scanned = clock.now();
        let pages = scan.pages();
        if plan.yields(step, pages) {
            self.figures.stops.add(stopped.thaw());
            self.take_at_pace(&scan, plan)?;
            return Ok(FinalStop::Yielded { pages });
        }
        self.take(&scan, Stage::Frozen)?;
        crash_point("after-copy");
        self.figures.copy = clock.now() - scanned;
        world.captured();
        at_capture();
        crash_point("captured");
        self.figures.freeze = stopped.freeze;
        self.figures.check = checked - frozen;
        self.figures.scan = scanned - checked;
        self.figures.remainder = pages;
        let kept = trigger == Trigger::Final;
        self.figures.stops.add(if kept { stopped.keep() } else { stopped.thaw() });
        crash_point("after-thaw");
        Ok(FinalStop::Captured { pages, kept })
    }

    /// Copies what a scan found: into memory if it has room, else through to the commit. In the pause a remainder that fits
    /// goes into memory even beside a full one, so that nothing is written while the world stands.
    fn take(&mut self, scan: &C::Scan, stage: Stage) -> Result<(), CheckpointError> {
        if scan.is_empty() {
            return Ok(());
        }
        self.changed = true;
        self.figures.copied += scan.pages();
        let beside = if stage == Stage::Frozen { 0 } else { self.staged };
        if scan.pages().saturating_add(beside) > self.limits.staging {
            // What is in memory is older: it goes first.
            self.unload()?;
            crash_point("unloaded");
            self.capture.copy_into(scan, &mut self.commit)?;
            crash_point("streamed");
            return Ok(());
        }
        self.capture.copy(scan, self.staging)?;
        self.staged += scan.pages();
        crash_point("staged");
        Ok(())
    }

    fn unload(&mut self) -> Result<(), CheckpointError> {
        self.staged = 0;
        Ok(self.capture.drain(self.staging, self.limits.staging, &mut self.commit)?)
    }

    /// Writes and commits; nothing of this is in the pause.
    fn finish(mut self, trigger: Trigger, started: Duration, newest: Generation) -> Result<Finished, CheckpointError> {
        if !self.changed && newest != Generation(0) {
            return Ok(Finished::Unchanged(self.figures.stops.total));
        }
        crash_point("before-data");
        self.unload()?;
        crash_point("before-commit");
        // At the end nobody waits for it, and what rots at rest is to be told from what was cut off.
        if trigger != Trigger::Final {
            self.commit.set_one_flush();
        }
        let committed = self.commit.commit()?;
        crash_point("after-commit");
        let Tally { stops, rounds, copied, remainder, freeze, check, scan, copy } = self.figures;
        let figures = Figures {
            generation: committed.generation.0,
            trigger,
            rounds,
            stops: stops.count,
            throttles: stops.throttles,
            pages: committed.pages,
            copied,
            remainder,
            bytes: committed.bytes,
            pause: stops.longest,
            throttle: stops.longest_throttle,
            pause_total: stops.total,
            freeze,
            check,
            scan,
            copy,
            write: committed.write_time,
            flush: committed.flush_time,
            total: self.clock.now().saturating_sub(started),
            at: Duration::ZERO,
        };
        Ok(Finished::Committed(committed, Box::new(figures)))
    }
}
