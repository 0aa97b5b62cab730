//! What each checkpoint did and cost, kept for `status`.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// How many checkpoints are kept one by one.
pub const KEPT: usize = 64;

/// Over how many of the last pauses percentiles are taken.
pub const PAUSES_KEPT: usize = 1024;

/// Why a checkpoint was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The interval went by.
    Interval,
    /// Output is held and wants to be shown.
    HeldOutput,
    /// Too much memory differs from the store.
    DirtyMemory,
    /// The store's free space runs short.
    FreeSpace,
    /// Somebody asked.
    Request,
    /// An earlier one failed.
    Retry,
    /// The runtime ends.
    Final,
}

/// Durations as whole microseconds.
mod micros {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

/// One checkpoint. Durations are serialised as whole microseconds under names that end in `_us`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The generation it made.
    pub generation: u64,
    /// Why it was taken.
    pub trigger: Trigger,
    /// Rounds of pre-copy while domains ran.
    pub rounds: u32,
    /// How often the domains were stopped: 1, plus short stops, plus those that slowed a writer down.
    pub stops: u32,
    /// Those of the stops that slowed a writer down.
    pub throttles: u32,
    /// Pages written; one that was streamed in several rounds counts each time.
    pub pages: u64,
    /// Pages that were copied in all rounds together.
    pub copied: u64,
    /// Pages that were copied in the final stop.
    pub remainder: u64,
    /// Bytes written, with the tree.
    pub bytes: u64,
    /// The longest stop in which pages were looked for or copied: this is the pause.
    #[serde(rename = "pause_us", with = "micros")]
    pub pause: Duration,
    /// The longest stop that only slowed a writer down, because it makes pages dirty faster than the disk takes them.
    #[serde(rename = "throttle_us", with = "micros")]
    pub throttle: Duration,
    /// All stops together.
    #[serde(rename = "pause_total_us", with = "micros")]
    pub pause_total: Duration,
    /// Of the final stop: until everything stood still.
    #[serde(rename = "freeze_us", with = "micros")]
    pub freeze: Duration,
    /// Of the final stop: the check of the object table.
    #[serde(rename = "check_us", with = "micros")]
    pub check: Duration,
    /// Of the final stop: finding the remainder.
    #[serde(rename = "scan_us", with = "micros")]
    pub scan: Duration,
    /// Of the final stop: copying it.
    #[serde(rename = "copy_us", with = "micros")]
    pub copy: Duration,
    /// Writing.
    #[serde(rename = "write_us", with = "micros")]
    pub write: Duration,
    /// The flushes: one, of a large checkpoint two.
    #[serde(rename = "flush_us", with = "micros")]
    pub flush: Duration,
    /// From the first round to the announcement.
    #[serde(rename = "total_us", with = "micros")]
    pub total: Duration,
    /// When it was announced: wall time since 1970.
    #[serde(rename = "at_us", with = "micros")]
    pub at: Duration,
}

/// Percentiles of the pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the pauses are not longer.
    #[serde(rename = "p50_us", with = "micros")]
    pub p50: Duration,
    /// Nine of ten are not longer.
    #[serde(rename = "p90_us", with = "micros")]
    pub p90: Duration,
    /// 99 of 100 are not longer.
    #[serde(rename = "p99_us", with = "micros")]
    pub p99: Duration,
    /// None is longer.
    #[serde(rename = "max_us", with = "micros")]
    pub max: Duration,
}

/// Sums since the start of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Checkpoints committed.
    pub committed: u64,
    /// Attempts that found nothing to commit.
    pub unchanged: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Pages written.
    pub pages: u64,
    /// Bytes written.
    pub bytes: u64,
    /// All stops.
    #[serde(rename = "stopped_us", with = "micros")]
    pub stopped: Duration,
}

/// The last checkpoints and the sums over all.
#[derive(Debug, Clone, Default)]
pub struct History {
    last: VecDeque<Figures>,
    pauses: VecDeque<Duration>,
    totals: Totals,
}

impl History {
    /// Adds one that was committed.
    pub fn record(&mut self, figures: Figures) {
        self.totals.committed += 1;
        self.totals.pages += figures.pages;
        self.totals.bytes += figures.bytes;
        push(&mut self.pauses, figures.pause, PAUSES_KEPT);
        self.stopped(figures.pause_total);
        push(&mut self.last, figures, KEPT);
    }

    /// Counts one that had nothing to commit, with what it stopped.
    pub fn unchanged(&mut self, stopped: Duration) {
        self.totals.unchanged += 1;
        self.stopped(stopped);
    }

    /// Counts one that failed.
    pub fn failed(&mut self) {
        self.totals.failed += 1;
    }

    fn stopped(&mut self, time: Duration) {
        self.totals.stopped += time;
    }

    /// The last [`KEPT`], oldest first.
    pub fn last(&self) -> impl ExactSizeIterator<Item = &Figures> {
        self.last.iter()
    }

    /// The sums.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Over the last [`PAUSES_KEPT`] that committed; zeros if there was none.
    #[must_use]
    pub fn pauses(&self) -> Percentiles {
        let mut sorted: Vec<Duration> = self.pauses.iter().copied().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or_default()
        };
        Percentiles { p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

fn push<T>(ring: &mut VecDeque<T>, item: T, limit: usize) {
    if ring.len() == limit {
        ring.pop_front();
    }
    ring.push_back(item);
}
