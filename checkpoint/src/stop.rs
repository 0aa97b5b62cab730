//! Stopping the world, and how long it stood.

use crate::clock::Clock;
use crate::plan::Pace;
use crate::world::{FreezeError, World};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the world stood during one checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stops {
    pub count: u32,
    pub throttles: u32,
    /// Of those that captured something.
    pub longest: Duration,
    /// Of those that slowed a writer down.
    pub longest_throttle: Duration,
    pub total: Duration,
}

impl Stops {
    pub fn add(&mut self, time: Duration) {
        self.count += 1;
        self.longest = self.longest.max(time);
        self.total += time;
    }
}

/// The world stands while this lives: dropped by an error or a panic, it thaws.
pub(crate) struct Stopped<'a> {
    world: &'a dyn World,
    clock: &'a dyn Clock,
    since: Duration,
    /// How long the freeze took.
    pub freeze: Duration,
}

impl<'a> Stopped<'a> {
    pub fn now(world: &'a dyn World, clock: &'a dyn Clock) -> Result<Self, FreezeError> {
        let since = clock.now();
        world.freeze()?;
        Ok(Self { world, clock, since, freeze: clock.now() - since })
    }

    /// Thaws; gives how long the stop was. It ends with the first domain that is let go: a domain that is woken may take the core
    /// of whoever woke it, for as long as it likes.
    pub fn thaw(self) -> Duration {
        let time = self.clock.now() - self.since;
        drop(self);
        time
    }

    /// Leaves it stopped for good; gives how long it took to come here.
    pub fn keep(self) -> Duration {
        let time = self.clock.now() - self.since;
        std::mem::forget(self);
        time
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.world.thaw();
    }
}

/// Runs `work` while a second thread stops the world again and again, so that it writes less than `work` copies.
pub(crate) fn throttled<T>(
    (world, clock): (&dyn World, &dyn Clock),
    pace: Pace,
    stops: &mut Stops,
    work: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    let taken = Mutex::new(Vec::new());
    let result = std::thread::scope(|scope| {
        // However `work` ends, the second thread ends too, or the scope would wait for ever.
        let _end = SetOnDrop(&done);
        scope.spawn(|| {
            semper_pager::run_soon();
            while !done.load(Ordering::Acquire) {
                // A freeze that fails here costs nothing: the rounds are only less likely to shrink.
                if let Ok(stopped) = Stopped::now(world, clock) {
                    clock.sleep(pace.stop);
                    let time = stopped.thaw();
                    taken.lock().unwrap_or_else(PoisonError::into_inner).push(time);
                }
                clock.sleep(pace.run);
            }
        });
        work()
    });
    for time in taken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        stops.count += 1;
        stops.throttles += 1;
        stops.total += time;
        stops.longest_throttle = stops.longest_throttle.max(time);
    }
    result
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
