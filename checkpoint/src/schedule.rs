//! When: pure decisions from the time and what is wanted.

use crate::figures::Trigger;
use crate::plan::Limits;
use std::time::Duration;

/// The shortest interval that may be set.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// After a failed attempt the next one waits at least so long, and at most [`MAX_RETRY`], in between for the interval.
const MIN_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(1);

/// When checkpoints are taken, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// From start to start, at least [`MIN_INTERVAL`]. None, or zero: only when asked.
    pub interval: Option<Duration>,
    /// Held output brings a checkpoint forward, but not nearer than this to the start of the one before.
    pub output_gap: Duration,
    /// The same of replies, for which somebody waits. None: twice as long as the one before took, so that half of the time is free of
    /// checkpoints, and at most [`Policy::output_gap`]; not at all once [`Held::AllReplies`] are there.
    pub reply_gap: Option<Duration>,
    /// With more dirty bytes than this a checkpoint is taken; zero: no limit beyond what the pager asks for.
    pub dirty_limit: u64,
    /// With fewer free bytes than this in the store a checkpoint is taken once, to let the oldest generation go; zero: never.
    pub free_limit: u64,
    /// How often memory and space are looked at.
    pub poll: Duration,
    /// How many rounds, and how large.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(1)),
            output_gap: Duration::from_millis(20),
            reply_gap: None,
            dirty_limit: 0,
            free_limit: 0,
            poll: Duration::from_millis(20),
            limits: Limits::default(),
        }
    }
}

/// What waits for a commit before it is shown; the later the more urgent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// Nothing.
    #[default]
    Nothing,
    /// Output, which somebody may look at.
    Output,
    /// A reply, without which somebody cannot go on.
    Reply,
    /// Replies to all who are likely to wait for one: to wait for more would be in vain.
    AllReplies,
}

/// What is wanted at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// The final one.
    pub end: bool,
    /// Somebody asked.
    pub request: bool,
    /// What is held.
    pub held: Held,
    /// Dirty bytes.
    pub dirty: u64,
    /// The pager waits for one.
    pub pager: bool,
    /// If programs wait for memory: how often one that waited was given some.
    pub starving: Option<u64>,
    /// Free bytes in the store.
    pub free: u64,
    /// Only `end` and `request` count.
    pub paused: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Take a checkpoint.
    Now(Trigger),
    /// Look again at this time, or when something is wanted.
    Wait(Duration),
}

/// Decides when. All times are those of one monotonic clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    policy: Policy,
    /// The start of the last attempt.
    started: Duration,
    /// How long it took.
    took: Duration,
    /// When the interval is over.
    due: Option<Duration>,
    /// When a failed attempt is made again, and the free space it found.
    retry: Option<(Duration, Option<u64>)>,
    /// [`Wanted::starving`] when it was last looked at, and when the last attempt started.
    starving: Option<u64>,
    starved: Option<u64>,
    /// Short space has been answered by a checkpoint already.
    space_served: bool,
}

impl Schedule {
    /// The first interval starts `now`.
    #[must_use]
    pub fn new(mut policy: Policy, now: Duration) -> Self {
        policy.interval = policy.interval.filter(|time| !time.is_zero()).map(|time| time.max(MIN_INTERVAL));
        let due = policy.interval.map(|interval| now + interval);
        // Far enough in the past that the first held output does not wait.
        let started = now.saturating_sub(policy.output_gap);
        Self {
            policy,
            started,
            took: Duration::ZERO,
            due,
            retry: None,
            starving: None,
            starved: None,
            space_served: false,
        }
    }

    /// The policy that it follows.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What to do at `now`.
    pub fn next(&mut self, now: Duration, wanted: &Wanted) -> Next {
        self.starving = wanted.starving;
        if wanted.end {
            return Next::Now(Trigger::Final);
        }
        if wanted.request {
            return Next::Now(Trigger::Request);
        }
        let look = now + self.policy.poll;
        if wanted.paused {
            return Next::Wait(look);
        }
        if let Some((at, full)) = self.retry {
            let grown = full.is_some_and(|free| wanted.free > free);
            return if now >= at || grown { Next::Now(Trigger::Retry) } else { Next::Wait(at.min(look)) };
        }
        if self.due.is_some_and(|due| now >= due) {
            return Next::Now(Trigger::Interval);
        }
        let gap_over = self.started + self.gap(wanted.held);
        if let Some(trigger) = self.pressed(now, wanted) {
            return if now >= gap_over { Next::Now(trigger) } else { Next::Wait(gap_over.min(look)) };
        }
        Next::Wait(self.due.map_or(look, |due| due.min(look)))
    }

    /// How long after the start of an attempt what is held may bring the next one.
    fn gap(&self, held: Held) -> Duration {
        match held {
            Held::AllReplies if self.policy.reply_gap.is_none() => Duration::ZERO,
            Held::Reply | Held::AllReplies => {
                self.policy.reply_gap.unwrap_or((2 * self.took).min(self.policy.output_gap))
            }
            Held::Nothing | Held::Output => self.policy.output_gap,
        }
    }

    /// The interval, within the bounds for what did not help the last time.
    fn patience(&self) -> Duration {
        self.policy.interval.unwrap_or(MAX_RETRY).clamp(MIN_RETRY, MAX_RETRY)
    }

    fn pressed(&mut self, now: Duration, wanted: &Wanted) -> Option<Trigger> {
        let Policy { dirty_limit, free_limit, .. } = self.policy;
        self.space_served &= wanted.free < free_limit;
        // If the last one gave nobody who waits any memory, the next one at once would not either.
        let vain = wanted.starving.is_some() && wanted.starving == self.starved && now < self.started + self.patience();
        if wanted.pager && !vain || (dirty_limit > 0 && wanted.dirty > dirty_limit) {
            Some(Trigger::DirtyMemory)
        } else if wanted.free < free_limit && !self.space_served {
            Some(Trigger::FreeSpace)
        } else {
            (wanted.held != Held::Nothing).then_some(Trigger::HeldOutput)
        }
    }

    /// An attempt starts.
    pub fn started(&mut self, now: Duration, trigger: Trigger) {
        self.started = now;
        self.starved = self.starving;
        self.retry = None;
        self.space_served |= trigger == Trigger::FreeSpace;
    }

    /// The attempt has ended. What was missed of the interval meanwhile is not made up for. A failed one is made again; if the store was
    /// full, `Some(Some(free))`, as soon as it has more than `free`.
    pub fn ended(&mut self, now: Duration, failed: Option<Option<u64>>) {
        self.took = now.saturating_sub(self.started);
        if let Some(interval) = self.policy.interval {
            let gone = self.took.as_nanos() / interval.as_nanos();
            let ticks = u32::try_from(gone).unwrap_or(u32::MAX - 1) + 1;
            self.due = Some(self.started + interval.saturating_mul(ticks));
        }
        let pause = self.patience();
        self.retry = failed.map(|full| (now + pause, full));
    }
}
