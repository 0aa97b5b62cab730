//! Many native domains in one store: a thousand that pay each other while the runtime dies again and again, and thousands that only wait.

use std::fs::{self, File, OpenOptions};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Case, Disturbed, Rng, Session, TIMEOUT, native_program, seed, wait_for};
use serde_json::Value;

/// A crowd, and what it has to do.
#[derive(Clone, Copy)]
struct Crowd {
    members: u64,
    busy: u64,
    payers: u64,
    rounds: u64,
    payments: u64,
}

impl Crowd {
    fn args(self) -> Vec<String> {
        let Crowd { members, busy, payers, rounds, payments } = self;
        [members, busy, payers, rounds, payments].map(|number| number.to_string()).to_vec()
    }

    /// Each round is told once and in order, and each says that nothing was lost or doubled until then.
    fn assert_told(self, printed: &str) {
        let mut lines = printed.lines();
        let begins = format!("crowd: {} members and {} payers", self.members, self.payers);
        assert_eq!(lines.next(), Some(begins.as_str()), "{printed}");
        let sum = (self.members + self.payers) * 1000;
        let rounds = (1..=self.rounds).map(|round| format!("round {round}"));
        let mut sent_before = 0;
        for what in rounds.chain(["crowd".to_owned()]) {
            let line = lines.next().unwrap_or_default();
            let sent: u64 = line.split(' ').rev().nth(10).and_then(|word| word.parse().ok()).unwrap_or(0);
            let wanted = format!("{what}: {sent} sent, {sent} taken, the accounts hold {sum}, 0 are wrong");
            assert_eq!(line, wanted, "{printed}");
            assert!(sent >= sent_before + if what == "crowd" { 0 } else { self.payers * self.payments }, "{printed}");
            sent_before = sent;
        }
        assert_eq!(lines.next(), None, "{printed}");
    }
}

/// Kills the runtime under a crowd so often, each time after a random part of `gap`.
fn storm(crowd: Crowd, kills: u32, gap: Duration) {
    let args = crowd.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let case =
        Case { run_flags: vec!["--native".into()], size: "8G".into(), ..Case::new(native_program("crowd"), &args) };
    let (session, mut random) = (Session::new(), Rng::with_seed(seed()));
    let mut lives = 0;
    let moment = || {
        lives += 1;
        if lives <= kills {
            return Some(gap.mul_f64(0.1 + 0.9 * random.f64()));
        }
        let printed = fs::read_to_string(session.place().join("out")).unwrap_or_default();
        assert!(lives <= kills + 10, "it does not come to its end: {printed}");
        Some(TIMEOUT / 2)
    };
    let Disturbed { outcome, deaths, .. } = case.disturbed(&session, |_, _| {}, moment);
    eprintln!("{deaths} kills");
    assert!(deaths > 0, "{deaths} of {kills} kills came");
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    crowd.assert_told(&outcome.stdout);
    session.assert_sound();
}

#[test]
fn a_thousand_domains_lose_and_double_no_message_in_a_storm_of_kills() {
    storm(Crowd { members: 1000, busy: 1000, payers: 60, rounds: 8, payments: 2 }, 10, Duration::from_millis(1000));
}

#[test]
#[ignore = "takes minutes"]
fn soak_of_a_thousand_domains() {
    let kills = std::env::var("SEMPER_KILLS").map_or(200, |kills| kills.parse().expect("SEMPER_KILLS is a number"));
    let rounds = u64::from(kills) / 4;
    storm(Crowd { members: 1000, busy: 1000, payers: 150, rounds, payments: 2 }, kills, Duration::from_secs(2));
}

/// Domains that wait, in one store; a hundred of them have work from time to time.
struct Idlers {
    session: Session,
    runtime: Child,
    crowd: Crowd,
}

impl Drop for Idlers {
    fn drop(&mut self) {
        let _ = self.runtime.kill();
        let _ = self.runtime.wait();
    }
}

