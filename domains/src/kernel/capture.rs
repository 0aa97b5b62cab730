//! What a checkpoint needs of the kernel: all domains stopped at one instant, a sound state, and to know what became of it.

use super::Kernel;
use super::domain::Domain;
use super::objects::DomainRecord;
use crate::linux::Clock as _;
use crate::platform::PlatformError;
use crate::platform::frame::Frame;
use semper_store::PageRange;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Why the world cannot be captured now; a later attempt may succeed.
#[derive(Debug, Error)]
pub enum FreezeError {
    /// A domain's process died while it ran: it has to go back first.
    #[error("the process of domain {0} died while it ran; the domain goes back to the newest generation first")]
    Died(String),
    /// A domain does not stop.
    #[error("domain {name}: {source}")]
    Domain {
        /// Which.
        name: String,
        /// Why.
        source: PlatformError,
    },
}

impl FreezeError {
    /// Why a domain did not stop.
    pub(crate) fn of(name: String, error: PlatformError) -> Self {
        match error {
            PlatformError::Died { .. } => Self::Died(name),
            source => Self::Domain { name, source },
        }
    }
}

/// Whether a capture is on its way: roll-backs of single domains wait for its outcome, and it for them.
#[derive(Debug, Default)]
pub struct CaptureState {
    state: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Phase {
    #[default]
    Idle,
    Capturing,
    Reverting,
}

impl CaptureState {
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        while *state != Phase::Idle {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state = phase;
    }

    fn leave(&self, phase: Phase) {
        let mut state = self.lock();
        if *state == phase {
            *state = Phase::Idle;
        }
        self.changed.notify_all();
    }

    /// Runs `work` while no capture is on its way.
    pub fn while_idle<T>(&self, work: impl FnOnce() -> T) -> T {
        self.enter(Phase::Reverting);
        let result = work();
        self.leave(Phase::Reverting);
        result
    }
}

impl Kernel {
    /// Whether every domain waits and has waited since the last capture: a freeze would change no page.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.domains().iter().all(|d| !d.touched.load(SeqCst)) && self.native.idle()
    }

    /// A capture begins; domains still run. What can be prepared without stopping them is.
    pub fn before_capture(&self) {
        self.capture.enter(Phase::Capturing);
        for domain in self.domains() {
            let _pass = self.gate.enter();
            domain.program().before_capture();
            if domain.touched.load(SeqCst) {
                // A domain that ran has other registers, even if it wrote no page: that is worth a commit.
                domain.control.mark_header_dirty();
            }
        }
        self.native.before_capture();
    }

    /// Stops every domain; each stands in its pages when this returns. After an error all run again.
    ///
    /// # Errors
    /// [`FreezeError`]: a domain died or does not stop.
    pub fn freeze(&self) -> Result<(), FreezeError> {
        self.gate.close();
        let domains = self.domains();
        let result = self.stop_all(&domains).and_then(|()| self.native.freeze());
        if result.is_err() {
            self.thaw();
        }
        result
    }

    fn stop_all(&self, domains: &[Arc<Domain>]) -> Result<(), FreezeError> {
        let mut asked = Vec::new();
        for domain in domains {
            if let Some(process) = domain.process()
                && let Some(seen) = process.freeze()
            {
                asked.push((domain, process, seen));
            }
        }
        for (domain, process, seen) in asked {
            match process.wait_frozen(seen) {
                Ok(()) => {}
                Err(error) => return Err(FreezeError::of(domain.name.clone(), error)),
            }
        }
        for domain in domains {
            if domain.touched.load(SeqCst) {
                let mut program = domain.program();
                program.before_capture();
                self.capture_tape(domain, &mut program);
                drop(program);
                let frame = Frame::find(&domain.control).map(|f| f.pages());
                let view = domain.control.view();
                view.mark_dirty(PageRange::between(0, 1));
                if let Ok(pages) = frame {
                    view.mark_dirty(pages);
                }
                super::mail::mark_dirty(&domain.control);
            }
        }
        Ok(())
    }

