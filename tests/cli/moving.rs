//! move and receive: a world goes from one store to another, and lives in exactly one of them, whoever dies when.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use semper_store::CRASH_VARIABLE;

use crate::backup::resume;
use crate::harness::{Background, Case, Libc, Outcome, Session, c_program, rust_program, semper};
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
    // To say it again does nothing.
    moves(&session, None);
    let out = session.place().join("out");
    let mut there = resume(&session, &there(&session), &out);
    assert_eq!(there.wait().code(), Some(native.code));
    assert_eq!(fs::read_to_string(out).unwrap(), native.stdout);
    let checked = session.output(semper().arg("check").arg(session.place().join(NAME)));
    assert!(checked.status.success(), "{checked:?}");
}

/// Which process dies.
enum Dies {
    Command,
    Runtime,
}

/// One end dies at a step. Says whether the world had left by then; it goes on where it lives, and is moved to the end.
fn dies(program: &Path, native: &Outcome, step: &str, who: &Dies) -> bool {
    let session = Session::new();
    let arms = |wanted: bool| wanted.then_some(step);
    let mut runtime = at_work(&session, program, "250", arms(matches!(who, Dies::Runtime)));
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
    let mut there = resume(&session, &there(&session), &out);
    assert_eq!(there.wait().code(), Some(native.code), "at {step}");
    assert_eq!(fs::read_to_string(out).unwrap(), native.stdout, "at {step}");
    assert!(!failed.status.success() || matches!(who, Dies::Runtime), "at {step}: is it a step still?");
    left
}

#[test]
fn whoever_dies_at_any_step_the_world_lives_in_exactly_one_place() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let native = Case::new(&program, &["4", "250"]).native();
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
    failed("host:7000", "write exec:COMMAND");
    failed("exec:false", "the other end");
    failed("exec:echo hello", "is no semper");
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
