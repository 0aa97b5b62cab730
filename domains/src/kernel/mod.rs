//! The kernel of domains: who there is, what they own, and how all of them stop at one instant.
//!
//! **Promise.** The kernel's own state is segment 0, changed by transactions; a domain's state is its segments. A domain
//! is served by a thread of its own, which passes the [`gate`] for every transaction; a freeze closes the gate, so
//! that a capture sees each transaction wholly or not at all.
//!
//! **Invariants.**
//! * While the gate is closed and [`Kernel::freeze`] has returned, every domain stands in its pages.
//! * A domain whose process died while it ran has memory that is ahead of its registers: it is never captured, but goes back
//!   alone to the newest generation ([`Kernel::freeze`] refuses until it has).
//! * Nothing of a domain runs or is shown before a commit contains it.

pub mod bell;
pub mod clock;
pub mod domain;
pub mod gate;
mod inputs;
pub mod journal;
pub mod objects;

mod birth;
pub(crate) mod capture;
mod life;
mod mail;
mod memory;
mod network;
mod processor;
mod segments;
mod server;

pub use birth::{ImportFile, NewProgram, StartKey};
pub use capture::FreezeError;
pub use inputs::Replay;
pub(crate) use inputs::branch;
pub(crate) use life::{fsgsbase, random};
pub(crate) use network::remove_grants_but;
pub use processor::Levels;
pub(crate) use processor::{levels_in, remove_answers_but};