    /// The consistency check before a commit, while all stand still.
    ///
    /// # Errors
    /// What is wrong; the state must not be committed.
    pub fn check(&self) -> Result<(), String> {
        let mut objects = self.objects();
        objects.table.check().map_err(|e| format!("the object table: {e}"))?;
        let (monotonic, wall) = self.clock.reading();
        let (at, mut world) = objects.world;
        (world.monotonic, world.wall) = (monotonic, wall);
        let mut tx = objects.table.begin();
        tx.update(at, &world).map_err(|e| format!("the object table: {e}"))?;
        for domain in self.domains() {
            if domain.touched.load(SeqCst) && domain.ended().is_none() {
                let cpu = u64::try_from(domain.clock.cpu().as_nanos()).unwrap_or(u64::MAX);
                // A process that has just died no longer says what it used.
                let note = |record: &mut DomainRecord| record.cpu = record.cpu.max(cpu);
                tx.modify(domain.record, note).map_err(|e| format!("the object table: {e}"))?;
            }
        }
        tx.commit();
        objects.world.1 = world;
        let needed =
            self.domains().iter().filter_map(|domain| domain.tape.needs()).chain(self.native.tape.needs()).min();
        let needed = needed.unwrap_or(u64::MAX);
        self.journal.note(&mut objects.table, needed).map_err(|e| e.to_string())?;
        self.capture_native_tape(&mut objects.table).map_err(|e| format!("the object table: {e}"))?;
        self.native.note(&mut objects.table).map_err(|e| format!("the object table: {e}"))?;
        drop(objects);
        for domain in self.domains() {
            if domain.touched.load(SeqCst)
                && let Some(wrong) = domain.program().check()
            {
                return Err(format!("the state of domain {}: {wrong}", domain.name));
            }
        }
        Ok(())
    }

    /// Called while all stand still, after the last scan: notes what this capture contains.
    pub fn captured(&self) {
        for domain in self.domains() {
            let [out, err] = domain.console.written();
            let input = domain.program().input_position();
            for (place, value) in domain.captured.iter().zip([out, err, input]) {
                place.store(value, SeqCst);
            }
            domain.network.captured();
            domain.captured_end.store(domain.ended().is_some(), SeqCst);
            domain.captured_keys();
            // Whoever runs again is touched again: the stub writes its header at the next stop.
            let goes_on = domain.process().is_some_and(|p| p.is_stopped() && is_frozen(&domain)) && !domain.is_held();
            domain.touched.store(goes_on, SeqCst);
        }
        self.native.captured();
    }

    /// Lets all go on.
    pub fn thaw(&self) {
        for domain in self.domains().into_iter().filter(|domain| !domain.is_held()) {
            if let Some(process) = domain.process() {
                process.thaw();
            }
        }
        self.native.thaw();
        self.gate.open();
    }

    /// The newest capture is durable, as `generation`: its output may leave, its consumed input may be forgotten. `oldest`: the oldest
    /// generation that is kept.
    pub fn committed(&self, generation: u64, oldest: u64) {
        self.capture.leave(Phase::Capturing);
        self.newest.store(generation, SeqCst);
        self.native.committed(generation);
        self.native.tape.committed();
        self.journal.committed(generation, oldest);
        for domain in self.domains() {
            domain.progressed();
            domain.committed_keys();
            domain.tape.committed();
            let [out, err, input] = [0, 1, 2].map(|i: usize| domain.captured[i].load(SeqCst));
            if let Some(releaser) = domain.releaser() {
                releaser.release([out, err]);
            }
            domain.console.input_committed(input);
            domain.network.committed();
            if domain.captured_end.load(SeqCst) {
                domain.committed_end.store(true, SeqCst);
                domain.bell.ring();
            }
        }
    }

    /// The capture came to nothing.
    pub fn failed(&self) {
        self.capture.leave(Phase::Capturing);
        for domain in self.domains().into_iter().filter(|domain| domain.network.held() > 0) {
            // Peers wait for what only a capture lets go: the next one is not for nothing.
            domain.touched.store(true, SeqCst);
        }
        self.native.failed();
    }
}

fn is_frozen(domain: &Domain) -> bool {
    domain.control.cause() == crate::abi::FREEZE_SIGNAL
}
