//! The disk itself.

use super::{SECTOR, SimRng};
use crate::disk::{Disk, DiskBuf};
use crate::ids::{PAGE_SIZE, Page};
use crate::width::to_usize;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a call can fail with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The device reports an error.
    Eio,
    /// The host has no space.
    Enospc,
    /// The power goes: this call and all later ones fail, also those to disks at the same power ([`SimDisk::beside`]).
    PowerLoss,
    /// The disk is gone: this call and all later ones fail until [`SimDisk::plug`].
    Gone,
}

/// Something that was asked of the disk, in the order of asking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A write.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// A flush that told the truth.
    Flush,
}

type Pages = HashMap<u64, Arc<Page>>;

#[derive(Default)]
struct State {
    /// What survives.
    durable: Pages,
    /// What is read back.
    live: Pages,
    /// Written since the last flush.
    pending: Vec<(u64, Vec<u8>)>,
    /// Written before a flush that failed or lied: may or may not be durable.
    in_doubt: Vec<(u64, Vec<u8>)>,
    len: u64,
    calls: u64,
    fail_at: Option<(u64, Failure)>,
    flushes: u64,
    lie_at: Option<u64>,
    fail_flush_at: Option<u64>,
    failed_flushes: u64,
    failed_writes: u64,
    /// Pulled out.
    gone: bool,
    /// Pages that cannot be read until they are written.
    unreadable: HashSet<u64>,
    history: Option<Vec<Event>>,
}

/// A disk in memory that misbehaves as it is told to.
#[derive(Default)]
pub struct SimDisk {
    state: Mutex<State>,
    /// The power is off.
    off: Arc<AtomicBool>,
}

