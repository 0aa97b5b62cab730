//! The two ways of running a program: as it is, and under Semper.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::live::{Live, Said};
use crate::place::Place;

/// Room enough for several generations of the largest load.
const STORE_SIZE: &str = "48G";

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub file: PathBuf,
    /// The arguments.
    pub args: Vec<OsString>,
}

impl Program {
    /// A program with these arguments.
    pub fn new<A: Into<OsString>>(file: impl Into<PathBuf>, args: impl IntoIterator<Item = A>) -> Self {
        Self { file: file.into(), args: args.into_iter().map(Into::into).collect() }
    }

    /// Started as it is.
    pub fn native(&self, place: &Place) -> Outcome<Live> {
        Live::start(Command::new(&self.file).args(&self.args).env_clear().current_dir(place.path()))
    }

    /// Started in a new store.
    pub fn under(&self, store: &Path, flags: &[&str]) -> Outcome<Live> {
        let mut command = semper("run", store);
        command.args(["--size", STORE_SIZE]).args(flags).arg("--").arg(&self.file).args(&self.args);
        Live::start(&mut command)
    }

    /// All that it says, as it is.
    pub fn run_native(&self, place: &Place) -> Outcome<Vec<Said>> {
        self.native(place)?.finish()
    }

    /// All that it says in a store of its own, which is removed.
    pub fn run_under(&self, place: &mut Place, flags: &[&str]) -> Outcome<Vec<Said>> {
        let store = place.store();
        let said = self.under(&store, flags).and_then(Live::finish);
        fs::remove_dir_all(&store)?;
        said
    }
}

/// The command line, of this build or the one that `SEMPER_BENCH_BINARY` names.
pub fn semper_binary() -> OsString {
    std::env::var_os("SEMPER_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_semper").into())
}

/// `semper COMMAND STORE`.
pub fn semper(command: &str, store: &Path) -> Command {
    let mut semper = Command::new(semper_binary());
    semper.arg(command).arg(store);
    semper
}

/// Goes on with a store.
pub fn resume(store: &Path, flags: &[&str]) -> Outcome<Live> {
    Live::start(semper("resume", store).args(flags))
}

/// Runs a command on a store to its end; its output.
pub fn ask(command: &str, store: &Path, flags: &[&str]) -> Outcome<String> {
    let output = semper(command, store).args(flags).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("semper {command}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// The status document.
pub fn status(store: &Path) -> Outcome<serde_json::Value> {
    Ok(serde_json::from_str(&ask("status", store, &["--json"])?)?)
}
