//! `semper backup list`.

use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{BinaryBytes, HumanCount};
use semper_backup::{Backup, Destination, Directory, Folder};
use serde::Serialize;

use super::{Place, kind, moment, print_json, seconds};
use crate::cli::Look;
use crate::commands::failure::code;
use crate::commands::{Failure, say};

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    store: Option<String>,
    backups: Vec<Line>,
    broken: Vec<Broken>,
    partial: Vec<String>,
}

#[derive(Serialize)]
struct Line {
    file: String,
    generation: u64,
    since: Option<u64>,
    committed_at: u64,
    made_at: u64,
    bytes: u64,
    encrypted: bool,
    /// Whether the journal is in it.
    journal: bool,
    /// None if it is not known: it is cut off or spoilt, or encrypted.
    pages: Option<u64>,
    complete: bool,
}

#[derive(Serialize)]
struct Broken {
    file: String,
    reason: String,
}

fn line(backup: &Backup) -> Line {
    let label = &backup.label;
    Line {
        file: backup.name(),
        generation: label.generation.generation,
        since: label.since.map(|since| since.generation),
        committed_at: seconds(label.generation.committed_at),
        made_at: seconds(label.made_at),
        bytes: backup.bytes,
        encrypted: backup.encrypted,
        journal: backup.journal,
        pages: backup.manifest.as_ref().ok().filter(|_| !backup.encrypted).map(|manifest| manifest.pages),
        complete: backup.manifest.is_ok(),
    }
}

pub fn run(look: &Look) -> Result<ExitCode, Failure> {
    let (store, backups, broken, partial) = match Place::of(&look.dest)? {
        Place::Pipe => {
            let told = "a pipe cannot be listed; semper backup verify - reads it whole";
            return Err(Failure::new(code::USAGE, told));
        }
        Place::File(path) => {
            let (folder, name) = Folder::of(&path)?;
            let folder: Arc<dyn Destination> = Arc::new(folder);
            let backup = Backup::look(&folder, &name)?;
            (Some(backup.label.store()), vec![backup], vec![], vec![])
        }
        Place::Directory(place) => {
            let found = Directory::open(&place)?;
            let broken = found
                .broken
                .iter()
                .map(|(file, error)| Broken { file: place.shown(&file.name), reason: error.to_string() });
            let (broken, partial) =
                (broken.collect(), found.partial.iter().map(|file| place.shown(&file.name)).collect());
            (found.store(), found.backups, broken, partial)
        }
    };
    if look.json {
        print_json(&Document {
            store: store.map(|store| store.to_string()),
            backups: backups.iter().map(line).collect(),
            broken,
            partial,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    match store {
        None => say(format_args!("{} has no backups", look.dest.display())),
        Some(store) => {
            say(format_args!("store {store}"));
            say("generation  holds          committed             made                       pages        size");
        }
    }
    for backup in &backups {
        let label = &backup.label;
        let pages = match &backup.manifest {
            Ok(_) if backup.encrypted => "encrypted".to_owned(),
            Ok(manifest) => HumanCount(manifest.pages).to_string(),
            Err(why) => why.clone(),
        };
        let (committed, made) = (moment(label.generation.committed_at), moment(label.made_at));
        let (generation, holds) = (label.generation.generation, kind(label));
        let size = BinaryBytes(backup.bytes).to_string();
        say(format_args!("{generation:>10}  {holds:<13}  {committed}  {made}  {pages:>9}  {size:>10}"));
    }
    broken.iter().for_each(|broken| say(format_args!("unreadable: {}", broken.reason)));
    partial.iter().for_each(|name| say(format_args!("{name} is what a create that did not end has left")));
    Ok(ExitCode::SUCCESS)
}
