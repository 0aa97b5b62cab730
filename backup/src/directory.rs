//! A directory of backups: which there are, what each of them needs, and what can go.

use crate::error::Error;
use crate::format::{Base, FrameHead, HEAD_LEN, Label, MAX_RECORD, Manifest, Trailer, decode, kind};
use crate::read::StreamReader;
use crate::retention::Retention;
use semper_store::{Generation, StoreId};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use zerocopy::FromBytes;

/// How names of backups end.
pub const SUFFIX: &str = ".semper";

/// How the name of a backup ends until it is one.
pub const PARTIAL: &str = ".partial";

/// How the name of a backup goes on that was set aside.
const LEFT: &str = ".left-";

/// Bytes that are read of a backup to see what it is.
const GLANCE: usize = 8 << 10;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// A backup in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Where it lies.
    pub path: PathBuf,
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
    /// Looks at the two ends of the backup at `path`. Only reading it whole shows that it is whole.
    ///
    /// # Errors
    /// Those of [`StreamReader::next_label`].
    pub fn look(path: &Path) -> Result<Self, Error> {
        let mut reader = open(path, GLANCE)?;
        let label = reader.next_label()?.ok_or_else(|| not_a_backup(path))?;
        let (encrypted, journal) = (reader.is_encrypted(), reader.has_journal());
        let file = File::open(path).map_err(Error::at("open", path))?;
        let bytes = file.metadata().map_err(Error::at("look at", path))?.len();
        Ok(Self { path: path.to_owned(), label, encrypted, journal, manifest: manifest(&file, bytes), bytes })
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.display().to_string()
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
    pub fn open(&self) -> Result<StreamReader<BufReader<File>>, Error> {
        open(&self.path, BUFFER)
    }
}

fn not_a_backup(path: &Path) -> Error {
    Error::NotABackup { name: path.display().to_string(), at: 0 }
}

fn open(path: &Path, buffer: usize) -> Result<StreamReader<BufReader<File>>, Error> {
    let file = File::open(path).map_err(Error::at("open", path))?;
    Ok(StreamReader::new(BufReader::with_capacity(buffer, file), path.display().to_string()))
}

/// The manifest at the end of a file.
fn manifest(file: &File, bytes: u64) -> Result<Manifest, String> {
    let cut = || "it is cut off".to_owned();
    let mut end = [0; size_of::<Trailer>()];
    let trailer_at = bytes.checked_sub(end.len() as u64).ok_or_else(cut)?;
    file.read_exact_at(&mut end, trailer_at).map_err(|e| e.to_string())?;
    let trailer = Trailer::read_from_bytes(&end[..]).map_err(|_| cut())?;
    let length = trailer_at.checked_sub(trailer.manifest.get()).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| trailer.magic == crate::format::END_MAGIC && *length >= HEAD_LEN);
    let length = length.filter(|length| *length <= HEAD_LEN + MAX_RECORD).ok_or_else(cut)?;
    let mut frame = vec![0; length];
    file.read_exact_at(&mut frame, trailer.manifest.get()).map_err(|e| e.to_string())?;
    let (head, rest) = frame.split_at(size_of::<FrameHead>());
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

/// The backups in a directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// By generation, a full one before an increment to the same.
    pub backups: Vec<Backup>,
    /// Files with the name of a backup that are none, and why.
    pub broken: Vec<(PathBuf, Error)>,
    /// What creates that did not end have left.
    pub partial: Vec<PathBuf>,
}

