//! `semper journal trim`.

use std::process::ExitCode;

use semper::control::{Connection, ControlError, Gone, Reply, Request};
use semper_journal::{Error, Trimmed, Wish};
use semper_store::{OpenOptions, Store};

use super::super::failure::code;
use super::super::{Failure, say};
use super::{open_at_rest, say_none};
use crate::cli::{JournalTrim, Moment};

pub fn run(command: &JournalTrim) -> Result<ExitCode, Failure> {
    match Connection::open(&command.store) {
        Ok(connection) => ask(command, &connection)?,
        Err(ControlError::NotRunning) => at_rest(command)?,
        Err(error) => return Err(Failure::control(&command.store, error)),
    }
    Ok(ExitCode::SUCCESS)
}

fn wish(command: &JournalTrim) -> Wish {
    let (before, older_than) = match command.before {
        Some(Moment::Sequence(sequence)) => (Some(sequence), None),
        Some(Moment::Time(time)) => (None, Some(time)),
        None => (None, None),
    };
    Wish { before, older_than, keep_bytes: command.keep, only_covered: command.covered }
}

/// A runtime trims its journal itself.
fn ask(command: &JournalTrim, connection: &Connection) -> Result<(), Failure> {
    let shown = command.store.display();
    if command.accept_loss {
        let message = format!("a runtime is running on {shown}, and works with the journal as it is; stop it first");
        return Err(Failure::new(code::IN_USE, message));
    }
    let Wish { before, older_than, keep_bytes, only_covered } = wish(command);
    let answer = connection.ask(&Request::TrimJournal { before, older_than, keep_bytes, only_covered });
    match answer.map_err(|error| Failure::control(&command.store, error))? {
        Reply::Trimmed(None) => say_none(&command.store),
        Reply::Trimmed(Some(gone)) => tell(&gone),
        other => return Err(Failure::control(&command.store, ControlError::Unexpected(Box::new(other)))),
    }
    Ok(())
}

fn at_rest(command: &JournalTrim) -> Result<(), Failure> {
    // As long as the store is open here, no runtime can begin.
    let store = Store::open(&command.store, &OpenOptions::default())?;
    let failed = |error: Error| Failure::journal(&command.store, &error);
    let Some(journal) = open_at_rest(&command.store, &store, command.accept_loss)? else {
        say_none(&command.store);
        return Ok(());
    };
    if command.accept_loss {
        say("What was lost is given up; the journal takes records.");
    }
    if let Some(Trimmed { records, segments, first }) = journal.trim_as(&wish(command)).map_err(failed)? {
        tell(&Gone { records, segments, first });
    }
    journal.quiesce();
    Ok(())
}

fn tell(gone: &Gone) {
    let Gone { records, segments, first } = gone;
    if *segments == 0 {
        say(format_args!("Nothing to trim: the journal begins with record {first}; it is trimmed by whole segments."));
    } else {
        say(format_args!("{records} records in {segments} segments are gone; the journal begins with record {first}."));
    }
}
