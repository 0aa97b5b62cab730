//! shrink: a store gets smaller, running or at rest, and dies on the way.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use semper_store::{
    CRASH_VARIABLE, Change, MAX_SEGMENTS, OpenOptions, PAGE_SIZE, PageIndex, SHRINK_CRASH_POINTS, SegmentId, Store,
};

use crate::harness::{Background, Rng, seed, semper, sigkill};
use crate::mirrors::{Work, said, states};
use crate::travel::{refused, told};

const MIB: u64 = 1 << 20;
/// The size from which stores are made smaller, in bytes.
const BEFORE: u64 = 2 << 30;
/// Places that are taken before what the world has.
const AHEAD: u64 = 120 * MIB / PAGE_SIZE as u64;

fn length(dir: &Path) -> u64 {
    fs::metadata(dir.join("pages")).unwrap().len()
}

/// Puts all that a store at rest holds behind its first 120 MiB, which are free then.
fn move_far(dir: &Path) {
    let store = Store::open(dir, &OpenOptions::default()).unwrap();
    let ballast = SegmentId(MAX_SEGMENTS - 1);
    let piece = vec![0x5a; 256 * PAGE_SIZE];
    let mut commit = store.begin().unwrap();
    (0..AHEAD).step_by(256).for_each(|first| commit.put(ballast, PageIndex(first), &piece).unwrap());
    commit.commit().unwrap();
    // What older generations had is free by then, and is taken too.
    for _ in 0..6 {
        store.begin().unwrap().commit().unwrap();
    }
    let mut commit = store.begin().unwrap();
    (AHEAD..2 * AHEAD).step_by(256).for_each(|first| commit.put(ballast, PageIndex(first), &piece).unwrap());
    let with = commit.commit().unwrap().generation;
    let mut commit = store.begin().unwrap();
    store
        .changes(None, with, &mut |change| {
            match change {
                Change::Pages { segment, first, data } if segment != ballast => {
                    commit.put(segment, first, data).unwrap()
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    commit.commit().unwrap();
    let mut commit = store.begin().unwrap();
    commit.remove_segment(ballast).unwrap();
    commit.commit().unwrap();
    assert!(store.check(&mut |_| ()).is_sound());
}

/// A world that has been at work, at rest, with all that it holds far behind.
fn far() -> Option<Work> {
    let work = Work::new()?;
    let runtime = work.start();
    work.stop(&work.session.store(), runtime);
    move_far(&work.session.store());
    assert_eq!(length(&work.session.store()), BEFORE);
    Some(work)
}

/// `semper resume` that dies at this place.
fn resume_to_die(work: &Work, point: &str) -> Background {
    // The harness names what is inherited.
    let file =
        |name: &str| fs::File::options().append(true).create(true).open(work.session.place().join(name)).unwrap();
    let mut command = semper();
    command.arg("resume").arg(work.session.store()).args(["--checkpoint-interval", "50ms"]).env(CRASH_VARIABLE, point);
    let command = command.current_dir(work.session.place()).stdin(std::process::Stdio::null());
    let runtime = Background(command.stdout(file("out")).stderr(file("err")).spawn().unwrap());
    work.wait(&work.session.store(), "it runs", |status| status["live"] == true);
    runtime
}

#[test]
fn a_store_at_rest_shrinks_whatever_it_dies_of_and_its_program_goes_on() {
    let Some(work) = far() else { return };
    let store = work.session.store();
    let mut arms: Vec<String> = SHRINK_CRASH_POINTS.iter().map(|point| (*point).to_owned()).collect();
    arms.extend(["shrink-moved:2", "root-written:3", "data-flushed:2"].map(str::to_owned));
    // What has moved stays so: the ends come last.
    arms.sort_by_key(|arm| {
        ["shrink-emptied", "shrink-rooted", "shrink-cut"].iter().position(|last| last == arm).map_or(0, |at| at + 1)
    });
    for arm in &arms {
        let killed = work.session.output(work.session.on_store("shrink").arg("100M").env(CRASH_VARIABLE, arm));
        assert_eq!(killed.status.code(), None, "at {arm}: is it a place still? {}", said(&killed));
        assert_eq!(length(&store), if arm == "shrink-cut" { 100 * MIB } else { BEFORE }, "at {arm}");
        work.session.assert_sound();
    }
    told(&work.session, "shrink", &["100M"]);
    told(&work.session, "shrink", &["80M"]);
    assert_eq!(
        (length(&store), work.status(&store)["store"]["total_pages"].as_u64()),
        (80 * MIB, Some(80 * MIB / 4096))
    );
    work.session.assert_sound();
    work.stop(&store, work.resume(&store));
    told(&work.session, "grow", &["1G"]);
    work.stop(&store, work.resume(&store));
    work.session.assert_sound();
    work.assert_like_native();
}

#[test]
fn a_store_shrinks_while_its_program_works_and_its_runtime_dies() {
    let Some(work) = far() else { return };
    let store = work.session.store();
    for point in SHRINK_CRASH_POINTS {
        let mut runtime = resume_to_die(&work, point);
        let shrink = work.session.output(work.session.on_store("shrink").arg("100M"));
        assert!(shrink.status.code() == Some(123), "at {point}: is it a place still? {}", said(&shrink));
        runtime.wait();
        assert_eq!(length(&store), if *point == "shrink-cut" { 100 * MIB } else { BEFORE }, "at {point}");
        work.session.assert_sound();
    }
    work.stop(&store, work.resume(&store));
    move_far_again(&work);
    // At any instant.
    let mut random = Rng::with_seed(seed());
    for _ in 0..6 {
        let mut runtime = work.resume(&store);
        let mut shrink = work.session.background(work.session.on_store("shrink").arg("100M"));
        std::thread::sleep(std::time::Duration::from_millis(random.u64(..150)));
        sigkill(&mut runtime.0);
        shrink.wait();
        work.session.assert_sound();
    }
    let runtime = work.resume(&store);
    told(&work.session, "shrink", &["100M"]);
    assert_eq!(length(&store), 100 * MIB);
    work.longer(&store, 5);
    assert_eq!(work.status(&store)["checkpoints"]["totals"]["failed"], 0);
    assert!(work.status(&store)["store"]["shrinking"].is_null());
    work.stop(&store, runtime);
    work.session.assert_sound();
    work.assert_like_native();
}

/// The same again with a store that was made smaller.
fn move_far_again(work: &Work) {
    told(&work.session, "grow", &["2G"]);
    move_far(&work.session.store());
}

#[test]
fn what_a_smaller_store_has_no_room_for_is_refused_with_numbers() {
    let Some(work) = far() else { return };
    let session = &work.session;
    let store = session.store();
    for live in [false, true] {
        let runtime = live.then(|| work.resume(&store));
        refused(session, "shrink", &["1M"], 122, "the smallest store");
        refused(session, "shrink", &["3G"], 2, "semper grow does");
        refused(session, "shrink", &["16M"], 122, "M would do");
        assert_eq!(length(&store), BEFORE);
        // What it says would do does.
        let output = session.output(session.on_store("shrink").arg("16M"));
        let words = said(&output);
        assert_eq!(words.contains(" in memory, where"), live, "{words}");
        let least: u64 = words.split("M would do").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(least > 16 && least < 100, "{words}");
        if let Some(runtime) = runtime {
            told(session, "checkpoint", &[]);
            // More is in memory by now, perhaps.
            told(session, "shrink", &[&format!("{}M", least + 30)]);
            work.stop(&store, runtime);
        }
    }
    // What a tag keeps there.
    move_far_again(&work);
    let tagged = told(session, "tag", &["far"]);
    refused(session, "shrink", &["100M"], 2, &format!("generation {tagged} (tag `far`)"));
    let runtime = work.resume(&store);
    refused(session, "shrink", &["100M"], 2, "semper tag STORE NAME --delete");
    told(session, "tag", &["far", "--delete"]);
    told(session, "shrink", &["100M"]);
    assert_eq!(length(&store), 100 * MIB);
    work.stop(&store, runtime);
    session.assert_sound();
    work.assert_like_native();
    let nowhere = session.output(semper().arg("shrink").arg(session.place().join("none")).arg("1G"));
    assert_eq!(nowhere.status.code(), Some(121), "{}", said(&nowhere));
}

#[test]
fn all_sides_of_a_mirrored_store_shrink_and_one_that_was_away_follows() {
    let Some(work) = Work::new() else { return };
    let store = work.session.store();
    let runtime = work.start();
    work.add();
    told(&work.session, "shrink", &["200M"]);
    assert_eq!((length(&store), length(&work.mirror())), (200 * MIB, 200 * MIB));
    let pulled = work.session.place().join("pulled");
    fs::rename(work.mirror(), &pulled).unwrap();
    work.wait(&store, "it is missed", |status| states(status) == ["whole", "away"]);
    told(&work.session, "shrink", &["100M"]);
    assert_eq!((length(&store), length(&pulled)), (100 * MIB, 200 * MIB));
    fs::rename(&pulled, work.mirror()).unwrap();
    work.wait(&store, "it is up to date", |status| states(status) == ["whole", "whole"]);
    work.longer(&store, 3);
    work.stop(&store, runtime);
    assert_eq!(length(&work.mirror()), 100 * MIB);
    work.session.assert_sound();
    let checked = work.session.output(semper().arg("check").arg(work.mirror()));
    assert!(checked.status.success(), "{}", said(&checked));
    fs::remove_dir_all(&store).unwrap();
    work.stop(&work.mirror(), work.resume(&work.mirror()));
    work.assert_like_native();
}
