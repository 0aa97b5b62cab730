//! The tree against a plain map: bulk changes of every kind and size.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use semper_store::sim::{SimDisk, SimRng};
use semper_store::{CreateOptions, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

type Model = BTreeMap<(u64, u64), u64>;

#[derive(Clone, Debug)]
enum Change {
    /// `count` pages, `stride` apart.
    Put {
        segment: u64,
        first: u64,
        count: u64,
        stride: u64,
    },
    Scatter {
        segment: u64,
        count: u64,
        within: u64,
        seed: u64,
    },
    Remove {
        segment: u64,
        first: u64,
        count: u64,
    },
    RemoveSegment {
        segment: u64,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let segment = 0..5_u64;
    prop_oneof![
        4 => (segment.clone(), 0..5000_u64, 1..900_u64, 1..4_u64)
            .prop_map(|(segment, first, count, stride)| Change::Put { segment, first, count, stride }),
        3 => (segment.clone(), 1..400_u64, prop_oneof![Just(2000), Just(1 << 36)], any::<u64>())
            .prop_map(|(segment, count, within, seed)| Change::Scatter { segment, count, within, seed }),
        3 => (segment.clone(), 0..5000_u64, prop_oneof![1..3000_u64, Just(1 << 36)])
            .prop_map(|(segment, first, count)| Change::Remove { segment, first, count }),
        1 => segment.prop_map(|segment| Change::RemoveSegment { segment }),
    ]
}

fn apply(store: &Arc<Store>, model: &mut Model, changes: &[Change], stamp: &mut u64) {
    let mut commit = store.begin().unwrap();
    let mut page = vec![0; PAGE_SIZE];
    let mut put = |commit: &mut semper_store::Commit, model: &mut Model, segment: u64, index: u64| {
        *stamp += 1;
        page[..8].copy_from_slice(&stamp.to_le_bytes());
        model.insert((segment, index), *stamp);
        commit.put(SegmentId(segment), PageIndex(index), &page).unwrap();
    };
    for change in changes {
        match *change {
            Change::Put { segment, first, count, stride } => {
                (0..count).for_each(|i| put(&mut commit, model, segment, first + i * stride));
            }
            Change::Scatter { segment, count, within, seed } => {
                let mut rng = SimRng::new(seed);
                (0..count).for_each(|_| put(&mut commit, model, segment, rng.below(within)));
            }
            Change::Remove { segment, first, count } => {
                model.retain(|(s, p), _| *s != segment || *p < first || *p >= first + count);
                commit.remove(SegmentId(segment), PageRange { first: PageIndex(first), count }).unwrap();
            }
            Change::RemoveSegment { segment } => {
                model.retain(|(s, _), _| *s != segment);
                commit.remove_segment(SegmentId(segment)).unwrap();
            }
        }
    }
    commit.commit().unwrap();
}

fn same(store: &Store, model: &Model) {
    let mut found = Model::new();
    let mut page = vec![0; PAGE_SIZE];
    for segment in store.segments().unwrap() {
        let mut from = PageIndex(0);
        while let Some(at) = store.next_page(segment, from).unwrap() {
            store.read(segment, at, &mut page).unwrap();
            found.insert((segment.0, at.0), u64::from_le_bytes(page[..8].try_into().unwrap()));
            from = PageIndex(at.0 + 1);
        }
    }
    assert!(found == *model, "{} pages found, {} wanted", found.len(), model.len());
    assert_eq!(store.generations()[0].pages, model.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_tree_is_a_plain_map(rounds in prop::collection::vec(prop::collection::vec(change(), 1..5), 1..8)) {
        let disk = SimDisk::new();
        let options = CreateOptions { size_bytes: 512 << 20, ..CreateOptions::default() };
        let store = Arc::new(Store::create_on(disk.clone(), &options).unwrap());
        let (mut model, mut stamp) = (Model::new(), 0);
        for round in &rounds {
            apply(&store, &mut model, round, &mut stamp);
            same(&store, &model);
        }
        let report = store.check(&mut |_| ());
        prop_assert!(report.is_sound() && report.free_map_holds == Some(true), "{:?}", report);
        // A tree is never much larger than what it holds: it is merged as it shrinks.
        let generation = store.generation();
        drop(store);
        let store = Store::open_on(disk, &semper_store::OpenOptions::default()).unwrap();
        prop_assert_eq!(store.generation(), generation);
        same(&store, &model);
    }
}

#[test]
fn removing_a_range_costs_what_is_there_and_empties_the_tree() {
    let disk = SimDisk::new();
    let store = Store::create_on(disk.clone(), &CreateOptions { size_bytes: 64 << 20, ..CreateOptions::default() });
    let store = store.unwrap();
    let mut commit = store.begin().unwrap();
    for segment in 0..2000 {
        commit.put(SegmentId(segment), PageIndex(segment << 20), &vec![1; PAGE_SIZE]).unwrap();
    }
    commit.commit().unwrap();
    assert_eq!(store.segments().unwrap().len(), 2000);
    let mut commit = store.begin().unwrap();
    commit.remove(SegmentId(700), PageRange::between(0, 1 << 40)).unwrap();
    let before = disk.calls();
    let committed = commit.commit().unwrap();
    assert!(disk.calls() - before < 10 && committed.bytes < 10 * 4096, "{committed:?}");
    let mut commit = store.begin().unwrap();
    for segment in 0..2000 {
        commit.remove_segment(SegmentId(segment)).unwrap();
    }
    let committed = commit.commit().unwrap();
    assert_eq!((committed.bytes, store.generations()[0].pages), (4096, 0), "an empty tree has no nodes");
    assert_eq!(store.segments().unwrap(), []);
}
