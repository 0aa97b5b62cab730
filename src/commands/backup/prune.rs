//! `semper backup prune`.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use semper_backup::{Destination, Directory, Error, Lock, destination};

use crate::cli::Prune;
use crate::commands::{Failure, say};

/// How long it waits for a follower's increment, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub fn run(prune: &Prune) -> Result<ExitCode, Failure> {
    let place = destination(&prune.dest)?;
    let _lock = lock(&*place)?;
    let found = Directory::open(&place)?;
    let gone = found.superfluous(&prune.keep.retention())?;
    let files = gone.iter().map(|backup| &backup.file).chain(found.partial.iter().map(|file| &file.name));
    for file in files {
        let shown = place.shown(file);
        if prune.dry_run {
            say(format_args!("{shown} would be removed"));
            continue;
        }
        place.remove(file)?;
        say(format_args!("{shown} removed"));
    }
    for (file, error) in &found.broken {
        eprintln!("semper: {} is left as it is: {error}", place.shown(&file.name));
    }
    Ok(ExitCode::SUCCESS)
}

/// Who follows a store has the lock for a moment, again and again.
fn lock(place: &dyn Destination) -> Result<Lock, Failure> {
    let begun = Instant::now();
    loop {
        match place.lock() {
            Err(Error::Busy(_)) if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            other => return Ok(other?),
        }
    }
}
