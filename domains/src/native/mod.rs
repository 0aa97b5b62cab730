//! The executive: runs native domains and performs what invoking keys has for effect outside the object table.
//!
//! **Promise.** A native domain can do nothing but invoke the keys that it holds. What an invocation does is one transaction of
//! [`crate::objects`]; the effects that it tells are performed before the gate lets a capture through, so that a restart finds
//! either all of it or nothing. Processes are a cache: a domain that waits has none, or one that may be dropped at any time.
//!
//! One thread serves all native domains (`turn`): it sleeps on the state words of those that run and on a bell of its own.
//!
//! * `domain`: a loaded domain: control pages, registers.
//! * `space`: its process: what is mapped, put away, made anew.
//! * `cache`: who waits for a process; what is put away, unloaded and closed when there is too much of it.
//! * `turn`: serving what domains posted, time, work.
//! * `effects`: what the object layer asks for.
//! * `program`: programs started from outside, with a console and an end.
//! * `debug`, `overlay`: a debugger on a domain, and its breakpoints.
//! * `capture`: what a checkpoint needs.
//! * `inspect`: looking at objects from outside.
//! * `recording`, `sharing`, `call`: the order in which they are served, and doing it again.
//! * `operate`, `log`: what an operator does to domains, and what they tell.
//! * `linux`: Linux programs, which invoke keys by a system call.
//! * `give`: keys that an operator gives at the start.
//! * `image`, `life`, `mailbox`, `records`, `sleep`: the parts.

mod birth;
mod cache;
mod call;
mod capture;
mod debug;
mod domain;
mod effects;
mod extract;
mod give;
mod image;
pub mod inspect;
mod journal;
mod life;
mod linux;
mod log;
mod mailbox;
mod network;
mod operate;
mod overlay;
mod program;
mod recording;
pub(crate) mod records;
mod sharing;
mod sleep;
mod space;
mod turn;
mod watch;

pub use birth::NativeSpec;
pub use cache::Caches;
pub use debug::{Debugger, Stood};
pub use extract::{Extract, Put};
pub use life::Life;
pub(crate) use linux::ProgramKeys;
pub use log::{LOG, LOG_BYTES, OLD_LOG};
pub(crate) use mailbox::message_of;
pub use operate::Act;
pub(crate) use program::Shown;
pub use program::{ProgramView, programs};
pub use records::{LinuxObject, NativeInputs, NativeProgram, RunList};

use crate::inputs::{Question, Tape};
use crate::kernel::Kernel;
use crate::linux::{LoadError, Restart};
use crate::objects::{self, InvokeError};
use crate::platform::PlatformError;
use crate::platform::crowd::Crowd;
use crate::platform::process::Process;
use crate::table::{RecordId, TableError};
use domain::Native;
use program::Program;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use watch::Watcher;

/// Pages that a segment object can grow to without being made anew. What is not used does not exist.
const SEGMENT_PAGES: u64 = objects::MAX_SEGMENT_PAGES;

/// Live processes of native domains, if nothing else is asked for. One thread can sleep on 127 words at once, and who runs has a process.
pub const DEFAULT_PROCESSES: usize = 100;

/// Why a file cannot be run as a native program.
#[derive(Debug, Error)]
pub enum ImageError {
    /// It is no such program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It does not fit its memory.
    #[error("a memory of {bytes} bytes does not do: the program needs {least} at least, and can have {limit} at most", limit = crate::abi::WINDOW_END)]
    Memory {
        /// What was asked for.
        bytes: u64,
        /// Image, a stack and the boot block.
        least: u64,
    },
    /// Too many arguments.
    #[error("its arguments have {bytes} bytes; at most {limit} fit")]
    Arguments {
        /// Theirs.
        bytes: u64,
        /// The room.
        limit: u64,
    },
}

