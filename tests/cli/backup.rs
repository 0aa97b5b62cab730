//! backup create, list, verify, restore and prune, on running and resting stores.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use semper::control::Connection;
use serde_json::Value;

use crate::full_disk::SmallDisk;
use crate::harness::{Background, Case, Libc, Session, c_program, seed, semper, wait_for};

/// `semper backup WORDS`, beside the store.
pub fn command(session: &Session, words: &[&str]) -> Command {
    let mut command = semper();
    command.arg("backup").args(words).current_dir(session.place()).stdin(Stdio::null());
    command
}

pub fn told(session: &Session, words: &[&str]) -> String {
    let output = session.output(&mut command(session, words));
    assert!(output.status.success(), "backup {words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// It fails with this exit code, and says this.
pub fn refused(session: &Session, words: &[&str], code: i32, why: &str) {
    says(&session.output(&mut command(session, words)), words, code, why);
}

pub fn says(output: &Output, words: &[&str], code: i32, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "backup {words:?}: {output:?}");
    assert!(said.starts_with("semper: ") && said.contains(why), "backup {words:?}: {said}");
}

pub fn json(session: &Session, words: &[&str]) -> Value {
    serde_json::from_slice(&session.output(&mut command(session, words)).stdout).unwrap()
}

pub fn names(session: &Session, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(session.place().join(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Goes on with a store; its output is added to `out`.
pub fn resume(session: &Session, store: &Path, out: &Path) -> Background {
    let out = File::options().append(true).create(true).open(out).unwrap();
    let mut command = semper();
    command.arg("resume").arg(store).args(["--checkpoint-interval", "50ms"]).current_dir(session.place());
    Background(command.stdin(Stdio::null()).stdout(out).spawn().unwrap())
}

/// A program at work, with a checkpoint only when asked.
pub fn at_work(session: &Session, program: &Path, args: &[&str]) -> Background {
    let mut command = session.run(&["--checkpoint-interval", "0"], program, args);
    let out = File::create(session.place().join("out")).unwrap();
    let runtime = Background(command.stdout(out).spawn().unwrap());
    session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(50));
    checkpoint(session);
    runtime
}

pub fn checkpoint(session: &Session) {
    let output = session.output(&mut session.on_store("checkpoint"));
    assert!(output.status.success(), "{output:?}");
}

/// What the restored world writes, from where it goes on to its end; it is killed once on the way.
pub fn outcome_elsewhere(session: &Session, dir: &str, at: &str) -> (String, Option<i32>) {
    let (store, out) = (session.place().join(format!("elsewhere-{at}")), session.place().join(format!("out-{at}")));
    told(session, &["restore", dir, store.to_str().unwrap(), "--at", at]);
    let mut runtime = resume(session, &store, &out);
    std::thread::sleep(Duration::from_millis(300));
    let _ = runtime.0.kill();
    if runtime.wait().code().is_none() {
        runtime = resume(session, &store, &out);
    }
    let code = runtime.wait().code();
    let checked = session.output(semper().arg("check").arg(&store));
    assert!(checked.status.success(), "{checked:?}");
    (fs::read_to_string(out).unwrap(), code)
}

/// Says that it is over, whether or not the test failed.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_world_that_was_backed_up_under_kills_goes_on_elsewhere_as_it_did_here() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let mut random = fastrand::Rng::with_seed(seed());
    let case = Case::new(program, &["4", "700"]);
    let native = case.native();
    let session = Session::new();
    let (ended, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    let (outcome, made) = std::thread::scope(|scope| {
        let backups = scope.spawn(|| {
            let mut made = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                if Connection::open(&session.store()).is_err() {
                    continue;
                }
                let mut words = vec!["create", "store", "backups", "--compress", "zstd:1"];
                if begun.load(Ordering::Relaxed) {
                    words.extend(["--since", "last"]);
                }
                let output = command(&session, &words).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                if output.status.success() && String::from_utf8_lossy(&output.stdout).contains("pages") {
                    let shown = fs::metadata(session.place().join("out")).unwrap().len();
                    begun.store(true, Ordering::Relaxed);
                    made.push(shown);
                } else if begun.load(Ordering::Relaxed) && said.contains("is not kept") {
                    // The runtime was killed before the tag was there.
                    begun.store(false, Ordering::Relaxed);
                }
            }
            made
        });
        let at_end = AtEnd(&ended);
        let mut kills = 6;
        let outcome = case.disturbed(
            &session,
            |_, _| {},
            || {
                let patience = Instant::now();
                while !begun.load(Ordering::Relaxed) && patience.elapsed() < Duration::from_secs(60) {
                    std::thread::sleep(Duration::from_millis(5));
                    if kills == 6 {
                        // The first runtime has to be there for the first backup.
                        break;
                    }
                }
                kills -= 1;
                (kills > 0).then(|| Duration::from_millis(random.u64(200..700)))
            },
        );
        drop(at_end);
        assert!(outcome.deaths >= 1, "{outcome:?}");
        (outcome.outcome, backups.join().unwrap())
    });
    assert_eq!(outcome, native);
    let verified = json(&session, &["verify", "backups", "--json"]);
    assert_eq!(verified["sound"], true, "{verified}");
    let listed = json(&session, &["list", "backups", "--json"]);
    let listed = listed["backups"].as_array().unwrap();
    assert!(listed.len() >= 2 && listed.len() <= made.len(), "{listed:?} {made:?}");
    for _ in 0..3 {
        let backup = &listed[random.usize(..listed.len())];
        let at = backup["generation"].to_string();
        if session.place().join(format!("elsewhere-{at}")).exists() {
            continue;
        }
        let (output, code) = outcome_elsewhere(&session, "backups", &at);
        assert_eq!(code, Some(native.code), "generation {at}");
        assert!(native.stdout.ends_with(&output), "generation {at} does not go on as the original:\n{output}");
        let before = (native.stdout.len() - output.len()) as u64;
        assert!(before <= *made.last().unwrap(), "generation {at}: {before} bytes were left out");
    }
    session.assert_sound();
}

/// Reads a pipe to its end.
fn piped(runtime: &mut Background) -> Vec<u8> {
    let mut read = Vec::new();
    runtime.0.stdout.take().unwrap().read_to_end(&mut read).unwrap();
    runtime.wait();
    read
}

#[test]
fn what_had_left_through_a_pipe_is_not_said_again_by_the_restored_world() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let native = Case::new(&program, &["40000"]).native();
    let session = Session::new();
    let mut run = session.run(&["--checkpoint-interval", "30ms"], &program, &["40000"]);
    let mut runtime = Background(run.stdout(Stdio::piped()).spawn().unwrap());
    session.wait_until("something was said", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(150));
    runtime.0.kill().unwrap();
    let here = piped(&mut runtime);
    told(&session, &["create", "store", "world.semper"]);
    told(&session, &["restore", "world.semper", "elsewhere"]);
    let mut resume = semper();
    resume.arg("resume").arg(session.place().join("elsewhere")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut runtime = Background(resume.spawn().unwrap());
    let there = piped(&mut runtime);
    assert!(!here.is_empty() && !there.is_empty());
    let said = [here.as_slice(), &there].concat();
    // Killed between a piece and its mark, that piece comes again.
    let again = said.len() - native.stdout.len();
    let joined = [&here[..here.len() - again], &there].concat();
    assert!(again <= 64 << 10 && joined == native.stdout.as_bytes(), "{again} bytes came again");
}

#[test]
fn a_pipe_carries_a_chain_and_a_file_may_hold_one() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let native = Case::new(&program, &["4", "700"]).native();
    let session = Session::new();
    let mut runtime = at_work(&session, &program, &["4", "700"]);
    let full = command(&session, &["create", "store", "-", "--compress", "zstd"]).output().unwrap();
    assert!(full.status.success(), "{full:?}");
    let base = session.status()["store"]["generation"].to_string();
    let tagged = session.output(session.on_store("tag").arg("base"));
    assert!(tagged.status.success(), "{tagged:?}");
    checkpoint(&session);
    let since = command(&session, &["create", "store", "-", "--since", "base"]).output().unwrap();
    assert!(since.status.success(), "{since:?}");
    // An increment without its full backup is sound in itself, and restores to nothing.
    let file = session.file("increment.semper", &since.stdout);
    told(&session, &["verify", "increment.semper"]);
    refused(&session, &["restore", "increment.semper", "never"], 127, &format!("since generation {base}"));
    let chain = session.file("chain.semper", [full.stdout, since.stdout].concat());
    let from = |words: &[&str]| {
        let mut command = command(&session, words);
        command.stdin(File::open(&chain).unwrap());
        session.output(&mut command)
    };
    assert!(from(&["verify", "-"]).status.success());
    let restored = from(&["restore", "-", "second"]);
    assert!(
        restored.status.success() && String::from_utf8_lossy(&restored.stdout).contains("2 backups"),
        "{restored:?}"
    );
    assert!(from(&["restore", "-", "first", "--at", &base]).status.success());
    says(&from(&["restore", "-", "third", "--at", "99"]), &["--at 99"], 127, &base);
    assert!(!session.place().join("third").exists() && file.exists());
    runtime.0.kill().unwrap();
    runtime.wait();
    for store in ["first", "second"] {
        let out = session.place().join(format!("{store}.out"));
        let mut runtime = resume(&session, &session.place().join(store), &out);
        assert_eq!(runtime.wait().code(), Some(native.code), "{store}");
        let output = fs::read_to_string(out).unwrap();
        assert!(!output.is_empty() && native.stdout.ends_with(&output), "{store}");
    }
}

#[test]
fn backups_are_listed_verified_and_pruned_and_a_generation_stays_for_the_next() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let _runtime = at_work(&session, &program, &["4", "100000000"]);
    told(&session, &["create", "store", "backups"]);
    let nothing = told(&session, &["create", "store", "backups", "--since", "last", "--rate-limit", "100M"]);
    assert!(nothing.contains("nothing has been committed"), "{nothing}");
    for _ in 0..3 {
        // More than a store keeps: only the tag has the last one.
        (0..6).for_each(|_| checkpoint(&session));
        told(&session, &["create", "store", "backups", "--since", "last"]);
    }
    let listed = json(&session, &["list", "backups", "--json"]);
    let backups = listed["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 4, "{listed}");
    for pair in backups.windows(2) {
        assert_eq!(pair[1]["since"], pair[0]["generation"], "{listed}");
        assert_eq!(pair[1]["complete"], true);
    }
    assert!(told(&session, &["list", "backups"]).lines().count() == 6);
    assert_eq!(told(&session, &["prune", "backups", "--keep", "1"]), "", "all are needed");
    checkpoint(&session);
    told(&session, &["create", "store", "backups", "--no-keep"]);
    // Not tagged, and of no use when four newer ones have taken its place.
    (0..6).for_each(|_| checkpoint(&session));
    refused(&session, &["create", "store", "backups", "--since", "last"], 127, "make a full backup");
    let last = backups[3]["generation"].to_string();
    told(&session, &["create", "store", "backups", "--since", &last, "--keep-as", "mine"]);
    fs::write(session.place().join("backups/77-full.semper.partial"), b"half").unwrap();
    assert_eq!(json(&session, &["list", "backups", "--json"])["partial"].as_array().unwrap().len(), 1);
    let tags = fs::read_to_string(session.store().join("tags")).unwrap();
    assert!(tags.contains(" mine") && tags.contains(&format!("{last} backup-last")), "{tags}");
    // The newest is an increment of the fourth: the unkept full backup is not needed by it.
    let gone = told(&session, &["prune", "backups", "--keep", "1"]);
    assert_eq!(gone.lines().count(), 2, "{gone}");
    told(&session, &["verify", "backups"]);
    told(&session, &["restore", "backups", "elsewhere"]);
    let checked = session.output(semper().arg("check").arg(session.place().join("elsewhere")));
    assert!(checked.status.success(), "{checked:?}");
}

/// A store at rest with something in it.
pub fn at_rest(program: &Path, mib: &str) -> Session {
    let session = Session::new();
    let mut runtime = at_work(&session, program, &[mib, "100000000"]);
    let stopped = session.output(&mut session.on_store("stop"));
    assert!(stopped.status.success(), "{stopped:?}");
    runtime.wait();
    session
}

/// A way of spoiling a backup.
pub type Spoil<'a> = &'a dyn Fn(&mut Vec<u8>);

pub fn spoil(path: &Path, how: Spoil<'_>) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_cannot_be_a_backup_is_refused_and_leaves_nothing() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "4");
    refused(&session, &["create", "nowhere", "backups"], 121, "holds no store");
    assert!(!session.place().join("backups").exists(), "no directory for the backups of nothing");
    refused(&session, &["create", "store", "backups", "--since", "last"], 127, "no backup yet");
    refused(&session, &["create", "store", "-", "--since", "last"], 2, "--since GEN");
    refused(&session, &["create", "store", "backups", "--since", "4711"], 127, "generation 4711 is not kept");
    refused(&session, &["restore", "backups", "elsewhere"], 127, "any generation");
    refused(&session, &["list", "nowhere"], 121, "nowhere");
    told(&session, &["create", "store", "backups"]);
    let file: PathBuf = session.place().join("backups").join(&names(&session, "backups")[0]);
    let whole = fs::read(&file).unwrap();
    refused(&session, &["restore", "backups", "store"], 2, "is there already");
    refused(&session, &["restore", "backups", "elsewhere", "--at", "4711"], 127, "has no backup of generation 4711");
    let other = at_rest(&program, "4");
    let dir = session.place().join("backups");
    refused(&other, &["create", "store", dir.to_str().unwrap()], 2, "name another directory");
    let middle = whole.len() / 2;
    let cases: [(&str, Spoil); 5] = [
        ("is damaged: frame", &|bytes| bytes[middle] ^= 1),
        ("is cut off", &|bytes| bytes.truncate(middle)),
        ("is no backup of Semper", &|bytes| bytes[0] = 0),
        ("is no backup of Semper", &|bytes| bytes.extend(b"more")),
        ("has version 9", &|bytes| bytes[8] = 9),
    ];
    for (why, how) in cases {
        spoil(&file, how);
        let verified = session.output(&mut command(&session, &["verify", "backups"]));
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.code() == Some(1) && said.contains(why) && said.contains("DAMAGED"), "{why}: {said}");
        let path = file.to_str().unwrap();
        refused(&session, &["restore", path, "elsewhere"], 121, why);
        assert!(!session.place().join("elsewhere").exists());
        fs::write(&file, &whole).unwrap();
    }
    let beside: Vec<String> = names(&session, ".").into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(beside.is_empty(), "{beside:?}");
    told(&session, &["restore", "backups", "elsewhere"]);
}

