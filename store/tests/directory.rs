//! Stores in real directories: what a user meets who opens, locks, damages, moves or fills one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod io;

use semper_store::{
    CreateOptions, Error, Generation, IoChoice, IoKind, OpenOptions, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store,
};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SEGMENT: SegmentId = SegmentId(3);

fn small() -> CreateOptions {
    CreateOptions { size_bytes: 16 << 20, ..CreateOptions::default() }
}

fn fresh() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    (dir, path)
}

fn page(fill: u8) -> Vec<u8> {
    vec![fill; PAGE_SIZE]
}

fn put(store: &Store, index: u64, fill: u8) -> Generation {
    let mut commit = store.begin().unwrap();
    commit.put(SEGMENT, PageIndex(index), &page(fill)).unwrap();
    commit.commit().unwrap().generation
}

fn get(store: &Store, index: u64) -> u8 {
    let mut out = page(0xaa);
    store.read(SEGMENT, PageIndex(index), &mut out).unwrap();
    assert!(out.iter().all(|b| *b == out[0]), "a page is read whole");
    out[0]
}

#[test]
fn what_was_committed_is_there_after_reopening_under_both_kinds_of_io() {
    for io in io::kinds(fresh().0.path()) {
        let (_guard, dir) = fresh();
        drop(Store::create(&dir, &small()).unwrap());
        let options = OpenOptions { io, ..OpenOptions::default() };
        let store = Store::open(&dir, &options).unwrap();
        assert_eq!(store.io_kind(), if io == IoChoice::Uring { IoKind::Uring } else { IoKind::Plain });
        let far = (1 << 40) - 1;
        put(&store, 0, 1);
        put(&store, far, 2);
        let last = put(&store, 1 << 28, 3);
        drop(store);
        let store = Store::open(&dir, &options).unwrap();
        assert_eq!(store.generation(), last);
        assert!(store.recovery().fallen_back.is_empty());
        assert_eq!((get(&store, 0), get(&store, 1), get(&store, 1 << 28), get(&store, far)), (1, 0, 3, 2));
        assert_eq!(store.next_page(SEGMENT, PageIndex(1)).unwrap(), Some(PageIndex(1 << 28)));
        assert_eq!(store.next_page(SegmentId(2), PageIndex(0)).unwrap(), None);
        assert_eq!(store.segments().unwrap(), [SEGMENT]);
        let mut commit = store.begin().unwrap();
        commit.remove(SEGMENT, PageRange::between(1, far)).unwrap();
        commit.commit().unwrap();
        assert_eq!((get(&store, 0), get(&store, 1 << 28), get(&store, far)), (1, 0, 2));
        let mut old = page(0);
        store.read_at(last, SEGMENT, PageIndex(1 << 28), &mut old).unwrap();
        assert_eq!(old, page(3));
        assert!(store.check(&mut |_| ()).is_sound());
    }
}

