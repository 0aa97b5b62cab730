//! Which records of the journal a replay tells again, and reading them one by one.
//!
//! From a position in a branch the way leads along that branch and, where another one continues it, into that; of several
//! that do, the one that was begun last is what really became of the world. Going back to an older generation leaves a note in the journal: what was recorded before
//! it does not follow by itself.

use super::wire::{self, Inputs, Item};
use super::{Branch, Position};
use crate::linux::Restart;
use semper_journal::{Kind, Note, Reader, Record, Seen, Writer};
use std::collections::{HashMap, VecDeque};
use std::fmt;

/// Where a replay ends, if not at the end of what was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The last record of the journal that is told again.
    pub sequence: Option<u64>,
    /// The last moment, nanoseconds since 1970.
    pub time: Option<u64>,
}

impl Limit {
    fn allows(&self, record: &Record) -> bool {
        self.sequence.is_none_or(|last| record.sequence <= last) && self.time.is_none_or(|last| record.time <= last)
    }
}

/// Why inputs cannot be told again.
#[derive(Clone, Debug)]
pub enum SourceError {
    /// The journal cannot be read.
    Journal(semper_journal::Error),
    /// A record is not one of inputs.
    Foreign(u64),
    /// Records are missing before this one.
    Missing {
        /// The number of the first, as the program's inputs are counted.
        from: u64,
        /// The number of the last.
        to: u64,
    },
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Foreign(record) => write!(f, "record {record} of the journal holds no inputs of this version"),
            Self::Missing { from, to } => {
                write!(f, "its inputs {from} to {to} are not in the journal: they were trimmed, or given up")
            }
        }
    }
}

impl From<semper_journal::Error> for SourceError {
    fn from(error: semper_journal::Error) -> Self {
        Self::Journal(error)
    }
}

/// A record that lies on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Planned {
    sequence: u64,
    number: u64,
}

/// A stretch of the way within one branch.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stretch {
    branch: Branch,
    life: Restart,
    /// The step with which it begins, and the one before which it is left.
    from: u64,
    until: u64,
    records: VecDeque<Planned>,
}

/// What is known of a branch after a look at all records.
struct Known {
    parent: Option<(Branch, u64)>,
    life: Restart,
    /// The step with which the first of its records begins.
    first: u64,
    records: Vec<(Planned, u64)>,
    ends: Option<String>,
}

