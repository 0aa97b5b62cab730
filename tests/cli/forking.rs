//! Forks that share their pages: by the file system, or as a loan from the old store.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use semper_store::CRASH_VARIABLE;
use serde_json::Value;

use crate::device::Loop;
use crate::harness::{Background, Case, Libc, Rng, Session, TIMEOUT, c_program, needs, seed, semper, wait_for};
use crate::travel::{ask, finish, refused, told};

/// A program that works for some seconds on so many MiB, all of which it has written.
fn at_work(session: &Session, program: &Path, args: &[&str; 2], out: &Path) -> Background {
    let mut command = session.run(&["--checkpoint-interval", "100ms"], program, args);
    let runtime = Background(command.stdout(File::create(out).unwrap()).spawn().unwrap());
    session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(300));
    told(session, "checkpoint", &[]);
    runtime
}

fn resume(session: &Session, store: &Path, out: &Path) -> Background {
    let file = File::options().append(true).create(true).open(out).unwrap();
    let mut command = semper();
    Background(command.arg("resume").arg(store).current_dir(session.place()).stdout(file).spawn().unwrap())
}

fn loan(session: &Session, store: &Path) -> Value {
    let output = session.output(semper().arg("status").arg(store).arg("--json"));
    serde_json::from_slice::<Value>(&output.stdout).map_or(Value::Null, |status| status["loan"].clone())
}

fn tags(session: &Session) -> String {
    told(session, "generations", &["--json"])
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + TIMEOUT;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn assert_sound(session: &Session, store: &Path) {
    let check = session.output(semper().arg("check").arg(store));
    assert!(check.status.success(), "{check:?}");
}

/// What the fork wrote is the end of what the program writes.
fn assert_ends(native: &str, out: &Path) {
    let shown = fs::read_to_string(out).unwrap();
    assert!(shown.len() > 100 && native.ends_with(&shown), "the fork wrote something else: {shown}");
}

#[test]
fn a_fork_borrows_its_pages_and_pays_them_back_over_any_number_of_kills() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let args = ["48", "2000"];
    let native = Case::new(program.clone(), &args).native();
    let session = Session::new();
    let (out, rest) = (session.place().join("out"), session.place().join("rest"));
    let mut runtime = at_work(&session, &program, &args, &out);
    let other = session.place().join("other");
    let forked = ask(&session, "fork", &["other"]);
    let said = String::from_utf8_lossy(&forked.stderr).into_owned();
    assert!(forked.status.success(), "{said}");
    if !other.join("loan").exists() {
        needs::refused("a file system whose files cannot share blocks");
        return;
    }
    assert!(said.contains("has its pages from") && said.contains("by the tag fork-"), "{said}");
    assert!(tags(&session).contains("\"fork-"));
    assert_eq!(loan(&session, &other)["copied"], Value::Null);
    // It takes no room before it is resumed, and is whole all the same.
    assert!(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(other.join("pages")).unwrap()) < 1024);
    assert_sound(&session, &other);
    let mut random = Rng::with_seed(seed());
    let lost = session.place().join("lost");
    for point in ["loan-copied", "loan-flushed", "loan-repaid"] {
        let mut command = semper();
        // Without a checkpoint the program comes no further meanwhile.
        command.arg("resume").arg(&other).args(["--checkpoint-interval", "0"]).env(CRASH_VARIABLE, point);
        let out = File::options().append(true).create(true).open(&lost).unwrap();
        let mut killed = Background(command.current_dir(session.place()).stdout(out).spawn().unwrap());
        assert_eq!(killed.wait().code(), None, "{point}");
        let mut killed = resume(&session, &other, &lost);
        std::thread::sleep(Duration::from_millis(random.u64(0..700)));
        let _ = killed.0.kill();
        killed.wait();
        assert_sound(&session, &other);
    }
    let mut going = resume(&session, &other, &rest);
    wait_until("the loan is paid back", || !other.join("loan").exists());
    assert!(!tags(&session).contains("\"fork-"), "the old store keeps nothing any more");
    told(&session, "stop", &[]);
    assert_eq!(runtime.wait().code(), Some(124));
    fs::rename(session.store(), session.place().join("gone")).unwrap();
    assert_eq!(going.wait().code(), Some(native.code));
    assert_ends(&native.stdout, &rest);
    assert_sound(&session, &other);
    fs::rename(session.place().join("gone"), session.store()).unwrap();
    assert_eq!(finish(&session, &session.store(), &out), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
}

