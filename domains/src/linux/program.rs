//! One program: its state, the caches made from it, and what happens at each stop.

use super::calls::{self, Call};
use super::files::Files;
use super::keys::{self, KeyCall};
use super::loader::{self, LoadError};
use super::mail::{Ahead, Parcel};
use super::mm::Mm;
use super::process::Process;
use super::signals::{Delivered, Info, Signals};
use super::state::State;
use super::user::UserMemory;
use super::vma::EXEC;
use super::{Answer, Errno, ExitStatus, Fault, Host, Outcome, Wait, names, signals, time};
use crate::abi::Order;
use crate::cpu::{Cpu, Registers};
use crate::inputs::Position;
use crate::processor::is_question;
use crate::table::{RecordId, TableMemory};
use semper_pager::Segment;
use semper_store::{PageRange, SegmentId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const SIGSEGV: u32 = 11;
const SEGV_MAPERR: u32 = 1;
const SEGV_ACCERR: u32 = 2;

/// What a program is started with.
pub struct ProgramSpec<'a> {
    /// Path under which the program sees itself (`AT_EXECFN`, `/proc/self/exe`).
    pub path: &'a [u8],
    /// The ELF file.
    pub image: &'a [u8],
    /// The ELF file of its interpreter, for one that asks for an interpreter.
    pub interpreter: Option<&'a [u8]>,
    /// Its arguments, the name first.
    pub args: Vec<Vec<u8>>,
    /// Its environment, `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// `AT_HWCAP2`: bit 1 if rdfsbase and its kin work in a domain.
    pub hwcap2: u64,
}

/// Where a program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// First instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
}

/// A program under the `linux` personality.
pub struct Program {
    /// What the kernel gives it.
    pub(super) host: Host,
    /// Its memory, as the kernel may touch it.
    pub(super) user: UserMemory,
    /// Its records, under one transaction a call.
    pub(super) state: State,
    /// Areas and the program break.
    pub(super) mm: Mm,
    /// Open files, directories, console.
    pub(super) files: Files,
    /// Handlers, masks, pending signals.
    pub(super) signals: Signals,
    /// Identity, limits, timers, what it waits for.
    pub(super) process: Process,
    /// The invocation of a key that it stands in.
    pub(super) key_call: Option<(RecordId, KeyCall)>,
    pub(super) orders: Vec<Order>,
    /// The network of `host`.
    pub(super) ahead: Arc<Ahead>,
    /// What came ahead, during a stop; the bytes are in `ahead`.
    pub(super) parcels: Vec<Parcel>,
    /// Whether there are pages for it.
    pub(super) has_mail: bool,
    told: BTreeSet<u64>,
}

/// Puts what came ahead before the network of a host.
fn ahead_of(host: &mut Host) -> Arc<Ahead> {
    let ahead = Ahead::new(Arc::clone(&host.network));
    host.network = Arc::clone(&ahead) as Arc<dyn super::Network>;
    ahead
}

impl Program {
    /// Makes a program from an ELF file: its memory image, its stack, its first records.
    ///
    /// # Errors
    /// [`LoadError`], as a sentence for whoever started it. The segments are to be thrown away then.
    pub fn create(
        host: Host,
        memory: Arc<Segment>,
        state: Box<dyn TableMemory>,
        spec: &ProgramSpec<'_>,
    ) -> Result<(Self, Start), LoadError> {
        let mut host = host;
        let ahead = ahead_of(&mut host);
        let mut state = State::create(state)?;
        state.begin();
        let process = Process::create(&mut state, spec)?;
        let files = Files::create(&mut state, &host).map_err(LoadError::Records)?;
        let mut program = Self {
            user: UserMemory::new(memory, super::vma::Vmas::default()),
            mm: Mm::default(),
            signals: Signals::create(&mut state)?,
            key_call: None,
            orders: Vec::new(),
            ahead,
            parcels: Vec::new(),
            has_mail: false,
            told: BTreeSet::new(),
            host,
            state,
            files,
            process,
        };
        let start = loader::load(&mut program, spec)?;
        program.settle_memory().map_err(LoadError::Records)?;
        program.state.commit();
        program.orders.clear();
        Ok((program, start))
    }

