//! Processes, loaded domains and open segments are caches with limits: who waits for a process, who has to go.

use super::ExecutiveError;
use super::domain::Native;
use super::turn::Turn;
use crate::table::RecordId;
use nix::sys::resource::{Resource, getrlimit};
use semper_store::SegmentId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How long a domain keeps its process while others wait for one.
const SLICE: Duration = Duration::from_millis(20);
/// Loaded domains for each process that there may be.
const LOADED_PER_PROCESS: usize = 4;
/// The least number of loaded domains that there may be.
const LEAST_LOADED: usize = 16;
/// Segments that stay open though no process maps them, at most.
const OPEN_SEGMENTS: usize = 2048;
/// Descriptors that may be open, if the system does not say.
const DESCRIPTORS: u64 = 1024;

/// The domains that may execute and have no process to do it in, first come first served.
#[derive(Default)]
pub(super) struct Ready {
    queue: VecDeque<RecordId>,
    members: BTreeSet<u64>,
}

impl Ready {
    /// Puts a domain at the end, if it does not wait already.
    pub fn push(&mut self, id: RecordId) {
        if self.members.insert(id.as_u64()) {
            self.queue.push_back(id);
        }
    }

    fn first(&self) -> Option<RecordId> {
        self.queue.front().copied()
    }

    fn pop(&mut self) {
        if let Some(id) = self.queue.pop_front() {
            self.members.remove(&id.as_u64());
        }
    }

    /// Whether it waits.
    pub fn has(&self, id: RecordId) -> bool {
        self.members.contains(&id.as_u64())
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Who waits.
    pub fn iter(&self) -> impl Iterator<Item = RecordId> + '_ {
        self.queue.iter().copied()
    }
}

/// The segments that the executive opened, and the turn in which each was used last.
pub(super) struct OpenSegments {
    used: BTreeMap<u64, u64>,
    /// So many stay open while nobody maps them.
    limit: usize,
    /// From so many on nothing is served before a commit lets some be closed.
    most: usize,
    /// Nothing is served until a generation after this one is durable.
    held_at: Option<u64>,
}

impl OpenSegments {
    /// With limits of this process.
    pub fn new() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(DESCRIPTORS, |(soft, _)| soft);
        let most = usize::try_from(descriptors / 2).unwrap_or(usize::MAX).min(1 << 20);
        Self { used: BTreeMap::new(), limit: OPEN_SEGMENTS.min(most / 2), most, held_at: None }
    }

    /// A segment is used in this turn.
    pub fn note(&mut self, number: u64, turn: u64) {
        self.used.insert(number, turn);
    }

    /// A segment is gone.
    pub fn forget(&mut self, number: u64) {
        self.used.remove(&number);
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.used.len()
    }
}

/// How full the caches are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caches {
    /// Processes of native domains.
    pub processes: usize,
    /// As many as there may be.
    pub process_limit: usize,
    /// The most that there were at once in this life of the runtime.
    pub most_processes: usize,
    /// Domains that may execute and wait for a process.
    pub waiting: usize,
    /// Domains whose control pages are in memory.
    pub loaded: usize,
    /// As many may stay there without having changed since the last checkpoint.
    pub loaded_limit: usize,
    /// Segments that are open.
    pub segments: usize,
    /// As many stay open while no process maps them, once they are in the store.
    pub segment_limit: usize,
    /// Messages and faults that were served.
    pub served: u64,
    /// Of how many of them it was measured how long the kernel took.
    pub timed: u64,
    /// How long that was in all, in nanoseconds: the transactions and their effects, until the domains concerned may go on.
    pub timed_ns: u64,
}

/// How long serving takes, of some turns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    served: u64,
    timed: u64,
    nanos: u64,
}

impl Timing {
    /// Turns of which one is timed.
    const SOME: u64 = 64;

