//! How many frames there may be, so that every commit fits the store.
//!
//! A frame may be written to without anybody being asked, so a commit may have to write all of them. When space runs short the store
//! keeps two generations only: the newest, and the one before, which differs from it by at most one commit. So with `R` frames and `S`
//! pages in the newest generation, the next commit fits if `S + R + R` places do, plus tree nodes. Pages that come anew, at most `R`,
//! add to `S`. While a generation is held, what the commits since replaced stays too, `H` places by now and at most `R` more with each
//! commit. `docs/decisions/0102-space-before-pages-get-dirty.md` has the whole argument.

/// What the store says of itself, in places and pages.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Places that it can have.
    pub total: u64,
    /// Pages of the newest generation.
    pub stored: u64,
    /// Places that only held generations need; none if nothing is held.
    pub held: Option<u64>,
}

/// Places that stay out of the account in a store of `total`: for tree nodes (1/64 of the pages in each of the two generations, as much in
/// the commit under way, and what the store keeps back for them), the roots, and what the kernel itself writes.
const fn spare(total: u64) -> u64 {
    1024 + total / 12
}

impl Extent {
    /// The frames that there may be until the next commit: each may be written in this commit and in the next, may hold a page that
    /// the store does not have yet, and may replace one that a held generation needs.
    const fn most(self) -> u64 {
        let (held, times) = match self.held {
            None => (0, 3),
            Some(held) => (held, 4),
        };
        self.total.saturating_sub(spare(self.total)).saturating_sub(self.stored).saturating_sub(held) / times
    }

    /// The least that would do for `resident` frames, in places.
    pub const fn least(self, resident: u64) -> u64 {
        let (held, times) = match self.held {
            None => (0, 3),
            Some(held) => (held, 4),
        };
        let needed =
            self.stored.saturating_add(held).saturating_add(resident.saturating_mul(times)).saturating_add(1024);
        // What is kept back grows with the store.
        needed.saturating_add(needed / 11).saturating_add(2)
    }

    /// The frames that programs may have: an eighth is left to what they write to files, which asks [`Extent::room_for`] and is not
    /// made to wait.
    pub const fn frames(self) -> u64 {
        let most = self.most();
        most - most / 8
    }

    /// Whether `pages` more pages may be written anew before the next commit, with `resident` frames in use.
    pub const fn room_for(self, resident: u64, pages: u64) -> bool {
        self.most() >= resident.saturating_add(pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semper_store::{CreateOptions, PAGE_SIZE, PageIndex, SegmentId, Store};

    #[test]
    fn the_least_that_would_do_does_and_hardly_less() {
        for held in [None, Some(0), Some(70_000)] {
            for (stored, resident) in [(0, 0), (1, 1), (100_000, 5_000), (12_345_678, 1 << 20)] {
                let of = |total| Extent { total, stored, held };
                let least = of(0).least(resident);
                assert!(of(least).room_for(resident, 0), "{stored} {resident}");
                assert!(resident == 0 || !of(least - 12).room_for(resident, 0), "{stored} {resident}");
            }
        }
    }

    /// The worst that programs can do: every frame is written before every commit, every frame that may be had is taken for a page that
    /// is new, and old pages are brought back only to be written. No commit may fail, up to the standstill.
    #[test]
    fn no_commit_fails_for_want_of_space_whatever_the_programs_do() {
        for (size, seed, hold) in [(24 << 20, 1, false), (48 << 20, 2, false), (32 << 20, 3, true), (64 << 20, 4, true)]
        {
            let dir = tempfile::tempdir().unwrap();
            let options = CreateOptions { size_bytes: size, ..CreateOptions::default() };
            let store = Store::create(dir.path(), &options).unwrap();
            let total = store.space().total;
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut resident, mut pages) = (Vec::<u64>::new(), 0_u64);
            let most = |store: &Store| {
                let stored = store.generations()[0].pages;
                Extent { total, stored, held: store.held_places() }.most()
            };
            let mut quota = most(&store);
            let mut held = None;
            let mut page = [0; PAGE_SIZE];
            for round in 1..160_u64 {
                // Clean after the commit, some are evicted, in the worst case none; then come new pages or old ones.
                let keep = if round % 3 == 0 { quota / 2 } else { quota.max(resident.len() as u64) };
                while resident.len() as u64 > keep {
                    resident.swap_remove(random.usize(..resident.len()));
                }
                while (resident.len() as u64) < quota {
                    if pages > 0 && random.u8(..4) == 0 {
                        let old = random.u64(..pages);
                        if resident.contains(&old) {
                            continue;
                        }
                        resident.push(old);
                    } else {
                        // Far apart, so that nodes are as poor as they get.
                        resident.push(pages);
                        pages += 1;
                    }
                }
                let mut commit = store.begin().unwrap();
                for index in &resident {
                    page[..8].copy_from_slice(&(round << 32 | index).to_le_bytes());
                    page[8] = 1;
                    commit.put(SegmentId(index % 700), PageIndex(index / 700 * 1000), &page).unwrap();
                }
                commit
                    .commit()
                    .unwrap_or_else(|e| panic!("round {round}, {} frames, {pages} pages: {e}", resident.len()));
                // Held for some rounds, as by a backup, and not while there is no room for it.
                if hold && round % 20 == 5 {
                    held = store.hold(store.generation()).ok().filter(|_| most(&store) >= resident.len() as u64);
                } else if round % 20 == 17 {
                    held = None;
                }
                quota = most(&store);
            }
            drop(held);
            let left = total - spare(total) - store.generations()[0].pages;
            assert!(
                left < total / if hold { 8 } else { 20 },
                "the edge was not reached: {left} of {total} places are left"
            );
        }
    }
}
