//! `semper backup create`.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use semper_backup::{Destination, Directory, Folder, Header, Lock, Manifest, Options, Pinned, file_name};
use semper_store::{Generation, Store};

use super::ship::{self, GONE, Journal, Newest, check_recipients, explain, stream, tell, whole};
use super::{Place, open_directory, set_aside};
use crate::cli::Create;
use crate::commands::failure::code;
use crate::commands::held::Held;
use crate::commands::{Failure, give_way, say};

pub fn run(command: &Create) -> Result<ExitCode, Failure> {
    give_way();
    check_recipients(&command.how.encrypt)?;
    let store = &command.store;
    let place = Place::of(&command.dest)?;
    // Whether there is a store at all, before a directory is made for its backups.
    let glance = Store::open_read_only(store)?;
    let target = Target::prepare(place, &glance)?;
    let since = match command.since.as_deref() {
        Some("last") => target.last(&glance, store)?,
        other => other.map(str::to_owned),
    };
    drop(glance);
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match attempt(command, &target, since.as_deref()) {
            // What a pipe has taken cannot be taken back.
            Err(failure) if failure.code == GONE && tries > 0 && !matches!(target, Target::Pipe) => {
                eprintln!("semper: {failure}; again");
            }
            Err(failure) if failure.code == GONE => return Err(Failure::new(code::NOT_FOUND, failure.message)),
            done => return done,
        }
    }
}

/// How often a backup is begun anew, because its generation went.
const TRIES: u32 = 5;

fn attempt(command: &Create, target: &Target, since: Option<&str>) -> Result<ExitCode, Failure> {
    let store = &command.store;
    let journal = match target {
        _ if command.how.without_journal => Journal::Without,
        Target::Directory { found, .. } => Journal::After(&found.backups),
        Target::File(_) | Target::Pipe => Journal::New,
    };
    let newest = Newest::hold(store, since, &journal).map_err(|failure| explain(store, failure))?;
    let (generation, since) = (newest.generation, newest.since);
    if generation == Generation(0) {
        let told = format!("nothing has been committed in {} yet", store.display());
        return Err(Failure::new(code::NOT_FOUND, told));
    }
    if since.is_some_and(|since| since >= generation) {
        let told = format!("nothing has been committed in {} since {generation}", store.display());
        if command.since.as_deref() != Some("last") {
            return Err(Failure::new(code::USAGE, told));
        }
        say(format_args!("{told}: its backup is there"));
        return Ok(ExitCode::SUCCESS);
    }
    let options = command.how.options(None);
    let (written, header, manifest) =
        target.write(&newest.pinned(), &options).map_err(|failure| explain(store, failure))?;
    if let Some(name) = &written {
        tell(name, &header, &manifest);
    }
    // Whether all of what a pipe took came to somewhere is not known here.
    if !matches!(target, Target::Pipe)
        && let Err(failure) = ship::cover(store, &newest, true)
    {
        eprintln!("semper: what of the journal is in the backup is not noted: {failure}");
    }
    if matches!(target, Target::Directory { .. }) && !command.no_keep {
        keep(store, &newest.held, &command.keep_as, generation);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the backup goes.
enum Target {
    Directory { place: Arc<dyn Destination>, found: Directory, _lock: Lock },
    File(PathBuf),
    Pipe,
}

impl Target {
    fn prepare(place: Place, store: &Store) -> Result<Target, Failure> {
        match place {
            Place::Pipe if io::stdout().is_terminal() => {
                let told = "a backup is not written to a terminal; name a directory or a file, or pipe it to somewhere";
                Err(Failure::new(code::USAGE, told))
            }
            Place::Pipe => Ok(Target::Pipe),
            Place::File(path) => Ok(Target::File(path)),
            Place::Directory(place) => {
                place.make()?;
                let (found, lock) = open_directory(&place, store.id())?;
                Ok(Target::Directory { place, found, _lock: lock })
            }
        }
    }

    /// The generation of the newest backup, which has to be kept still; none if nothing can be built upon that, which is said.
    fn last(&self, store: &Store, dir: &Path) -> Result<Option<String>, Failure> {
        let Target::Directory { found, .. } = self else {
            let told = "only a directory of backups has a last one; name a generation: --since GEN";
            return Err(Failure::new(code::USAGE, told));
        };
        let full = "make a full backup: leave out --since";
        let Some(newest) = found.backups.last() else {
            let told = format!("{} has no backup yet; {full}", found.name());
            return Err(Failure::new(code::NOT_FOUND, told));
        };
        let last = found.newest().unwrap_or(newest).label.generation;
        // A copy of the store may have a generation of that number too.
        let base = |info: &semper_store::GenerationInfo| semper_backup::Base::of(info);
        let kept = store.generations().iter().any(|info| base(info) == last);
        // What is spoilt may be why there is nothing to build upon.
        if let Err(why) = found.whole_chain(if kept { last } else { newest.label.generation }) {
            eprintln!("semper: {why}: a full backup");
            return Ok(None);
        }
        if kept {
            return Ok(Some(last.generation.to_string()));
        }
        let told = format!(
            "{}, of which {} has the newest backup, is not kept in {} any more; {full}. (A backup to a directory keeps it by a \
             tag, unless --no-keep says otherwise)",
            last.generation(),
            found.name(),
            dir.display()
        );
        Err(Failure::new(code::NOT_FOUND, told))
    }

    /// Writes the backup; the name of the file that it is in, if it is in one.
    fn write(&self, pinned: &Pinned<'_>, options: &Options) -> Result<(Option<String>, Header, Manifest), Failure> {
        match self {
            Target::Pipe => {
                let out = io::stdout().as_fd().try_clone_to_owned();
                let out = File::from(out.map_err(|error| Failure::io("write to standard output", &error))?);
                let (_, header, manifest) = stream(pinned, options, out)?;
                Ok((None, header, manifest))
            }
            Target::Directory { place, found, .. } => {
                let label = pinned.header()?.label();
                set_aside(&**place, found, &label)?;
                let name = file_name(&label);
                let (header, manifest) = whole(pinned, options, &**place, &name)?;
                Ok((Some(place.shown(&name)), header, manifest))
            }
            // A device or a named pipe is written as it is.
            Target::File(path) if fs::metadata(path).is_ok_and(|found| !found.is_file()) => {
                let out = File::options().write(true).open(path);
                let out = out.map_err(|error| Failure::io(format_args!("open {}", path.display()), &error))?;
                let (out, header, manifest) = stream(pinned, options, out)?;
                // A named pipe cannot be flushed.
                let flushed = out.sync_all();
                match flushed {
                    Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                        Err(Failure::io(format_args!("flush {}", path.display()), &error))
                    }
                    _ => Ok((Some(path.display().to_string()), header, manifest)),
                }
            }
            Target::File(path) => {
                let (folder, name) = Folder::of(path)?;
                let (header, manifest) = whole(pinned, options, &folder, &name)?;
                Ok((Some(path.display().to_string()), header, manifest))
            }
        }
    }
}

/// Moves the tag that keeps the generation of the last backup. The backup is good without it.
fn keep(dir: &Path, held: &Held, name: &str, generation: Generation) {
    let shown = dir.display();
    if let Err(failure) = ship::tag(dir, held, name, generation) {
        eprintln!("semper: {generation} of {shown} is not kept for the next increment: {failure}");
    }
}