#[test]
fn a_fork_says_what_it_misses_and_a_copy_misses_nothing() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let args = ["8", "500"];
    let native = Case::new(program.clone(), &args).native();
    let session = Session::new();
    let mut runtime = at_work(&session, &program, &args, &session.place().join("out"));
    told(&session, "stop", &[]);
    assert_eq!(runtime.wait().code(), Some(124));
    told(&session, "fork", &["lent"]);
    told(&session, "fork", &["copied", "--copy"]);
    let (lent, copied) = (session.place().join("lent"), session.place().join("copied"));
    assert!(!copied.join("loan").exists());
    if !lent.join("loan").exists() {
        needs::refused("a file system whose files cannot share blocks");
        return;
    }
    // A backup and a fork of the fork have what it has.
    let backup = session.output(semper().args(["backup", "create", "lent", "backups"]).current_dir(session.place()));
    assert!(backup.status.success(), "{backup:?}");
    let twice = session.output(semper().args(["fork", "lent", "twice"]).current_dir(session.place()));
    assert!(twice.status.success(), "{twice:?}");
    assert_sound(&session, &session.place().join("twice"));

    fs::rename(session.store(), session.place().join("aside")).unwrap();
    for command in ["resume", "check"] {
        let output = session.output(semper().arg(command).arg(&lent));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(121), "{said}");
        assert!(said.contains("still lie in the store that it was forked from"), "{said}");
    }
    let rest = |name: &str| session.place().join(format!("rest-{name}"));
    assert_eq!(finish(&session, &copied, &rest("copied")), Some(native.code));
    assert_ends(&native.stdout, &rest("copied"));
    let restored = session.output(semper().args(["backup", "restore", "backups", "back"]).current_dir(session.place()));
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(finish(&session, &session.place().join("back"), &rest("back")), Some(native.code));
    assert_ends(&native.stdout, &rest("back"));
    // It lies elsewhere now: what lies there is looked at before it is believed, and nothing is changed until then.
    let lender = |args: &[&str]| session.output(semper().arg("lender").args(args).current_dir(session.place()));
    let noted = fs::read(lent.join("loan")).unwrap();
    for (dir, code, why) in [("copied", 121, "another store lies there"), ("nowhere", 125, "nowhere")] {
        let refused = lender(&["lent", dir]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(code) && said.contains(why), "{said}");
    }
    let own = lender(&["copied", "aside"]);
    assert!(own.status.code() == Some(2) && String::from_utf8_lossy(&own.stderr).contains("are its own"), "{own:?}");
    assert_eq!(fs::read(lent.join("loan")).unwrap(), noted);
    let shown = String::from_utf8_lossy(&lender(&["lent"]).stdout).into_owned();
    assert!(shown.contains("has pages from") && shown.contains("by the tag fork-"), "{shown}");
    let found = lender(&["lent", "aside"]);
    assert!(
        found.status.success() && String::from_utf8_lossy(&found.stdout).contains("/aside, the store"),
        "{found:?}"
    );
    assert_sound(&session, &lent);
    // And back again.
    fs::rename(session.place().join("aside"), session.store()).unwrap();
    let shown: Value = serde_json::from_slice(&lender(&["lent", "--json"]).stdout).unwrap();
    assert!(shown["dir"].as_str().unwrap().ends_with("/aside"), "{shown}");
    let back = lender(&["lent", session.store().to_str().unwrap()]);
    assert!(back.status.success(), "{back:?}");
    assert_eq!(finish(&session, &session.place().join("twice"), &rest("twice")), Some(native.code));
    assert_eq!(finish(&session, &lent, &rest("lent")), Some(native.code));
    assert_ends(&native.stdout, &rest("lent"));
}

/// A file system whose files can share blocks, in a file; unmounted at the end.
struct Sharing {
    at: PathBuf,
    _device: Loop,
}

