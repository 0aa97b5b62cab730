//! Serving one domain: a thread waits for its posts, runs one transaction for each, and lets it go on.

use super::domain::Domain;
use super::{Kernel, mail};
use crate::abi::{CAUSE_READY, FREEZE_SIGNAL, GO, MAX_ORDERS, RUNNING};
use crate::cpu::{Cpu, Registers};
use crate::inputs::Advance;
use crate::linux::{Errno, ExitStatus, Fault, Outcome, Wait};
use crate::platform::PlatformError;
use crate::platform::frame::Frame;
use crate::platform::process::{Posted, Process};
use crate::platform::together::Together;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use semper_store::PageRange;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How often a domain is given another process in place of one that died while it was made or told something.
const MAX_PROCESSES: u32 = 10;
/// How often a roll-back is tried while captures are in its way.
const MAX_REVERTS: u32 = 100;
/// How long what a program put by to be sent waits for it to stop.
const OUTBOX_PATIENCE: Duration = Duration::from_millis(2);
const SIGKILL: u8 = 9;
const SIGSEGV: u8 = 11;
const SIGSYS: u32 = 31;
const SIGSEGV_CAUSE: u32 = 11;

/// Serves `domain` until it has ended and that is committed, or the runtime ends.
pub fn serve(kernel: &Arc<Kernel>, domain: &Arc<Domain>) {
    semper_pager::run_soon();
    // It could invoke keys of native domains, which are not yet where they were.
    while kernel.native.tape.is_replaying() && !domain.closing.load(SeqCst) && !kernel.is_closing() {
        domain.bell.wait(domain.bell.rings(), Some(Instant::now() + Duration::from_millis(5)));
    }
    if domain.ended().is_none() {
        let mut server = Server { kernel, domain, interrupted: false, sent_ahead: 0, together: Together::default() };
        if let Err(error) = server.run() {
            tracing::error!(%error, domain = %domain.name, "the domain is ended");
            let _pass = kernel.gate.enter();
            kernel.end(domain, ExitStatus::Signal(SIGKILL));
        }
    }
    if domain.ended().is_none() {
        return;
    }
    domain.touched.store(true, SeqCst);
    loop {
        let rings = domain.bell.rings();
        if domain.committed_end.load(SeqCst) {
            kernel.finish(domain);
            return;
        }
        if domain.closing.load(SeqCst) {
            return;
        }
        kernel.surroundings.hasten();
        domain.bell.wait(rings, Some(Instant::now() + Duration::from_millis(500)));
    }
}