/// What goes wrong below the objects. None of it is a domain's doing.
#[derive(Debug, Error)]
pub(crate) enum ExecutiveError {
    /// Segment 0 is damaged.
    #[error("the object table: {0}")]
    Table(#[from] TableError),
    /// A process, or its memory.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The pager refused.
    #[error(transparent)]
    Pager(#[from] semper_pager::Error),
}

/// The native side of the kernel.
pub struct Executive {
    state: Mutex<State>,
    bell: AtomicU32,
    /// Its thread sleeps, or is about to.
    sleeps: AtomicBool,
    started: AtomicBool,
    generation: AtomicU64,
    processes: AtomicU32,
    watcher: Mutex<Option<Watcher>>,
    crowd: Crowd,
    live: Mutex<BTreeSet<u64>>,
    /// A debugged domain stands.
    stood: Condvar,
    /// What the journal answered.
    journal: journal::Answers,
    /// Something may have come from the network since it was last looked at.
    network_rang: AtomicBool,
    /// What native domains are told and the order in which they are served, if that is recorded.
    pub(crate) tape: Arc<Tape>,
    /// Whose records the inputs are, as one word.
    pub(crate) inputs: AtomicU64,
    /// It was told that they cannot be recorded.
    pub(crate) unrecorded: AtomicBool,
}

/// All that its thread works on; the checkpointer and commands look at it while the gate is closed to the thread, or between turns.
pub(crate) struct State {
    /// Loaded domains, by the index of their record.
    natives: BTreeMap<u32, Native>,
    /// Linux programs.
    linux: linux::LinuxDomains,
    /// Programs that have not finished, by number.
    programs: BTreeMap<u64, Program>,
    /// Who waits for a commit: not captured yet, and captured.
    durable: [Vec<(RecordId, u64)>; 2],
    /// The captured ones are durable.
    committed: bool,
    /// What domains ask of the journal and is not on its way yet.
    asks: Vec<(RecordId, u64, objects::JournalAsk)>,
    /// What domains ask of the network and is not done yet.
    network: network::Asks,
    /// When something is due next, nanoseconds of the world's clock; as of the last turn.
    alarm: Option<u64>,
    /// A write to the console of this program was more than may be held.
    held_up: Option<u64>,
    /// The order that is served wrote to a segment.
    wrote: bool,
    /// Why the order that is served could not be done after all; it changed nothing.
    refused: Option<InvokeError>,
    /// Domains that go on when there are fewer frames, and the generation for which they wait.
    short: (Vec<RecordId>, u64),
    /// The object layer has work left.
    work: bool,
    /// Counts turns.
    turn: u64,
    /// When CPU time is charged next.
    tick: Instant,
    /// When it was last looked whether domains that wait do.
    watched: Instant,
    /// The run list as it stands in the table.
    run_list: Vec<(RecordId, records::RunList)>,
    /// The domains that run, by the index of their record, and maybe some that no longer do.
    active: BTreeSet<u32>,
    /// Those that may run and have no process.
    ready: cache::Ready,
    /// The machine lacked something for a process just now.
    lacking: bool,
    /// When that was told last.
    lack_told: Option<Instant>,
    /// The most processes that there were at once.
    most_processes: usize,
    /// The segments that are open.
    open: cache::OpenSegments,
    /// Too much is open: nothing is served before the next commit.
    held: bool,
    /// How long serving takes.
    timing: cache::Timing,
    /// Bytes of a string on its way.
    buffer: Vec<u8>,
    /// What domains write with their log keys; none before the first line.
    log: Option<log::Log>,
    /// The domains that a debugger is on, by the index of their record.
    debugged: BTreeMap<u32, debug::Session>,
    /// For recording, and doing again what was recorded.
    recording: recording::Recording,
}

impl Executive {
    /// With nothing in it.
    #[must_use]
    pub fn new(life: Life) -> Self {
        let state = State {
            natives: BTreeMap::new(),
            linux: linux::LinuxDomains::default(),
            programs: BTreeMap::new(),
            durable: [Vec::new(), Vec::new()],
            committed: false,
            asks: Vec::new(),
            network: network::Asks::default(),
            alarm: None,
            held_up: None,
            wrote: false,
            refused: None,
            short: (Vec::new(), 0),
            work: false,
            turn: 0,
            tick: Instant::now(),
            watched: Instant::now(),
            run_list: Vec::new(),
            active: BTreeSet::new(),
            ready: cache::Ready::default(),
            lacking: false,
            lack_told: None,
            most_processes: 0,
            open: cache::OpenSegments::new(),
            held: false,
            timing: cache::Timing::default(),
            buffer: Vec::with_capacity(crate::guest::MAX_STRING),
            log: None,
            debugged: BTreeMap::new(),
            recording: recording::Recording::default(),
        };
        let Life { restarts, id, generation, began } = life;
        Self {
            state: Mutex::new(state),
            bell: AtomicU32::new(0),
            sleeps: AtomicBool::new(false),
            started: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            processes: AtomicU32::new(u32::try_from(DEFAULT_PROCESSES).unwrap_or(u32::MAX)),
            watcher: Mutex::new(None),
            crowd: Crowd::default(),
            live: Mutex::default(),
            stood: Condvar::new(),
            journal: journal::Answers::default(),
            network_rang: AtomicBool::new(false),
            tape: Arc::new(Tape::new(Restart { restarts, id, generation, began })),
            inputs: AtomicU64::new(0),
            unrecorded: AtomicBool::new(false),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, for at most `patience`, until a debugged domain stands.
    fn wait_stood<'a>(&self, state: MutexGuard<'a, State>, patience: Duration) -> MutexGuard<'a, State> {
        self.stood.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
    }

    /// A debugged domain stands.
    fn tell_stood(&self) {
        self.stood.notify_all();
    }

    /// Something came for the thread to look at.
    pub fn ring(&self) {
        self.bell.fetch_add(1, SeqCst);
        // If it does not sleep yet, it sees that the bell is not as it was.
        if self.sleeps.load(SeqCst) {
            sleep::wake(&self.bell);
        }
    }

    /// Learns of the death of a process.
    fn watch(&self, kernel: &Kernel, process: &Arc<Process>) -> Result<(), PlatformError> {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        match &*watcher {
            Some(watcher) => watcher.add(process),
            None => watcher.insert(Watcher::start(kernel.myself())?).add(process),
        }
    }

    /// The runtime ends: no process stays.
    pub(crate) fn close(&self) {
        self.ring();
        let mut state = self.state();
        for native in state.natives.values_mut() {
            native.executing = false;
            if let Some(process) = native.process.take() {
                process.end();
            }
        }
        for program in state.programs.values() {
            program.close();
        }
    }

    /// Whether program `id`, or any, has not finished.
    #[must_use]
    pub fn has(&self, id: Option<u64>) -> bool {
        let live = self.live();
        id.map_or(!live.is_empty(), |id| live.contains(&id))
    }

    /// The programs that have not finished; a lock that is held over nothing else, since those who wait for an end look while they
    /// hold locks that the thread takes.
    fn live(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that caches a domain now.
    #[must_use]
    pub fn pid(&self, domain: RecordId) -> Option<i32> {
        let state = self.state();
        if let Some(linux) = state.linux.of(domain) {
            return linux.program.process().map(|process| process.pid);
        }
        state.natives.get(&domain.index()).filter(|n| n.id == domain)?.process.as_ref().map(|p| p.pid)
    }

    /// How many processes native domains may have. Who may run beyond that takes turns.
    pub fn set_processes(&self, limit: usize) {
        self.processes.store(u32::try_from(limit).unwrap_or(u32::MAX), SeqCst);
    }
}

/// What the object layer asks of the kernel.
struct Around<'a>(&'a Kernel);

impl objects::Surroundings for Around<'_> {
    fn monotonic(&self) -> u64 {
        let tape = &self.0.native.tape;
        let now = tape.ask(Question::Monotonic, None, || self.0.clock.reading().0);
        tape.told_time(0, Duration::from_nanos(now));
        now
    }

    fn wall(&self) -> u64 {
        self.0.native.tape.ask(Question::Realtime, None, || self.0.clock.reading().1)
    }

    fn random(&self) -> u64 {
        self.0.native.tape.ask(Question::Random, None, || {
            let mut bytes = [0u8; 8];
            crate::kernel::random(&mut bytes);
            u64::from_ne_bytes(bytes)
        })
    }

    fn restarts(&self) -> u64 {
        self.0.native.tape.life().restarts
    }

    fn life(&self) -> [u64; 2] {
        self.0.native.tape.life().id
    }

    fn resumed_from(&self) -> u64 {
        self.0.native.tape.life().generation
    }

    fn began(&self) -> u64 {
        self.0.native.tape.life().began
    }

    fn generation(&self) -> u64 {
        self.0.native.tape.ask(Question::Generation, None, || self.0.native.generation.load(SeqCst))
    }
}
