//! Generations that stay, by a hold or a name, and going back to one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_store::{
    CreateOptions, Error, Generation, MAX_KEPT, OpenOptions, PAGE_SIZE, PageIndex, SegmentId, Store, TAGS_FILE,
};
use std::path::Path;

const SEGMENT: SegmentId = SegmentId(1);
const PAGES: u64 = 300;

fn create(dir: &Path) -> Store {
    Store::create(dir, &CreateOptions { size_bytes: 16 << 20, ..CreateOptions::default() }).unwrap()
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &OpenOptions::default()).unwrap()
}

/// Commits a world in which every page says `fill`.
fn commit(store: &Store, fill: u64) -> Generation {
    let mut commit = store.begin().unwrap();
    for page in 0..PAGES {
        let mut bytes = [1; PAGE_SIZE];
        bytes[..8].copy_from_slice(&(fill << 32 | page).to_le_bytes());
        commit.put(SEGMENT, PageIndex(page), &bytes).unwrap();
    }
    commit.commit().unwrap().generation
}

fn commits(store: &Store, fills: std::ops::RangeInclusive<u64>) {
    for fill in fills {
        commit(store, fill);
    }
}

fn holds(store: &Store, generation: Generation, fill: u64) -> bool {
    let mut bytes = [0; PAGE_SIZE];
    (0..PAGES).all(|page| {
        store.read_at(generation, SEGMENT, PageIndex(page), &mut bytes).unwrap();
        bytes[..8] == (fill << 32 | page).to_le_bytes()
    })
}

fn listed(store: &Store) -> Vec<u64> {
    store.generations().iter().map(|info| info.generation.0).collect()
}

#[test]
fn what_is_held_stays_and_its_space_comes_back_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(dir.path());
    commits(&store, 1..=6);
    let usual = store.space().used;
    let held = store.hold(Generation(6)).unwrap();
    let twice = store.hold(Generation(6)).unwrap();
    commits(&store, 7..=30);
    assert_eq!(listed(&store), [30, 29, 28, 27, 6]);
    assert!(holds(&store, Generation(6), 6) && holds(&store, Generation(27), 27));
    assert!(store.space().used <= usual + PAGES + 20, "one more world than usual is kept, no more");
    drop(held);
    commit(&store, 31);
    assert_eq!(listed(&store), [31, 30, 29, 28, 6]);
    drop(twice);
    commits(&store, 32..=33);
    assert_eq!(listed(&store), [33, 32, 31, 30]);
    assert_eq!(store.space().used, usual);
    assert!(matches!(store.hold(Generation(6)), Err(Error::NoSuchGeneration { .. })));
}

#[test]
fn a_full_store_gives_up_what_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    // 768 places: the worlds of 60 pages and their nodes fit, but not of many generations.
    let store = Store::create(dir.path(), &CreateOptions { size_bytes: 3 << 20, ..CreateOptions::default() }).unwrap();
    let put = |fill: u8| {
        let mut commit = store.begin()?;
        commit.put(SEGMENT, PageIndex(0), &vec![fill; PAGE_SIZE * 100])?;
        commit.commit()
    };
    put(1).unwrap();
    let held = store.hold(Generation(1)).unwrap();
    for fill in 2..12 {
        put(fill).unwrap();
    }
    assert!(listed(&store).contains(&1) && listed(&store).len() < 5, "{:?}", listed(&store));
    let mut bytes = [0; PAGE_SIZE];
    store.read_at(held.generation(), SEGMENT, PageIndex(99), &mut bytes).unwrap();
    assert_eq!(bytes, [1; PAGE_SIZE]);
    assert!(store.check(&mut |_| {}).is_sound());
}

