//! How many rounds: pure decisions from the number of pages that each step found.
//!
//! Pre-copy pays only while the rounds shrink. A writer that is faster than the disk keeps streamed rounds from shrinking, so it
//! is slowed down by stops of at most [`Limits::stop`]; once a round fits into memory, pages are copied before they are
//! written, which is several times faster, and looked for in short stops, because a scan against a running writer takes
//! far longer than one while everything stands. A working set that is small and rewritten at once gains nothing from any of this: it is
//! copied in the stop, until a probe shows that this has changed.

use std::time::Duration;

/// The limits of the rounds. The defaults are measured on a machine with two cores, 2 GiB resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A round of at most this many pages is the last one.
    pub small: u64,
    /// So many pages may be copied in the final stop, as long as a further short stop may help.
    pub remainder: u64,
    /// A live round of at most this many pages is followed by stops.
    pub near: u64,
    /// So many pages are kept in memory before they are written; more are streamed. The final stop may add as many again, so
    /// the buffers hold at most twice this.
    pub staging: u64,
    /// Rounds while everything runs at full speed.
    pub live: u32,
    /// Rounds while the writer is slowed down.
    pub throttled: u32,
    /// Short stops.
    pub short: u32,
    /// How long one stop of a slowed writer is.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            small: 256,
            remainder: 1024,
            near: 8192,
            staging: 16_384,
            live: 6,
            throttled: 6,
            short: 8,
            stop: Duration::from_micros(800),
        }
    }
}

/// A round that found more than this share of the one before has not shrunk.
const SHRUNK: (u64, u64) = (3, 4);

/// A small working set is pre-copied again every so many checkpoints, to see whether that helps by now.
const PROBE: u32 = 16;

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Scan and copy while everything runs.
    Live,
    /// The same, while the world is stopped for [`Limits::stop`] again and again. The level says how long it runs in between.
    Throttled(u32),
    /// Stop, scan, thaw; copy outside of the stop.
    Short,
    /// Stop, check, scan, copy, thaw.
    Final {
        /// Whether it is given up and made a short stop if the scan finds more than [`Limits::remainder`].
        may_yield: bool,
    },
}

/// What earlier checkpoints teach the next one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lessons {
    direct: bool,
    since_probe: u32,
}

/// The steps of one checkpoint.
#[derive(Debug)]
pub struct Plan {
    limits: Limits,
    live: u32,
    throttled: u32,
    level: u32,
    short: u32,
    /// The found pages of the step before, if a step of its kind can be compared with it.
    before: Option<u64>,
    /// What the first step found.
    first: Option<u64>,
}

const fn has_shrunk(before: Option<u64>, now: u64) -> bool {
    match before {
        Some(before) => now.saturating_mul(SHRUNK.1) <= before.saturating_mul(SHRUNK.0),
        None => true,
    }
}

impl Plan {
    /// Starts one; gives the first step.
    #[must_use]
    pub fn start(limits: Limits, lessons: &mut Lessons) -> (Self, Step) {
        let plan = Self { limits, live: 0, throttled: 0, level: 0, short: 0, before: None, first: None };
        lessons.since_probe += 1;
        if lessons.direct && lessons.since_probe < PROBE {
            return (plan, Step::Final { may_yield: true });
        }
        lessons.since_probe = 0;
        (plan, Step::Live)
    }

    /// The step after `done`, which found `pages`.
    pub fn after(&mut self, done: Step, pages: u64) -> Step {
        self.first.get_or_insert(pages);
        let shrunk = has_shrunk(self.before.replace(pages), pages);
        match done {
            Step::Live => self.live += 1,
            Step::Throttled(_) => self.throttled += 1,
            Step::Short | Step::Final { .. } => self.short += 1,
        }
        match done {
            Step::Live | Step::Throttled(_) if pages <= self.limits.small => self.last(),
            Step::Live | Step::Throttled(_) if pages <= self.limits.near => self.stops(),
            Step::Live if shrunk && self.live < self.limits.live => Step::Live,
            Step::Throttled(_) if shrunk => self.throttle(),
            Step::Live | Step::Throttled(_) => self.harder(),
            // The next stop finds about the half, so it may as well be the last; or there is nothing to be gained.
            Step::Short | Step::Final { .. } if pages <= 2 * self.limits.remainder => self.last(),
            Step::Short | Step::Final { .. } if !shrunk && pages <= self.hot() => self.last(),
            Step::Short | Step::Final { .. } if shrunk => self.stops(),
            Step::Short | Step::Final { .. } => self.harder(),
        }
    }

    fn harder(&mut self) -> Step {
        self.level += 1;
        self.throttle()
    }

    fn throttle(&self) -> Step {
        if self.throttled < self.limits.throttled { Step::Throttled(self.level) } else { self.stops() }
    }

    fn stops(&self) -> Step {
        if self.short < self.limits.short { Step::Short } else { self.last() }
    }

    /// A working set of at most this many pages is copied in the stop, if rounds do not make it smaller.
    const fn hot(&self) -> u64 {
        self.limits.near / 2
    }

