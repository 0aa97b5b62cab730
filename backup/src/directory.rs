//! A directory of backups, or a prefix of an object store with them: which there are, what each of them needs, and what can go.

use crate::destination::{Destination, Entry};
use crate::error::Error;
use crate::folder::PARTIAL;
use crate::format::{Base, FrameHead, HEAD_LEN, Label, MAX_RECORD, Manifest, Trailer, decode, kind};
use crate::read::StreamReader;
use crate::retention::Retention;
use semper_store::{Generation, StoreId};
use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::sync::Arc;
use zerocopy::FromBytes;

/// How names of backups end.
pub const SUFFIX: &str = ".semper";

/// How the name of a backup goes on that was set aside.
const LEFT: &str = ".left-";

/// Bytes that are read of each end of a backup to see what it is: more than a label or a manifest has.
const GLANCE: usize = 8 << 10;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// A backup in a file of its own.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Where it lies.
    place: Arc<dyn Destination>,
    /// Its name there.
    pub file: String,
    /// What it says first.
    pub label: Label,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether the journal is in it.
    pub journal: bool,
    /// What it says last; or why that cannot be read: it is cut off or spoilt. That of an encrypted one counts no pages: it is about the
    /// ciphertext.
    pub manifest: Result<Manifest, String>,
    /// Its length.
    pub bytes: u64,
}

impl Backup {
    /// Looks at the two ends of the backup `file`. Only reading it whole shows that it is whole.
    ///
    /// # Errors
    /// Those of [`StreamReader::next_label`], what the host says.
    pub fn look(place: &Arc<dyn Destination>, file: &str) -> Result<Self, Error> {
        Self::glance(place, &Entry { name: file.to_owned(), bytes: place.bytes(file)? })
    }

    fn glance(place: &Arc<dyn Destination>, file: &Entry) -> Result<Self, Error> {
        let Entry { name, bytes } = file;
        let len = usize::try_from(*bytes).map_or(GLANCE, |bytes| bytes.min(GLANCE));
        let from = bytes - len as u64;
        let begin = place.piece(name, 0, len)?;
        let end = if from == 0 { begin.clone() } else { place.piece(name, from, len)? };
        let mut reader = StreamReader::new(&begin[..], place.shown(name));
        let no_backup = || Error::NotABackup { name: place.shown(name), at: 0 };
        let label = reader.next_label()?.ok_or_else(no_backup)?;
        let (encrypted, journal) = (reader.is_encrypted(), reader.has_journal());
        let manifest = manifest(&end, from);
        Ok(Self { place: Arc::clone(place), file: name.clone(), label, encrypted, journal, manifest, bytes: *bytes })
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.place.shown(&self.file)
    }

    /// What is known of it by its manifest.
    fn not_spoilt(&self) -> Result<(), Error> {
        match &self.manifest {
            Ok(_) => Ok(()),
            Err(why) => Err(Error::Damaged { name: self.name(), at: self.bytes, frame: 0, why: why.clone() }),
        }
    }

    /// A reader of it.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(&self) -> Result<StreamReader<BufReader<Box<dyn Read + Send>>>, Error> {
        let input = BufReader::with_capacity(BUFFER, self.place.read(&self.file)?);
        Ok(StreamReader::new(input, self.name()))
    }
}

/// The manifest in the `end` of a file, which begins at byte `from` of it.
fn manifest(end: &[u8], from: u64) -> Result<Manifest, String> {
    let cut = || "it is cut off".to_owned();
    let trailer_at = end.len().checked_sub(size_of::<Trailer>()).ok_or_else(cut)?;
    let trailer = Trailer::read_from_bytes(&end[trailer_at..]).map_err(|_| cut())?;
    let begin = trailer.manifest.get().checked_sub(from).and_then(|begin| usize::try_from(begin).ok());
    let frame = begin.and_then(|begin| end.get(begin..trailer_at)).filter(|frame| frame.len() >= HEAD_LEN);
    let frame = frame.filter(|frame| trailer.magic == crate::format::END_MAGIC && frame.len() <= HEAD_LEN + MAX_RECORD);
    let (head, rest) = frame.ok_or_else(cut)?.split_at(size_of::<FrameHead>());
    let (hash, payload) = rest.split_at(HEAD_LEN - size_of::<FrameHead>());
    let spoilt = || "its manifest is spoilt".to_owned();
    let head = FrameHead::read_from_bytes(head).map_err(|_| spoilt())?;
    let manifest: Manifest = decode(payload).map_err(|_| spoilt())?;
    if head.kind != kind::MANIFEST || head.hash(&manifest.hash, payload) != hash {
        return Err(spoilt());
    }
    Ok(manifest)
}

/// The name of a backup in a directory.
#[must_use]
pub fn file_name(label: &Label) -> String {
    let generation = label.generation.generation;
    match label.since {
        None => format!("{generation}-full{SUFFIX}"),
        Some(since) => format!("{generation}-since-{}{SUFFIX}", since.generation),
    }
}

