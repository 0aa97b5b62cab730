//! What comes ahead on connections, and what is put by to be sent (docs/decisions/0405-mail.md).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Background, Libc, Session, c_program, sigkill};
use crate::network::{OFTEN, checkpoint, compare, connect, free_port, listen, start};
use crate::replay::{copy, replay, succeeds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Turns of a loop that takes a second or some, in millions.
const LONG: &str = "2000";
const RECORDED: &[&str] = &["--checkpoint-interval", "0", "--output", "journaled", "--record"];

/// Two clients that have said something, and the answer of the first.
fn answered(port: u16) -> (TcpStream, TcpStream) {
    let (mut first, mut second) = (connect(port), connect(port));
    first.write_all(b"of the first").unwrap();
    second.write_all(b"of the second").unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"of the first");
    (first, second)
}

fn computing(flags: &[&str]) -> Option<(Session, u16, Background)> {
    let program = c_program("unread", Libc::Musl)?;
    let (session, port) = (Session::new(), free_port());
    let at = listen(port, 7);
    let flags = [flags, &["--listen", &at]].concat();
    let runtime = session.background(&mut session.run(&flags, &program, &["7", LONG]));
    Some((session, port, runtime))
}

#[test]
fn an_answer_does_not_wait_for_a_program_that_computes() {
    for flags in [&["--output", "immediate"][..], &["--checkpoint-interval", "20ms"], RECORDED] {
        let Some((session, port, _runtime)) = computing(flags) else { return };
        let begun = Instant::now();
        let (_first, mut second) = answered(port);
        let waited = begun.elapsed();
        let mut answer = [0; 13];
        second.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"of the second");
        let whole = begun.elapsed();
        assert!(waited < whole / 2, "{flags:?}: the first answer came after {waited:?} of {whole:?}");
        assert_eq!(session.status()["domains"][0]["recorded"], flags.contains(&"--record"));
    }
}

/// Found by a review: what had been sent of the program that was killed was taken for sent of the one that went back, too.
#[test]
fn an_answer_waits_no_longer_after_the_process_was_killed() {
    let Some((session, port, _runtime)) = computing(&["--output", "immediate", "--checkpoint-interval", "0"]) else {
        return;
    };
    let pid = |status: &serde_json::Value| status["domains"][0]["pid"].as_i64();
    let clients = answered(port);
    let killed = pid(&session.status()).unwrap();
    kill(Pid::from_raw(i32::try_from(killed).unwrap()), Signal::SIGKILL).unwrap();
    session.wait_until("it has another process", |status| pid(status).is_some_and(|pid| pid != killed));
    drop(clients);
    let begun = Instant::now();
    let (_first, mut second) = answered(port);
    let waited = begun.elapsed();
    second.read_exact(&mut [0; 13]).unwrap();
    let whole = begun.elapsed();
    assert!(waited < whole / 2, "the first answer came after {waited:?} of {whole:?}");
}

#[test]
fn what_was_answered_amid_computing_is_told_again() {
    let Some((session, port, mut runtime)) = computing(RECORDED) else { return };
    let (_first, mut second) = answered(port);
    std::thread::sleep(Duration::from_millis(100));
    assert!(sigkill(&mut runtime.0));
    assert!(!matches!(second.read(&mut [0]), Ok(1..)), "it was still computing");
    let mut runtime = session.background(session.on_store("resume").args(&RECORDED[..4]));
    let (first, mut second) = answered(port);
    let mut answer = [0; 13];
    second.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"of the second");
    drop((first, second));
    assert!(sigkill(&mut runtime.0));
    // Nothing of it was cut: all is told again, from the beginning.
    let other = Session::new();
    copy(&session.store(), &other.store());
    fs::remove_dir_all(other.store().join("console")).unwrap();
    let replayed = replay(&other, &[]);
    let printed = succeeds(&replayed);
    assert!(printed.contains("steps told again"), "{printed}");
    let said = String::from_utf8_lossy(&replayed.stderr);
    assert!(!said.contains("no replay goes on"), "{said}");
    other.assert_sound();
}

#[test]
fn what_comes_ahead_on_several_connections_is_received_in_every_way() {
    compare("parcels", Libc::Musl, OFTEN);
    compare("parcels", Libc::Glibc, &["--checkpoint-interval", "30ms", "--record", "--output", "journaled"]);
    compare("parcels", Libc::Glibc, &["--output", "immediate"]);
}

#[test]
fn what_came_in_one_life_is_nobody_elses_in_the_next() {
    let Some(program) = c_program("unread", Libc::Musl) else { return };
    for flags in
        [&["--checkpoint-interval", "0"][..], &["--checkpoint-interval", "0", "--record", "--output", "journaled"]]
    {
        let (session, port) = (Session::new(), free_port());
        let at = listen(port, 7);
        let how = [flags, &["--listen", &at]].concat();
        let mut runtime = start(&session, &mut session.run(&how, &program, &["7"]));
        let (mut first, mut second) = (connect(port), connect(port));
        first.write_all(b"of the first").unwrap();
        second.write_all(b"of the second, which stays unread").unwrap();
        // Until it waits with what the second sent.
        std::thread::sleep(Duration::from_millis(300));
        checkpoint(&session);
        runtime.0.kill().unwrap();
        runtime.wait();
        let resume = if flags.len() > 2 { &flags[..2] } else { flags };
        let _runtime = start(&session, session.on_store("resume").args(resume));
        let (mut third, mut fourth) = (connect(port), connect(port));
        third.write_all(b"the third").unwrap();
        fourth.write_all(b"the fourth").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        checkpoint(&session);
        let mut answer = [0; 9];
        third.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"the third");
        third.write_all(b".").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        checkpoint(&session);
        let mut answer = [0; 10];
        fourth.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "the fourth");
    }
}
