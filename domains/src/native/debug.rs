//! A debugger on a native domain: it is stopped, looked at, changed and let go on from outside.
//!
//! A breakpoint is an `int3` in a private copy of its page, which the domain's process maps, without the right to write, instead of the
//! page itself: no other domain sees it, no capture holds it. A write of the domain to such a page is done by one step over
//! the page itself. While a session is on, the domain's SIGTRAP, SIGSEGV, SIGBUS, SIGFPE and SIGILL come to the debugger and not to its keeper.
//! What is not kept over a restart of the runtime is the session; a domain that stood in it is stopped then.

use super::inspect::find_object;
use super::program::explain;
use super::turn::Turn;
use super::{ExecutiveError, Native};
use crate::cpu::Registers;
use crate::kernel::{Kernel, KernelError};
use crate::objects::{self, Fault, Phase, Rights};
use crate::platform::PlatformError;
use crate::table::RecordId;
use semper_store::PAGE_SIZE;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAGE: u64 = PAGE_SIZE as u64;
/// The processor's trap flag: one instruction, then SIGTRAP.
const TRAP_FLAG: u64 = 0x100;
/// `si_code` of the trap after an instruction.
const TRAP_TRACE: u32 = 2;
const SIGINT: u32 = 2;
const SIGTRAP: u32 = 5;
const SIGSEGV: u32 = 11;

/// Why a domain that is debugged stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stood {
    /// By this signal; SIGTRAP after a step, SIGINT when it was asked to.
    Signal(u32),
    /// At a breakpoint.
    Breakpoint,
    /// It is gone.
    Gone,
}

/// A debugger is on a domain.
pub(super) struct Session {
    pub(super) id: RecordId,
    /// Addresses with an `int3`.
    pub(super) breakpoints: BTreeSet<u64>,
    /// Its next instruction alone is executed.
    stepping: bool,
    /// It executes one instruction without breakpoints, since that writes to a page that has one.
    pub(super) bare: bool,
    /// It stands, and this has not been told yet or was the last that was.
    stood: Option<Stood>,
    /// The fault that it stands at, for its keeper if the debugger passes it on.
    fault: Option<Fault>,
}

/// A session, from outside. The domain goes on as it was before when it is dropped.
pub struct Debugger {
    kernel: Arc<Kernel>,
    id: RecordId,
    /// Whether it is left stopped at the end.
    leave_stopped: bool,
}

/// Why a record ends.
pub(super) const DEBUGGED: &str = "a debugger was on a domain";

impl Kernel {
    /// Stops the domain `INDEX.VERSION`, or the first of a native program by its name, and puts a debugger on it. None: there is no such object.
    ///
    /// # Errors
    /// When it is no native domain that has begun, or a debugger is on it already.
    pub fn debug(self: &Arc<Self>, domain: &str, leave_stopped: bool) -> Result<Option<Debugger>, KernelError> {
        let Some(id) = find_object(&self.objects().table, domain) else { return Ok(None) };
        let _pass = self.gate.enter();
        let mut state = self.native.state();
        let mut turn = Turn { kernel: self, state: &mut state };
        let refused = |why: &str| KernelError::Refused(format!("domain {id:?} cannot be debugged: {why}"));
        let found = self.objects().table.get::<objects::Domain>(id);
        let core = found.map_err(|_| refused("it is another kind of object"))?;
        if !core.is_native() {
            return Err(refused("it is a Linux program; gdb is for native domains"));
        }
        if matches!(core.phase(), Phase::New | Phase::Dying) {
            return Err(refused("it is no native domain that has begun"));
        }
        if turn.state.debugged.contains_key(&id.index()) {
            return Err(refused("a debugger is on it already"));
        }
        if self.native.is_retelling() {
            return Err(refused("it is being told again what it was told; wait until that is over"));
        }
        self.native.tape.cut(DEBUGGED);
        let was_stopped = core.has(objects::STOPPED);
        let stood = Some(Stood::Signal(SIGTRAP));
        let session = Session { id, breakpoints: BTreeSet::new(), stepping: false, bare: false, stood, fault: None };
        turn.state.debugged.insert(id.index(), session);
        if let Err(error) = turn.stand_still(id) {
            turn.state.debugged.remove(&id.index());
            return Err(explain(error));
        }
        Ok(Some(Debugger { kernel: Arc::clone(self), id, leave_stopped: leave_stopped || was_stopped }))
    }
}

