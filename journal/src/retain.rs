//! What goes: whole segments, the oldest first, by size, by age, or by an operator's word.

use crate::canary::Canary;
use crate::error::Error;
use crate::journal::Journal;
use crate::note::Note;
use crate::segment;
use crate::tail::Tail;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// When segments go by themselves. Never those with records from [`Journal::set_floor`] on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// More bytes than these are not kept.
    pub max_bytes: u64,
    /// Older records are not kept.
    pub max_age: Option<Duration>,
    /// Only what is in a backup goes.
    pub only_covered: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_age: None, only_covered: false }
    }
}

/// What an operator wants to go: of each thing that is asked, whole segments, the oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Records before this one.
    pub before: Option<u64>,
    /// Records from before this time, nanoseconds since 1970.
    pub older_than: Option<u64>,
    /// So much that the journal has not more bytes; the newest segment stays.
    pub keep_bytes: Option<u64>,
    /// Only what is in a backup; all of that, if nothing else is asked.
    pub only_covered: bool,
}

/// What a trim did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// Records that went.
    pub records: u64,
    /// Segments that went.
    pub segments: u64,
    /// The first record that is still there.
    pub first: u64,
}

impl Journal {
    /// Records from `sequence` on may be asked for again by a generation that is kept: the retention leaves them. Before the first call it
    /// leaves all.
    pub fn set_floor(&self, sequence: u64) {
        self.floor.store(sequence, SeqCst);
    }

    /// Records below `sequence` are in a backup.
    ///
    /// # Errors
    /// What the host says.
    pub fn mark_covered(&self, sequence: u64) -> Result<(), Error> {
        let mut tail = self.tail();
        tail.state.state.covered = tail.state.state.covered.max(sequence);
        tail.state.write().map_err(|e| Error::io("write `journal/state`", e))
    }

    /// Records below it are in a backup.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.tail().state.state.covered
    }

    /// Trims as an operator wishes; none: the wish is empty.
    ///
    /// # Errors
    /// As [`Journal::trim`]; [`Error::Damaged`] while lost records were not given up.
    pub fn trim_as(self: &Arc<Self>, wish: &Wish) -> Result<Option<Trimmed>, Error> {
        self.lock().usable()?;
        let spans = self.spans();
        let ends = |count: usize| spans.iter().take(count).next_back().map_or(0, |(_, end, _)| *end);
        let by_time = wish.older_than.map(|time| ends(spans.iter().take_while(|(_, _, last)| *last < time).count()));
        let by_size = wish.keep_bytes.map(|bytes| {
            let kept = usize::try_from(bytes / self.segment_bytes).unwrap_or(usize::MAX).max(1);
            ends((spans.len() + 1).saturating_sub(kept))
        });
        let asked = wish.before.max(by_time).max(by_size);
        let covered = wish.only_covered.then(|| self.covered());
        // What is in no backup stays, whatever else is asked for.
        let before = match (asked, covered) {
            (Some(asked), Some(covered)) => asked.min(covered),
            (Some(before), None) | (None, Some(before)) => before,
            (None, None) => return Ok(None),
        };
        self.trim(before, "by semper journal trim").map(Some)
    }

    /// Lets the segments go that hold only records below `before`; and notes by whose word. The newest segment stays.
    ///
    /// # Errors
    /// What the host says.
    pub fn trim(self: &Arc<Self>, before: u64, by: &str) -> Result<Trimmed, Error> {
        let trimmed = {
            let mut tail = self.tail();
            let count = self.lock().sealed.iter().take_while(|sealed| sealed.summary.end <= before).count();
            self.let_go(&mut tail, count)?
        };
        if trimmed.segments > 0
            && let Err(error) = self.note(&Note::Trimmed { first: trimmed.first, by: by.to_owned() })
        {
            tracing::debug!(%error, "a trim is not noted");
        }
        Ok(trimmed)
    }

    /// The retention. `one`: the oldest segment goes if it may, though there is room by its rules. Says whether any went.
    pub(crate) fn retain(&self, tail: &mut Tail, one: bool) -> bool {
        let (floor, covered) = (self.floor.load(SeqCst), tail.state.state.covered);
        let oldest = self
            .retention
            .max_age
            .map(|age| crate::bytes::now().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
        let count = {
            let inner = self.lock();
            let mut bytes = (inner.sealed.len() as u64 + 1) * self.segment_bytes;
            let goes = |sealed: &&Arc<crate::sealed::Sealed>| {
                let summary = &sealed.summary;
                let may = summary.end <= floor && (!self.retention.only_covered || summary.end <= covered);
                let too_much =
                    bytes > self.retention.max_bytes || oldest.is_some_and(|oldest| summary.last_time < oldest);
                bytes -= self.segment_bytes;
                may && (too_much || one)
            };
            let count = inner.sealed.iter().take_while(goes).count();
            if one { count.min(1) } else { count }
        };
        match self.let_go(tail, count) {
            Ok(trimmed) => trimmed.segments > 0,
            Err(error) => {
                tracing::warn!(%error, "old records of the journal cannot be let go");
                false
            }
        }
    }

    /// The oldest `count` segments go.
    fn let_go(&self, tail: &mut Tail, count: usize) -> Result<Trimmed, Error> {
        let (gone, before, first) = {
            let inner = self.lock();
            let first = inner.sealed.get(count).map_or(inner.newest.0, |sealed| sealed.summary.first);
            let gone: Vec<u64> = inner.sealed.iter().take(count).map(|sealed| sealed.summary.first).collect();
            (gone, inner.first, first)
        };
        if gone.is_empty() {
            return Ok(Trimmed { records: 0, segments: 0, first: before });
        }
        if Canary::TrimEarly.planted(self.canary) {
            self.remove(&gone);
            let _ = self.folder.sync();
        }
        let state = &mut tail.state.state;
        state.first = first;
        state.given_up.retain(|(_, to)| *to >= first);
        tail.state.write().map_err(|e| Error::io("write `journal/state`", e))?;
        {
            let mut inner = self.lock();
            inner.sealed = Arc::new(inner.sealed[count..].to_vec());
            inner.first = first;
        }
        if !Canary::TrimEarly.planted(self.canary) {
            self.remove(&gone);
        }
        Ok(Trimmed { records: first - before, segments: gone.len() as u64, first })
    }

    fn remove(&self, gone: &[u64]) {
        for first in gone {
            // What stays is removed at the next opening.
            let _ = self.folder.remove(&segment::index_name(*first));
            if let Err(error) = self.folder.remove(&segment::name(*first)) {
                tracing::debug!(%error, "a segment that was trimmed is still there");
            }
        }
    }
}
