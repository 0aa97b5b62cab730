//! Space promised before it is needed.

use crate::error::Error;
use crate::shared::{Map, Shared};
use std::sync::Arc;

/// A promise of space, for pages that will get dirty; given back when dropped.
pub struct Reservation {
    shared: Arc<Shared>,
    pages: u64,
    /// With tree nodes.
    places: u64,
}

impl Reservation {
    pub(crate) fn new(shared: Arc<Shared>, pages: u64) -> Result<Self, Error> {
        let mut reservation = Self { shared, pages: 0, places: 0 };
        reservation.resize(pages)?;
        Ok(reservation)
    }

    /// The pages that it promises.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Promises `pages` pages from now on, more or fewer than before.
    ///
    /// # Errors
    /// [`Error::Full`]; then it stays as it was.
    pub fn resize(&mut self, pages: u64) -> Result<(), Error> {
        let root = &self.shared.current().root;
        let newest = root.newest();
        let places = pages.saturating_add(nodes_for(pages, newest.nodes, newest.tree.height));
        let mut books = self.shared.books();
        let free = match &books.map {
            Map::Known(space) => space.map().free() + space.reclaimable(&self.shared.holds().staying(root)),
            _ => root.places.saturating_sub(root.used),
        };
        let others = books.reserved - self.places;
        let available = free.saturating_sub(others + crate::space::spare(root.places));
        if places > available {
            return Err(Error::Full { needed: places, available });
        }
        if places > self.places {
            self.shared.back_ahead(&mut books, others + places)?;
        }
        books.reserved = others + places;
        (self.pages, self.places) = (pages, places);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.books().reserved -= self.places;
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reservation({} pages)", self.pages)
    }
}

/// The most tree nodes that a commit of `pages` pages can write: each page may touch a path of its own, but no node is
/// written more than once, and new pages make a new node for each [`crate::node::MINIMUM`] of them at most.
pub(crate) fn nodes_for(pages: u64, nodes: u64, height: u8) -> u64 {
    if pages == 0 {
        return 0;
    }
    let levels = u64::from(height) + 2;
    let paths = pages.saturating_mul(levels);
    let all = nodes + pages.div_ceil(crate::node::MINIMUM as u64 / 2) + levels;
    paths.min(all)
}
