//! How many rounds: pure decisions from the number of pages that each step found.
//!
//! Pre-copy pays only while the rounds shrink. A round that fits into memory is copied several times faster than any program makes
//! pages dirty; one that has to be streamed to the disk is not, so a writer that keeps up with the disk is slowed down by
//! many stops of [`Pace::stop`] (what live migration of virtual machines does), the harder the less the rounds shrink.
//! From then on, and when little is left, pages are looked for in short stops, because a scan against a running writer takes far longer
//! than one while everything stands. A working set that is small and rewritten at once gains nothing from any of this: it is
//! copied in the stop, until a probe shows that this has changed.

use std::time::Duration;

/// The limits of the rounds. The defaults are measured on a machine with two cores, 2 GiB resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A round of at most this many pages is the last one.
    pub small: u64,
    /// So many pages may be copied in the final stop, as long as a further short stop may help.
    pub remainder: u64,
    /// A round of at most this many pages at full speed is followed by short stops.
    pub near: u64,
    /// A working set of at most this many pages is copied in the stop, if rounds do not make it smaller.
    pub hot: u64,
    /// So many pages are kept in memory before they are written; more are streamed. The final stop may add as many again, so
    /// the buffers hold at most twice this.
    pub staging: u64,
    /// Rounds while everything runs at full speed.
    pub live: u32,
    /// Rounds while the writer is slowed down.
    pub throttled: u32,
    /// Short stops while it is not.
    pub short: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { small: 256, remainder: 1024, near: 8192, hot: 5120, staging: 16_384, live: 6, throttled: 24, short: 8 }
    }
}

/// How the world is slowed down during a round: it stands for `stop` and runs for `run`, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long it stands at a time.
    pub stop: Duration,
    /// How long it runs in between. Never so short that a program that was just woken gets nowhere.
    pub run: Duration,
}

/// What each level does to the world, in microseconds: stop, run. The stops become long only when nothing else makes the rounds shrink:
/// many stops of a few milliseconds are better than one of seconds.
const PACES: [(u64, u64); LEVELS as usize] =
    [(800, 800), (800, 400), (800, 200), (800, 100), (4_000, 100), (20_000, 100)];
/// How many levels there are.
const LEVELS: u32 = 6;
/// The highest level whose stops are short.
const SHORT_STOPS: u32 = 4;
/// So many rounds in a row that have not shrunk lead beyond it.
const PATIENCE: u32 = 3;

/// A round that found more than this share of the one before has not shrunk.
const SHRUNK: (u64, u64) = (3, 4);

/// A small working set is pre-copied again every so many checkpoints, to see whether that helps by now.
const PROBE: u32 = 16;

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Scan while the world runs, then copy at the [`Plan::pace`].
    Round,
    /// Stop, scan, thaw; then copy at the [`Plan::pace`].
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
    /// The level at which the next streamed round starts.
    level: u32,
    since_probe: u32,
}