/// Tells the process and its domain when the process dies.
pub fn watch(process: &Arc<Process>, domain: &Arc<Domain>) -> Result<(), PlatformError> {
    let (process, domain) = (Arc::clone(process), Arc::downgrade(domain));
    let run = move || {
        loop {
            let mut fds = [PollFd::new(process.pidfd().as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                _ => break,
            }
        }
        process.set_dead();
        if let Some(domain) = domain.upgrade() {
            domain.bell.ring();
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(run).map_err(PlatformError::system("start a thread"))?;
    Ok(())
}

struct Server<'a> {
    kernel: &'a Arc<Kernel>,
    domain: &'a Arc<Domain>,
    /// A timer is due and the domain was asked to stop for it.
    interrupted: bool,
    /// Letters that the domain put by since it went on and that were sent meanwhile.
    sent_ahead: usize,
    together: Together,
}

impl Server<'_> {
    fn run(&mut self) -> Result<(), super::KernelError> {
        let mut waiting: Option<Wait> = None;
        let mut rings = self.domain.bell.rings();
        loop {
            // It may have been ended since its process died.
            if self.domain.closing.load(SeqCst) || self.domain.ended().is_some() {
                return Ok(());
            }
            if self.domain.is_killed() {
                let _pass = self.kernel.gate.enter();
                self.kernel.end(self.domain, ExitStatus::Signal(SIGKILL));
                return Ok(());
            }
            if self.domain.is_held() {
                let held = self.domain.bell.rings();
                if self.domain.is_held() && !self.domain.closing.load(SeqCst) && !self.domain.is_killed() {
                    self.domain.bell.wait(held, None);
                }
                continue;
            }
            match waiting {
                // What it waits for was told before.
                Some(_) if self.domain.tape.is_replaying() => {}
                Some(wait) if wait.journal => {
                    let journal = self.domain.program().journal();
                    journal.work();
                }
                Some(wait) if wait.room => {
                    let segments = self.domain.program().room();
                    segments.make_room();
                }
                Some(wait) => self.domain.bell.wait(rings, wait.until.map(|t| self.instant(t))),
                None => {
                    if !self.wait_for_post()? {
                        continue;
                    }
                }
            }
            if self.domain.tape.has_much() {
                self.kernel.recorder.poke();
                self.domain.tape.wait_for_room();
            }
            // Rings from here on are seen by the next wait.
            rings = self.domain.bell.rings();
            let outcome = {
                let _pass = self.kernel.gate.enter();
                if self.domain.closing.load(SeqCst) {
                    return Ok(());
                }
                if self.domain.is_killed() || self.domain.is_held() {
                    continue;
                }
                self.step()?
            };
            match outcome {
                Outcome::Resume => waiting = None,
                Outcome::Wait(wait) => waiting = Some(wait),
                Outcome::Ended(_) => return Ok(()),
            }
        }
    }

    /// Domain monotonic time as an instant.
    fn instant(&self, time: Duration) -> Instant {
        Instant::now() + time.saturating_sub(self.kernel.clock.monotonic())
    }

    /// Waits until the domain has posted; false: look again.
    fn wait_for_post(&mut self) -> Result<bool, super::KernelError> {
        let Some(process) = self.domain.process() else { return Ok(true) };
        let deadline = self.domain.program().timer_deadline();
        let asked = self.interrupted || self.domain.tape.is_replaying();
        let deadline = if asked { None } else { deadline.map(|t| self.instant(t)) };
        let looks = !self.domain.tape.is_replaying() && mail::may_put_by(&self.domain.control, self.sent_ahead);
        let look = looks.then(|| Instant::now() + OUTBOX_PATIENCE);
        let due = deadline;
        let deadline = due.into_iter().chain(look).min();
        match process.wait(deadline, self.kernel.spins(), self.interrupted, &mut self.together) {
            Posted::Cause => {
                self.interrupted = false;
                Ok(true)
            }
            Posted::TimedOut => {
                let now = Instant::now();
                if due.is_some_and(|due| due <= now) {
                    self.interrupted = process.freeze().is_some();
                } else if look.is_some_and(|look| look <= now) {
                    self.send_ahead();
                }
                Ok(false)
            }
            Posted::Dead => {
                self.interrupted = false;
                self.bury()?;
                Ok(self.domain.ended().is_none())
            }
        }
    }

    /// What was put by does not wait for a program that computes: it is sent while that runs. When the program stops it is sent again, which
    /// counts for what has been: so a recorded program is not disturbed, and no step of its differs.
    fn send_ahead(&mut self) {
        let domain = self.domain;
        // What a capture contains was put by before it.
        let _pass = self.kernel.gate.enter();
        for letter in mail::put_by(&domain.control, self.sent_ahead, domain.tape.life().id) {
            match domain.network.send_ahead(letter.connection, &letter.bytes) {
                // More than there was room for when the program was let put it by.
                Err(Errno::EAGAIN) => return,
                // Then it is told, too.
                Ok(()) | Err(_) => self.sent_ahead += 1,
            }
        }
    }

    /// The process is dead. If the domain stood in its pages nothing is lost; else it goes back alone to the newest generation.
    fn bury(&self) -> Result<(), super::KernelError> {
        let (kernel, domain) = (self.kernel, self.domain);
        let state = domain.control.state().load(SeqCst);
        if domain.process().is_some_and(|process| process.has_refused()) {
            tracing::error!(domain = %domain.name, "it would not stop for a checkpoint; the domain is ended");
            let _pass = kernel.gate.enter();
            kernel.end(domain, ExitStatus::Signal(SIGKILL));
            return Ok(());
        }
        if state == GO && !domain.is_held() {
            // It has not taken up its answer, so no instruction of the domain's was executed since.
            let _pass = kernel.gate.enter();
            if !domain.closing.load(SeqCst) && !domain.is_killed() {
                self.revive()?.go(&[]);
            }
            return Ok(());
        }
        if state != RUNNING && state != GO {
            if let Some(process) = domain.set_process(None) {
                process.end();
            }
            return Ok(());
        }
        if domain.closing.load(SeqCst) || domain.is_killed() {
            return Ok(());
        }
        if domain.died() {
            tracing::error!(domain = %domain.name, "its process dies again and again before it gets anywhere; the domain is ended");
            let _pass = kernel.gate.enter();
            kernel.end(domain, ExitStatus::Signal(SIGKILL));
            return Ok(());
        }
        tracing::info!(domain = %domain.name, "its process died; the domain goes back to the newest generation");
        for _ in 0..MAX_REVERTS {
            let result = kernel.capture.while_idle(|| {
                let _pass = kernel.gate.enter();
                if domain.is_entangled() {
                    tracing::error!(domain = %domain.name, "it had invoked keys since, so it cannot; the domain is ended");
                    kernel.end(domain, ExitStatus::Signal(SIGKILL));
                    return Ok(());
                }
                kernel.revert(domain)
            });
            match result {
                // A capture that began while all was idle: it ends, refused because of this domain, and leaves the way free.
                Err(super::KernelError::Pager(semper_pager::Error::CaptureOpen(_))) => {
                    let _ = kernel.surroundings.commit_now();
                }
                other => return other,
            }
        }
        Err(super::KernelError::Refused("no moment without a capture was found to roll the domain back".into()))
    }

    /// One transaction: what the domain posted is served and it goes on, unless it has to wait or has ended.
    fn step(&mut self) -> Result<Outcome, super::KernelError> {
        let domain = self.domain;
        let process = match domain.process() {
            Some(process) if !process.is_dead() => process,
            // Since it was seen to stand a capture let it go on, and it died in its own code: it is buried, not revived as it stood.
            Some(_) if matches!(domain.control.state().load(SeqCst), GO | RUNNING) => return Ok(Outcome::Resume),
            _ => self.revive()?,
        };
        if !process.is_stopped() {
            return Ok(Outcome::Resume);
        }
        let control = &domain.control;
        let cause = control.cause();
        let mut forgets = false;
        match self.kernel.advance(domain) {
            Advance::Goes { forgets: so } => forgets = so,
            Advance::Live => self.kernel.goes_live(domain),
            Advance::Stands => {
                self.kernel.program_stands();
                return Ok(Outcome::Wait(Wait::default()));
            }
        }
        domain.touched.store(true, SeqCst);
        let mut program = domain.program();
        if forgets {
            program.forget();
        }
        program.note_brk(control.brk());
        program.note_pool(control.pool_next());
        let mut frame = match Frame::find(control) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, domain = %domain.name, "the domain is ended");
                drop(program);
                return Ok(self.ended(ExitStatus::Signal(SIGSEGV)));
            }
        };
        let before = frame.load();
        let bases = (control.fs_base(), control.gs_base());
        let mut cpu = Cpu { regs: before, fs_base: bases.0, gs_base: bases.1, extended: &mut frame };
        let due = program.timer_deadline();
        let stands = matches!(cause, CAUSE_READY | FREEZE_SIGNAL);
        if !stands {
            domain.tape.step(stop_of(cause, &before));
        }
        // What a replay is told, it is told in steps.
        let reads_mail = !(stands && domain.tape.is_on());
        if reads_mail {
            // Also when it went back to where nothing lay there.
            self.sent_ahead = 0;
            if let Some(mail) = mail::take(control) {
                program.open_mail(mail);
            }
        }
        let outcome = match cause {
            FREEZE_SIGNAL if domain.tape.is_replaying() => Outcome::Resume,
            SIGSYS => program.syscall(&mut cpu),
            CAUSE_READY | FREEZE_SIGNAL => program.interrupted(&mut cpu),
            SIGSEGV_CAUSE if program.asks_processor(&mut cpu) => Outcome::Resume,
            SIGSEGV_CAUSE if domain.tape.is_on() && program.reads_counter(&mut cpu) => Outcome::Resume,
            4 | 5 | 7 | 8 | 11 => {
                program.fault(&mut cpu, Fault { signal: cause, code: control.code(), address: control.address() })
            }
            cause => {
                let status = control.order_status();
                tracing::warn!(domain = %domain.name, cause, status, "an order failed in the domain's process, or it posted nonsense");
                Outcome::Ended(ExitStatus::Signal(SIGKILL))
            }
        };
        if let Some(mail) = reads_mail.then(|| program.close_mail()).flatten() {
            mail::put(control, &mail);
        }
        let (after, fs, gs) = (cpu.regs, cpu.fs_base, cpu.gs_base);
        if stands && (after != before || due != program.timer_deadline()) {
            domain.tape.cut("a signal came between two instructions");
        }
        if !stands && let Err(why) = domain.tape.stepped() {
            self.kernel.surroundings.differs(&format!("{} does not do again what it did: {why}", domain.name));
            return Ok(Outcome::Wait(Wait::default()));
        }
        if after != before {
            frame.store(&before, &after);
        }
        if (fs, gs) != bases {
            control.set_fs_base(fs);
            control.set_gs_base(gs);
        }
        if let Outcome::Ended(status) = outcome {
            drop(program);
            return Ok(self.ended(status));
        }
        let mut orders = program.take_orders();
        // What the stub may answer changes with a step that is counted: a replay takes no other at the same place.
        if !(stands && domain.tape.is_on()) {
            let (start, current, granted) = program.brk_state();
            control.set_brk_start(start);
            control.set_brk(current);
            control.set_brk_granted(granted);
            let (start, next) = program.pool_state();
            control.set_pool_start(start);
            control.set_pool_next(next);
            if let Some(ranges) = program.advice_ranges() {
                control.set_advice(ranges);
            }
        }
        drop(program);
        if cause == SIGSYS && before.rax == crate::guest::SYSCALL {
            self.kernel.write_by_key();
        }
        let last = orders.split_off(orders.len().saturating_sub(MAX_ORDERS));
        let told = process.order(&orders).and_then(|()| match outcome {
            Outcome::Resume => {
                process.go(&last);
                Ok(())
            }
            _ => process.order(&last),
        });
        match told {
            // A new one is made as the program has it by now.
            Err(PlatformError::Died { .. }) => {
                let process = self.revive()?;
                if let Outcome::Resume = outcome {
                    process.go(&[]);
                }
            }
            told => told?,
        }
        Ok(outcome)
    }

    /// A new process for the domain, which stands in its pages. One that is killed before it is ready is made again.
    fn revive(&self) -> Result<Arc<Process>, PlatformError> {
        let mut attempts = 1;
        loop {
            match self.kernel.revive(self.domain) {
                Err(PlatformError::Died { .. }) if attempts < MAX_PROCESSES => attempts += 1,
                made => return made,
            }
        }
    }

    fn ended(&self, status: ExitStatus) -> Outcome {
        self.kernel.end(self.domain, status);
        Outcome::Ended(status)
    }
}