/// The inputs that a replay tells again.
pub struct Source {
    /// Opens a reader of the journal at a record.
    open: Box<dyn Fn(u64) -> Result<Reader, semper_journal::Error> + Send>,
    reader: Option<Reader>,
    writer: Writer,
    way: VecDeque<Stretch>,
    items: VecDeque<Item>,
    /// After so many steps what was shown had this checksum.
    sum: Option<(u64, u32)>,
    /// The record that the items are from.
    at: Planned,
    /// Why nothing follows, if that is because something cannot be repeated.
    ends: Option<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("way", &self.way).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Source {
    /// Looks for what follows `position`, of the inputs that `writer` has in the journal. `generation`: with whose state this began; none: a note
    /// that the world went back is not heeded.
    ///
    /// # Errors
    /// The journal cannot be read, or records of the way are missing.
    pub fn find(
        open: impl Fn(u64) -> Result<Reader, semper_journal::Error> + Send + 'static,
        writer: Writer,
        position: &Position,
        generation: Option<u64>,
        limit: Limit,
    ) -> Result<Self, SourceError> {
        let mut reader = open(position.from)?;
        let mut branches: HashMap<Branch, Known> = HashMap::new();
        let mut before = position.number;
        while let Some(seen) = reader.step()? {
            let record = match seen {
                Seen::Record(record) => record,
                Seen::Lost { given_up: true, .. } => continue,
                Seen::Lost { lost, given_up: false } => return Err(semper_journal::Error::Lost(lost).into()),
            };
            if record.kind == Kind::Note
                && let Some(Note::Rewound { generation: from }) = Note::from_bytes(&record.bytes)
                && generation.is_some_and(|of| of >= from)
            {
                branches.clear();
            }
            if record.writer != writer {
                continue;
            }
            if record.number > before {
                return Err(SourceError::Missing { from: before, to: record.number - 1 });
            }
            before = before.max(record.number + 1);
            if !limit.allows(&record) {
                continue;
            }
            let (head, _) = wire::head(&record.bytes).ok_or(SourceError::Foreign(record.sequence))?;
            let known = branches.entry(head.branch).or_insert_with(|| Known {
                parent: head.parent,
                life: head.life,
                first: head.first,
                records: Vec::new(),
                ends: None,
            });
            known.records.push((Planned { sequence: record.sequence, number: record.number }, head.steps));
            known.ends = head.ends;
        }
        let (way, ends) = plan(&mut branches, position)?;
        let at = Planned { sequence: position.from, number: position.number };
        Ok(Self { open: Box::new(open), reader: None, writer, way, items: VecDeque::new(), sum: None, at, ends })
    }

    /// Why nothing follows, if that is because something came that cannot be repeated.
    #[must_use]
    pub fn ends(&self) -> Option<&str> {
        self.ends.as_deref()
    }

    /// Before step `step`: the branch and the life that it belongs to; none: what was recorded has no more steps.
    pub(super) fn stretch(&mut self, step: u64) -> Option<(Branch, Restart)> {
        while self.way.front().is_some_and(|stretch| step >= stretch.until) {
            self.way.pop_front();
            self.items.clear();
            if let Some(first) = self.way.front().and_then(|stretch| stretch.records.front()) {
                self.at = *first;
            }
        }
        self.way.front().map(|stretch| (stretch.branch, stretch.life))
    }

    /// The record at whose end so many steps are taken, and the checksum of what was shown by then.
    pub(super) fn sum_at(&self, steps: u64) -> Option<(u64, u32)> {
        self.sum.filter(|(at, _)| *at == steps).map(|(_, sum)| (self.at.sequence, sum))
    }

    /// The record that the next item is from: its place in the journal, and its number.
    pub(super) const fn place(&self) -> (u64, u64) {
        (self.at.sequence, self.at.number)
    }

    /// The next item from step `step` on, and the record that it is from.
    ///
    /// # Errors
    /// As [`Source::find`].
    pub(super) fn next(&mut self, step: u64) -> Result<Option<&Item>, SourceError> {
        loop {
            while self.items.front().is_some_and(|item| item.step < step) {
                self.items.pop_front();
            }
            if !self.items.is_empty() {
                return Ok(self.items.front());
            }
            let Some(planned) = self.way.front_mut().and_then(|stretch| stretch.records.pop_front()) else {
                return Ok(None);
            };
            let record = self.read(planned)?;
            let inputs = Inputs::read(&record.bytes).ok_or(SourceError::Foreign(planned.sequence))?;
            self.at = planned;
            self.sum = inputs.head.sum.map(|sum| (inputs.head.steps, sum));
            self.items.extend(inputs.items);
        }
    }

    /// The next item is told.
    pub(super) fn take(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    fn read(&mut self, planned: Planned) -> Result<Record, SourceError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => (self.open)(planned.sequence)?,
        };
        loop {
            match reader.step()? {
                Some(Seen::Record(record)) if record.sequence < planned.sequence => {}
                Some(Seen::Record(record)) if record.sequence == planned.sequence && record.writer == self.writer => {
                    self.reader = Some(reader);
                    return Ok(record);
                }
                Some(Seen::Lost { lost, .. }) if lost.to >= planned.sequence => {
                    return Err(semper_journal::Error::Lost(lost).into());
                }
                Some(Seen::Lost { .. }) => {}
                Some(Seen::Record(_)) | None => {
                    return Err(SourceError::Missing { from: planned.number, to: planned.number });
                }
            }
        }
    }
}

/// The way from `position` on.
fn plan(
    branches: &mut HashMap<Branch, Known>,
    position: &Position,
) -> Result<(VecDeque<Stretch>, Option<String>), SourceError> {
    let (mut way, mut ends) = (VecDeque::new(), None);
    let (mut branch, mut step) = (position.branch, position.step);
    loop {
        let began = |known: &Known| known.records.first().map_or(0, |(planned, _)| planned.sequence);
        let own = branches.remove(&branch);
        // One that continues what is not there cannot be come to.
        let recorded = own.as_ref().and_then(|own| own.records.last()).map_or(step, |(_, steps)| (*steps).max(step));
        let child = branches
            .iter()
            .filter(|(_, known)| known.parent.is_some_and(|(of, at)| of == branch && (step..=recorded).contains(&at)))
            .max_by_key(|(_, known)| began(known))
            .map(|(child, known)| (*child, known.parent.map_or(step, |(_, at)| at)));
        if let Some(own) = own {
            let until = child.map_or(recorded, |(_, at)| at);
            let expected = (branch == position.branch).then_some(position.number);
            let records = contiguous(&own, expected, step, until)?;
            ends = own.ends.filter(|_| child.is_none());
            if until > step {
                way.push_back(Stretch { branch, life: own.life, from: step, until, records });
            }
        }
        match child {
            Some((child, at)) => (branch, step) = (child, at),
            None => return Ok((way, ends)),
        }
    }
}

