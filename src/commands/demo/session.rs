//! The runtime of the demo: a process of its own, so that it can be killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::Failure;
use super::super::failure::code;
use super::super::figures::{Shown, status};
use super::figures::Kill;
use super::programs::Program;
use super::semper_output;

/// Far below the default of a second: so little work is lost that the demo stays short.
const INTERVAL: &str = "100ms";
/// How long a runtime may take to start before the demo gives up.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long the programs may take before the demo gives up.
const END_PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(1);

/// The store, and the runtime that is running on it.
pub struct Session {
    semper: PathBuf,
    store: PathBuf,
    outputs: Vec<String>,
    runtime: Child,
    /// Commands that added further programs, and die with the runtime.
    clients: Vec<Child>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Session {
    /// Starts the programs, the first with the runtime and the others added to it.
    pub fn start(place: &Path, programs: &[Program]) -> Result<Session, Failure> {
        let semper = std::env::current_exe().map_err(|error| Failure::io("this executable cannot be found", &error))?;
        let store = place.join("store");
        let [first, others @ ..] = programs else {
            return Err(Failure::new(code::FAILED, "the demo has no programs, which is a bug"));
        };
        let outputs = programs
            .iter()
            .map(|program| format!("{}={}", program.name, semper_output(place, program).display()))
            .collect();
        let runtime = spawn(&mut run_command(&semper, place, &store, first, &["--checkpoint-interval", INTERVAL])?)?;
        let mut session = Session { semper, store, outputs, runtime, clients: Vec::new() };
        session.wait_for_start(1)?;
        for (program, count) in others.iter().zip(2..) {
            session.clients.push(spawn(&mut run_command(&session.semper, place, &session.store, program, &[])?)?);
            session.wait_for_start(count)?;
        }
        Ok(session)
    }

    /// Waits until `count` programs are in the running store.
    fn wait_for_start(&mut self, count: usize) -> Result<Shown, Failure> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Ok(shown) = status(&self.store)
                && shown.live
                && shown.domains.len() >= count
            {
                return Ok(shown);
            }
            if self.has_ended()? || Instant::now() > deadline {
                return Err(Failure::new(code::FAILED, "the runtime of the demo did not start"));
            }
            thread::sleep(POLL);
        }
    }

    fn has_ended(&mut self) -> Result<bool, Failure> {
        match self.runtime.try_wait().map_err(|error| Failure::io("the runtime of the demo", &error))? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(Failure::new(code::FAILED, format!("the runtime of the demo failed: {status}"))),
        }
    }

    /// Lets the programs run for `time`; true if they ended within it.
    pub fn runs_out_within(&mut self, time: Duration) -> Result<bool, Failure> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.has_ended()? {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(2).min(until.saturating_duration_since(Instant::now())));
        }
        Ok(false)
    }

    /// Waits until the programs have ended.
    pub fn wait_for_the_end(&mut self) -> Result<(), Failure> {
        if self.runs_out_within(END_PATIENCE)? {
            return Ok(());
        }
        Err(Failure::new(code::FAILED, "the programs of the demo do not come to an end"))
    }

    /// Kills the runtime with SIGKILL, and starts another on the store.
    pub fn kill_and_resume(&mut self) -> Result<Kill, Failure> {
        let before = status(&self.store)?;
        let killed_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.kill();
        let mut command = Command::new(&self.semper);
        command.args(["resume", "--checkpoint-interval", INTERVAL]).arg(&self.store).stdin(Stdio::null());
        command.stdout(Stdio::null());
        for output in &self.outputs {
            command.args(["--stdout", output]);
        }
        let began = Instant::now();
        self.runtime = spawn(&mut command)?;
        let ended_at_once = match self.wait_for_start(0) {
            Ok(_) => false,
            // The programs may have ended before the kill, and the new runtime had only their output to show.
            Err(failure) => match self.runtime.try_wait() {
                Ok(Some(status)) if status.success() => true,
                _ => return Err(failure),
            },
        };
        let resume = began.elapsed();
        let checkpoints = before.checkpoints.as_ref();
        let last = checkpoints.and_then(|checkpoints| checkpoints.last.last());
        let committed =
            last.map(|last| Duration::from_micros(last.at_us.saturating_sub(last.write_us + last.flush_us)));
        let lost =
            if ended_at_once { Duration::ZERO } else { killed_at.saturating_sub(committed.unwrap_or(killed_at)) };
        Ok(Kill {
            generation: before.store.generation,
            lost,
            pause_max_us: checkpoints.map_or(0, |checkpoints| checkpoints.pauses.max_us),
            pause_p50_us: checkpoints.map_or(0, |checkpoints| checkpoints.pauses.p50_us),
            resume,
        })
    }

    fn kill(&mut self) {
        // Killing what has ended already is no error here.
        let _ = self.runtime.kill();
        let _ = self.runtime.wait();
        for mut client in self.clients.drain(..) {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

fn run_command(
    semper: &Path,
    place: &Path,
    store: &Path,
    program: &Program,
    flags: &[&str],
) -> Result<Command, Failure> {
    let output = semper_output(place, program);
    let file = File::create(&output).map_err(|error| Failure::io(output.display(), &error))?;
    let mut command = Command::new(semper);
    command.args(["run", "--name", program.name]).args(flags).arg(store);
    for file in &program.files {
        command.args(["--file", file]);
    }
    command.arg("--").arg(&program.path).args(&program.args);
    command.current_dir(place).stdin(Stdio::null()).stdout(file);
    Ok(command)
}

fn spawn(command: &mut Command) -> Result<Child, Failure> {
    command.stderr(Stdio::null());
    command.spawn().map_err(|error| Failure::io("semper cannot be started", &error))
}
