//! The thread that serves page faults.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use semper_store::PageIndex;
use userfaultfd::EventBuffer;

use crate::budget::UNLIMITED;
use crate::cold::Cold;
use crate::mapping::Mapping;
use crate::service::{Outcome, Service};
use crate::shared::{Counters, Shared};
use crate::sys::uffd::{Fault, Kind};

/// What the epoll descriptor says when the bell was rung; mappings are numbered from the next on.
pub(crate) const BELL: u64 = 0;
/// Set beside a mapping's number: its cold part (`cold`).
pub(crate) const COLD: u64 = 1 << 63;
/// Faults read at once.
const EVENTS: usize = 64;
/// Memory of the thread's own buffers.
pub(crate) const BUFFER_BYTES: u64 = crate::service::BUFFER_BYTES + (EVENTS * 64) as u64;
/// After a fault the thread stays awake so long, if faults come in quick succession: a wake-up costs as much.
const SPIN: Duration = Duration::from_micros(50);
/// Pages that programs may allocate per millisecond: what the kernel can zero on two processors.
const FASTEST_GROWTH: u64 = 1500;

/// A faulter that waits for a frame.
#[derive(Clone, Copy)]
struct Waiter {
    mapping: u64,
    page: PageIndex,
    write: bool,
}

struct Thread<'a> {
    shared: &'a Arc<Shared>,
    service: Service,
    waiters: VecDeque<Waiter>,
    buffer: EventBuffer,
    faults: Vec<Fault>,
    /// When memory use is looked at next, while the limit is not near.
    next_look: Instant,
    limit_seen: u64,
    last_fault: Instant,
    spin_until: Instant,
}

/// Serves until told to stop.
pub(crate) fn serve(shared: &Arc<Shared>) {
    let now = Instant::now();
    let mut thread = Thread {
        shared,
        service: Service::new(),
        waiters: VecDeque::new(),
        buffer: EventBuffer::new(EVENTS),
        faults: Vec::with_capacity(EVENTS),
        next_look: now,
        limit_seen: UNLIMITED,
        last_fault: now,
        spin_until: now,
    };
    while !shared.stop.load(Ordering::Acquire) {
        thread.turn();
    }
}

impl Thread<'_> {
    fn turn(&mut self) {
        let mut events = [EpollEvent::empty(); 16];
        let count = match self.shared.epoll.wait(&mut events, self.timeout()) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => {
                tracing::error!(%errno, "waiting for page faults");
                std::thread::sleep(Duration::from_millis(10));
                0
            }
        };
        for event in &events[..count] {
            if event.data() == BELL {
                self.shared.budget.quiet();
            } else {
                self.read_faults(event.data());
            }
        }
        self.serve_waiters();
        self.look_at_memory();
    }

    fn timeout(&self) -> EpollTimeout {
        let now = Instant::now();
        if now < self.spin_until {
            std::hint::spin_loop();
            return EpollTimeout::ZERO;
        }
        let budget = &self.shared.budget;
        if budget.limit() == UNLIMITED || budget.pressed() {
            return EpollTimeout::NONE;
        }
        let wait = self.next_look.saturating_duration_since(now) + Duration::from_millis(1);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::NONE)
    }

    fn read_faults(&mut self, number: u64) {
        let Some(mapping) = self.shared.mapping(number & !COLD) else { return };
        let cold = mapping.cold.as_ref().filter(|_| number & COLD != 0);
        let fd = cold.map_or(&mapping.place.fd, Cold::faults);
        self.faults.clear();
        if let Err(error) = fd.read(&mut self.buffer, &mut self.faults) {
            tracing::error!(%error, "reading page faults; this process is served no longer");
            let _ = self.shared.epoll.delete(fd);
        }
        for fault in std::mem::take(&mut self.faults) {
            match cold {
                Some(cold) => Service::cold_written(self.shared, &mapping, cold, mapping.place.page(fault.address)),
                None => self.handle(&mapping, fault),
            }
        }
        let now = Instant::now();
        if now.duration_since(self.last_fault) < SPIN * 2 {
            self.spin_until = now + SPIN;
        }
        self.last_fault = now;
    }

    fn handle(&mut self, mapping: &Arc<Mapping>, fault: Fault) {
        let page = mapping.place.page(fault.address);
        let Some(segment) = mapping.segment.upgrade() else {
            mapping.place.wake(page);
            return;
        };
        match fault.kind {
            Kind::Protected => Service::written(self.shared, mapping, page),
            Kind::Minor => Service::minor(self.shared, mapping, &segment, page, fault.write),
            Kind::Missing => {
                Counters::add(&self.shared.counters.missing, 1);
                // Those who came first are served first.
                let room = self.waiters.is_empty() && self.shared.has_room();
                if !room || self.service.missing(self.shared, mapping, &segment, page, fault.write) == Outcome::NoRoom {
                    self.enqueue(Waiter { mapping: mapping.number, page, write: fault.write });
                }
            }
        }
    }

    fn enqueue(&mut self, waiter: Waiter) {
        Counters::add(&self.shared.counters.waited, 1);
        self.waiters.push_back(waiter);
        self.shared.budget.waiting.store(self.waiters.len(), Ordering::Relaxed);
        self.shared.tell_pressure();
    }

    fn serve_waiters(&mut self) {
        while let Some(waiter) = self.waiters.front().copied() {
            if let Some(mapping) = self.shared.mapping(waiter.mapping) {
                if !self.shared.has_room() {
                    break;
                }
                if let Some(segment) = mapping.segment.upgrade() {
                    let served = self.service.missing(self.shared, &mapping, &segment, waiter.page, waiter.write);
                    if served == Outcome::NoRoom {
                        break;
                    }
                }
            }
            self.waiters.pop_front();
            self.shared.budget.waiting.store(self.waiters.len(), Ordering::Relaxed);
        }
    }

    fn look_at_memory(&mut self) {
        let budget = &self.shared.budget;
        let limit = budget.limit();
        // A lower limit makes the time to look again, reckoned from the one before, too long.
        let lowered = limit < std::mem::replace(&mut self.limit_seen, limit);
        if limit == UNLIMITED || budget.pressed() || Instant::now() < self.next_look && !lowered {
            return;
        }
        let resident = self.shared.resident();
        let threshold = budget.threshold();
        if resident >= threshold {
            self.shared.press();
            return;
        }
        let pause = (threshold - resident) / FASTEST_GROWTH / 2;
        self.next_look = Instant::now() + Duration::from_millis(pause.clamp(1, 1000));
    }
}