#[test]
fn a_tag_holds_over_restarts_until_it_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(dir.path());
    commit(&store, 1);
    store.tag("before-upgrade", Generation(1)).unwrap();
    commits(&store, 2..=9);
    drop(store);
    let store = open(dir.path());
    commits(&store, 10..=15);
    assert_eq!(listed(&store), [15, 14, 13, 12, 1]);
    assert!(holds(&store, Generation(1), 1));
    assert!(store.check(&mut |_| {}).is_sound());
    assert_eq!(Store::tags_in(dir.path())[0].name, "before-upgrade");
    assert_eq!(store.untag("before-upgrade").unwrap(), Generation(1));
    commit(&store, 16);
    assert_eq!(listed(&store), [16, 15, 14, 13]);
    assert_eq!(Store::tags_in(dir.path()), []);
}

/// Else one page of it that rots would take all of it, and with it a fork that has its pages from here.
#[test]
fn a_tagged_generation_has_both_its_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(dir.path());
    let mut last = store.begin().unwrap();
    last.put(SegmentId(1), PageIndex(0), &[9; PAGE_SIZE]).unwrap();
    last.set_one_flush();
    let last = last.commit().unwrap().generation;
    let versions = || {
        let pages = std::fs::read(dir.path().join("pages")).unwrap();
        [pages[8], pages[128 * PAGE_SIZE + 8]]
    };
    assert!(versions().contains(&3), "{:?}", versions());
    store.tag("kept", last).unwrap();
    assert_eq!(versions(), [1, 1]);
}

#[test]
fn bad_names_and_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(dir.path());
    commit(&store, 1);
    for bad in ["", "12", "a b", "a/b", "\u{e4}", &"x".repeat(65)] {
        assert!(matches!(store.tag(bad, Generation(1)), Err(Error::BadTag { .. })), "{bad}");
    }
    store.tag("a", Generation(1)).unwrap();
    assert!(matches!(store.tag("a", Generation(1)), Err(Error::BadTag { .. })));
    assert!(matches!(store.tag("b", Generation(99)), Err(Error::NoSuchGeneration { .. })));
    assert!(matches!(store.untag("b"), Err(Error::BadTag { .. })));
    let most = u64::try_from(MAX_KEPT).unwrap() - 4;
    for fill in 2..=most {
        commit(&store, fill);
        store.tag(&format!("t{fill}"), Generation(fill)).unwrap();
    }
    commit(&store, 50);
    let e = store.tag("one-more", store.generation()).unwrap_err();
    assert!(matches!(e, Error::TooManyHeld { keep: 4, most: 8 }), "{e}");
    assert_eq!(Store::tags_in(dir.path()).len(), 8);
    // Lines that are none of ours are passed over; a tag of what is gone is void.
    drop(store);
    std::fs::write(dir.path().join(TAGS_FILE), "title\n777 gone\nx y\n3 t3\n5 \n").unwrap();
    let store = open(dir.path());
    commits(&store, 60..=69);
    assert!(listed(&store).contains(&3) && listed(&store).len() == 5, "{:?}", listed(&store));
}

#[test]
fn going_back_leaves_the_future_reachable() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(dir.path());
    commits(&store, 1..=4);
    assert_eq!(store.rewind(Generation(2)).unwrap(), Generation(5));
    let store = open(dir.path());
    assert_eq!(listed(&store), [5, 4, 3, 2]);
    assert!(holds(&store, Generation(5), 2) && holds(&store, Generation(4), 4));
    // The future that was left can be gone to as well, and goes as older generations do.
    commit(&store, 60);
    assert_eq!(listed(&store), [6, 5, 4, 3]);
    assert!(holds(&store, Generation(3), 3) && holds(&store, Generation(6), 60));
    assert_eq!(store.rewind(Generation(4)).unwrap(), Generation(7));
    let store = open(dir.path());
    assert!(holds(&store, Generation(7), 4));
    commits(&store, 8..=12);
    assert_eq!(listed(&store), [12, 11, 10, 9]);
    let used = store.space().used;
    assert!(store.check(&mut |_| {}).is_sound());
    drop(store);
    let store = open(dir.path());
    drop(store.begin().unwrap());
    assert!(store.space().used <= used, "what only the left future had is free again");
    assert!(matches!(store.rewind(Generation(1)), Err(Error::NoSuchGeneration { .. })));
}