/// The steps of one checkpoint.
#[derive(Debug)]
pub struct Plan {
    limits: Limits,
    /// Where the first streamed round starts.
    learnt: u32,
    level: u32,
    live: u32,
    throttled: u32,
    short: u32,
    /// A round was streamed; what the one after it found.
    streamed: Option<Option<u64>>,
    /// The found pages of the step before, if a step of its kind can be compared with it.
    before: Option<u64>,
    /// Rounds in a row, at the present level, that have not shrunk.
    in_vain: u32,
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
        lessons.since_probe += 1;
        let plan = Self {
            limits,
            learnt: lessons.level,
            level: 0,
            live: 0,
            throttled: 0,
            short: 0,
            streamed: None,
            before: None,
            in_vain: 0,
            first: None,
        };
        if lessons.direct && lessons.since_probe < PROBE {
            return (plan, Step::Final { may_yield: true });
        }
        lessons.since_probe = 0;
        (plan, Step::Round)
    }

    /// How the world is slowed down while `pages` are copied; `None`: it is not.
    pub fn pace(&mut self, pages: u64) -> Option<Pace> {
        if pages > self.limits.staging {
            self.streamed.get_or_insert(None);
            self.level = self.level.max(self.learnt);
        }
        let (stop, run) = PACES[(self.level as usize).checked_sub(1)?];
        Some(Pace { stop: Duration::from_micros(stop), run: Duration::from_micros(run) })
    }

    /// The step after `done`, which found `pages`.
    pub fn after(&mut self, done: Step, pages: u64) -> Step {
        if self.first.is_none() {
            self.first = Some(pages);
        } else if let Some(next) = &mut self.streamed {
            next.get_or_insert(pages);
        }
        let before = self.before.replace(pages);
        let shrunk = has_shrunk(before, pages);
        match done {
            _ if self.level > 0 => self.throttled += 1,
            Step::Round => self.live += 1,
            Step::Short | Step::Final { .. } => self.short += 1,
        }
        if shrunk {
            self.in_vain = 0;
        }
        match done {
            Step::Round if pages <= self.limits.small => self.last(),
            // The next stop finds about the half, so it may as well be the last.
            Step::Short | Step::Final { .. } if pages <= 2 * self.limits.remainder => self.last(),
            _ if self.level > 0 && shrunk => self.look(pages),
            _ if self.level > 0 => self.harder(pages),
            Step::Round if pages <= self.limits.near => self.stops(),
            Step::Round if shrunk && self.live < self.limits.live => Step::Round,
            // Nothing is to be gained.
            Step::Short | Step::Final { .. } if !shrunk && pages <= self.limits.hot => self.last(),
            Step::Short | Step::Final { .. } if shrunk => self.stops(),
            _ => self.harder(pages),
        }
    }

    /// A higher level: by as much as seems to be needed to come near, as each level halves the time that the world runs.
    fn harder(&mut self, pages: u64) -> Step {
        self.in_vain += 1;
        if self.level < SHORT_STOPS {
            let factor = pages / self.limits.near.max(1);
            self.level = (self.level + factor.checked_ilog2().unwrap_or(0).max(1)).min(SHORT_STOPS);
            self.in_vain = 0;
        } else if self.in_vain >= PATIENCE {
            self.level = (self.level + 1).min(LEVELS);
            self.in_vain = 0;
        }
        self.look(pages)
    }

    fn stops(&self) -> Step {
        if self.may_stop() { Step::Short } else { self.last() }
    }

    /// The next look for pages while the writer is slowed down: in a stop, unless so many may be found that it would become long.
    fn look(&self, pages: u64) -> Step {
        if self.may_stop() && pages > 4 * self.limits.near { Step::Round } else { self.stops() }
    }

    const fn may_stop(&self) -> bool {
        if self.level > 0 { self.throttled < self.limits.throttled } else { self.short < self.limits.short }
    }

    const fn last(&self) -> Step {
        Step::Final { may_yield: self.may_stop() }
    }

    /// Whether a final stop that found `pages` is given up for a further round.
    #[must_use]
    pub fn yields(&self, step: Step, pages: u64) -> bool {
        let Step::Final { may_yield: true } = step else { return false };
        // Without any pre-copy there is nothing to compare with: the whole small working set is taken.
        let in_vain = self.first.is_none() || !has_shrunk(self.before, pages);
        pages > if in_vain { self.limits.hot.max(self.limits.remainder) } else { self.limits.remainder }
    }

    /// Ends one whose final stop found `pages`.
    pub fn learn(&self, pages: u64, lessons: &mut Lessons) {
        if let Some(next) = self.streamed {
            // So few pages show that the world was slowed down more than needed.
            let too_hard = next.is_none_or(|found| found <= self.limits.near / 4);
            lessons.level = self.level.min(SHORT_STOPS).saturating_sub(u32::from(too_hard));
        }
        match self.first {
            Some(first) => {
                let small = first <= self.limits.hot && first > self.limits.small;
                lessons.direct = small && !has_shrunk(Some(first), pages);
            }
            None => lessons.direct &= pages > self.limits.small,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Step = Step::Final { may_yield: true };
    const ROUND: Step = Step::Round;
    const SHORT: Step = Step::Short;

    /// The steps that one checkpoint takes when they find so many pages, and the level at which each was made.
    fn steps_with(found: &[u64], lessons: &mut Lessons) -> Vec<(Step, u32)> {
        let (mut plan, mut step) = Plan::start(Limits::default(), lessons);
        let mut steps = Vec::new();
        for pages in found {
            if matches!(step, Step::Final { .. }) && !plan.yields(step, *pages) {
                steps.push((step, plan.level));
                plan.learn(*pages, lessons);
                return steps;
            }
            plan.pace(*pages);
            steps.push((step, plan.level));
            step = plan.after(step, *pages);
        }
        panic!("no end after {steps:?}");
    }

    fn steps(found: &[u64]) -> Vec<(Step, u32)> {
        steps_with(found, &mut Lessons::default())
    }

    #[test]
    fn a_quiet_world_is_stopped_once() {
        assert_eq!(steps(&[0, 0]), [(ROUND, 0), (LAST, 0)]);
        assert_eq!(steps(&[200, 10]), [(ROUND, 0), (LAST, 0)]);
    }

    #[test]
    fn rounds_at_full_speed_go_on_while_they_shrink() {
        let expected = [(ROUND, 0), (ROUND, 0), (ROUND, 0), (ROUND, 0), (LAST, 0)];
        assert_eq!(steps(&[200_000, 60_000, 20_000, 200, 5]), expected);
    }

    #[test]
    fn a_writer_faster_than_the_disk_is_slowed_down_until_little_is_left() {
        let mut lessons = Lessons::default();
        assert_eq!(
            steps_with(&[400_000, 390_000, 100_000, 20_000, 3_000, 900, 700], &mut lessons),
            [(ROUND, 0), (ROUND, 0), (ROUND, 4), (ROUND, 4), (SHORT, 4), (SHORT, 4), (LAST, 4)]
        );
        // The next checkpoint starts with what this one has learnt.
        assert_eq!(
            steps_with(&[200_000, 4_000, 500, 300], &mut lessons),
            [(ROUND, 4), (ROUND, 4), (SHORT, 4), (LAST, 4)]
        );
        // One that need not be streamed does not.
        assert_eq!(steps_with(&[9_000, 100, 5], &mut lessons), [(ROUND, 0), (ROUND, 0), (LAST, 0)]);
        // A writer that has become slow is let off step by step.
        for level in [4, 3, 2, 1, 0, 0] {
            assert_eq!(steps_with(&[200_000, 20, 5], &mut lessons), [(ROUND, level), (ROUND, level), (LAST, level)]);
        }
    }

    #[test]
    fn stops_become_long_only_when_short_ones_do_not_help() {
        let found = steps(&[500_000, 500_000, 500_000, 500_000, 500_000, 500_000, 9_000, 100, 5]);
        assert_eq!(found.iter().map(|(_, level)| *level).collect::<Vec<_>>(), [0, 0, 4, 4, 4, 5, 5, 5, 5]);
        let (mut plan, _) = Plan::start(Limits::default(), &mut Lessons::default());
        for level in 1..=LEVELS {
            plan.level = level;
            let pace = plan.pace(0).unwrap();
            assert!(pace.run >= Duration::from_micros(100), "whoever runs gets somewhere");
            assert!(level > SHORT_STOPS || pace.stop <= Duration::from_micros(800));
        }
    }

    #[test]
    fn stops_that_do_not_shrink_a_large_rest_slow_the_writer_down() {
        let expected = [(ROUND, 0), (SHORT, 0), (SHORT, 1), (SHORT, 1), (LAST, 1)];
        assert_eq!(steps(&[8_000, 7_900, 5_000, 1_000, 5]), expected);
        // Nor is a final stop that finds far too much the last.
        let (mut plan, step) = Plan::start(Limits::default(), &mut Lessons::default());
        let step = plan.after(step, 200);
        assert!(plan.yields(step, 30_000));
        assert_eq!(plan.after(step, 30_000), SHORT);
        assert_eq!(plan.level, 1);
    }

    #[test]
    fn the_number_of_steps_is_bounded_whatever_is_written() {
        let limits = Limits::default();
        let bound = usize::try_from(limits.live + limits.throttled + limits.short + 2).unwrap();
        for pages in [0, 1, 257, 1025, 5_000, 9_000, 17_000, 500_000, u64::MAX] {
            let found = steps(&vec![pages; 100]);
            assert!(found.len() <= bound, "{pages}: {found:?}");
            assert!(matches!(found.last(), Some((Step::Final { .. }, _))), "{pages}: {found:?}");
        }
        // Shrinking for ever, a little at a time.
        let found = steps(&(0..100).map(|i| 1_000_000 - i).collect::<Vec<_>>());
        assert!(found.len() <= bound, "{found:?}");
    }

    #[test]
    fn a_final_stop_that_finds_much_is_given_up() {
        let (mut plan, step) = Plan::start(Limits::default(), &mut Lessons::default());
        let step = plan.after(step, 8_000);
        assert_eq!(step, Step::Short);
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
        assert_eq!(step, ROUND);
        let step = plan.after(step, 4_100);
        plan.after(step, 4_000);
        plan.learn(4_000, &mut lessons);
        for _ in 1..PROBE {
            let (plan, step) = Plan::start(Limits::default(), &mut lessons);
            assert_eq!(step, LAST);
            assert!(!plan.yields(step, 5_000));
            assert!(plan.yields(step, 6_000));
            plan.learn(4_000, &mut lessons);
        }
        assert_eq!(Plan::start(Limits::default(), &mut lessons).1, ROUND, "a probe");
    }
}
