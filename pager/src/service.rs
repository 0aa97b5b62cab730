//! Answering one fault: from the store, with zeros, or from memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use semper_store::{PAGE_SIZE, PageIndex, PageRange};

use crate::cold::Cold;
use crate::error::Error;
use crate::frames::{intersect, locate, pieces};
use crate::mapping::Mapping;
use crate::readahead::AROUND;
use crate::segment::{Locked, Segment};
use crate::shared::{Counters, FaultError, Shared, lock};
use crate::size::bytes;
use crate::sys::uffd::Filled;

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages read and placed at once: the faulter goes on after the first batch, while the rest is read ahead of it.
const BATCH: u64 = 32;
/// Memory of the buffers of one service.
pub(crate) const BUFFER_BYTES: u64 = 2 * BATCH * PAGE;
/// Frames made free at once when there are none left.
const EVICT_BATCH: u64 = 512;

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The faulter goes on.
    Served,
    /// No frame is to be had before the next checkpoint.
    NoRoom,
}

/// Buffers for serving faults.
pub(crate) struct Service {
    data: Vec<u8>,
    zeros: Vec<u8>,
}

impl Shared {
    /// Whether there is a frame, after evicting what can be evicted.
    pub(crate) fn has_room(&self) -> bool {
        if self.budget.room() > 0 {
            return true;
        }
        if self.budget.pressed() && lock(&self.policy).on_probation() > 0 {
            self.evict(EVICT_BATCH);
        }
        self.budget.room() > 0
    }
}

impl Service {
    pub(crate) fn new() -> Self {
        let zeros = vec![0; bytes(BATCH)];
        Self { data: zeros.clone(), zeros }
    }

    /// A first write to a protected page.
    pub(crate) fn written(shared: &Shared, mapping: &Mapping, page: PageIndex) {
        Counters::add(&shared.counters.protected, 1);
        match mapping.tracker.written(&mapping.place, page) {
            Ok(Filled::Bytes(_)) => {}
            Ok(_) => mapping.place.wake(page),
            Err(errno) => retry_later(mapping, page, errno),
        }
    }

    /// The first write to memory that was quiet: its chunk is scanned again from now on.
    pub(crate) fn cold_written(shared: &Shared, mapping: &Mapping, cold: &Cold, page: PageIndex) {
        Counters::add(&shared.counters.warmed, 1);
        if let Err(error) = mapping.lock_and_warm(PageRange { first: page, count: 1 }) {
            tracing::error!(%error, page = page.0, "memory that was quiet cannot be tracked");
        }
        // It may have been hot already, by a discard or another write.
        cold.wake(&mapping.place, page);
    }

    /// The page is in memory, but not in this page table: somebody uses it.
    pub(crate) fn minor(shared: &Shared, mapping: &Mapping, segment: &Segment, page: PageIndex, write: bool) {
        Counters::add(&shared.counters.minor, 1);
        let one = PageRange { first: page, count: 1 };
        let (index, bit) = locate(page);
        // Unmarked before it is mapped, and the lock held over both: see `reclaim`.
        let mut state = segment.lock();
        state.frames.chunk_mut(index).unmapped.clear(bit);
        match mapping.tracker.map_cached(&mapping.place, one, write.then_some(page)) {
            Ok(Filled::Bytes(_)) => {
                if !state.frames.is_known(page) {
                    state.frames.mark_known(one);
                    shared.note_resident(segment, &mut state, one);
                }
            }
            // Evicted in between, or mapped by another thread: it faults again, or goes on.
            Ok(_) => mapping.place.wake(page),
            Err(errno) => retry_later(mapping, page, errno),
        }
    }

