//! The journal, by programs and by the command line.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::harness::{
    Background, Case, Disturbed, Libc, Rng, Session, c_program, native_program, rust_program, seed, wait_for,
};

/// An outside ledger: pays once for each token.
#[derive(Default)]
pub struct Ledger {
    pub paid: BTreeMap<u64, Vec<String>>,
    /// Orders that came again under the token that was paid.
    pub again: u64,
    pub end: Option<String>,
}

impl Ledger {
    pub fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["pay", number, token] if token.len() == 16 => {
                let tokens = self.paid.entry(number.parse().unwrap()).or_default();
                if tokens.iter().any(|known| known == token) {
                    self.again += 1;
                } else {
                    tokens.push(token.to_owned());
                }
            }
            ["done,", ..] => self.end = Some(line.to_owned()),
            // Cut short by a kill: the ledger takes whole orders only.
            _ => {}
        }
    }

    pub fn paid_twice(&self) -> usize {
        self.paid.values().filter(|tokens| tokens.len() > 1).count()
    }
}

/// Runs the dispatcher under Semper with SIGKILLs at random moments, to its end; what the ledger saw.
fn dispatch(session: &Session, how: &str, payments: u64, kills: u32) -> Ledger {
    let mut random = Rng::with_seed(seed());
    let mut ledger = Ledger::default();
    let program = rust_program("dispatcher");
    let flags = ["--output", "immediate", "--checkpoint-interval", "120ms"];
    let mut command = session.run(&flags, &program, &[how, &payments.to_string()]);
    let mut left = kills;
    loop {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            BufReader::new(out).split(b'\n').map_while(Result::ok).collect::<Vec<Vec<u8>>>()
        });
        let killed = left > 0;
        if killed {
            left -= 1;
            std::thread::sleep(Duration::from_millis(150 + random.u64(0..350)));
            let _ = child.kill();
        }
        let status = wait_for(&mut child);
        for line in reader.join().unwrap() {
            ledger.take(&String::from_utf8_lossy(&line));
        }
        if status.success() {
            break;
        }
        assert!(killed, "the runtime ended with {status}");
        // On a busy machine it may have died before the program was in the store.
        let status = session.output(session.on_store("status").arg("--json"));
        let status = serde_json::from_slice(&status.stdout).unwrap_or(serde_json::Value::Null);
        command = if status["domains"][0].is_object() {
            let mut resume = session.on_store("resume");
            resume.args(flags);
            resume
        } else {
            session.run(&flags, &program, &[how, &payments.to_string()])
        };
    }
    ledger
}

/// What `semper journal COMMAND STORE FLAGS` says.
pub fn text(session: &Session, args: &[&str], code: i32) -> String {
    let mut command = crate::harness::semper();
    command.arg("journal").arg(args[0]).arg(session.store()).args(&args[1..]).current_dir(session.place());
    let output = session.output(&mut command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
    format!("{out}{err}")
}

/// The records of programs that `semper journal export` writes: place, number, bytes.
pub fn exported(session: &Session) -> Vec<(u64, u64, Vec<u8>)> {
    records(&text(session, &["export"], 0))
}

/// The records of programs in what `semper journal export` wrote.
pub fn records(lines: &str) -> Vec<(u64, u64, Vec<u8>)> {
    let parsed = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let record = |line: serde_json::Value| {
        let hex = line["hex"].as_str()?.to_owned();
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap()).collect();
        Some((line["sequence"].as_u64()?, line["number"].as_u64()?, bytes))
    };
    parsed.filter_map(record).collect()
}

#[test]
fn a_dispatcher_pays_once_over_any_number_of_kills() {
    const PAYMENTS: u64 = 800;
    let session = Session::new();
    let ledger = dispatch(&session, "journal", PAYMENTS, 10);
    assert!(ledger.paid.keys().copied().eq(1..=PAYMENTS), "every payment is made");
    assert_eq!(ledger.paid_twice(), 0, "and none twice");
    let end = ledger.end.clone().expect("it came to its end");
    assert!(ledger.again > 0, "kills rolled the program back behind what it had paid: {end}");
    // A record that is durable is found after the roll-back, and is in the journal once.
    let records = exported(&session);
    assert!(records.iter().map(|(_, number, _)| *number).eq(1..=PAYMENTS), "each number is there once, in its order");
    for (_, number, token) in &records {
        assert_eq!(ledger.paid[number], [String::from_utf8_lossy(token)], "payment {number}");
    }
    let shown = text(&session, &["show"], 0);
    assert!(shown.contains("the journal: restart ") && shown.contains("from generation "), "{shown}");
    assert!(text(&session, &["verify"], 0).contains("is sound"));
}