#[test]
fn a_store_that_is_resumed_while_it_is_backed_up_at_rest_is_backed_up_all_the_same() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "48");
    // Slow enough that the generation is given up before it has been read, the first time.
    let mut slow = command(&session, &["create", "store", "backups", "--rate-limit", "5M"]);
    let mut slow = slow.stderr(File::create(session.place().join("told")).unwrap()).spawn().unwrap();
    while names(&session, ".").iter().all(|name| name != "backups") || names(&session, "backups").is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _runtime = resume(&session, &session.store(), &session.place().join("out"));
    let status = wait_for(&mut slow);
    let told = fs::read_to_string(session.place().join("told")).unwrap();
    assert!(status.success() && told.contains("again"), "{told}");
    assert_eq!(names(&session, "backups").len(), 1);
    assert_eq!(json(&session, &["verify", "backups", "--json"])["sound"], true);
}

#[test]
fn a_full_destination_is_told_and_leaves_nothing() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "4");
    let Some(disk) = SmallDisk::new(64, session.place()) else { return };
    let backups = disk.path.join("backups");
    let dir = backups.to_str().unwrap();
    told(&session, &["create", "store", dir]);
    let file = fs::read_dir(&backups).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::metadata(&file).unwrap().len();
    fs::copy(&file, session.place().join("kept.semper")).unwrap();
    fs::remove_file(&file).unwrap();
    disk.take("brim", None);
    refused(&session, &["create", "store", dir], 122, "No space left");
    assert_eq!(fs::read_dir(&backups).unwrap().count(), 0, "{bytes} bytes do not fit, and none are left");
    let target = disk.path.join("elsewhere");
    refused(&session, &["restore", "kept.semper", target.to_str().unwrap()], 122, "No space left");
    assert!(!target.exists());
    disk.give_back("brim");
    told(&session, &["create", "store", dir]);
    told(&session, &["restore", dir, target.to_str().unwrap()]);
}

