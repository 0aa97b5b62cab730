//! `semper backup prune`.

use std::process::ExitCode;

use semper_backup::Directory;

use crate::cli::Prune;
use crate::commands::{Failure, say};

pub fn run(prune: &Prune) -> Result<ExitCode, Failure> {
    let _lock = Directory::lock(&prune.dest)?;
    let found = Directory::open(&prune.dest)?;
    let gone = found.superfluous(&prune.keep.retention())?;
    let paths = gone.iter().map(|backup| &backup.path).chain(&found.partial);
    for path in paths {
        if prune.dry_run {
            say(format_args!("{} would be removed", path.display()));
            continue;
        }
        found.remove(path)?;
        say(format_args!("{} removed", path.display()));
    }
    for (path, error) in &found.broken {
        eprintln!("semper: {} is left as it is: {error}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