    /// The page is not in memory.
    pub(crate) fn missing(
        &mut self,
        shared: &Shared,
        mapping: &Mapping,
        segment: &Arc<Segment>,
        page: PageIndex,
        write: bool,
    ) -> Outcome {
        let room = shared.budget.room();
        if room == 0 {
            return Outcome::NoRoom;
        }
        let pressed = shared.budget.pressed();
        let advised = lock(&mapping.streams).advise(page, pressed);
        // Reading ahead must not take the last frames from those who need them.
        let most = if pressed { (room / 8).max(1) } else { room };
        let one = PageRange { first: page, count: 1 };
        let mut state = segment.settled(one);
        if state.frames.is_known(page) {
            drop(state);
            mapping.place.wake(page);
            return Outcome::Served;
        }
        let stored = state.frames.is_stored(page);
        // Zeros around a lone fault would only cost frames: no store is read, so nothing is saved by bringing more at once.
        let lone = !stored && advised.count <= AROUND;
        let most = if lone { 1 } else { most };
        let range = alike(&state, intersect(advised, mapping.place.window), page, stored, most);
        lock(&mapping.streams).served_until(advised, range.end());
        let write = write.then_some(page);
        if stored {
            for (index, span) in pieces(range) {
                state.frames.chunk_mut(index).filling.set_span(span);
            }
            drop(state);
            self.bring(shared, mapping, segment, range, page, write);
        } else {
            let mut at = range.first.0;
            while at < range.end() {
                let batch = PageRange::between(at, range.end().min(at + BATCH));
                let zeros = &self.zeros[..bytes(batch.count)];
                let done = place(shared, mapping, segment, &mut state, batch, zeros, write);
                Counters::add(&shared.counters.fresh, done);
                at = batch.end();
            }
        }
        Outcome::Served
    }

    /// Reads a run from the store and places it: the faulter's page first and alone, so that it goes on while the rest is
    /// brought.
    fn bring(
        &mut self,
        shared: &Shared,
        mapping: &Mapping,
        segment: &Segment,
        range: PageRange,
        page: PageIndex,
        write: Option<PageIndex>,
    ) {
        let one = PageRange { first: page, count: 1 };
        if let Err(error) = self.bring_batch(shared, mapping, segment, one, write) {
            stop_filling(segment, range);
            give_up(shared, mapping, segment, page, error);
            return;
        }
        for rest in [PageRange::between(one.end(), range.end()), PageRange::between(range.first.0, page.0)] {
            let mut at = rest.first.0;
            while at < rest.end() {
                let batch = PageRange::between(at, rest.end().min(at + BATCH));
                if self.bring_batch(shared, mapping, segment, batch, None).is_err() {
                    // Read ahead in vain: whoever needs the bad page will be told.
                    stop_filling(segment, range);
                    return;
                }
                at = batch.end();
            }
        }
    }

    fn bring_batch(
        &mut self,
        shared: &Shared,
        mapping: &Mapping,
        segment: &Segment,
        batch: PageRange,
        write: Option<PageIndex>,
    ) -> Result<(), Error> {
        let data = &mut self.data[..bytes(batch.count)];
        let read = segment.fetch(batch.first, data);
        let mut state = segment.lock();
        for (index, span) in pieces(batch) {
            state.frames.chunk_mut(index).filling.clear_span(span);
        }
        if read.is_ok() {
            let done = place_stored(shared, mapping, segment, &mut state, batch, data, write);
            Counters::add(&shared.counters.brought, done);
        }
        drop(state);
        segment.notify_filled();
        read
    }
}

/// Nothing more of the run will be brought.
fn stop_filling(segment: &Segment, range: PageRange) {
    let mut state = segment.lock();
    for (index, span) in pieces(range) {
        state.frames.chunk_mut(index).filling.clear_span(span);
    }
    drop(state);
    segment.notify_filled();
}

/// The part of `advised` around `page` that is absent and all in the store, or all not; at most `most` pages.
fn alike(state: &Locked<'_>, advised: PageRange, page: PageIndex, stored: bool, most: u64) -> PageRange {
    let fits = |p: u64| {
        let page = PageIndex(p);
        !state.frames.is_known(page) && !state.frames.is_filling(page) && state.frames.is_stored(page) == stored
    };
    let mut range = PageRange { first: page, count: 1 };
    while range.count < most && range.end() < advised.end() && fits(range.end()) {
        range.count += 1;
    }
    while range.count < most.min(BATCH) && range.first > advised.first && fits(range.first.0 - 1) {
        range.first.0 -= 1;
        range.count += 1;
    }
    range
}

/// Places what was read, except what was discarded meanwhile. A faulter on such a page faults again.
fn place_stored(
    shared: &Shared,
    mapping: &Mapping,
    segment: &Segment,
    state: &mut Locked<'_>,
    range: PageRange,
    data: &[u8],
    write: Option<PageIndex>,
) -> u64 {
    let mut done = 0;
    let mut at = range.first.0;
    while at < range.end() {
        let run = state.frames.only_stored_from(PageIndex(at), range.end() - at);
        if run == 0 {
            mapping.place.wake(PageIndex(at));
            at += 1;
            continue;
        }
        let batch = PageRange::between(at, at + run);
        let start = bytes(at - range.first.0);
        done += place(shared, mapping, segment, state, batch, &data[start..start + bytes(batch.count)], write);
        at = batch.end();
    }
    done
}

