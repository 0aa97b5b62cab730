//! Which generations of a directory of backups are to stay.

use crate::format::Label;
use semper_store::Generation;
use std::collections::BTreeSet;

/// Seconds of an hour, of a day.
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The number of the period in which a generation was committed.
type Period = fn(&Label) -> u64;

/// How many generations stay: the newest, and the newest of each of the newest hours, days... that have any. Times are those of the commits, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest.
    pub last: usize,
    /// Of as many hours.
    pub hourly: usize,
    /// Of as many days.
    pub daily: usize,
    /// Of as many weeks, which begin on Monday.
    pub weekly: usize,
    /// Of as many months.
    pub monthly: usize,
}

impl Retention {
    /// The newest `last` stay.
    #[must_use]
    pub fn last(last: usize) -> Self {
        Self { last, ..Self::default() }
    }

    /// Of `labels`, from the oldest to the newest, the generations that stay. The newest always does.
    #[must_use]
    pub fn kept<'a>(&self, labels: impl DoubleEndedIterator<Item = &'a Label> + Clone) -> BTreeSet<Generation> {
        let rules: [(usize, Period); 5] = [
            (self.last.max(1), |label| label.generation.generation),
            (self.hourly, |label| seconds(label) / HOUR),
            (self.daily, |label| seconds(label) / DAY),
            // 1970 began on a Thursday.
            (self.weekly, |label| (seconds(label) / DAY + 3) / 7),
            (self.monthly, |label| month(seconds(label) / DAY)),
        ];
        let mut kept = BTreeSet::new();
        for (count, period) in rules {
            let mut seen = BTreeSet::new();
            for label in labels.clone().rev() {
                if seen.len() == count {
                    break;
                }
                if seen.insert(period(label)) {
                    kept.insert(label.generation());
                }
            }
        }
        kept
    }
}

/// When the generation was committed, in seconds since 1970.
fn seconds(label: &Label) -> u64 {
    label.generation.committed_at / 1_000_000_000
}

/// Months since the year 0 of a day since 1970, by the Gregorian calendar: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn month(day: u64) -> u64 {
    // Years are counted from March on, so that the leap day is their last; 400 of them have as many days.
    let since = day + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    (era * 400 + year) * 12 + (5 * of_year + 2) / 153 + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Base;

    /// Days since 1970 of a date.
    fn date(year: u64, month: u64, day: u64) -> u64 {
        let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let lengths = |year| [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
        years + lengths(year).iter().take(usize::try_from(month).unwrap_or(1) - 1).sum::<u64>() + day - 1
    }

    fn label(generation: u64, seconds: u64) -> Label {
        let generation = Base { generation, committed_at: seconds * 1_000_000_000 + 5 };
        Label { store: [1; 16], since: None, generation, made_at: 0 }
    }

    fn kept(retention: Retention, labels: &[Label]) -> Vec<u64> {
        retention.kept(labels.iter()).into_iter().map(|generation| generation.0).collect()
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for year in [1970, 1972, 1999, 2000, 2024, 2026, 2100, 2400] {
            for number in 1..=12 {
                let first = date(year, number, 1);
                assert_eq!(month(first), year * 12 + number - 1, "{year}-{number}");
                assert_eq!(month(first + 27), month(first));
                if first > 0 {
                    assert_eq!(month(first - 1) + 1, month(first), "{year}-{number}");
                }
            }
        }
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        // Every six hours from a Monday on, for 70 days.
        let monday = date(2026, 1, 5) * DAY;
        let labels: Vec<Label> = (0..280).map(|number| label(number + 1, monday + number * 6 * HOUR)).collect();
        assert_eq!(kept(Retention::last(3), &labels), [278, 279, 280]);
        assert_eq!(kept(Retention::default(), &labels), [280], "the newest always");
        assert_eq!(kept(Retention { hourly: 2, ..Retention::default() }, &labels), [279, 280]);
        assert_eq!(kept(Retention { daily: 3, ..Retention::default() }, &labels), [272, 276, 280]);
        assert_eq!(kept(Retention { weekly: 2, ..Retention::default() }, &labels), [252, 280]);
        // January and February of 2026, and what there is of March.
        let ends = [27 * 4, (27 + 28) * 4, 280];
        assert_eq!(kept(Retention { monthly: 9, ..Retention::default() }, &labels), ends);
        let all = Retention { last: 2, hourly: 1, daily: 2, weekly: 2, monthly: 2 };
        assert_eq!(kept(all, &labels), [220, 252, 276, 279, 280]);
        assert_eq!(kept(Retention::last(usize::MAX), &labels).len(), 280);
    }

    #[test]
    fn hours_without_backups_do_not_count_and_a_clock_that_went_back_takes_nothing_new_away() {
        let gaps = [label(1, 0), label(2, 90 * DAY), label(3, 90 * DAY + 60), label(4, 400 * DAY)];
        assert_eq!(kept(Retention { daily: 3, ..Retention::default() }, &gaps), [1, 3, 4]);
        let back = [label(1, 5 * DAY), label(2, 6 * DAY), label(3, 5 * DAY + 9)];
        assert_eq!(kept(Retention { daily: 2, ..Retention::default() }, &back), [2, 3]);
        assert!(
            kept(Retention { monthly: 5, ..Retention::default() }, &[label(1, u64::MAX / 1_000_000_000 - 1)]) == [1]
        );
    }
}
