//! Each call to the disk in turn fails, in each way; what was announced stands, and the store goes on after reopening.

use crate::model::{World, compare, step};
use semper_store::sim::{Failure, SimDisk, SimRng};
use semper_store::{CreateOptions, Error, OpenOptions, Store};
use std::sync::Arc;

const SEED: u64 = 42;
const COMMITS: u64 = 10;
/// Each so many a commit with one flush.
const WITH_ONE_FLUSH: u64 = 3;

/// With the walk in the first commit each run is the same; with the walk in a thread, as the runtime has it, calls of the two come in any order.
fn options(walk_in_commit: bool) -> OpenOptions {
    OpenOptions { walk_in_commit, ..OpenOptions::default() }
}

fn fresh() -> Arc<SimDisk> {
    let disk = SimDisk::new();
    Store::create_on(disk.clone(), &CreateOptions { size_bytes: 3 << 20, ..CreateOptions::default() }).unwrap();
    disk
}

/// The script: opens, and commits some generations; says what each held, up to the failure.
fn script(disk: &Arc<SimDisk>, worlds: &mut Vec<World>, walk_in_commit: bool) -> Result<(), Error> {
    let store = Store::open_on(disk.clone(), &options(walk_in_commit))?;
    let mut rng = SimRng::new(SEED);
    let mut world = worlds[0].clone();
    for round in 0..COMMITS {
        let mut commit = store.begin()?;
        if round % WITH_ONE_FLUSH == 1 {
            commit.set_one_flush();
        }
        for _ in 0..5 {
            step(&mut world, &mut commit, &mut rng)?;
        }
        worlds.push(world.clone());
        // What is pushed last is in doubt until this returns.
        if let Err(e) = commit.commit() {
            refused(disk, &store, &e);
            // Reading still works on what stands, where the disk does.
            let read = compare(&store, store.generation(), &worlds[worlds.len() - 2]);
            assert!(matches!(read, Ok(None) | Err(Error::Io { .. })), "{read:?}");
            return Err(e);
        }
    }
    Ok(())
}

/// A commit has failed with `e`. After any flush that failed, for whatever reason, and any write that failed for another reason than want of
/// space, no later commit pretends; want of space while pages were written has harmed nothing.
fn refused(disk: &SimDisk, store: &Store, e: &Error) {
    let next = store.begin().map(|_| ());
    let (flush, write) = (disk.failed_flushes() > 0, disk.failed_writes() > 0);
    match e {
        Error::Io { .. } | Error::Full { .. } if flush || write && matches!(e, Error::Io { .. }) => {
            assert!(store.poisoned().is_some() && matches!(next, Err(Error::Poisoned { .. })), "{e}, then {next:?}");
        }
        Error::Full { .. } => assert!(store.poisoned().is_none() && next.is_ok(), "{e}, then {next:?}"),
        // A read that failed.
        Error::Io { .. } => {}
        other => panic!("{other}"),
    }
}

#[test]
fn whichever_call_fails_what_was_announced_stands() {
    let disk = fresh();
    let before = disk.calls();
    let mut worlds = vec![World::default()];
    script(&disk, &mut worlds, true).unwrap();
    let calls = disk.calls() - before;
    assert!(calls > 30, "the script does enough to be worth it: {calls} calls");
    for failure in [Failure::PowerLoss, Failure::Eio, Failure::Enospc] {
        for walk_in_commit in [true, false] {
            let failed: u64 = (0..calls).map(|at| one_failure(failure, at, &worlds, walk_in_commit)).sum();
            // Two in each commit but those, and one when it is opened.
            let flushes = 2 * COMMITS - COMMITS / WITH_ONE_FLUSH + 1;
            assert!(failed >= flushes, "{failure:?}: {failed} flushes failed, but there are {flushes}");
        }
    }
}

/// Gives how many flushes failed.
fn one_failure(failure: Failure, at: u64, all: &[World], walk_in_commit: bool) -> u64 {
    let disk = fresh();
    disk.fail_at(disk.calls() + at, failure);
    let mut worlds = vec![World::default()];
    let result = script(&disk, &mut worlds, walk_in_commit);
    let what = format!("{failure:?} at call {at}, walk in commit: {walk_in_commit}: {result:?}");
    let failed = disk.failed_flushes();
    disk.power_cycle(&mut SimRng::new(at));
    let store = Store::open_on(disk.clone(), &options(walk_in_commit)).unwrap_or_else(|e| panic!("{what}: {e}"));
    let stands = usize::try_from(store.generation().0).unwrap();
    let last = worlds.len() - 1;
    assert!(stands == last || result.is_err() && stands + 1 == last, "{what}: {stands} stands of {last}");
    assert_eq!(worlds[stands], all[stands], "the script is the same each time");
    let compared = compare(&store, store.generation(), &worlds[stands]);
    assert!(matches!(compared, Ok(None)), "{what}: {compared:?}");
    let report = store.check(&mut |_| ());
    assert!(report.is_sound() && report.free_map_holds == Some(true), "{what}: {report:?}");
    let mut commit = store.begin().unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut world = worlds[stands].clone();
    step(&mut world, &mut commit, &mut SimRng::new(1)).unwrap();
    let made = commit.commit().unwrap().generation;
    assert!(matches!(compare(&store, made, &world), Ok(None)), "{what}: the next commit");
    failed
}
