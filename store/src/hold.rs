//! Generations that stay readable beyond their turn: who reads one for long holds it, and a tag holds one by name.

use crate::error::Error;
use crate::ids::Generation;
use crate::root::{MAX_KEPT, MIN_KEPT, Root};
use crate::shared::{Map, Shared};
use crate::store::{Store, not_kept};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which generations are held, and by how many.
#[derive(Default)]
pub(crate) struct Holds(BTreeMap<u64, usize>);

impl Holds {
    fn held(&self, generation: u64) -> bool {
        self.0.contains_key(&generation)
    }

    /// The place in the root's list of the generation that goes first when space runs short: the oldest one that nobody holds, if the
    /// newest [`MIN_KEPT`] are not all that could go.
    pub fn first_to_go(&self, root: &Root) -> Option<usize> {
        (MIN_KEPT..root.kept.len()).rev().find(|at| !self.held(root.kept[*at].generation))
    }

    /// Takes from a root's list what is beyond the number to keep. Held ones come on top of those.
    pub fn drop_superseded(&self, root: &mut Root) {
        let mut room = root.keep.max(MIN_KEPT);
        let mut at = 0;
        root.kept.retain(|kept| {
            let counts = at < MIN_KEPT || !self.held(kept.generation);
            at += 1;
            let stays = !counts || room > 0;
            room -= usize::from(counts && room > 0);
            stays
        });
        while root.kept.len() > MAX_KEPT {
            let at = self.first_to_go(root).unwrap_or(MAX_KEPT);
            root.kept.remove(at);
        }
    }

    /// The generations that stay when space runs short.
    pub fn staying(&self, root: &Root) -> Vec<u64> {
        let stays = |at: usize, generation| at < MIN_KEPT || self.held(generation);
        let kept = root.kept.iter().enumerate();
        kept.filter(|(at, kept)| stays(*at, kept.generation)).map(|(_, kept)| kept.generation).collect()
    }

    /// # Errors
    /// [`Error::TooManyHeld`].
    pub fn add(&mut self, root: &Root, generation: u64) -> Result<(), Error> {
        self.add_up_to(MAX_KEPT - root.keep.max(MIN_KEPT), root, generation)
    }

    /// The same beyond the number that users may hold, at the cost of those that are kept anyway.
    pub fn add_more(&mut self, root: &Root, generation: u64) -> Result<(), Error> {
        self.add_up_to(MAX_KEPT - MIN_KEPT, root, generation)
    }

    fn add_up_to(&mut self, most: usize, root: &Root, generation: u64) -> Result<(), Error> {
        if !self.held(generation) && self.0.len() >= most {
            return Err(Error::TooManyHeld { keep: root.keep, most });
        }
        *self.0.entry(generation).or_default() += 1;
        Ok(())
    }

    pub fn remove(&mut self, generation: u64) {
        if let Some(count) = self.0.get_mut(&generation) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&generation);
            }
        }
    }
}

/// A generation that stays readable as long as this lives. Its space stays taken too.
pub struct Hold {
    shared: Arc<Shared>,
    generation: Generation,
}

impl Hold {
    /// Of the newest generation, as no commit is under way, for what the store itself does.
    pub(crate) fn of_newest(shared: &Arc<Shared>) -> Result<Self, Error> {
        let root = &shared.current().root;
        let generation = root.newest().generation;
        shared.holds().add_more(root, generation)?;
        Ok(Self { shared: Arc::clone(shared), generation: Generation(generation) })
    }

    /// Of a generation that is kept, for what the store itself does. Waits for a commit that is under way.
    pub(crate) fn of_kept(shared: &Arc<Shared>, generation: u64) -> Result<Self, Error> {
        let _writer = shared.start_writing();
        let current = shared.current();
        if current.root.find(Generation(generation)).is_none() {
            return Err(not_kept(&current, Generation(generation)));
        }
        shared.holds().add_more(&current.root, generation)?;
        Ok(Self { shared: Arc::clone(shared), generation: Generation(generation) })
    }

    /// Which one.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.holds().remove(self.generation.0);
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hold({})", self.generation)
    }
}

