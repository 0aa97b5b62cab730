//! Hostile programs: they fault or are refused; the runtime and the program beside them are not touched.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Case, Libc, Outcome, Session, c_program, rust_program, wait_for};

/// What must become of who attacks.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It dies by one of these signals.
    Dies(&'static [i32]),
    /// It is refused what it asks for, or does nothing that harms anybody, says this, and goes on to its end.
    GoesOn(&'static str),
    /// It spoils what is its own, and goes on, as one that was not stopped meanwhile, or dies by any signal.
    Either,
}

use Fate::{Dies, Either, GoesOn};

/// The attacks of `tests/programs/hostile.c`, and what must become of each.
const ATTACKS: &[(&str, Fate)] = &[
    ("jump-stub", Dies(&[11])),
    ("jump-stub+0x10", Dies(&[11])),
    ("jump-stub+0x1000", Dies(&[11])),
    ("jump-stub+0x1234", Dies(&[11])),
    ("write-stub", Dies(&[11])),
    ("write-control", Either),
    ("write-control-slowly", Either),
    ("unmap-control", GoesOn("-1\n")),
    ("unmap-stub", GoesOn("-1\n")),
    ("unmap-all", GoesOn("-1\n")),
    ("protect-control", GoesOn("-1\n")),
    ("protect-stub", GoesOn("-1\n")),
    ("map-over", GoesOn("0xffffffffffffffff\n")),
    ("remap-control", GoesOn("0xffffffffffffffff\n")),
    ("own-frame", Dies(&[11])),
    ("block-all", GoesOn("")),
    ("stack-away", Dies(&[4, 11])),
    ("signal-others", GoesOn("reached 0 others; all: -1\n")),
    ("garbage", GoesOn("calls: made\n")),
    ("legacy-call", GoesOn("legacy -38\nlegacy -38\n")),
    ("fs-base", Dies(&[11])),
];

/// Those that are made without anybody beside them, too.
const ALONE: &[&str] = &["write-control", "jump-stub", "unmap-all", "garbage"];

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

    /// It comes to its end as if nobody had been beside it.
    fn assert_unharmed(mut self) {
        assert_eq!(wait_for(&mut self.runtime).code(), Some(self.native.code));
        assert_eq!(fs::read_to_string(&self.out).unwrap(), self.native.stdout);
        self.session.assert_sound();
    }
}

/// What is wrong with the end of this attack, if anything.
fn wrong(attack: &str, fate: Fate, output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    let made = said.strip_prefix(&format!("attack {attack}\n"));
    let as_it_must = match fate {
        Dies(signals) => made == Some("") && signals.iter().any(|signal| output.status.code() == Some(128 + signal)),
        Either => match output.status.code() {
            Some(0) => made == Some("survived\n"),
            code => made == Some("") && code > Some(128),
        },
        GoesOn(says) => output.status.code() == Some(0) && made == Some(&format!("{says}survived\n")),
    };
    (!as_it_must).then(|| format!("{attack} must end as {fate:?}, and ended with {}:\n{said}", output.status))
}

#[test]
fn no_attack_reaches_the_runtime_or_the_program_beside() {
    let Some(hostile) = c_program("hostile", Libc::Musl) else { return };
    let mut victim = Victim::start();
    let mut all_wrong = Vec::new();
    for (attack, fate) in ATTACKS {
        if victim.runtime.try_wait().unwrap().is_some() {
            victim.assert_unharmed();
            victim = Victim::start();
        }
        let session = &victim.session;
        let output = session.output(&mut session.run(&["--env", "CONFINED=1", "--name", attack], &hostile, &[attack]));
        all_wrong.extend(wrong(attack, *fate, &output));
    }
    victim.assert_unharmed();
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
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
    for (attack, fate) in ATTACKS.iter().filter(|(name, _)| ALONE.contains(name)) {
        let session = Session::new();
        let output = session.output(&mut session.run(&["--env", "CONFINED=1"], &hostile, &[attack]));
        assert_eq!(wrong(attack, *fate, &output), None);
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
