//! A set of pages kept as disjoint, maximal runs.

use std::collections::BTreeMap;

use semper_store::{PageIndex, PageRange};

/// Pages as runs; cost follows the number of runs, never that of pages.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct RangeSet {
    /// First page -> page after the last.
    runs: BTreeMap<u64, u64>,
}

impl RangeSet {
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    pub(crate) fn own_bytes(&self) -> u64 {
        // A B-tree node holds 11 entries of 16 bytes and is two thirds full on average.
        self.runs.len() as u64 * 26
    }

    pub(crate) fn contains(&self, page: PageIndex) -> bool {
        self.runs.range(..=page.0).next_back().is_some_and(|(_, end)| page.0 < *end)
    }

    pub(crate) fn insert(&mut self, range: PageRange) {
        if range.count == 0 {
            return;
        }
        let (mut first, mut end) = (range.first.0, range.end());
        while let Some((&start, &stop)) = self.runs.range(..=end).next_back() {
            if stop < first {
                break;
            }
            first = first.min(start);
            end = end.max(stop);
            self.runs.remove(&start);
        }
        self.runs.insert(first, end);
    }

    pub(crate) fn remove(&mut self, range: PageRange) {
        if range.count == 0 {
            return;
        }
        let (first, end) = (range.first.0, range.end());
        while let Some((&start, &stop)) = self.runs.range(..end).next_back() {
            if stop <= first {
                break;
            }
            self.runs.remove(&start);
            if start < first {
                self.runs.insert(start, first);
            }
            if stop > end {
                self.runs.insert(end, stop);
            }
        }
    }

    /// The runs, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PageRange> + '_ {
        self.runs.iter().map(|(first, end)| PageRange::between(*first, *end))
    }

    /// The parts of the runs that lie in `window`, in order.
    pub(crate) fn within(&self, window: PageRange) -> impl Iterator<Item = PageRange> + '_ {
        let (first, end) = (window.first.0, window.end());
        let before = self.runs.range(..first).next_back().filter(move |(_, stop)| **stop > first);
        let inside = self.runs.range(first..end.max(first));
        before.into_iter().chain(inside).map(move |(a, b)| PageRange::between((*a).max(first), (*b).min(end)))
    }

    /// The parts of `window` that are not in the set, last first.
    pub(crate) fn missing(&self, window: PageRange) -> Vec<PageRange> {
        let mut missing = Vec::new();
        let mut end = window.end();
        while end > window.first.0 {
            let before = self.runs.range(..end).next_back();
            let (start, stop) = before.map_or((0, 0), |(start, stop)| (*start, *stop));
            if stop < end {
                missing.push(PageRange::between(stop.max(window.first.0), end));
            }
            end = start.min(end);
            if stop <= window.first.0 {
                break;
            }
        }
        missing
    }

    /// Adds all of `other`.
    pub(crate) fn extend_from(&mut self, other: &Self) {
        for range in other.iter() {
            self.insert(range);
        }
    }
}

impl FromIterator<PageRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = PageRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}
