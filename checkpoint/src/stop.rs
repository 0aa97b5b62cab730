//! Stopping the world, and how long it stood.

use crate::clock::Clock;
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
    pub longest: Duration,
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

    /// Thaws; gives how long the stop was.
    pub fn thaw(self) -> Duration {
        let (clock, since) = (self.clock, self.since);
        drop(self);
        clock.now() - since
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

/// The world runs so long between two stops of `stop` at each level: 1/2, 2/3, 3/4... of the time it stands.
fn run_time(stop: Duration, level: u32) -> Duration {
    stop / level.max(1)
}

/// Runs `work` while a second thread stops the world again and again, so that it writes less than `work` copies.
pub(crate) fn throttled<T>(
    (world, clock): (&dyn World, &dyn Clock),
    (stop, level): (Duration, u32),
    stops: &mut Stops,
    work: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    let taken = Mutex::new(Vec::new());
    let result = std::thread::scope(|scope| {
        // However `work` ends, the second thread ends too, or the scope would wait for ever.
        let _end = SetOnDrop(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                // A freeze that fails here costs nothing: the rounds are only less likely to shrink.
                if let Ok(stopped) = Stopped::now(world, clock) {
                    clock.sleep(stop);
                    let time = stopped.thaw();
                    taken.lock().unwrap_or_else(PoisonError::into_inner).push(time);
                }
                clock.sleep(run_time(stop, level));
            }
        });
        work()
    });
    for time in taken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        stops.add(time);
        stops.throttles += 1;
    }
    result
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