impl Debugger {
    fn turn<T>(&self, act: impl FnOnce(&mut Turn<'_>) -> Result<T, ExecutiveError>) -> Result<T, KernelError> {
        self.kernel.interfere(DEBUGGED, act)?.map_err(explain)
    }

    /// The register state, of the form of the order *get registers* of a domain key.
    ///
    /// # Errors
    /// When it is gone.
    pub fn registers(&self) -> Result<Vec<u8>, KernelError> {
        self.turn(|turn| Ok(turn.native(self.id)?.registers(crate::guest::MAX_STRING)))
    }

    /// Sets the register state; a shorter one leaves the rest as it is.
    ///
    /// # Errors
    /// When it is not one of this processor's; nothing is changed then.
    pub fn set_registers(&self, state: &[u8]) -> Result<(), KernelError> {
        self.turn(|turn| Ok(turn.native(self.id)?.set_registers(state)?))
    }

    /// Reads memory through the domain's mappings; as many bytes as are mapped from `address` on.
    ///
    /// # Errors
    /// When a page cannot be read from the store.
    pub fn read(&self, address: u64, len: usize) -> Result<Vec<u8>, KernelError> {
        self.turn(|turn| {
            let mut bytes = vec![0; len];
            let done = turn.each_piece(self.id, address, len, |segment, offset, from, to, _| {
                segment.read_at(offset, &mut bytes[from..to])?;
                Ok(true)
            })?;
            bytes.truncate(done);
            Ok(bytes)
        })
    }

    /// Writes memory through the domain's mappings. False: not all of it is mapped with the right to write; what comes
    /// before is written.
    ///
    /// # Errors
    /// When a page cannot be read from the store.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<bool, KernelError> {
        self.turn(|turn| {
            let done = turn.each_piece(self.id, address, bytes.len(), |segment, offset, from, to, may_write| {
                if may_write {
                    segment.write_at(offset, &bytes[from..to])?;
                }
                Ok(may_write)
            })?;
            Ok(done == bytes.len())
        })
    }

    /// Sets or takes away a breakpoint. False: the address is not mapped, or the domain has too many mappings.
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_breakpoint(&self, address: u64, on: bool) -> Result<bool, KernelError> {
        self.turn(|turn| {
            let mapped = turn.each_piece(self.id, address, 1, |_, _, _, _, _| Ok(true))? == 1;
            let Some(session) = turn.state.debugged.get_mut(&self.id.index()) else { return Ok(false) };
            if !on {
                return Ok(session.breakpoints.remove(&address));
            }
            session.breakpoints.insert(address);
            // Each page with breakpoints parts a mapping in three.
            let pages: BTreeSet<u64> = session.breakpoints.iter().map(|address| address / PAGE).collect();
            let fits = mapped && turn.areas(self.id)?.0.len() + 2 * pages.len() <= crate::abi::MAX_MAPPINGS;
            if !fits && let Some(session) = turn.state.debugged.get_mut(&self.id.index()) {
                session.breakpoints.remove(&address);
            }
            Ok(fits)
        })
    }

    /// Lets the domain go on, or execute one instruction. `pass_on`: the fault that it stands at goes to its keeper.
    ///
    /// # Errors
    /// When it cannot go on: it has no meter, or is gone.
    pub fn go(&self, step: bool, pass_on: bool) -> Result<(), KernelError> {
        self.turn(|turn| {
            let Some(session) = turn.state.debugged.get_mut(&self.id.index()) else { return Ok(Ok(())) };
            (session.stepping, session.stood) = (step, None);
            let fault = session.fault.take().filter(|_| pass_on);
            if step && fault.is_none() {
                turn.native(self.id)?.set_trap_flag(true)?;
            }
            let id = self.id;
            if let Some(fault) = fault {
                let was_first = turn.is_first(id);
                turn.fault(id, &fault)?;
                let phase = turn.kernel.objects().table.get::<objects::Domain>(id).map(|domain| domain.phase());
                if !matches!(phase, Ok(Phase::Running | Phase::Queued | Phase::Waiting)) {
                    // No keeper took it: its program has ended, or it stands where it stood.
                    if !was_first {
                        turn.stood(id, Stood::Signal(fault.cause));
                    }
                    return Ok(Ok(()));
                }
            }
            turn.transact(|table, around, effects| objects::start_domain(table, around, id, effects))
        })?
        .map_err(|error| KernelError::Refused(format!("domain {:?} cannot go on: {error}", self.id)))
    }

