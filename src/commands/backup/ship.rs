//! What `create` and `follow` share: a generation that is held, and its way into a file.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use indicatif::{BinaryBytes, HumanCount};
use semper::control::Request;
use semper::runtime::{RuntimeError, journal_known};
use semper_backup::{
    Backup, Base, Destination, Header, JournalPin, MAX_RECIPIENTS, Manifest, Options, Pinned, Recipient, SideFiles,
    write_backup,
};
use semper_journal::JOURNAL_DIR;
use semper_store::{Generation, OpenOptions, Store};

use super::{BUFFER, bar, kind};
use crate::commands::failure::code;
use crate::commands::held::{self, Held, ask};
use crate::commands::journal::open_at_rest;
use crate::commands::{Failure, say};

/// So many recipients can open a backup.
pub fn check_recipients(recipients: &[Recipient]) -> Result<(), Failure> {
    if recipients.len() <= MAX_RECIPIENTS {
        return Ok(());
    }
    let told = format!("{} recipients are more than the {MAX_RECIPIENTS} of a backup", recipients.len());
    Err(Failure::new(code::USAGE, told))
}

/// Stands for a generation that went while it was read: the store was resumed meanwhile, or its runtime ended.
pub const GONE: u8 = 0;

/// The newest generation of a store, and what goes with it.
pub struct Newest {
    pub held: Held,
    pub files: SideFiles,
    pub generation: Generation,
    /// What the backup is to hold the changes since.
    pub since: Option<Generation>,
    /// The journal as it was then.
    pub journal: Option<JournalPin>,
}

/// What of the journal is to be in a backup.
pub enum Journal<'a> {
    /// Nothing, which is said if there is one.
    Without,
    /// Nothing: there will be no backup.
    Unasked,
    /// What the generation that it is made since does not know of.
    New,
    /// That, if the backup of that generation has the journal; else all of it.
    After(&'a [Backup]),
}

impl Newest {
    /// Holds it, and the generation that is named by `since`.
    pub fn hold(store: &Path, since: Option<&str>, journal: &Journal<'_>) -> Result<Newest, Failure> {
        let mut files = SideFiles::read(store).map_err(|error| beside(store, &error))?;
        let mut which = vec![None];
        which.extend(since.map(Some));
        let held = held::open_beside(store, &which)?;
        files.read_pinned(store).map_err(|error| beside(store, &error))?;
        let (generation, since) = (held.generations[0], held.generations.get(1).copied());
        let journal = pin(store, &held, generation, since, journal)?;
        Ok(Newest { held, files, generation, since, journal })
    }

    /// What a backup is made of.
    pub fn pinned(&self) -> Pinned<'_> {
        let Newest { held, files, generation, since, journal } = self;
        Pinned { store: &held.store, generation: *generation, since: *since, files, journal: journal.as_ref() }
    }
}

/// The journal of a store, from where a backup has to have it on.
fn pin(
    dir: &Path,
    held: &Held,
    generation: Generation,
    since: Option<Generation>,
    wanted: &Journal<'_>,
) -> Result<Option<JournalPin>, Failure> {
    let id = held.store.id();
    if generation == Generation(0) {
        return Ok(None);
    }
    let gone = |error: semper::runtime::RuntimeError| Failure::from(error);
    let known = |generation| {
        journal_known(dir, generation).map(|known| known.filter(|(_, of)| *of == id).map_or(0, |known| known.0))
    };
    let base_has_it = |since: Generation| match wanted {
        Journal::Without | Journal::Unasked => false,
        Journal::New => true,
        Journal::After(backups) => {
            let generations = held.store.generations();
            let base = generations.iter().find(|info| info.generation == since).map(Base::of);
            let mut of_base = backups.iter().filter(|backup| Some(backup.label.generation) == base).peekable();
            of_base.peek().is_some() && of_base.all(|backup| backup.journal)
        }
    };
    let since = since.filter(|since| base_has_it(*since)).map(known).transpose().map_err(gone)?;
    let folder = held.store.folder(JOURNAL_DIR)?;
    match wanted {
        Journal::Without => {
            if semper_journal::exists(&*folder).unwrap_or(true) {
                eprintln!(
                    "semper: the journal of {} is not in the backup: a world restored from it may do again what its programs had noted",
                    dir.display()
                );
            }
            Ok(None)
        }
        Journal::Unasked => Ok(None),
        Journal::New | Journal::After(_) => {
            Ok(JournalPin::new(folder, id, known(generation).map_err(gone)?, since.unwrap_or(0))?)
        }
    }
}

fn beside(store: &Path, error: &io::Error) -> Failure {
    Failure::io(format_args!("read the files beside the pages of {}", store.display()), error)
}

/// Nothing else is looked for while a backup is written.
pub fn explain(store: &Path, failure: Failure) -> Failure {
    if failure.code != code::NOT_FOUND {
        return failure;
    }
    let told = format!("{failure}: {} was resumed, or its runtime ended, while it was read", store.display());
    Failure::new(GONE, told)
}

pub fn tell(name: &str, header: &Header, manifest: &Manifest) {
    say(format_args!(
        "{name}: generation {}, {}, {} pages, {}",
        header.generation.generation,
        kind(&header.label()),
        HumanCount(manifest.pages),
        BinaryBytes(manifest.bytes)
    ));
}

/// Into a file that gets its name when it is complete.
pub fn whole(
    pinned: &Pinned<'_>,
    options: &Options,
    place: &dyn Destination,
    name: &str,
) -> Result<(Header, Manifest), Failure> {
    let (file, header, manifest) = stream(pinned, options, place.create(name)?)?;
    file.publish()?;
    Ok((header, manifest))
}

pub fn stream<W: Write>(pinned: &Pinned<'_>, options: &Options, out: W) -> Result<(W, Header, Manifest), Failure> {
    let bar = bar(if pinned.since.is_none() { pinned.header()?.pages } else { 0 });
    let out = BufWriter::with_capacity(BUFFER, out);
    let (out, header, manifest) = write_backup(pinned, options, out, &mut |pages| bar.set_position(pages))?;
    bar.finish_and_clear();
    let out = out.into_inner().map_err(|error| Failure::io("write the backup", error.error()))?;
    Ok((out, header, manifest))
}

/// Notes in the journal what of it is in a backup, so that `semper journal trim --covered` may let it go. At rest the store is opened for it, if
/// `at_rest`.
pub fn cover(dir: &Path, newest: &Newest, at_rest: bool) -> Result<(), Failure> {
    let Some(known) = newest.journal.as_ref().map(JournalPin::known).filter(|known| *known > 1) else { return Ok(()) };
    if newest.held.by_runtime() {
        return ask(dir, &Request::CoverJournal { before: known });
    }
    if !at_rest {
        return Ok(());
    }
    let store = match Store::open(dir, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() }) {
        Err(semper_store::Error::InUse { .. }) => return ask(dir, &Request::CoverJournal { before: known }),
        other => other?,
    };
    let Some(journal) = open_at_rest(dir, &store, false)? else { return Ok(()) };
    journal.mark_covered(known).map_err(|error| Failure::from(RuntimeError::from(error)))?;
    journal.quiesce();
    Ok(())
}

/// Moves the tag that keeps the generation of the last backup.
pub fn tag(dir: &Path, held: &Held, name: &str, generation: Generation) -> Result<(), Failure> {
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
    if there.is_some() {
        ask(dir, &Request::Untag { name: name.to_owned() })?;
    }
    ask(dir, &Request::Tag { name: name.to_owned(), generation: Some(generation.0) })
}