impl Sharing {
    fn new(session: &Session) -> Option<Self> {
        if !needs::programs(&["mkfs.xfs", "mount", "umount"]) {
            return None;
        }
        let backing = session.file("disk", "");
        File::options().write(true).open(&backing).unwrap().set_len(4 << 30).unwrap();
        let device = Loop::over(&backing)?;
        let at = session.place().join("xfs");
        fs::create_dir(&at).unwrap();
        let made = Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&device.0).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let mounted = Command::new("mount").args(["-t", "xfs"]).arg(&device.0).arg(&at).output().unwrap();
        if !mounted.status.success() {
            needs::refused(&format!("a file system to mount: {}", String::from_utf8_lossy(&mounted.stderr).trim_end()));
            return None;
        }
        Some(Self { at, _device: device })
    }

    fn used(&self) -> u64 {
        let told = nix::sys::statvfs::statvfs(&self.at).unwrap();
        (told.blocks() - told.blocks_free()) * told.fragment_size()
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[test]
fn where_the_file_system_can_a_fork_shares_what_neither_changes() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let args = ["64", "1500"];
    let native = Case::new(program.clone(), &args).native();
    let session = Session::new();
    let Some(disk) = Sharing::new(&session) else { return };
    let store = disk.at.join("world");
    let on = |words: &[&str]| session.output(semper().args(words).current_dir(&disk.at));
    let mut command = semper();
    command.args(["run", "world", "--checkpoint-interval", "0", "--"]).arg(&program).args(args);
    let out = File::create(session.place().join("out")).unwrap();
    let mut runtime = Background(command.current_dir(&disk.at).stdout(out).spawn().unwrap());
    wait_until("the program works", || {
        let output = on(&["status", "world", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout)
            .is_ok_and(|status| status["domains"][0]["cpu_ms"].as_u64() > Some(500))
    });
    let checkpoint = on(&["checkpoint", "world"]);
    assert!(checkpoint.status.success(), "{checkpoint:?}");
    let before = disk.used();
    let forked = on(&["fork", "world", "other"]);
    assert!(forked.status.success(), "{forked:?}");
    let other = disk.at.join("other");
    assert!(!other.join("loan").exists(), "it needs nobody");
    assert!(disk.used() < before + (32 << 20), "{} bytes more", disk.used().saturating_sub(before));
    // Both go on by themselves, with nothing of each other.
    assert!(on(&["stop", "world"]).status.success());
    assert_eq!(runtime.wait().code(), Some(124));
    let rest = session.place().join("rest");
    let mut going = resume(&session, &other, &rest);
    let again = File::options().append(true).open(session.place().join("out")).unwrap();
    let mut command = semper();
    let mut first = command.arg("resume").arg(&store).stdout(again).spawn().unwrap();
    assert_eq!(going.wait().code(), Some(native.code));
    assert_eq!(wait_for(&mut first).code(), Some(native.code));
    assert_ends(&native.stdout, &rest);
    assert_eq!(fs::read_to_string(session.place().join("out")).unwrap(), native.stdout);
    assert_sound(&session, &other);
    assert_sound(&session, &store);
    // A fork of the fork, and again; in the end one that has to be copied.
    for n in 0..6 {
        let (from, to) = (if n == 0 { "other".to_owned() } else { format!("f{}", n - 1) }, format!("f{n}"));
        assert!(on(&["fork", &from, &to]).status.success());
        assert_sound(&session, &disk.at.join(to));
    }
    let refused = on(&["fork", "world", "other"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn a_fork_that_is_killed_leaves_nothing_but_perhaps_a_tag() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let mut runtime = at_work(&session, &program, &["4", "100000000"], &session.place().join("out"));
    for point in ["fork-noted", "fork-made"] {
        let killed = session.output(session.on_store("fork").arg("other").env(CRASH_VARIABLE, point));
        assert_eq!(killed.status.code(), None, "{point}: {killed:?}");
        assert!(!session.place().join("other").exists(), "{point}");
    }
    told(&session, "fork", &["other"]);
    assert_sound(&session, &session.place().join("other"));
    refused(&session, "fork", &["other"], 2, "is there already");
    refused(&session, "fork", &["store/within"], 2, "lies within the store");
    told(&session, "stop", &[]);
    runtime.wait();
    // The way to the old store may go.
    let way = session.place().join("way");
    fs::create_dir(&way).unwrap();
    let forked = session.output(semper().args(["fork", "../store", "../by-the-way"]).current_dir(&way));
    assert!(forked.status.success(), "{forked:?}");
    fs::remove_dir(&way).unwrap();
    assert_sound(&session, &session.place().join("by-the-way"));
    // What tags keep, a fork's among them, is not given up unasked.
    let refused = session.output(session.on_store("resume").args(["--generation", "1"]));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    if session.place().join("by-the-way/loan").exists() {
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("from some: fork-") && said.contains("semper rewind"), "{said}");
    }
}
