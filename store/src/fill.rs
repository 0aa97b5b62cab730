//! Filling a new store with worlds of any size, in bounded memory.

use crate::commit::Commit;
use crate::error::Error;
use crate::ids::{PAGE_SIZE, PageIndex, PageRange, SegmentId};
use crate::root::ATTRIBUTES_LEN;
use crate::store::Store;
use crate::width::to_usize;

/// The most pages of one commit: a commit takes some 70 bytes of memory for each.
const MOST_PAGES: u64 = 1 << 18;

/// Puts pages into a store in as many commits as it takes. Until [`Fill::finish`] the store holds parts of a world: let it lie under a
/// name where nobody takes it for one. A store that becomes nearly full gets larger: it holds what was replaced for a while.
pub struct Fill {
    store: Store,
    commit: Option<Commit>,
    /// Pages in the commit, and how many there may be.
    pages: u64,
    most: u64,
    /// Whether every generation that either root lists is a whole world.
    settled: bool,
}

impl Fill {
    /// Into `store`, over what it holds.
    #[must_use]
    pub fn new(store: Store) -> Self {
        // Pages that are replaced stay taken for some commits: with small commits they are a small part of the store.
        let most = (store.space().total / 32).clamp(16, MOST_PAGES);
        Self { store, commit: None, pages: 0, most, settled: false }
    }

    /// The store, as far as it is made.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The commit under way, with room for `pages` more.
    fn room_for(&mut self, pages: u64) -> Result<&mut Commit, Error> {
        if let Some(full) = self.commit.take_if(|_| self.pages + pages > self.most) {
            self.settled = false;
            full.commit()?;
        }
        let commit = match self.commit.take() {
            Some(commit) => commit,
            None => {
                self.pages = 0;
                self.begin()?
            }
        };
        self.pages += pages;
        Ok(self.commit.insert(commit))
    }

    fn begin(&self) -> Result<Commit, Error> {
        let space = self.store.space();
        let needed = self.most + self.most / 32 + 256;
        if space.free < needed {
            self.store.grow((space.total + 2 * needed) * PAGE_SIZE as u64)?;
        }
        self.store.begin()
    }

    /// As [`Commit::put`].
    ///
    /// # Errors
    /// As [`Commit::put`] and [`Commit::commit`].
    pub fn put(&mut self, segment: SegmentId, mut first: PageIndex, data: &[u8]) -> Result<(), Error> {
        // A small store takes less than all at once.
        for part in data.chunks(to_usize(self.most) * PAGE_SIZE) {
            let pages = (part.len() / PAGE_SIZE) as u64;
            self.room_for(pages)?.put(segment, first, part)?;
            first = PageIndex(first.0 + pages);
        }
        Ok(())
    }

    /// As [`Commit::remove`].
    ///
    /// # Errors
    /// As [`Commit::remove`] and [`Commit::commit`].
    pub fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), Error> {
        self.room_for(1)?.remove(segment, range)
    }

    /// What was put is a whole world, with these attributes. More can be put over it.
    ///
    /// # Errors
    /// As [`Commit::commit`].
    pub fn end_world(&mut self, attributes: [u8; ATTRIBUTES_LEN]) -> Result<(), Error> {
        self.room_for(0)?.set_attributes(attributes);
        self.commit.take().map_or(Ok(()), |last| last.commit().map(drop))
    }

    /// Makes every generation that the store lists, in either root, one that holds a whole world: whichever is gone back to. To be called after
    /// [`Fill::end_world`]; costs nothing if all that was put since the last call went into one commit.
    ///
    /// # Errors
    /// As [`Commit::commit`].
    pub fn settle(&mut self) -> Result<(), Error> {
        if self.settled {
            return Ok(());
        }
        let whole = self.store.generation();
        while {
            self.store.begin()?.commit()?;
            self.store.generations().iter().any(|info| info.generation < whole)
        } {}
        // The other root lists what the one before did.
        self.store.begin()?.commit()?;
        self.settled = true;
        Ok(())
    }

    /// The store, of whose generations each is a whole world.
    ///
    /// # Errors
    /// As [`Commit::commit`].
    pub fn finish(mut self) -> Result<Store, Error> {
        self.settle()?;
        Ok(self.store)
    }
}

impl std::fmt::Debug for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fill({:?})", self.store)
    }
}
