//! `semper backup create`.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount};
use semper::control::{Connection, ControlError, Reply, Request};
use semper_backup::{Directory, Header, Manifest, NewFile, Options, Pinned, SideFiles, file_name, write_backup};
use semper_store::{Generation, OpenOptions, Store};

use super::{BUFFER, Place, bar, kind};
use crate::cli::Create;
use crate::commands::failure::code;
use crate::commands::held::{self, Held};
use crate::commands::{Failure, say};

pub fn run(command: &Create) -> Result<ExitCode, Failure> {
    // The programs go first, where there are not cores for all.
    if let Err(error) = rustix::process::nice(GIVES_WAY) {
        tracing::debug!("a backup goes on at its usual priority: {error}");
    }
    let store = &command.store;
    let place = Place::of(&command.dest);
    // Whether there is a store at all, before a directory is made for its backups.
    let glance = Store::open_read_only(store)?;
    let target = Target::prepare(place, &glance)?;
    let since = match command.since.as_deref() {
        Some("last") => Some(target.last(&glance, store)?),
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

/// How much less urgent it is than a program: enough to leave a busy one nine tenths of a core that both want.
const GIVES_WAY: i32 = 10;

/// How often a backup is begun anew, because its generation went.
const TRIES: u32 = 5;

/// Stands for a generation that went while it was read: the store was resumed meanwhile, or its runtime ended.
const GONE: u8 = 0;

fn attempt(command: &Create, target: &Target, since: Option<&str>) -> Result<ExitCode, Failure> {
    let store = &command.store;
    let mut files = SideFiles::read(store).map_err(|error| beside(store, &error))?;
    let mut which = vec![None];
    which.extend(since.map(Some));
    let held = held::open_beside(store, &which)?;
    files.read_pinned(store).map_err(|error| beside(store, &error))?;
    let (generation, since) = (held.generations[0], held.generations.get(1).copied());
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
    let pinned = Pinned { store: &held.store, generation, since, files: &files };
    let options = Options { compression: command.compress, rate_limit: command.rate_limit };
    let (written, header, manifest) = target.write(&pinned, options).map_err(|failure| explain(store, failure))?;
    if let Some(path) = &written {
        tell(path, &header, &manifest);
    }
    if matches!(target, Target::Directory { .. }) && !command.no_keep {
        keep(store, &held, &command.keep_as, generation);
    }
    Ok(ExitCode::SUCCESS)
}

fn beside(store: &Path, error: &io::Error) -> Failure {
    Failure::io(format_args!("read the files beside the pages of {}", store.display()), error)
}

/// Nothing else is looked for while a backup is written.
fn explain(store: &Path, failure: Failure) -> Failure {
    if failure.code != code::NOT_FOUND {
        return failure;
    }
    let told = format!("{failure}: {} was resumed, or its runtime ended, while it was read", store.display());
    Failure::new(GONE, told)
}

fn tell(path: &Path, header: &Header, manifest: &Manifest) {
    say(format_args!(
        "{}: generation {}, {}, {} pages, {}",
        path.display(),
        header.generation.generation,
        kind(header),
        HumanCount(manifest.pages),
        BinaryBytes(manifest.bytes)
    ));
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
                let made = fs::create_dir_all(&path);
                made.map_err(|error| Failure::io(format_args!("create {}", path.display()), &error))?;
                let lock = Directory::lock(&path)?;
                let found = Directory::open(&path)?;
                if let Some(of) = found.store().filter(|of| *of != store.id()) {
                    let told = format!(
                        "{} has backups of the store {of}, and this one is {}; name another directory",
                        path.display(),
                        store.id()
                    );
                    return Err(Failure::new(code::USAGE, told));
                }
                Ok(Target::Directory { path, found, _lock: lock })
            }
        }
    }

    /// The generation of the newest backup, which has to be kept still.
    fn last(&self, store: &Store, dir: &Path) -> Result<String, Failure> {
        let Target::Directory { path, found, .. } = self else {
            let told = "only a directory of backups has a last one; name a generation: --since GEN";
            return Err(Failure::new(code::USAGE, told));
        };
        let full = "make a full backup: leave out --since";
        let Some(last) = found.newest() else {
            let told = format!("{} has no backup yet; {full}", path.display());
            return Err(Failure::new(code::NOT_FOUND, told));
        };
        let last = last.header.generation;
        // A copy of the store may have a generation of that number too.
        let base = |info: &semper_store::GenerationInfo| semper_backup::Base::of(info);
        if store.generations().iter().any(|info| base(info) == last) {
            return Ok(last.generation.to_string());
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
    fn write(&self, pinned: &Pinned<'_>, options: Options) -> Result<(Option<PathBuf>, Header, Manifest), Failure> {
        match self {
            Target::Pipe => {
                let out = io::stdout().as_fd().try_clone_to_owned();
                let out = File::from(out.map_err(|error| Failure::io("write to standard output", &error))?);
                let (_, header, manifest) = stream(pinned, options, out)?;
                Ok((None, header, manifest))
            }
            Target::Directory { path, .. } => {
                let header = pinned.header()?;
                whole(pinned, options, path.join(file_name(&header)))
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

/// Into a file that gets its name when it is complete.
fn whole(pinned: &Pinned<'_>, options: Options, path: PathBuf) -> Result<(Option<PathBuf>, Header, Manifest), Failure> {
    let (file, header, manifest) = stream(pinned, options, NewFile::create(&path)?)?;
    file.publish()?;
    Ok((Some(path), header, manifest))
}

fn stream<W: Write>(pinned: &Pinned<'_>, options: Options, out: W) -> Result<(W, Header, Manifest), Failure> {
    let bar = bar(if pinned.since.is_none() { pinned.header()?.pages } else { 0 });
    let out = BufWriter::with_capacity(BUFFER, out);
    let (out, header, manifest) = write_backup(pinned, options, out, &mut |pages| bar.set_position(pages))?;
    bar.finish_and_clear();
    let out = out.into_inner().map_err(|error| Failure::io("write the backup", error.error()))?;
    Ok((out, header, manifest))
}

/// Moves the tag that keeps the generation of the last backup. The backup is good without it.
fn keep(dir: &Path, held: &Held, name: &str, generation: Generation) {
    let shown = dir.display();
    if let Err(failure) = tag(dir, held, name, generation) {
        eprintln!("semper: {generation} of {shown} is not kept for the next increment: {failure}");
    }
}

fn tag(dir: &Path, held: &Held, name: &str, generation: Generation) -> Result<(), Failure> {
    let there = Store::tags_in(dir).into_iter().find(|tag| tag.name == name);
    if there.as_ref().is_some_and(|tag| tag.generation == generation) {
        return Ok(());
    }
    if !held.by_runtime() {
        let store = Store::open(dir, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() });
        match store {
            // It was resumed meanwhile: its runtime does it.
            Err(semper_store::Error::InUse { .. }) => {}
            other => {
                let store = other?;
                // Held first, so that the generation cannot go between the two.
                let _hold = store.hold(generation)?;
                if there.is_some() {
                    store.untag(name)?;
                }
                return Ok(store.tag(name, generation)?);
            }
        }
    }
    let ask = |request: &Request| match Connection::open(dir).and_then(|connection| connection.ask(request)) {
        Ok(Reply::Generation { .. }) => Ok(()),
        Ok(other) => Err(Failure::control(dir, ControlError::Unexpected(Box::new(other)))),
        Err(error) => Err(Failure::control(dir, error)),
    };
    if there.is_some() {
        ask(&Request::Untag { name: name.to_owned() })?;
    }
    ask(&Request::Tag { name: name.to_owned(), generation: Some(generation.0) })
}
