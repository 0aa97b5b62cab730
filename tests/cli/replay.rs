//! Programs whose inputs are recorded: told again after kills, by command, and only where they fit.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Background, Libc, Rng, Session, TIMEOUT, c_program, seed, sigkill, wait_for};

/// No checkpoint but the first: all that goes on after a kill goes on by what was recorded.
pub const RECORDED: &[&str] = &["--record", "--output", "journaled", "--checkpoint-interval", "0"];
pub const RESUMED: &[&str] = &["--output", "journaled", "--checkpoint-interval", "0"];

fn told() -> Option<PathBuf> {
    c_program("told", Libc::Glibc)
}

/// Starts a command whose output is added to a file of the session.
pub fn into(session: &Session, name: &str, command: &mut Command) -> Background {
    let out = File::options().create(true).append(true).open(session.place().join(name)).unwrap();
    Background(command.stdout(out).stderr(Stdio::inherit()).spawn().unwrap())
}

pub fn lines(session: &Session, name: &str) -> Vec<String> {
    fs::read_to_string(session.place().join(name)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until a file has so many lines.
pub fn wait_for_lines(session: &Session, name: &str, count: usize) -> Vec<String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let lines = lines(session, name);
        if lines.len() >= count {
            return lines;
        }
        assert!(Instant::now() < deadline, "{} of {count} lines came", lines.len());
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Each line has its number, and none is there twice.
pub fn assert_whole(lines: &[String], count: usize) {
    let numbers: Vec<usize> = lines.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

pub fn succeeds(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the program with a kill after each so many lines; what it prints goes on as it was.
fn kills(flags: &[&str], resumed: &[&str], args: &[&str], count: usize) {
    if let Some(program) = told() {
        kills_of(&program, flags, resumed, args, count);
    }
}

/// The same of any program that numbers its lines. A quick one may come to its end while it is looked at, but not
/// before the first kill.
pub fn kills_of(program: &Path, flags: &[&str], resumed: &[&str], args: &[&str], count: usize) {
    let session = Session::new();
    let mut random = Rng::with_seed(seed());
    let mut seen = Vec::new();
    let mut runtime = into(&session, "out", &mut session.run(flags, program, args));
    for life in 0..4 {
        let more = random.usize(10..count / 12);
        wait_for_lines(&session, "out", (seen.len() + more).min(count));
        std::thread::sleep(Duration::from_micros(random.u64(0..9000)));
        if !sigkill(&mut runtime.0) {
            assert!(life > 0, "it ended before the kill");
            break;
        }
        let now = lines(&session, "out");
        assert_eq!(now[..seen.len()], seen, "what was shown is as it was");
        seen = now;
        runtime = into(&session, "out", session.on_store("resume").args(resumed));
    }
    assert!(runtime.wait().success());
    let all = lines(&session, "out");
    assert_eq!(all[..seen.len()], seen, "what was shown is as it was");
    assert_whole(&all, count);
    session.assert_sound();
}

#[test]
fn what_was_shown_comes_true_again_without_a_checkpoint() {
    kills(RECORDED, RESUMED, &["1500", "500"], 1500);
}

#[test]
fn checkpoints_and_signals_between_instructions_are_no_hindrance() {
    let often = ["--output", "journaled", "--checkpoint-interval", "100ms"];
    kills(&[&["--record"], &often[..]].concat(), &often, &["600", "100", "alarm"], 600);
}

#[test]
fn what_only_a_runtime_remembers_makes_no_difference() {
    let sometimes = ["--output", "journaled", "--checkpoint-interval", "40ms"];
    kills(&[&["--record"], &sometimes[..]].concat(), &sometimes, &["1500", "500", "busy"], 1500);
    let held = ["--checkpoint-interval", "40ms"];
    kills(&[&["--record"], &held[..]].concat(), &held, &["2000", "300", "busy"], 2000);
}

#[test]
fn a_signal_from_outside_has_no_place_in_a_replay() {
    let Some(program) = told() else { return };
    let (session, shown) = recorded(&program, &["100000", "0"], 2000);
    let mut runtime = into(&session, "out", session.on_store("resume").args(RESUMED));
    // It stops cleanly, in the middle of the replay or behind it, and nothing is lost by that.
    std::thread::sleep(Duration::from_millis(30));
    runtime.signal(nix::sys::signal::Signal::SIGINT);
    let _ = runtime.wait();
    let mut runtime = into(&session, "out", session.on_store("resume").args(RESUMED));
    let all = wait_for_lines(&session, "out", shown.len() + 100);
    assert!(sigkill(&mut runtime.0));
    assert_eq!(all[..shown.len()], shown);
}

#[test]
fn to_a_pipe_nothing_goes_twice() {
    let Some(program) = told() else { return };
    let session = Session::new();
    let mut random = Rng::with_seed(seed());
    let mut all = Vec::new();
    let mut command = session.run(RECORDED, &program, &["500", "1000"]);
    for life in 0.. {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || out.split(b'\n').map_while(Result::ok).collect::<Vec<_>>());
        if life < 4 {
            std::thread::sleep(Duration::from_millis(60 + random.u64(0..60)));
            let _ = child.kill();
        }
        let status = wait_for(&mut child);
        // A line may be cut by a kill, and go on in the next life.
        all.extend(reader.join().unwrap());
        if life >= 4 {
            assert!(status.success());
            break;
        }
        // On a busy machine it may have died before the program was in the store.
        let status = session.output(session.on_store("status").arg("--json"));
        let status = serde_json::from_slice(&status.stdout).unwrap_or(serde_json::Value::Null);
        if status["domains"][0].is_object() {
            command = session.on_store("resume");
            command.args(RESUMED);
        } else {
            assert_eq!(all, Vec::<Vec<u8>>::new());
            command = session.run(RECORDED, &program, &["500", "1000"]);
        }
    }
    let text: Vec<String> = all.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let joined = text.concat();
    for number in 0..500 {
        assert!(
            text.iter().filter(|line| line.starts_with(&format!("{number} "))).count() <= 1,
            "line {number} is there twice"
        );
    }
    assert_eq!(
        joined.len(),
        (0..500).map(|n: usize| n.to_string().len() + 17).sum::<usize>(),
        "no byte is missing, and none is there twice"
    );
}

/// A store with a recorded program that ran for a while and was killed; what it showed.
fn recorded(program: &Path, args: &[&str], count: usize) -> (Session, Vec<String>) {
    recorded_with(RECORDED, program, args, count)
}

/// The same, by these flags.
pub fn recorded_with(flags: &[&str], program: &Path, args: &[&str], count: usize) -> (Session, Vec<String>) {
    let session = Session::new();
    let mut runtime = into(&session, "out", &mut session.run(flags, program, args));
    wait_for_lines(&session, "out", count);
    assert_eq!(session.status()["domains"][0]["recorded"], true);
    assert!(sigkill(&mut runtime.0), "it ended before the kill");
    let shown = lines(&session, "out");
    (session, shown)
}

/// What a world shows in another file after a clean end, where the last of what it had shown may come once more: what is new.
fn beyond(shown: &[&str], lines: &[String]) -> Vec<String> {
    let number = |line: &str| line.split(' ').next().unwrap().parse::<usize>().unwrap();
    let (old, new): (Vec<String>, Vec<String>) = lines.iter().cloned().partition(|line| number(line) < shown.len());
    assert!(old.iter().all(|line| line == shown[number(line)]));
    assert_eq!(number(&new[0]), shown.len());
    new
}

/// What the program printed, before the command's own words.
pub fn programs_lines(printed: &str) -> Vec<&str> {
    printed.lines().take_while(|line| line.starts_with(|first: char| first.is_ascii_digit())).collect()
}

pub fn replay(session: &Session, args: &[&str]) -> Output {
    let mut command = crate::harness::semper();
    command.args(["journal", "replay"]).arg(session.store()).args(args).stdin(Stdio::null());
    session.output(&mut command)
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&from, &to),
            kind if kind.is_file() => drop(fs::copy(&from, &to).unwrap()),
            _ => {}
        }
    }
}

