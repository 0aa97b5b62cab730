//! A program that waits for memory that no checkpoint can give it, or only a few pages at a time, since the store or the disk is full: it
//! is told.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who has waited so long, over more than one commit, is stalled.
const LONG: Duration = Duration::from_millis(500);

/// With fewer frames than these (1 MiB), who waits at each commit gets a few pages and waits again: that is no life, even if he is helped.
const CRAWL: u64 = 256;

/// Looks after each commit whether somebody who waits was given memory since the one before.
pub struct Stall {
    dir: PathBuf,
    /// The pages lie on a block device, which grows by its own tools.
    on_device: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when nobody was helped, and how many had been until then.
    since: Option<(Instant, u64)>,
    /// When somebody waited last.
    waited: Option<Instant>,
    /// What is told.
    told: Option<String>,
}

/// What keeps the frames few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// The size of the store.
    Store,
    /// The file system below it.
    Disk,
    /// The limit on memory, which evictions see to.
    Memory,
}

impl Stall {
    /// Of the store in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        let on_device = super::is_on_device(&dir);
        Self { dir, on_device, state: Mutex::default() }
    }

    /// After a commit at `now`. `starving` is what [`semper_pager::Pager::starving`] says, `frames` how many there may be. Gives the
    /// sentence when a stall begins.
    pub fn look(&self, now: Instant, starving: Option<u64>, short: Short, frames: u64) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let crawls = frames < CRAWL;
        let Some(helped) = starving.filter(|_| short != Short::Memory) else {
            // Who crawls does not wait at every instant.
            if !crawls || state.waited.is_none_or(|waited| now.duration_since(waited) >= LONG) {
                *state = State::default();
            }
            return None;
        };
        state.waited = Some(now);
        match state.since {
            Some((since, before)) if before == helped || crawls => {
                if state.told.is_some() || now.duration_since(since) < LONG {
                    return None;
                }
                state.told = Some(self.sentence(short));
                state.told.clone()
            }
            _ => {
                *state = State { since: Some((now, helped)), waited: Some(now), told: None };
                None
            }
        }
    }

    fn sentence(&self, short: Short) -> String {
        let dir = self.dir.display();
        let larger = format!("make it larger: semper grow {dir} SIZE");
        match short {
            Short::Store if self.on_device => {
                format!(
                    "the store fills its device, and a program waits: make the device larger, then semper grow {dir} SIZE"
                )
            }
            Short::Disk => format!("the disk that {dir} lies on is full, and a program waits: free space on it"),
            Short::Store | Short::Memory => format!("the store is full, and a program waits: {larger}"),
        }
    }

    /// The sentence, while there is a stall.
    pub fn told(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).told.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_once_until_somebody_is_helped() {
        let stall = Stall::new("s".into());
        let start = Instant::now();
        let at = |ms, starving, short| stall.look(start + Duration::from_millis(ms), starving, short, CRAWL);
        assert_eq!((at(0, Some(5), Short::Store), at(400, Some(5), Short::Store)), (None, None));
        // Helped in time.
        assert_eq!((at(500, Some(6), Short::Store), at(900, Some(6), Short::Store)), (None, None));
        let told = at(1000, Some(6), Short::Store).unwrap();
        assert!(told.contains("semper grow s SIZE"), "{told}");
        assert_eq!((at(2000, Some(6), Short::Store), stall.told()), (None, Some(told)));
        assert_eq!((at(2100, None, Short::Store), stall.told()), (None, None));
        assert_eq!((at(2200, Some(6), Short::Disk), at(2600, Some(6), Short::Memory)), (None, None));
        assert_eq!(at(2700, Some(6), Short::Disk), None);
        assert!(at(3200, Some(6), Short::Disk).unwrap().contains("the disk"));
    }

    #[test]
    fn who_gets_a_few_pages_with_each_commit_is_stalled_too() {
        let stall = Stall::new("s".into());
        let start = Instant::now();
        let at = |ms, starving, frames| stall.look(start + Duration::from_millis(ms), starving, Short::Disk, frames);
        assert_eq!((at(0, Some(1), 5), at(250, Some(2), 5), at(300, None, 5)), (None, None, None));
        assert!(at(500, Some(9), 5).is_some());
        // Not again for one instant in which nobody waits, but when that lasts, or there is room, it is over.
        assert_eq!((at(550, None, 5), at(600, Some(11), 5)), (None, None));
        assert!(stall.told().is_some());
        assert_eq!((at(1200, None, 5), stall.told()), (None, None));
        assert_eq!((at(1300, Some(12), 5), at(1900, Some(13), CRAWL), at(2300, Some(14), CRAWL)), (None, None, None));
        assert_eq!(stall.told(), None);
    }
}