/// The backups at a destination.
#[derive(Debug)]
pub struct Directory {
    place: Arc<dyn Destination>,
    /// By generation, a full one before an increment to the same.
    pub backups: Vec<Backup>,
    /// Files with the name of a backup that are none, and why.
    pub broken: Vec<(Entry, Error)>,
    /// What creates that did not end have left.
    pub partial: Vec<Entry>,
}

impl Directory {
    /// Looks at every file that is named as a backup.
    ///
    /// # Errors
    /// What the host says; [`Error::OtherStore`] if there are backups of two stores.
    pub fn open(place: &Arc<dyn Destination>) -> Result<Self, Error> {
        let (files, partial) = named(place)?.into_iter().partition(|file: &Entry| file.name.ends_with(SUFFIX));
        let mut found = Self { place: Arc::clone(place), backups: vec![], broken: vec![], partial };
        for (file, looked) in look_at_all(place, files) {
            match looked {
                Ok(backup) => found.backups.push(backup),
                // It is not the file that is wrong.
                Err(e @ Error::Io { .. }) => return Err(e),
                Err(e) => found.broken.push((file, e)),
            }
        }
        found.sort();
        if let Some(store) = found.store() {
            found.backups.iter().try_for_each(|backup| same_store(&backup.name(), backup.label.store(), store))?;
        }
        Ok(found)
    }

    /// Whether the files there still have the names and lengths that they had.
    ///
    /// # Errors
    /// What the host says.
    pub fn is_as_it_was(&self) -> Result<bool, Error> {
        let backups = self.backups.iter().map(|backup| Entry { name: backup.file.clone(), bytes: backup.bytes });
        let others = self.broken.iter().map(|(file, _)| file).chain(&self.partial).cloned();
        let mut known: Vec<Entry> = backups.chain(others).collect();
        known.sort();
        Ok(known == named(&self.place)?)
    }

    /// How messages call the place.
    #[must_use]
    pub fn name(&self) -> String {
        self.place.shown("")
    }

    /// The same with another one, which was made since, and without those that it [left behind](Self::left_behind).
    #[must_use]
    pub fn with(mut self, made: Backup) -> Self {
        let left: Vec<String> = self.left_behind(&made.label).map(str::to_owned).collect();
        self.backups.retain(|backup| backup.file != made.file && !left.contains(&backup.file));
        self.backups.push(made);
        self.sort();
        self
    }

    fn sort(&mut self) {
        let order = |backup: &Backup| (backup.label.generation.generation, backup.label.since.map(|s| s.generation));
        self.backups.sort_by_key(order);
    }

    /// The store that the backups are of; none if there are none.
    #[must_use]
    pub fn store(&self) -> Option<StoreId> {
        self.backups.first().map(|backup| backup.label.store())
    }

    /// The newest backup that is not known to be cut off or spoilt.
    #[must_use]
    pub fn newest(&self) -> Option<&Backup> {
        self.backups.iter().rev().find(|backup| backup.manifest.is_ok())
    }

    /// The backups that make up a generation, the full one first; the newest, if none is named.
    ///
    /// # Errors
    /// [`Error::NoSuchBackup`], [`Error::MissingBase`].
    pub fn chain(&self, at: Option<Generation>) -> Result<Vec<&Backup>, Error> {
        let wanted = at.or_else(|| self.backups.last().map(|newest| newest.label.generation()));
        let wanted = wanted.and_then(|wanted| self.best(|backup| backup.label.generation() == wanted));
        let Some(backup) = wanted else {
            return Err(self.none_of(at.map_or_else(|| "any generation".to_owned(), |at| at.to_string())));
        };
        self.chain_of(backup)
    }

    /// The newest generation that was committed by `time`, in nanoseconds since 1970.
    ///
    /// # Errors
    /// [`Error::NoSuchBackup`].
    pub fn newest_by(&self, time: u64) -> Result<Generation, Error> {
        let found = self.backups.iter().rev().find(|backup| backup.label.generation.committed_at <= time);
        let wanted = || self.none_of("a generation that was committed by then".to_owned());
        found.map(|backup| backup.label.generation()).ok_or_else(wanted)
    }

    fn none_of(&self, wanted: String) -> Error {
        let found: Vec<String> = self.backups.iter().map(|b| b.label.generation.generation.to_string()).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        Error::NoSuchBackup { place: self.name(), wanted, found }
    }

    /// The backups that `backup` needs, the full one first, it last.
    ///
    /// # Errors
    /// [`Error::MissingBase`].
    pub fn chain_of<'a>(&'a self, backup: &'a Backup) -> Result<Vec<&'a Backup>, Error> {
        let mut backup = backup;
        let mut chain = vec![backup];
        // Each is older than the one before, so this ends.
        while let Some(since) = backup.label.since {
            let Some(base) = self.best(|other| other.label.generation == since) else {
                let why = self.why_missing(since.generation());
                return Err(Error::MissingBase { name: backup.name(), needs: since.generation(), why });
            };
            chain.push(base);
            backup = base;
        }
        chain.reverse();
        Ok(chain)
    }

