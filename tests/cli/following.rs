//! backup follow: what it ships, over interruptions of everything.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use semper_backup::{Base, Directory, destination};
use semper_store::Store;
use serde_json::Value;

use crate::backup::{
    at_rest, at_work, checkpoint, command, json, names, outcome_elsewhere, refused, resume, spoil, told,
};
use crate::full_disk::SmallDisk;
use crate::harness::{Background, Case, Libc, Session, TIMEOUT, c_program, seed, semper, sigkill};

/// Follows the store to `backups`; what it says goes to the end of `followed`.
fn follow(session: &Session, flags: &[&str]) -> Background {
    let said = File::options().append(true).create(true).open(session.place().join("followed")).unwrap();
    let mut command = command(session, &[&["follow", "store", "backups"], flags].concat());
    Background(command.stdout(Stdio::null()).stderr(said).spawn().unwrap())
}

fn said(session: &Session) -> String {
    fs::read_to_string(session.place().join("followed")).unwrap()
}

fn backups(session: &Session) -> Vec<Value> {
    json(session, &["list", "backups", "--json"])["backups"].as_array().unwrap().clone()
}

/// The newest generation of the store.
fn newest(session: &Session) -> u64 {
    Store::open_read_only(&session.store()).unwrap().generation().0
}

fn wait_until(session: &Session, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        let late = Instant::now() > deadline;
        assert!(!late, "waited in vain until {what}; {:?}\n{}", names(session, "."), said(session));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the newest generation has been shipped, and not another one of its number.
fn caught_up(session: &Session) {
    let shipped = || {
        let store = Store::open_read_only(&session.store()).unwrap();
        let newest = store.generations().first().map(Base::of);
        let found = Directory::open(&destination(&session.place().join("backups")).unwrap());
        found.is_ok_and(|found| found.backups.iter().any(|backup| Some(backup.label.generation) == newest))
    };
    wait_until(session, "the newest generation is shipped", shipped);
}

fn ends_cleanly(follower: &mut Background, signal: Signal) {
    follower.signal(signal);
    assert_eq!(follower.wait().code(), Some(0), "{signal}");
}

#[test]
fn every_generation_goes_on_elsewhere_over_kills_of_the_follower_and_of_the_runtime() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let mut random = fastrand::Rng::with_seed(seed());
    let native = Case::new(&program, &["4", "700"]).native();
    let session = Session::new();
    let mut run = session.run(&["--checkpoint-interval", "50ms"], &program, &["4", "700"]);
    let out = session.place().join("out");
    let mut runtime = Background(run.stdout(File::create(&out).unwrap()).spawn().unwrap());
    session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(50));
    let flags = ["--full-after", "4", "--compress", "zstd:1"];
    let mut follower = follow(&session, &flags);
    let ended = loop {
        std::thread::sleep(Duration::from_millis(random.u64(50..400)));
        if random.bool() {
            assert!(sigkill(&mut follower.0), "the follower ended by itself: {}", said(&session));
            if session.place().join("backups").exists() {
                assert_eq!(json(&session, &["verify", "backups", "--json"])["sound"], true);
            }
            follower = follow(&session, &flags);
        } else if !sigkill(&mut runtime.0) {
            break runtime.wait().code();
        } else {
            runtime = resume(&session, &session.store(), &out);
        }
    };
    assert_eq!(ended, Some(native.code));
    caught_up(&session);
    ends_cleanly(&mut follower, Signal::SIGTERM);
    assert_eq!(json(&session, &["verify", "backups", "--json"])["sound"], true);
    let made = backups(&session);
    let full = |backup: &Value| backup["since"].is_null();
    assert!(made.iter().any(full) && !made.iter().all(full), "{made:?}");
    // Not more than four in a row.
    let mut length = std::collections::HashMap::new();
    for backup in &made {
        let before = backup["since"].as_u64().map_or(0, |since| length[&since] + 1);
        assert!(before <= 4, "{made:?}");
        length.insert(backup["generation"].as_u64().unwrap(), before);
    }
    assert!(names(&session, "backups").iter().all(|name| name.ends_with(".semper")));
    for _ in 0..2 {
        let at = made[random.usize(..made.len())]["generation"].to_string();
        if session.place().join(format!("elsewhere-{at}")).exists() {
            continue;
        }
        let (output, code) = outcome_elsewhere(&session, "backups", &at);
        assert_eq!(code, Some(native.code), "generation {at}");
        assert!(native.stdout.ends_with(&output), "generation {at} does not go on as the original:\n{output}");
    }
    session.assert_sound();
}

