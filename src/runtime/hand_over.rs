//! A world that stands still at a committed generation, until it has moved away or goes on here.

use super::moved::Moved;
use super::{Runtime, RuntimeError};
use semper_store::Generation;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the checkpoint may take after which the world stands.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a checkpoint waits for the end of a stand before it is tried later.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether the world is to stand, or stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stand {
    #[default]
    None,
    /// The next capture is the last.
    Asked,
    /// It was captured, and is not let go.
    Captured,
    Stands,
}

/// What the world's stops look at.
#[derive(Default)]
pub struct Standing {
    stand: Mutex<Stand>,
    /// When the world stopped.
    since: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Standing {
    fn lock(&self) -> MutexGuard<'_, Stand> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a checkpoint has to stop the world, whatever is to be written.
    pub fn is_asked(&self) -> bool {
        *self.lock() == Stand::Asked
    }

    /// Whether the world can be stopped: not as long as it stands.
    pub fn may_freeze(&self) -> bool {
        let stand = self.lock();
        let waited = self.changed.wait_timeout_while(stand, PAUSE, |stand| *stand == Stand::Stands);
        *waited.unwrap_or_else(PoisonError::into_inner).0 != Stand::Stands
    }

    /// The last call before the thaw of a final stop.
    pub fn captured(&self) {
        let mut stand = self.lock();
        if *stand == Stand::Asked {
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            *stand = Stand::Captured;
        }
    }

    /// Whether a thaw is to be left out.
    pub fn keeps(&self) -> bool {
        let mut stand = self.lock();
        if *stand == Stand::Captured {
            *stand = Stand::Stands;
        }
        *stand == Stand::Stands
    }

    /// For how long it has stood.
    pub fn time(&self) -> Duration {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The stand is over; whether the world stood.
    pub fn end(&self) -> bool {
        let stood = std::mem::take(&mut *self.lock()) == Stand::Stands;
        self.changed.notify_all();
        stood
    }

    /// A checkpoint failed; whether the world stood for it, and does not any more.
    pub fn failed(&self) -> bool {
        let mut stand = self.lock();
        let stood = *stand == Stand::Stands;
        if matches!(*stand, Stand::Captured | Stand::Stands) {
            *stand = Stand::Asked;
        }
        stood
    }

    fn ask(&self) -> bool {
        let mut stand = self.lock();
        let free = *stand == Stand::None;
        if free {
            *stand = Stand::Asked;
        }
        free
    }

    fn stands(&self) -> bool {
        *self.lock() == Stand::Stands
    }
}

/// A world that stands. Dropped, it goes on here.
pub struct HandOver {
    runtime: Arc<Runtime>,
    generation: Generation,
    over: bool,
}

impl Runtime {
    /// Has the world stand still at a generation that is committed, with nothing on its way out of it or into its journal.
    ///
    /// # Errors
    /// No checkpoint could be committed, or it stands already: it goes on.
    pub fn hand_over(self: &Arc<Self>) -> Result<HandOver, RuntimeError> {
        if !self.standing.ask() {
            return Err(RuntimeError::Refused("the world is being moved already".to_owned()));
        }
        let mut hand_over = HandOver { runtime: Arc::clone(self), generation: Generation(0), over: false };
        // A checkpoint that was under way when it was asked for did not stop the world for good.
        for _ in 0..3 {
            let committed = self.checkpointer.request().wait(PATIENCE);
            hand_over.generation = committed.map_err(|error| self.explained(error))?;
            if self.standing.stands() {
                self.kernel.settle();
                return Ok(hand_over);
            }
        }
        Err(RuntimeError::Refused("the world did not come to a stand".to_owned()))
    }
}

impl HandOver {
    /// The generation at which it stands.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The world lives elsewhere from now on. It is not let go here any more, and the runtime is to be closed.
    ///
    /// # Errors
    /// It could not be noted: it goes on here, unless the note is there all the same.
    pub fn complete(mut self, moved: &Moved) -> Result<(), RuntimeError> {
        let dir = self.runtime.dir.clone();
        if let Err(source) = moved.note(&dir) {
            // Only what is surely not there lets the world go on.
            self.over = !matches!(Moved::of(&dir), Ok(None));
            return Err(RuntimeError::File { path: dir.join("moved"), source });
        }
        self.over = true;
        moved.note_on_mirrors(&self.runtime.store);
        tracing::info!(
            "the world stood still for {:.0} ms before it moved",
            self.runtime.standing.time().as_secs_f64() * 1e3
        );
        Ok(())
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if self.runtime.standing.end() {
            self.runtime.kernel.thaw();
        }
    }
}
