//! Sides that went on without each other, stayed behind, are not all there, or are rotten alike.

use crate::model::page;
use semper_store::sim::{Failure, SimRng, SimSides};
use semper_store::{
    BlockKind, CreateOptions, Error, Generation, MirrorState, OpenOptions, PageIndex, SegmentId, Sites, Store,
};
use std::sync::Arc;

fn open(sides: &Arc<SimSides>, home: &str) -> Result<Store, Error> {
    let sites = Arc::clone(sides) as Arc<dyn Sites>;
    Store::open_at(&sites, home, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })
}

fn commit(store: &Store, index: u64, id: u64) -> Generation {
    let mut commit = store.begin().unwrap();
    commit.put(SegmentId(1), PageIndex(index), &page(id)).unwrap();
    commit.commit().unwrap().generation
}

/// A store on two sides, with a page in it.
fn two() -> Arc<SimSides> {
    let sides = SimSides::new(2);
    let options = CreateOptions { size_bytes: 3 << 20, ..CreateOptions::default() };
    drop(Store::create_on(sides.side("0").disk().clone(), &options).unwrap());
    let store = open(&sides, "0").unwrap();
    commit(&store, 0, 7);
    let number = store.add_mirror_at("1").unwrap();
    store.fill_mirror(number, None, &|_, _| Vec::new()).unwrap();
    sides
}

fn states(store: &Store) -> Vec<bool> {
    store.mirrors().iter().map(|side| side.state == MirrorState::Whole).collect()
}

#[test]
fn sides_that_went_on_apart_are_refused_from_either_end() {
    let sides = two();
    for (here, there) in [("0", "1"), ("1", "0")] {
        sides.side(there).disk().pull();
        let store = open(&sides, here).unwrap();
        assert_eq!(states(&store), [true, false]);
        assert!(store.recovery().left_out[0].contains("cannot be reached"), "{:?}", store.recovery());
        commit(&store, 1, 9);
        sides.side(there).disk().plug();
    }
    for home in ["0", "1"] {
        let refused = open(&sides, home).unwrap_err();
        assert!(matches!(refused, Error::Parted { .. }), "{refused}");
    }
}

#[test]
fn a_side_that_missed_something_is_not_taken_for_whole() {
    let sides = two();
    sides.side("1").disk().pull();
    let store = open(&sides, "0").unwrap();
    let last = commit(&store, 1, 9);
    drop(store);
    sides.side("1").disk().plug();
    // Named or not, the one that has everything is found by it.
    let store = open(&sides, "1").unwrap();
    assert_eq!((store.generation(), states(&store)), (last, vec![false, true]));
    drop(store);
    // It was told meanwhile.
    sides.side("0").disk().pull();
    let refused = open(&sides, "1").unwrap_err();
    assert!(matches!(&refused, Error::NotWhole { whole, .. } if whole == "0"), "{refused}");
}

#[test]
fn a_side_that_was_half_filled_is_not_taken_for_a_store() {
    for at in 10..60 {
        let sides = two();
        let store = {
            sides.side("1").disk().pull();
            let store = open(&sides, "0").unwrap();
            (0..40).for_each(|index| {
                commit(&store, index, 2 * index + 1);
            });
            sides.side("1").disk().plug();
            store
        };
        let disk = sides.side("0").disk();
        disk.fail_at(disk.calls() + at, Failure::PowerLoss);
        let filled = store.fill_mirror(1, None, &|_, _| Vec::new());
        drop(store);
        sides.all().for_each(|(_, side)| side.disk().power_cycle(&mut SimRng::new(at)));
        disk.pull();
        match open(&sides, "1") {
            Ok(store) => assert!(filled.is_ok() && store.generation() == Generation(41), "at {at}: {filled:?}"),
            Err(e) => assert!(matches!(e, Error::NotWhole { .. }), "at {at}: {e}"),
        }
        disk.plug();
        let store = open(&sides, "0").unwrap();
        if states(&store) == [true, false] {
            store.fill_mirror(1, None, &|_, _| Vec::new()).unwrap();
        }
        assert!(store.check(&mut |_| ()).is_sound(), "at {at}");
    }
}

#[test]
fn what_is_rotten_on_both_sides_is_named_and_on_one_is_mended() {
    let sides = two();
    let store = open(&sides, "0").unwrap();
    let block = {
        sides.side("1").disk().rot(260 * 4096 + 5, 1);
        let others = 257..270;
        others.for_each(|place| sides.side("1").disk().rot(place * 4096, 1));
        store.check(&mut |_| ()).rotten
    };
    let page = block.iter().find(|rotten| matches!(rotten.block.kind, BlockKind::Page { .. }));
    let rotten = page.or(block.first()).expect("what is in use lies at the front");
    assert!(rotten.fault.reason.contains("does not hold on 1"), "{}", rotten.fault);
    assert_eq!(store.mend(&rotten.block), Some(1));
    let place = rotten.block.place;
    ["0", "1"].into_iter().for_each(|name| sides.side(name).disk().rot(place * 4096 + 9, 4));
    let report = store.check(&mut |_| ());
    assert!(report.faults.iter().any(|fault| fault.place == place), "{report:?}");
    assert_eq!(store.mend(&rotten.block), None);
}

/// What the newest generation shares with later ones was not copied if that generation was given up before its turn came: its nodes had been written
/// over by then, and all below them was passed over.
#[test]
fn a_side_has_everything_however_much_is_committed_while_it_is_filled() {
    let sides = SimSides::new(2);
    // So small that places are taken again soon.
    let options = CreateOptions { size_bytes: 3 << 20, ..CreateOptions::default() };
    drop(Store::create_on(sides.side("0").disk().clone(), &options).unwrap());
    let store = Arc::new(open(&sides, "0").unwrap());
    for segment in [1, 2] {
        let mut commit = store.begin().unwrap();
        (0..150).for_each(|index| commit.put(SegmentId(segment), PageIndex(index), &page(index | 1)).unwrap());
        commit.commit().unwrap();
    }
    let number = store.add_mirror_at("1").unwrap();
    let filling = {
        let store = Arc::clone(&store);
        // What is copied first takes so long that all generations of now are superseded meanwhile.
        std::thread::spawn(move || store.fill_mirror(number, Some(1 << 20), &|_, _| Vec::new()))
    };
    let mut rng = SimRng::new(1);
    while !filling.is_finished() {
        let mut commit = store.begin().unwrap();
        (0..40).for_each(|index| commit.put(SegmentId(2), PageIndex(index), &page(rng.bits() | 1)).unwrap());
        commit.commit().unwrap();
    }
    filling.join().unwrap().unwrap();
    assert_eq!(states(&store), [true, true]);
    let report = store.check(&mut |_| ());
    assert!(report.is_sound(), "{} blocks are missing, as {:?}", report.rotten.len(), report.rotten.first());
}