use crate::console::{Beside, HostConsole, OutputEvents};
use crate::linux::{ExitStatus, LoadError, SegmentError};
use crate::native::{Executive, Life, ProgramView};
use crate::network::{Poller, PortError};
use crate::platform::PlatformError;
use crate::platform::zygote::Zygote;
use crate::table::{LazyMemory, RecordId, Table, TableError};
use bell::Bell;
use capture::CaptureState;
use clock::WorldClock;
use domain::Domain;
use gate::Gate;
use inputs::Recorder;
use journal::WorldJournal;
use objects::{DomainRecord, OBJECT_PAGES, RECORD_BYTES, SegmentRecord, WorldRecord};
use semper_journal::Retention;
use semper_pager::Pager;
use semper_store::{Folder, Generation, PageRange, SegmentId, StoreId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use thiserror::Error;

/// Why the kernel cannot do something.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The program file is not one that can be run.
    #[error(transparent)]
    Program(#[from] LoadError),
    /// The user asked for something that is not there or cannot be.
    #[error("{0}")]
    Refused(String),
    /// There is no domain of that name or number.
    #[error("there is no domain {0}")]
    NoDomain(String),
    /// Segment 0 cannot be used.
    #[error("the object table: {0}")]
    Table(#[from] TableError),
    /// A segment cannot be made or opened.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The machine or a process refused.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The pager refused.
    #[error(transparent)]
    Pager(#[from] semper_pager::Error),
    /// A port that a program was given cannot be opened.
    #[error("{program}: {source}; free it, or give the program another one: --listen ADDR:PORT={port}")]
    Port {
        /// Whose.
        program: String,
        /// The port that the program binds.
        port: u16,
        /// Which, and why.
        source: PortError,
    },
    /// A file beside the store.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What the kernel asks of the runtime around it.
pub trait Surroundings: Send + Sync {
    /// An end, or held output that takes too much room, waits for a commit: soon.
    fn hasten(&self);
    /// Held output waits: commit soon, unless commits are made only when asked for.
    fn output_waits(&self);
    /// The same of a reply, without which somebody cannot go on; `all`: no other is likely to come before it has left.
    fn reply_waits(&self, all: bool);
    /// Commit now, and tell when a generation contains all that happened before this call.
    ///
    /// # Errors
    /// A sentence, if nothing can be committed any more.
    fn commit_now(&self) -> Result<(), String>;
    /// The world ends, and nothing more is committed: a program that is told again what it was told does something else. Why, and of what.
    fn differs(&self, why: &str);
    /// Whether the store has room for `pages` more pages.
    fn room_for(&self, pages: u64) -> bool;
    /// Whether there are more frames than commits are sure to have room for: who writes waits for checkpoints.
    fn is_short(&self) -> bool;
    /// The frames that programs may have.
    fn frames(&self) -> u64;
    /// Commits what takes room in memory, until there is room for `pages` more pages or no more can be made; says whether there is.
    fn make_room(&self, pages: u64) -> bool;
}

/// How long the end waits for a console that does not take its output.
pub(crate) const LAST_OUTPUT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Whose terminal a signal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalOf {
    /// This domain's.
    Domain(u64),
    /// The one with this device number, for all domains that are connected to it.
    Device(u64),
}

/// How output leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputPolicy {
    /// When the commit that contains it is durable.
    #[default]
    Held,
    /// At once; a crash may show output of a future that then comes differently.
    Immediate,
    /// Of programs that are recorded: when the journal has what they were told up to there, so that they will do it again. Of others as
    /// [`OutputPolicy::Held`].
    Journaled,
}

/// Segment 0, open.
pub(crate) struct Objects {
    pub(crate) table: Table,
    pub(crate) world: (RecordId, WorldRecord),
    pub(crate) segments: BTreeMap<u64, (RecordId, SegmentRecord)>,
}

/// How output leaves by each device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputPolicies {
    /// By consoles.
    pub console: OutputPolicy,
    /// On connections.
    pub network: OutputPolicy,
}

impl From<OutputPolicy> for OutputPolicies {
    fn from(policy: OutputPolicy) -> Self {
        Self { console: policy, network: policy }
    }
}

/// Which devices the journal lets output leave by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Journaled {
    pub console: bool,
    pub network: bool,
}

impl OutputPolicies {
    pub(crate) fn journaled(self) -> Journaled {
        let journaled = |policy| policy == OutputPolicy::Journaled;
        Journaled { console: journaled(self.console), network: journaled(self.network) }
    }
}

/// The kernel.
pub struct Kernel {
    pub(crate) pager: Arc<Pager>,
    pub(crate) zygote: Zygote,
    pub(crate) gate: Gate,
    pub(crate) clock: Arc<WorldClock>,
    pub(crate) beside: Arc<Beside>,
    pub(crate) surroundings: Arc<dyn Surroundings>,
    pub(crate) output: OutputPolicies,
    objects: Mutex<Objects>,
    domains: Mutex<BTreeMap<u64, Arc<Domain>>>,
    changed: Condvar,
    capture: CaptureState,
    /// Consoles that are connected: no two may believe that a regular file is theirs alone.
    consoles: Mutex<Vec<Weak<HostConsole>>>,
    closing: AtomicBool,
    live: AtomicU32,
    cores: u32,
    /// Hears of the sockets of all programs.
    pub(crate) poller: Arc<Poller>,
    /// The native domains.
    pub native: Executive,
    /// What no roll-back touches.
    pub(crate) journal: Arc<WorldJournal>,
    life: Life,
    /// Empties the tapes of programs that are recorded.
    pub(crate) recorder: Arc<Recorder>,
    replay: OnceLock<Replay>,
    /// The programs of a world that only replays.
    replays: Mutex<Vec<Arc<Domain>>>,
    /// Rings when a program that is told again stands.
    replayed: Bell,
    /// The generation that this life began with, or committed last.
    newest: AtomicU64,
    myself: Weak<Self>,
}

impl Kernel {
    /// Opens the world that generation `of` of a store has in segment 0, or makes a new one if that is 0. `dir`: the store's; `folder`: its journal's.
    ///
    /// # Errors
    /// When segment 0 is damaged or the console's directory cannot be made.
    pub fn open(
        pager: Arc<Pager>,
        (store, of): (StoreId, Generation),
        (dir, folder): (&Path, Arc<dyn Folder>),
        output: OutputPolicies,
        retention: Retention,
        surroundings: Arc<dyn Surroundings>,
    ) -> Result<Arc<Self>, KernelError> {
        let beside = Beside::new(dir);
        std::fs::create_dir_all(beside.own())
            .map_err(|source| KernelError::File { path: beside.own().to_owned(), source })?;
        let poller = Poller::new().map_err(|source| KernelError::File { path: "the network".into(), source })?;
        let clock = Arc::new(WorldClock::default());
        let objects = if of.0 == 0 { Objects::create(&pager)? } else { Objects::open(&pager, &clock)? };
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let life = Life { generation: of.0, ..Life::begin(beside.own(), random) };
        let journal = WorldJournal::new(folder, store, journal::seen(&objects.table, store), life, retention);
        Ok(Arc::new_cyclic(|myself| Self {
            pager,
            zygote: Zygote::default(),
            gate: Gate::default(),
            clock,
            beside,
            surroundings,
            output,
            objects: Mutex::new(objects),
            domains: Mutex::new(BTreeMap::new()),
            changed: Condvar::new(),
            capture: CaptureState::default(),
            consoles: Mutex::default(),
            closing: AtomicBool::new(false),
            live: AtomicU32::new(0),
            cores,
            poller,
            native: Executive::new(life),
            journal,
            life,
            recorder: Arc::default(),
            replay: OnceLock::new(),
            replays: Mutex::default(),
            replayed: Bell::default(),
            newest: AtomicU64::new(of.0),
            myself: Weak::clone(myself),
        }))
    }

    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the files of consoles lie.
    #[must_use]
    pub fn consoles(&self) -> &Arc<Beside> {
        &self.beside
    }

    /// The domains that are in memory, by number.
    #[must_use]
    pub fn domains(&self) -> Vec<Arc<Domain>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A domain that is in memory.
    #[must_use]
    pub fn domain(&self, id: u64) -> Option<Arc<Domain>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The records of all domains, ended ones too.
    #[must_use]
    pub fn records(&self) -> Vec<DomainRecord> {
        self.objects().table.iter::<DomainRecord>().map(|(_, r)| r).collect()
    }

    /// The names of all programs, ended ones too.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let natives = self.native_programs().into_iter().map(|p| p.name);
        self.records().iter().map(DomainRecord::name).chain(natives).collect()
    }

    /// Waits until domain `id` (or every domain) has ended and its output has left; tells how it ended. With no domain
    /// left the status is that of the first that failed, or of the last.
    #[must_use]
    pub fn wait(&self, id: Option<u64>) -> Option<ExitStatus> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let alive = match id {
                Some(id) => domains.contains_key(&id) || self.native.has(Some(id)),
                None => !domains.is_empty() || self.native.has(None),
            };
            if !alive || self.closing.load(SeqCst) {
                break;
            }
            domains = self.changed.wait(domains).unwrap_or_else(PoisonError::into_inner);
        }
        drop(domains);
        let records = self.records();
        let ended = records.iter().filter(|r| id.is_none_or(|id| r.id == id)).filter_map(DomainRecord::exit);
        let natives = self.native_programs();
        let native = natives.iter().filter(|p| id.is_none_or(|id| p.id == id)).filter_map(|p| p.exit);
        let all: Vec<ExitStatus> = ended.chain(native).collect();
        all.iter().find(|s| **s != ExitStatus::Code(0)).or(all.last()).copied()
    }

    /// A signal of the terminal with this device number, or of domain `id`'s own terminal: whoever it is for gets it. False: nobody
    /// has a wish about it, so that it would end them; nothing is done then.
    pub fn signal_from_terminal(&self, whose: TerminalOf, signal: u8) -> bool {
        let mut taken = false;
        for domain in self.domains() {
            let meant = match whose {
                TerminalOf::Domain(id) => domain.id == id,
                TerminalOf::Device(device) => domain.console.terminal_device() == Some(device),
            };
            if !meant || domain.ended().is_some() {
                continue;
            }
            let _pass = self.gate.enter();
            // What a program is told again has no place for it.
            if self.is_closing() || domain.tape.is_replaying() {
                continue;
            }
            let mut program = domain.program();
            if !program.signal_from_terminal(signal) {
                continue;
            }
            domain.tape.cut("a signal came from the terminal");
            drop(program);
            taken = true;
            domain.touched.store(true, SeqCst);
            domain.bell.ring();
            if let Some(process) = domain.process() {
                process.nudge();
            }
        }
        taken
    }

    /// Every domain's terminal gets the modes that its program set, should others have changed them.
    pub fn apply_terminal_modes(&self) {
        self.domains().iter().for_each(|domain| domain.console.apply_terminal_modes());
    }

    /// Whoever sits at domain `id`'s terminal goes away; the domain goes on.
    pub fn detach(&self, id: u64) {
        if let Some(domain) = self.domain(id) {
            domain.console.detach();
        }
    }

    /// The runtime ends: every process is dropped, nothing is served any more, waiters return.
    pub fn close(&self) {
        self.closing.store(true, SeqCst);
        self.recorder.close();
        let domains = self.domains();
        domains.iter().for_each(|d| d.close());
        // After a final checkpoint the world stands: whoever waits at the gate comes through and sees that all is over.
        self.gate.open();
        for domain in domains {
            if let Some(releaser) = domain.releaser() {
                releaser.drain_for(LAST_OUTPUT_PATIENCE);
                releaser.close();
            }
            domain.network.drain_for(LAST_OUTPUT_PATIENCE);
            domain.console.leave_terminal();
            if let Some(process) = domain.process() {
                process.end();
            }
        }
        self.native.close();
        self.journal.close();
        // Whoever looks at `closing` under the lock has either seen it or is woken.
        drop(self.domains.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// While all is frozen after a commit: waits until what may leave has left, and until nothing is on its way into the journal.
    pub fn settle(&self) {
        self.empty_tapes();
        for domain in self.domains() {
            if let Some(releaser) = domain.releaser() {
                releaser.drain_for(LAST_OUTPUT_PATIENCE);
            }
            domain.network.drain_for(LAST_OUTPUT_PATIENCE);
        }
        self.journal.close();
    }

    /// Native programs are over: who waits for them looks again.
    pub(crate) fn programs_finished(&self) {
        drop(self.domains.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    pub(crate) fn myself(&self) -> Weak<Self> {
        Weak::clone(&self.myself)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// As [`Self::spins`], for native domains: on one core, whoever is waited for needs that core at once.
    pub(crate) fn native_spins(&self) -> u32 {
        if self.cores > 1 { self.spins() } else { 0 }
    }

    /// Spins before sleeping: only while there are cores to spare.
    pub(crate) fn spins(&self) -> u32 {
        if self.live.load(SeqCst) < self.cores { 3000 } else { 0 }
    }
}

/// The domain records, native programs and levels of a world at rest.
///
/// # Errors
/// When segment 0 is damaged.
pub fn read_records(pager: &Arc<Pager>) -> Result<(Vec<DomainRecord>, Vec<ProgramView>, Levels), KernelError> {
    let objects = Objects::open(pager, &WorldClock::default())?;
    let records = objects.table.iter::<DomainRecord>().map(|(_, r)| r).collect();
    Ok((records, crate::native::programs(&objects.table), levels_in(&objects.table)))
}

/// How far the journal of `store` was when the newest generation was captured: the sequence after the last durable record; 0: none
/// was written.
///
/// # Errors
/// When segment 0 is damaged.
pub fn read_journal_end(pager: &Arc<Pager>, store: StoreId) -> Result<u64, KernelError> {
    Ok(journal::seen(&Objects::open(pager, &WorldClock::default())?.table, store))
}

/// The same, and whose journal it is: not that of the store in which the generation lies, if that was restored without one. None: the world
/// knows of no journal.
///
/// # Errors
/// When segment 0 is damaged.
pub fn read_journal_record(pager: &Arc<Pager>) -> Result<Option<(u64, StoreId)>, KernelError> {
    let record = Objects::open(pager, &WorldClock::default())?.table.first::<journal::JournalRecord>();
    Ok(record.map(|(_, record)| (record.end, StoreId(record.store))))
}

impl OutputEvents for Kernel {
    fn wrote(&self, domain: u64) {
        let policy = match self.output.console {
            OutputPolicy::Journaled
                if self.domain(domain).map_or(self.native.tape.is_on(), |domain| domain.tape.is_on()) =>
            {
                self.recorder.poke();
                return;
            }
            OutputPolicy::Journaled => OutputPolicy::Held,
            policy => policy,
        };
        match policy {
            OutputPolicy::Journaled => {}
            OutputPolicy::Held if self.domain(domain).is_some_and(|d| d.holds_much_output()) => {
                self.surroundings.hasten();
            }
            OutputPolicy::Held => self.surroundings.output_waits(),
            OutputPolicy::Immediate => {
                let domain = self.domain(domain);
                if let Some((releaser, domain)) = domain.and_then(|d| d.releaser().map(|r| (r, d))) {
                    releaser.release(domain.console.written());
                }
            }
        }
    }
}

impl Objects {
    fn create(pager: &Arc<Pager>) -> Result<Self, KernelError> {
        let segment = pager.create_segment(SegmentId::OBJECTS, OBJECT_PAGES)?;
        let mut table = Table::format(LazyMemory::new(segment), RECORD_BYTES)?;
        let world = WorldRecord { next_segment: 1, next_domain: 1, ..WorldRecord::default() };
        let mut tx = table.begin();
        let id = tx.insert(&world)?;
        tx.commit();
        Ok(Self { table, world: (id, world), segments: BTreeMap::new() })
    }

    pub(crate) fn open(pager: &Arc<Pager>, clock: &WorldClock) -> Result<Self, KernelError> {
        let all = PageRange::between(0, OBJECT_PAGES);
        let segment = pager.open_segment(SegmentId::OBJECTS, OBJECT_PAGES, &[all])?;
        let (table, opened) = Table::open(LazyMemory::new(segment))?;
        if opened.undone > 0 {
            tracing::warn!(writes = opened.undone, "an unfinished kernel transaction was undone");
        }
        let world = table.first::<WorldRecord>();
        let world = world.ok_or_else(|| KernelError::Refused("the object table has no world record".into()))?;
        clock.continue_from(world.1.monotonic, world.1.wall);
        let segments = table.iter::<SegmentRecord>().map(|(at, r)| (r.id, (at, r))).collect();
        Ok(Self { table, world, segments })
    }
}