#[test]
fn a_native_domain_decides_once_over_any_number_of_kills() {
    const PAYMENTS: u64 = 1000;
    let session = Session::new();
    let case =
        Case { run_flags: vec!["--native".into()], ..Case::new(native_program("payer"), &[&PAYMENTS.to_string()]) };
    let (mut random, mut left) = (Rng::with_seed(seed()), 8_u32);
    let moment = || {
        left = left.checked_sub(1)?;
        Some(Duration::from_millis(40 + random.u64(0..120)))
    };
    let Disturbed { outcome, deaths, .. } = case.disturbed(&session, |_, _| {}, moment);
    assert_eq!(outcome.code, 0);
    assert!(deaths >= 1, "{deaths} of 8 kills came");
    let records = exported(&session);
    assert!(records.iter().map(|(_, number, _)| *number).eq(1..=PAYMENTS));
    let paid = records.iter().map(|(_, number, token)| {
        let token = u64::from_le_bytes(token.clone().try_into().unwrap());
        format!("pay {number} {token:016x}")
    });
    let last = format!("payer: {PAYMENTS} records, the last is {PAYMENTS}, the first is there: true");
    assert!(outcome.stdout.lines().map(str::to_owned).eq(paid.chain([last])), "{}", outcome.stdout);
}

#[test]
fn without_the_journal_it_pays_twice() {
    let session = Session::new();
    let ledger = dispatch(&session, "forgetful", 5000, 6);
    assert!(ledger.paid_twice() > 0, "the test of the dispatcher would see it");
    assert!(text(&session, &["show"], 0).contains("no journal yet"));
}

#[test]
fn show_selects_by_place_writer_and_time_and_speaks_json() {
    let session = Session::new();
    assert!(dispatch(&session, "journal", 30, 0).paid.len() == 30);
    let lines = |args: &[&str]| text(&session, args, 0).lines().count();
    assert_eq!(lines(&["show"]), 31, "a note of the beginning, and the records");
    assert_eq!(lines(&["show", "--from", "5", "--to", "9"]), 5);
    assert_eq!(lines(&["show", "--writer", "1"]), 30);
    assert_eq!(lines(&["show", "--writer", "0"]), 1);
    assert_eq!(lines(&["show", "--writer", "7"]), 0);
    assert_eq!(lines(&["show", "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02T00:00:00Z"]), 0);
    let first = text(&session, &["show", "--json", "--writer", "1", "--to", "3"], 0);
    let line: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!((line["number"].as_u64(), line["writer"].as_u64()), (Some(1), Some(1)));
    assert_eq!(line["text"].as_str().map(str::len), Some(16));
    let report: serde_json::Value = serde_json::from_str(&text(&session, &["verify", "--json"], 0)).unwrap();
    assert_eq!((report["records"].as_u64(), report["sound"].as_bool()), (Some(31), Some(true)));
    assert!(text(&session, &["trim", "--before", "20"], 0).contains("Nothing to trim"));
    text(&session, &["trim"], 2);
    text(&session, &["show", "--from", "soon"], 2);
}

#[test]
fn a_rotten_record_is_told_and_can_be_given_up() {
    let session = Session::new();
    assert!(dispatch(&session, "journal", 30, 0).paid.len() == 30);
    let segment = session.store().join("journal/0000000000000001.segment");
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    // Within a record, which is alone in the tenth page.
    let mut byte = [0];
    file.read_exact_at(&mut byte, 10 * 4096 + 90).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 10 * 4096 + 90).unwrap();
    assert!(text(&session, &["verify"], 1).contains("DAMAGED"));
    let shown = text(&session, &["show"], 1);
    let (_, lost) = shown.split_once("LOST: record ").expect("it is told amid the others");
    let lost = lost.split(' ').next().unwrap();
    assert_eq!(shown.lines().count(), 31, "and they are all there: {shown}");
    text(&session, &["trim", "--before", "2"], 121);
    assert!(text(&session, &["trim", "--accept-loss"], 0).contains("given up"));
    assert!(text(&session, &["verify"], 0).contains(&format!("given up: record {lost} ")));
}

#[test]
fn a_journal_that_is_gone_or_of_another_store_is_told_and_the_world_goes_on() {
    let session = Session::new();
    assert!(dispatch(&session, "journal", 30, 0).paid.len() == 30);
    let journal = session.store().join("journal");
    let aside = session.place().join("aside");
    fs::rename(&journal, &aside).unwrap();
    let program = rust_program("dispatcher");
    // Through pipes: in a file the program's own words have their place, whatever the runtime says.
    let gone = session.run(&[], &program, &["journal", "3"]).output().unwrap();
    let err = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(err.contains("the journal of this store is gone") && err.contains("trim"), "{err}");
    assert_eq!(gone.status.code(), Some(101), "the program is told: {err}");
    // A program that does not use it is none the worse.
    let plain = session.output(&mut session.run(&[], &program, &["forgetful", "3"]));
    assert_eq!(plain.status.code(), Some(0), "{}", String::from_utf8_lossy(&plain.stderr));
    let other = Session::new();
    assert!(dispatch(&other, "journal", 3, 0).paid.len() == 3);
    fs::rename(other.store().join("journal"), &journal).unwrap();
    assert!(text(&session, &["show"], 121).contains("another store"));
    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();
    let back = session.output(&mut session.run(&[], &program, &["journal", "3"]));
    assert_eq!(back.status.code(), Some(0), "{}", String::from_utf8_lossy(&back.stderr));
}

