//! A process whose lines are read as they come, with the moment of each.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::Outcome;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(600);

/// A line of output.
#[derive(Clone, Debug)]
pub struct Said {
    /// When it was read.
    pub at: Instant,
    /// The first word.
    pub key: String,
    /// The number behind it, or 0.
    pub value: u64,
}

/// A running process; it is killed when this goes.
pub struct Live {
    child: Child,
    lines: Receiver<Said>,
    errors: Arc<Mutex<Vec<String>>>,
    what: String,
    /// When it was started, as the wall clock tells it.
    pub started: SystemTime,
}

impl Live {
    /// Starts it. Its standard error is shown only when it fails.
    pub fn start(command: &mut Command) -> Outcome<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{command:?}");
        let started = SystemTime::now();
        let mut child = command.spawn().map_err(|error| format!("{what}: {error}"))?;
        let output = child.stdout.take().ok_or("no pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let (key, rest) = line.split_once(' ').unwrap_or((&line, ""));
                let said = Said { at: Instant::now(), key: key.to_owned(), value: rest.trim().parse().unwrap_or(0) };
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(Vec::new()));
        let (complaints, kept) = (child.stderr.take().ok_or("no pipe")?, Arc::clone(&errors));
        std::thread::spawn(move || {
            for line in BufReader::new(complaints).lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { child, lines, errors, what, started })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line that begins with `key`; `meanwhile` is called a few times in a second.
    pub fn wait_for(&mut self, key: &str, mut meanwhile: impl FnMut()) -> Outcome<Said> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(said) if said.key == key => return Ok(said),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => meanwhile(),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no line `{key}` in {PATIENCE:?}: {}", self.what).into());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    return Err(format!("ended with {status} and no line `{key}`: {}", self.complaints()).into());
                }
            }
        }
    }

    /// The lines that have come and were not waited for.
    pub fn heard(&self) -> Vec<Said> {
        self.lines.try_iter().collect()
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) -> Outcome<()> {
        let input = self.child.stdin.as_mut().ok_or("no pipe")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// Waits for its end, which has to be a success; gives all lines not waited for.
    pub fn finish(mut self) -> Outcome<Vec<Said>> {
        drop(self.child.stdin.take());
        let mut said = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(format!("still running after {PATIENCE:?}: {}", self.what).into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let status = self.child.wait()?;
        if status.success() { Ok(said) } else { Err(format!("ended with {status}: {}", self.complaints()).into()) }
    }

    /// The command, and the last things that it wrote to standard error.
    fn complaints(&self) -> String {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let last = errors.len().saturating_sub(5);
        format!("{}: {}", self.what, errors[last..].join("; "))
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number that a program said under `key`.
pub fn number(said: &[Said], key: &str) -> Outcome<u64> {
    said.iter().find(|line| line.key == key).map(|line| line.value).ok_or_else(|| format!("no line `{key}`").into())
}