impl Directory {
    /// Looks at every file in `dir` that is named as a backup.
    ///
    /// # Errors
    /// What the host says; [`Error::OtherStore`] if it has backups of two stores.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let mut found = Self { path: dir.to_owned(), backups: vec![], broken: vec![], partial: vec![] };
        for entry in fs::read_dir(dir).map_err(Error::at("read the directory", dir))? {
            let path = entry.map_err(Error::at("read the directory", dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(&format!("{SUFFIX}{PARTIAL}")) {
                found.partial.push(path);
            } else if name.ends_with(SUFFIX) {
                match Backup::look(&path) {
                    Ok(backup) => found.backups.push(backup),
                    Err(e) => found.broken.push((path, e)),
                }
            }
        }
        found.sort();
        found.broken.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(store) = found.store() {
            found.backups.iter().try_for_each(|backup| same_store(&backup.name(), backup.label.store(), store))?;
        }
        Ok(found)
    }

    /// The same with another one, which was made since, and without those that it [left behind](Self::left_behind).
    #[must_use]
    pub fn with(mut self, made: Backup) -> Self {
        let left: Vec<PathBuf> = self.left_behind(&made.label).map(Path::to_owned).collect();
        self.backups.retain(|backup| backup.path != made.path && !left.contains(&backup.path));
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
        Error::NoSuchBackup { dir: self.path.clone(), wanted, found }
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
                needed.insert(&backup.path);
            }
        }
        Ok(self.backups.iter().rev().filter(|backup| !needed.contains(&backup.path)).collect())
    }

    /// What is of a future that the store has left, when it comes to a backup of `label`: as new as that or newer, and of the same store, but not the
    /// same generation.
    pub fn left_behind(&self, label: &Label) -> impl Iterator<Item = &Path> {
        let left = |other: &Label| {
            other.generation != label.generation && other.generation.generation >= label.generation.generation
        };
        // From the newest on: what stays always has what it needs.
        let those = self.backups.iter().rev().filter(move |backup| left(&backup.label));
        those.map(|backup| backup.path.as_path())
    }

    /// Renames one, durably, so that it is no backup of this directory any more; gives its new name.
    ///
    /// # Errors
    /// What the host says.
    pub fn set_aside(&self, path: &Path) -> Result<PathBuf, Error> {
        let named = |number: u32| PathBuf::from(format!("{}{LEFT}{number}", path.display()));
        let aside = (1..=u32::MAX).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(0));
        fs::rename(path, &aside).map_err(Error::at("rename", path))?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(Error::at("flush", &self.path))?;
        Ok(aside)
    }

    /// Removes one, durably.
    ///
    /// # Errors
    /// What the host says.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        fs::remove_file(path).map_err(Error::at("remove", path))?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(Error::at("flush", &self.path))
    }

    /// Keeps others from adding and removing backups in `dir` as long as what is returned lives.
    ///
    /// # Errors
    /// [`Error::Busy`], what the host says.
    pub fn lock(dir: &Path) -> Result<File, Error> {
        let lock = File::open(dir).map_err(Error::at("open the directory", dir))?;
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Err(Error::Busy(dir.to_owned())),
            // A file system without locks has to do without.
            _ => Ok(lock),
        }
    }
}

fn same_store(name: &str, found: StoreId, expected: StoreId) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::OtherStore { name: name.to_owned(), found, expected }) }
}

/// A file that gets its name when it is complete.
pub struct NewFile {
    file: File,
    partial: Option<PathBuf>,
    path: PathBuf,
}

impl NewFile {
    /// Makes it, under another name, beside `path`.
    ///
    /// # Errors
    /// What the host says.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let partial = PathBuf::from(format!("{}{PARTIAL}", path.display()));
        let file = File::create(&partial).map_err(Error::at("create", &partial))?;
        Ok(Self { file, partial: Some(partial), path: path.to_owned() })
    }

    /// Flushes it and gives it its name.
    ///
    /// # Errors
    /// What the host says; it is not there then.
    pub fn publish(mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::at("flush", &self.path))?;
        if let Some(partial) = &self.partial {
            fs::rename(partial, &self.path).map_err(Error::at("give its name to", &self.path))?;
        }
        self.partial = None;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(Error::at("flush", parent))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            let _ = fs::remove_file(partial);
        }
    }
}