impl Idlers {
    /// Made, and the first of them waits for a line of input.
    fn start(crowd: Crowd) -> Idlers {
        let session = Session::new();
        let mut command = session.run(&["--native", "--name", "crowd"], &native_program("crowd"), &[]);
        command.args(crowd.args()).arg("wait");
        let out = File::create(session.place().join("out")).unwrap();
        let runtime = command.stdin(Stdio::piped()).stdout(out).stderr(Stdio::inherit()).spawn().unwrap();
        let idlers = Idlers { session, runtime, crowd };
        let deadline = Instant::now() + 5 * TIMEOUT;
        while idlers.printed().is_empty() {
            idlers.assert_within_limits();
            assert!(Instant::now() < deadline, "they are never made");
            std::thread::sleep(Duration::from_millis(100));
        }
        idlers
    }

    fn printed(&self) -> String {
        fs::read_to_string(self.session.place().join("out")).unwrap()
    }

    fn native(&self) -> Option<Value> {
        let output = self.session.output(self.session.on_store("status").arg("--json"));
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["native"].is_object().then(|| status["native"].clone())
    }

    /// Processes at any time, and descriptors now.
    fn assert_within_limits(&self) {
        let Some(native) = self.native() else { return };
        assert!(native["most_processes"].as_u64() <= native["process_limit"].as_u64(), "{native}");
        let open = fs::read_dir(format!("/proc/{}/fd", self.runtime.id())).map_or(0, Iterator::count);
        assert!(open < 20_000, "{open} descriptors are open: {native}");
    }