/// The records of a branch that are needed from `step` until `until`, none of which may be missing.
fn contiguous(known: &Known, expected: Option<u64>, step: u64, until: u64) -> Result<VecDeque<Planned>, SourceError> {
    let mut records = VecDeque::new();
    if let Some((planned, _)) =
        known.records.first().filter(|_| expected.is_none() && known.first > step && until > step)
    {
        let last = planned.number.saturating_sub(1);
        return Err(SourceError::Missing { from: last, to: last });
    }
    let mut before = expected;
    let mut told = 0;
    for (planned, steps) in &known.records {
        if let Some(expected) = before
            && planned.number > expected
            && until > step
        {
            return Err(SourceError::Missing { from: expected, to: planned.number - 1 });
        }
        before = Some(planned.number + 1);
        if *steps >= step && told < until {
            records.push_back(*planned);
        }
        told = *steps;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A branch with records of these numbers, each up to so many steps.
    fn known(parent: Option<(Branch, u64)>, records: &[(u64, u64)]) -> Known {
        let records = records.iter().map(|(number, steps)| (Planned { sequence: *number, number: *number }, *steps));
        let first = parent.map_or(0, |(_, at)| at);
        Known { parent, life: Restart::default(), first, records: records.collect(), ends: None }
    }

    fn position(branch: Branch, step: u64, number: u64) -> Position {
        Position { branch, step, from: 0, number, sum: 0, store: [0; 16] }
    }

    /// Branch, first step, step before which it is left, records.
    type Shown = (Branch, u64, u64, Vec<u64>);

    fn way(branches: &[(Branch, Known)], from: &Position) -> Result<Vec<Shown>, String> {
        let mut map = HashMap::new();
        for (branch, known) in branches {
            let Known { parent, life, first, records, ends } = known;
            let known =
                Known { parent: *parent, life: *life, first: *first, records: records.clone(), ends: ends.clone() };
            map.insert(*branch, known);
        }
        let (way, _) = plan(&mut map, from).map_err(|error| error.to_string())?;
        let shown = |s: Stretch| (s.branch, s.from, s.until, s.records.iter().map(|p| p.number).collect());
        Ok(way.into_iter().map(shown).collect())
    }

    #[test]
    fn the_way_follows_the_branch_that_was_begun_last() {
        let all = [
            (1, known(None, &[(1, 10), (2, 20), (3, 30)])),
            (2, known(Some((1, 30)), &[(4, 40)])),
            // The world went back to step 12, and took another way from there.
            (3, known(Some((1, 12)), &[(5, 15), (6, 22)])),
            (4, known(Some((3, 22)), &[(7, 25)])),
        ];
        // What the world went back from may be gone.
        assert_eq!(way(&all[2..], &position(1, 12, 1)).unwrap(), [(3, 12, 22, vec![5, 6]), (4, 22, 25, vec![7])]);
        assert_eq!(
            way(&all, &position(1, 5, 1)).unwrap(),
            [(1, 5, 12, vec![1, 2]), (3, 12, 22, vec![5, 6]), (4, 22, 25, vec![7])]
        );
        // Behind the place where the other way began, only what came by itself follows.
        assert_eq!(way(&all, &position(1, 21, 3)).unwrap(), [(1, 21, 30, vec![3]), (2, 30, 40, vec![4])]);
        assert_eq!(way(&all, &position(4, 25, 8)).unwrap(), []);
        assert_eq!(way(&all, &position(9, 0, 1)).unwrap(), []);
    }

    #[test]
    fn a_branch_whose_parent_did_not_come_so_far_is_not_reached() {
        let mut all = vec![(1, known(None, &[(1, 10)])), (2, known(Some((1, 30)), &[(4, 40)]))];
        assert_eq!(way(&all, &position(1, 0, 1)).unwrap(), [(1, 0, 10, vec![1])]);
        // Nor does it hide one that is.
        all.push((3, known(Some((1, 0)), &[(2, 7)])));
        assert_eq!(way(&all, &position(1, 0, 1)).unwrap(), [(3, 0, 7, vec![2])]);
    }

    #[test]
    fn a_record_that_is_missing_is_named() {
        let all = [(1, known(None, &[(1, 10), (4, 20)]))];
        assert_eq!(way(&all, &position(1, 0, 1)), Err(SourceError::Missing { from: 2, to: 3 }.to_string()));
        let trimmed = [(1, known(None, &[(3, 10)]))];
        assert_eq!(way(&trimmed, &position(1, 0, 1)), Err(SourceError::Missing { from: 1, to: 2 }.to_string()));
        assert_eq!(way(&trimmed, &position(1, 0, 3)).unwrap(), [(1, 0, 10, vec![3])]);
    }
}
