//! Creating and opening.

use crate::canary::Canary;
use crate::damage;
use crate::directory::{self, NEW_FILE, PAGES_FILE};
use crate::disk::{BufferPool, Disk};
use crate::error::Error;
use crate::file::{FileDisk, IoChoice, IoKind};
use crate::ids::{Generation, PAGE_SIZE, StoreId};
use crate::lineage::Lineage;
use crate::loan;
use crate::mirror::{Dirs, Gathered, MIRRORS_FILE, Sites, gather, newest_root};
use crate::node::TreeRef;
use crate::recover::{Found, Limits, Recovery, read_root, recover, recover_beside};
use crate::root::{ATTRIBUTES_LEN, BadRoot, FIRST_PLACE, Kept, MAX_KEPT, MIN_KEPT, Root, SLOT_PLACES};
use crate::shared::{Parts, Shared};
use crate::store::Store;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The smallest store: the roots and some room.
pub const MIN_SIZE_BYTES: u64 = 2 << 20;

/// The largest store: 2^40 pages.
const MAX_SIZE_BYTES: u64 = 1 << 52;

/// How to make a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Its size; the file is sparse and takes what is written. A block device is used whole.
    pub size_bytes: u64,
    /// How many generations stay readable, 2 to 12.
    pub keep_generations: u32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { size_bytes: 64 << 30, keep_generations: 4 }
    }
}

/// How to open a store.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// How to write.
    pub io: IoChoice,
    /// Go back: take no generation newer than this. The newer ones are lost with the first commit.
    pub newest: Option<Generation>,
    /// Walk the trees in the first commit, instead of in a thread that starts at once.
    pub walk_in_commit: bool,
    /// A planted bug; has an effect under the `sim` feature only.
    #[doc(hidden)]
    pub canary: Option<Canary>,
}

pub(crate) struct Opened {
    pub parts: Parts,
    pub found: Found,
    pub recovery: Recovery,
    pub background: bool,
}

impl Store {
    /// Whether [`Store::create`] is to make a store in `dir`: there is no `pages` in it, or a symlink `pages` to a block device or
    /// file whose first MiB (where the roots lie) is zero. False if it may be a store; opening it tells.
    ///
    /// # Errors
    /// [`Error::Occupied`], [`Error::NotAStore`], [`Error::Missing`] (the symlink leads nowhere), what the host says.
    pub fn is_to_be_made(dir: &Path) -> Result<bool, Error> {
        match dir.join(PAGES_FILE).symlink_metadata() {
            // Its pages are lost, and may be found in a mirror.
            Err(_) if dir.join(MIRRORS_FILE).exists() => Ok(false),
            // Whatever else is wrong with the directory, making the store tells.
            Err(_) => Ok(true),
            Ok(entry) if !entry.file_type().is_symlink() => Ok(false),
            Ok(_) => {
                let path = directory::pages(dir)?;
                let disk =
                    FileDisk::open_read_only(&path).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
                Ok(!holds_store(&disk) && blank(&disk, &path)?)
            }
        }
    }

    /// Makes a store in `dir`, which must be new, empty, or hold only a symlink `pages` to a block device or file, whose first MiB
    /// must be zero.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::Occupied`], [`Error::BadSize`], [`Error::InUse`], what the host says.
    pub fn create(dir: &Path, options: &CreateOptions) -> Result<Self, Error> {
        places_for(options.size_bytes)?;
        let laid = directory::prepare(dir)?;
        let sites: Arc<dyn Sites> = Dirs::new(IoChoice::default(), false);
        let home = place(dir)?;
        sites.at(&home).lock()?;
        let path = dir.join(if laid { PAGES_FILE } else { NEW_FILE });
        if !laid {
            File::create(&path).map_err(|e| Error::io(format!("create {}", path.display()), e))?;
        }
        let disk =
            FileDisk::open(&path, IoChoice::Plain).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
        let length = disk.len().map_err(|e| Error::io("find its length", e))?;
        if laid && holds_store(&disk) {
            return Err(Error::NotEmpty {
                dir: dir.to_owned(),
                found: "a store, behind the symlink `pages`".to_owned(),
            });
        }
        if laid {
            blank(&disk, &path)?;
        }
        let size = if length > 0 { length } else { options.size_bytes };
        format(&disk, size, options.keep_generations)?;
        drop(disk);
        if !laid {
            // Only now is it a store: a crash before leaves nothing that could be taken for one.
            fs::rename(&path, dir.join(PAGES_FILE)).map_err(|e| Error::io(format!("rename {}", path.display()), e))?;
        }
        directory::sync(dir)?;
        open_sites(&sites, &home, &OpenOptions::default())
    }

    /// Whether a store lies in `dir`: its pages, or word of mirrors that have them.
    #[must_use]
    pub fn lies_in(dir: &Path) -> bool {
        [PAGES_FILE, MIRRORS_FILE].iter().any(|name| dir.join(name).symlink_metadata().is_ok())
    }