    /// Once all is committed and nobody works, only what may stay does.
    fn assert_settles(&self) {
        let deadline = Instant::now() + TIMEOUT;
        let within = |native: &Value, have: &str, may: &str| native[have].as_u64() <= native[may].as_u64();
        loop {
            let native = self.native().unwrap_or_default();
            let settled = within(&native, "loaded", "loaded_limit")
                && within(&native, "segments", "segment_limit")
                && native["waiting"] == 0;
            if native.is_object() && settled {
                return;
            }
            assert!(Instant::now() < deadline, "what is not needed stays: {native}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What `semper ls` counts in the bank of the program.
    fn count(&self) -> Value {
        let output = self.session.output(self.session.on_store("ls").arg("--json"));
        assert!(output.status.success(), "{output:?}");
        let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
        let banks = listing["bank"]["banks"].as_array().unwrap().clone();
        banks.into_iter().find(|bank| bank["program"] == "crowd").unwrap()["counts"].clone()
    }

    fn assert_listed(&self) {
        assert_eq!(self.count()["domain"], self.crowd.members + self.crowd.payers + 1);
        let text = self.session.output(&mut self.session.on_store("ls"));
        assert!(text.status.success() && String::from_utf8_lossy(&text.stdout).contains("not listed: "), "{text:?}");
    }

    /// Kills the runtime, looks at the store at rest, and goes on, with a line of input.
    fn restart(&mut self) {
        self.runtime.kill().unwrap();
        self.runtime.wait().unwrap();
        self.assert_listed();
        let out = OpenOptions::new().append(true).open(self.session.place().join("out")).unwrap();
        let input = File::open(self.session.file("input", "go\n")).unwrap();
        let mut resume = self.session.on_store("resume");
        self.runtime = resume.stdin(input).stdout(out).stderr(Stdio::inherit()).spawn().unwrap();
    }
}

#[test]
fn thousands_of_idle_domains_are_records_of_the_store_and_little_else() {
    let crowd = Crowd { members: 5000, busy: 100, payers: 10, rounds: 3, payments: 5 };
    let mut idlers = Idlers::start(crowd);
    idlers.assert_settles();
    idlers.assert_listed();
    idlers.restart();
    while idlers.runtime.try_wait().unwrap().is_none() && !idlers.printed().contains("round 1") {
        idlers.assert_within_limits();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(wait_for(&mut idlers.runtime).code(), Some(0));
    crowd.assert_told(&idlers.printed());
    idlers.session.assert_sound();
}

/// The program behind the figures of many domains, smaller: all that it makes wait, and the first of them answer.
#[test]
fn idle_domains_are_made_and_answer() {
    let session = Session::new();
    let out = session.place().join("out");
    let mut idle = session.run(&["--native", "--output", "immediate"], &native_program("idle"), &["300", "0"]);
    let mut idle = idle.stdout(File::create(&out).unwrap()).spawn().unwrap();
    session.wait_until("all are made", |_| fs::read_to_string(&out).unwrap().contains("ready 0"));
    let said = fs::read_to_string(&out).unwrap();
    let words: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(words, ["made", "bytes", "message", "ready"], "{said}");
    assert!(session.output(&mut session.on_store("stop")).status.success());
    wait_for(&mut idle);
    session.assert_sound();
}

#[test]
fn a_bank_of_very_many_objects_survives_and_is_freed_in_steps() {
    let case = Case { run_flags: vec!["--native".into()], ..Case::new(native_program("objects"), &["20000"]) };
    let (undisturbed, takes) = case.timed_undisturbed();
    let told = "20000 pages were bought\n16 of 16 hold what was written\ndestroyed with their bank: true\n";
    assert_eq!((undisturbed.stdout.as_str(), undisturbed.code), (told, 0));
    let mut random = Rng::with_seed(seed());
    assert_eq!(case.killed(5, takes, &mut random).outcome, undisturbed);
}

#[test]
#[ignore = "takes minutes, and 3 GB of disk"]
fn ten_million_objects_in_one_store() {
    let session = Session::new();
    let out = |name: &str| session.place().join(name);
    let printed = |name: &str| fs::read_to_string(out(name)).unwrap();
    let names = ["first", "second"];
    let start = |name: &str| {
        let mut run = session.on_store("run");
        run.args(["--size", "160G", "--name", name, "--native", "--"]).arg(native_program("objects"));
        run.args(["5000000", "wait"]);
        run.stdin(Stdio::piped()).stdout(File::create(out(name)).unwrap()).spawn().unwrap()
    };
    let mut runtime = start(names[0]);
    session.wait_until("it runs", |status| status["domains"][0]["state"] == "running");
    let mut added = start(names[1]);
    while !names.iter().all(|name| printed(name).contains("buying one took")) {
        std::thread::sleep(Duration::from_millis(100));
        assert!(runtime.try_wait().unwrap().is_none(), "{}", names.map(printed).concat());
    }
    assert!(session.output(&mut session.on_store("checkpoint")).status.success());
    let memory = fs::read_to_string(format!("/proc/{}/status", runtime.id())).unwrap();
    runtime.kill().unwrap();
    runtime.wait().unwrap();
    let _ = added.wait();
    let begun = Instant::now();
    let mut resume = session.on_store("resume");
    for name in names {
        let mut to = std::ffi::OsString::from(format!("{name}="));
        to.push(out(name));
        resume.arg("--stdout").arg(to);
    }
    let input = File::open(session.file("input", "go, go\n")).unwrap();
    let mut runtime = resume.stdin(input).spawn().unwrap();
    while !names.iter().any(|name| printed(name).contains("hold what was written")) {
        std::thread::sleep(Duration::from_millis(1));
        assert!(begun.elapsed() < TIMEOUT);
    }
    let resumed = begun.elapsed();
    assert_eq!(runtime.wait().unwrap().code(), Some(0));
    let size = memory.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    eprintln!("{}resumed after {resumed:?}; {size} before", names.map(printed).concat());
    for name in names {
        assert!(printed(name).contains("5000000 pages were bought\n"));
        assert!(printed(name).contains("16 of 16 hold what was written\ndestroyed with their bank: true\n"));
    }
    session.assert_sound();
}