#[test]
fn it_waits_for_a_runtime_and_goes_on_after_the_world_stopped_and_went_back() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "4");
    let key = told(&session, &["keygen", "key"]);
    let mut follower = follow(&session, &["--encrypt", key.trim()]);
    let resumed = |flags: &[&str]| {
        let out = File::options().append(true).create(true).open(session.place().join("out")).unwrap();
        let mut command = session.on_store("resume");
        let runtime = Background(command.args(["--checkpoint-interval", "0"]).args(flags).stdout(out).spawn().unwrap());
        session.wait_until("the runtime is there", |_| true);
        runtime
    };
    let shipped = |runtime: &mut Background, checkpoints: u32| {
        for _ in 0..checkpoints {
            checkpoint(&session);
            caught_up(&session);
        }
        let stopped = session.output(&mut session.on_store("stop"));
        assert!(stopped.status.success(), "{stopped:?}");
        runtime.wait();
        caught_up(&session);
    };
    caught_up(&session);
    let full = |made: &[Value]| made.iter().filter(|backup| backup["since"].is_null()).count();
    assert_eq!(full(&backups(&session)), 1, "at rest, and nothing runs");
    shipped(&mut resumed(&[]), 2);
    let made = backups(&session);
    assert!(made.len() >= 4, "{made:?}");
    // Back, under a new number: the chain goes on.
    let back = made[1]["generation"].to_string();
    let rewound = session.output(session.on_store("rewind").args(["--to", &back]));
    assert!(rewound.status.success(), "{rewound:?}");
    caught_up(&session);
    shipped(&mut resumed(&[]), 1);
    let why = said(&session);
    assert!(!why.contains("is kept in the store"), "{why}");
    assert_eq!(full(&backups(&session)), 1, "{why}");
    // Back, giving up what is newer.
    let kept = session.output(session.on_store("generations").arg("--json"));
    let kept: Value = serde_json::from_slice(&kept.stdout).unwrap();
    let old = kept["generations"][2]["generation"].to_string();
    shipped(&mut resumed(&["--generation", &old]), 1);
    assert!(!said(&session).contains("is kept in the store"), "{}", said(&session));
    // A copy of the store is put back in its place: its numbers come again.
    let copy = session.place().join("copy");
    assert!(Command::new("cp").arg("-a").arg(session.store()).arg(&copy).status().unwrap().success());
    shipped(&mut resumed(&[]), 2);
    fs::remove_dir_all(session.store()).unwrap();
    fs::rename(&copy, session.store()).unwrap();
    shipped(&mut resumed(&[]), 1);
    ends_cleanly(&mut follower, Signal::SIGINT);
    assert!(said(&session).contains("of a future that the world has left"), "{}", said(&session));
    assert!(names(&session, "backups").iter().any(|name| name.ends_with(".semper.left-1")));
    let made = backups(&session);
    assert_eq!(made.last().unwrap()["generation"], newest(&session), "{made:?}");
    assert_eq!(json(&session, &["verify", "backups", "--json", "--identity", "key"])["sound"], true);
    told(&session, &["restore", "backups", "elsewhere", "--identity", "key"]);
    let checked = session.output(semper().arg("check").arg(session.place().join("elsewhere")));
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn another_store_in_the_place_of_the_followed_one_ends_it_and_touches_nothing() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let (session, other) = (at_rest(&program, "4"), at_rest(&program, "4"));
    let mut follower = follow(&session, &[]);
    caught_up(&session);
    let before = names(&session, "backups");
    fs::rename(session.store(), session.place().join("away")).unwrap();
    fs::rename(other.store(), session.store()).unwrap();
    assert_eq!(follower.wait().code(), Some(2), "{}", said(&session));
    assert!(said(&session).contains("name another directory"), "{}", said(&session));
    assert_eq!(names(&session, "backups"), before);
}

#[test]
fn a_destination_that_goes_ends_it_and_is_not_made_anew() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "4");
    let (backups, away) = (session.place().join("backups"), session.place().join("away"));
    let mut follower = follow(&session, &[]);
    caught_up(&session);
    fs::rename(&backups, &away).unwrap();
    assert_eq!(follower.wait().code(), Some(121), "{}", said(&session));
    assert!(said(&session).contains("backups: No such file"), "{}", said(&session));
    assert!(!backups.exists());
    // As when it is unmounted: another directory is there then.
    fs::rename(&away, &backups).unwrap();
    let mut follower = follow(&session, &[]);
    // Once the first look is over: a partial file of somebody's goes then.
    fs::write(backups.join("9-full.semper.partial"), "").unwrap();
    wait_until(&session, "it has looked", || !backups.join("9-full.semper.partial").exists());
    fs::create_dir(session.place().join("other")).unwrap();
    nix::fcntl::renameat2(
        nix::fcntl::AT_FDCWD,
        &backups,
        nix::fcntl::AT_FDCWD,
        &session.place().join("other"),
        nix::fcntl::RenameFlags::RENAME_EXCHANGE,
    )
    .unwrap();
    assert_eq!(follower.wait().code(), Some(121), "{}", said(&session));
    assert!(said(&session).contains("is not the directory any more"), "{}", said(&session));
    assert!(names(&session, "backups").is_empty());
}

