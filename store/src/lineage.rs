//! Whose a block is: a store that began as a clone of another one has blocks of that one.

use crate::ids::StoreId;
use crate::width::{put_u64, u64_at};

/// The most stores that a store can come from, one by the other.
pub(crate) const MAX_ANCESTORS: usize = 5;

/// Bytes of a lineage in a root.
pub(crate) const LINEAGE_LEN: usize = MAX_ANCESTORS * ANCESTOR_LEN;

const ANCESTOR_LEN: usize = 24;

/// A store, and the generation up to which its blocks are those of the stores that came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ancestor {
    id: StoreId,
    until: u64,
}

/// The identity of a store, and of those that it was forked from without a copy of their pages. A block is bound to the identity of the store
/// whose commit wrote it, which its birth tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lineage {
    id: StoreId,
    /// Oldest first, by ascending `until`.
    ancestors: Vec<Ancestor>,
}

impl Lineage {
    /// That of a store that began empty.
    pub const fn new(id: StoreId) -> Self {
        Self { id, ancestors: Vec::new() }
    }

    /// The store itself.
    pub const fn id(&self) -> StoreId {
        self.id
    }

    /// Whether all blocks are the store's own.
    pub const fn is_plain(&self) -> bool {
        self.ancestors.is_empty()
    }

    /// The store that a block of generation `birth` is bound to.
    pub fn of(&self, birth: u64) -> StoreId {
        self.ancestors.iter().find(|ancestor| birth <= ancestor.until).map_or(self.id, |ancestor| ancestor.id)
    }

    /// Up to which generation blocks are those of other stores; none if there are no such.
    pub fn inherited(&self) -> Option<u64> {
        self.ancestors.last().map(|ancestor| ancestor.until)
    }

    /// That of a clone, under the name `id`, which goes on from `generation`; none if there are too many ancestors.
    pub fn child(&self, id: StoreId, generation: u64) -> Option<Self> {
        let mut ancestors = self.ancestors.clone();
        // Of what came later the clone has nothing.
        let later = ancestors.iter().position(|ancestor| ancestor.until >= generation);
        match later {
            Some(at) => {
                ancestors.truncate(at + 1);
                ancestors[at].until = generation;
            }
            None => ancestors.push(Ancestor { id: self.id, until: generation }),
        }
        (ancestors.len() <= MAX_ANCESTORS).then_some(Self { id, ancestors })
    }

    /// Writes the ancestors.
    pub fn encode(&self, out: &mut [u8]) {
        for (raw, ancestor) in out.chunks_exact_mut(ANCESTOR_LEN).zip(&self.ancestors) {
            raw[..16].copy_from_slice(&ancestor.id.0);
            put_u64(raw, 16, ancestor.until);
        }
    }

    /// Reads the ancestors of the store `id`; none if they are out of order.
    pub fn decode(id: StoreId, raw: &[u8]) -> Option<Self> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        let mut raws = raw.chunks_exact(ANCESTOR_LEN);
        for raw in raws.by_ref().take_while(|raw| raw.iter().any(|byte| *byte != 0)) {
            let mut id = StoreId([0; 16]);
            id.0.copy_from_slice(&raw[..16]);
            ancestors.push(Ancestor { id, until: u64_at(raw, 16) });
        }
        let ends = raws.all(|raw| raw.iter().all(|byte| *byte == 0));
        let ascend = ancestors.windows(2).all(|pair| pair[0].until < pair[1].until);
        (ends && ascend).then_some(Self { id, ancestors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> StoreId {
        StoreId([n; 16])
    }

    #[test]
    fn a_block_is_bound_to_the_store_whose_commit_wrote_it() {
        let fork = Lineage::new(id(1)).child(id(2), 10).unwrap();
        assert_eq!([fork.of(1), fork.of(10), fork.of(11)], [id(1), id(1), id(2)]);
        let second = fork.child(id(3), 20).unwrap();
        assert_eq!([second.of(10), second.of(11), second.of(20), second.of(21)], [id(1), id(2), id(2), id(3)]);
        // Of a generation that the fork itself has from where it came.
        let early = second.child(id(4), 7).unwrap();
        assert_eq!([early.of(7), early.of(8)], [id(1), id(4)]);
        let at_once = fork.child(id(5), 10).unwrap();
        assert_eq!([at_once.of(10), at_once.of(11)], [id(1), id(5)]);
        assert_eq!((Lineage::new(id(1)).inherited(), second.inherited()), (None, Some(20)));
    }

    #[test]
    fn what_is_written_is_read_and_disorder_refused() {
        let mut line = Lineage::new(id(1));
        for n in 2..=6 {
            line = line.child(id(n), u64::from(n) * 10).unwrap();
        }
        assert_eq!(line.child(id(7), 70), None, "too many");
        let mut raw = [0; LINEAGE_LEN];
        line.encode(&mut raw);
        assert_eq!(Lineage::decode(id(6), &raw), Some(line));
        let mut disordered = raw;
        disordered.copy_within(24..48, 48);
        assert_eq!(Lineage::decode(id(6), &disordered), None);
        raw[24..48].fill(0);
        assert_eq!(Lineage::decode(id(6), &raw), None, "a hole");
    }
}
