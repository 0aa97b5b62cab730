//! Rot deep in the newest generation: it is left for an older one that is whole, and never silently.
//!
//! * While the world is loaded (segment 0, what a domain needs to come back): [`step_back`], at once, as often as it takes.
//! * Later (the walk for free space, a commit, a page fault of a program): [`Watch`]. From the moment at which damage is met nothing is
//!   committed, so that no end by SIGBUS becomes durable. If an older generation is whole there, that is noted in the store for the next
//!   resume and the world ends. If none is and it is a program's page, the world goes on, and only who touches the page suffers.

use super::RuntimeError;
use semper_store::{Fault, Generation, Store};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

/// Leaves the newest generation, in which damage was met while it was loaded, for an older one; none if no damage was met or none is
/// whole. Says in `notes` what was left and why.
///
/// # Errors
/// When the choice cannot be noted, or the store cannot be opened anew.
pub fn step_back(store: &Store, notes: &mut Vec<String>) -> Result<Option<Store>, RuntimeError> {
    let Some(fault) = store.damage() else { return Ok(None) };
    let Some(to) = store.whole_before(&fault) else { return Ok(None) };
    notes.push(left(store, &fault, to));
    store.leave_newer_than(to, &fault.to_string())?;
    Ok(Some(store.reopen()?))
}

/// The sentence about a generation that is left.
fn left(store: &Store, fault: &Fault, to: Generation) -> String {
    let newest = store.generation();
    let age = |generation| {
        let kept = store.generations().into_iter().find(|kept| kept.generation == generation)?;
        SystemTime::now().duration_since(kept.committed_at).ok()
    };
    let lost = age(to).zip(age(newest)).map_or_else(String::new, |(to, newest)| {
        let seconds = to.saturating_sub(newest).as_secs_f64();
        format!(" What happened in the {seconds:.1} s between them is lost.")
    });
    format!("{newest} is left for {to}, because it is damaged: {fault}.{lost}")
}

/// How the watch stands.
enum State {
    /// The world is being loaded: [`step_back`] answers.
    Loading,
    /// No damage was met that has not been answered.
    Sound,
    /// Damage was met, and what to do is being found out: nothing may be committed.
    Looking,
    /// The world ends.
    Ending(End),
    /// No kept generation is whole: whoever touches the page is told.
    Hopeless,
}

/// Why a world ended because of damage.
#[derive(Clone, Debug)]
pub struct End {
    /// What was found, and what becomes of it, in sentences.
    pub what: String,
    /// What to do now.
    pub advice: String,
    /// Whether a resume goes on from an older generation by itself.
    pub resumes: bool,
    /// Whether this life had committed nothing yet: going back at once takes nothing from anybody.
    pub early: bool,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.advice)
    }
}

/// Watches for damage in a running world.
pub struct Watch {
    dir: PathBuf,
    store: Arc<Store>,
    /// The newest generation when the world was loaded.
    loaded: Generation,
    state: Mutex<State>,
    decided: Condvar,
    end: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Watch {
    /// Over this store, whose world is being loaded.
    pub fn new(dir: &Path, store: Arc<Store>) -> Arc<Self> {
        let loaded = store.generation();
        let (state, decided) = (Mutex::new(State::Loading), Condvar::new());
        Arc::new(Self { dir: dir.to_path_buf(), store, loaded, state, decided, end: OnceLock::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world runs from now on; `end` ends it.
    pub fn arm(self: &Arc<Self>, end: impl Fn() + Send + Sync + 'static) {
        let _ = self.end.set(Box::new(end));
        {
            let mut state = self.lock();
            if matches!(*state, State::Loading) {
                *state = State::Sound;
            }
        }
        // The walk, or a program that runs already, may have met it before.
        self.look();
        if matches!(*self.lock(), State::Ending(_)) {
            self.end_soon();
        }
    }

    /// Called when a call to the store has failed, before anybody hears of that: if it failed because of damage, what to do is found out.
    pub fn look(self: &Arc<Self>) {
        if self.store.damage().is_none() {
            return;
        }
        {
            let mut state = self.lock();
            if !matches!(*state, State::Sound) {
                return;
            }
            *state = State::Looking;
        }
        let watch = Arc::downgrade(self);
        let decide = move || {
            if let Some(watch) = Weak::upgrade(&watch) {
                watch.decide();
            }
        };
        if std::thread::Builder::new().name("rot".to_owned()).spawn(decide).is_err() {
            // No thread to be had: here, then; the caller waits.
            self.decide();
        }
    }

    /// A program that is told again what it was told does something else: nothing of that is committed, and the world ends.
    pub fn differs(self: &Arc<Self>, why: &str) {
        let (dir, generation) = (self.dir.display(), self.store.generation().0);
        let advice = format!(
            "Nothing of it is committed. Go on from generation {generation}, without what came after it: semper resume {dir} --generation \
             {generation}"
        );
        let early = self.store.generation() == self.loaded;
        let armed = {
            let mut state = self.lock();
            let armed = !matches!(*state, State::Loading);
            if matches!(*state, State::Ending(_)) {
                return;
            }
            *state = State::Ending(End { what: format!("{why}."), advice, resumes: false, early });
            armed
        };
        if armed {
            self.end_soon();
        }
    }

    /// Ends the world in a thread of its own: who found out may be in the middle of a call of a program's.
    fn end_soon(self: &Arc<Self>) {
        let watch = Arc::clone(self);
        let end = move || {
            if let Some(end) = watch.end.get() {
                end();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("end".to_owned()).spawn(end) {
            tracing::error!(%error, "the world cannot be ended");
        }
    }

    /// Whether a commit may be made now; if not, why.
    pub fn may_commit(&self) -> Result<(), String> {
        match &*self.lock() {
            State::Loading | State::Sound | State::Hopeless => Ok(()),
            State::Looking => Err("damage was met in the store, and is being looked at".to_owned()),
            State::Ending(end) => Err(end.to_string()),
        }
    }

    /// Why the world ends, if it does; waits while that is being found out.
    pub fn ending(&self) -> Option<End> {
        let mut state = self.lock();
        while matches!(*state, State::Looking) {
            state = self.decided.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let State::Ending(end) = &*state { Some(end.clone()) } else { None }
    }

    fn decide(&self) {
        let Some(fault) = self.store.damage() else { return };
        let next = self.decision(&fault);
        let ends = matches!(next, State::Ending(_));
        *self.lock() = next;
        self.decided.notify_all();
        if ends && let Some(end) = self.end.get() {
            end();
        }
    }

    fn decision(&self, fault: &Fault) -> State {
        let early = self.store.generation() == self.loaded;
        let ending = |what, advice, resumes| State::Ending(End { what, advice, resumes, early });
        let dir = self.dir.display();
        match self.store.whole_before(fault) {
            Some(to) => {
                let what = left(&self.store, fault, to);
                match self.store.leave_newer_than(to, &fault.to_string()) {
                    Ok(()) => ending(what, format!("Go on with: semper resume {dir}"), true),
                    Err(e) => {
                        let n = to.0;
                        let advice =
                            format!("That cannot be noted ({e}). Go on with: semper resume {dir} --generation {n}");
                        ending(what, advice, false)
                    }
                }
            }
            None if fault.page.is_some() => {
                tracing::error!(
                    "{fault}; it is so in every kept generation: the program that touches this page gets SIGBUS"
                );
                State::Hopeless
            }
            None => {
                let what = format!("Nothing can be committed any more: {fault}, and no older generation is whole.");
                ending(what, format!("Go back to a copy of the store; semper check {dir} lists all damage."), false)
            }
        }
    }
}
