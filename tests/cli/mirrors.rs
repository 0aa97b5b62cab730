//! mirror: a store on two disks goes on when one of them rots, goes away or is lost.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::format::{generations, spoil};
use crate::harness::{Background, Case, Libc, Session, c_program, semper};

/// A program that never ends, and writes a line for each round.
pub struct Work {
    pub session: Session,
    pub program: PathBuf,
}

impl Work {
    pub fn new() -> Option<Work> {
        Some(Work { session: Session::new(), program: c_program("memory", Libc::Musl)? })
    }

    pub fn out(&self) -> PathBuf {
        self.session.place().join("out")
    }

    pub fn mirror(&self) -> PathBuf {
        self.session.place().join("mirror")
    }

    /// Starts it.
    pub fn start(&self) -> Background {
        let mut command = self.session.run(&["--checkpoint-interval", "50ms"], &self.program, &["8", "100000000"]);
        let runtime = Background(command.stdout(File::create(self.out()).unwrap()).spawn().unwrap());
        self.longer(&self.session.store(), 5);
        runtime
    }

    /// Goes on with the store in `dir`; gives the runtime, and what it writes to standard error in the end.
    pub fn resume(&self, dir: &Path) -> Background {
        let file =
            |name: &str| File::options().append(true).create(true).open(self.session.place().join(name)).unwrap();
        let mut command = semper();
        command.arg("resume").arg(dir).args(["--checkpoint-interval", "50ms"]).current_dir(self.session.place());
        let runtime = Background(command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn().unwrap());
        self.wait(dir, "it runs", |status| status["live"] == true);
        self.longer(dir, 5);
        runtime
    }

    /// Waits until it has written some lines more, which are safe then.
    pub fn longer(&self, dir: &Path, lines: usize) {
        let before = self.lines();
        self.wait(dir, "the program goes on", |_| self.lines() >= before + lines);
    }

    fn lines(&self) -> usize {
        fs::read_to_string(self.out()).unwrap_or_default().lines().count()
    }