impl SimDisk {
    /// An empty disk that obeys.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An empty disk at the same power.
    #[must_use]
    pub fn beside(&self) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), off: Arc::clone(&self.off) })
    }

    /// Pulls the disk out: every call fails.
    pub fn pull(&self) {
        self.state().gone = true;
    }

    /// Puts it back. What was not flushed when it was pulled out is decided by the next [`SimDisk::power_cycle`].
    pub fn plug(&self) {
        self.state().gone = false;
    }

    /// Whether it is pulled out.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// A disk that holds what `writes` left, applied in order.
    #[must_use]
    pub fn from_writes<'e>(len: u64, writes: impl IntoIterator<Item = (u64, &'e [u8])>) -> Arc<Self> {
        let disk = Self::new();
        {
            let mut state = disk.state();
            state.len = len;
            for (offset, data) in writes {
                store(&mut state.durable, offset, data);
            }
            state.live = state.durable.clone();
        }
        disk
    }

    /// A second disk with the same durable content.
    #[must_use]
    pub fn copy(&self) -> Arc<Self> {
        let from = self.state();
        let state =
            State { durable: from.durable.clone(), live: from.durable.clone(), len: from.len, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), off: Arc::default() })
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets the call number `call` (as [`SimDisk::calls`] counts) fail.
    pub fn fail_at(&self, call: u64, failure: Failure) {
        self.state().fail_at = Some((call, failure));
    }

    /// Lets the `n`-th flush from now (0 = the next) fail.
    pub fn fail_at_flush(&self, n: u64) {
        let mut state = self.state();
        state.fail_flush_at = Some(state.flushes + n);
    }

    /// Flushes that have failed, for whatever reason.
    #[must_use]
    pub fn failed_flushes(&self) -> u64 {
        self.state().failed_flushes
    }

    /// Writes, and waits for them, that have failed, for whatever reason.
    #[must_use]
    pub fn failed_writes(&self) -> u64 {
        self.state().failed_writes
    }

    /// Flushes that were said to be done.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.state().flushes
    }

    /// Takes back what [`SimDisk::fail_at`] planned, and [`SimDisk::fail_at_flush`]; says whether the first was still to come.
    pub fn forget_failure(&self) -> bool {
        let mut state = self.state();
        state.fail_flush_at = None;
        state.fail_at.take().is_some()
    }

    /// Lets the `n`-th flush from now (0 = the next) lie.
    pub fn lie_at_flush(&self, n: u64) {
        let mut state = self.state();
        state.lie_at = Some(state.flushes + n);
    }

    /// Whether the power is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    /// Whether a lie is still to come.
    #[must_use]
    pub fn lie_pending(&self) -> bool {
        self.state().lie_at.is_some()
    }

    /// Takes back what [`SimDisk::lie_at_flush`] planned, and ends all doubt about earlier writes in favour of the store.
    pub fn settle(&self) {
        let mut state = self.state();
        state.lie_at = None;
        state.fail_at = None;
        for (offset, data) in std::mem::take(&mut state.in_doubt) {
            persist(&mut state, offset, data.len());
        }
    }

    /// Records what is asked from now on.
    pub fn record(&self) {
        self.state().history = Some(Vec::new());
    }

    /// What was recorded.
    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        self.state().history.clone().unwrap_or_default()
    }

    /// Takes the power away, if it is not gone yet, and brings it back: what was not flushed is kept, lost or torn.
    pub fn power_cycle(&self, rng: &mut SimRng) {
        let mut state = self.state();
        let mut unsure = std::mem::take(&mut state.in_doubt);
        unsure.append(&mut state.pending);
        let mode = rng.below(6);
        // Writes reach the medium in any order.
        for i in (1..unsure.len()).rev() {
            unsure.swap(i, to_usize(rng.below(i as u64 + 1)));
        }
        for (offset, data) in &unsure {
            for (i, sector) in data.chunks(SECTOR).enumerate() {
                let keep = match mode {
                    0 => false,
                    1 => true,
                    2 => i == 0 || rng.one_in(2),
                    3 => (offset / PAGE_SIZE as u64).is_multiple_of(2),
                    4 => !rng.one_in(20),
                    _ => rng.one_in(3),
                };
                if keep {
                    store(&mut state.durable, offset + (i * SECTOR) as u64, sector);
                }
            }
        }
        for (offset, data) in &unsure {
            for page in pages_of(*offset, data.len()) {
                match state.durable.get(&page).cloned() {
                    Some(content) => state.live.insert(page, content),
                    None => state.live.remove(&page),
                };
            }
        }
        self.off.store(false, Ordering::Relaxed);
        state.fail_at = None;
        state.fail_flush_at = None;
        state.lie_at = None;
    }

    /// The pages that were ever written, in order.
    #[must_use]
    pub fn written_pages(&self) -> Vec<u64> {
        let mut pages: Vec<u64> = self.state().durable.keys().copied().collect();
        pages.sort_unstable();
        pages
    }

    /// Changes one byte at rest.
    pub fn rot(&self, offset: u64, flip: u8) {
        let mut state = self.state();
        let (page, at) = (offset / PAGE_SIZE as u64, to_usize(offset % PAGE_SIZE as u64));
        let mut content = state.live.get(&page).map_or([0; PAGE_SIZE], |content| **content);
        content[at] ^= flip;
        let content = Arc::new(content);
        state.live.insert(page, Arc::clone(&content));
        state.durable.insert(page, content);
    }

    /// Lets the page at `place` be refused with EIO whenever it is read, until it is written, as a bad sector is.
    pub fn refuse(&self, place: u64) {
        self.state().unreadable.insert(place);
    }

    /// Lets two pages change places, as a misdirected write does.
    pub fn swap(&self, a: u64, b: u64) {
        let mut state = self.state();
        for pages in [true, false] {
            let pages = if pages { &mut state.live } else { &mut state.durable };
            let (in_a, in_b) = (pages.remove(&a), pages.remove(&b));
            in_a.map(|content| pages.insert(b, content));
            in_b.map(|content| pages.insert(a, content));
        }
    }

    /// Cuts the disk short, as somebody else does.
    pub fn truncate(&self, len: u64) {
        self.state().len = len;
    }

    /// As [`Disk::flush`], of what was written in this range only: a flush of one of several files.
    pub(super) fn flush_within(&self, within: std::ops::Range<u64>) -> io::Result<()> {
        let mut state = match self.flush_call() {
            Ok(state) => state,
            Err(e) => {
                let mut state = self.state();
                state.failed_flushes += 1;
                let mut unsure = take_within(&mut state.pending, &within);
                state.in_doubt.append(&mut unsure);
                return Err(e);
            }
        };
        let lies = state.lie_at == Some(state.flushes);
        state.flushes += 1;
        let mut covered = take_within(&mut state.pending, &within);
        if lies {
            state.lie_at = None;
            state.in_doubt.append(&mut covered);
            return Ok(());
        }
        for (offset, data) in covered {
            persist(&mut state, offset, data.len());
            // What is overwritten durably is in doubt no more.
            state.in_doubt.retain(|(at, old)| *at != offset || old.len() > data.len());
        }
        if let Some(history) = &mut state.history {
            history.push(Event::Flush);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`SimDisk::call`], of a write or a wait for one.
    fn write_call(&self) -> io::Result<MutexGuard<'_, State>> {
        self.call().inspect_err(|_| self.state().failed_writes += 1)
    }

    /// As [`SimDisk::call`], of a flush.
    fn flush_call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.call()?;
        if state.fail_flush_at == Some(state.flushes) {
            state.fail_flush_at = None;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(state)
    }

    /// Another length, durable at once. If the power goes in this very call, it was made or not.
    fn resize(&self, len: u64) -> io::Result<()> {
        let was_on = self.is_on();
        let called = self.call().map(|mut state| state.len = len);
        if called.is_err() && was_on && !self.is_on() && self.calls().is_multiple_of(2) {
            self.state().len = len;
        }
        called
    }

    /// Counts a call, and lets it fail if it is time.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let call = state.calls;
        state.calls += 1;
        let due = state.fail_at.filter(|(at, _)| *at == call).map(|(_, failure)| failure);
        if due.is_some() {
            state.fail_at = None;
        }
        match due {
            Some(Failure::PowerLoss) => self.off.store(true, Ordering::Relaxed),
            Some(Failure::Gone) => state.gone = true,
            _ => {}
        }
        if self.off.load(Ordering::Relaxed) {
            return Err(io::Error::other("the power is off"));
        }
        if state.gone {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        match due {
            Some(Failure::Eio) => Err(io::Error::from_raw_os_error(libc::EIO)),
            Some(Failure::Enospc) => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            _ => Ok(state),
        }
    }
}