    /// Stops the domain, if it does not stand; the next [`Self::wait`] tells of SIGINT.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn interrupt(&self) -> Result<(), KernelError> {
        self.turn(|turn| {
            if turn.state.debugged.get(&self.id.index()).is_some_and(|session| session.stood.is_none()) {
                turn.stand_still(self.id)?;
                turn.stood(self.id, Stood::Signal(SIGINT));
            }
            Ok(())
        })
    }

    /// Waits until the domain stands; none: it runs still, or waits.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Option<Stood> {
        let deadline = Instant::now() + patience;
        loop {
            // Outside the gate the two locks are never held together: a capture takes them in the other order.
            let gone = match self.kernel.objects().table.get::<objects::Domain>(self.id) {
                Err(_) => true,
                Ok(domain) => domain.phase() == Phase::Dying,
            };
            if gone {
                return Some(Stood::Gone);
            }
            let state = self.kernel.native.state();
            if let Some(stood) = state.debugged.get(&self.id.index()).and_then(|session| session.stood) {
                return Some(stood);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.kernel.is_closing() {
                return None;
            }
            drop(self.kernel.native.wait_stood(state, left));
        }
    }

    /// The domain ends: its program, if it is the first of one, else itself.
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub fn kill(&self) -> Result<(), KernelError> {
        let id = self.id;
        self.turn(|turn| {
            if let Err(error) = turn.kill(id)? {
                tracing::debug!(%error, domain = %id, "it is gone already");
            }
            Ok(())
        })
    }

    /// At the end of the session the domain is left stopped, or goes on.
    pub fn leave_stopped(&mut self, stopped: bool) {
        self.leave_stopped = stopped;
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        if self.kernel.is_closing() {
            // The world stands as it was committed last.
            return;
        }
        let (id, stopped) = (self.id, self.leave_stopped);
        let ended = self.turn(|turn| {
            let there = turn.kernel.objects().table.contains(id);
            if there {
                turn.stand_still(id)?;
            }
            turn.state.debugged.remove(&id.index());
            if there && !stopped {
                let gone_on =
                    turn.transact(|table, around, effects| objects::start_domain(table, around, id, effects))?;
                if let Err(error) = gone_on {
                    tracing::warn!(%error, domain = %id, "it is left stopped by the debugger");
                }
            }
            Ok(())
        });
        if let Err(error) = ended {
            tracing::error!(%error, domain = %id, "the end of a debugger's session");
        }
    }
}