#[test]
fn a_copy_of_the_store_is_rolled_forward_to_the_same() {
    let Some(program) = told() else { return };
    let (session, shown) = recorded(&program, &["100000", "500"], 200);
    let other = Session::new();
    copy(&session.store(), &other.store());
    // The copy has shown nothing yet.
    fs::remove_dir_all(other.store().join("console")).unwrap();
    let printed = succeeds(&replay(&other, &[]));
    assert!(printed.contains("steps told again"), "{printed}");
    let printed = programs_lines(&printed);
    assert!(printed.len() >= shown.len());
    assert_eq!(printed[..shown.len()], shown, "bit by bit");
    other.assert_sound();
    // Nothing is left to be told.
    let again = succeeds(&replay(&other, &["--json"]));
    let document: serde_json::Value = serde_json::from_str(again.lines().last().unwrap()).unwrap();
    assert_eq!(document["programs"][0]["steps"], 0, "{again}");
    // And it goes on from there, with other numbers than the original.
    let mut runtime = into(&other, "out", other.on_store("resume").args(RESUMED));
    let on = wait_for_lines(&other, "out", printed.len() + 20);
    assert!(sigkill(&mut runtime.0));
    beyond(&printed, &on);
}

#[test]
fn a_restored_world_is_rolled_forward() {
    let Some(program) = told() else { return };
    let session = Session::new();
    let backups = session.place().join("backups");
    let mut runtime = into(&session, "out", &mut session.run(RECORDED, &program, &["100000", "500"]));
    wait_for_lines(&session, "out", 150);
    let backup = |args: &[&str]| {
        let mut command = crate::harness::semper();
        command.arg("backup").args(args).current_dir(session.place()).stdin(Stdio::null());
        session.output(&mut command)
    };
    succeeds(&backup(&["create", "store", "backups"]));
    assert!(backups.is_dir());
    assert!(sigkill(&mut runtime.0));
    let shown = lines(&session, "out");
    let restored = succeeds(&backup(&["restore", "backups", "other", "--then-replay"]));
    assert!(restored.contains("steps told again"), "{restored}");
    // It has shown all that the generation had not, from its first line on.
    let new: Vec<&str> = restored.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert!(new.len() >= 100, "{restored}");
    assert_eq!(new[..], shown[..new.len()], "bit by bit");
}

