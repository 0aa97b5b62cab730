//! The journal in backups: a restored world does not do again what it did once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::backup::{checkpoint, command, json, refused, told};
use crate::harness::{Rng, Session, rust_program, seed, semper, wait_for};
use crate::journal::{Ledger, exported, journaled, records, text};

const FLAGS: [&str; 4] = ["--output", "immediate", "--checkpoint-interval", "120ms"];

/// Runs a dispatcher until it ends or was killed after `life`; whether it came to its end. `amid` is done while it runs.
fn live(mut command: Command, ledger: &mut Ledger, life: Option<Duration>, amid: impl FnOnce()) -> bool {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let lines = std::thread::spawn(move || BufReader::new(out).split(b'\n').map_while(Result::ok).collect::<Vec<_>>());
    if let Some(life) = life {
        std::thread::sleep(life);
        amid();
        let _ = child.kill();
    }
    let ended = wait_for(&mut child).success();
    for line in lines.join().unwrap() {
        ledger.take(&String::from_utf8_lossy(&line));
    }
    ended
}

fn resume(session: &Session, store: &Path) -> Command {
    let mut command = semper();
    command.arg("resume").arg(store).args(FLAGS).current_dir(session.place()).stdin(Stdio::null());
    command
}

fn exported_from(session: &Session, store: &Path) -> Vec<(u64, u64, Vec<u8>)> {
    let output = session.output(semper().args(["journal", "export"]).arg(store));
    assert!(output.status.success(), "{output:?}");
    records(&String::from_utf8(output.stdout).unwrap())
}

/// Backed up live amid kills, whole and by increments, encrypted too; restored and run on: it pays once.
#[test]
fn a_dispatcher_that_was_backed_up_amid_kills_pays_once_elsewhere() {
    const PAYMENTS: u64 = 12_000;
    let session = Session::new();
    let mut random = Rng::with_seed(seed());
    let mut ledger = Ledger::default();
    let key = told(&session, &["keygen", "key"]);
    let backed_up = |backups: &str, more: &[&str]| {
        let mut words = vec!["create", "store", backups, "--keep-as", backups];
        words.extend(more);
        if session.place().join(backups).exists() {
            words.extend(["--since", "last"]);
        }
        told(&session, &words)
    };
    let program = rust_program("dispatcher");
    let mut first = session.run(&FLAGS, &program, &["journal", &PAYMENTS.to_string()]);
    first.stdin(Stdio::null());
    let mut next = first;
    for _ in 0..4 {
        let life = Duration::from_millis(200 + random.u64(0..150));
        let ended = live(next, &mut ledger, Some(life), || {
            session.wait_until("something was paid", |status| status["journal"]["Ok"]["end"].as_u64() > Some(2));
            backed_up("backups", &[]);
            backed_up("sealed", &["--encrypt", key.trim()]);
        });
        assert!(!ended, "it is killed before its end");
        next = resume(&session, &session.store());
    }
    // The last one at rest: all that was paid is in the journal of these. A generation has to be there for it.
    assert!(!live(next, &mut ledger, Some(Duration::from_millis(250)), || ()));
    backed_up("backups", &[]);
    backed_up("sealed", &["--encrypt", key.trim()]);
    assert_eq!(json(&session, &["verify", "backups", "--json"])["sound"], true);
    assert_eq!(json(&session, &["verify", "sealed", "--json", "--identity", "key"])["sound"], true);
    let list = json(&session, &["list", "sealed", "--json"]);
    let made = list["backups"].as_array().unwrap();
    assert!(made.len() >= 4 && made.iter().all(|backup| backup["journal"] == true), "{list}");

    // An older one holds what there was at its pin.
    let original = exported(&session);
    let middle = made[1]["generation"].to_string();
    let said = told(&session, &["restore", "sealed", "middle", "--at", &middle, "--identity", "key"]);
    assert!(said.contains("with its journal, up to record"), "{said}");
    let had = exported_from(&session, &session.place().join("middle"));
    assert!(!had.is_empty() && had.len() < original.len() && original.starts_with(&had), "a part, from the first on");

    fs::remove_dir_all(session.store()).unwrap();
    let restored = session.place().join("restored");
    told(&session, &["restore", "backups", "restored"]);
    assert_eq!(exported_from(&session, &restored), original, "the same records, places and numbers");
    assert!(live(resume(&session, &restored), &mut ledger, None, || ()), "it comes to its end");
    assert!(ledger.paid.keys().copied().eq(1..=PAYMENTS), "every payment is made");
    assert_eq!(ledger.paid_twice(), 0, "and none twice");
    let end = ledger.end.clone().unwrap();
    assert!(!end.starts_with("done, 0 "), "what was appended after the generation was found again: {end}");
    let output = session.output(semper().args(["journal", "verify"]).arg(&restored));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is sound"), "{output:?}");
}

