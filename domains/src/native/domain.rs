//! A native domain that is loaded: its control pages are mapped, and it may have a process.

use crate::abi::{CAUSE_READY, CONTROL_PAGES, FREEZE_SIGNAL, MESSAGE_OFFSET, POSTED};
use crate::cpu::{ExtendedState, LEGACY_AREA, PLAIN_STATE, Registers, is_register_state};
use crate::objects::Fault;
use crate::platform::PlatformError;
use crate::platform::control::Control;
use crate::platform::frame::{Frame, INITIAL_FLAGS, USER_SELECTORS};
use crate::platform::process::Process;
use crate::table::RecordId;
use semper_pager::Segment;
use semper_store::PageRange;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;
use zerocopy::{FromBytes, IntoBytes};

const SIGBUS: u32 = 7;
const SIGSEGV: u32 = 11;
const SIGSYS: u32 = 31;

/// A loaded domain.
pub struct Native {
    /// Its object.
    pub id: RecordId,
    /// The segment of its control pages.
    pub segment: Arc<Segment>,
    /// Those pages, mapped.
    pub control: Arc<Control>,
    /// Its process.
    pub process: Option<Arc<Process>>,
    /// A process that was killed and may not be dead yet.
    pub ending: Option<Arc<Process>>,
    /// The segments that its process maps.
    pub mapped: Vec<u64>,
    /// It runs, or is to: the kernel let it go on, and has not served what it posted since.
    pub executing: bool,
    /// It ran, or its control pages changed, since the last capture.
    pub touched: bool,
    /// It ran since its CPU time was charged last.
    pub ran: bool,
    /// CPU time of its process that has been charged, nanoseconds.
    pub charged: u64,
    /// Its meter was found used up while it waited: that comes to it when it goes on.
    pub overdrawn: bool,
    /// How often it posted something.
    pub posts: u64,
    /// Its posts, and the CPU time of its process, when it was last found waiting.
    pub found_waiting: (u64, u64),
    /// The turn in which it was last used.
    pub used: u64,
    /// Since when it runs, to the next tick.
    pub since: Instant,
}

impl Native {
    /// Maps the control pages of domain `id`.
    ///
    /// # Errors
    /// When they cannot be read from the store.
    pub fn load(id: RecordId, segment: Arc<Segment>) -> Result<Self, PlatformError> {
        let control = Arc::new(Control::new(segment.view(PageRange::between(0, CONTROL_PAGES))?));
        Ok(Self {
            id,
            segment,
            control,
            process: None,
            ending: None,
            mapped: Vec::new(),
            executing: false,
            touched: true,
            ran: false,
            charged: 0,
            overdrawn: false,
            posts: 0,
            found_waiting: (0, 0),
            used: 0,
            since: Instant::now(),
        })
    }

    /// It begins, or begins anew: at `entry` (instruction, stack, argument) with all else fresh. Without a process.
    ///
    /// # Errors
    /// Never in practice.
    pub fn begin(&mut self, entry: [u64; 3]) -> Result<(), PlatformError> {
        let [rip, rsp, rdi] = entry;
        let frame = Frame::initial(&self.control, rip, rsp)?;
        let fresh = frame.load();
        frame.store(&fresh, &Registers { rdi, ..fresh });
        self.control.set_fs_base(0);
        self.control.set_gs_base(0);
        self.stands(CAUSE_READY);
        Ok(())
    }

    /// It stands in its pages for this cause.
    pub fn stands(&mut self, cause: u32) {
        self.control.set_cause(cause);
        self.control.state().store(POSTED, SeqCst);
        self.touched = true;
    }

    /// Makes sure that its registers are in a signal frame, also if it stands in an invocation.
    ///
    /// # Errors
    /// When its control pages hold no frame.
    pub fn frame(&mut self) -> Result<Frame<'_>, PlatformError> {
        if self.control.context() != 0 {
            return Frame::find(&self.control);
        }
        let [rbx, rbp, r12, r13, r14, r15, rsp, rip] = self.control.saved();
        let registers = Registers {
            rbx,
            rbp,
            r12,
            r13,
            r14,
            r15,
            rsp,
            rip,
            eflags: INITIAL_FLAGS,
            selectors: USER_SELECTORS,
            ..Registers::default()
        };
        let words = self.control.control_words();
        let mut frame = Frame::initial(&self.control, rip, rsp)?;
        let before = frame.load();
        frame.store(&before, &registers);
        let mut area = [0u8; LEGACY_AREA];
        area[..2].copy_from_slice(&words.to_le_bytes()[4..6]);
        area[24..28].copy_from_slice(&words.to_le_bytes()[..4]);
        // The mask of mxcsr: all bits that this processor may have set.
        area[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
        frame.store_extended(&area)?;
        self.touched = true;
        Frame::find(&self.control)
    }

