//! move and receive: a world goes from one store to another, and lives in exactly one of them, whoever dies when.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use semper_store::CRASH_VARIABLE;

use crate::backup::resume;
use crate::harness::{Background, Case, Libc, Session, TIMEOUT, c_program, rust_program, semper};
use crate::journal::{exported, records};

const NAME: &str = "there";

fn there(session: &Session) -> PathBuf {
    session.place().join(NAME)
}

/// Where the world goes, by a pipe to a process that stands for another machine.
fn to() -> String {
    format!("exec:{} receive {NAME} --stdio", env!("CARGO_BIN_EXE_semper"))
}

fn move_world(session: &Session, to: Option<&str>, crash: Option<&str>) -> Output {
    let mut command = semper();
    command.arg("move").arg("store").current_dir(session.place()).stdin(Stdio::null());
    if let Some(to) = to {
        command.args(["--to", to]);
    }
    if let Some(crash) = crash {
        command.env(CRASH_VARIABLE, crash);
    }
    session.output(&mut command)
}

fn moves(session: &Session, to: Option<&str>) -> String {
    let output = move_world(session, to, None);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A world at work; its runtime dies at `crash`.
fn at_work(session: &Session, program: &Path, length: &str, crash: Option<&str>) -> Background {
    let mut command = session.run(&["--checkpoint-interval", "50ms"], program, &["4", length]);
    if let Some(crash) = crash {
        command.env(CRASH_VARIABLE, crash);
    }
    let out = File::create(session.place().join("out")).unwrap();
    let runtime = Background(command.stdout(out).stderr(Stdio::null()).spawn().unwrap());
    session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(50));
    runtime
}

fn refused(session: &Session, command: &mut Command, why: &str) {
    let output = session.output(command);
    assert_eq!(output.status.code(), Some(121), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
}

#[test]
fn a_running_world_moves_and_goes_on_there_as_it_did_here() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let native = Case::new(&program, &["4", "400"]).native();
    let session = Session::new();
    let mut runtime = at_work(&session, &program, "400", None);
    assert!(moves(&session, Some(&to())).contains("has moved to exec:"));
    assert_eq!(runtime.wait().code(), Some(124), "the runtime here has ended");
    refused(&session, &mut session.on_store("resume"), "has moved to exec:");
    refused(&session, &mut session.run(&[], &program, &["1", "1"]), "has moved to exec:");
    let status = session.output(&mut session.on_store("status"));
    assert!(String::from_utf8_lossy(&status.stdout).contains("state        moved to exec:"), "{status:?}");
    // To say it again does nothing.
    moves(&session, None);
    let out = session.place().join("out");
    let mut there = resume(&session, &there(&session), &out);
    assert_eq!(there.wait().code(), Some(native.code));
    assert_eq!(fs::read_to_string(out).unwrap(), native.stdout);
    let checked = session.output(semper().arg("check").arg(session.place().join(NAME)));
    assert!(checked.status.success(), "{checked:?}");
}

/// Work that no test waits for the end of.
const LONG: &str = "3000";

/// Which process dies.
enum Dies {
    Command,
    Runtime,
}

/// One end dies at a step. Says whether the world had left by then; it goes on where it lives, and is moved to the end.
fn dies(program: &Path, native: &str, step: &str, who: &Dies) -> bool {
    let session = Session::new();
    let arms = |wanted: bool| wanted.then_some(step);
    let mut runtime = at_work(&session, program, LONG, arms(matches!(who, Dies::Runtime)));
    let failed = move_world(&session, Some(&to()), arms(matches!(who, Dies::Command)));
    let out = session.place().join("out");
    let left = session.store().join("moved").exists();
    // A note that counts lets the move come to its end, though the runtime died behind it.
    if !failed.status.success() {
        if left {
            runtime.wait();
            refused(&session, &mut session.on_store("resume"), "has moved to exec:");
            let waits = session.place().join(format!(".{NAME}.arrived")).exists();
            assert!(waits != there(&session).exists(), "at {step}: it is there, once");
        } else {
            assert!(!there(&session).exists(), "at {step}: it is not there");
            if matches!(who, Dies::Runtime) {
                runtime.wait();
                runtime = resume(&session, &session.store(), &out);
            }
            // It goes on here.
            let committed = |status: &serde_json::Value| status["store"]["generation"].as_u64();
            let before = committed(&session.wait_until("it lives", |_| true));
            session.wait_until("it goes on", |status| committed(status) > before);
        }
        // The ends that were left may still be about to end.
        let again = (0..50).any(|_| {
            let output = move_world(&session, (!left).then(to).as_deref(), None);
            let done = output.status.success();
            if !done {
                std::thread::sleep(Duration::from_millis(50));
            }
            done
        });
        assert!(again, "at {step}: the move that is repeated comes to its end");
    }
    runtime.wait();
    refused(&session, &mut session.on_store("resume"), "has moved to exec:");
    let shown = |out: &Path| fs::read_to_string(out).unwrap();
    let here = shown(&out).len();
    let _there = resume(&session, &there(&session), &out);
    let deadline = Instant::now() + TIMEOUT;
    while shown(&out).len() < here + 200 {
        assert!(Instant::now() < deadline, "at {step}: it goes on there");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(native.starts_with(&shown(&out)), "at {step}: it goes on as it did here: {}", shown(&out));
    assert!(!failed.status.success() || matches!(who, Dies::Runtime), "at {step}: is it a step still?");
    left
}

#[test]
fn whoever_dies_at_any_step_the_world_lives_in_exactly_one_place() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let native = Case::new(&program, &["4", LONG]).native().stdout;
    for step in ["move-sent", "move-stands", "move-prepared", "receive-stream", "receive-complete", "receive-prepared"]
    {
        assert!(!dies(&program, &native, step, &Dies::Command), "{step}");
    }
    for step in ["move-left", "move-committed", "receive-committing", "receive-arrived"] {
        assert!(dies(&program, &native, step, &Dies::Command), "{step}");
    }
    assert!(!dies(&program, &native, "move-unmarked", &Dies::Runtime));
    assert!(dies(&program, &native, "move-marked", &Dies::Runtime));
}