    /// Opens the store in `dir`, with its mirrors, for reading and writing.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Missing`], [`Error::NotAStore`], [`Error::Version`], [`Error::Truncated`], [`Error::Parted`],
    /// [`Error::NotWhole`], what the host says.
    pub fn open(dir: &Path, options: &OpenOptions) -> Result<Self, Error> {
        if !dir.join(MIRRORS_FILE).exists() {
            let path = directory::pages(dir)?;
            look(&path).map_err(|e| e.about(&path))?;
        }
        let sites: Arc<dyn Sites> = Dirs::new(options.io, false);
        open_sites(&sites, &place(dir)?, options).map_err(|e| e.about(&dir.join(PAGES_FILE)))
    }

    /// Opens the store in `dir`, with its mirrors, for reading, beside a runtime that may have it open.
    ///
    /// # Errors
    /// As [`Store::open`], but for the lock.
    pub fn open_read_only(dir: &Path) -> Result<Self, Error> {
        Self::open_read_only_behind(dir, 0)
    }

    /// The same, behind so many stores that borrow from each other.
    pub(crate) fn open_read_only_behind(dir: &Path, depth: usize) -> Result<Self, Error> {
        if !dir.join(MIRRORS_FILE).exists() {
            directory::pages(dir)?;
        }
        let sites: Arc<dyn Sites> = Dirs::new(IoChoice::Plain, true);
        let gathered = gather(&sites, &place(dir)?, true, None)?;
        let mut parts = parts(gathered, None, depth)?;
        parts.read_only = true;
        let options = OpenOptions { walk_in_commit: true, ..OpenOptions::default() };
        finish(parts, &options).map_err(|e| e.about(&dir.join(PAGES_FILE)))
    }

    /// As [`Store::open_at`], to look at.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    #[cfg(feature = "sim")]
    pub fn open_read_only_at(sites: &Arc<dyn Sites>, home: &str) -> Result<Self, Error> {
        let mut parts = parts(gather(sites, home, true, None)?, None, 0)?;
        parts.read_only = true;
        finish(parts, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })
    }

    /// Opens a store whose sides lie where the caller says; `home` is the one that is read first.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_at(sites: &Arc<dyn Sites>, home: &str, options: &OpenOptions) -> Result<Self, Error> {
        open_sites(sites, home, options)
    }

    /// Makes a store on a disk of the caller's.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_on(disk: Arc<dyn Disk>, options: &CreateOptions) -> Result<Self, Error> {
        places_for(options.size_bytes)?;
        format(&*disk, options.size_bytes, options.keep_generations)?;
        Self::open_on(disk, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })
    }

    /// Opens the store on a disk of the caller's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, options: &OpenOptions) -> Result<Self, Error> {
        let io_kind = IoKind::Custom;
        let (read_only, canary) = (false, options.canary);
        let parts = Parts { disk, io_kind, read_only, canary, mirrored: None, loan: None, notes: Vec::new() };
        finish(parts, options)
    }
}

fn open_sites(sites: &Arc<dyn Sites>, home: &str, options: &OpenOptions) -> Result<Store, Error> {
    let gathered = gather(sites, home, false, options.canary)?;
    for note in &gathered.notes {
        tracing::warn!("{note}");
    }
    finish(parts(gathered, options.canary, 0)?, options)
}

fn parts(gathered: Gathered, canary: Option<Canary>, depth: usize) -> Result<Parts, Error> {
    let Gathered { disk: sides, io_kind, notes } = gathered;
    let loan = loan::attach(&sides, depth)?;
    let disk: Arc<dyn Disk> = match &loan {
        Some(loan) => Arc::clone(loan) as Arc<dyn Disk>,
        None => Arc::clone(&sides) as Arc<dyn Disk>,
    };
    Ok(Parts { disk, io_kind, read_only: false, canary, mirrored: Some(sides), loan, notes })
}

/// A directory as a side's place: an absolute path.
pub(crate) fn place(dir: &Path) -> Result<String, Error> {
    let bad = |why: &str| Error::BadMirror { dir: dir.to_owned(), why: why.to_owned() };
    // Links on the way stay as they are: some, as those of /proc, lead where no path does.
    let path = std::path::absolute(dir).map_err(|e| Error::io(format!("open {}", dir.display()), e))?;
    let text = path.to_str().ok_or_else(|| bad("its path is no UTF-8"))?;
    if text.contains(['\n', '\r']) {
        return Err(bad("its path has a line break in it"));
    }
    Ok(text.to_owned())
}

/// Whether there is a store at `path` at all, before anything beside it is touched: what is none stays as it is, without so much as
/// a lock file.
fn look(path: &Path) -> Result<(), Error> {
    let disk = FileDisk::open_read_only(path).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
    if newest_root(&disk).is_some_and(|root| root.borrows) {
        // What is not there lies in another store.
        return Ok(());
    }
    recover_beside(&disk).map(|_| ())
}

