//! Backups in an object store: a server on loopback that speaks S3 (`harness/s3.rs`).

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::backup::{at_rest, at_work, checkpoint, command, refused, resume, says};
use crate::harness::s3::{BUCKET, S3};
use crate::harness::{Background, Case, Libc, Session, TIMEOUT, c_program, semper, sigkill};

/// The place of the backups, and the prefix that their names have there.
fn place() -> String {
    format!("s3://{BUCKET}/worlds/one")
}

const PREFIX: &str = "worlds/one/";

fn on(s3: &S3, session: &Session, words: &[&str]) -> Command {
    let mut command = command(session, words);
    s3.env(&mut command);
    command
}

fn done(s3: &S3, session: &Session, words: &[&str]) -> Output {
    let output = session.output(&mut on(s3, session, words));
    assert!(output.status.success(), "backup {words:?}: {output:?}");
    output
}

fn listed(s3: &S3, session: &Session) -> Vec<Value> {
    let output = done(s3, session, &["list", &place(), "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["backups"].as_array().unwrap().clone()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_bucket_holds_a_chain_of_a_live_world_that_goes_on_elsewhere() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let native = Case::new(&program, &["12", "1500"]).native();
    let (session, s3) = (Session::new(), S3::start());
    // Other things in the bucket are none of its business.
    s3.put("worlds/one/deeper/1-full.semper", b"no backup".to_vec());
    s3.put("worlds/one/README", b"about".to_vec());
    s3.put("worlds/oneself-full.semper", b"no backup".to_vec());
    let mut runtime = at_work(&session, &program, &["12", "1500"]);
    let place = place();
    done(&s3, &session, &["create", "store", &place]);
    checkpoint(&session);
    done(&s3, &session, &["create", "store", &place, "--since", "last", "--compress", "zstd:1"]);
    assert!(sigkill(&mut runtime.0), "the program has ended too soon for this test");
    assert!(s3.completed() > 0, "more than one part has");
    let store = session.place().join("elsewhere");
    done(&s3, &session, &["restore", &place, store.to_str().unwrap()]);
    let out = session.place().join("elsewhere.out");
    assert_eq!(resume(&session, &store, &out).wait().code(), Some(native.code));
    let output = fs::read_to_string(out).unwrap();
    assert!(!output.is_empty() && native.stdout.ends_with(&output));
    let nothing = done(&s3, &session, &["create", "store", &place, "--since", "last"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("nothing has been committed"), "{nothing:?}");
    done(&s3, &session, &["create", "store", &place]);
    let backups = listed(&s3, &session);
    assert_eq!(backups.len(), 3, "{backups:?}");
    assert!(backups.iter().all(|backup| backup["complete"] == true), "{backups:?}");
    assert_eq!(backups[2]["since"], backups[0]["generation"]);
    done(&s3, &session, &["verify", &place]);
    let gone = done(&s3, &session, &["prune", &place, "--keep", "1", "--dry-run"]);
    assert!(String::from_utf8_lossy(&gone.stdout).contains("would be removed"), "{gone:?}");
    let gone = done(&s3, &session, &["prune", &place, "--keep", "1"]);
    assert_eq!(gone.stdout.iter().filter(|byte| **byte == b'\n').count(), 2, "{gone:?}");
    assert_eq!(s3.names().len(), 4, "{:?}", s3.names());
    // A cut object is told, and is no backup to build upon.
    let name = s3.names().into_iter().find(|name| name.starts_with(PREFIX) && name.ends_with("-full.semper")).unwrap();
    let cut = s3.object(&name);
    s3.put(&name, cut[..cut.len() / 2].to_vec());
    says(&session.output(&mut on(&s3, &session, &["restore", &place, "never"])), &[], 121, "cut off");
    let verified = session.output(&mut on(&s3, &session, &["verify", &place]));
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(!session.place().join("never").exists());
}

#[test]
fn backups_of_a_future_that_was_left_are_set_aside_in_a_bucket_too() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let (session, s3) = (at_rest(&program, "4"), S3::start());
    let (place, copy) = (place(), session.place().join("copy"));
    let copied = Command::new("cp").arg("-r").arg(session.store()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let once = |store: &str| {
        let mut resume = semper();
        resume.args(["resume", store, "--checkpoint-interval", "0"]).current_dir(session.place());
        let mut runtime = session.background(resume.stdin(Stdio::null()));
        let at_it = || {
            let stopped = semper().args(["stop", store]).current_dir(session.place()).output().unwrap();
            stopped.status.success()
        };
        wait_until("it stops", at_it);
        runtime.wait();
    };
    once("store");
    done(&s3, &session, &["create", "store", &place]);
    once("copy");
    let again = done(&s3, &session, &["create", "copy", &place]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is of a future that the world has left"), "{again:?}");
    let names = s3.names();
    assert!(names.len() == 2 && names[1] == format!("{}.left-1", names[0]), "{names:?}");
    assert_ne!(s3.object(&names[0]), s3.object(&names[1]));
    assert_eq!(listed(&s3, &session).len(), 1);
}

#[test]
fn what_is_wrong_with_a_bucket_is_told() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let (session, s3) = (at_rest(&program, "4"), S3::start());
    let fails = |command: &mut Command, code: i32, why: &str| says(&session.output(command), &[], code, why);
    fails(&mut on(&s3, &session, &["create", "store", "s3://nobody/x"]), 121, "there is no such bucket");
    let mut stranger = command(&session, &["create", "store", &place()]);
    s3.env_as("stranger", &mut stranger);
    fails(&mut stranger, 121, "access is denied; see to the credentials");
    for (url, why) in
        [("ftp://backups/x", "ftp:// is not known"), ("s3://", "names no bucket"), ("s3://b/a//b", "no place")]
    {
        refused(&session, &["create", "store", url], 2, why);
        refused(&session, &["list", url], 2, why);
    }
    fails(&mut on(&s3, &session, &["create", "store", &place(), "--since", "last"]), 127, "has no backup yet");
    fails(&mut on(&s3, &session, &["restore", &place(), "never"]), 127, "has no backup of any generation");
    s3.vanish();
    fails(&mut on(&s3, &session, &["list", &place()]), 123, "no answer from the object store");
    assert_eq!(s3.names(), Vec::<String>::new());
}

#[test]
fn a_server_that_vanishes_in_the_middle_has_no_half_backup_and_follow_goes_on() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let (session, s3) = (at_rest(&program, "24"), S3::start());
    let said = session.place().join("followed");
    s3.vanish_after_parts(1);
    let mut follow = on(&s3, &session, &["follow", "store", &place()]);
    let mut follower = Background(follow.stdout(Stdio::null()).stderr(File::create(&said).unwrap()).spawn().unwrap());
    wait_until("it vanishes", || s3.is_down());
    wait_until("it is told", || {
        let said = fs::read_to_string(&said).unwrap();
        said.contains("object store") && said.contains("; waiting")
    });
    assert_eq!(s3.names(), Vec::<String>::new(), "nothing half");
    s3.come_back();
    wait_until("it is shipped", || s3.completed() == 1);
    assert_eq!(follower.0.try_wait().unwrap(), None, "it follows");
    follower.signal(Signal::SIGTERM);
    assert_eq!(follower.wait().code(), Some(0));
    done(&s3, &session, &["verify", &place()]);
    assert_eq!(listed(&s3, &session).len(), 1);
}
