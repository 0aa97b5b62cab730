//! Mirrors of a running world: brought up to date beside it, and again when they come back.

use super::{Runtime, RuntimeError, loan};
use semper_domains::console::Beside;
use semper_store::{Block, MirrorState, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are copied to a mirror in a second, if nothing else is said: the disks are there for the world first.
pub const DEFAULT_MIRROR_RATE: u64 = 128 << 20;

/// How often it is looked whether a mirror is back.
const EVERY: Duration = Duration::from_millis(500);

/// The first wait after a mirror could not be brought up to date; each one that follows is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A side of a store, as `status` shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Side {
    /// Its number.
    pub number: u32,
    /// Its directory.
    pub dir: String,
    /// `whole`, `filling` or `away`.
    pub state: String,
    /// Why it is away.
    pub why: Option<String>,
    /// Bytes copied, and about how many there are to be, while it is brought up to date.
    pub copied: Option<(u64, u64)>,
    /// Blocks that were rotten on it and were written anew since the store was opened.
    pub repaired: u64,
}

/// The sides of a store, its own directory first; empty if it has no mirrors.
#[must_use]
pub fn sides(store: &Store) -> Vec<Side> {
    let shown = |side: semper_store::MirrorStatus| {
        let (state, why, copied) = match side.state {
            MirrorState::Whole => ("whole", None, None),
            MirrorState::Filling { done, total } => ("filling", None, Some((done, total))),
            MirrorState::Away { why } => ("away", Some(why), None),
        };
        let (dir, repaired) = (side.place.display().to_string(), side.mended);
        Side { number: side.number, dir, state: state.to_owned(), why, copied, repaired }
    };
    store.mirrors().into_iter().map(shown).collect()
}

/// What the thread that looks after mirrors is told.
#[derive(Default)]
struct Told {
    stopped: bool,
    /// Bytes in a second, by the number of the mirror, for those of which it was said.
    rates: BTreeMap<u32, u64>,
    /// What failed, when it is to be tried again, and how long the wait after that is.
    waits: BTreeMap<Work, (Instant, Duration)>,
}

/// What the thread does, one thing at a time.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Work {
    /// Copies what a forked store has from another one.
    Loan,
    /// Brings the mirror of this number up to date.
    Mirror(u32),
}

impl Told {
    /// Whether something is to be done now.
    fn is_due(&self, work: Work) -> bool {
        !self.stopped && self.waits.get(&work).is_none_or(|(at, _)| *at <= Instant::now())
    }

    /// It was done, or has to be tried again.
    fn ended(&mut self, work: Work, done: bool) {
        if done {
            self.waits.remove(&work);
            return;
        }
        let wait = self.waits.get(&work).map_or(FIRST_WAIT, |(_, wait)| *wait);
        self.waits.insert(work, (Instant::now() + wait, (2 * wait).min(LONGEST_WAIT)));
    }
}

/// The thread that looks after the disks of a world.
pub(super) struct Keeper {
    told: Arc<(Mutex<Told>, Condvar)>,
    store: Weak<Store>,
}

impl Keeper {
    pub fn start(console: &Arc<Beside>, store: &Arc<Store>) -> Self {
        console.mirror_to(&store.mirror_dirs());
        let keeper = Self { told: Arc::default(), store: Arc::downgrade(store) };
        let (told, store, console) = (Arc::clone(&keeper.told), Weak::clone(&keeper.store), Arc::clone(console));
        let run = move || {
            while let Some(store) = next(&told, &store) {
                look(&told.0, &console, &store);
            }
        };
        if let Err(error) = thread::Builder::new().name("mirrors".into()).spawn(run) {
            tracing::warn!(%error, "mirrors that come back are not brought up to date");
        }
        keeper
    }

    /// From now on nothing is copied.
    pub fn stop(&self) {
        lock(&self.told.0).stopped = true;
        self.told.1.notify_all();
        if let Some(store) = self.store.upgrade() {
            store.stop_filling();
        }
    }

    /// Whether the world comes to its end.
    pub fn is_stopped(&self) -> bool {
        lock(&self.told.0).stopped
    }

    /// A mirror is to be brought up to date now.
    fn now(&self, number: u32, rate: u64) {
        let mut told = lock(&self.told.0);
        told.rates.insert(number, rate);
        told.waits.remove(&Work::Mirror(number));
        self.told.1.notify_all();
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the next look; none: there is nothing to look after any more.
fn next(told: &(Mutex<Told>, Condvar), store: &Weak<Store>) -> Option<Arc<Store>> {
    let waited = told.1.wait_timeout(lock(&told.0), EVERY).unwrap_or_else(PoisonError::into_inner).0;
    if waited.stopped { None } else { store.upgrade() }
}

fn look(told: &Mutex<Told>, console: &Beside, store: &Store) {
    let due = lock(told).is_due(Work::Loan);
    if due {
        let repaid = loan::repay(store, DEFAULT_MIRROR_RATE);
        lock(told).ended(Work::Loan, repaid);
    }
    store.look_after_mirrors();
    // What a side that is left out has of it is old when it comes back.
    console.mirror_to(&store.mirror_dirs());
    for side in store.mirrors() {
        if !matches!(side.state, MirrorState::Away { .. }) {
            continue;
        }
        let rate = {
            let told = lock(told);
            if !told.is_due(Work::Mirror(side.number)) {
                continue;
            }
            told.rates.get(&side.number).copied().unwrap_or(DEFAULT_MIRROR_RATE)
        };
        console.mirror_to(&store.mirror_dirs());
        let filled = fill_mirror(store, side.number, rate);
        match &filled {
            Ok(()) => {
                tracing::info!("the mirror {} is up to date", side.place.display());
                console.mirror_to(&store.mirror_dirs());
            }
            Err(error) => tracing::info!("the mirror {} is not up to date: {error}", side.place.display()),
        }
        lock(told).ended(Work::Mirror(side.number), filled.is_ok());
    }
}

/// Brings a mirror up to date, at so many bytes in a second, by what it has not; the same of the journal.
///
/// # Errors
/// As [`Store::fill_mirror`].
pub fn fill_mirror(store: &Store, number: u32, rate: u64) -> Result<(), semper_store::Error> {
    store.fill_mirror(number, Some(rate), &|side, whole| semper_journal::kept(side, whole, store.id()))
}

/// What a store at rest in `dir` knows of what left it and of its lives, the others know too: they keep no older word of it.
pub fn hand_down(dir: &Path, store: &Store) {
    Beside::new(dir).mirror_to(&store.mirror_dirs());
}

impl Runtime {
    /// Takes up a directory as a mirror of the store, or as one again; it is brought up to date beside the world, at so many bytes in a second.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn add_mirror(&self, dir: &Path, rate: u64) -> Result<(), RuntimeError> {
        let number = self.store.add_mirror(dir)?;
        self.mirrors.now(number, rate);
        Ok(())
    }

    /// Makes a directory no mirror any more.
    ///
    /// # Errors
    /// When it is none, or the only one that has everything.
    pub fn remove_mirror(&self, dir: &Path) -> Result<(), RuntimeError> {
        Ok(self.store.remove_mirror(dir)?)
    }

    /// As [`Store::mend`].
    #[must_use]
    pub fn mend(&self, block: &Block) -> Option<u32> {
        self.store.mend(block)
    }
}