/// The journal and the objects of Linux programs are both noted in the object table: neither note takes the other's place.
#[test]
fn a_program_that_writes_to_the_journal_keeps_its_object() {
    let session = Session::new();
    let flags = ["--output", "immediate", "--checkpoint-interval", "50ms"];
    let objects = || {
        let output = session.output(session.on_store("ls").arg("--json"));
        assert!(output.status.success(), "{output:?}");
        let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = listing["bank"].to_string();
        text.split("\"object\":\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let committed = |status: &serde_json::Value| status["checkpoints"]["totals"]["committed"].as_u64() > Some(4);
    let program = rust_program("dispatcher");
    let mut runtime = session.background(&mut session.run(&flags, &program, &["journal", "1000000"]));
    session.wait_until("the journal is noted", |status| committed(status) && session.store().join("journal").exists());
    session.wait_until("the note is committed", committed);
    let before = objects();
    runtime.0.kill().unwrap();
    runtime.wait();
    let mut runtime = session.background(session.on_store("resume").args(flags));
    session.wait_until("it goes on", committed);
    assert_eq!(objects(), before, "the program got another object");
    runtime.0.kill().unwrap();
    runtime.wait();
    session.assert_sound();
}

/// 400 records of 60,000 bytes: three segments of 8 MiB.
pub fn journaled(session: &Session, flags: &[&str]) -> Option<Background> {
    let program = c_program("journaled", Libc::Musl)?;
    let out = session.place().join("out");
    let mut run = session.run(flags, &program, &["400"]);
    run.stdin(Stdio::piped()).stdout(File::create(&out).unwrap()).stderr(Stdio::null());
    let running = Background(run.spawn().unwrap());
    session.wait_until("all is written", |_| fs::read_to_string(&out).unwrap() == "written\n");
    Some(running)
}

#[test]
fn a_running_journal_is_shown_and_trimmed() {
    let session = Session::new();
    let Some(running) = journaled(&session, &["--checkpoint-interval", "50ms"]) else { return };
    let shown = session.status()["journal"]["Ok"].clone();
    assert_eq!((&shown["first"], &shown["bytes"]), (&1.into(), &(24 << 20).into()), "{shown}");
    assert!(shown["end"].as_u64() >= Some(401), "{shown}");
    assert!(text(&session, &["trim", "--accept-loss"], 120).contains("stop it first"));
    assert!(text(&session, &["trim", "--before", "2"], 0).contains("Nothing to trim"));
    assert!(text(&session, &["trim", "--keep", "16M"], 0).contains("in 1 segments are gone"));
    let first = session.status()["journal"]["Ok"]["first"].as_u64().unwrap();
    assert!((100..200).contains(&first), "{first}");
    let later = humantime::format_rfc3339(SystemTime::now() + Duration::from_secs(60)).to_string();
    assert!(text(&session, &["trim", "--before", &later], 0).contains("in 1 segments are gone"));
    assert!(session.status()["journal"]["Ok"]["first"].as_u64() > Some(first));
    drop(running);
    let input = File::open("/dev/null").unwrap();
    let resumed = session.output(session.on_store("resume").stdin(input));
    assert_eq!(resumed.status.code(), Some(0), "its last record is there still: {resumed:?}");
    assert!(text(&session, &["verify"], 0).contains("is sound"));
}

#[test]
fn the_journal_keeps_to_its_size() {
    let session = Session::new();
    let flags = ["--checkpoint-interval", "20ms", "--journal-size", "8M"];
    let Some(running) = journaled(&session, &flags) else { return };
    // What a generation that is kept may ask for again stays for now. Another program writes when those are gone.
    let program = c_program("journaled", Libc::Musl).unwrap();
    let before = session.status()["store"]["generation"].as_u64().unwrap();
    session.wait_until("other generations are kept", |status| {
        let _ = session.output(&mut session.on_store("checkpoint"));
        status["store"]["generation"].as_u64() > Some(before + 5)
    });
    assert_eq!(session.output(&mut session.run(&["--name", "other"], &program, &["200"])).status.code(), Some(0));
    // What there may be, the segment that is being written, and one with records for which a generation that is kept may ask: it is looked
    // when a segment is begun, and on a quick machine the last one is begun before other generations are kept.
    let shown = session.status()["journal"]["Ok"].clone();
    assert!(shown["bytes"].as_u64() <= Some(24 << 20) && shown["first"].as_u64() > Some(200), "{shown}");
    drop(running);
}