#[test]
fn pruning_by_hours_and_days_keeps_what_it_says_and_what_that_needs() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let _runtime = at_work(&session, &program, &["4", "100000000"]);
    told(&session, &["create", "store", "backups"]);
    for since in [true, false, true] {
        checkpoint(&session);
        let words = ["create", "store", "backups", "--since", "last"];
        told(&session, if since { &words } else { &words[..3] });
    }
    let files = names(&session, "backups");
    assert_eq!(files.len(), 4);
    refused_by_words(&session, &["prune", "backups"], "--keep-last");
    refused_by_words(&session, &["prune", "backups", "--keep-daily", "0"], "0");
    // The newest and its full backup stay.
    let would = told(&session, &["prune", "backups", "--keep-monthly", "1", "--dry-run"]);
    assert_eq!(would.lines().filter(|line| line.ends_with("would be removed")).count(), 2, "{would}");
    assert_eq!(told(&session, &["prune", "backups", "--keep-last", "3", "--keep-hourly", "9"]), "");
    assert_eq!(names(&session, "backups"), files);
    let gone = told(&session, &["prune", "backups", "--keep-weekly", "1", "--keep-last", "1"]);
    assert_eq!(gone, would.replace("would be removed", "removed"));
    told(&session, &["verify", "backups"]);
    told(&session, &["restore", "backups", "elsewhere"]);
}

