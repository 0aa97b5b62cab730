//! Time as domains see it: monotonic across restarts, and the processor time of one domain.

use crate::linux::Clock;
use nix::libc;
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The world's clock: the machine's monotonic clock plus an offset that is fixed for one life of the runtime.
#[derive(Debug, Default)]
pub struct WorldClock {
    offset: AtomicI64,
}

impl WorldClock {
    /// Continues a world that read `monotonic` when the wall clock read `wall` (nanoseconds): the time it lay still counts as
    /// elapsed, a wall clock that went back counts as none.
    pub fn continue_from(&self, monotonic: u64, wall: u64) {
        let away = nanos(read(ClockId::CLOCK_REALTIME)).saturating_sub(wall);
        let now = nanos(read(ClockId::CLOCK_MONOTONIC));
        let offset = monotonic.saturating_add(away).wrapping_sub(now);
        self.offset.store(offset.cast_signed(), SeqCst);
    }

    /// Domain monotonic time minus the machine's, nanoseconds.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset.load(SeqCst)
    }

    /// Domain monotonic time.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        let now = nanos(read(ClockId::CLOCK_MONOTONIC));
        Duration::from_nanos(now.wrapping_add_signed(self.offset()))
    }

    /// Domain monotonic time is not before this.
    pub fn at_least(&self, time: Duration) {
        let behind = nanos(time.saturating_sub(self.monotonic()));
        self.offset.fetch_add(behind.cast_signed(), SeqCst);
    }

    /// Both clocks in nanoseconds, as they are kept in the world's record.
    #[must_use]
    pub fn reading(&self) -> (u64, u64) {
        (nanos(self.monotonic()), nanos(read(ClockId::CLOCK_REALTIME)))
    }
}

/// One domain's view of it.
#[derive(Debug)]
pub struct DomainClock {
    world: Arc<WorldClock>,
    pid: AtomicI32,
    used: AtomicU64,
}

impl DomainClock {
    /// A clock for a domain that had used `used` nanoseconds of processor time.
    #[must_use]
    pub fn new(world: Arc<WorldClock>, used: u64) -> Self {
        Self { world, pid: AtomicI32::new(0), used: AtomicU64::new(used) }
    }

    /// It has used as much as this, or more.
    pub fn at_least(&self, used: Duration) {
        let behind = nanos(used.saturating_sub(self.cpu()));
        self.used.fetch_add(behind, SeqCst);
    }

    /// The domain lives in process `pid` from now on; what the former one used is kept.
    pub fn moved_to(&self, pid: i32) {
        self.used.store(nanos(self.cpu()), SeqCst);
        self.pid.store(pid, SeqCst);
    }
}

impl Clock for DomainClock {
    fn monotonic(&self) -> Duration {
        self.world.monotonic()
    }

    fn realtime(&self) -> Duration {
        read(ClockId::CLOCK_REALTIME)
    }

    fn cpu(&self) -> Duration {
        let used = Duration::from_nanos(self.used.load(SeqCst));
        let pid = self.pid.load(SeqCst);
        if pid == 0 {
            return used;
        }
        let mut clock: libc::clockid_t = 0;
        // SAFETY: `clock` is a valid place for the answer; a process that is gone gives an error.
        if unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } != 0 {
            return used;
        }
        used + read(ClockId::from_raw(clock))
    }
}