    const fn last(&self) -> Step {
        Step::Final { may_yield: self.short < self.limits.short }
    }

    /// Whether a final stop that found `pages` is given up for a further round.
    #[must_use]
    pub fn yields(&self, step: Step, pages: u64) -> bool {
        let Step::Final { may_yield: true } = step else { return false };
        // Without any pre-copy there is nothing to compare with: the whole small working set is taken.
        let in_vain = self.first.is_none() || !has_shrunk(self.before, pages);
        pages > if in_vain { self.hot().max(self.limits.remainder) } else { self.limits.remainder }
    }

    /// Ends one whose final stop found `pages`.
    pub fn learn(&self, pages: u64, lessons: &mut Lessons) {
        match self.first {
            Some(first) => {
                let small = first <= self.hot() && first > self.limits.small;
                lessons.direct = small && !has_shrunk(Some(first), pages);
            }
            None => lessons.direct &= pages > self.limits.small,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(found: &[u64]) -> Vec<Step> {
        let (mut plan, mut step) = Plan::start(Limits::default(), &mut Lessons::default());
        let mut steps = vec![step];
        for pages in found {
            if matches!(step, Step::Final { .. }) && !plan.yields(step, *pages) {
                return steps;
            }
            step = plan.after(step, *pages);
            steps.push(step);
        }
        steps
    }

    const LAST: Step = Step::Final { may_yield: true };

    #[test]
    fn a_quiet_world_is_stopped_once() {
        assert_eq!(steps(&[0, 0]), [Step::Live, LAST]);
        assert_eq!(steps(&[200, 10]), [Step::Live, LAST]);
    }

    #[test]
    fn live_rounds_go_on_while_they_shrink() {
        assert_eq!(steps(&[200_000, 60_000, 20_000, 200, 5]), [Step::Live, Step::Live, Step::Live, Step::Live, LAST]);
    }

    #[test]
    fn a_writer_faster_than_the_disk_is_slowed_down_then_taken_in_short_stops() {
        assert_eq!(
            steps(&[400_000, 390_000, 380_000, 100_000, 8_000, 3_000, 900, 400]),
            [
                Step::Live,
                Step::Live,
                Step::Throttled(1),
                Step::Throttled(2),
                Step::Throttled(2),
                Step::Short,
                Step::Short,
                LAST
            ]
        );
    }

    #[test]
    fn stops_that_do_not_shrink_a_large_rest_make_the_writer_slower() {
        assert_eq!(
            steps(&[8_000, 7_900, 6_000, 1_000, 5]),
            [Step::Live, Step::Short, Step::Throttled(1), Step::Short, LAST]
        );
        // Nor is a final stop that finds far too much the last.
        let (mut plan, step) = Plan::start(Limits::default(), &mut Lessons::default());
        let step = plan.after(step, 200);
        assert!(plan.yields(step, 30_000));
        assert_eq!(plan.after(step, 30_000), Step::Throttled(1));
    }

    #[test]
    fn the_number_of_steps_is_bounded_whatever_is_written() {
        let limits = Limits::default();
        let bound = usize::try_from(limits.live + limits.throttled + limits.short + 2).unwrap();
        for pages in [0, 1, 257, 1025, 5_000, 9_000, 17_000, 500_000, u64::MAX] {
            let found = steps(&vec![pages; 100]);
            assert!(found.len() <= bound, "{pages}: {found:?}");
            assert!(matches!(found.last(), Some(Step::Final { .. })), "{pages}: {found:?}");
        }
        // Shrinking for ever, a little at a time.
        let found = steps(&(0..100).map(|i| 1_000_000 - i).collect::<Vec<_>>());
        assert!(found.len() <= bound, "{found:?}");
    }

    #[test]
    fn a_final_stop_that_finds_much_is_given_up() {
        assert_eq!(steps(&[200, 150]), [Step::Live, LAST]);
        let (mut plan, step) = Plan::start(Limits::default(), &mut Lessons::default());
        let step = plan.after(step, 8_000);
        let step = plan.after(step, 2_000);
        assert_eq!(step, LAST);
        assert!(plan.yields(step, 1_400));
        assert!(!plan.yields(step, 1_900), "no longer shrinking");
        assert!(!plan.yields(step, 900));
    }

    #[test]
    fn a_small_working_set_that_is_rewritten_at_once_is_taken_in_the_stop() {
        let mut lessons = Lessons::default();
        let (mut plan, step) = Plan::start(Limits::default(), &mut lessons);
        assert_eq!(step, Step::Live);
        let step = plan.after(step, 3_000);
        plan.after(step, 2_900);
        plan.learn(2_900, &mut lessons);
        for _ in 1..PROBE {
            let (plan, step) = Plan::start(Limits::default(), &mut lessons);
            assert_eq!(step, LAST);
            assert!(!plan.yields(step, 4_000));
            assert!(plan.yields(step, 5_000));
            plan.learn(3_000, &mut lessons);
        }
        assert_eq!(Plan::start(Limits::default(), &mut lessons).1, Step::Live, "a probe");
    }
}