#[test]
fn a_world_at_rest_moves_with_its_journal_and_wrong_places_are_told() {
    let session = Session::new();
    let program = rust_program("dispatcher");
    let ended = session.output(&mut session.run(&["--output", "immediate"], &program, &["journal", "40"]));
    assert!(ended.status.success(), "{ended:?}");
    let before = exported(&session);
    let failed = |to: &str, why: &str| {
        let output = move_world(&session, Some(to), None);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert!(!session.store().join("moved").exists());
    };
    failed("host:7000", "needs --token-file");
    failed("exec:false", "the other end");
    failed("exec:echo hello, world", "is no semper");
    session.file("taken", "");
    failed(&to().replace(NAME, "taken"), "is there already");
    moves(&session, Some(&to()));
    let output = session.output(semper().args(["journal", "export"]).arg(there(&session)));
    assert_eq!(records(&String::from_utf8(output.stdout).unwrap()), before);
    // A place that knows nothing of the move does not get the world a second time.
    let other = move_world(&session, Some(&to().replace(NAME, "elsewhere")), None);
    assert_eq!(other.status.code(), Some(127), "{other:?}");
    assert!(!session.place().join("elsewhere").exists());
}

/// Over the network, by TLS: who has another token is hung up on, and comes to nothing.
#[test]
fn a_world_moves_over_the_network_to_who_has_the_token() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let mut listening = semper();
    listening.args(["receive", NAME, "--listen", "127.0.0.1:0", "--token-file", "token"]).current_dir(session.place());
    let mut there_end = Background(listening.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(there_end.0.stderr.take().unwrap()).lines();
    let address = loop {
        let line = said.next().unwrap().unwrap();
        if let Some((_, address)) = line.split_once("waiting for a world at ") {
            break address.to_owned();
        }
    };
    let mode = fs::metadata(session.place().join("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner can read it");
    let mut runtime = at_work(&session, &program, LONG, None);
    let moved = |token: &str| {
        let mut command = semper();
        command.args(["move", "store", "--to", &address, "--token-file", token]).current_dir(session.place());
        session.output(command.stdin(Stdio::null()))
    };
    session.file("other", format!("{}\n", "5a".repeat(32)));
    session.file("none", "secret");
    let told = |output: &Output, why: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert!(!session.store().join("moved").exists() && !there(&session).exists());
    };
    told(&moved("none"), "is no file with a token");
    told(&moved("other"), "does not show that it has the same token");
    // Nonsense, and silence that ends.
    let mut nonsense = TcpStream::connect(&address).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(TcpStream::connect(&address).unwrap());
    let output = moved("token");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(runtime.wait().code(), Some(124));
    assert!(there_end.wait().success());
    refused(&session, &mut session.on_store("resume"), &format!("has moved to {address}"));
    let out = session.place().join("out");
    let here = fs::read_to_string(&out).unwrap().len();
    let _there = resume(&session, &there(&session), &out);
    let deadline = Instant::now() + TIMEOUT;
    while fs::read_to_string(&out).unwrap().len() < here + 200 {
        assert!(Instant::now() < deadline, "it goes on there");
        std::thread::sleep(Duration::from_millis(10));
    }
}