    /// Its register state, as a string of at most `limit` bytes.
    pub fn registers(&mut self, limit: usize) -> Vec<u8> {
        let bases = [self.control.fs_base(), self.control.gs_base()];
        let Ok(frame) = self.frame() else { return Vec::new() };
        let mut state = frame.load().as_bytes().to_vec();
        state.extend_from_slice(bases.as_bytes());
        let extended = ExtendedState::load(&frame);
        if state.len() + extended.len() <= limit {
            state.extend_from_slice(&extended);
        }
        state
    }

    /// Its general registers.
    ///
    /// # Errors
    /// When its control pages hold no frame.
    pub fn general(&mut self) -> Result<Registers, PlatformError> {
        Ok(self.frame()?.load())
    }

    /// What it faulted at by signal `cause`, with these registers.
    #[must_use]
    pub fn fault(&self, cause: u32, registers: &Registers) -> Fault {
        Fault {
            cause,
            in_memory: matches!(cause, SIGBUS | SIGSEGV),
            address: self.control.address(),
            detail: if cause == SIGSYS { registers.rax } else { self.control.code().into() },
            instruction: registers.rip,
        }
    }

    /// Gives it another register state, of the form that [`Self::registers`] gives; a shorter one leaves the rest as it is.
    ///
    /// # Errors
    /// When it has another length, or the extended state is none of this processor's; nothing is changed then.
    pub fn set_registers(&mut self, state: &[u8]) -> Result<(), PlatformError> {
        let bad = PlatformError::BadFrame("the register state has another length or is of another processor");
        if !u32::try_from(state.len()).is_ok_and(is_register_state) {
            return Err(bad);
        }
        let Ok((after, rest)) = Registers::read_from_prefix(state) else { return Err(bad) };
        let bases = rest.get(..16).map(|b| <[u64; 2]>::read_from_bytes(b).unwrap_or_default());
        let extended = state.get(PLAIN_STATE..).unwrap_or_default();
        let mut frame = self.frame()?;
        if !extended.is_empty() && ExtendedState::store(&mut frame, extended).is_err() {
            return Err(bad);
        }
        let before = frame.load();
        // The kernel of Linux takes no other selectors and flags of ours.
        let flags = INITIAL_FLAGS | after.eflags & 0x0cd5;
        frame.store(&before, &Registers { selectors: USER_SELECTORS, eflags: flags, ..after });
        if let Some([fs, gs]) = bases {
            self.control.set_fs_base(fs);
            self.control.set_gs_base(gs);
        }
        self.touched = true;
        Ok(())
    }

    /// Its process, if it has one that lives.
    #[must_use]
    pub fn live_process(&self) -> Option<&Arc<Process>> {
        self.process.as_ref().filter(|process| !process.is_dead())
    }

    /// Whether it has posted something that is not served yet.
    #[must_use]
    pub fn has_posted(&self) -> bool {
        self.executing && self.control.state().load(SeqCst) == POSTED
    }

    /// Why it stands, if that is something to be served: not a freeze, nor the beginning.
    #[must_use]
    pub fn unserved(&self) -> Option<u32> {
        let cause = self.control.cause();
        (cause != FREEZE_SIGNAL && cause != CAUSE_READY).then_some(cause)
    }

    /// Marks dirty what the domain and the kernel wrote into its control pages without telling: all that is in use.
    pub fn mark_dirty(&self) {
        let view = self.control.view();
        view.mark_dirty(PageRange::between(0, 1));
        view.mark_dirty(PageRange::between(MESSAGE_OFFSET >> 12, CONTROL_PAGES));
        if let Ok(frame) = Frame::find(&self.control) {
            view.mark_dirty(frame.pages());
        }
    }
}
