//! Hostile programs: they fault or are refused; the runtime and the program beside them are not touched.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Case, Libc, Outcome, Session, c_program, rust_program, wait_for};

/// The attacks of `tests/programs/hostile.c`.
const ATTACKS: &[&str] = &[
    "jump-stub",
    "jump-stub+0x10",
    "jump-stub+0x1000",
    "jump-stub+0x1234",
    "write-stub",
    "write-control",
    "write-control-slowly",
    "unmap-control",
    "unmap-stub",
    "unmap-all",
    "protect-control",
    "protect-stub",
    "map-over",
    "remap-control",
    "own-frame",
    "block-all",
    "stack-away",
    "signal-others",
    "garbage",
    "legacy-call",
    "fs-base",
];

/// A program that computes while others attack.
struct Victim {
    session: Session,
    native: Outcome,
    out: PathBuf,
    runtime: Child,
}

impl Victim {
    fn start() -> Victim {
        let victim = Case::new(rust_program("numeric"), &["100000000"]);
        let native = victim.native();
        let session = Session::new();
        let out = session.place().join("victim");
        let mut command = session.run(&["--checkpoint-interval", "50ms"], &victim.program, &["100000000"]);
        let runtime = command.stdout(File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        session.wait_until("the victim runs", |_| true);
        Victim { session, native, out, runtime }
    }
}

#[test]
fn no_attack_reaches_the_runtime_or_the_program_beside() {
    let Some(hostile) = c_program("hostile", Libc::Musl) else { return };
    let Victim { session, native, out, mut runtime } = Victim::start();
    for attack in ATTACKS {
        if runtime.try_wait().unwrap().is_some() {
            // The victim has ended: the rest of the attacks need another.
            break;
        }
        let output = session.output(&mut session.run(&["--env", "CONFINED=1", "--name", attack], &hostile, &[attack]));
        let code = output.status.code().unwrap();
        eprintln!("{attack}: {code}");
        // A program that was broken by its own attack dies by a signal; one that was refused ends by itself.
        assert!(code == 0 || code > 128, "{attack} ended with {code}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with(&format!("attack {attack}\n")), "{attack}: {said}");
        if *attack == "signal-others" {
            assert!(said.contains("reached 0 others"), "{said}");
        }
    }
    assert_eq!(wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
    session.assert_sound();
}

#[test]
fn a_call_of_another_architecture_is_not_taken_for_one_of_ours() {
    let Some(hostile) = c_program("hostile", Libc::Musl) else { return };
    let session = Session::new();
    let output = session.output(&mut session.run(&["--env", "CONFINED=1"], &hostile, &["legacy-call"]));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "attack legacy-call\nlegacy -38\nlegacy -38\nsurvived\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_hostile_program_alone_does_not_end_the_runtime_badly() {
    let Some(hostile) = c_program("hostile", Libc::Musl) else { return };
    for attack in ["write-control", "jump-stub", "unmap-all", "garbage"] {
        let session = Session::new();
        let output = session.output(&mut session.run(&["--env", "CONFINED=1"], &hostile, &[attack]));
        let code = output.status.code().unwrap();
        assert!(code == 0 || code > 128, "{attack} ended with {code}: {output:?}");
        session.assert_sound();
    }
}

/// How long programs with random calls run beside the victim.
const SWEEP: Duration = Duration::from_secs(8);

#[test]
fn calls_with_random_arguments_harm_nobody_else() {
    let Some(fuzz) = c_program("fuzz", Libc::Musl) else { return };
    let Victim { session, native, out, mut runtime } = Victim::start();
    let first = crate::harness::seed();
    let (begun, mut tried, mut waits) = (Instant::now(), 0, 0);
    while begun.elapsed() < SWEEP && runtime.try_wait().unwrap().is_none() {
        let seed = first.wrapping_add(tried).to_string();
        let mut command =
            session.run(&["--env", "CONFINED=1", "--name", &format!("fuzz-{seed}")], &fuzz, &[&seed, "3000"]);
        let mut attack = session.background(&mut command);
        let asked = Instant::now();
        let status = loop {
            match attack.0.try_wait().unwrap() {
                None if asked.elapsed() < Duration::from_secs(2) => std::thread::sleep(Duration::from_millis(2)),
                status => break status,
            }
        };
        // Who is still there waits for what never comes; it stays, and harms nobody either.
        waits += u64::from(status.is_none());
        let code = status.map_or(Some(0), |status| status.code());
        assert!(code.is_some_and(|code| code == 0 || code > 128), "fuzz {seed} 3000 ended with {code:?}");
        tried += 1;
    }
    eprintln!("seeds {first}..{}, {waits} of them wait for ever", first.wrapping_add(tried));
    assert!(tried > waits, "all of them only waited");
    session.wait_until("the victim has ended", |status| status["domains"][0]["state"] == "ended");
    assert!(session.output(&mut session.on_store("stop")).status.success() || waits == 0);
    let code = wait_for(&mut runtime).code();
    assert!(code == Some(native.code) || waits > 0 && code == Some(124), "{code:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
    session.assert_sound();
}