/// Opens the store of a retired handle anew, under the same locks.
pub(crate) fn reopen(shared: &Shared, options: &OpenOptions) -> Result<Store, Error> {
    match &shared.mirrored {
        Some(mirrored) => open_sites(mirrored.sites(), &mirrored.home(), options),
        None => Err(Error::BadArgument("only a store that lies in a directory can be opened anew".to_owned())),
    }
}

fn finish(parts: Parts, options: &OpenOptions) -> Result<Store, Error> {
    let found = if parts.read_only {
        recover_beside(&*parts.disk)?
    } else {
        // What a process wrote that was killed before it flushed is read, but only from the host's memory: nothing is to rest on that.
        parts.disk.flush().map_err(|e| Error::io("flush the store", e))?;
        // Who names a generation knows what is noted about it.
        let left = match (&parts.mirrored, options.newest) {
            (Some(mirrored), None) => damage::read(mirrored),
            _ => Vec::new(),
        };
        let found = recover(&*parts.disk, Limits { newest: options.newest, left: &left }, parts.canary)?;
        if let (Some(mirrored), false, false) = (&parts.mirrored, left.is_empty(), found.lists_left) {
            damage::forget(mirrored);
        }
        found
    };
    let mut recovery = found.recovery.clone();
    recovery.left_out.clone_from(&parts.notes);
    for reason in &recovery.fallen_back {
        tracing::info!("{} stands: {reason}", recovery.generation);
    }
    Ok(Store::from_opened(Opened { parts, found, recovery, background: !options.walk_in_commit }))
}

/// How many places a size gives.
pub(crate) fn places_for(size_bytes: u64) -> Result<u64, Error> {
    if size_bytes < MIN_SIZE_BYTES {
        return Err(Error::BadSize { bytes: size_bytes, why: "the smallest store has 2 MiB" });
    }
    if size_bytes > MAX_SIZE_BYTES {
        return Err(Error::BadSize { bytes: size_bytes, why: "the largest store has 4 PiB" });
    }
    Ok(size_bytes / PAGE_SIZE as u64)
}

/// Whether one of the roots says that this is, or was, a store.
fn holds_store(disk: &dyn Disk) -> bool {
    let says = |slot| matches!(read_root(disk, slot), Ok(Ok(_) | Err(BadRoot::Version(_) | BadRoot::Damaged(_))));
    says(0) || says(1)
}

/// True, if what lies before the first place of a page is zero, as far as the disk goes.
///
/// # Errors
/// [`Error::Occupied`] if it is not.
pub(crate) fn blank(disk: &dyn Disk, path: &Path) -> Result<bool, Error> {
    let failed = |e| Error::io(format!("read {}", path.display()), e);
    let length = disk.len().map_err(failed)?.min(FIRST_PLACE * PAGE_SIZE as u64);
    let mut first = vec![0; crate::width::to_usize(length)];
    disk.read_at(0, &mut first).map_err(failed)?;
    match first.iter().position(|byte| *byte != 0) {
        None => Ok(true),
        Some(at) => Err(Error::Occupied { pages: path.to_owned(), at: at as u64 }),
    }
}

/// Writes an empty store.
fn format(disk: &dyn Disk, size_bytes: u64, keep: u32) -> Result<(), Error> {
    let places = places_for(size_bytes)?;
    let keep = crate::width::to_usize(u64::from(keep));
    if !(MIN_KEPT..=MAX_KEPT).contains(&keep) {
        return Err(Error::BadArgument(format!("a store keeps {MIN_KEPT} to {MAX_KEPT} generations, not {keep}")));
    }
    let failed = |e| Error::io("write the roots of the new store", e);
    if disk.len().map_err(failed)? < places * PAGE_SIZE as u64 {
        disk.set_len(places * PAGE_SIZE as u64).map_err(failed)?;
    }
    let empty = Kept {
        generation: 0,
        committed_at: crate::commit::now(),
        tree: TreeRef::EMPTY,
        pages: 0,
        nodes: 0,
        attributes: [0; ATTRIBUTES_LEN],
    };
    let id = random_id()?;
    let root = Root {
        lineage: Lineage::new(id),
        sequence: 0,
        highest: 0,
        places,
        used: FIRST_PLACE,
        keep,
        borrows: false,
        unflushed: false,
        kept: vec![empty],
    };
    write_roots(disk, root, &BufferPool::default())
}

/// Writes a new store's root to both slots, durably.
pub(crate) fn write_roots(disk: &dyn Disk, mut root: Root, pool: &BufferPool) -> Result<(), Error> {
    let failed = |e| Error::io("write the roots of the new store", e);
    for slot in [1, 0] {
        root.sequence += 1;
        let mut buffer = pool.take().map_err(failed)?;
        buffer.extend(&root.encode(slot)[..]);
        disk.write_at(SLOT_PLACES[slot] * PAGE_SIZE as u64, buffer).map_err(failed)?;
    }
    disk.flush().map_err(failed)
}

pub(crate) fn random_id() -> Result<StoreId, Error> {
    let mut id = StoreId([0; 16]);
    let drawn = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut id.0));
    drawn.map_err(|e| Error::io("draw a random store id", e))?;
    Ok(id)
}