    /// Opens a program whose state exists: after a restart, or in another runtime.
    ///
    /// # Errors
    /// [`LoadError`] if the records are damaged or contradict each other.
    pub fn load(host: Host, memory: Arc<Segment>, state: Box<dyn TableMemory>) -> Result<Self, LoadError> {
        let mut host = host;
        let ahead = ahead_of(&mut host);
        let state = State::open(state)?;
        let (mm, vmas) = Mm::load(&state)?;
        let program = Self {
            user: UserMemory::new(memory, vmas),
            mm,
            files: Files::load(&state, &host).map_err(LoadError::Records)?,
            signals: Signals::load(&state)?,
            process: Process::load(&state)?,
            key_call: keys::load(&state),
            orders: Vec::new(),
            ahead,
            parcels: Vec::new(),
            has_mail: false,
            told: BTreeSet::new(),
            host,
            state,
        };
        match program.check() {
            Some(wrong) => Err(LoadError::Damaged(wrong)),
            None => Ok(program),
        }
    }

    /// Whether its process has an inbox and an outbox.
    pub fn set_mail(&mut self, has: bool) {
        self.has_mail = has;
    }

    /// Serves the system call that the domain stands in.
    pub fn syscall(&mut self, cpu: &mut Cpu<'_>) -> Outcome {
        if let Some(status) = self.process.ended() {
            return Outcome::Ended(status);
        }
        self.fire_timers();
        let (number, arguments) = cpu.call();
        let result = match calls::find(number) {
            Some(call) => self.run(call, cpu, arguments),
            None => {
                self.tell_unserved(number);
                Err(Errno::ENOSYS)
            }
        };
        match result {
            Ok(Answer::Ended(status)) => Outcome::Ended(status),
            Ok(Answer::Wait(wait)) if wait.journal || !self.signals.interrupts() || !self.gives_up(number) => {
                self.waiting(wait)
            }
            Ok(Answer::Wait(wait)) => match wait.network.then(|| self.moved_so_far()).flatten() {
                Some(moved) => {
                    cpu.regs.rax = moved;
                    self.finish(cpu, None)
                }
                None => {
                    cpu.regs.rax = time::interrupted(self, number, arguments).as_result();
                    self.finish(cpu, Some(number))
                }
            },
            Ok(Answer::Registers) => self.finish(cpu, None),
            Ok(Answer::Value(value)) => {
                cpu.regs.rax = value;
                self.finish(cpu, None)
            }
            Err(errno) => {
                cpu.regs.rax = errno.as_result();
                self.finish(cpu, None)
            }
        }
    }

    /// Turns a processor exception into a signal of the program's.
    pub fn fault(&mut self, cpu: &mut Cpu<'_>, fault: Fault) -> Outcome {
        if let Some(status) = self.process.ended() {
            return Outcome::Ended(status);
        }
        self.fire_timers();
        self.state.begin();
        // The whole window is one mapping to Linux, so what the program has not mapped looks protected to it.
        let unmapped = fault.signal == SIGSEGV && self.user.vmas.find(fault.address).is_none();
        let code = if unmapped && fault.code == SEGV_ACCERR { SEGV_MAPERR } else { fault.code };
        let fault = Fault { code, ..fault };
        let Registers { rip, rsp, .. } = cpu.regs;
        let delivered = signals::deliver_fault(self, cpu, fault);
        if let Ok(Delivered::Ended(_)) = delivered {
            let Fault { signal, code, address } = fault;
            tracing::info!(program = %self.host.name, signal, code, "it faults at {address:#x}, instruction {rip:#x}, stack {rsp:#x}");
        }
        self.settle(cpu, delivered)
    }

    /// Serves an instruction that reads the time-stamp counter, where that is trapped: nanoseconds of monotonic time. False: it is another fault.
    pub fn reads_counter(&mut self, cpu: &mut Cpu<'_>) -> bool {
        let length = match self.user.read(cpu.regs.rip, 2).as_deref() {
            Ok([0x0f, 0x31]) => 2,
            Ok([0x0f, 0x01]) if self.user.read(cpu.regs.rip, 3).is_ok_and(|code| code[2] == 0xf9) => 3,
            _ => return false,
        };
        let now = time::nanos(self.host.clock.monotonic());
        (cpu.regs.rax, cpu.regs.rdx) = (now & 0xffff_ffff, now >> 32);
        if length == 3 {
            // The processor's number, as `getcpu` tells it.
            cpu.regs.rcx = 0;
        }
        cpu.regs.rip += length;
        true
    }

