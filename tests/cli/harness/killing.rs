//! Programs whose runtime is killed again and again, compared with an undisturbed native run.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use semper::control::Connection;

use super::session::{Session, TIMEOUT, wait_for};

/// The seed of this run: `SEMPER_SEED`, or a new one. Always printed, so that a failure can be run again.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEMPER_SEED") {
        Ok(seed) => seed.parse().expect("SEMPER_SEED is a number"),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) ^ u64::from(std::process::id())
        }
    };
    eprintln!("SEMPER_SEED={seed}");
    seed
}

/// Random moments.
pub type Rng = fastrand::Rng;

/// The time from one start to the kill that follows it, at most: some kills hit the start, most hit the work.
const GAP: Duration = Duration::from_millis(250);

/// A program and how it is started.
#[derive(Clone)]
pub struct Case {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub flags: Vec<String>,
    /// Flags of `run` that `resume` does not have.
    pub run_flags: Vec<String>,
    /// The size of the store.
    pub size: String,
    pub env: Vec<(String, String)>,
    /// Files that it reads, by their name in the directory of the test: content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Standard input, as a regular file.
    pub input: Option<Vec<u8>>,
    /// Standard error goes where standard output goes.
    pub joined: bool,
}

/// What a run left.
#[derive(Debug, Eq, PartialEq)]
pub struct Outcome {
    pub stdout: String,
    /// The exit code, a signal counting 128 and its number.
    pub code: i32,
}

/// A run that was disturbed, and how often.
#[derive(Debug)]
pub struct Disturbed {
    pub outcome: Outcome,
    /// Runtimes that died by SIGKILL.
    pub deaths: u32,
    /// Those of them after which there was something to resume.
    pub resumed: u32,
}

impl Case {
    pub fn new(program: impl Into<PathBuf>, args: &[&str]) -> Case {
        Case {
            program: program.into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            flags: ["--checkpoint-interval", "50ms"].map(str::to_owned).to_vec(),
            run_flags: vec![],
            size: "2G".into(),
            env: vec![],
            files: vec![],
            input: None,
            joined: false,
        }
    }

    fn prepare(&self, place: &Path) {
        for (name, content) in &self.files {
            fs::write(place.join(name), content).unwrap();
        }
        if let Some(input) = &self.input {
            fs::write(place.join("input"), input).unwrap();
        }
    }

    fn stdin(&self, place: &Path) -> Stdio {
        if self.input.is_some() { File::open(place.join("input")).unwrap().into() } else { Stdio::null() }
    }

    /// Runs it without Semper.
    pub fn native(&self) -> Outcome {
        self.timed_native().0
    }