    /// The beginning of a turn in which so many domains are served; a time if it is to be measured.
    pub fn begin(&mut self, turn: u64, posts: usize) -> Option<Instant> {
        self.served += posts as u64;
        (posts > 0 && turn.is_multiple_of(Self::SOME)).then(Instant::now)
    }

    /// All of them are served.
    pub fn end(&mut self, begun: Option<Instant>, posts: usize) {
        if let Some(begun) = begun {
            self.timed += posts as u64;
            self.nanos += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0);
        }
    }
}

impl super::State {
    /// The domains that run, and maybe some that no longer do.
    pub(super) fn active(&self) -> impl Iterator<Item = &Native> {
        self.active.iter().filter_map(|index| self.natives.get(index))
    }
}

impl super::Executive {
    /// How full the caches are.
    #[must_use]
    pub fn caches(&self) -> Caches {
        let state = self.state();
        let process_limit = self.processes.load(SeqCst) as usize;
        Caches {
            processes: state.natives.values().filter(|native| native.process.is_some()).count(),
            process_limit,
            most_processes: state.most_processes,
            waiting: state.ready.len(),
            loaded: state.natives.len(),
            loaded_limit: loaded_limit(process_limit),
            segments: state.open.len(),
            segment_limit: state.open.limit,
            served: state.timing.served,
            timed: state.timing.timed,
            timed_ns: state.timing.nanos,
        }
    }
}

fn loaded_limit(processes: usize) -> usize {
    processes.saturating_mul(LOADED_PER_PROCESS).max(LEAST_LOADED)
}

