//! The status as it is read back from JSON, which is how it comes from a running runtime.

use std::path::Path;

use semper::control::{Connection, ControlError, Reply, Request};
use semper::runtime::{Caches, JournalStatus, Loan, ScrubStatus, ShrinkStatus, Side, offline_status};
use serde::Deserialize;

use super::Failure;
use super::failure::code;

/// What is shown of a status.
#[derive(Debug, Deserialize)]
pub struct Shown {
    pub live: bool,
    pub stalled: Option<String>,
    pub store: Store,
    pub domains: Vec<Domain>,
    pub memory: Option<Memory>,
    #[serde(default)]
    pub journal: Option<Result<JournalStatus, String>>,
    #[serde(default)]
    pub native: Option<Caches>,
    #[serde(default)]
    pub mirrors: Vec<Side>,
    #[serde(default)]
    pub loan: Option<Loan>,
    #[serde(default)]
    pub scrub: Option<ScrubStatus>,
    pub checkpoints: Option<Checkpoints>,
}

#[derive(Debug, Deserialize)]
pub struct Store {
    pub dir: String,
    pub id: String,
    pub generation: u64,
    /// Number and commit time in seconds since 1970.
    pub generations: Vec<(u64, u64)>,
    pub total_pages: u64,
    pub used_pages: u64,
    pub io: String,
    #[serde(default)]
    pub shrinking: Option<ShrinkStatus>,
}

#[derive(Debug, Deserialize)]
pub struct Domain {
    pub id: u64,
    pub name: String,
    pub state: String,
    pub exit_code: Option<u8>,
    pub exit_signal: Option<u8>,
    pub cpu_ms: u64,
    pub held_output: u64,
    pub cpu_level: Option<String>,
    #[serde(default)]
    pub recorded: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub struct Memory {
    pub resident_bytes: u64,
    pub limit_bytes: Option<u64>,
    pub tracking: String,
    pub faults: u64,
    pub evicted: u64,
}

#[derive(Debug, Deserialize)]
pub struct Checkpoints {
    pub last: Vec<Checkpoint>,
    pub totals: Totals,
    pub pauses: Pauses,
}

#[derive(Debug, Deserialize)]
pub struct Checkpoint {
    pub generation: u64,
    pub pages: u64,
    pub bytes: u64,
    pub rounds: u32,
    pub pause_us: u64,
    /// The longest stop that only slowed a writer down.
    pub throttle_us: u64,
    pub write_us: u64,
    pub flush_us: u64,
    pub at_us: u64,
}

#[derive(Debug, Deserialize)]
pub struct Totals {
    pub committed: u64,
    pub failed: u64,
}

#[derive(Debug, Deserialize)]
pub struct Pauses {
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// The status of a store as JSON: from its runtime, or else from its pages.
pub fn status_json(store: &Path) -> Result<String, Failure> {
    match Connection::open(store).and_then(|connection| connection.ask(&Request::Status)) {
        Ok(Reply::Status { json }) => Ok(json),
        Ok(other) => Err(Failure::control(store, ControlError::Unexpected(Box::new(other)))),
        Err(ControlError::NotRunning) => serde_json::to_string(&offline_status(store)?)
            .map_err(|error| Failure::new(code::FAILED, format!("the status is no JSON: {error}"))),
        Err(error) => Err(Failure::control(store, error)),
    }
}

/// The status of a store.
pub fn status(store: &Path) -> Result<Shown, Failure> {
    let json = status_json(store)?;
    serde_json::from_str(&json).map_err(|error| {
        let shown = store.display();
        Failure::new(code::FAILED, format!("the runtime of {shown} is of another version: {error}; use its own semper"))
    })
}