#[test]
fn nothing_is_built_upon_a_chain_of_which_a_backup_is_cut() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let _runtime = at_work(&session, &program, &["4", "100000000"]);
    let create: &[&str] = &["create", "store", "made", "--since", "last"];
    told(&session, &create[..3]);
    checkpoint(&session);
    told(&session, create);
    let mut follower = follow(&session, &[]);
    caught_up(&session);
    checkpoint(&session);
    caught_up(&session);
    ends_cleanly(&mut follower, Signal::SIGTERM);
    let cut = |dir: &str| {
        let full = names(&session, dir).into_iter().find(|name| name.ends_with("-full.semper")).unwrap();
        spoil(&session.place().join(dir).join(full), &|bytes| bytes.truncate(bytes.len() - 100));
    };
    let fulls = |dir: &str| names(&session, dir).iter().filter(|name| name.ends_with("-full.semper")).count();
    let restores = |dir: &str| {
        let elsewhere = format!("of-{dir}-{}", names(&session, dir).len());
        told(&session, &["restore", dir, &elsewhere]);
        let checked = session.output(semper().arg("check").arg(session.place().join(elsewhere)));
        assert!(checked.status.success(), "{checked:?}");
    };
    cut("backups");
    cut("made");
    // The newest generation is there, and cannot be restored.
    let mut follower = follow(&session, &[]);
    wait_until(&session, "a full backup is made", || fulls("backups") == 2);
    checkpoint(&session);
    caught_up(&session);
    assert!(said(&session).contains("it is cut off"), "{}", said(&session));
    assert_eq!((fulls("backups"), names(&session, "backups").len()), (2, 4));
    // It is noticed by who is at it, too.
    let number = |name: &String| name.split('-').next().unwrap().parse::<u64>().unwrap();
    let last = names(&session, "backups").into_iter().max_by_key(number).unwrap();
    spoil(&session.place().join("backups").join(last), &|bytes| bytes.truncate(bytes.len() - 1));
    checkpoint(&session);
    wait_until(&session, "another full backup is made", || fulls("backups") == 3);
    ends_cleanly(&mut follower, Signal::SIGTERM);
    restores("backups");
    let output = session.output(&mut command(&session, create));
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && why.contains("it is cut off") && why.contains("a full backup"), "{output:?}");
    assert_eq!((fulls("made"), names(&session, "made").len()), (2, 3));
    checkpoint(&session);
    told(&session, create);
    assert_eq!((fulls("made"), names(&session, "made").len()), (2, 4));
    restores("made");
    // All there is is cut.
    told(&session, &["create", "store", "one"]);
    cut("one");
    checkpoint(&session);
    told(&session, &["create", "store", "one", "--since", "last"]);
    assert_eq!((fulls("one"), names(&session, "one").len()), (2, 2));
    restores("one");
}

#[test]
fn interrupted_in_the_middle_it_leaves_nothing_that_counts() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "8");
    let dir = session.place().join("backups");
    let begun = || dir.exists() && !names(&session, "backups").is_empty();
    refused(&session, &["follow", "nowhere", "backups"], 121, "holds no store");
    refused(&session, &["follow", "store", "world.semper"], 2, "is no directory");
    let mut slow = follow(&session, &["--rate-limit", "1M"]);
    wait_until(&session, "it writes", begun);
    ends_cleanly(&mut slow, Signal::SIGTERM);
    assert!(names(&session, "backups").is_empty());
    let mut slow = follow(&session, &["--rate-limit", "1M"]);
    wait_until(&session, "it writes", begun);
    assert!(sigkill(&mut slow.0));
    assert!(backups(&session).is_empty() && names(&session, "backups").len() == 1);
    // Who else is at work there is waited for.
    let lock = File::open(&dir).unwrap();
    lock.lock().unwrap();
    let mut follower = follow(&session, &[]);
    wait_until(&session, "it waits", || said(&session).contains("at work in"));
    assert!(backups(&session).is_empty());
    let mut prune = session.background(&mut command(&session, &["prune", "backups", "--keep", "1"]));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(prune.0.try_wait().unwrap(), None, "it waits");
    drop(lock);
    assert_eq!(prune.wait().code(), Some(0));
    caught_up(&session);
    ends_cleanly(&mut follower, Signal::SIGTERM);
    let whole = names(&session, "backups");
    assert!(whole.len() == 1 && whole[0].ends_with("-full.semper"), "{whole:?}");
    assert_eq!(json(&session, &["verify", "backups", "--json"])["sound"], true);
    // A store of another identity does not come into the same directory.
    let other = at_rest(&program, "4");
    refused(&other, &["follow", "store", dir.to_str().unwrap()], 2, "name another directory");
}

#[test]
fn a_full_destination_ends_it_and_it_goes_on_when_there_is_room() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "4");
    let Some(disk) = SmallDisk::new(64, session.place()) else { return };
    let backups = disk.path.join("backups");
    disk.take("brim", None);
    refused(&session, &["follow", "store", backups.to_str().unwrap()], 122, "No space left");
    let left = fs::read_dir(&backups).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no part of a backup");
    disk.give_back("brim");
    let mut follower = Background(command(&session, &["follow", "store", backups.to_str().unwrap()]).spawn().unwrap());
    wait_until(&session, "it has shipped", || {
        Directory::open(&destination(&backups).unwrap()).is_ok_and(|found| found.newest().is_some())
    });
    ends_cleanly(&mut follower, Signal::SIGTERM);
    told(&session, &["verify", backups.to_str().unwrap()]);
}