impl Turn<'_> {
    /// Lets those go on who wait for a process, as far as there may be processes.
    pub fn dispatch(&mut self) -> Result<(), ExecutiveError> {
        self.state.lacking = false;
        while let Some(id) = self.state.ready.first().filter(|_| !self.state.lacking) {
            if !self.is_runnable(id) {
                self.state.ready.pop();
                continue;
            }
            let has_process = self.loaded(id).is_some_and(|native| native.live_process().is_some());
            if !has_process && !self.make_room()? {
                return Ok(());
            }
            self.state.ready.pop();
            self.go(id)?;
        }
        Ok(())
    }

    /// Whether there may be one more process, after one that waits was put away if need be.
    fn make_room(&mut self) -> Result<bool, ExecutiveError> {
        let limit = self.kernel.native.processes.load(SeqCst) as usize;
        let processes = self.state.natives.values().filter(|native| native.process.is_some()).count();
        if processes < limit {
            self.state.most_processes = self.state.most_processes.max(processes + 1);
            return Ok(true);
        }
        let idle = self.state.natives.values().filter(|native| native.process.is_some() && !native.executing);
        let Some(id) = idle.min_by_key(|native| native.used).map(|native| native.id) else { return Ok(false) };
        self.put_away_soon(id)?;
        Ok(true)
    }

    /// Takes the process from those who have had one for long while others wait for one.
    pub fn preempt(&mut self) -> Result<(), ExecutiveError> {
        if self.state.ready.is_empty() {
            return Ok(());
        }
        let waiting = self.state.ready.len();
        let now = self.state.tick;
        let has_long = |native: &&Native| {
            native.executing && native.process.is_some() && now.duration_since(native.since) >= SLICE
        };
        let long = self.state.active().filter(has_long);
        let mut long: Vec<_> = long.map(|native| (native.since, native.id)).collect();
        long.sort_unstable();
        for (_, id) in long.into_iter().take(waiting) {
            if !self.halt(id)? {
                self.lost(id)?;
            } else if self.loaded(id).is_some_and(|native| native.unserved().is_some()) {
                // It posted just before: that is served.
                self.execute(id)?;
                if self.kernel.native.is_retelling() {
                    // When it is its turn: others need the process before.
                    self.put_away_soon(id)?;
                }
            } else {
                self.state.ready.push(id);
            }
        }
        self.dispatch()
    }

    /// Puts away what is over the limits and is not needed: processes that waited longest, then loaded domains that have none, then segments.
    pub fn trim(&mut self) -> Result<(), ExecutiveError> {
        self.trim_processes()?;
        self.trim_loaded();
        self.trim_segments();
        Ok(())
    }

    /// A few processes fewer than there may be, so that who needs one finds room.
    pub(super) fn trim_processes(&mut self) -> Result<(), ExecutiveError> {
        let limit = self.kernel.native.processes.load(SeqCst) as usize;
        let wanted = limit - limit / 8;
        let live = self.state.natives.values().filter(|native| native.process.is_some()).count();
        if live <= wanted {
            return Ok(());
        }
        let idle = |native: &&Native| native.process.is_some() && !native.executing;
        let mut idle: Vec<(u64, RecordId)> =
            self.state.natives.values().filter(idle).map(|native| (native.used, native.id)).collect();
        idle.sort_unstable();
        idle.into_iter().take(live - wanted).try_for_each(|(_, id)| self.put_away_soon(id))
    }

    fn trim_loaded(&mut self) {
        let most = loaded_limit(self.kernel.native.processes.load(SeqCst) as usize);
        let over = self.state.natives.len().saturating_sub(most);
        if over == 0 {
            return;
        }
        // A domain whose pages changed since the last capture is marked then: only clean ones may be forgotten.
        let gone = |native: &Native| native.ending.as_ref().is_none_or(|process| process.is_dead());
        let idle = |native: &&Native| native.process.is_none() && gone(native) && !native.executing && !native.touched;
        let mut cold: Vec<(u64, u32)> =
            self.state.natives.values().filter(idle).map(|native| (native.used, native.id.index())).collect();
        cold.sort_unstable();
        for (_, index) in cold.into_iter().take(over) {
            self.state.natives.remove(&index);
        }
    }

    /// A segment that is open costs a descriptor and what is known of its pages.
    fn trim_segments(&mut self) {
        let over = self.state.open.len().saturating_sub(self.state.open.limit);
        if over == 0 {
            return;
        }
        let natives = self.state.natives.values();
        let needed: BTreeSet<u64> = natives.flat_map(|n| n.mapped.iter().copied().chain([n.segment.id().0])).collect();
        let open = self.state.open.used.iter().filter(|(number, _)| !needed.contains(number));
        let mut cold: Vec<(u64, u64)> = open.map(|(number, used)| (*used, *number)).collect();
        cold.sort_unstable();
        let pager = &self.kernel.pager;
        let mut closed = 0;
        for (_, number) in cold {
            if closed == over {
                return;
            }
            let id = SegmentId(number);
            if pager.close_clean(id) || pager.segment(id).is_none() {
                self.state.open.forget(number);
                closed += 1;
            }
        }
    }

    /// Whether so much is open that nothing is served before the next commit, which lets it be closed.
    pub fn is_held(&mut self) -> bool {
        if self.state.open.len() < self.state.open.most {
            self.state.open.held_at = None;
            return false;
        }
        self.trim_loaded();
        self.trim_segments();
        if self.state.open.len() < self.state.open.most {
            self.state.open.held_at = None;
            return false;
        }
        let generation = self.kernel.native.generation.load(SeqCst);
        match self.state.open.held_at {
            Some(at) if at != generation => {
                // A commit did not help: what is open is in use. On, until the system refuses.
                self.state.open.held_at = None;
                false
            }
            Some(_) => true,
            None => {
                self.state.open.held_at = Some(generation);
                self.kernel.surroundings.hasten();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_process_waits_once_and_in_order() {
        let mut ready = Ready::default();
        let ids = [3, 1, 2].map(RecordId::from_u64);
        ids.iter().chain(&ids).for_each(|id| ready.push(*id));
        assert_eq!(ready.iter().collect::<Vec<_>>(), ids);
        ready.pop();
        ready.push(ids[0]);
        assert_eq!(ready.iter().collect::<Vec<_>>(), [ids[1], ids[2], ids[0]]);
    }
}
