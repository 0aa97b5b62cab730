//! The store as its users see it.

use crate::commit::{Commit, check_range};
use crate::error::Error;
use crate::file::IoKind;
use crate::ids::{Generation, MAX_SEGMENT_PAGES, PAGE_SIZE, PageIndex, SegmentId, StoreId};
use crate::node::Key;
use crate::open::Opened;
use crate::rebuild::rebuild;
use crate::recover::{Recovery, recover_beside};
use crate::reserve::Reservation;
use crate::root::{ATTRIBUTES_LEN, Kept};
use crate::shared::{Map, Shared, Snapshot};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// A generation that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationInfo {
    /// Its number.
    pub generation: Generation,
    /// When it was committed, by the wall clock of that machine.
    pub committed_at: SystemTime,
    /// Pages present in it (not zero).
    pub pages: u64,
}

/// How full a store is, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All there are; while the store is being made smaller, those that there will be.
    pub total: u64,
    /// Taken, by all kept generations together.
    pub used: u64,
    /// Not taken.
    pub free: u64,
    /// Promised by reservations; part of `free`.
    pub reserved: u64,
}

/// An open store. All calls may be made from several threads at once.
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    recovery: Recovery,
    walker: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    pub(crate) fn from_opened(opened: Opened) -> Self {
        let shared = Arc::new(Shared::new(opened.parts, opened.found));
        shared.hold_tagged();
        let walker = opened.background.then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("store-walk".to_owned()).spawn(move || rebuild(&shared))
        });
        // Without a thread the first commit walks.
        let walker = Mutex::new(walker.and_then(Result::ok));
        Self { shared, recovery: opened.recovery, walker }
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The store's name.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.shared.id()
    }

    /// How writes go to the disk.
    #[must_use]
    pub fn io_kind(&self) -> IoKind {
        self.shared.io_kind
    }

    /// The newest committed generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.shared.current().root.newest().generation)
    }

    /// The generations that can be read, newest first.
    #[must_use]
    pub fn generations(&self) -> Vec<GenerationInfo> {
        self.shared.current().root.kept.iter().map(info).collect()
    }

    /// The user area of the newest generation.
    #[must_use]
    pub fn attributes(&self) -> [u8; ATTRIBUTES_LEN] {
        self.shared.current().root.newest().attributes
    }

    /// The user area of a generation that is kept.
    ///
    /// # Errors
    /// [`Error::NoSuchGeneration`].
    pub fn attributes_of(&self, generation: Generation) -> Result<[u8; ATTRIBUTES_LEN], Error> {
        self.at(generation, |_, kept| Ok(kept.attributes))
    }

    /// How full the store is. Until the trees have been walked after opening, as the root says.
    #[must_use]
    pub fn space(&self) -> Space {
        let root = &self.shared.current().root;
        let books = self.shared.books();
        let (total, free) = match &books.map {
            Map::Known(space) => (space.map().fence(), space.map().free()),
            _ => (root.places, root.places.saturating_sub(root.used)),
        };
        Space { total, used: total - free, free, reserved: books.reserved }
    }

    /// The places that the file system below can give: those that it has given already and those that it has free, at most all there
    /// are. On a block device, or if it does not say, all.
    #[must_use]
    pub fn host_places(&self) -> u64 {
        let places = self.shared.current().root.places;
        // What lies beyond the end of a store that is being made smaller has been given, but not for good.
        let beyond = self.shrinking().map_or(0, |state| state.beyond);
        let given = self.shared.disk.capacity().map(|bytes| (bytes / PAGE_SIZE as u64).saturating_sub(beyond));
        given.map_or(places, |given| given.min(places))
    }

    /// Notes durably that all of the newest generation is there, if its commit left that open ([`crate::Commit::set_one_flush`]): what rots of it from
    /// now on is told as damage.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Poisoned`], what the host says.
    pub fn seal(&self) -> Result<(), Error> {
        if !self.shared.current().root.unflushed {
            return Ok(());
        }
        let _writer = self.shared.start_writing();
        self.shared.settle(|_| ())
    }

    /// Why no commit can be made any more, if a write or flush has failed.
    #[must_use]
    pub fn poisoned(&self) -> Option<Error> {
        self.shared.check_writable().err().filter(|e| matches!(e, Error::Poisoned { .. }))
    }

    /// Fills `out` with the pages of `segment` from `first` on, of the newest generation. Holes are zeros.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the page, or what the host says.
    pub fn read(&self, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), Error> {
        check_buffer(segment, first, out)?;
        self.newest(|shared, kept| shared.reader(kept.generation).read(kept.tree, segment, first, out))
    }

    /// The same of an older generation that is kept.
    ///
    /// # Errors
    /// [`Error::NoSuchGeneration`], else as [`Store::read`].
    pub fn read_at(
        &self,
        generation: Generation,
        segment: SegmentId,
        first: PageIndex,
        out: &mut [u8],
    ) -> Result<(), Error> {
        check_buffer(segment, first, out)?;
        self.at(generation, |shared, kept| shared.reader(kept.generation).read(kept.tree, segment, first, out))
    }

    /// The first page of `segment` at or after `from` that is present in the newest generation.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn next_page(&self, segment: SegmentId, from: PageIndex) -> Result<Option<PageIndex>, Error> {
        check_range(segment, from, 0)?;
        let (start, end) = (Key::new(segment, from), Key::new(segment, PageIndex(MAX_SEGMENT_PAGES)));
        let found = self.newest(|shared, kept| shared.reader(kept.generation).first_from(kept.tree, start, end))?;
        Ok(found.map(|key| PageIndex(key.page)))
    }

    /// The segments that have pages in the newest generation, in order.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn segments(&self) -> Result<Vec<SegmentId>, Error> {
        self.newest(|shared, kept| {
            let reader = shared.reader(kept.generation);
            let end = Key { segment: crate::ids::MAX_SEGMENTS, page: 0 };
            let (mut found, mut from) = (Vec::new(), Key::MIN);
            while let Some(key) = reader.first_from(kept.tree, from, end)? {
                found.push(SegmentId(key.segment));
                from = key.next_segment();
            }
            Ok(found)
        })
    }

    /// Begins a commit. Waits while another one is under way, and, after opening, until the free map is known. A thread
    /// that holds a commit and begins another waits for ever.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ReadOnly`]; [`Error::Corrupt`] if the newest tree does not hold, so that nobody knows
    /// which places are free; what the host says.
    pub fn begin(&self) -> Result<Commit, Error> {
        self.shared.check_writable()?;
        let writer = self.shared.start_writing();
        self.shared.check_writable()?;
        self.wait_for_map()?;
        self.shared.settle_if_needed()?;
        Ok(Commit::new(writer))
    }

    /// Promises space for `pages` pages and for what their tree nodes may take, before the pages get dirty. Commits may use
    /// promised space: they are what it is promised for. Older generations that could be dropped count as free. The host's file
    /// system is asked for the space too, once the free map is known.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn reserve(&self, pages: u64) -> Result<Reservation, Error> {
        self.shared.check_writable()?;
        Reservation::new(Arc::clone(&self.shared), pages)
    }

    /// Makes the store larger. It may be under way while a commit is. If the store is being made smaller, that is given up.
    ///
    /// # Errors
    /// [`Error::BadSize`] if it has more already; what the host says.
    pub fn grow(&self, size_bytes: u64) -> Result<(), Error> {
        self.shared.check_writable()?;
        let places = crate::open::places_for(size_bytes)?;
        let _one = self.shared.start_resizing();
        if places < self.shared.current().root.places {
            let why = "it has more already, and growing does not shrink it: semper shrink does";
            return Err(Error::BadSize { bytes: size_bytes, why });
        }
        let disk = &self.shared.disk;
        let size = places * PAGE_SIZE as u64;
        let length = disk.len().map_err(|e| Error::io("find the length of the store", e))?;
        if length < size {
            disk.set_len(size).map_err(|e| Error::io("make the store larger", e))?;
        }
        let mut books = self.shared.books();
        self.shared.amend(|root| root.places = places);
        if let Map::Known(space) = &mut books.map {
            space.grow(places);
        }
        Ok(())
    }

    /// Looks at the roots again: a handle for reading then sees what a live runtime has committed since.
    ///
    /// # Errors
    /// As opening.
    pub fn refresh(&self) -> Result<(), Error> {
        if !self.shared.read_only {
            return Ok(());
        }
        let found = recover_beside(&*self.shared.disk)?;
        if found.snapshot.root.lineage != self.shared.lineage {
            return Err(Error::not_a_store("another store lies there now"));
        }
        self.shared.replace(found.snapshot);
        Ok(())
    }

    /// Runs `call` on the newest generation; again, if that was superseded and its places reused meanwhile.
    fn newest<T>(&self, mut call: impl FnMut(&Shared, &Kept) -> Result<T, Error>) -> Result<T, Error> {
        loop {
            let seen = self.shared.current();
            match call(&self.shared, seen.root.newest()) {
                Err(e) if e.is_corrupt() && self.superseded(&seen) => {}
                Err(e) => {
                    self.shared.note_damage(&e);
                    return Err(e);
                }
                ok => return ok,
            }
        }
    }

    /// Runs `call` on `generation`; a fault counts only if the generation is still kept after it.
    pub(crate) fn at<T>(
        &self,
        generation: Generation,
        call: impl FnOnce(&Shared, &Kept) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let seen = self.shared.current();
        let kept = seen.root.find(generation).ok_or_else(|| not_kept(&seen, generation))?;
        call(&self.shared, kept).map_err(|e| if e.is_corrupt() { self.missing(generation).unwrap_or(e) } else { e })
    }

    /// The error for a generation that is not kept (any more).
    pub(crate) fn missing(&self, generation: Generation) -> Option<Error> {
        let _ = self.refresh();
        let now = self.shared.current();
        now.root.find(generation).is_none().then(|| not_kept(&now, generation))
    }

    /// Whether another generation is the newest by now.
    pub(crate) fn superseded(&self, seen: &Snapshot) -> bool {
        let _ = self.refresh();
        self.shared.current().root.newest().generation != seen.root.newest().generation
    }

    /// Walks, or waits for who does.
    pub(crate) fn wait_for_map(&self) -> Result<(), Error> {
        rebuild(&self.shared);
        let mut books = self.shared.books();
        loop {
            match &books.map {
                Map::Known(_) => return Ok(()),
                Map::Failed(e) => return Err(e.clone()),
                Map::Unknown | Map::Walking => {
                    books = self.shared.books_changed.wait(books).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let walker = self.walker.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if walker.is_some_and(|walker| walker.join().is_err()) {
            tracing::error!("the walk over the store panicked");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({}, {})", self.id(), self.generation())
    }
}

pub(crate) fn info(kept: &Kept) -> GenerationInfo {
    GenerationInfo {
        generation: Generation(kept.generation),
        committed_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(kept.committed_at),
        pages: kept.pages,
    }
}

fn check_buffer(segment: SegmentId, first: PageIndex, out: &[u8]) -> Result<(), Error> {
    if !out.len().is_multiple_of(PAGE_SIZE) {
        return Err(Error::BadArgument(format!("{} bytes are no whole number of pages", out.len())));
    }
    check_range(segment, first, (out.len() / PAGE_SIZE) as u64)
}

pub(crate) fn not_kept(snapshot: &Snapshot, generation: Generation) -> Error {
    let kept: Vec<String> = snapshot.root.kept.iter().map(|kept| kept.generation.to_string()).collect();
    Error::NoSuchGeneration { generation, kept: kept.join(", ") }
}
