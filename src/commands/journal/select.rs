//! Which records: from a place or a time on, up to one, of a writer.

use semper_journal::Record;

use super::is_of;
use crate::cli::{JournalShow, Moment};

impl JournalShow {
    /// The first record that has to be read.
    pub(super) fn first(&self) -> u64 {
        if let Some(Moment::Sequence(first)) = self.from { first } else { 0 }
    }

    /// Whether a record with this number, and all after it, come too late.
    pub(super) fn is_after(&self, sequence: u64) -> bool {
        matches!(self.to, Some(Moment::Sequence(last)) if sequence > last)
    }

    /// Whether a record is among those asked for.
    pub(super) fn wants(&self, record: &Record) -> bool {
        let late_enough = match self.from {
            Some(Moment::Time(from)) => record.time >= from,
            Some(Moment::Sequence(first)) => record.sequence >= first,
            None => true,
        };
        let early_enough = match self.to {
            Some(Moment::Time(to)) => record.time <= to,
            Some(Moment::Sequence(last)) => record.sequence <= last,
            None => true,
        };
        late_enough && early_enough && is_of(record.writer, self.writer)
    }
}