/// Tells one call or fault of a program from others.
fn stop_of(cause: u32, at: &Registers) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for word in [u64::from(cause), at.rip, at.rsp, at.rax, at.rdi, at.rsi, at.rdx, at.r10, at.r8, at.r9] {
        sum.update(&word.to_le_bytes());
    }
    sum.finalize()
}

impl Kernel {
    /// Makes one domain again what the newest generation holds of it.
    fn revert(self: &Arc<Self>, domain: &Arc<Domain>) -> Result<(), super::KernelError> {
        if let Some(process) = domain.set_process(None) {
            process.end();
        }
        // What it was told since is told again.
        self.empty_tapes();
        let record = self.records().into_iter().find(|r| r.id == domain.id);
        let record = record.ok_or_else(|| super::KernelError::Refused("the domain has no record".into()))?;
        let mut program = domain.program();
        for (segment, pages) in self.segments_of(domain.id) {
            if segment != domain.memory.id() && self.pager.segment(segment).is_some() {
                self.pager.revert_segment(segment, &[PageRange::between(0, pages)])?;
            }
        }
        let state = self.open_segment(domain.id, semper_store::SegmentId(record.program), None)?;
        *program = self.load_program(
            &record,
            &domain.memory,
            &state,
            (&domain.console, &domain.network, &domain.tape),
            &domain.clock,
        )?;
        self.resume_tape(&program, &domain.tape, &record, true)?;
        program.show_terminal_modes();
        domain.network.reset();
        domain.network.set_listening(&program.listening());
        let outputs = program.outputs();
        domain.console.set_written([outputs[0].written, outputs[1].written]);
        Ok(())
    }
}