    /// Whether it is told by its kernel what the processor is.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        self.host.answers.is_some()
    }

    /// Serves `cpuid`, or what was put in its place, where the program has answers. False: it is another fault.
    pub fn asks_processor(&mut self, cpu: &mut Cpu<'_>) -> bool {
        let Some(answers) = &self.host.answers else { return false };
        let (at, mut code) = (cpu.regs.rip, [0; 2]);
        let executed = self.user.vmas.accessible(at, 2, EXEC) == 2 && self.user.fetch(at, &mut code).is_ok();
        let asks = executed && is_question(code, cpu.regs.trap);
        if asks {
            answers.give(&mut cpu.regs);
        }
        asks
    }

    /// The domain was stopped between two instructions: delivers what is due.
    pub fn interrupted(&mut self, cpu: &mut Cpu<'_>) -> Outcome {
        if let Some(status) = self.process.ended() {
            return Outcome::Ended(status);
        }
        self.fire_timers();
        self.finish(cpu, None)
    }

    /// A signal comes from the terminal. False: the program has no wish about it and would be ended; nothing is done then.
    pub fn signal_from_terminal(&mut self, signal: u8) -> bool {
        if !self.signals.wishes(signal) {
            return false;
        }
        self.state.begin();
        match self.signals.send(&mut self.state, Info::from_kernel(signal)) {
            Ok(()) => self.state.commit(),
            Err(errno) => {
                tracing::warn!(program = %self.host.name, errno = errno.0, signal, "a signal of the terminal is lost");
                self.undo();
            }
        }
        true
    }

    /// What has to be done in the domain's process before it goes on.
    #[must_use]
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// What makes the memory of a new process (all of it inaccessible) the program's.
    #[must_use]
    pub fn protection_orders(&self) -> Vec<Order> {
        self.mm.protection_orders(&self.user.vmas)
    }

    /// The pages of memory that mean something; whatever else the segment holds is rubbish.
    #[must_use]
    pub fn mapped_ranges(&self) -> Vec<PageRange> {
        self.user.vmas.iter().map(|v| PageRange::between(v.start >> 12, v.end >> 12)).collect()
    }

    /// Domain monotonic time at which the program has to be stopped: its next timer's, or at once for a signal that waits.
    #[must_use]
    pub fn timer_deadline(&self) -> Option<Duration> {
        if self.signals.interrupts() { Some(Duration::ZERO) } else { self.process.timer_deadline() }
    }

    /// Its records in the journal.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn super::Journal> {
        Arc::clone(&self.host.journal)
    }

    /// What it may do with segments.
    #[must_use]
    pub fn room(&self) -> Arc<dyn super::Segments> {
        Arc::clone(&self.host.segments)
    }

    /// The segments that its files and streams occupy.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentId> {
        self.files.segments()
    }

    /// Where the program stands among its inputs, as its state says; none if it is not recorded.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.state.iter::<Position>().next().map(|(_, position)| position)
    }

    /// Notes where it stands among its inputs.
    ///
    /// # Errors
    /// `ENOMEM`: its state is full.
    pub fn note_position(&mut self, position: &Position) -> Result<(), Errno> {
        let known = self.state.iter::<Position>().next();
        self.state.begin();
        match known {
            Some((_, known)) if known == *position => {}
            Some((at, _)) => self.state.update(at, position)?,
            None => self.state.insert(position).map(drop)?,
        }
        self.state.commit();
        Ok(())
    }

    /// Forgets what a load of its state would not know: then whatever goes on from a capture does what the program does that went on.
    pub fn forget(&mut self) {
        self.user.discard_doomed();
        self.mm.forget();
        self.files.forget_told();
    }

    /// Brings memory into the state that a capture may see: nothing waits to be discarded.
    pub fn before_capture(&mut self) {
        self.user.discard_doomed();
    }

    /// What is wrong with the program's state, if anything.
    #[must_use]
    pub fn check(&self) -> Option<String> {
        self.user
            .vmas
            .check()
            .or_else(|| self.mm.check(&self.user.vmas))
            .or_else(|| self.process.check())
            .or_else(|| self.files.check())
    }

    /// Runs one handler in one transaction.
    fn run(&mut self, call: &Call, cpu: &mut Cpu<'_>, arguments: [u64; 6]) -> Result<Answer, Errno> {
        let orders = self.orders.len();
        self.state.begin();
        let result = (call.handler)(self, cpu, arguments).and_then(|answer| {
            self.settle_memory()?;
            Ok(answer)
        });
        match result {
            Ok(_) => {
                self.state.commit();
                self.close_sockets();
            }
            Err(_) => {
                self.orders.truncate(orders);
                self.undo();
            }
        }
        result
    }

    /// Aborts the open transaction and makes the caches say what the records say.
    pub(super) fn undo(&mut self) {
        self.user.forget();
        self.keep_sockets();
        if !self.state.abort() && self.user.vmas.take_touched().is_empty() {
            return;
        }
        if let Err(error) = self.reload() {
            // The records were sound before the call, and it was undone: this is a bug, and going on could only spread it.
            tracing::error!(program = %self.host.name, %error, "the state cannot be read back; the program is ended");
            self.process.poison();
        }
    }

    fn reload(&mut self) -> Result<(), LoadError> {
        let (mm, vmas) = Mm::load(&self.state)?;
        self.mm = mm;
        // What waits to be discarded may lie above the break: the stub must not grow it into that.
        self.mm.stale_heap = true;
        self.user.vmas = vmas;
        self.signals = Signals::load(&self.state)?;
        self.process = Process::load(&self.state)?;
        self.files = Files::load(&self.state, &self.host).map_err(LoadError::Records)?;
        self.key_call = keys::load(&self.state);
        Ok(())
    }

    /// Ends a stop: the call is over (unless it is `restarting`), pending signals are delivered.
    fn finish(&mut self, cpu: &mut Cpu<'_>, restarting: Option<u64>) -> Outcome {
        self.state.begin();
        let delivered =
            self.process.clear_wait(&mut self.state).and_then(|()| signals::deliver_pending(self, cpu, restarting));
        self.settle(cpu, delivered)
    }

    fn settle(&mut self, _cpu: &mut Cpu<'_>, delivered: Result<Delivered, Errno>) -> Outcome {
        match delivered {
            Ok(Delivered::Resume) => {
                self.state.commit();
                Outcome::Resume
            }
            Ok(Delivered::Ended(status)) => {
                let told = self.process.end(&mut self.state, status);
                if told.is_err() {
                    self.undo()
                } else {
                    self.state.commit()
                }
                Outcome::Ended(status)
            }
            Err(errno) => {
                tracing::warn!(program = %self.host.name, errno = errno.0, "a signal could not be delivered");
                self.undo();
                Outcome::Ended(ExitStatus::Signal(signals::SIGKILL))
            }
        }
    }

    /// The domain stays stopped; a timer may end the wait as well.
    fn waiting(&self, wait: Wait) -> Outcome {
        let until = match (wait.until, self.process.timer_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Outcome::Wait(Wait { until, ..wait })
    }

    fn fire_timers(&mut self) {
        let Some(at) = self.process.timer_deadline() else { return };
        let now = self.host.clock.monotonic();
        if at > now {
            return;
        }
        self.state.begin();
        match time::fire(self, now) {
            Ok(()) => self.state.commit(),
            Err(_) => self.undo(),
        }
    }

    fn tell_unserved(&mut self, number: u64) {
        if self.told.len() < calls::NUMBERS && self.told.insert(number) {
            let name = names::of(number).map_or_else(|| format!("number {number}"), str::to_owned);
            if calls::is_probe(number) {
                // Every libc tries these and does without.
                tracing::debug!(program = %self.host.name, number, "the call {name} is not served; it answers ENOSYS");
                return;
            }
            tracing::warn!(program = %self.host.name, number, "the call {name} is not served; it answers ENOSYS");
        }
    }
}
