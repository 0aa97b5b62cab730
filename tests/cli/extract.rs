//! extract: programs that leave a world, which goes on without noticing, and go on in one of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Background, Case, Libc, Session, c_program, linux_program, native_program, rust_program, semper, wait_for,
};
use crate::travel::{WORK, at_work, finish, refused, told};

/// The status of another store beside that of the test.
fn status(session: &Session, store: &Path) -> Value {
    let output = session.output(semper().arg("status").arg(store).arg("--json"));
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(status: &Value) -> Vec<String> {
    let domains = status["domains"].as_array().unwrap();
    domains.iter().map(|domain| domain["name"].as_str().unwrap().to_owned()).collect()
}

fn assert_sound(session: &Session, store: &Path) {
    let checked = session.output(semper().arg("check").arg(store));
    assert!(checked.status.success(), "{checked:?}");
}

/// Adds a program to the running store; its output goes to a file of its name.
fn add(session: &Session, name: &str, flags: &[&str], program: &Path, args: &[&str]) -> Background {
    let mut command = session.run(&[&["--name", name], flags].concat(), program, args);
    let out = File::create(session.place().join(name)).unwrap();
    let added = Background(command.stdin(Stdio::null()).stdout(out).spawn().unwrap());
    let there = |status: &Value| names(status).iter().any(|of| of == name);
    session.wait_until("the program is there", there);
    added
}

#[test]
fn a_linux_program_goes_on_in_a_store_of_its_own_without_the_others() {
    let Some(memory) = c_program("memory", Libc::Musl) else { return };
    let native = Case::new(rust_program("numeric"), &[WORK]).native();
    let session = Session::new();
    let out = session.place().join("out");
    let mut runtime = at_work(&session, &out);
    // It does not come to its end meanwhile.
    told(&session, "stop", &["numeric-rust"]);
    let mut other = add(&session, "big", &[], &memory, &["32", "100000000"]);
    session.wait_until("it has its memory", |status| status["domains"][1]["cpu_ms"].as_u64() > Some(500));
    told(&session, "start", &["numeric-rust"]);
    told(&session, "checkpoint", &[]);
    told(&session, "extract", &["numeric-rust", "--to", "alone"]);
    refused(&session, "extract", &["numeric-rust", "--to", "alone"], 2, "is there already");
    refused(&session, "extract", &["nobody", "--to", "never"], 127, "nobody");
    let alone = session.place().join("alone");
    let (here, there) = (session.status(), status(&session, &alone));
    assert_eq!((names(&here).len(), names(&there)), (2, vec!["numeric-rust".to_owned()]));
    assert_ne!(here["store"]["id"], there["store"]["id"]);
    let used = |status: &Value| status["store"]["used_pages"].as_u64().unwrap();
    assert!(used(&there) + (16 << 8) < used(&here), "the memory of the other stays behind: {there}");
    assert_sound(&session, &alone);
    let rest = session.place().join("rest");
    assert_eq!(finish(&session, &alone, &rest), Some(native.code));
    let shown = fs::read(&rest).unwrap();
    assert!(!shown.is_empty() && native.stdout.as_bytes().ends_with(shown.trim_ascii_start()));
    // Also at rest; the world that it left went on.
    told(&session, "stop", &[]);
    runtime.wait();
    other.wait();
    refused(&session, "extract", &["big", "nobody", "--to", "never"], 127, "nobody");
    told(&session, "extract", &["big", "--to", "second"]);
    assert_eq!(names(&status(&session, &session.place().join("second"))), ["big"]);
    assert!(!session.place().join("never").exists());
}

/// A native server and its Linux client, stopped in the middle of their work.
fn a_pair() -> Session {
    let session = Session::new();
    let mut runtime =
        add(&session, "kv", &["--checkpoint-interval", "30ms", "--native"], &native_program("kv"), &["serve"]);
    let mut client = add(&session, "client", &["--key", "12=kv:5"], &linux_program("linux-client"), &["12000"]);
    let works = || fs::read_to_string(session.place().join("client")).unwrap().contains("300 calls");
    while !works() {
        std::thread::sleep(Duration::from_millis(5));
    }
    told(&session, "stop", &[]);
    runtime.wait();
    client.wait();
    session
}

/// Goes on with a store to its end: the exit code, and what its programs write.
fn outcome(session: &Session, store: &str, programs: &[&str]) -> (Option<i32>, Vec<String>) {
    let out = |program: &str| -> PathBuf { session.place().join(format!("{store}-{program}")) };
    let mut resume = semper();
    resume.arg("resume").arg(session.place().join(store)).stdin(Stdio::null()).stdout(Stdio::null());
    for program in programs {
        resume.arg("--stdout").arg(format!("{program}={}", out(program).display()));
    }
    let code = wait_for(&mut resume.spawn().unwrap()).code();
    (code, programs.iter().map(|program| fs::read_to_string(out(program)).unwrap()).collect())
}

#[test]
fn who_belongs_together_leaves_together_and_who_is_left_alone_is_told() {
    let session = a_pair();
    told(&session, "extract", &["client", "kv", "--to", "both"]);
    let (code, said) = outcome(&session, "both", &["client", "kv"]);
    assert_eq!(code, Some(0), "{said:?}");
    assert!(said[0].ends_with(", 0 wrong\n") && said[0].contains("the server holds "), "{said:?}");
    assert!(said[1].starts_with("kv: closed with "), "{said:?}");
    // Without its server the client is told, wherever it stood.
    told(&session, "extract", &["client", "--to", "client-alone"]);
    assert_sound(&session, &session.place().join("client-alone"));
    let (code, said) = outcome(&session, "client-alone", &["client"]);
    assert_eq!(code, Some(1), "{said:?}");
    assert!(said[0].lines().last().unwrap().starts_with("error: "), "{said:?}");
    // The server waits for who does not come any more.
    told(&session, "extract", &["kv", "--to", "kv-alone"]);
    let server = status(&session, &session.place().join("kv-alone"));
    assert_eq!(names(&server), ["kv"]);
    let listed = session.output(semper().arg("ls").arg(session.place().join("kv-alone")));
    assert!(listed.status.success() && !String::from_utf8_lossy(&listed.stdout).contains("client"), "{listed:?}");
    let mut resume = semper();
    resume.arg("resume").arg(session.place().join("kv-alone")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut alone = Background(resume.spawn().unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(alone.0.try_wait().unwrap(), None, "it serves");
}

#[test]
fn a_native_program_goes_on_with_all_that_its_bank_sold() {
    let session = Session::new();
    let Some(memory) = c_program("memory", Libc::Musl) else { return };
    let mut runtime = add(&session, "big", &["--checkpoint-interval", "30ms"], &memory, &["8", "100000000"]);
    let mut bank = add(&session, "bank", &["--native"], &native_program("bank"), &["2000"]);
    std::thread::sleep(Duration::from_millis(50));
    let generation = told(&session, "checkpoint", &[]);
    told(&session, "tag", &["then", "--at", &generation]);
    told(&session, "extract", &["bank", "--to", "alone", "--at", "then"]);
    assert_sound(&session, &session.place().join("alone"));
    let (code, said) = outcome(&session, "alone", &["bank"]);
    assert_eq!(code, Some(0), "{said:?}");
    let last = "bank: 6000 payments by 3 tellers, the accounts hold 8000, 0 audits disagree";
    assert_eq!(said[0].lines().last(), Some(last));
    // What has ended has nothing to go on with.
    assert!(bank.wait().success());
    refused(&session, "extract", &["bank", "--to", "never"], 2, "has ended");
    runtime.0.kill().unwrap();
    runtime.wait();
}
