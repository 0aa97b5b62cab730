//! A store, and commands on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; only a hang comes to it.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// The command line under test.
pub fn semper() -> Command {
    Command::new(env!("CARGO_BIN_EXE_semper"))
}

/// Waits for the end of a process; a hang is a failure, and is killed.
pub fn wait_for(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("still running after {TIMEOUT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills a runtime; whether that ended it, and not something before.
pub fn sigkill(runtime: &mut Child) -> bool {
    let _ = runtime.kill();
    std::os::unix::process::ExitStatusExt::signal(&wait_for(runtime)) == Some(9)
}

/// A store in a temporary directory, with a place for files beside it.
pub struct Session {
    place: tempfile::TempDir,
}

impl Session {
    pub fn new() -> Session {
        Session { place: tempfile::tempdir().unwrap() }
    }

    /// Where files of the test lie.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.place().join("store")
    }

    /// A file beside the store.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.place().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `semper COMMAND STORE`.
    pub fn on_store(&self, command: &str) -> Command {
        let mut semper = semper();
        semper.arg(command).arg(self.store()).current_dir(self.place()).stdin(Stdio::null());
        semper
    }

    /// `semper run STORE FLAGS -- PROGRAM ARGS`, with a size if there is no store yet: a live runtime would refuse it.
    pub fn run(&self, flags: &[&str], program: &Path, args: &[&str]) -> Command {
        let mut command = self.on_store("run");
        if !self.store().join("pages").exists() {
            command.args(["--size", "2G"]);
        }
        command.args(flags).arg("--").arg(program).args(args);
        command
    }

    /// The output of a command that ends by itself.
    pub fn output(&self, command: &mut Command) -> Output {
        let (out, err) = (self.place().join("command.out"), self.place().join("command.err"));
        let create = |path: &Path| File::create(path).unwrap();
        let mut child = command.stdout(create(&out)).stderr(create(&err)).spawn().unwrap();
        let status = wait_for(&mut child);
        Output { status, stdout: std::fs::read(out).unwrap(), stderr: std::fs::read(err).unwrap() }
    }

    /// Starts a command in the background, quietly.
    pub fn background(&self, command: &mut Command) -> Background {
        Background(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// The status document.
    pub fn status(&self) -> serde_json::Value {
        let output = self.output(self.on_store("status").arg("--json"));
        assert!(output.status.success(), "status fails: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until the runtime is live and `holds` of its status.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let output = self.output(self.on_store("status").arg("--json"));
            if let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout)
                && status["live"] == true
                && holds(&status)
            {
                return status;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `semper check` finds nothing wrong.
    pub fn assert_sound(&self) {
        let output = self.output(&mut self.on_store("check"));
        assert!(
            output.status.success(),
            "check finds damage:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A process that is killed at the end of the test.
pub struct Background(pub Child);

impl Background {
    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for(&mut self.0)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