#[test]
fn a_second_opener_is_refused_with_the_holder_and_a_reader_is_not() {
    let (_guard, dir) = fresh();
    let store = Store::create(&dir, &small()).unwrap();
    put(&store, 1, 7);
    let e = Store::open(&dir, &OpenOptions::default()).unwrap_err();
    assert!(matches!(e, Error::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{e}");
    assert!(e.to_string().contains("is in use by process"), "{e}");

    let reader = Store::open_read_only(&dir).unwrap();
    assert_eq!(get(&reader, 1), 7);
    assert!(matches!(reader.begin(), Err(Error::ReadOnly)));
    // What is committed meanwhile is seen after a look, and old places that are reused are no faults.
    for round in 0..40 {
        put(&store, 1, round);
    }
    assert_eq!(get(&reader, 1), 39, "the generation that the reader knew is gone: it looks by itself");
    reader.refresh().unwrap();
    assert_eq!(reader.generation(), store.generation());
    assert!(reader.check(&mut |_| ()).is_sound());
    drop(store);
    Store::open(&dir, &OpenOptions::default()).unwrap();
}

#[test]
fn a_check_beside_commits_never_raises_a_false_alarm() {
    let (_guard, dir) = fresh();
    let store = Store::create(&dir, &small()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300_u64 {
                let mut commit = store.begin().unwrap();
                for i in 0..20 {
                    let fill = u8::try_from(round % 250 + 1).unwrap();
                    commit.put(SEGMENT, PageIndex(i * 37 % 200), &page(fill)).unwrap();
                }
                commit.commit().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let reader = Store::open_read_only(&dir).unwrap();
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            for handle in [&reader, &store] {
                let report = handle.check(&mut |_| ());
                assert!(report.is_sound(), "{report:?}");
                let mut out = vec![0; 64 * PAGE_SIZE];
                handle.read(SEGMENT, PageIndex(0), &mut out).unwrap();
            }
        }
    });
    let report = store.check(&mut |_| ());
    assert!(report.is_sound() && report.free_map_holds == Some(true), "{report:?}");
}

#[test]
fn directories_that_hold_something_else_are_left_alone() {
    let (_guard, dir) = fresh();
    assert!(matches!(Store::open(&dir, &OpenOptions::default()), Err(Error::Missing { .. })));
    fs::create_dir(&dir).unwrap();
    assert!(matches!(Store::open(&dir, &OpenOptions::default()), Err(Error::Missing { .. })));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "a failed opening leaves nothing");
    fs::write(dir.join("thesis.tex"), "...").unwrap();
    let e = Store::create(&dir, &small()).unwrap_err();
    assert!(matches!(&e, Error::NotEmpty { found, .. } if found == "thesis.tex"), "{e}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn a_store_is_not_made_over_a_store() {
    let (_guard, dir) = fresh();
    put(&Store::create(&dir, &small()).unwrap(), 0, 5);
    assert!(matches!(Store::create(&dir, &small()), Err(Error::NotEmpty { .. })));
    assert_eq!(get(&Store::open(&dir, &OpenOptions::default()).unwrap(), 0), 5);
}

#[test]
fn pages_may_lie_elsewhere_behind_a_symlink() {
    let (guard, dir) = fresh();
    fs::create_dir(&dir).unwrap();
    let elsewhere = guard.path().join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    symlink(&elsewhere, dir.join("pages")).unwrap();
    put(&Store::create(&dir, &small()).unwrap(), 0, 5);
    assert_eq!(get(&Store::open(&dir, &OpenOptions::default()).unwrap(), 0), 5);
    assert_eq!(fs::metadata(&elsewhere).unwrap().len(), 16 << 20);
    // Another directory with the same file behind it makes no new store of it.
    let other = guard.path().join("other");
    fs::create_dir(&other).unwrap();
    symlink(&elsewhere, other.join("pages")).unwrap();
    assert!(matches!(Store::create(&other, &small()), Err(Error::NotEmpty { .. })));
}

#[test]
fn what_is_not_blank_behind_a_symlink_is_never_overwritten() {
    let (guard, dir) = fresh();
    fs::create_dir(&dir).unwrap();
    assert!(Store::is_to_be_made(&dir).unwrap());
    let elsewhere = guard.path().join("elsewhere");
    symlink(&elsewhere, dir.join("pages")).unwrap();
    // In the first page, between the roots, and at the end of the first MiB.
    for at in [1080, 0x1_0040, (1 << 20) - 1] {
        let mut content = vec![0; 16 << 20];
        content[at] = 7;
        fs::write(&elsewhere, &content).unwrap();
        for refused in [Store::is_to_be_made(&dir).err(), Store::create(&dir, &small()).err()] {
            assert!(matches!(refused, Some(Error::Occupied { at: told, .. }) if told == at as u64), "{refused:?}");
        }
        assert!(fs::read(&elsewhere).unwrap() == content, "it was written to");
    }
    fs::write(&elsewhere, vec![0; 16 << 20]).unwrap();
    assert!(Store::is_to_be_made(&dir).unwrap());
    drop(Store::create(&dir, &small()).unwrap());
    assert!(!Store::is_to_be_made(&dir).unwrap());
}

#[test]
fn files_that_are_no_stores_are_told_from_damaged_and_newer_ones() {
    let (_guard, dir) = fresh();
    let store = Store::create(&dir, &small()).unwrap();
    put(&store, 0, 1);
    drop(store);
    let pages = fs::OpenOptions::new().read(true).write(true).open(dir.join("pages")).unwrap();
    let mut roots = [[0; PAGE_SIZE]; 2];
    let places = [0, 128 * PAGE_SIZE as u64];
    for (root, at) in roots.iter_mut().zip(places) {
        pages.read_exact_at(root, at).unwrap();
    }
    let with = |change: &dyn Fn(&mut [u8; PAGE_SIZE])| {
        for (root, at) in roots.iter().zip(places) {
            let mut root = *root;
            change(&mut root);
            pages.write_all_at(&root, at).unwrap();
        }
        Store::open(&dir, &OpenOptions::default()).map(|_| ())
    };
    let e = with(&|root| root[8] = 9).unwrap_err();
    assert!(matches!(e, Error::Version { found: 9, expected: 3, .. }), "{e}");
    let e = with(&|root| root.copy_from_slice(&[0x5a; PAGE_SIZE])).unwrap_err();
    assert!(matches!(&e, Error::NotAStore { reason, .. } if reason.contains("something else")), "{e}");
    let e = with(&|root| root.fill(0)).unwrap_err();
    assert!(matches!(&e, Error::NotAStore { reason, .. } if reason.contains("empty")), "{e}");
    let e = with(&|root| root[100] ^= 1).unwrap_err();
    assert!(matches!(&e, Error::NotAStore { reason, .. } if reason.contains("damaged")), "{e}");
    with(&|_| ()).unwrap();
    pages.set_len(10_000).unwrap();
    let e = Store::open(&dir, &OpenOptions::default()).unwrap_err();
    assert!(matches!(e, Error::Truncated { .. } | Error::NotAStore { .. }), "{e}");
    pages.set_len(0).unwrap();
    assert!(matches!(Store::open(&dir, &OpenOptions::default()), Err(Error::NotAStore { .. })));
}

#[test]
fn a_root_of_another_store_is_not_mixed_in() {
    let (_guard, dir) = fresh();
    let (_other_guard, other) = fresh();
    put(&Store::create(&dir, &small()).unwrap(), 0, 1);
    put(&Store::create(&other, &small()).unwrap(), 0, 2);
    let (ours, theirs) = (dir.join("pages"), other.join("pages"));
    let mut root = [0; PAGE_SIZE];
    fs::File::open(theirs).unwrap().read_exact_at(&mut root, 0).unwrap();
    fs::OpenOptions::new().write(true).open(ours).unwrap().write_all_at(&root, 0).unwrap();
    let e = Store::open(&dir, &OpenOptions::default()).unwrap_err();
    assert!(matches!(&e, Error::NotAStore { reason, .. } if reason.contains("different stores")), "{e}");
}

#[test]
fn an_unwritable_directory_is_said_so() {
    let refused = |dir: &Path| {
        let e = Store::create(dir, &small()).unwrap_err();
        assert!(matches!(&e, Error::Io { .. }) && e.to_string().contains("create the directory"), "{e}");
    };
    // /sys takes no directories, not even from root, who may write to any other.
    refused(Path::new("/sys/semper-store"));
    if !nix::unistd::geteuid().is_root() {
        let (guard, dir) = fresh();
        fs::set_permissions(guard.path(), fs::Permissions::from_mode(0o555)).unwrap();
        refused(&dir);
        fs::set_permissions(guard.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let (_guard, dir) = fresh();
    for size_bytes in [0, 4096, 1 << 60] {
        let options = CreateOptions { size_bytes, ..CreateOptions::default() };
        assert!(matches!(Store::create(&dir, &options), Err(Error::BadSize { .. })));
    }
    for keep_generations in [0, 1, 13] {
        let options = CreateOptions { keep_generations, ..small() };
        assert!(matches!(Store::create(&dir, &options), Err(Error::BadArgument(_))));
    }
    drop(Store::create(&dir, &small()).unwrap());
}

#[test]
fn a_full_store_refuses_keeps_what_it_has_and_goes_on_when_grown() {
    let (_guard, dir) = fresh();
    let store = Store::create(&dir, &CreateOptions { size_bytes: 4 << 20, ..CreateOptions::default() }).unwrap();
    let mut next = 0;
    let full = loop {
        let mut commit = store.begin().unwrap();
        match commit.put(SEGMENT, PageIndex(next), &vec![9; 50 * PAGE_SIZE]).and_then(|()| commit.commit().map(|_| ()))
        {
            Ok(()) => next += 50,
            Err(e) => break e,
        }
    };
    assert!(matches!(full, Error::Full { .. }), "{full}");
    assert!(next >= 500, "{next} of 768 pages");
    assert!(matches!(store.reserve(700), Err(Error::Full { needed, available }) if needed > available));
    assert!(store.generations().len() >= 2);
    // Nothing is spoilt, and what only removes or replaces little still goes.
    for round in 0..10 {
        assert_eq!(get(&store, next - 1), 9);
        let mut commit = store.begin().unwrap();
        commit.remove(SEGMENT, PageRange::between(round, round + 1)).unwrap();
        commit.commit().unwrap();
    }
    store.grow(8 << 20).unwrap();
    let reservation = store.reserve(700).unwrap();
    assert!(store.space().reserved >= 700);
    let mut commit = store.begin().unwrap();
    commit.put(SEGMENT, PageIndex(next), &vec![8; 700 * PAGE_SIZE]).unwrap();
    commit.commit().unwrap();
    drop(reservation);
    assert_eq!(store.space().reserved, 0);
    assert!(store.check(&mut |_| ()).is_sound());
    drop(store);
    let store = Store::open(&dir, &OpenOptions::default()).unwrap();
    assert_eq!((store.space().total, get(&store, next + 699), get(&store, next - 1)), (2048, 8, 9));
    assert!(matches!(store.grow(4 << 20), Err(Error::BadSize { .. })));
}

#[test]
fn one_may_go_back_to_an_older_generation() {
    let (_guard, dir) = fresh();
    let store = Store::create(&dir, &small()).unwrap();
    let old = put(&store, 0, 1);
    put(&store, 0, 2);
    drop(store);
    let options = OpenOptions { newest: Some(old), ..OpenOptions::default() };
    let store = Store::open(&dir, &options).unwrap();
    assert_eq!((store.generation(), get(&store, 0)), (old, 1));
    assert_eq!(put(&store, 1, 3), Generation(3), "numbers only grow");
    drop(store);
    let store = Store::open(&dir, &OpenOptions::default()).unwrap();
    assert_eq!((get(&store, 0), get(&store, 1)), (1, 3));
    let mut out = page(0);
    let e = store.read_at(Generation(2), SEGMENT, PageIndex(0), &mut out).unwrap_err();
    assert!(matches!(e, Error::NoSuchGeneration { .. }), "{e}");
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let (_guard, dir) = fresh();
    let store = Store::create(&dir, &small()).unwrap();
    put(&store, 0, 1);
    let used = store.space().used;
    let mut commit = store.begin().unwrap();
    commit.put(SEGMENT, PageIndex(0), &vec![6; 600 * PAGE_SIZE]).unwrap();
    drop(commit);
    assert_eq!((get(&store, 0), store.space().used), (1, used));
    assert!(matches!(store.read(SEGMENT, PageIndex(0), &mut [0; 100]), Err(Error::BadArgument(_))));
    let mut commit = store.begin().unwrap();
    assert!(commit.put(SegmentId(1 << 48), PageIndex(0), &page(1)).is_err());
    assert!(commit.put(SEGMENT, PageIndex(1 << 40), &page(1)).is_err());
    commit.commit().unwrap();
}