    /// The backups that make up a generation, the full one first, if none of them is known to be cut off or spoilt: what an increment can be
    /// made upon.
    ///
    /// # Errors
    /// [`Error::NoSuchBackup`], [`Error::MissingBase`], [`Error::Damaged`].
    pub fn whole_chain(&self, of: Base) -> Result<Vec<&Backup>, Error> {
        let backup = self.best(|backup| backup.label.generation == of);
        let chain = self.chain_of(backup.ok_or_else(|| self.none_of(of.generation().to_string()))?)?;
        chain.iter().try_for_each(|backup| backup.not_spoilt())?;
        Ok(chain)
    }

    /// Of several backups of one generation: a whole one, and better a full one.
    fn best(&self, is: impl Fn(&Backup) -> bool) -> Option<&Backup> {
        let those = self.backups.iter().filter(|backup| is(backup));
        those.min_by_key(|backup| (backup.manifest.is_err(), backup.label.since.is_some()))
    }

    fn why_missing(&self, generation: Generation) -> String {
        if self.backups.iter().any(|backup| backup.label.generation() == generation) {
            return "and the backup of that number here is of a copy of the store that went another way".to_owned();
        }
        match self.broken.first() {
            None => "of which there is no backup here".to_owned(),
            Some((_, e)) => format!("of which there is no backup here that can be read ({e})"),
        }
    }

    /// What can go, increments before what they were made since, so that what `retention` keeps stays, with all that it needs.
    ///
    /// # Errors
    /// [`Error::MissingBase`], [`Error::Damaged`] if one of those to keep is not whole as it is: then nothing should go.
    pub fn superfluous(&self, retention: &Retention) -> Result<Vec<&Backup>, Error> {
        let mut needed = BTreeSet::new();
        for generation in retention.kept(self.backups.iter().map(|backup| &backup.label)) {
            for backup in self.chain(Some(generation))? {
                backup.not_spoilt()?;
                needed.insert(&backup.file);
            }
        }
        Ok(self.backups.iter().rev().filter(|backup| !needed.contains(&backup.file)).collect())
    }

    /// What is of a future that the store has left, when it comes to a backup of `label`: as new as that or newer, and of the same store, but not the
    /// same generation.
    pub fn left_behind(&self, label: &Label) -> impl Iterator<Item = &str> {
        let left = |other: &Label| {
            other.generation != label.generation && other.generation.generation >= label.generation.generation
        };
        // From the newest on: what stays always has what it needs.
        let those = self.backups.iter().rev().filter(move |backup| left(&backup.label));
        those.map(|backup| backup.file.as_str())
    }

    /// Renames one, durably, so that it is no backup of this directory any more; gives its new name.
    ///
    /// # Errors
    /// What the host says.
    pub fn set_aside(&self, file: &str) -> Result<String, Error> {
        let there = self.place.list()?;
        let free = |name: &String| there.iter().all(|entry| entry.name != *name);
        let named = |number: u32| format!("{file}{LEFT}{number}");
        let aside = (1..=u32::MAX).map(named).find(free).unwrap_or_else(|| named(0));
        self.place.rename(file, &aside)?;
        Ok(aside)
    }
}

/// The files that are named as a backup, or as one that is not complete.
fn named(place: &Arc<dyn Destination>) -> Result<Vec<Entry>, Error> {
    let is_one = |name: &str| name.strip_suffix(PARTIAL).unwrap_or(name).ends_with(SUFFIX);
    Ok(place.list()?.into_iter().filter(|file| is_one(&file.name)).collect())
}

/// Looks at several at the same time, where each takes a while.
fn look_at_all(place: &Arc<dyn Destination>, files: Vec<Entry>) -> Vec<(Entry, Result<Backup, Error>)> {
    let look = |file: Entry| {
        let looked = Backup::glance(place, &file);
        (file, looked)
    };
    let each = files.len().div_ceil(place.width()).max(1);
    let mut parts: Vec<Vec<Entry>> = files.chunks(each).map(<[Entry]>::to_vec).collect();
    let Some(first) = parts.pop() else { return Vec::new() };
    std::thread::scope(|scope| {
        let looking = |part: Vec<Entry>| scope.spawn(move || part.into_iter().map(look).collect::<Vec<_>>());
        let others: Vec<_> = parts.into_iter().map(looking).collect();
        let mut all: Vec<_> = first.into_iter().map(look).collect();
        // Panics are bugs, and end here as they would without threads.
        all.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_else(|e| std::panic::resume_unwind(e))));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    })
}

fn same_store(name: &str, found: StoreId, expected: StoreId) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::OtherStore { name: name.to_owned(), found, expected }) }
}