/// Fills missing pages; gives how many.
fn place(
    shared: &Shared,
    mapping: &Mapping,
    segment: &Segment,
    state: &mut Locked<'_>,
    range: PageRange,
    data: &[u8],
    write: Option<PageIndex>,
) -> u64 {
    let mut at = range.first.0;
    let mut length = range.count;
    let mut done = 0;
    while at < range.end() {
        let batch = PageRange::between(at, range.end().min(at + length));
        let start = bytes(at - range.first.0);
        let page = batch.first;
        match mapping.tracker.fill(&mapping.place, page, &data[start..start + bytes(batch.count)], write) {
            Ok(Filled::Bytes(len)) => {
                let got = PageRange { first: page, count: len / PAGE };
                state.frames.mark_known(got);
                shared.note_resident(segment, state, got);
                done += got.count;
                at = got.end();
            }
            Ok(Filled::Exists) => {
                state.frames.mark_known(PageRange { first: page, count: 1 });
                mapping.place.wake(page);
                at += 1;
            }
            // One call must stay within one mapping of the process: come nearer to its end.
            Ok(Filled::NoMapping) if batch.count > 1 => length = batch.count / 2,
            Ok(Filled::NoMapping) => {
                mapping.place.wake(page);
                at += 1;
            }
            Ok(Filled::Gone) => return done,
            Err(errno) => {
                retry_later(mapping, page, errno);
                return done;
            }
        }
    }
    done
}

/// The system could not do it now (no memory): the faulter tries again.
fn retry_later(mapping: &Mapping, page: PageIndex, errno: Errno) {
    tracing::error!(%errno, page = page.0, "a page fault could not be answered; trying again");
    std::thread::sleep(Duration::from_millis(10));
    mapping.place.wake(page);
}

/// The store cannot give the page: the faulter gets SIGBUS.
fn give_up(shared: &Shared, mapping: &Mapping, segment: &Segment, page: PageIndex, error: Error) {
    let delivered = mapping.place.fd.poison(mapping.place.address(page), PAGE);
    let error = match error {
        Error::Backing { source, .. } => source,
        other => other.into(),
    };
    shared.report(FaultError { segment: segment.id, page, error, delivered });
}

impl Shared {
    /// Memory use is near the limit: from now on every page of every process passes through us.
    pub(crate) fn press(&self) {
        tracing::info!(limit = self.budget.limit(), "memory is near its limit");
        self.budget.set_pressed();
        let mappings: Vec<_> = lock(&self.mappings).values().cloned().collect();
        for mapping in mappings {
            if let Err(error) = mapping.lock_and_warm(mapping.place.window).and_then(|()| mapping.press()) {
                // A process that is gone, or has broken its mapping: it is not served any more.
                tracing::warn!(%error, "a process cannot be put under the memory limit");
            }
        }
        for segment in self.all_segments() {
            if let Err(error) = self.admit_all(&segment) {
                tracing::error!(%error, segment = segment.id.0, "looking for frames");
            }
        }
    }

    /// Learns of every page of a segment that is in memory.
    pub(crate) fn admit_all(&self, segment: &Segment) -> Result<(), Error> {
        let mut state = segment.lock();
        let mut rest = PageRange::between(0, segment.pages);
        while let Some(run) = segment.memfd.next_data(rest).map_err(Error::system("looking for frames"))? {
            state.frames.mark_known(run);
            lock(&self.policy).admit(segment, &mut state, run);
            rest = PageRange::between(run.end(), segment.pages);
        }
        Ok(())
    }

    pub(crate) fn wants_checkpoint(&self) -> bool {
        let budget = &self.budget;
        budget.waiting.load(Ordering::Relaxed) > 0
            || budget.pressed() && budget.short() && lock(&self.policy).on_probation() == 0
    }

    pub(crate) fn tell_pressure(&self) {
        if self.wants_checkpoint()
            && !self.pressure_told.swap(true, Ordering::Relaxed)
            && let Some(hook) = self.on_pressure.get()
        {
            hook();
        }
    }

    /// After a commit: what was put on probation and not used since goes, so that there is room until the next.
    pub(crate) fn refill(&self) {
        if !self.budget.pressed() {
            return;
        }
        let on_probation = lock(&self.policy).on_probation();
        let mut left = on_probation;
        while left > 0 {
            let turn = left.min(4 * EVICT_BATCH);
            self.evict(turn);
            self.budget.kick_waiters();
            left -= turn;
        }
    }
}
