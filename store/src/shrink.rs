//! Making a store smaller while it is in use.
//!
//! 1. Room is made: older generations that nobody holds are dropped, as when space is short. What they have may lie where the newest one is to go.
//!    Then a fence: no place at or beyond the new end is taken any more. It stands between two commits, so that none has taken some before.
//! 2. What the newest generation has beyond is put again, by small commits of its own between those of others. A page that is moved is born
//!    anew, so whoever goes by births (a mirror that comes back, an increment, the account of what older generations need) knows of it.
//! 3. Generations that have something beyond still are dropped like those before. Held ones are not: then the fence is taken away
//!    again, and the store stays as long as it was.
//! 4. Nothing that either slot lists lies beyond: both roots are written with the new number of places, and only then the end is cut off.
//!
//! A death before 4 has changed nothing but where things lie, and one before the cut leaves a file that is longer than its roots say.

use crate::canary::Canary;
use crate::commit::Commit;
use crate::crash::crash_point;
use crate::error::Error;
use crate::ids::{Generation, PAGE_SIZE, PageIndex, SegmentId};
use crate::node::{BlockRef, Key, Slot};
use crate::open::places_for;
use crate::reserve::nodes_for;
use crate::root::{FIRST_PLACE, Root};
use crate::shared::{Map, Shared};
use crate::space::{Space, spare};
use crate::store::Store;
use crate::tags;
use crate::tree::{Reader, adjacent};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The most pages that one commit moves: 4 MiB, for which a commit of somebody else's waits.
const MOST_AT_ONCE: u64 = 1024;

/// The most pages that are read by one call.
const SPAN: usize = 256;

const ALREADY: &str = "the store is being made smaller already: semper status shows how far it is";

/// Every place of [`Store::shrink`] at which a test can have the process killed, in order; with those of the commits in it.
pub const SHRINK_CRASH_POINTS: &[&str] =
    &["shrink-pushed", "shrink-fenced", "shrink-moved", "shrink-emptied", "shrink-rooted", "shrink-cut"];

/// How far a store is that is being made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shrinking {
    /// The places that it is to have.
    pub places: u64,
    /// Places in use that lie beyond them yet.
    pub beyond: u64,
}

/// What is called between two steps, while commits can be made; a break takes everything back but what was moved.
pub type BetweenSteps<'b> = dyn FnMut(Shrinking) -> ControlFlow<()> + 'b;

impl Store {
    /// How far it is, if the store is being made smaller.
    #[must_use]
    pub fn shrinking(&self) -> Option<Shrinking> {
        let books = self.shared.books();
        let Map::Known(space) = &books.map else { return None };
        let state = state(space);
        (state.places < space.map().places()).then_some(state)
    }

    /// Makes the store smaller. Others may go on with it: each step, between two of which `between` is called, is one small commit. When this
    /// returns, the file has that length, durably.
    ///
    /// # Errors
    /// [`Error::BadSize`]; [`Error::DoesNotFit`], with numbers; [`Error::StillHeld`], with who holds what; [`Error::Shrink`] if it is being made
    /// smaller already, or was told to stop or to grow meanwhile; [`Error::Corrupt`] if what is to be moved does not hold; as a commit. The store is
    /// then as it was, but for where things lie.
    pub fn shrink(&self, size_bytes: u64, between: &mut BetweenSteps<'_>) -> Result<(), Error> {
        self.shared.check_writable()?;
        let places = places_for(size_bytes)?;
        if places > self.shared.current().root.places {
            let why = "it has fewer, and shrinking does not make it larger: semper grow does";
            return Err(Error::BadSize { bytes: size_bytes, why });
        }
        self.wait_for_map()?;
        if needed(&self.shared, places) > places {
            return Err(does_not_fit(&self.shared, places));
        }
        let done = self.shrink_to(places, between);
        // What fits by the numbers may still not, beside what others write meanwhile.
        done.map_err(|e| if matches!(e, Error::Full { .. }) { does_not_fit(&self.shared, places) } else { e })
    }

    fn shrink_to(&self, places: u64, between: &mut BetweenSteps<'_>) -> Result<(), Error> {
        if self.shrinking().is_some() {
            return Err(Error::Shrink(ALREADY));
        }
        if places == self.shared.current().root.places {
            // At most the cut was not made.
            return self.cut_off(places);
        }
        self.make_room()?;
        let fence = Fence::raise(&self.shared, places)?;
        crash_point("shrink-fenced");
        self.empty(&fence, between)?;
        self.cut(&fence)
    }

    /// Lets all generations go but the newest, under two numbers, and held ones.
    fn make_room(&self) -> Result<(), Error> {
        self.begin()?.commit()?;
        crash_point("shrink-pushed");
        let _writer = self.shared.start_writing();
        self.shared.check_writable()?;
        self.drop_older()
    }

