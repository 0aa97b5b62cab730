//! The programs of the demo: embedded by build.rs, and unpacked with the text that the indexer reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::Failure;
use super::super::failure::code;

const INDEXER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/indexer"));
const NUMERIC: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/numeric"));

/// The texts of this repository, as build.rs found them: name and content.
const TEXTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/texts.rs"));

/// How long each program should take without Semper: long enough for ten kills, short enough to watch.
const LENGTH: Duration = Duration::from_secs(6);

/// A program of the demo.
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The files that it reads, below the place of the demo.
    pub files: Vec<String>,
}

impl Program {
    /// The command that runs it without Semper.
    pub fn command(&self, place: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).current_dir(place).env_clear().stdin(Stdio::null());
        command
    }
}

/// Unpacks the programs into `place`, and sizes their work for this machine.
pub fn install(place: &Path) -> Result<Vec<Program>, Failure> {
    let written = |path: &Path, content: &[u8]| {
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(path, content))
            .map_err(|error| Failure::io(path.display(), &error))
    };
    let mut texts = Vec::new();
    for (name, content) in TEXTS {
        let name = format!("text/{name}");
        written(&place.join(&name), content.as_bytes())?;
        texts.push(name);
    }
    let mut programs = Vec::new();
    for (name, image, trial, files) in [("indexer", INDEXER, 4, texts), ("numeric", NUMERIC, 2_000_000, Vec::new())] {
        let path = place.join(name);
        written(&path, image)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|error| Failure::io(path.display(), &error))?;
        let args = |work: u64| std::iter::once(work.to_string()).chain(files.iter().cloned()).collect();
        let mut program = Program { name, path, args: args(trial), files: files.clone() };
        program.args = args(sized(&program, place, trial)?);
        programs.push(program);
    }
    Ok(programs)
}

/// How much work takes [`LENGTH`] here, from how long `trial` takes.
fn sized(program: &Program, place: &Path, trial: u64) -> Result<u64, Failure> {
    let began = Instant::now();
    let status = program
        .command(place)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| Failure::io(format_args!("{} cannot be started", program.path.display()), &error))?;
    if !status.success() {
        return Err(Failure::new(code::FAILED, format!("{} failed without Semper: {status}", program.name)));
    }
    let micros = began.elapsed().as_micros().max(1);
    Ok(u64::try_from(u128::from(trial) * LENGTH.as_micros() / micros).unwrap_or(trial).max(trial))
}