impl Shared {
    /// As [`Store::held_places`].
    pub fn held_places(&self) -> Option<u64> {
        let root = &self.current().root;
        let holds = self.holds();
        if holds.0.is_empty() {
            return None;
        }
        let all = root.kept.iter().skip(MIN_KEPT).filter(|kept| holds.held(kept.generation));
        let most = all.map(|kept| kept.pages + kept.nodes).sum();
        let staying = holds.staying(root);
        drop(holds);
        let newest: Vec<u64> = root.listed().into_iter().take(MIN_KEPT).collect();
        Some(match &self.books().map {
            Map::Known(space) => space.reclaimable(&newest).saturating_sub(space.reclaimable(&staying)),
            _ => most,
        })
    }
}

impl Store {
    /// Places that only held generations need; none if nothing is held. Until the trees have been walked after opening, the most that
    /// it can be.
    #[must_use]
    pub fn held_places(&self) -> Option<u64> {
        self.shared.held_places()
    }

    /// Keeps `generation` readable as long as the hold lives, over any number of commits. Not over the end of the process: a tag is
    /// for that.
    ///
    /// # Errors
    /// [`Error::NoSuchGeneration`]; [`Error::TooManyHeld`].
    pub fn hold(&self, generation: Generation) -> Result<Hold, Error> {
        // Added first: a commit that is under way either sees it or has made its list, in which the generation is looked for.
        self.shared.holds().add(&self.shared.current().root, generation.0)?;
        let hold = Hold { shared: Arc::clone(&self.shared), generation };
        // Only between two commits is it certain that the next root will list it.
        let _writer = (!self.shared.read_only).then(|| self.shared.start_writing());
        match self.missing(generation) {
            Some(e) => Err(e),
            None => Ok(hold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StoreId;
    use crate::lineage::Lineage;
    use crate::node::TreeRef;
    use crate::root::{ATTRIBUTES_LEN, Kept};

    fn root(keep: usize, generations: &[u64]) -> Root {
        let kept = generations.iter().map(|generation| Kept {
            generation: *generation,
            committed_at: 0,
            tree: TreeRef::EMPTY,
            pages: 0,
            nodes: 0,
            attributes: [0; ATTRIBUTES_LEN],
        });
        let lineage = Lineage::new(StoreId([0; 16]));
        Root {
            lineage,
            sequence: 1,
            highest: generations[0],
            places: 1000,
            used: 256,
            keep,
            borrows: false,
            unflushed: false,
            kept: kept.collect(),
        }
    }

    fn after(holds: &Holds, keep: usize, generations: &[u64]) -> Vec<u64> {
        let mut root = root(keep, generations);
        holds.drop_superseded(&mut root);
        root.listed()
    }

    #[test]
    fn what_is_held_stays_beside_the_newest() {
        let mut holds = Holds::default();
        assert_eq!(after(&holds, 3, &[9, 8, 7, 6, 5]), [9, 8, 7]);
        holds.add(&root(3, &[9]), 5).unwrap();
        assert_eq!(after(&holds, 3, &[9, 8, 7, 6, 5]), [9, 8, 7, 5]);
        // One of the newest two counts, held or not.
        holds.add(&root(3, &[9]), 8).unwrap();
        assert_eq!(after(&holds, 3, &[9, 8, 7, 6, 5]), [9, 8, 7, 5]);
        assert_eq!(holds.first_to_go(&root(3, &[9, 8, 7, 5])), Some(2));
        assert_eq!(holds.first_to_go(&root(3, &[9, 8, 5])), None);
        assert_eq!(holds.staying(&root(3, &[9, 8, 7, 5])), [9, 8, 5]);
        holds.remove(5);
        assert_eq!(after(&holds, 3, &[9, 8, 7, 6, 5]), [9, 8, 7]);
    }

    #[test]
    fn no_more_are_held_than_a_root_can_list() {
        let mut holds = Holds::default();
        let newest = root(4, &[100]);
        for generation in 1..=8 {
            holds.add(&newest, generation).unwrap();
        }
        assert!(matches!(holds.add(&newest, 9), Err(Error::TooManyHeld { keep: 4, most: 8 })));
        holds.add(&newest, 8).unwrap();
        let all: Vec<u64> = (1..=104).rev().collect();
        assert_eq!(after(&holds, 4, &all), [104, 103, 102, 101, 8, 7, 6, 5, 4, 3, 2, 1]);
        holds.remove(8);
        assert!(holds.add(&newest, 9).is_err(), "it was held twice");
    }
}