/// Without the journal it is said, at the backup and at the restore, and what goes on then is not mended in silence.
#[test]
fn a_backup_without_the_journal_says_so_and_an_increment_with_it_takes_all() {
    let session = Session::new();
    let mut ledger = Ledger::default();
    let program = rust_program("dispatcher");
    let mut run = session.run(&FLAGS, &program, &["journal", "30"]);
    run.stdin(Stdio::null());
    assert!(live(run, &mut ledger, None, || ()));
    let without = |words: &[&str]| {
        let output = session.output(semper().arg("backup").args(words).current_dir(session.place()));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(without(&["create", "store", "backups", "--without-journal"]).contains("is not in the backup"));
    let said = without(&["restore", "backups", "bare"]);
    assert!(said.contains("the world had a journal") && said.contains("bare has none"), "{said}");
    // The directory knows that its last backup has none.
    let mut again = session.run(&FLAGS, &program, &["journal", "5"]);
    again.stdin(Stdio::null());
    assert!(live(again, &mut ledger, None, || ()));
    let since = json(&session, &["list", "backups", "--json"])["backups"][0]["generation"].to_string();
    told(&session, &["create", "store", "backups", "--since", "last"]);
    told(&session, &["restore", "backups", "whole"]);
    assert_eq!(exported_from(&session, &session.place().join("whole")), exported(&session));
    // A file does not: what is missing is told by who reads both.
    told(&session, &["create", "store", "more.semper", "--since", &since]);
    let both = session.place().join("both.semper");
    let full = session.place().join(format!("backups/{since}-full.semper"));
    let joined = [fs::read(full).unwrap(), fs::read(session.place().join("more.semper")).unwrap()].concat();
    fs::write(&both, joined).unwrap();
    assert!(told_whatever(&session, &["verify", "both.semper"]).contains("the backup before has no journal"));
    refused(&session, &["restore", "both.semper", "broken"], 127, "what comes before it has no journal");
    assert!(!session.place().join("broken").exists());
    told(&session, &["restore", "both.semper", "bare2", "--without-journal"]);
    assert!(!session.place().join("bare2/journal").exists());
}

fn told_whatever(session: &Session, words: &[&str]) -> String {
    let output = session.output(semper().arg("backup").args(words).current_dir(session.place()));
    String::from_utf8(output.stdout).unwrap()
}

/// A journal of which records are lost is not backed up as if it were whole.
#[test]
fn a_damaged_journal_is_not_backed_up_as_a_whole_one() {
    let session = Session::new();
    let mut run = session.run(&FLAGS, &rust_program("dispatcher"), &["journal", "30"]);
    run.stdin(Stdio::null());
    assert!(live(run, &mut Ledger::default(), None, || ()));
    let segment = session.store().join("journal/0000000000000001.segment");
    let file = File::options().read(true).write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", 10 * 4096 + 90).unwrap();
    refused(&session, &["create", "store", "backups"], 121, "--without-journal");
    assert!(fs::read_dir(session.place().join("backups")).unwrap().next().is_none());
    assert!(text(&session, &["trim", "--accept-loss"], 0).contains("given up"));
    told(&session, &["create", "store", "backups"]);
    told(&session, &["restore", "backups", "restored"]);
    let restored = session.place().join("restored");
    assert_eq!(exported_from(&session, &restored), exported(&session));
    let output = session.output(semper().args(["journal", "verify"]).arg(&restored));
    assert!(String::from_utf8_lossy(&output.stdout).contains("given up: record "), "{output:?}");
}

#[test]
fn what_is_in_a_backup_is_noted_in_the_journal_and_may_go() {
    let trim = |session: &Session| text(session, &["trim", "--covered"], 0);
    // What the first backup has, and the newest, whose world had trimmed its journal.
    let restored = |session: &Session, from: &str| {
        let first = json(session, &["list", from, "--json"])["backups"][0]["generation"].to_string();
        told(session, &["restore", from, "early", "--at", &first]);
        told(session, &["restore", from, "late"]);
        ["early", "late"].map(|store| exported_from(session, &session.place().join(store)).len())
    };
    // By who follows a running world.
    let session = Session::new();
    let Some(running) = journaled(&session, &["--checkpoint-interval", "50ms"]) else { return };
    assert!(trim(&session).contains("Nothing to trim"), "it is in no backup");
    let follow = session.background(&mut command(&session, &["follow", "store", "backups"]));
    while !trim(&session).contains("segments are gone") {
        std::thread::sleep(Duration::from_millis(50));
    }
    let first = session.status()["journal"]["Ok"]["first"].as_u64().unwrap();
    drop((follow, running));
    told(&session, &["create", "store", "backups"]);
    let [early, late] = restored(&session, "backups");
    assert!(first > 100 && early >= 400 && (1..300).contains(&late), "{first}, {early}, {late}");
    // At rest.
    let session = Session::new();
    let Some(running) = journaled(&session, &["--checkpoint-interval", "50ms"]) else { return };
    checkpoint(&session);
    drop(running);
    assert!(trim(&session).contains("Nothing to trim"));
    told(&session, &["create", "store", "world.semper"]);
    assert!(trim(&session).contains("segments are gone"));
    assert!(restored(&session, "world.semper")[1] >= 400);
}
