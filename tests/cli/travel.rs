//! generations, tag, rewind, fork, diff and grow, on a running and a resting store.

use std::fs::{self, File};
use std::path::Path;
use std::process::Output;

use semper_store::CRASH_VARIABLE;
use serde_json::Value;

use crate::harness::{Background, Case, Session, rust_program, wait_for};

/// Some seconds of work natively.
pub const WORK: &str = "20000000";

pub fn ask(session: &Session, command: &str, words: &[&str]) -> Output {
    session.output(session.on_store(command).args(words))
}

/// What a command that succeeds prints.
pub fn told(session: &Session, command: &str, words: &[&str]) -> String {
    let output = ask(session, command, words);
    assert!(output.status.success(), "{command} {words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A command fails with this exit code, and says this.
pub fn refused(session: &Session, command: &str, words: &[&str], code: i32, why: &str) {
    let output = ask(session, command, words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command} {words:?}: {said}");
    assert!(said.starts_with("semper: ") && said.contains(why), "{command} {words:?}: {said}");
}

fn generations(session: &Session) -> Value {
    serde_json::from_str(&told(session, "generations", &["--json"])).unwrap()
}

/// A program at work, whose output goes to a file; checkpoints only when asked.
pub fn at_work(session: &Session, out: &Path) -> Background {
    let mut command = session.run(&["--checkpoint-interval", "0"], &rust_program("numeric"), &[WORK]);
    let runtime = Background(command.stdout(File::create(out).unwrap()).spawn().unwrap());
    session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(100));
    runtime
}

/// Goes on with a store until its program has ended; its exit code.
pub fn finish(session: &Session, store: &Path, out: &Path) -> Option<i32> {
    let file = File::options().append(true).create(true).open(out).unwrap();
    let mut resume = crate::harness::semper();
    let mut runtime = resume.arg("resume").arg(store).current_dir(session.place()).stdout(file).spawn().unwrap();
    wait_for(&mut runtime).code()
}

#[test]
fn a_tagged_generation_stays_and_the_world_goes_back_to_it() {
    let native = Case::new(rust_program("numeric"), &[WORK]).native();
    let session = Session::new();
    let out = session.place().join("out");
    let mut runtime = at_work(&session, &out);
    let early = told(&session, "checkpoint", &[]);
    assert_eq!(told(&session, "tag", &["early"]), early);
    for _ in 0..6 {
        told(&session, "checkpoint", &[]);
    }
    refused(&session, "rewind", &["--to", "early"], 120, "stop it first: semper stop");
    told(&session, "stop", &[]);
    assert_eq!(runtime.wait().code(), Some(124));
    let listed = generations(&session);
    let all = listed["generations"].as_array().unwrap();
    assert_eq!(all.len(), 5, "{listed}");
    assert_eq!(all[4]["generation"].to_string(), early);
    assert_eq!(all[4]["tags"][0], "early");
    let left = all[0]["generation"].to_string();
    assert!(told(&session, "generations", &[]).lines().last().unwrap().trim_end().ends_with("  early"));
    assert!(told(&session, "diff", &["early", &left]).contains("the object table"));

    // Killed just before the root is written: nothing has changed.
    let killed = session.output(session.on_store("rewind").args(["--to", "early"]).env(CRASH_VARIABLE, "rewind-root"));
    assert_eq!(killed.status.code(), None);
    assert_eq!(generations(&session), listed);

    let now: u64 = told(&session, "rewind", &["--to", "early"]).parse().unwrap();
    assert!(now > left.parse().unwrap());
    assert_eq!(session.status()["store"]["generation"], now);
    session.assert_sound();
    assert_eq!(finish(&session, &session.store(), &out), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);

    // The tag is still there, and so is what it names, until it is taken away.
    assert_eq!(told(&session, "tag", &["early", "--delete"]), early);
    session.assert_sound();
}

#[test]
fn a_fork_of_a_running_world_goes_on_by_itself() {
    let native = Case::new(rust_program("numeric"), &[WORK]).native();
    let session = Session::new();
    let out = session.place().join("out");
    let mut runtime = at_work(&session, &out);
    told(&session, "checkpoint", &[]);
    told(&session, "fork", &["other"]);
    refused(&session, "fork", &["other"], 2, "is there already");
    told(&session, "stop", &[]);
    assert_eq!(runtime.wait().code(), Some(124));
    let other = session.place().join("other");
    let id = |store: &Path| {
        let output = session.output(crate::harness::semper().arg("status").arg(store).arg("--json"));
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["store"]["id"].clone()
    };
    assert_ne!(id(&other), id(&session.store()), "a fork is another store");
    // What had been shown before stays with the old one.
    let (rest, all) = (session.place().join("rest"), native.stdout.as_bytes());
    assert_eq!(finish(&session, &other, &rest), Some(native.code));
    let shown = fs::read(&rest).unwrap();
    assert!(!shown.is_empty() && all.ends_with(shown.trim_ascii_start()), "the fork wrote something else");
    let check = session.output(crate::harness::semper().arg("check").arg(&other));
    assert!(check.status.success(), "{check:?}");
    assert_eq!(finish(&session, &session.store(), &out), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
    // At rest, and of an older generation; nothing is left of a fork that was killed.
    told(&session, "fork", &["third"]);
    assert!(session.place().join("third/pages").exists());
    let killed =
        session.output(session.on_store("fork").args(["fourth", "--copy"]).env(CRASH_VARIABLE, "root-flushed"));
    assert_eq!(killed.status.code(), None);
    assert!(!session.place().join("fourth").exists());
}

#[test]
fn what_cannot_be_gone_back_to_is_said_so() {
    let session = Session::new();
    for (command, words) in [
        ("generations", &[][..]),
        ("tag", &["x"]),
        ("rewind", &["--to", "1"]),
        ("fork", &["other"]),
        ("diff", &["1", "2"]),
        ("grow", &["1G"]),
    ] {
        let output = ask(&session, command, words);
        assert_eq!(output.status.code(), Some(121), "{command} without a store: {output:?}");
    }
    let mut runtime = at_work(&session, &session.place().join("out"));
    for live in [true, false] {
        if !live {
            told(&session, "stop", &[]);
            runtime.wait();
            refused(&session, "rewind", &["--to", "nothing"], 127, "has no tag `nothing`");
            refused(&session, "rewind", &["--to", "999"], 127, "999 is not kept");
        }
        refused(&session, "tag", &["a b"], 2, "letters, digits");
        refused(&session, "tag", &["123"], 2, "digits alone");
        refused(&session, "tag", &["x", "--at", "999"], 127, "999 is not kept");
        refused(&session, "tag", &["x", "--at", "nothing"], 127, "has no tag `nothing`");
        refused(&session, "tag", &["x", "--delete"], 2, "none of that name");
        refused(&session, "fork", &["other", "--at", "nothing"], 127, "has no tag `nothing`");
        refused(&session, "diff", &["1", "nothing"], 127, "has no tag `nothing`");
        refused(&session, "grow", &["1M"], 122, "the smallest store");
        refused(&session, "grow", &["64M"], 2, "does not shrink");
        assert!(!session.place().join("other").exists());
    }
    // Eight names fit beside the four newest.
    told(&session, "tag", &["t0"]);
    for n in 1..10 {
        let output = ask(&session, "grow", &[&format!("{}M", 2048 + n)]);
        assert!(output.status.success(), "{output:?}");
        let output = ask(&session, "tag", &[&format!("t{n}")]);
        assert_eq!(output.status.code(), Some(if n < 8 { 0 } else { 2 }), "tag {n}: {output:?}");
    }
    let listed = generations(&session);
    let tagged = listed["generations"].as_array().unwrap().iter().filter(|of| !of["tags"][0].is_null());
    assert_eq!(tagged.count(), 8, "{listed}");
    session.assert_sound();
}

#[test]
fn a_store_grows_while_it_runs() {
    let session = Session::new();
    let mut runtime = at_work(&session, &session.place().join("out"));
    let pages = |status: &Value| status["store"]["total_pages"].as_u64().unwrap();
    let before = pages(&session.status());
    told(&session, "grow", &["3G"]);
    assert!(pages(&session.status()) > before);
    // Durable: it is as large after a death.
    runtime.0.kill().unwrap();
    runtime.wait();
    assert_eq!(pages(&session.status()), 3 << 18);
    told(&session, "grow", &["4G"]);
    assert_eq!(pages(&session.status()), 4 << 18);
    session.assert_sound();
}
