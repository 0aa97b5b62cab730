//! Each call to the disk in turn fails, in each way; what was announced stands, and the store goes on after reopening.

use crate::model::{World, compare, step};
use semper_store::sim::{Failure, SimDisk, SimRng};
use semper_store::{CreateOptions, Error, OpenOptions, Store};
use std::sync::Arc;

const SEED: u64 = 42;
const COMMITS: u64 = 10;

fn options() -> OpenOptions {
    OpenOptions { walk_in_commit: true, ..OpenOptions::default() }
}

fn fresh() -> Arc<SimDisk> {
    let disk = SimDisk::new();
    Store::create_on(disk.clone(), &CreateOptions { size_bytes: 3 << 20, ..CreateOptions::default() }).unwrap();
    disk
}

/// The script: opens, and commits some generations; says what each held, up to the failure.
fn script(disk: &Arc<SimDisk>, worlds: &mut Vec<World>) -> Result<(), Error> {
    let store = Store::open_on(disk.clone(), &options())?;
    let mut rng = SimRng::new(SEED);
    let mut world = worlds[0].clone();
    for _ in 0..COMMITS {
        let mut commit = store.begin()?;
        for _ in 0..5 {
            step(&mut world, &mut commit, &mut rng)?;
        }
        worlds.push(world.clone());
        // What is pushed last is in doubt until this returns.
        match commit.commit() {
            Ok(_) => {}
            Err(e) => {
                let poisoned = store.begin().is_err();
                assert!(poisoned || matches!(e, Error::Full { .. } | Error::Io { .. }), "{e}");
                if poisoned {
                    let next = store.begin().map(|_| ()).unwrap_err();
                    assert!(matches!(next, Error::Poisoned { .. } | Error::Io { .. }), "{next}");
                    // Reading still works on what stands, where the disk does.
                    let read = compare(&store, store.generation(), &worlds[worlds.len() - 2]);
                    assert!(matches!(read, Ok(None) | Err(Error::Io { .. })), "{read:?}");
                }
                return Err(e);
            }
        }
    }
    Ok(())
}

#[test]
fn whichever_call_fails_what_was_announced_stands() {
    let disk = fresh();
    let before = disk.calls();
    let mut worlds = vec![World::default()];
    script(&disk, &mut worlds).unwrap();
    let calls = disk.calls() - before;
    assert!(calls > 30, "the script does enough to be worth it: {calls} calls");
    for failure in [Failure::PowerLoss, Failure::Eio, Failure::Enospc] {
        for at in 0..calls {
            one_failure(failure, at, &worlds);
        }
    }
}

fn one_failure(failure: Failure, at: u64, all: &[World]) {
    let disk = fresh();
    disk.fail_at(disk.calls() + at, failure);
    let mut worlds = vec![World::default()];
    let result = script(&disk, &mut worlds);
    let what = format!("{failure:?} at call {at}: {result:?}");
    disk.power_cycle(&mut SimRng::new(at));
    let store = Store::open_on(disk.clone(), &options()).unwrap_or_else(|e| panic!("{what}: {e}"));
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
}
