//! The assembled runtime: store, pager, checkpointer and kernel around one store directory.
//!
//! **Promise.** While a [`Runtime`] lives, every program in its store runs; when it dies, however it dies, nothing that was committed is
//! lost and the next one goes on from there.

mod error;
mod extract;
mod hand_over;
mod journal;
mod kept;
mod libraries;
mod loan;
mod mirrors;
mod moved;
mod objects;
mod program;
mod room;
mod rot;
mod scrub;
mod stall;
mod status;
mod travel;
mod world;

pub use error::RuntimeError;
pub use extract::extract;
pub use hand_over::HandOver;
pub use journal::{JournalStatus, journal_known, journal_seen, mend_journal};
pub use loan::{Loan, untag};
pub use mirrors::{DEFAULT_MIRROR_RATE, Side, fill_mirror, hand_down, sides};
pub use moved::{Moved, shown_id};
pub use objects::{Inspected, Listing, offline_inspect, offline_listing};
pub use program::{DEFAULT_NATIVE_MEMORY, Import, NewProgram};
pub use rot::End;
pub use scrub::{ScrubPass, ScrubStatus, Scrubbing};
pub use semper_domains::console::ConsoleFds;
pub use semper_domains::inputs::Limit;
pub use semper_domains::kernel::StartKey;
pub use semper_domains::kernel::{OutputPolicies, OutputPolicy, Replay, TerminalOf};
pub use semper_domains::linux::ExitStatus;
pub use semper_domains::native::{Act, Caches, Debugger, Extract, Stood};
pub use semper_domains::network::{Grants, Listen};
pub use semper_domains::processor::Level;
pub use status::{DomainStatus, MemoryStatus, ShrinkStatus, Status, StoreStatus, offline_status};
pub use travel::may_shrink;

use indicatif::BinaryBytes;
use rot::Watch;
use semper_checkpoint::{Checkpointer, Held, Policy};
use semper_domains::kernel::{Kernel, KernelError};
use semper_journal::{JOURNAL_DIR, Retention};
use semper_pager::{Pager, PagerConfig, TrackingChoice};
use semper_store::{CreateOptions, Generation, OpenOptions, Store};
use stall::Stall;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use world::{Around, StoreBacking, World};

/// For tests: with this in the environment a runtime compares each capture with memory, and ends if something was missed.
const VERIFY_VARIABLE: &str = "SEMPER_VERIFY_CAPTURES";

/// How long a checkpoint that somebody waits for may take before the wait is given up.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(600);

/// The smallest memory limit: fewer frames than this thrash.
const LEAST_MEMORY: u64 = 16 << 20;

/// Bytes of a page of the store.
const PAGE_BYTES: u64 = semper_store::PAGE_SIZE as u64;

/// Number of a domain.
pub type DomainId = u64;

/// What a run or resume is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time from checkpoint to checkpoint; none: only when asked.
    pub interval: Option<Duration>,
    /// Limit on page frames, in bytes.
    pub memory: Option<u64>,
    /// When output leaves.
    pub output: OutputPolicies,
    /// Least time between checkpoints that held output asks for; none: what [`Policy`] has.
    pub output_gap: Option<Duration>,
    /// What of the journal goes by itself.
    pub retention: Retention,
    /// How writes to memory are tracked.
    pub tracking: TrackingChoice,
    /// What programs that come back may reach from now on, beside what they might before.
    pub network: Grants,
    /// What becomes of what recorded programs were told after the generation from which the world goes on.
    pub replay: Replay,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(1)),
            memory: None,
            output: OutputPolicies::default(),
            output_gap: None,
            retention: Retention::default(),
            tracking: TrackingChoice::Auto,
            network: Grants::default(),
            replay: Replay::default(),
        }
    }
}

/// What to do with the store directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Open it, or make it with this size.
    CreateOrOpen {
        /// Size of the store in bytes; an existing one grows to it. None: 64 GiB for a new one.
        size_bytes: Option<u64>,
    },
    /// It has to be there.
    Resume {
        /// Grow it to this size in bytes.
        size_bytes: Option<u64>,
        /// Go back to this generation; the newer ones are given up. None: the newest that can be used.
        generation: Option<u64>,
    },
}

