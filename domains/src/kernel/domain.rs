//! One domain that is in memory: its program, its control pages, its process if it has one.

use super::bell::Bell;
use super::clock::DomainClock;
use super::journal::writer;
use super::objects::{DomainRecord, HELD};
use crate::console::{HostConsole, Releaser};
use crate::inputs::Tape;
use crate::linux::{ExitStatus, HELD_LIMIT, Program};
use crate::network::HostNetwork;
use crate::platform::control::Control;
use crate::platform::process::Process;
use crate::table::RecordId;
use semper_journal::Writer;
use semper_pager::Segment;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Deaths in a row within one generation after which a domain is held to kill its own process, and is ended.
pub const MAX_DEATHS: u32 = 8;

/// A live domain.
pub struct Domain {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its record is.
    pub record: RecordId,
    /// Its memory.
    pub memory: Arc<Segment>,
    /// The segment of its control pages.
    pub control_segment: Arc<Segment>,
    /// Those pages, mapped.
    pub control: Arc<Control>,
    /// Its clock.
    pub clock: Arc<DomainClock>,
    /// Rings when something comes that it may wait for.
    pub bell: Arc<Bell>,
    /// Its console outside.
    pub console: Arc<HostConsole>,
    /// Its sockets outside.
    pub network: Arc<HostNetwork>,
    /// What it is told by the outside.
    pub tape: Arc<Tape>,
    /// Whose records that are in the journal.
    pub inputs: Writer,
    /// It was told that they cannot be written.
    pub unrecorded: AtomicBool,
    /// What releases its output.
    pub releaser: Mutex<Option<Arc<Releaser>>>,
    program: Mutex<Program>,
    process: Mutex<Option<Arc<Process>>>,
    /// It ran, or its control pages changed, since the last capture.
    pub touched: AtomicBool,
    /// Its server has to stop serving: the runtime ends.
    pub closing: AtomicBool,
    /// What the newest capture contains: output, error, input positions.
    pub captured: [AtomicU64; 3],
    /// The last capture contains its end.
    pub captured_end: AtomicBool,
    /// A commit contains its end.
    pub committed_end: AtomicBool,
    /// How often it used keys: so far, as of the newest capture, as of the newest commit.
    key_uses: [AtomicU64; 3],
    deaths: AtomicU32,
    ended: Mutex<Option<ExitStatus>>,
    killed: AtomicBool,
    held: AtomicBool,
}

/// The parts a domain is put together from.
pub struct Parts {
    /// Its record.
    pub record: (RecordId, DomainRecord),
    /// Memory and control segments.
    pub segments: [Arc<Segment>; 2],
    /// Mapped control pages.
    pub control: Control,
    /// Clock.
    pub clock: Arc<DomainClock>,
    /// Bell.
    pub bell: Arc<Bell>,
    /// Console.
    pub console: Arc<HostConsole>,
    /// Sockets.
    pub network: Arc<HostNetwork>,
    /// Tape.
    pub tape: Arc<Tape>,
    /// Program.
    pub program: Program,
}

impl Domain {
    /// Puts a domain together.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let (record, content) = parts.record;
        let [memory, control_segment] = parts.segments;
        Arc::new(Self {
            id: content.id,
            name: content.name(),
            record,
            memory,
            control_segment,
            control: Arc::new(parts.control),
            clock: parts.clock,
            bell: parts.bell,
            console: parts.console,
            network: parts.network,
            tape: parts.tape,
            inputs: writer(content.id, content.started).inputs(),
            unrecorded: AtomicBool::new(false),
            releaser: Mutex::new(None),
            program: Mutex::new(parts.program),
            process: Mutex::new(None),
            touched: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            captured: Default::default(),
            captured_end: AtomicBool::new(false),
            committed_end: AtomicBool::new(false),
            key_uses: Default::default(),
            deaths: AtomicU32::new(0),
            ended: Mutex::new(content.exit()),
            killed: AtomicBool::new(false),
            held: AtomicBool::new(content.life.state == HELD),
        })
    }

    /// Its program; hold it no longer than one transaction.
    pub fn program(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Option<Arc<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It lives in another process now, or in none.
    pub fn set_process(&self, process: Option<Arc<Process>>) -> Option<Arc<Process>> {
        std::mem::replace(&mut *self.process.lock().unwrap_or_else(PoisonError::into_inner), process)
    }

    /// What releases its output.
    #[must_use]
    pub fn releaser(&self) -> Option<Arc<Releaser>> {
        self.releaser.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether so much of its output is in no capture yet that it may soon have to wait for one.
    #[must_use]
    pub fn holds_much_output(&self) -> bool {
        let captured = [0, 1].map(|i: usize| self.captured[i].load(SeqCst));
        self.console
            .written()
            .iter()
            .zip(captured)
            .any(|(written, captured)| written.saturating_sub(captured) >= HELD_LIMIT / 2)
    }

    /// Whether it has written more than has left, or is leaving.
    #[must_use]
    pub fn shows_more_than(&self, written: [u64; 2]) -> bool {
        self.releaser().is_some_and(|releaser| releaser.keeps_back(written))
    }

    /// How it ended.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It ended.
    pub fn set_ended(&self, status: ExitStatus) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// An operator ends it: its server does it next.
    pub fn kill(&self) {
        self.killed.store(true, SeqCst);
        if let Some(process) = self.process() {
            process.kill();
        }
        self.bell.ring();
    }

    /// Whether it is to be ended.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.killed.load(SeqCst)
    }

    /// An operator stops it, or lets it go on. The caller passed the gate.
    pub fn set_held(&self, held: bool) {
        self.held.store(held, SeqCst);
        if held && let Some(process) = self.process() {
            // It need not be waited for: its server serves nothing before it is let go on.
            let _ = process.freeze();
        }
        self.bell.ring();
    }

    /// Whether an operator stopped it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(SeqCst)
    }

    /// It invoked a key, or something came for it: others have seen what it did.
    pub fn used_keys(&self) {
        self.key_uses[0].fetch_add(1, SeqCst);
    }

    /// A capture contains what it did.
    pub fn captured_keys(&self) {
        self.key_uses[1].store(self.key_uses[0].load(SeqCst), SeqCst);
    }

    /// That capture is durable.
    pub fn committed_keys(&self) {
        self.key_uses[2].store(self.key_uses[1].load(SeqCst), SeqCst);
    }

    /// Whether others have seen by keys what the newest generation does not contain: then it cannot go back to it alone.
    #[must_use]
    pub fn is_entangled(&self) -> bool {
        self.key_uses[0].load(SeqCst) != self.key_uses[2].load(SeqCst)
    }

    /// Its process died; tells whether that happened too often since it last got anywhere.
    pub fn died(&self) -> bool {
        self.deaths.fetch_add(1, SeqCst) + 1 > MAX_DEATHS
    }

    /// A commit contains it: it got somewhere.
    pub fn progressed(&self) {
        self.deaths.store(0, SeqCst);
    }

    /// Tells the server to stop serving.
    pub fn close(&self) {
        self.closing.store(true, SeqCst);
        self.bell.ring();
    }
}