/// The command line is refused, and says this.
fn refused_by_words(session: &Session, words: &[&str], why: &str) {
    let output = session.output(&mut command(session, words));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains(why), "backup {words:?}: {said}");
}

#[test]
fn what_was_committed_by_a_time_is_restored() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let _runtime = at_work(&session, &program, &["4", "100000000"]);
    told(&session, &["create", "store", "backups"]);
    std::thread::sleep(Duration::from_millis(2100));
    checkpoint(&session);
    told(&session, &["create", "store", "backups", "--since", "last"]);
    let listed = json(&session, &["list", "backups", "--json"]);
    let (first, second) = (&listed["backups"][0], &listed["backups"][1]);
    let committed = first["committed_at"].as_u64().unwrap();
    let time = |seconds| humantime::format_rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    let said = told(&session, &["restore", "backups", "between", "--at", &time(committed + 1)]);
    assert!(said.contains(&format!("generation {} of", first["generation"])), "{said}");
    let said = told(&session, &["restore", "backups", "after", "--at", &time(committed + 1000)]);
    assert!(said.contains(&format!("generation {} of", second["generation"])), "{said}");
    refused(&session, &["restore", "backups", "before", "--at", &time(committed - 1)], 127, "committed by then");
    let file = first["file"].as_str().unwrap();
    refused(&session, &["restore", file, "before", "--at", &time(committed + 1)], 2, "--at GEN");
    refused_by_words(
        &session,
        &["restore", "backups", "before", "--at", "yesterday"],
        "neither a generation nor a time",
    );
    assert!(!session.place().join("before").exists());
}