    pub fn status(&self, dir: &Path) -> Value {
        let output = self.session.output(semper().arg("status").arg(dir).arg("--json"));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    pub fn wait(&self, dir: &Path, what: &str, holds: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status(dir);
            if holds(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}: {status}\n{}", self.errors());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn errors(&self) -> String {
        fs::read_to_string(self.session.place().join("err")).unwrap_or_default()
    }

    /// `semper mirror WORD STORE DIR`.
    fn mirror_command(&self, word: &str, store: &Path, dir: &Path) -> Output {
        self.session.output(semper().args(["mirror", word]).arg(store).arg(dir).current_dir(self.session.place()))
    }

    pub fn add(&self) {
        let added = self.mirror_command("add", &self.session.store(), &self.mirror());
        assert!(added.status.success(), "{added:?}");
        assert_eq!(states(&self.status(&self.session.store())), ["whole", "whole"]);
    }

    pub fn stop(&self, dir: &Path, mut runtime: Background) {
        let stopped = self.session.output(semper().arg("stop").arg(dir));
        assert!(stopped.status.success(), "{stopped:?}");
        runtime.wait();
    }

    /// What was written is what one undisturbed run writes.
    pub fn assert_like_native(&self) {
        let out = fs::read_to_string(self.out()).unwrap();
        let rounds = out.lines().count() - usize::from(!out.ends_with('\n'));
        let native = Case::new(&self.program, &["8", &rounds.to_string()]).native();
        let whole = &out[..out.rfind('\n').unwrap() + 1];
        assert!(rounds > 20 && native.stdout.starts_with(whole), "{} rounds differ", rounds);
    }
}

pub fn states(status: &Value) -> Vec<&str> {
    status["mirrors"].as_array().unwrap().iter().map(|side| side["state"].as_str().unwrap()).collect()
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_mirror_is_added_under_kills_and_what_rots_is_read_from_it_and_repaired() {
    let Some(work) = Work::new() else { return };
    let store = work.session.store();
    drop(work.start());
    let runtime = work.resume(&store);
    work.add();
    drop(runtime);
    drop(work.resume(&store));
    // Half of all that the newest generation has, on one side; nodes too.
    let pages = store.join("pages");
    let newest = generations(&pages).swap_remove(0);
    newest.blocks.iter().rev().step_by(2).for_each(|block| spoil(&pages, block));
    let checked = work.session.output(&mut work.session.on_store("check"));
    assert!(checked.status.code() == Some(1) && said(&checked).contains("rotten on one side"), "{}", said(&checked));
    let runtime = work.resume(&store);
    assert!(!work.errors().contains("is left for"), "{}", work.errors());
    let scrubbed = work.session.output(&mut work.session.on_store("scrub"));
    assert!(scrubbed.status.success() && said(&scrubbed).contains("is sound"), "{}", said(&scrubbed));
    let status = work.status(&store);
    let repaired = |side: usize| status["mirrors"][side]["repaired"].as_u64().unwrap();
    assert!(repaired(0) >= 10 && repaired(1) == 0, "{status}");
    drop(runtime);
    work.session.assert_sound();
    // At rest too, and on the other side.
    let pages = work.mirror().join("pages");
    let newest = generations(&pages).swap_remove(0);
    newest.blocks.iter().rev().take(20).for_each(|block| spoil(&pages, block));
    let scrubbed = work.session.output(&mut work.session.on_store("scrub"));
    assert!(scrubbed.status.success() && said(&scrubbed).contains("20 blocks were rotten"), "{}", said(&scrubbed));
    assert_eq!(work.status(&store)["scrub"]["last"]["repaired"], 20);
    // What is rotten on both is named.
    let block = newest.blocks.iter().rev().find(|block| block.level.is_none()).unwrap();
    [&pages, &store.join("pages")].into_iter().for_each(|pages| spoil(pages, block));
    let scrubbed = work.session.output(&mut work.session.on_store("scrub"));
    let named = format!("segment {}, page {} at place {}", block.segment, block.page, block.place);
    assert!(scrubbed.status.code() == Some(1) && said(&scrubbed).contains(&named), "{}", said(&scrubbed));
    work.assert_like_native();
}

#[test]
fn the_mirror_goes_on_as_the_store_when_that_is_lost() {
    let Some(work) = Work::new() else { return };
    let store = work.session.store();
    let runtime = work.start();
    work.add();
    work.longer(&store, 5);
    drop(runtime);
    // Its pages alone: word of the mirror is still there.
    fs::remove_file(store.join("pages")).unwrap();
    let runtime = work.resume(&store);
    work.wait(&store, "its pages are made anew", |status| states(status) == ["whole", "whole"]);
    work.longer(&store, 5);
    drop(runtime);
    // All of it.
    fs::remove_dir_all(&store).unwrap();
    let runtime = work.resume(&work.mirror());
    assert!(work.errors().contains("store is left out: it cannot be reached"), "{}", work.errors());
    work.stop(&work.mirror(), runtime);
    let checked = work.session.output(semper().arg("check").arg(work.mirror()));
    assert!(checked.status.success(), "{}", said(&checked));
    work.assert_like_native();
}

#[test]
fn a_mirror_that_is_pulled_out_under_load_catches_up_when_it_is_back() {
    let Some(work) = Work::new() else { return };
    let store = work.session.store();
    let runtime = work.start();
    work.add();
    let pulled = work.session.place().join("pulled");
    fs::rename(work.mirror(), &pulled).unwrap();
    work.wait(&store, "it is missed", |status| states(status) == ["whole", "away"]);
    work.longer(&store, 20);
    fs::rename(&pulled, work.mirror()).unwrap();
    work.wait(&store, "it is up to date", |status| states(status) == ["whole", "whole"]);
    work.longer(&store, 5);
    drop(runtime);
    // Also when it was away at the start.
    fs::rename(work.mirror(), &pulled).unwrap();
    let runtime = work.resume(&store);
    fs::rename(&pulled, work.mirror()).unwrap();
    work.wait(&store, "it is up to date", |status| states(status) == ["whole", "whole"]);
    drop(runtime);
    fs::remove_dir_all(&store).unwrap();
    let runtime = work.resume(&work.mirror());
    work.stop(&work.mirror(), runtime);
    let removed = work.mirror_command("remove", &work.mirror(), &store);
    assert!(removed.status.success(), "{}", said(&removed));
    work.assert_like_native();
}

#[test]
fn sides_that_went_on_without_each_other_are_refused() {
    let Some(work) = Work::new() else { return };
    let (store, mirror) = (work.session.store(), work.mirror());
    let runtime = work.start();
    work.add();
    work.stop(&store, runtime);
    let (here, there) = (work.session.place().join("a"), work.session.place().join("b"));
    fs::rename(&mirror, &there).unwrap();
    work.stop(&store, work.resume(&store));
    fs::rename(&store, &here).unwrap();
    fs::rename(&there, &mirror).unwrap();
    let out = fs::read(work.out()).unwrap();
    work.stop(&mirror, work.resume(&mirror));
    fs::write(work.out(), out).unwrap();
    fs::rename(&here, &store).unwrap();
    for side in [&store, &mirror] {
        let refused = work.session.output(semper().arg("resume").arg(side));
        let said = said(&refused);
        assert!(refused.status.code() == Some(121) && said.contains("went on without each other"), "{said}");
    }
    let removed = work.mirror_command("remove", &store, &mirror);
    assert!(removed.status.success() && said(&removed).contains("goes on without"), "{}", said(&removed));
    work.stop(&store, work.resume(&store));
    work.assert_like_native();
    // What is left there is not taken again for a mirror, or for the store, unasked.
    let again = work.mirror_command("add", &store, &mirror);
    assert!(again.status.code() == Some(2) && said(&again).contains("went its own way"), "{}", said(&again));
    fs::remove_dir_all(&mirror).unwrap();
    let again = work.mirror_command("add", &store, &mirror);
    assert!(again.status.success(), "{}", said(&again));
    let removed = work.mirror_command("remove", &store, &mirror);
    assert!(removed.status.success(), "{}", said(&removed));
    let refused = work.session.output(semper().arg("resume").arg(&mirror));
    assert!(refused.status.code() == Some(2) && said(&refused).contains("no mirror any more"), "{}", said(&refused));
    let again = work.mirror_command("add", &store, &mirror);
    assert!(again.status.success(), "what was removed may come back: {}", said(&again));
}

#[test]
fn what_cannot_be_a_mirror_is_refused_and_nothing_is_changed() {
    let Some(work) = Work::new() else { return };
    let store = work.session.store();
    let runtime = work.start();
    let other = work.session.place().join("other");
    let made = work
        .session
        .output(semper().arg("run").arg(&other).args(["--size", "64M", "--"]).arg(&work.program).args(["1", "1"]));
    assert_eq!(made.status.code(), Some(7), "{}", said(&made));
    let file = work.session.file("file", "x");
    let full = work.session.place().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("photo"), "x").unwrap();
    let cases = [
        (store.clone(), 2, "is a side of this store already"),
        (store.join("within"), 2, "lies within"),
        (other.clone(), 121, "is not empty"),
        (full, 121, "`photo`"),
        (file, 2, "is no directory"),
    ];
    for (dir, code, why) in cases {
        let refused = work.mirror_command("add", &store, &dir);
        assert!(refused.status.code() == Some(code) && said(&refused).contains(why), "{dir:?}: {}", said(&refused));
    }
    let none = work.mirror_command("remove", &store, &other);
    assert!(none.status.code() == Some(2) && said(&none).contains("no mirror of this store"), "{}", said(&none));
    assert!(work.status(&store)["mirrors"].as_array().unwrap().is_empty() && !store.join("within").exists());
    work.add();
    let twice = work.mirror_command("add", &store, &work.mirror());
    assert!(twice.status.code() == Some(2) && said(&twice).contains("already"), "{}", said(&twice));
    let busy = work.session.output(semper().arg("resume").arg(work.mirror()));
    assert!(busy.status.code() == Some(120), "{}", said(&busy));
    drop(runtime);
    // A side of another store in its place.
    fs::remove_dir_all(work.mirror()).unwrap();
    fs::rename(&other, work.mirror()).unwrap();
    let runtime = work.resume(&store);
    assert!(work.errors().contains("there is no mirror there any more"), "{}", work.errors());
    drop(runtime);
    let checked = work.session.output(semper().arg("check").arg(work.mirror()));
    assert!(checked.status.success(), "{}", said(&checked));
    work.assert_like_native();
}

/// The files of a journal with what is in them; but for those that are made again from others, and the half of its state that is older.
fn journal_of(side: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(side.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "segment"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Flips a byte of every 50,000 in the first `bytes` of a segment, which were written.
fn flip(segment: &Path, bytes: usize) {
    let file = File::options().read(true).write(true).open(segment).unwrap();
    for at in (5000..bytes).step_by(50_000) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
    }
}

/// A program that writes records of 60,000 bytes: 139 of them fill a segment.
/// A program that writes records to the journal, and the mirror that it got amid that.
fn journaling(session: &Session, records: &str) -> Option<(Background, PathBuf)> {
    let program = c_program("journaled", Libc::Musl)?;
    let out = File::create(session.place().join("out")).unwrap();
    let mut command = session.run(&["--checkpoint-interval", "50ms"], &program, &[records]);
    let runtime = Background(command.stdin(Stdio::piped()).stdout(out).spawn().unwrap());
    let mirror = session.place().join("mirror");
    session.wait_until("it writes", |status| end_of(status) > Some(10));
    let added = session.output(semper().args(["mirror", "add"]).args([&session.store(), &mirror]));
    assert!(added.status.success(), "{}", said(&added));
    Some((runtime, mirror))
}

fn end_of(status: &Value) -> Option<u64> {
    status["journal"]["Ok"]["end"].as_u64()
}

#[test]
fn a_journal_that_rots_on_one_side_at_rest_is_read_from_the_other_and_repaired() {
    let session = Session::new();
    let Some((runtime, mirror)) = journaling(&session, "320") else { return };
    let store = session.store();
    session
        .wait_until("all is written", |_| fs::read_to_string(session.place().join("out")).unwrap().contains("written"));
    drop(runtime);
    let right = journal_of(&store);
    assert!(right.len() == 3 && journal_of(&mirror) == right, "both sides have it, byte for byte");
    // A segment here, another there, one that is gone, one that is cut short, the state.
    let segment = |side: &Path, number: usize| side.join("journal").join(&right[number].0);
    flip(&segment(&store, 0), 4 << 20);
    flip(&segment(&mirror, 2), 1 << 20);
    fs::remove_file(segment(&mirror, 1)).unwrap();
    fs::write(store.join("journal/state"), vec![7; 8192]).unwrap();
    let journal =
        |args: &[&str], on: &Path| session.output(semper().arg("journal").arg(args[0]).arg(on).args(&args[1..]));
    let before = (fs::read(segment(&store, 0)).unwrap(), fs::read(segment(&mirror, 2)).unwrap());
    let verified = journal(&["verify"], &store);
    assert!(verified.status.code() == Some(1) && said(&verified).contains("rotten on one side"), "{}", said(&verified));
    for side in [&store, &mirror] {
        let exported = journal(&["export", "--writer", "1"], side);
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        assert_eq!(exported.stdout.iter().filter(|byte| **byte == b'\n').count(), 320);
    }
    let after = (fs::read(segment(&store, 0)).unwrap(), fs::read(segment(&mirror, 2)).unwrap());
    assert!(before == after && !segment(&mirror, 1).exists(), "who reads writes nothing");
    let repaired = journal(&["verify", "--repair"], &store);
    assert!(repaired.status.success() && said(&repaired).contains("written anew"), "{}", said(&repaired));
    assert!(journal_of(&store) == right && journal_of(&mirror) == right, "both sides are as they were");
    assert_eq!(fs::read(store.join("journal/state")).unwrap(), fs::read(mirror.join("journal/state")).unwrap());
    // What is rotten on both is named, and what is beside it is repaired.
    [&store, &mirror].into_iter().for_each(|side| flip(&segment(side, 1), 50_000));
    flip(&segment(&store, 0), 1 << 20);
    let scrubbed = session.output(&mut session.on_store("scrub"));
    let text = said(&scrubbed);
    assert!(
        scrubbed.status.code() == Some(1) && text.contains("lost: record ") && text.contains("written anew"),
        "{text}"
    );
    assert!(journal_of(&store)[0] == right[0] && journal_of(&mirror)[0] == right[0]);
    let status = session.status();
    assert!(
        status["scrub"]["last"]["faults"] == 1 && status["scrub"]["last"]["repaired"].as_u64() > Some(10),
        "{status}"
    );
}

#[test]
fn a_journal_that_rots_or_is_robbed_under_load_is_repaired_and_a_side_that_was_away_gets_what_it_lacks() {
    let session = Session::new();
    let Some((runtime, mirror)) = journaling(&session, "2000") else { return };
    let store = session.store();
    session.wait_until("it fills segments", |status| end_of(status) > Some(300));
    let names: Vec<String> = journal_of(&store).into_iter().map(|(name, _)| name).collect();
    flip(&mirror.join("journal").join(&names[0]), 8 << 20);
    flip(&store.join("journal").join(&names[1]), 8 << 20);
    let scrubbed = session.output(&mut session.on_store("scrub"));
    assert!(scrubbed.status.success() && said(&scrubbed).contains("written anew"), "{}", said(&scrubbed));
    let status = session.status();
    let repaired = |side: usize| status["mirrors"][side]["repaired"].as_u64().unwrap();
    assert!(repaired(0) > 0 && repaired(1) > 0, "{status}");
    // The whole journal of one side, under who writes to it.
    let robbed = session.place().join("robbed");
    fs::rename(mirror.join("journal"), &robbed).unwrap();
    fs::remove_dir_all(&robbed).unwrap();
    session.wait_until("it is there again", |status| {
        mirror.join("journal/state").exists()
            && mirror.join("journal").join(&names[1]).exists()
            && end_of(status) > Some(500)
    });
    // Pulled out for a while.
    let pulled = session.place().join("pulled");
    fs::rename(&mirror, &pulled).unwrap();
    session.wait_until("it is missed", |status| states(status) == ["whole", "away"]);
    let inode = |name: &str, side: &Path| fs::metadata(side.join("journal").join(name)).unwrap().ino();
    let had = inode(&names[0], &pulled);
    let away_at = end_of(&session.status()).unwrap();
    session.wait_until("much is written", |status| end_of(status) > Some((away_at + 400).min(2001)));
    fs::rename(&pulled, &mirror).unwrap();
    session.wait_until("it is up to date", |status| states(status) == ["whole", "whole"]);
    assert_eq!(inode(&names[0], &mirror), had, "what it had was not copied again");
    session
        .wait_until("all is written", |_| fs::read_to_string(session.place().join("out")).unwrap().contains("written"));
    // Killed, one side may have what the other was to be given next.
    assert!(session.output(&mut session.on_store("stop")).status.success());
    drop(runtime);
    let (here, there) = (journal_of(&store), journal_of(&mirror));
    let differ: Vec<_> = here
        .iter()
        .zip(&there)
        .filter(|(here, there)| here != there)
        .map(|(here, there)| (&here.0, &there.0))
        .collect();
    assert!(here == there, "both sides have the same: {differ:?}");
    fs::remove_dir_all(&store).unwrap();
    let exported = session.output(semper().args(["journal", "export", "--writer", "1"]).arg(&mirror));
    assert_eq!(exported.stdout.iter().filter(|byte| **byte == b'\n').count(), 2000, "nothing is lost");
    let ended = session.output(semper().arg("resume").arg(&mirror).stdin(Stdio::null()));
    assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
}

#[test]
fn what_left_to_a_pipe_is_not_repeated_and_what_was_read_is_not_lost_with_the_directory_of_the_store() {
    let Some(program) = c_program("echo_lines", Libc::Musl) else { return };
    // Each answer takes so long that nothing leaves just as the runtime is killed.
    const WORK: &str = "100000000";
    let input = b"one\ntwo\nthree\nfour\nfive\n".to_vec();
    let native = Case { input: Some(input.clone()), ..Case::new(&program, &[WORK]) }.native();
    let session = Session::new();
    let (store, mirror) = (session.store(), session.place().join("mirror"));
    let mut child = session.run(&[], &program, &[WORK]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut runtime = Background(child);
    session.wait_until("it runs", |status| !status["domains"][0].is_null());
    let added = session.output(semper().args(["mirror", "add"]).args([&store, &mirror]));
    assert!(added.status.success(), "{}", said(&added));
    // All at once, so that it is all read from the pipe with the first line.
    stdin.write_all(&input).unwrap();
    let mut stdout = BufReader::new(stdout);
    let mut answers = String::new();
    (0..2).for_each(|_| assert!(stdout.read_line(&mut answers).unwrap() > 0));
    std::thread::sleep(Duration::from_millis(100));
    runtime.signal(Signal::SIGKILL);
    runtime.wait();
    stdout.read_to_string(&mut answers).unwrap();
    fs::remove_dir_all(&store).unwrap();
    // Into a pipe, too.
    let ended = semper().arg("resume").arg(&mirror).stdin(Stdio::null()).output().unwrap();
    answers.push_str(&String::from_utf8_lossy(&ended.stdout));
    assert_eq!(answers, native.stdout);
    assert_eq!(ended.status.code(), Some(native.code), "{}", said(&ended));
}

#[test]
fn the_journal_is_on_the_mirror_too() {
    let Some(program) = c_program("journaled", Libc::Musl) else { return };
    let session = Session::new();
    let (store, mirror, out) = (session.store(), session.place().join("mirror"), session.place().join("out"));
    let mut command = session.run(&["--checkpoint-interval", "50ms"], &program, &["300"]);
    let runtime = command.stdin(Stdio::piped()).stdout(File::create(&out).unwrap()).spawn().unwrap();
    let runtime = Background(runtime);
    session.wait_until("it writes", |status| status["journal"]["Ok"]["end"].as_u64() > Some(10));
    let added = session.output(semper().args(["mirror", "add"]).args([&store, &mirror]));
    assert!(added.status.success(), "{}", said(&added));
    session.wait_until("all is written", |_| fs::read_to_string(&out).unwrap().contains("written"));
    drop(runtime);
    fs::remove_dir_all(&store).unwrap();
    let verified = session.output(semper().args(["journal", "verify"]).arg(&mirror));
    assert!(verified.status.success() && said(&verified).contains("is sound"), "{}", said(&verified));
    let ended = session.output(semper().arg("resume").arg(&mirror).stdin(Stdio::null()));
    assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
}