impl Disk for SimDisk {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.call()?;
        if offset + out.len() as u64 > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        assert!(offset.is_multiple_of(PAGE_SIZE as u64), "the store reads whole pages");
        if pages_of(offset, out.len()).any(|page| state.unreadable.contains(&page)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        for (page, out) in (offset / PAGE_SIZE as u64..).zip(out.chunks_mut(PAGE_SIZE)) {
            match state.live.get(&page) {
                Some(content) => out.copy_from_slice(&content[..out.len()]),
                None => out.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: DiskBuf) -> io::Result<()> {
        let mut state = self.write_call()?;
        assert!(offset + data.len() as u64 <= state.len, "the store writes within the disk");
        store(&mut state.live, offset, &data);
        for page in pages_of(offset, data.len()) {
            state.unreadable.remove(&page);
        }
        if let Some(history) = &mut state.history {
            history.push(Event::Write { offset, data: data.to_vec() });
        }
        state.pending.push((offset, data.to_vec()));
        Ok(())
    }

    fn drain(&self) -> io::Result<()> {
        self.write_call().map(|_| ())
    }

    fn flush(&self) -> io::Result<()> {
        self.flush_within(0..u64::MAX)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.call()?.len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.resize(len)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.resize(len)?;
        // What lay beyond is gone for good, whatever the length becomes later.
        let mut state = self.state();
        let within = |page: u64| page * (PAGE_SIZE as u64) < len;
        state.live.retain(|page, _| within(*page));
        state.durable.retain(|page, _| within(*page));
        state.pending.retain(|(offset, _)| *offset < len);
        state.in_doubt.retain(|(offset, _)| *offset < len);
        Ok(())
    }

    fn preallocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.call().map(|_| ())
    }
}

fn pages_of(offset: u64, len: usize) -> std::ops::Range<u64> {
    offset / PAGE_SIZE as u64..(offset + len as u64).div_ceil(PAGE_SIZE as u64)
}

/// The writes that begin in this range, taken out.
fn take_within(writes: &mut Vec<(u64, Vec<u8>)>, within: &std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    let (inside, outside) = std::mem::take(writes).into_iter().partition(|(offset, _)| within.contains(offset));
    *writes = outside;
    inside
}

/// Makes durable what is live.
fn persist(state: &mut State, offset: u64, len: usize) {
    for page in pages_of(offset, len) {
        if let Some(content) = state.live.get(&page) {
            state.durable.insert(page, Arc::clone(content));
        }
    }
}

/// Writes whole sectors into pages.
fn store(pages: &mut Pages, offset: u64, data: &[u8]) {
    let mut at = offset;
    let mut rest = data;
    while !rest.is_empty() {
        let within = to_usize(at % PAGE_SIZE as u64);
        let (now, later) = rest.split_at(rest.len().min(PAGE_SIZE - within));
        let page = pages.entry(at / PAGE_SIZE as u64).or_insert_with(|| Arc::new([0; PAGE_SIZE]));
        Arc::make_mut(page)[within..within + now.len()].copy_from_slice(now);
        at += now.len() as u64;
        rest = later;
    }
}
