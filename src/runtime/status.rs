//! What `semper status` shows, of a live world or of a store at rest.

use super::journal::{JournalStatus, journal_status};
use super::loan::Loan;
use super::mirrors::{Side, sides};
use super::rot::Watch;
use super::scrub::ScrubStatus;
use super::world::StoreBacking;
use super::{Runtime, RuntimeError};
use semper_domains::kernel::Levels;
use semper_domains::kernel::objects::{self, DomainRecord};
use semper_domains::linux::ExitStatus;
use semper_domains::native::{Caches, ProgramView};
use semper_pager::{Pager, PagerConfig};
use semper_store::Store;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The whole picture.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whether a runtime has the store open.
    pub live: bool,
    /// That a program waits because the store or the disk is full, and what to do, in a sentence; none if none does.
    pub stalled: Option<String>,
    /// The store.
    pub store: StoreStatus,
    /// Its domains, ended ones too.
    pub domains: Vec<DomainStatus>,
    /// Frames; of a live world only.
    pub memory: Option<MemoryStatus>,
    /// The journal, or why it cannot be read; none if there is none.
    pub journal: Option<Result<JournalStatus, String>>,
    /// What of the native domains is in memory; of a live world only.
    pub native: Option<Caches>,
    /// The sides of the store, its own directory first; empty if it has no mirrors.
    pub mirrors: Vec<Side>,
    /// Where pages of the store still lie that was forked; none if all are its own.
    pub loan: Option<Loan>,
    /// What scrubs read and found; none if there was none.
    pub scrub: Option<ScrubStatus>,
    /// Figures of the last checkpoints; at rest those that the last runtime left.
    pub checkpoints: Option<semper_checkpoint::Summary>,
}

/// The store.
#[derive(Clone, Debug, Serialize)]
pub struct StoreStatus {
    /// Its directory.
    pub dir: String,
    /// Its identity.
    pub id: String,
    /// The newest generation.
    pub generation: u64,
    /// Kept generations: number, commit time in seconds since 1970.
    pub generations: Vec<(u64, u64)>,
    /// Pages it can hold.
    pub total_pages: u64,
    /// Pages in use.
    pub used_pages: u64,
    /// How it writes.
    pub io: String,
    /// How far it is, if it is being made smaller.
    pub shrinking: Option<ShrinkStatus>,
}

/// A store that is being made smaller; `total_pages` and `used_pages` are then of what is to be left of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ShrinkStatus {
    /// Pages that it is to hold.
    pub to_pages: u64,
    /// Pages in use that lie beyond those yet.
    pub beyond_pages: u64,
}

/// A domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DomainStatus {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `linux` or `native`: a program of the personality, or one written for keys.
    pub kind: String,
    /// `running`, `stopped` (at rest, or by `semper stop`), `ended`.
    pub state: String,
    /// The exit code, if it ended by exit.
    pub exit_code: Option<u8>,
    /// The signal, if it ended by one.
    pub exit_signal: Option<u8>,
    /// The process that caches it now.
    pub pid: Option<i32>,
    /// Processor time used, milliseconds.
    pub cpu_ms: u64,
    /// Output held until the next commit, bytes.
    pub held_output: u64,
    /// The level of processors that it was started for; none: it may know all of the one where it was.
    pub cpu_level: Option<String>,
    /// Whether what it is told is recorded; none at rest, where that is not looked for.
    #[serde(default)]
    pub recorded: Option<bool>,
}

/// Frames.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryStatus {
    /// Bytes of frames in use.
    pub resident_bytes: u64,
    /// The limit, if there is one.
    pub limit_bytes: Option<u64>,
    /// `async` or `sync` write tracking.
    pub tracking: String,
    /// Page faults served.
    pub faults: u64,
    /// Pages evicted.
    pub evicted: u64,
}

