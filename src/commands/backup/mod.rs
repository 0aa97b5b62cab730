//! `semper backup`.

mod create;
mod follow;
mod keygen;
mod list;
mod prune;
mod restore;
pub mod ship;
mod verify;

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use semper_backup::{Destination, Directory, Label, Lock, SUFFIX, StreamReader, destination, is_url};
use semper_store::StoreId;
use serde::Serialize;

use super::failure::code;
use super::{Failure, bar, say};
use crate::cli::Backup;

/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 20;

pub fn run(backup: &Backup) -> Result<ExitCode, Failure> {
    match backup {
        Backup::Create(create) => create::run(create),
        Backup::Follow(follow) => follow::run(follow),
        Backup::List(look) => list::run(look),
        Backup::Verify(look) => verify::run(look),
        Backup::Restore(restore) => restore::run(restore),
        Backup::Prune(prune) => prune::run(prune),
        Backup::Keygen(keygen) => keygen::run(keygen),
    }
}

/// Where backups are.
enum Place {
    /// Each in a file of its own.
    Directory(Arc<dyn Destination>),
    File(PathBuf),
    /// Standard input or output.
    Pipe,
}

impl Place {
    /// What is there decides; if nothing is, the name.
    fn of(path: &Path) -> Result<Place, Failure> {
        let file = match fs::metadata(path) {
            _ if path == Path::new("-") => return Ok(Place::Pipe),
            _ if is_url(path) => false,
            Ok(found) => !found.is_dir(),
            Err(_) => path.to_string_lossy().ends_with(SUFFIX),
        };
        Ok(if file { Place::File(path.to_owned()) } else { Place::Directory(destination(path)?) })
    }
}

/// The backups of a store at a destination; nobody else adds or removes any as long as the lock lives.
fn open_directory(place: &Arc<dyn Destination>, store: StoreId) -> Result<(Directory, Lock), Failure> {
    let lock = place.lock()?;
    let found = Directory::open(place)?;
    same_store(&found, store)?;
    Ok((found, lock))
}

/// Backups of another store do not come into a directory.
fn same_store(found: &Directory, store: StoreId) -> Result<(), Failure> {
    let Some(of) = found.store().filter(|of| *of != store) else { return Ok(()) };
    let told =
        format!("{} has backups of the store {of}, and this one is {store}; name another directory", found.name());
    Err(Failure::new(code::USAGE, told))
}

/// Puts the backups aside that are of a future which the world has left, before one comes that is of its past or takes the place of one of them.
///
/// The store is looked at again: another one may have come into its place.
fn set_aside(place: &dyn Destination, found: &Directory, label: &Label) -> Result<(), Failure> {
    same_store(found, label.store())?;
    for file in found.left_behind(label) {
        let aside = place.shown(&found.set_aside(file)?);
        eprintln!("semper: {} is of a future that the world has left: now {aside}", place.shown(file));
    }
    Ok(())
}

/// A reader of what is not a directory of backups.
type Input = StreamReader<BufReader<Box<dyn Read + Send>>>;

fn open_file(path: &Path) -> Result<Input, Failure> {
    let file = File::open(path).map_err(|error| Failure::io(format_args!("open {}", path.display()), &error))?;
    Ok(StreamReader::new(BufReader::with_capacity(BUFFER, Box::new(file)), path.display().to_string()))
}

fn open_pipe() -> Result<Input, Failure> {
    let pipe = io::stdin().as_fd().try_clone_to_owned();
    let pipe = pipe.map_err(|error| Failure::io("read standard input", &error))?;
    Ok(StreamReader::new(BufReader::with_capacity(BUFFER, Box::new(File::from(pipe))), "standard input"))
}

/// What kind of backup it is, in words.
fn kind(label: &Label) -> String {
    match label.since {
        None => "full".to_owned(),
        Some(since) => format!("since {}", since.generation),
    }
}

/// Seconds since 1970 of nanoseconds.
fn seconds(nanos: u64) -> u64 {
    Duration::from_nanos(nanos).as_secs()
}

/// A moment, in UTC.
fn moment(nanos: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(nanos)).to_string()
}

fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let failed = |error: &dyn Display| Failure::new(code::FAILED, format!("the answer is no JSON: {error}"));
    say(serde_json::to_string_pretty(document).map_err(|error| failed(&error))?);
    Ok(())
}
