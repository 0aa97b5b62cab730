//! `semper backup follow`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use semper_backup::{Backup, Base, Destination, Directory, Lock, file_name};
use semper_store::{Generation, GenerationInfo, Store, StoreId};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::ship::{self, GONE, Journal, Newest, check_recipients, explain, tell, whole};
use super::{Place, open_directory, same_store, set_aside};
use crate::cli::Follow;
use crate::commands::failure::code;
use crate::commands::{Failure, give_way};

/// Increments that are no larger together are no reason for a full backup, however small the last one is.
const SMALL: u64 = 64 << 20;

/// How often the store is looked at for a new generation.
const PAUSE: Duration = Duration::from_millis(50);

pub fn run(command: &Follow) -> Result<ExitCode, Failure> {
    give_way();
    check_recipients(&command.how.encrypt)?;
    let Place::Directory(dest) = Place::of(&command.dest)? else {
        let told = format!("{} is no directory; follow makes a backup for each generation", command.dest.display());
        return Err(Failure::new(code::USAGE, told));
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let set = signal_hook::flag::register(signal, Arc::clone(&stop));
        set.map_err(|error| Failure::io("wait for signals", &error))?;
    }
    let mut follower =
        Follower { command, dest, stop, known: None, place: None, seen: false, kept: None, told: String::new() };
    while !follower.stop.load(Ordering::Relaxed) {
        match follower.step() {
            Ok(()) => follower.told.clear(),
            Err(_) if follower.stop.load(Ordering::Relaxed) => break,
            Err(failure) if follower.passes(&failure) => follower.tell_once(&failure),
            Err(failure) => return Err(failure),
        }
        thread::sleep(PAUSE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Follower<'a> {
    command: &'a Follow,
    dest: Arc<dyn Destination>,
    stop: Arc<AtomicBool>,
    known: Option<Known>,
    /// Which directory it ships to, once it is there.
    place: Option<Option<(u64, u64)>>,
    /// Whether there has been a store.
    seen: bool,
    /// The generation that the tag names.
    kept: Option<Base>,
    /// What it waits for, as it was told last.
    told: String,
}

/// What is in the directory.
struct Known {
    directory: Directory,
    /// The newest backup that was made or found.
    newest: Base,
}

/// What became of a generation.
enum Shipped {
    /// Its backup was there.
    There,
    Made(Backup),
    /// Its backup was made, and was none any more when it was looked at: somebody wrote to it, or it is gone.
    Spoilt,
}

/// What the next backup is made of.
struct Plan {
    since: Option<Base>,
    /// Why it is a full one, if there were others before.
    why: Option<String>,
}

impl Follower<'_> {
    /// Ships the newest generation, if it is not there already.
    fn step(&mut self) -> Result<(), Failure> {
        let dir = &self.command.store;
        let store = match Store::open_read_only(dir) {
            // It may be put back.
            Err(error @ semper_store::Error::Missing { .. }) if self.seen => {
                return Err(Failure::new(GONE, error.to_string()));
            }
            other => other?,
        };
        self.seen = true;
        self.stays_in_place()?;
        if let Some(known) = &self.known {
            same_store(&known.directory, store.id())?;
        }
        let generations = store.generations();
        let Some(newest) = generations.first().filter(|newest| newest.generation > Generation(0)) else {
            return Ok(());
        };
        let newest = Base::of(newest);
        if self.known.as_ref().is_some_and(|known| known.newest == newest) {
            return self.keep_later(newest);
        }
        let (directory, _lock) = self.directory(store.id())?;
        let shipped = self.ship(&directory, &generations, newest);
        self.known = match shipped? {
            Shipped::There => Some(Known { directory, newest }),
            Shipped::Made(made) => Some(Known { newest: made.label.generation, directory: directory.with(made) }),
            Shipped::Spoilt => None,
        };
        Ok(())
    }

    /// What is in the directory; it is looked at anew if a file came, went, or has another length.
    fn directory(&mut self, store: StoreId) -> Result<(Directory, Lock), Failure> {
        if let Some(Known { directory, .. }) = self.known.take() {
            let lock = self.dest.lock()?;
            if directory.is_as_it_was()? {
                return Ok((directory, lock));
            }
        }
        if self.place.is_none() {
            self.dest.make()?;
            self.place = Some(self.found_place()?);
        }
        let (mut directory, lock) = open_directory(&self.dest, store)?;
        // Nobody writes them any more: the directory is locked.
        for file in directory.partial.drain(..) {
            self.dest.remove(&file.name)?;
        }
        Ok((directory, lock))
    }

    /// A directory that was moved away or unmounted is not made anew, and none that came into its place is taken for it.
    fn stays_in_place(&self) -> Result<(), Failure> {
        let Some(place) = self.place else { return Ok(()) };
        if self.found_place()? == place {
            return Ok(());
        }
        let told = format!("{} is not the directory any more that was there before", self.dest.shown(""));
        Err(Failure::new(code::NO_STORE, told))
    }

    fn found_place(&self) -> Result<Option<(u64, u64)>, Failure> {
        self.dest.identity().map_err(|error| Failure::new(code::NO_STORE, error.to_string()))
    }

    /// Makes the backup if it is not there.
    fn ship(
        &mut self,
        directory: &Directory,
        generations: &[GenerationInfo],
        newest: Base,
    ) -> Result<Shipped, Failure> {
        let Follow { store: dir, how, .. } = self.command;
        if directory.whole_chain(newest).is_ok() {
            return Ok(Shipped::There);
        }
        let Plan { since, why } = self.plan(directory, generations);
        let named = since.map(|since| since.generation.to_string());
        let journal = if how.without_journal { Journal::Without } else { Journal::After(&directory.backups) };
        let held = Newest::hold(dir, named.as_deref(), &journal).map_err(|failure| passing(dir, failure))?;
        let pinned = held.pinned();
        let label = pinned.header().map_err(|error| explain(dir, error.into()))?.label();
        if label.since != since {
            // It went and came again, in another past.
            return Err(Failure::new(GONE, format!("{} went back meanwhile", dir.display())));
        }
        if let Some(why) = why {
            eprintln!("semper: {why}: a full backup");
        }
        set_aside(&*self.dest, directory, &label)?;
        let options = how.options(Some(Arc::clone(&self.stop)));
        let name = file_name(&label);
        let (header, manifest) =
            whole(&pinned, &options, &*self.dest, &name).map_err(|failure| explain(dir, failure))?;
        tell(&self.dest.shown(&name), &header, &manifest);
        if held.held.by_runtime() {
            self.keep(&held, label.generation);
        }
        if let Err(failure) = ship::cover(dir, &held, false) {
            tracing::warn!("what of the journal is in the backup is not noted: {failure}");
        }
        // What is wrong with the place is told by the next look at all of it.
        Ok(Backup::look(&self.dest, &name).map_or(Shipped::Spoilt, Shipped::Made))
    }

    /// What the newest generation is written since: the newest backup whose generation is kept still.
    fn plan(&self, directory: &Directory, generations: &[GenerationInfo]) -> Plan {
        let kept = |base: &Base| generations.iter().any(|info| Base::of(info) == *base);
        let Some(newest) = directory.backups.iter().rev().map(|backup| backup.label.generation).find(kept) else {
            let why = format!("no generation of the backups in {} is kept in the store", self.dest.shown(""));
            return Plan { since: None, why: (!directory.backups.is_empty()).then_some(why) };
        };
        let chain = match directory.whole_chain(newest) {
            Ok(chain) => chain,
            Err(why) => return Plan { since: None, why: Some(why.to_string()) },
        };
        let increments: Vec<u64> = chain[1..].iter().map(|backup| backup.bytes).collect();
        match too_long(chain[0].bytes, &increments, self.command.full_after) {
            Some(why) => Plan { since: None, why: Some(why) },
            None => Plan { since: Some(newest), why: None },
        }
    }

    /// Keeps the generation of the newest backup when a runtime has come that could let it go.
    fn keep_later(&mut self, newest: Base) -> Result<(), Failure> {
        if self.kept == Some(newest) || semper::control::Connection::open(&self.command.store).is_err() {
            return Ok(());
        }
        let named = newest.generation.to_string();
        let dir = &self.command.store;
        let held = Newest::hold(dir, Some(&named), &Journal::Unasked).map_err(|failure| passing(dir, failure))?;
        if held.held.by_runtime() && held.pinned().header().is_ok_and(|header| header.since == Some(newest)) {
            self.keep(&held, newest);
        }
        Ok(())
    }

    /// Moves the tag. Without it the next backup may have to be a full one.
    fn keep(&mut self, held: &Newest, base: Base) {
        match ship::tag(&self.command.store, &held.held, &self.command.keep_as, base.generation()) {
            Ok(()) => self.kept = Some(base),
            Err(failure) => tracing::warn!("{} is not kept for the next increment: {failure}", base.generation()),
        }
    }

    /// Whether it goes by: a runtime ended or began, somebody else is at work in the directory, the store is too full to hold a generation, an
    /// object store does not answer.
    fn passes(&self, failure: &Failure) -> bool {
        [GONE, code::NOT_RUNNING, code::IN_USE].contains(&failure.code)
    }

    fn tell_once(&mut self, failure: &Failure) {
        let told = failure.to_string();
        if failure.code != GONE && self.told != told {
            eprintln!("semper: {told}; waiting");
        }
        self.told = told;
    }
}

/// A generation that cannot be held now can be later: it went, the store is too full, or the runtime ended while it was asked.
fn passing(dir: &Path, failure: Failure) -> Failure {
    match failure.code {
        code::NOT_FOUND => explain(dir, failure),
        code::TOO_SMALL | code::FAILED => Failure::new(code::IN_USE, failure.message),
        _ => failure,
    }
}

/// Why a chain of so many bytes should not become longer; none if it can.
fn too_long(full: u64, increments: &[u64], limit: u32) -> Option<String> {
    if increments.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
        return Some(format!("{limit} increments follow each other"));
    }
    let larger = increments.iter().sum::<u64>() > full.max(SMALL);
    larger.then(|| "the increments are larger than the full backup before them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_ends_by_its_length_and_by_its_bytes() {
        let gib = 1 << 30;
        assert_eq!(too_long(gib, &[], 1), None);
        assert!(too_long(gib, &[1], 1).is_some_and(|why| why.starts_with("1 increments")));
        assert_eq!(too_long(gib, &[1; 999], 1000), None);
        assert!(too_long(gib, &[1; 1000], 1000).is_some());
        assert_eq!(too_long(gib, &[gib / 2; 2], 1000), None);
        assert!(too_long(gib, &[gib / 2, gib / 2, 1], 1000).is_some_and(|why| why.contains("larger")));
        assert_eq!(too_long(4096, &[4096; 100], 1000), None, "small ones are not worth it");
        assert!(too_long(4096, &[SMALL, 1], 1000).is_some());
    }
}
