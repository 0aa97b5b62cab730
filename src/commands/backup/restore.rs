//! `semper backup restore`.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use indicatif::HumanCount;
use semper::runtime::journal_known;
use semper_backup::{Directory, Error, Identities, Restore, Restored, StreamReader};
use semper_store::{Generation, Store};

use super::{Place, bar, open_file, open_pipe};
use crate::cli::{At, JournalReplay, Restore as Command};
use crate::commands::failure::code;
use crate::commands::{Failure, journal, say};

pub fn run(command: &Command) -> Result<ExitCode, Failure> {
    let identities = Identities::read(&command.opened_by.identities)?;
    let mut restore = Restore::begin(&command.store)?.without_journal(command.without_journal);
    match Place::of(&command.dest)? {
        Place::Pipe | Place::File(_) if matches!(command.at, Some(At::Time(_))) => {
            let told = "only of a directory the newest before a time can be found; name a generation: --at GEN";
            return Err(Failure::new(code::USAGE, told));
        }
        Place::Pipe => all(&mut restore, &mut open_pipe()?.with_identities(&identities), number(command.at), command)?,
        Place::File(path) => {
            all(&mut restore, &mut open_file(&path)?.with_identities(&identities), number(command.at), command)?
        }
        Place::Directory(place) => {
            let found = Directory::open(&place)?;
            let at = match command.at {
                Some(At::Time(nanos)) => Some(found.newest_by(nanos)?),
                at => number(at),
            };
            let chain = found.chain(at)?;
            let manifests = chain.iter().filter_map(|backup| backup.manifest.as_ref().ok());
            let bar = bar(manifests.map(|manifest| manifest.pages).sum());
            let mut before = 0;
            for backup in chain {
                bar.set_message(backup.label.generation().to_string());
                let mut reader = backup.open()?.with_identities(&identities);
                restore.apply(&mut reader, &mut |pages| bar.set_position(before + pages))?;
                before = bar.position();
            }
            bar.finish_and_clear();
        }
    }
    let Restored { header, streams, journal_end } = restore.finish()?;
    let (shown, store) = (command.store.display(), header.store());
    let many = if streams == 1 { "1 backup".to_owned() } else { format!("{streams} backups") };
    say(format_args!(
        "{shown}: {} of the store {store}, {} pages, from {many}",
        header.generation(),
        HumanCount(header.pages)
    ));
    match (journal_end, journal_known(&command.store, newest_in(&command.store)?)) {
        (Some(end), _) => say(format_args!("with its journal, up to record {}", end - 1)),
        // A world that cannot be looked at says so when it is resumed.
        (None, Err(_) | Ok(None)) => {}
        (None, Ok(Some((known, _)))) => eprintln!(
            "semper: the world had a journal of {} records, and {shown} has none: its programs may do again what they had noted there",
            known.saturating_sub(1)
        ),
    }
    if command.then_replay {
        return journal::replay(&JournalReplay { store: command.store.clone(), to: None, json: false });
    }
    say(format_args!("go on with: semper resume {shown}"));
    Ok(ExitCode::SUCCESS)
}

fn newest_in(dir: &Path) -> Result<Generation, Failure> {
    Ok(Store::open_read_only(dir)?.generation())
}

fn number(at: Option<At>) -> Option<Generation> {
    if let Some(At::Generation(number)) = at { Some(Generation(number)) } else { None }
}

/// Streams that follow each other, up to the generation that is wanted.
fn all<R: Read + Send>(
    restore: &mut Restore,
    reader: &mut StreamReader<R>,
    at: Option<Generation>,
    command: &Command,
) -> Result<(), Failure> {
    let bar = bar(0);
    let mut found = Vec::new();
    while restore.apply(reader, &mut |pages| bar.set_position(pages))? {
        let last = restore.generation();
        found.extend(last.map(|last| last.0.to_string()));
        if last == at && at.is_some() {
            return Ok(());
        }
    }
    bar.finish_and_clear();
    match at {
        None => Ok(()),
        Some(at) => {
            let (place, wanted, found) = (command.dest.display().to_string(), at.to_string(), found.join(", "));
            Err(Error::NoSuchBackup { place, wanted, found }.into())
        }
    }
}
