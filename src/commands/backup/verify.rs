//! `semper backup verify`.

use std::collections::HashMap;
use std::io::Read;
use std::process::ExitCode;

use indicatif::BinaryBytes;
use semper_backup::{Base, Destination, Directory, Error, Identities, JournalPart, Label, StreamReader};
use serde::Serialize;

use super::{Input, Place, bar, kind, open_file, open_pipe, print_json};
use crate::cli::Verify;
use crate::commands::failure::code;
use crate::commands::{Failure, say};

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    sound: bool,
    backups: Vec<Line>,
}

/// A backup that was read.
#[derive(Serialize)]
struct Line {
    file: String,
    generation: Option<u64>,
    since: Option<u64>,
    bytes: u64,
    encrypted: bool,
    /// Whether what it holds was read: not if it is encrypted and no identity was given.
    read: bool,
    /// What is wrong with it.
    fault: Option<String>,
}

pub fn run(look: &Verify) -> Result<ExitCode, Failure> {
    let identities = Identities::read(&look.opened_by.identities)?;
    let open = |input: Input| (input.with_identities(&identities), !identities.is_empty());
    let lines = match Place::of(&look.dest)? {
        Place::Pipe => chain(open(open_pipe()?)),
        Place::File(path) => chain(open(open_file(&path)?)),
        Place::Directory(place) => directory(&*place, &Directory::open(&place)?, &identities),
    };
    let sound = lines.iter().all(|line| line.fault.is_none());
    if look.json {
        print_json(&Document { sound, backups: lines })?;
    } else {
        lines.iter().for_each(print);
        let (count, bytes) = (lines.len(), BinaryBytes(lines.iter().map(|line| line.bytes).sum()));
        let verdict = if sound { "sound" } else { "DAMAGED" };
        say(format_args!("{} is {verdict}: {count} backups, {bytes} read", look.dest.display()));
        let closed = lines.iter().filter(|line| !line.read && line.fault.is_none()).count();
        if closed > 0 {
            say(format_args!(
                "{closed} of them encrypted: the ciphertext is whole; --identity FILE reads what is in it"
            ));
        }
    }
    Ok(ExitCode::from(if sound { 0 } else { code::FOUND }))
}

fn print(line: &Line) {
    if let Some(fault) = &line.fault {
        say(fault);
    }
}

fn line(file: &str, label: Option<&Label>, bytes: u64, fault: Option<String>) -> Line {
    let generation = label.map(|label| label.generation.generation);
    let since = label.and_then(|label| label.since).map(|since| since.generation);
    Line { file: file.to_owned(), generation, since, bytes, encrypted: false, read: true, fault }
}

/// Reads the stream whose label came last to its end, and what is encrypted in it if it can be `opened`.
fn read<R: Read>(reader: &mut StreamReader<R>, opened: bool) -> Result<(), Error> {
    if opened {
        reader.open()?;
    }
    reader.skip_to_end().map(|_| ())
}

/// What is wrong with the journal of an increment. `base`: how far the journal is known in the backup before, if that was read; none in it: that
/// one has no journal.
fn misses_records(name: &str, part: Option<&JournalPart>, base: Option<Option<u64>>) -> Option<String> {
    let part = part.filter(|part| part.from > part.first)?;
    let base = base.filter(|known| *known != Some(part.from))?;
    let before = match base {
        None => "has no journal".to_owned(),
        Some(known) => format!("knows records up to {} for sure", known.saturating_sub(1)),
    };
    Some(format!("{name} has the journal from record {} on, and the backup before {before}", part.from))
}

/// Streams that follow each other.
fn chain((mut reader, identities): (Input, bool)) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut last: Option<Label> = None;
    let mut known = None;
    loop {
        let start = reader.bytes();
        let name = reader.name().to_owned();
        let label = match reader.next_label() {
            Ok(Some(label)) => label,
            Ok(None) => return lines,
            Err(error) => {
                lines.push(line(&name, None, reader.bytes() - start, Some(error.to_string())));
                return lines;
            }
        };
        let encrypted = reader.is_encrypted();
        let read = read(&mut reader, identities || !encrypted);
        let ended = read.is_err();
        // A single increment may lie in a file of its own.
        let follows =
            last.as_ref().is_none_or(|last| last.store == label.store && Some(last.generation) == label.since);
        let broken = || format!("{name}: the backup of {} ({}) does not follow", label.generation(), kind(&label));
        let missing = || misses_records(&name, reader.journal(), known);
        let fault = read.err().map(|error| error.to_string()).or_else(|| (!follows).then(broken)).or_else(missing);
        known = (identities || !encrypted).then(|| reader.journal().map(|part| part.known));
        let whole = line(&name, Some(&label), reader.bytes() - start, fault);
        lines.push(Line { encrypted, read: identities || !encrypted, ..whole });
        if ended {
            return lines;
        }
        last = Some(label);
    }
}

fn directory(place: &dyn Destination, found: &Directory, identities: &Identities) -> Vec<Line> {
    let bar = bar(found.backups.iter().map(|backup| backup.bytes).sum());
    let mut lines: Vec<Line> = Vec::new();
    // How far the journal is known by each generation: none without one.
    let mut known: HashMap<Base, Option<u64>> = HashMap::new();
    for backup in &found.backups {
        bar.set_message(backup.label.generation().to_string());
        let opened = !backup.encrypted || !identities.is_empty();
        let read = backup.open().and_then(|reader| {
            let mut reader = reader.with_identities(identities);
            reader.next_label()?;
            read(&mut reader, opened)?;
            let part = reader.journal().cloned();
            // Nothing may follow.
            match reader.next_label()? {
                None => Ok(part),
                Some(_) => Err(Error::NotABackup { name: backup.name(), at: backup.bytes }),
            }
        });
        let fault = match read.and_then(|part| found.chain_of(backup).map(|_| part)) {
            Err(error) => Some(error.to_string()),
            Ok(part) => {
                if opened || !backup.journal {
                    known.insert(backup.label.generation, part.as_ref().map(|part| part.known));
                }
                let base = backup.label.since.and_then(|since| known.get(&since).copied());
                misses_records(&backup.name(), part.as_ref(), base)
            }
        };
        let whole = line(&backup.name(), Some(&backup.label), backup.bytes, fault);
        lines.push(Line { encrypted: backup.encrypted, read: opened, ..whole });
        bar.inc(backup.bytes);
    }
    bar.finish_and_clear();
    for (file, error) in &found.broken {
        lines.push(line(&place.shown(&file.name), None, 0, Some(error.to_string())));
    }
    lines
}
