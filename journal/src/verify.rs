//! Reading everything.

use crate::copies::Look;
use crate::error::{Error, Lost};
use crate::read::{Reader, Seen};
use semper_store::{Folder, StoreId};
use std::sync::Arc;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The first record that was not trimmed.
    pub first: u64,
    /// The sequence after the last.
    pub end: u64,
    /// Records that were read.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// What is lost.
    pub lost: Vec<Lost>,
    /// What is lost and was given up.
    pub given_up: Vec<Lost>,
    /// How often something did not hold on one side that another side has. It was written anew there, if the folder may be written to.
    pub rotten: u64,
    /// Whether something was begun at the end and not finished: it was never acknowledged, and is cut at the next opening.
    pub torn: bool,
}

impl Report {
    /// Whether all is there that should be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost.is_empty()
    }
}

/// Reads every record of the journal of `store` on all its sides, beside a runtime or without one. `progress` is told after each.
///
/// # Errors
/// As [`Reader::open`].
pub fn verify(folder: Arc<dyn Folder>, store: StoreId, progress: &mut dyn FnMut(&Report)) -> Result<Report, Error> {
    let look = Look::at_all();
    let mut reader = Reader::looking(folder, store, 0, look.clone())?;
    let mut report = Report { first: reader.first(), segments: reader.segments() as u64, ..Report::default() };
    while let Some(seen) = reader.step()? {
        match seen {
            Seen::Record(record) => {
                report.records += 1;
                report.bytes += record.bytes.len() as u64;
            }
            Seen::Lost { lost, given_up: true } => report.given_up.push(lost),
            Seen::Lost { lost, given_up: false } => report.lost.push(lost),
        }
        progress(&report);
    }
    (report.end, report.torn) = (reader.next_sequence(), reader.torn);
    report.rotten = look.rotten();
    Ok(report)
}