    /// Moves what the newest generation has beyond the fence, and lets no other be among the newest two.
    fn empty(&self, fence: &Fence<'_>, between: &mut BetweenSteps<'_>) -> Result<(), Error> {
        let mut from = Some(Key::MIN);
        while fence.go_on(between)? > 0
            && let Some(key) = from
        {
            from = match self.move_some(fence.places, key) {
                // What was committed last may have freed much that the one before has still.
                Err(Error::Full { .. }) => self.make_room().and_then(|()| self.move_some(fence.places, key))?,
                moved => moved?,
            };
            crash_point("shrink-moved");
        }
        let moved = self.generation();
        if fence.go_on(between)? > 0 && self.generation() == moved {
            self.begin()?.commit()?;
            crash_point("shrink-pushed");
        }
        Ok(())
    }

    /// Moves some blocks that the newest generation has at or beyond `limit`, from the key `from` on; gives the key to go on from.
    fn move_some(&self, limit: u64, from: Key) -> Result<Option<Key>, Error> {
        let most = crate::width::to_usize(at_once(limit));
        let found = loop {
            let seen = self.shared.current();
            let newest = seen.root.newest();
            let reader = self.shared.reader(newest.generation);
            let mut find = Find { reader, limit, most, from, keys: BTreeMap::new() };
            let walked = match newest.tree.height {
                0 => Ok(ControlFlow::Continue(())),
                height => find.node(newest.tree.root, height - 1),
            };
            match walked {
                Err(e) if e.is_corrupt() && self.superseded(&seen) => {}
                other => break (find.keys, other?),
            }
        };
        let (keys, flow) = found;
        if !keys.is_empty() {
            let mut commit = self.begin()?;
            if put_again(&self.shared, &mut commit, &keys, limit)? {
                commit.commit()?;
            }
        }
        Ok(flow.break_value())
    }

    /// Lets older generations go that have something beyond the fence, and ends the store there.
    fn cut(&self, fence: &Fence<'_>) -> Result<(), Error> {
        let (shared, places) = (&self.shared, fence.places);
        let _writer = shared.start_writing();
        shared.check_writable()?;
        shared.settle_if_needed()?;
        if fence.state()?.beyond > 0 {
            self.drop_older()?;
        }
        if fence.state()?.beyond > 0 {
            return Err(still_held(shared, places));
        }
        crash_point("shrink-emptied");
        let _one = shared.start_resizing();
        fence.state()?;
        if Canary::CutFirst.planted(shared.canary) {
            self.cut_off(places)?;
        }
        shared.amend(|root| root.places = places);
        shared.settle(|_| ())?;
        crash_point("shrink-rooted");
        if let Map::Known(space) = &mut shared.books().map {
            space.cut();
        }
        self.cut_off(places)?;
        crash_point("shrink-cut");
        Ok(())
    }

    fn cut_off(&self, places: u64) -> Result<(), Error> {
        let cut = self.shared.disk.cut(places * PAGE_SIZE as u64);
        cut.map_err(|e| Error::io("cut the store off at its new end", e))
    }

    /// Lets all generations go but the newest two and held ones.
    fn drop_older(&self) -> Result<(), Error> {
        let shared = &self.shared;
        if let (true, Map::Known(space)) = (Canary::CutOlder.planted(shared.canary), &mut shared.books().map) {
            let newest = shared.current().root.newest().generation;
            [0, 1].into_iter().for_each(|slot| space.listed(slot, vec![newest]));
            return Ok(());
        }
        let staying = shared.holds().staying(&shared.current().root);
        shared.settle(|root| root.kept.retain(|kept| staying.contains(&kept.generation)))
    }
}

fn state(space: &Space) -> Shrinking {
    Shrinking { places: space.map().fence(), beyond: space.map().beyond() }
}

/// The pages that one commit moves: few in a small store, where commits compete for space.
fn at_once(places: u64) -> u64 {
    (places / 64).clamp(16, MOST_AT_ONCE)
}

/// Nothing is taken at or beyond `places` as long as it lives.
struct Fence<'a> {
    shared: &'a Shared,
    places: u64,
}

impl<'a> Fence<'a> {
    fn raise(shared: &'a std::sync::Arc<Shared>, places: u64) -> Result<Self, Error> {
        // What a commit that is under way has taken may lie beyond.
        let _writer = shared.start_writing();
        let mut books = shared.books();
        let Map::Known(space) = &mut books.map else { unreachable!("it was waited for the map") };
        if space.map().fence() < space.map().places() {
            return Err(Error::Shrink(ALREADY));
        }
        space.set_fence(places);
        Ok(Self { shared, places })
    }

    fn state(&self) -> Result<Shrinking, Error> {
        let books = self.shared.books();
        let Map::Known(space) = &books.map else { unreachable!("the fence stands in the map") };
        let state = state(space);
        if state.places == self.places {
            return Ok(state);
        }
        Err(Error::Shrink("the store was told to grow meanwhile: it is not made smaller"))
    }

