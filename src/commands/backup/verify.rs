//! `semper backup verify`.

use std::io::Read;
use std::process::ExitCode;

use indicatif::BinaryBytes;
use semper_backup::{Directory, Header, StreamReader};
use serde::Serialize;

use super::{Place, bar, kind, open_file, open_pipe, print_json};
use crate::cli::Look;
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
    /// What is wrong with it.
    fault: Option<String>,
}

pub fn run(look: &Look) -> Result<ExitCode, Failure> {
    let lines = match Place::of(&look.dest) {
        Place::Pipe => chain(&mut open_pipe()?),
        Place::File(path) => chain(&mut open_file(&path)?),
        Place::Directory(path) => directory(&Directory::open(&path)?),
    };
    let sound = lines.iter().all(|line| line.fault.is_none());
    if look.json {
        print_json(&Document { sound, backups: lines })?;
    } else {
        lines.iter().for_each(print);
        let (count, bytes) = (lines.len(), BinaryBytes(lines.iter().map(|line| line.bytes).sum()));
        let verdict = if sound { "sound" } else { "DAMAGED" };
        say(format_args!("{} is {verdict}: {count} backups, {bytes} read", look.dest.display()));
    }
    Ok(ExitCode::from(if sound { 0 } else { code::FOUND }))
}

fn print(line: &Line) {
    if let Some(fault) = &line.fault {
        say(fault);
    }
}

fn line(file: &str, header: Option<&Header>, bytes: u64, fault: Option<String>) -> Line {
    let generation = header.map(|header| header.generation.generation);
    let since = header.and_then(|header| header.since).map(|since| since.generation);
    Line { file: file.to_owned(), generation, since, bytes, fault }
}

/// Streams that follow each other.
fn chain<R: Read>(reader: &mut StreamReader<R>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut last: Option<Header> = None;
    loop {
        let start = reader.bytes();
        let name = reader.name().to_owned();
        let header = match reader.next_stream() {
            Ok(Some(header)) => header,
            Ok(None) => return lines,
            Err(error) => {
                lines.push(line(&name, None, reader.bytes() - start, Some(error.to_string())));
                return lines;
            }
        };
        let read = reader.skip_to_end();
        let ended = read.is_err();
        // A single increment may lie in a file of its own.
        let follows =
            last.as_ref().is_none_or(|last| last.store == header.store && Some(last.generation) == header.since);
        let broken = || format!("{name}: the backup of {} ({}) does not follow", header.generation(), kind(&header));
        let fault = read.err().map(|error| error.to_string()).or_else(|| (!follows).then(broken));
        lines.push(line(&name, Some(&header), reader.bytes() - start, fault));
        if ended {
            return lines;
        }
        last = Some(header);
    }
}

fn directory(found: &Directory) -> Vec<Line> {
    let bar = bar(found.backups.iter().map(|backup| backup.bytes).sum());
    let mut lines: Vec<Line> = Vec::new();
    for backup in &found.backups {
        bar.set_message(backup.header.generation().to_string());
        let read = backup.open().and_then(|mut reader| {
            reader.next_stream()?;
            reader.skip_to_end()?;
            // Nothing may follow.
            match reader.next_stream()? {
                None => Ok(()),
                Some(_) => Err(semper_backup::Error::NotABackup { name: backup.name(), at: backup.bytes }),
            }
        });
        let read = read.and_then(|()| found.chain_of(backup).map(|_| ()));
        lines.push(line(&backup.name(), Some(&backup.header), backup.bytes, read.err().map(|error| error.to_string())));
        bar.inc(backup.bytes);
    }
    bar.finish_and_clear();
    for (path, error) in &found.broken {
        lines.push(line(&path.display().to_string(), None, 0, Some(error.to_string())));
    }
    lines
}