#[test]
fn a_replay_stops_at_the_record_that_is_named() {
    let Some(program) = told() else { return };
    let (session, shown) = recorded(&program, &["100000", "500"], 300);
    let show = crate::harness::semper()
        .args(["journal", "show"])
        .arg(session.store())
        .args(["--json", "--writer", "1"])
        .output()
        .unwrap();
    let records: Vec<serde_json::Value> =
        succeeds(&show).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().all(|record| record["inputs"] == true && record["told"].is_string()));
    let middle = records[records.len() / 2]["sequence"].as_u64().unwrap();
    fs::remove_dir_all(session.store().join("console")).unwrap();
    let printed = succeeds(&replay(&session, &["--to", &middle.to_string()]));
    let printed = programs_lines(&printed);
    assert!((20..shown.len()).contains(&printed.len()), "{} of {}", printed.len(), shown.len());
    assert_eq!(printed, shown[..printed.len()], "bit by bit");
    // What was recorded after that is another future now: it goes on by itself.
    let mut runtime = into(&session, "on", session.on_store("resume").args(RESUMED));
    let on = wait_for_lines(&session, "on", printed.len() + 20);
    assert!(sigkill(&mut runtime.0));
    assert_ne!(beyond(&printed, &on)[0], shown[printed.len()]);
    // And that future is told again, not the one that was left.
    let mut runtime = into(&session, "on", session.on_store("resume").args(RESUMED));
    let more = wait_for_lines(&session, "on", on.len() + 20);
    assert!(sigkill(&mut runtime.0));
    assert_eq!(more[..on.len()], on);
    session.assert_sound();
}

#[test]
fn a_world_that_goes_back_goes_another_way() {
    let Some(program) = told() else { return };
    let (session, shown) = recorded(&program, &["100000", "500"], 100);
    let first = session.status()["store"]["generation"].to_string();
    succeeds(&session.output(session.on_store("rewind").args(["--to", &first])));
    let mut runtime = into(&session, "other", session.on_store("resume").args(RESUMED));
    let other = wait_for_lines(&session, "other", 20);
    assert!(sigkill(&mut runtime.0));
    assert_eq!(other[0].split(' ').next().unwrap(), "0");
    assert_ne!(other[0], shown[0], "it was told what it had been told before it went back");
    let mut runtime = into(&session, "other", session.on_store("resume").args(RESUMED));
    let more = wait_for_lines(&session, "other", other.len() + 20);
    assert!(sigkill(&mut runtime.0));
    assert_eq!(more[..other.len()], other);
}

#[test]
fn a_process_that_dies_alone_is_told_again() {
    let Some(program) = told() else { return };
    let session = Session::new();
    let mut runtime = into(&session, "out", &mut session.run(RECORDED, &program, &["400", "1000"]));
    let mut seen = Vec::new();
    for _ in 0..3 {
        wait_for_lines(&session, "out", seen.len() + 40);
        crate::network::kill_process(&session);
        let now = lines(&session, "out");
        assert_eq!(now[..seen.len()], seen);
        seen = now;
    }
    assert!(runtime.wait().success());
    let all = lines(&session, "out");
    assert_eq!(all[..seen.len()], seen);
    assert_whole(&all, 400);
}