    /// The same, with the time that it takes.
    pub fn timed_native(&self) -> (Outcome, Duration) {
        let place = tempfile::tempdir().unwrap();
        self.prepare(place.path());
        let out = place.path().join("out");
        let stdout = File::create(&out).unwrap();
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().cloned()).current_dir(place.path());
        if self.joined {
            command.stderr(stdout.try_clone().unwrap());
        }
        let begun = Instant::now();
        let mut child = command.stdin(self.stdin(place.path())).stdout(stdout).spawn().unwrap();
        let code = code_of(wait_for(&mut child));
        (Outcome { stdout: read(&out), code }, begun.elapsed())
    }

    /// The command that starts it under Semper.
    pub fn start(&self, session: &Session) -> Command {
        self.prepare(session.place());
        let mut command = session.on_store("run");
        command.args(["--size", &self.size]).args(&self.flags).args(&self.run_flags);
        for (name, value) in &self.env {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        for (name, _) in &self.files {
            command.arg("--file").arg(name);
        }
        command.arg("--").arg(&self.program).args(&self.args);
        command
    }

    /// Runs it under Semper, undisturbed.
    pub fn undisturbed(&self) -> Outcome {
        self.timed_undisturbed().0
    }

    /// The same, with the time that it takes.
    pub fn timed_undisturbed(&self) -> (Outcome, Duration) {
        let begun = Instant::now();
        (self.disturbed(&Session::new(), |_, _| {}, || None).outcome, begun.elapsed())
    }

    /// Runs it under Semper, where undisturbed it `takes` so long, and kills the runtime `kills` times at random moments, so near to each
    /// other that there is work left for each. How many come depends on the machine's other work too; with none it was no test.
    pub fn killed(&self, kills: u32, takes: Duration, random: &mut Rng) -> Disturbed {
        let gap = GAP.min(takes / kills);
        let mut left = kills;
        let moment = || {
            left = left.checked_sub(1)?;
            Some(gap.mul_f64(0.1 + 0.9 * random.f64()))
        };
        let disturbed = self.disturbed(&Session::new(), |_, _| {}, moment);
        let Disturbed { deaths, resumed, .. } = disturbed;
        eprintln!(
            "{deaths} of {kills} kills came, {resumed} after a commit; undisturbed {takes:?}, at most {gap:?} apart"
        );
        assert!(deaths > 0, "none of {kills} kills came: the program takes {takes:?} only");
        disturbed
    }

    /// Runs it under Semper. `arm` may change each command that starts a runtime; `moment` says after what time the next runtime is
    /// killed, or that it is not. A runtime that dies by SIGKILL on its own, as one that was armed does, is resumed as well.
    pub fn disturbed(
        &self,
        session: &Session,
        mut arm: impl FnMut(&mut Command, u32),
        mut moment: impl FnMut() -> Option<Duration>,
    ) -> Disturbed {
        let (out, err) = (session.place().join("out"), session.place().join("err"));
        File::create(&err).unwrap();
        let mut command = self.start(session);
        let mut stdout = File::create(&out).unwrap();
        let (mut life, mut resumed) = (0, 0);
        loop {
            arm(&mut command, life);
            command.stderr(match self.joined {
                true => stdout.try_clone().unwrap(),
                false => OpenOptions::new().append(true).open(&err).unwrap(),
            });
            command.stdin(self.stdin(session.place())).stdout(stdout);
            let mut runtime = command.spawn().unwrap();
            let killed = moment().is_some_and(|moment| kill_after(&mut runtime, session, life, moment));
            let status = wait_for(&mut runtime);
            let died = killed || std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
            if !died {
                let code = code_of(status);
                let errors = read(&err);
                assert!(!(120..=127).contains(&code), "the runtime failed with {code} in its life {life}:\n{errors}");
                if code > 128 {
                    eprintln!("a signal ended the program in life {life} of its runtime:\n{errors}");
                }
                return Disturbed { outcome: Outcome { stdout: read(&out), code }, deaths: life, resumed };
            }
            life += 1;
            assert!(life < 10_000, "the program never ends");
            // Killed before the store was made, there is nothing to resume: it is started again.
            command = if session.store().join("pages").exists() && has_programs(session) {
                resumed += 1;
                let mut resume = session.on_store("resume");
                resume.args(self.flags.iter());
                resume
            } else {
                let _ = fs::remove_dir_all(session.store());
                self.start(session)
            };
            stdout = OpenOptions::new().append(false).write(true).open(&out).unwrap();
            std::io::Seek::seek(&mut stdout, std::io::SeekFrom::End(0)).unwrap();
        }
    }
}

/// Kills the runtime `moment` after it is up, in every fourth life after it was started; false if it ended before.
fn kill_after(runtime: &mut Child, session: &Session, life: u32, moment: Duration) -> bool {
    let mut since = Instant::now();
    let mut up = life % 4 == 3;
    while !up || since.elapsed() < moment {
        if runtime.try_wait().unwrap().is_some() {
            return false;
        }
        if !up && (Connection::open(&session.store()).is_ok() || since.elapsed() > TIMEOUT) {
            (up, since) = (true, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = runtime.kill();
    true
}

/// Whether anything was committed. `status` fails on a store that was killed while it was made.
fn has_programs(session: &Session) -> bool {
    let output = session.output(session.on_store("status").arg("--json"));
    serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .is_ok_and(|status| status["domains"].as_array().is_some_and(|domains| !domains.is_empty()))
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}