    /// What is left, if it is still to be done.
    fn go_on(&self, between: &mut BetweenSteps<'_>) -> Result<u64, Error> {
        self.shared.check_writable()?;
        let state = self.state()?;
        if between(state).is_break() {
            return Err(Error::Shrink(
                "it was stopped before the store was smaller; what was moved stays where it is now",
            ));
        }
        Ok(self.state()?.beyond)
    }
}

impl Drop for Fence<'_> {
    fn drop(&mut self) {
        if let Map::Known(space) = &mut self.shared.books().map
            && space.map().fence() == self.places
        {
            space.set_fence(space.map().places());
        }
    }
}

/// Places that a store needs that is to be no larger than `places`: what the newest generation and held ones use and what is promised, with what a
/// commit that moves and the one before it write, and what is kept back for nodes.
fn needed(shared: &Shared, places: u64) -> u64 {
    let snapshot = shared.current();
    let (newest, most) = (snapshot.root.newest(), at_once(places));
    let moves = most + nodes_for(most, newest.nodes, newest.tree.height);
    in_use(shared, &snapshot.root) + 2 * moves + spare(places)
}

fn in_use(shared: &Shared, root: &Root) -> u64 {
    let newest = root.newest();
    let held = shared.held_places().unwrap_or(0);
    FIRST_PLACE + newest.pages + newest.nodes + held + shared.books().reserved
}

fn does_not_fit(shared: &Shared, places: u64) -> Error {
    let mut least = needed(shared, places);
    // A larger store keeps more back.
    while let more = needed(shared, least)
        && more > least
    {
        least = more;
    }
    let [bytes, used, needed] =
        [places, in_use(shared, &shared.current().root), least].map(|places| places * PAGE_SIZE as u64);
    Error::DoesNotFit { bytes, used, needed }
}

fn still_held(shared: &Shared, places: u64) -> Error {
    let books = shared.books();
    let Map::Known(space) = &books.map else { unreachable!("the fence stands in the map") };
    let all = shared.mirrored.as_ref().and_then(|sides| tags::read(sides).ok()).unwrap_or_default();
    let who = space.beyond().into_iter().map(|generation| {
        let names = all.iter().filter(|tag| tag.generation.0 == generation).map(|tag| format!("tag `{}`", tag.name));
        let names: Vec<String> = names.collect();
        let by = if names.is_empty() { "being read".to_owned() } else { names.join(", ") };
        format!("{} ({by})", Generation(generation))
    });
    Error::StillHeld { bytes: places * PAGE_SIZE as u64, who: who.collect::<Vec<_>>().join(", ") }
}

/// Looks for blocks at or beyond a limit.
struct Find<'a> {
    reader: Reader<'a>,
    limit: u64,
    most: usize,
    from: Key,
    /// Pages to be put again; true: whether or not they lie beyond, since a node above them does.
    keys: BTreeMap<Key, bool>,
}

impl Find<'_> {
    /// Breaks, with the key to go on from, when enough was found.
    fn node(&mut self, block: BlockRef, level: u8) -> Result<ControlFlow<Key>, Error> {
        let node = self.reader.node(block, level)?;
        if block.place >= self.limit {
            // The first key of a node is that of a page, and who puts that writes all nodes above it anew.
            self.keys.insert(node.key(0), true);
        }
        let start = if level == 0 { node.below(self.from) } else { node.child_for(self.from) };
        for slot in (start..node.count()).map(|at| node.slot(at)) {
            if self.keys.len() >= self.most {
                return Ok(ControlFlow::Break(slot.key.max(self.from)));
            }
            if level > 0 {
                let flow = self.node(slot.block, level - 1)?;
                if flow.is_break() {
                    return Ok(flow);
                }
            } else if slot.block.place >= self.limit {
                self.keys.entry(slot.key).or_insert(false);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Puts pages again that are there still, and whether there were any.
fn put_again(shared: &Shared, commit: &mut Commit, keys: &BTreeMap<Key, bool>, limit: u64) -> Result<bool, Error> {
    let snapshot = shared.current();
    let newest = snapshot.root.newest();
    let reader = shared.reader(newest.generation);
    let mut slots: Vec<Slot> = Vec::new();
    for (key, &always) in keys {
        reader.visit(newest.tree, *key, Key { page: key.page + 1, ..*key }, &mut |slot| {
            if always || slot.block.place >= limit {
                slots.push(slot);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    for run in slots.chunk_by(adjacent).flat_map(|run| run.chunks(SPAN)) {
        let mut bytes = vec![0; run.len() * PAGE_SIZE];
        // Checked: what is rotten is not made good by a new checksum.
        reader.pages(run, &mut bytes)?;
        commit.put(SegmentId(run[0].key.segment), PageIndex(run[0].key.page), &bytes)?;
    }
    Ok(!slots.is_empty())
}
