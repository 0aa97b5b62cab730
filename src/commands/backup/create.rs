//! `semper backup create`.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use semper_backup::{Directory, Header, Manifest, Options, Pinned, file_name};
use semper_store::{Generation, Store};

use super::ship::{self, GONE, Journal, Newest, check_recipients, explain, stream, tell, whole};
use super::{Place, make_directory, open_directory, set_aside};
use crate::cli::Create;
use crate::commands::failure::code;
use crate::commands::held::Held;
use crate::commands::{Failure, give_way, say};

pub fn run(command: &Create) -> Result<ExitCode, Failure> {
    give_way();
    check_recipients(&command.how.encrypt)?;
    let store = &command.store;
    let place = Place::of(&command.dest);
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
    if let Some(path) = &written {
        tell(path, &header, &manifest);
    }
    if matches!(target, Target::Directory { .. }) && !command.no_keep {
        keep(store, &newest.held, &command.keep_as, generation);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the backup goes.
enum Target {
    Directory { path: PathBuf, found: Directory, _lock: File },
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
            Place::Directory(path) => {
                make_directory(&path)?;
                let (found, lock) = open_directory(&path, store.id())?;
                Ok(Target::Directory { path, found, _lock: lock })
            }
        }
    }

    /// The generation of the newest backup, which has to be kept still; none if nothing can be built upon that, which is said.
    fn last(&self, store: &Store, dir: &Path) -> Result<Option<String>, Failure> {
        let Target::Directory { path, found, .. } = self else {
            let told = "only a directory of backups has a last one; name a generation: --since GEN";
            return Err(Failure::new(code::USAGE, told));
        };
        let full = "make a full backup: leave out --since";
        let Some(newest) = found.backups.last() else {
            let told = format!("{} has no backup yet; {full}", path.display());
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
            path.display(),
            dir.display()
        );
        Err(Failure::new(code::NOT_FOUND, told))
    }

    /// Writes the backup; the file that it is in, if it is in one.
    fn write(&self, pinned: &Pinned<'_>, options: &Options) -> Result<(Option<PathBuf>, Header, Manifest), Failure> {
        match self {
            Target::Pipe => {
                let out = io::stdout().as_fd().try_clone_to_owned();
                let out = File::from(out.map_err(|error| Failure::io("write to standard output", &error))?);
                let (_, header, manifest) = stream(pinned, options, out)?;
                Ok((None, header, manifest))
            }
            Target::Directory { path, found, .. } => {
                let header = pinned.header()?;
                set_aside(path, found, &header.label())?;
                whole(pinned, options, path.join(file_name(&header.label())))
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
                    _ => Ok((Some(path.clone()), header, manifest)),
                }
            }
            Target::File(path) => whole(pinned, options, path.clone()),
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