#[test]
fn what_cannot_be_told_again_is_named_and_nothing_is_committed() {
    let Some(program) = told() else { return };
    if !fs::read_to_string("/proc/cpuinfo").unwrap().contains(" rdrand ") {
        eprintln!("skipped: this processor has no random numbers of its own");
        return;
    }
    let (session, _) = recorded(&program, &["100000", "500", "rdrand"], 100);
    let generation = session.status()["store"]["generation"].as_u64().unwrap();
    for command in ["replay", "resume"] {
        let output = match command {
            "replay" => replay(&session, &[]),
            _ => session.output(session.on_store("resume").args(RESUMED)),
        };
        let error = refused(&output);
        assert!(error.contains("told-glibc does not do again what it did: record "), "{error}");
        assert!(error.contains(&format!("--generation {generation}")), "{error}");
    }
    let generation = generation.to_string();
    assert_eq!(session.status()["store"]["generation"].to_string(), generation, "nothing was committed");
    let mut runtime =
        into(&session, "on", session.on_store("resume").args(RESUMED).args(["--generation", &generation]));
    wait_for_lines(&session, "on", 10);
    assert!(sigkill(&mut runtime.0));
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let Some(program) = told() else { return };
    let session = Session::new();
    // One that was not recorded cannot be rolled forward.
    succeeds(&session.output(&mut session.run(&[], &program, &["3", "0"])));
    let mut runtime = session.background(&mut session.run(&["--name", "plain"], &program, &["100000", "1000"]));
    session.wait_until("it runs", |status| status["domains"].as_array().is_some_and(|all| all.len() == 2));
    let live = replay(&session, &[]);
    assert!(refused(&live).contains("a runtime is running"));
    assert!(sigkill(&mut runtime.0));
    let error = refused(&replay(&session, &[]));
    assert!(error.contains("plain was not started with --record"), "{error}");
}

#[test]
fn without_its_journal_a_world_says_how_to_go_on() {
    let Some(program) = told() else { return };
    let (session, shown) = recorded(&program, &["100000", "500"], 50);
    // Also one whose first generation is the only one.
    fs::rename(session.store().join("journal"), session.place().join("away")).unwrap();
    let error = refused(&session.output(session.on_store("resume").args(RESUMED)));
    assert!(error.contains("journal of this store is gone") && error.contains("--generation"), "{error}");
    fs::rename(session.place().join("away"), session.store().join("journal")).unwrap();
    // A checkpoint knows of the journal.
    let mut runtime = into(&session, "out", session.on_store("resume").args(RESUMED));
    // Not before the replay is over.
    wait_for_lines(&session, "out", shown.len() + 20);
    let generation = succeeds(&session.output(&mut session.on_store("checkpoint")));
    assert!(sigkill(&mut runtime.0));
    fs::rename(session.store().join("journal"), session.place().join("away")).unwrap();
    let error = refused(&replay(&session, &[]));
    assert!(error.contains("journal of this store is gone"), "{error}");
    let error = refused(&session.output(session.on_store("resume").args(RESUMED)));
    assert!(error.contains("cannot be told again") && error.contains("--generation"), "{error}");
    let mut runtime = into(&session, "on", session.on_store("resume").args(["--generation", generation.trim()]));
    wait_for_lines(&session, "on", 5);
    assert!(sigkill(&mut runtime.0));
    // With the journal back, all is as it was.
    let _ = fs::remove_dir_all(session.store().join("journal"));
    fs::rename(session.place().join("away"), session.store().join("journal")).unwrap();
}

#[test]
fn input_from_a_pipe_is_told_again() {
    let Some(program) = c_program("echo_lines", Libc::Glibc) else { return };
    let session = Session::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = session.run(RECORDED, &program, &[]);
    let mut runtime = into(&session, "out", command.stdin(reader.try_clone().unwrap()));
    let mut sent = 0;
    for life in 0..4 {
        let until = sent + 30;
        while sent < until {
            writeln!(writer, "line {sent}").unwrap();
            sent += 1;
        }
        wait_for_lines(&session, "out", sent);
        if life < 3 {
            assert!(sigkill(&mut runtime.0));
            let mut command = session.on_store("resume");
            runtime = into(&session, "out", command.args(RESUMED).stdin(reader.try_clone().unwrap()));
        }
    }
    drop((writer, reader));
    assert_eq!(runtime.wait().code(), Some(3));
    let all = lines(&session, "out");
    let numbers: Vec<String> = all.iter().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    let mut wanted: Vec<String> = (0..sent).map(|number| format!("{} line {number}", number + 1)).collect();
    wanted.push("end of input".to_owned());
    assert_eq!(numbers, wanted);
}