/// A running world.
pub struct Runtime {
    dir: PathBuf,
    store: Arc<Store>,
    pager: Arc<Pager>,
    kernel: Arc<Kernel>,
    checkpointer: Arc<Checkpointer>,
    watch: Arc<Watch>,
    stall: Arc<Stall>,
    standing: Arc<hand_over::Standing>,
    mirrors: mirrors::Keeper,
    options: Options,
    notes: Vec<String>,
    /// Held while a program is added, so that a name that was found free stays free.
    adding: Mutex<()>,
}

/// A program that was read.
enum Image {
    Linux(Box<semper_domains::kernel::NewProgram>),
    Native(semper_domains::native::NativeSpec),
}

impl Runtime {
    /// Opens (or makes) the store and goes on with everything in it. `console` gives each domain that comes back, by its name, its descriptors.
    ///
    /// # Errors
    /// [`RuntimeError`]: the store is in use, damaged, foreign, of another version, or the machine lacks something.
    pub fn start(
        dir: &Path,
        how: Start,
        options: &Options,
        console: impl FnMut(&str) -> std::io::Result<ConsoleFds>,
    ) -> Result<Arc<Self>, RuntimeError> {
        if options.memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            return Err(RuntimeError::MemoryTooSmall { least: LEAST_MEMORY });
        }
        raise_descriptor_limit();
        let mut console = console;
        let mut options = options.clone();
        if matches!((how, options.replay), (Start::Resume { generation: Some(_), .. }, Replay::Follow)) {
            options.replay = Replay::Leave;
        }
        let (store, ignored) = open_store(dir, how)?;
        // Looked at while the store is locked: who notes that it moved has it locked, too.
        for side in store.side_dirs().iter().map(PathBuf::as_path).chain([dir]) {
            if let Some(Moved { to, .. }) = Moved::of(side)? {
                return Err(RuntimeError::Moved { dir: dir.to_path_buf(), to });
            }
        }
        let mut store = Arc::new(store);
        let stands = |store: &Store| format!("{} stands", store.generation());
        let mut notes: Vec<String> =
            store.recovery().fallen_back.iter().map(|reason| format!("{}: {reason}", stands(&store))).collect();
        notes.extend(store.recovery().left_out.iter().cloned());
        notes.extend(ignored);
        loop {
            match Self::load(dir, Arc::clone(&store), &options, &mut console) {
                Ok(runtime) => return Ok(Arc::new(Self { notes, ..runtime })),
                Err(error) => match rot::step_back(&store, &mut notes)? {
                    Some(older) => store = Arc::new(older),
                    None => return Err(error),
                },
            }
        }
    }

    /// Goes on with the newest generation of `store`.
    fn load(
        dir: &Path,
        store: Arc<Store>,
        options: &Options,
        console: &mut dyn FnMut(&str) -> std::io::Result<ConsoleFds>,
    ) -> Result<Self, RuntimeError> {
        let watch = Watch::new(dir, Arc::clone(&store));
        let verify = std::env::var_os(VERIFY_VARIABLE).is_some();
        let config = PagerConfig { memory_limit: options.memory, tracking: options.tracking, verify };
        let pager = Pager::new(config, Arc::new(StoreBacking::new(Arc::clone(&store), Arc::clone(&watch))))?;
        let only_when_asked = options.interval.is_none();
        let around = Around::new(Arc::clone(&store), Arc::clone(&pager), Arc::clone(&watch), only_when_asked);
        let around = Arc::new(around);
        let kernel = Kernel::open(
            Arc::clone(&pager),
            (store.id(), store.generation()),
            (dir, store.folder(JOURNAL_DIR)?),
            options.output,
            options.retention.clone(),
            Arc::clone(&around) as Arc<_>,
        )?;
        let stall = Arc::new(Stall::new(dir.to_path_buf()));
        let standing = Arc::new(hand_over::Standing::default());
        let world = Arc::new(World::new(
            Arc::clone(&kernel),
            Arc::clone(&store),
            Arc::clone(&pager),
            Arc::clone(&watch),
            Arc::clone(&stall),
            Arc::clone(&standing),
        ));
        let default = Policy::default();
        let policy = Policy {
            interval: options.interval,
            output_gap: options.output_gap.unwrap_or(default.output_gap),
            reply_gap: options.output_gap,
            ..default
        };
        kernel.set_replay(options.replay);
        kernel.grant_anew(&options.network)?;
        // Before the first capture: bringing back sets up what captures look at.
        let back = kernel.bring_back(|name| console(name))?;
        let checkpointer = Checkpointer::start(Arc::clone(&store), Arc::clone(&pager), world, policy)?;
        around.set_checkpointer(&checkpointer);
        if let Err(error) = kept::keep(dir, &checkpointer) {
            tracing::warn!(%error, "the figures of the checkpoints are shown only while the runtime runs");
        }
        if back > 0 && options.interval.is_some() {
            // Output that was written meanwhile asked nobody.
            checkpointer.hasten(Held::Output);
        }
        let (ends, last) = (Arc::downgrade(&kernel), Arc::downgrade(&checkpointer));
        watch.arm(move || {
            if let Some(kernel) = ends.upgrade() {
                kernel.close();
            }
            if let Some(checkpointer) = last.upgrade() {
                checkpointer.shut_down();
            }
        });
        let mirrors = mirrors::Keeper::start(kernel.consoles(), &store);
        let (dir, options) = (dir.to_path_buf(), options.clone());
        Ok(Self {
            dir,
            store,
            pager,
            kernel,
            checkpointer,
            watch,
            stall,
            standing,
            mirrors,
            options,
            notes: Vec::new(),
            adding: Mutex::new(()),
        })
    }

    /// What was not as it should be when the store was opened: a root that could not be used, a generation that was left for an
    /// older one, a size that was ignored, each as a sentence. Empty if all was well.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Why the world ended, if it did because of damage in the store.
    #[must_use]
    pub fn ending(&self) -> Option<End> {
        self.watch.ending()
    }

    /// An error, or the damage that is behind it.
    fn explained(&self, error: impl Into<RuntimeError>) -> RuntimeError {
        self.watch.ending().map_or_else(|| error.into(), RuntimeError::Damaged)
    }

    /// Adds a program; it runs when this returns, and its first state is committed. A name that was asked for is refused when
    /// a program has it, also one that has ended; the file's name gets a number then.
    ///
    /// # Errors
    /// When the program or a file cannot be read or loaded, the name is taken, or the store is full; nothing of it is left then.
    pub fn add(&self, new: NewProgram, console: ConsoleFds) -> Result<DomainId, RuntimeError> {
        let path = new.program.clone();
        let asked = new.name.clone();
        let program = match new.native {
            Some(_) => Image::Native(new.read_native()?),
            None => Image::Linux(Box::new(new.read()?)),
        };
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = asked.filter(|name| self.kernel.names().contains(name)) {
            let shown = self.dir.display();
            return Err(RuntimeError::Refused(format!(
                "the name {name} is taken in {shown}; choose another: semper status {shown} lists them"
            )));
        }
        let added = match program {
            Image::Native(spec) => self.kernel.add_native(spec, console),
            Image::Linux(program) => self.kernel.add(*program, console),
        };
        added.map_err(|error| match error {
            KernelError::Program(reason) if self.ending().is_none() => {
                RuntimeError::NotRunnable { program: path, reason: reason.to_string() }
            }
            KernelError::NoDomain(object) => RuntimeError::NoObject { dir: self.dir.clone(), object },
            other => self.explained(other),
        })
    }

    /// Waits until a domain, or all, have ended and their output has left. None: the runtime stops before that.
    #[must_use]
    pub fn wait(&self, domain: Option<DomainId>) -> Option<ExitStatus> {
        let status = self.kernel.wait(domain);
        // What damage made of a program is not its end.
        if self.ending().is_some() { None } else { status }
    }

    /// A signal comes from a terminal. False: the programs it is for have no wish about it; nothing is done then.
    pub fn signal_from_terminal(&self, whose: TerminalOf, signal: u8) -> bool {
        self.kernel.signal_from_terminal(whose, signal)
    }

    /// Terminals get the modes that programs set again, after others had them.
    pub fn apply_terminal_modes(&self) {
        self.kernel.apply_terminal_modes();
    }

    /// Whoever sits at a domain's terminal goes away: no input comes from there any more, the domain goes on.
    pub fn detach(&self, domain: DomainId) {
        self.kernel.detach(domain);
    }

    /// Takes a checkpoint now; returns its generation when it is durable.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub fn checkpoint(&self) -> Result<u64, RuntimeError> {
        let generation = self.checkpointer.request().wait(CHECKPOINT_PATIENCE);
        generation.map(|generation| generation.0).map_err(|e| self.explained(e))
    }

    /// Waits until all programs have been told again what they were told, and stand. False: the runtime ends before that.
    #[must_use]
    pub fn wait_replayed(&self) -> bool {
        self.kernel.wait_replayed()
    }

    /// The newest generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.store.generation().0
    }

    /// Of each recorded program: its name, the steps that it was told again, and whether it came to its end.
    #[must_use]
    pub fn steps(&self) -> Vec<(String, u64, bool)> {
        self.kernel.replayed_steps()
    }

    /// Stops the world: a final checkpoint, its output, then every process ends. Waiters return.
    ///
    /// # Errors
    /// When the final checkpoint cannot be committed; the world stops all the same, at the last good generation.
    pub fn stop(&self) -> Result<(), RuntimeError> {
        self.mirrors.stop();
        // Amid a replay the newest generation is what there is, and the journal has the rest.
        let last =
            if self.kernel.is_replaying() { Ok(self.store.generation()) } else { self.checkpointer.final_checkpoint() };
        if last.is_ok()
            && let Err(e) = self.store.seal()
        {
            tracing::warn!("what rots of the last generation will not be told from what was cut off: {e}");
        }
        self.kernel.close();
        self.checkpointer.shut_down();
        self.keep_figures();
        last.map(|_| ()).map_err(|e| self.explained(e))
    }

    /// Ends a world that stands because it has moved away: nothing is committed any more.
    pub fn close_moved(&self) {
        self.mirrors.stop();
        self.kernel.close();
        self.checkpointer.shut_down();
        self.keep_figures();
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The store, and a sentence if the size that was asked for is ignored.
fn open_store(dir: &Path, how: Start) -> Result<(Store, Option<String>), RuntimeError> {
    match how {
        Start::CreateOrOpen { size_bytes } if Store::is_to_be_made(dir)? => {
            let default = CreateOptions::default();
            let asked = size_bytes.unwrap_or(default.size_bytes);
            let store = Store::create(dir, &CreateOptions { size_bytes: asked, ..default })?;
            let ignored = size_bytes.filter(|_| is_on_device(dir)).map(|size| {
                format!(
                    "the size {} is ignored: the device of {} is used whole, {}",
                    BinaryBytes(size),
                    dir.display(),
                    BinaryBytes(store.space().total * PAGE_BYTES)
                )
            });
            Ok((store, ignored))
        }
        Start::Resume { .. } if !Store::lies_in(dir) => Err(RuntimeError::no_store(dir)),
        Start::CreateOrOpen { size_bytes } | Start::Resume { size_bytes, .. } => {
            let newest = if let Start::Resume { generation, .. } = how { generation.map(Generation) } else { None };
            let store = Store::open(dir, &OpenOptions { newest, ..OpenOptions::default() })?;
            if let Some(newest) = newest.filter(|newest| *newest != store.generation()) {
                let kept: Vec<String> = store.generations().iter().map(|kept| kept.generation.0.to_string()).collect();
                let why = store.recovery().fallen_back.join("; ");
                let list = kept.join(", ");
                return Err(RuntimeError::Refused(format!("{newest} cannot be gone back to (kept: {list}). {why}")));
            }
            let has = store.space().total * PAGE_BYTES;
            let ignored = match size_bytes {
                Some(size) if size > has => {
                    store.grow(size)?;
                    None
                }
                Some(size) if size / PAGE_BYTES * PAGE_BYTES < has => Some(format!(
                    "the size {} is ignored: {} has {} already, and does not shrink by this: semper shrink {} SIZE",
                    BinaryBytes(size),
                    dir.display(),
                    BinaryBytes(has),
                    dir.display()
                )),
                _ => None,
            };
            Ok((store, ignored))
        }
    }
}

/// Whether the pages of the store in `dir` lie on a block device.
/// Whether the pages of the store in `dir` lie on a block device.
#[must_use]
pub fn is_on_device(dir: &Path) -> bool {
    std::fs::metadata(dir.join("pages")).is_ok_and(|pages| pages.file_type().is_block_device())
}

/// One memfd a segment, a few descriptors a domain: ask for all that the system allows.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
