//! A server and the process that it serves, on one core while others want the cores: only one of the two ever runs, and handing over on
//! a core costs a fifth of waking another one, more where that one has to be taken from somebody.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use std::time::Duration;

/// How long they stay there without handing over: who computes for longer may run where there is room.
pub const STAY: Duration = Duration::from_millis(3);

/// The calling thread.
const MYSELF: Pid = Pid::from_raw(0);

/// Of one thread that serves.
#[derive(Default)]
pub struct Together {
    /// With whom, and the cores that both may run on otherwise.
    with: Option<(i32, CpuSet)>,
}

impl Together {
    /// Whether they are.
    pub const fn is_so(&self) -> bool {
        self.with.is_some()
    }

    /// The process, and the calling thread, stay on this core. It is no error if the host does not want that.
    pub fn gather(&mut self, process: i32) {
        if self.with.is_some_and(|(with, _)| with == process) {
            return;
        }
        self.part();
        let mut here = || {
            let all = sched_getaffinity(MYSELF)?;
            let mut one = CpuSet::new();
            one.set(sched_getcpu()?)?;
            sched_setaffinity(Pid::from_raw(process), &one)?;
            self.with = Some((process, all));
            sched_setaffinity(MYSELF, &one)
        };
        if let Err(error) = here() {
            tracing::debug!(%error, process, "a core of their own");
        }
    }

    /// They run where the host likes.
    pub fn part(&mut self) {
        let Some((process, all)) = self.with.take() else { return };
        for one in [MYSELF, Pid::from_raw(process)] {
            if let Err(error) = sched_setaffinity(one, &all) {
                tracing::debug!(%error, process, "back to all cores");
            }
        }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        self.part();
    }
}
