//! Filling a new store with a world of any size, in bounded memory.

use crate::commit::Commit;
use crate::error::Error;
use crate::ids::{PAGE_SIZE, PageIndex, PageRange, SegmentId};
use crate::root::ATTRIBUTES_LEN;
use crate::store::Store;

/// Pages of one commit, which takes some 60 bytes of memory for each.
const BATCH: u64 = 256 * 1024;

/// Puts pages into a store in as many commits as it takes. Until [`Fill::finish`] the store holds parts of a world: let it lie under a
/// name where nobody takes it for one.
pub struct Fill {
    store: Store,
    commit: Option<Commit>,
    pages: u64,
}

impl Fill {
    /// Into `store`, over what it holds.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, commit: None, pages: 0 }
    }

    /// Pages put so far.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    fn commit(&mut self) -> Result<&mut Commit, Error> {
        let commit = match self.commit.take() {
            Some(commit) => commit,
            None => self.store.begin()?,
        };
        Ok(self.commit.insert(commit))
    }

    /// As [`Commit::put`].
    ///
    /// # Errors
    /// As [`Commit::put`] and [`Commit::commit`].
    pub fn put(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), Error> {
        self.commit()?.put(segment, first, data)?;
        let before = self.pages / BATCH;
        self.pages += (data.len() / PAGE_SIZE) as u64;
        match self.commit.take_if(|_| self.pages / BATCH > before) {
            Some(full) => full.commit().map(|_| ()),
            None => Ok(()),
        }
    }

    /// As [`Commit::remove`].
    ///
    /// # Errors
    /// As [`Commit::remove`].
    pub fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), Error> {
        self.commit()?.remove(segment, range)
    }

    /// Makes what was put the newest generation, with these attributes, and the only one that can be gone back to.
    ///
    /// # Errors
    /// As [`Commit::commit`].
    pub fn finish(mut self, attributes: [u8; ATTRIBUTES_LEN]) -> Result<Store, Error> {
        self.commit()?.set_attributes(attributes);
        if let Some(last) = self.commit.take() {
            last.commit()?;
        }
        // Parts of it must not be fallen back to: neither root slot may list one.
        let keep = self.store.shared.current().root.keep;
        for _ in 0..keep {
            self.store.begin()?.commit()?;
        }
        Ok(self.store)
    }
}

impl std::fmt::Debug for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fill({} pages)", self.pages)
    }
}