impl Turn<'_> {
    /// A domain is stopped, stands in its pages, and has no process: its registers and memory can be changed.
    fn stand_still(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        let stopped = self.transact(|table, around, effects| objects::stop_domain(table, around, id, effects))?;
        if let Err(error) = stopped {
            tracing::debug!(%error, domain = %id, "it cannot be stopped");
            return Ok(());
        }
        self.put_away(id)?;
        if self.loaded(id).is_some() {
            self.native(id)?.set_trap_flag(false)?;
        }
        Ok(())
    }

    fn stood(&mut self, id: RecordId, stood: Stood) {
        if let Some(session) = self.state.debugged.get_mut(&id.index()) {
            session.stood = Some(stood);
            self.kernel.native.tell_stood();
        }
    }

    /// A signal of a domain, before it is a fault: a debugger may take it. Returns whether it is served.
    pub(super) fn debugged(&mut self, id: RecordId, cause: u32) -> Result<bool, ExecutiveError> {
        let Some(session) = self.state.debugged.get(&id.index()).filter(|session| session.id == id) else {
            return self.stray_step(id, cause);
        };
        let (stepping, bare) = (session.stepping, session.bare);
        let breakpoints = session.breakpoints.clone();
        let native = self.native(id)?;
        let (code, address) = (native.control.code(), native.control.address());
        let mut registers = native.general()?;
        if cause == SIGTRAP && bare {
            self.set_bare(id, false);
            if !stepping {
                self.put_away(id)?;
                self.native(id)?.set_trap_flag(false)?;
                self.execute(id)?;
                return Ok(true);
            }
        }
        let at_page = |page: u64| breakpoints.iter().any(|address| address / PAGE == page);
        if cause == SIGSEGV && !bare && at_page(address / PAGE) && self.may_write(id, address)? {
            self.put_away(id)?;
            self.set_bare(id, true);
            self.native(id)?.set_trap_flag(true)?;
            self.execute(id)?;
            return Ok(true);
        }
        let mut stood = Stood::Signal(cause);
        if cause == SIGTRAP && code != TRAP_TRACE && breakpoints.contains(&registers.rip.wrapping_sub(1)) {
            registers.rip -= 1;
            self.native(id)?.set_general(&registers)?;
            stood = Stood::Breakpoint;
        }
        self.set_bare(id, false);
        let fault = self.native(id)?.fault(cause, &registers);
        self.stand_still(id)?;
        if let Some(session) = self.state.debugged.get_mut(&id.index()) {
            session.fault = (cause != SIGTRAP).then_some(fault);
        }
        self.stood(id, stood);
        Ok(true)
    }

    /// A step whose session a restart ended: the trap flag is a debugger's and nobody else's.
    fn stray_step(&mut self, id: RecordId, cause: u32) -> Result<bool, ExecutiveError> {
        if cause != SIGTRAP {
            return Ok(false);
        }
        let native = self.native(id)?;
        if native.control.code() != TRAP_TRACE || native.general()?.eflags & TRAP_FLAG == 0 {
            return Ok(false);
        }
        native.set_trap_flag(false)?;
        self.execute(id)?;
        Ok(true)
    }

    fn set_bare(&mut self, id: RecordId, bare: bool) {
        if let Some(session) = self.state.debugged.get_mut(&id.index()) {
            session.bare = bare;
        }
    }

    fn may_write(&self, id: RecordId, address: u64) -> Result<bool, ExecutiveError> {
        let page = address / PAGE;
        let mappings = objects::mappings(&self.kernel.objects().table, id)?;
        let mapping = mappings.iter().find(|m| (m.at..m.at + m.pages).contains(&page));
        Ok(mapping.is_some_and(|mapping| mapping.object.rights().contains(Rights::WRITE)))
    }

    /// Calls `act(segment, offset, from, to, may write)` for each piece of `len` bytes of a domain's memory from `address` on, until one is not mapped
    /// or `act` returns false. Returns for how many bytes it was done.
    fn each_piece(
        &mut self,
        id: RecordId,
        address: u64,
        len: usize,
        mut act: impl FnMut(&semper_pager::Segment, u64, usize, usize, bool) -> Result<bool, ExecutiveError>,
    ) -> Result<usize, ExecutiveError> {
        let areas = self.areas(id)?.0;
        let mut done = 0;
        while done < len {
            let at = address.wrapping_add(done as u64);
            let Some(area) = areas.iter().find(|area| area.contains(at)) else { break };
            let within = at - area.address;
            let piece = usize::try_from(area.length - within).unwrap_or(usize::MAX).min(len - done);
            if !act(&area.segment, area.offset + within, done, done + piece, area.may_write())? {
                break;
            }
            done += piece;
        }
        Ok(done)
    }
}

impl Native {
    /// Sets or clears the trap flag in its frame.
    fn set_trap_flag(&mut self, on: bool) -> Result<(), PlatformError> {
        let registers = self.general()?;
        let eflags = if on { registers.eflags | TRAP_FLAG } else { registers.eflags & !TRAP_FLAG };
        if eflags == registers.eflags { Ok(()) } else { self.set_general(&Registers { eflags, ..registers }) }
    }

    fn set_general(&mut self, registers: &Registers) -> Result<(), PlatformError> {
        let frame = self.frame()?;
        let before = frame.load();
        frame.store(&before, registers);
        self.touched = true;
        Ok(())
    }
}