/// The exit code or the signal that a program ended with.
fn code_and_signal(exit: Option<ExitStatus>) -> (Option<u8>, Option<u8>) {
    match exit {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}

fn domain_status(record: &DomainRecord, live: bool, levels: &Levels) -> DomainStatus {
    let (exit_code, exit_signal) = code_and_signal(record.exit());
    DomainStatus {
        id: record.id,
        name: record.name(),
        kind: "linux".into(),
        state: match (record.life.state, live) {
            (objects::ALIVE, true) => "running".into(),
            (objects::ALIVE, false) | (objects::HELD, _) => "stopped".into(),
            _ => "ended".into(),
        },
        exit_code,
        exit_signal,
        pid: None,
        cpu_ms: record.cpu / 1_000_000,
        held_output: 0,
        cpu_level: levels.get(&record.id).map(ToString::to_string),
        recorded: None,
    }
}

fn program_status(program: &ProgramView, live: bool) -> DomainStatus {
    let (exit_code, exit_signal) = code_and_signal(program.exit);
    DomainStatus {
        id: program.id,
        name: program.name.clone(),
        kind: "native".into(),
        state: match (program.exit, live && !program.stopped) {
            (Some(_), _) => "ended".into(),
            (None, true) => "running".into(),
            (None, false) => "stopped".into(),
        },
        exit_code,
        exit_signal,
        pid: None,
        cpu_ms: program.cpu / 1_000_000,
        held_output: program.held,
        cpu_level: program.cpu_level.map(|level| level.to_string()),
        recorded: None,
    }
}

fn seconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

fn store_status(dir: &Path, store: &Store) -> StoreStatus {
    let space = store.space();
    StoreStatus {
        dir: dir.display().to_string(),
        id: store.id().to_string(),
        generation: store.generation().0,
        generations: store.generations().iter().map(|g| (g.generation.0, seconds(g.committed_at))).collect(),
        total_pages: space.total,
        used_pages: space.used,
        io: store.io_kind().to_string(),
        shrinking: store.shrinking().map(|state| ShrinkStatus { to_pages: state.places, beyond_pages: state.beyond }),
    }
}

impl Runtime {
    /// The Linux programs, ended ones too.
    pub(super) fn linux_programs(&self) -> Vec<DomainStatus> {
        let levels = self.kernel.levels();
        let records = self.kernel.records();
        let mut domains: Vec<DomainStatus> = records.iter().map(|r| domain_status(r, true, &levels)).collect();
        for status in &mut domains {
            if let Some(domain) = self.kernel.domain(status.id) {
                status.pid = domain.process().map(|p| p.pid);
                status.recorded = Some(domain.tape.is_on());
                let cpu = semper_domains::linux::Clock::cpu(&*domain.clock);
                status.cpu_ms = u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX);
                let released = domain.releaser().map_or([0, 0], |r| r.released());
                let written = domain.console.written();
                let held: u64 = (0..2).map(|i: usize| written[i].saturating_sub(released[i])).sum();
                status.held_output = held.saturating_add(domain.network.held());
            }
        }
        domains
    }

    /// What is going on.
    #[must_use]
    pub fn status(&self) -> Status {
        let usage = self.pager.usage();
        let mut domains = self.linux_programs();
        for program in self.kernel.native_programs() {
            let pid = self.kernel.native.pid(program.domain);
            let recorded = Some(self.kernel.records_native());
            domains.push(DomainStatus { pid, recorded, ..program_status(&program, true) });
        }
        Status {
            live: true,
            stalled: self.stall.told(),
            store: store_status(&self.dir, &self.store),
            domains,
            memory: Some(MemoryStatus {
                resident_bytes: usage.resident * 4096,
                limit_bytes: self.options.memory,
                tracking: format!("{:?}", self.pager.tracking()).to_lowercase(),
                faults: usage.missing_faults + usage.minor_faults,
                evicted: usage.evictions,
            }),
            native: Some(self.kernel.native.caches()),
            journal: journal_status(&self.store),
            mirrors: sides(&self.store),
            loan: Loan::of(&self.store),
            scrub: ScrubStatus::read(&self.dir),
            checkpoints: Some(self.checkpointer.summary()),
        }
    }
}

/// What a store at rest holds; takes no lock and changes nothing.
///
/// # Errors
/// When there is no store, or it is damaged.
pub fn offline_status(dir: &Path) -> Result<Status, RuntimeError> {
    let (store, records, programs, levels) = match offline_pager(dir)? {
        Some((store, pager)) => {
            let (records, programs, levels) = semper_domains::kernel::read_records(&pager)?;
            (store, records, programs, levels)
        }
        None => (Arc::new(Store::open_read_only(dir)?), Vec::new(), Vec::new(), Levels::new()),
    };
    Ok(Status {
        live: false,
        stalled: None,
        store: store_status(dir, &store),
        domains: records
            .iter()
            .map(|r| domain_status(r, false, &levels))
            .chain(programs.iter().map(|p| program_status(p, false)))
            .collect(),
        memory: None,
        native: None,
        journal: journal_status(&store),
        mirrors: sides(&store),
        loan: Loan::of(&store),
        scrub: ScrubStatus::read(dir),
        checkpoints: super::kept::read(dir),
    })
}

/// A store at rest, and its pages.
pub(super) type AtRest = (Arc<Store>, Arc<Pager>);

/// The pages of a store at rest; none if nothing was ever committed. Takes no lock.
///
/// # Errors
/// When there is no store, or it is damaged.
pub(super) fn offline_pager(dir: &Path) -> Result<Option<AtRest>, RuntimeError> {
    if !Store::lies_in(dir) {
        return Err(RuntimeError::no_store(dir));
    }
    let store = Arc::new(Store::open_read_only(dir)?);
    if store.generation().0 == 0 {
        return Ok(None);
    }
    let config = PagerConfig::default();
    let watch = Watch::new(dir, Arc::clone(&store));
    let pager = Pager::new(config, Arc::new(StoreBacking::new(Arc::clone(&store), watch)))?;
    Ok(Some((store, pager)))
}

/// The Linux programs of a world at rest.
pub(super) fn linux_programs((records, levels): &(Vec<DomainRecord>, Levels)) -> Vec<DomainStatus> {
    records.iter().map(|record| domain_status(record, false, levels)).collect()
}
