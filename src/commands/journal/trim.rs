//! `semper journal trim`.

use std::process::ExitCode;
use std::sync::Arc;

use semper::runtime::journal_seen;
use semper_journal::{Error, JOURNAL_DIR, Journal, Trimmed};
use semper_store::{DirFolder, Folder, OpenOptions, Store};

use super::super::{Failure, say};
use super::{options, say_none};
use crate::cli::{JournalTrim, Moment};

pub fn run(command: &JournalTrim) -> Result<ExitCode, Failure> {
    // As long as the store is open here, no runtime can begin.
    let store = Store::open(&command.store, &OpenOptions::default())?;
    let failed = |error: Error| Failure::journal(&command.store, &error);
    let folder: Arc<dyn Folder> = Arc::new(DirFolder::new(&command.store.join(JOURNAL_DIR)));
    let id = store.id();
    let seen = journal_seen(&command.store)?;
    if seen <= 1 && !semper_journal::exists(&*folder).map_err(failed)? {
        say_none(&command.store);
        return Ok(ExitCode::SUCCESS);
    }
    let journal = Journal::open(folder, id, seen, &options(command.accept_loss)).map_err(failed)?;
    if let Some(error) = journal.trouble() {
        return Err(failed(error));
    }
    if command.accept_loss {
        say("What was lost is given up; the journal takes records.");
    }
    if let Some(before) = before(command, &journal) {
        let trimmed = journal.trim(before, "by semper journal trim").map_err(failed)?;
        tell(&trimmed);
    }
    journal.quiesce();
    Ok(ExitCode::SUCCESS)
}

/// The record that is to be the first.
fn before(command: &JournalTrim, journal: &Journal) -> Option<u64> {
    let spans = journal.spans();
    let ends = |count: usize| spans.iter().take(count).next_back().map_or(0, |(_, end, _)| *end);
    let covered = command.covered.then(|| journal.covered());
    let by_moment = command.before.map(|moment| match moment {
        Moment::Sequence(sequence) => sequence,
        Moment::Time(time) => ends(spans.iter().take_while(|(_, _, last)| *last < time).count()),
    });
    let by_size = command.keep.map(|size| {
        let kept = usize::try_from(size / journal.segment_bytes()).unwrap_or(usize::MAX).max(1);
        ends((spans.len() + 1).saturating_sub(kept))
    });
    let asked = by_moment.max(by_size);
    // What is in no backup stays, whatever else is asked for.
    match (asked, covered) {
        (Some(asked), Some(covered)) => Some(asked.min(covered)),
        (asked, covered) => asked.or(covered),
    }
}

fn tell(trimmed: &Trimmed) {
    if trimmed.segments == 0 {
        say(format_args!(
            "Nothing to trim: the journal begins with record {}; it is trimmed by whole segments.",
            trimmed.first
        ));
    } else {
        let Trimmed { records, segments, first } = trimmed;
        say(format_args!("{records} records in {segments} segments are gone; the journal begins with record {first}."));
    }
}
