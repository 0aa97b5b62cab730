//! What a process writes is in the next scan: nothing is lost, whatever happens in between.
#![allow(clippy::unwrap_used, missing_docs)]

mod process;

use std::collections::BTreeSet;
use std::time::Duration;

use process::{Op, Process, SEG, World, able, pages_of, put_word, range, word};
use semper_pager::{PAGE_SIZE, PageIndex, SegmentId, Stage, TrackingChoice};

const BOTH: [TrackingChoice; 2] = [TrackingChoice::Async, TrackingChoice::Sync];

#[test]
fn a_scan_has_exactly_what_was_written_since_the_last() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        let segment = world.pager.create_segment(SEG, 1 << 28).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        let far = (1 << 28) - 3;
        process.run(&[Op::Write(3, 1), Op::Write(5000, 2), Op::Write(far, 3)]);
        assert_eq!(pages_of(&world.checkpoint(&[&process], 0, true)), BTreeSet::from([3, 5000, far]));
        assert_eq!(pages_of(&world.checkpoint(&[&process], 0, true)), BTreeSet::new());
        process.run(&[Op::Read(3), Op::Write(5000, 9), Op::Read(far)]);
        assert_eq!(pages_of(&world.checkpoint(&[&process], 1, true)), BTreeSet::from([5000]));
        assert_eq!([3, 5000, far].map(|page| world.store.word(SEG, page)), [1, 9, 3]);
        assert_eq!(world.pager.usage().resident, 3);
        if choice == TrackingChoice::Async {
            assert_eq!(world.pager.usage().missing_faults, 0, "fresh memory must not pass through the pager");
        }
    }
}

#[test]
fn live_scans_lose_nothing_of_a_busy_writer() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        let pages = 4096;
        let segment = world.pager.create_segment(SEG, pages).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        process.start_writer(pages);
        for round in 0..12 {
            std::thread::sleep(Duration::from_millis(3));
            let commit = round % 4 != 2;
            // The frozen world is compared, so freeze here, and keep it frozen over the comparison.
            world.checkpoint(&[&process], 2, commit);
            if commit {
                process.freeze();
                world.checkpoint(&[], 0, true);
                let mut frames = vec![0; PAGE_SIZE];
                for page in 0..pages {
                    segment.read_at(page * PAGE_SIZE as u64, &mut frames).unwrap();
                    let stored = world.store.pages.lock().unwrap().get(&(SEG, page)).cloned();
                    let same = stored.map_or(frames.iter().all(|byte| *byte == 0), |stored| *stored == *frames);
                    assert!(same, "page {page} differs from its capture, round {round}, {choice:?}");
                }
                process.thaw();
            }
        }
        process.stop_writer();
        assert!(process.progress() > 1000);
    }
}

/// A scan reports pages that were never touched, and some of them come into memory before it is looked whether they are there.
#[test]
fn live_scans_lose_nothing_of_memory_that_grows() {
    const STRIDE: u64 = 4;
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        let segment = world.pager.create_segment(SEG, 4096).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        for round in 1..=30 {
            // Downwards, as memory is handed out, while the scan goes upwards.
            let ops: Vec<Op> = (0..1024).rev().map(|n| Op::Write(n * STRIDE, round)).collect();
            process.run(&ops);
            // Pages that are dropped unscanned are reported by the next scan.
            segment.discard(range(0, 4096)).unwrap();
            process.begin(&ops);
            while !process.is_done() {
                world.checkpoint(&[&process], 2, true);
            }
            world.checkpoint(&[&process], 0, true);
            for page in (0..1024).map(|n| n * STRIDE) {
                assert_eq!(world.store.word(SEG, page), round, "page {page}, {choice:?}");
            }
        }
    }
}

/// What a round of the workload did, and what the scans of its checkpoint found.
struct Round {
    written: BTreeSet<u64>,
    /// Read, and by nobody touched before, or not since they were discarded: nothing had protected them.
    first_read: BTreeSet<u64>,
    /// Discarded in this round, whatever else was done with them.
    discarded: BTreeSet<u64>,
    scanned: BTreeSet<u64>,
    committed: bool,
}

/// A random workload over pages that the store holds and pages that it does not: with all of them touched before it and none discarded, or in a
/// fresh segment, with discards.
fn rounds(choice: TrackingChoice, touched_before: bool) -> Vec<Round> {
    let pages = 3000;
    let world = World::new(choice, None);
    for page in 0..1000 {
        world.store.put(SEG, page * 2, page + 1);
    }
    let segment = world.pager.open_segment(SEG, pages, &world.store.stored(SEG)).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    let mut touched = BTreeSet::new();
    if touched_before {
        process.run(&(0..pages).map(Op::Read).collect::<Vec<_>>());
        world.checkpoint(&[&process], 0, true);
        touched.extend(0..pages);
    }
    let mut rng = 0x1234_5678_9abc_def1_u64;
    let mut next = move |below: u64| {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        rng % below
    };
    let round = |number: usize| {
        let (mut written, mut first_read, mut discarded) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let ops: Vec<Op> = (0..300)
            .map(|_| {
                let page = next(pages);
                let first = touched.insert(page);
                if next(2) == 0 {
                    written.insert(page);
                    Op::Write(page, next(u64::MAX))
                } else {
                    if first {
                        first_read.insert(page);
                    }
                    Op::Read(page)
                }
            })
            .collect();
        process.run(&ops);
        for _ in 0..10 {
            let page = next(pages);
            put_word(&segment, page, next(u64::MAX));
            written.insert(page);
            let first = next(pages - 4);
            if !touched_before {
                segment.discard(range(first, first + 3)).unwrap();
                discarded.extend(first..first + 3);
                touched.retain(|page| !range(first, first + 3).contains(PageIndex(*page)));
                written.retain(|page| !range(first, first + 3).contains(PageIndex(*page)));
            }
        }
        let committed = number % 5 != 4;
        let scanned = pages_of(&world.checkpoint(&[&process], number % 3, committed));
        Round { written, first_read, discarded, scanned, committed }
    };
    (0..30).map(round).collect()
}

/// Both find exactly what was written, so that they find the same. The one thing that may come on top is what was read by whom nothing had
/// protected yet: where all pages were touched before, nothing.
#[test]
fn both_trackers_find_the_same() {
    if BOTH.into_iter().any(|choice| !able(choice)) {
        return;
    }
    for touched_before in [true, false] {
        let found = BOTH.map(|choice| rounds(choice, touched_before));
        for (choice, rounds) in BOTH.iter().zip(&found) {
            let mut again = BTreeSet::new();
            for (number, round) in rounds.iter().enumerate() {
                // What was not committed comes again, unless it is gone by now.
                again.retain(|page| !round.discarded.contains(page));
                let due: BTreeSet<u64> = round.written.union(&again).copied().collect();
                let missed: Vec<_> = due.difference(&round.scanned).collect();
                assert!(missed.is_empty(), "{choice:?} missed {missed:?} in round {number}");
                let more: Vec<_> =
                    round.scanned.difference(&due).filter(|page| !round.first_read.contains(page)).collect();
                assert!(more.is_empty(), "{choice:?} found {more:?} in round {number}, which nobody wrote");
                again = if round.committed { BTreeSet::new() } else { round.scanned.clone() };
            }
        }
        for (one, other) in found[0].iter().zip(&found[1]) {
            let differ: Vec<_> = one.scanned.symmetric_difference(&other.scanned).collect();
            assert!(differ.iter().all(|page| one.first_read.contains(page)), "{differ:?}");
            assert!(!touched_before || one.first_read.is_empty() && differ.is_empty());
        }
    }
}

#[test]
fn a_killed_process_leaves_nothing_uncounted() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        let segment = world.pager.create_segment(SEG, 1000).unwrap();
        let (mut process, attachment) = Process::start(&segment);
        process.run(&[Op::Write(1, 1), Op::Write(2, 2)]);
        world.checkpoint(&[&process], 0, true);
        process.run(&[Op::Write(2, 22), Op::Write(600, 3)]);
        process.kill();
        let seen = pages_of(&world.checkpoint(&[], 0, true));
        drop(attachment);
        let seen: BTreeSet<u64> = seen.union(&pages_of(&world.checkpoint(&[], 0, true))).copied().collect();
        assert!(seen.is_superset(&BTreeSet::from([2, 600])), "{choice:?}: {seen:?}");
        assert_eq!([1, 2, 600].map(|page| world.store.word(SEG, page)), [1, 22, 3]);
    }
}

#[test]
fn a_detached_process_is_known_exactly_and_its_memory_stays() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        let segment = world.pager.create_segment(SEG, 1000).unwrap();
        let (mut process, attachment) = Process::start(&segment);
        process.run(&[Op::Write(1, 1), Op::Write(2, 2)]);
        world.checkpoint(&[&process], 0, true);
        process.run(&[Op::Write(2, 22)]);
        process.freeze();
        attachment.detach().unwrap();
        process.kill();
        let (mut next, _attachment) = Process::start(&segment);
        assert_eq!(next.run(&[Op::Read(1), Op::Read(2), Op::Read(3)]), [1, 22, 0]);
        let seen = pages_of(&world.checkpoint(&[&next], 0, true));
        assert!(seen.contains(&2) && !seen.contains(&1), "{choice:?}: {seen:?}");
    }
}

#[test]
fn what_was_abandoned_comes_again() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        let segment = world.pager.create_segment(SEG, 1000).unwrap();
        let gone = SegmentId(9);
        world.pager.create_segment(gone, 10).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        process.run(&[Op::Write(1, 1), Op::Write(2, 2), Op::Write(3, 3)]);
        segment.discard(range(3, 5)).unwrap();
        world.pager.remove_segment(gone);
        let first = world.checkpoint(&[&process], 0, false);
        assert_eq!(first[0].removed_segments(), [gone]);
        process.run(&[Op::Write(2, 22), Op::Write(4, 4)]);
        let second = world.checkpoint(&[&process], 0, true);
        assert_eq!(pages_of(&second), BTreeSet::from([1, 2, 4]));
        assert_eq!(second[0].removed_segments(), [gone]);
        assert_eq!(second[0].removals().collect::<Vec<_>>(), [(SEG, range(3, 5))]);
        assert!(world.pager.scan(Stage::Live).unwrap().is_empty());
        world.pager.committed();
    }
}

#[test]
fn a_view_is_shared_marked_by_hand_and_survives_a_rollback() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        world.store.put(SEG, 1, 11);
        let segment = world.pager.open_segment(SEG, 100, &[range(0, 4)]).unwrap();
        let view = segment.view(range(0, 4)).unwrap();
        let mut bytes = [0; 8];
        view.read_bytes(PAGE_SIZE, &mut bytes);
        assert_eq!(u64::from_ne_bytes(bytes), 11);
        let (mut process, attachment) = Process::start(&segment);
        assert_eq!(process.run(&[Op::Read(1), Op::Write(2, 5)])[0], 11);
        assert_eq!(view.atomic_u64(2 * PAGE_SIZE).load(std::sync::atomic::Ordering::Relaxed), 5);
        view.write_bytes(3 * PAGE_SIZE - 1, &[7, 7]);
        assert_eq!(pages_of(&world.checkpoint(&[&process], 0, false)), BTreeSet::from([2, 3]));
        process.kill();
        drop(attachment);
        world.pager.revert_segment(SEG, &[range(0, 4)]).unwrap();
        view.read_bytes(PAGE_SIZE, &mut bytes);
        assert_eq!(u64::from_ne_bytes(bytes), 11);
        assert_eq!(view.atomic_u64(2 * PAGE_SIZE).load(std::sync::atomic::Ordering::Relaxed), 0);
        assert!(world.pager.scan(Stage::Frozen).unwrap().is_empty());
        world.pager.committed();
        assert_eq!(word(&segment, 1), 11);
    }
}

#[test]
fn two_processes_share_a_segment() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, None);
        world.store.put(SEG, 1, 11);
        let segment = world.pager.open_segment(SEG, 1000, &[range(1, 2)]).unwrap();
        let (mut a, _a) = Process::start(&segment);
        let (mut b, _b) = Process::start(&segment);
        assert_eq!(a.run(&[Op::Read(1), Op::Write(7, 1)])[0], 11);
        assert_eq!(b.run(&[Op::Read(1), Op::Read(7), Op::Write(8, 2)]), [11, 1, 2]);
        world.checkpoint(&[&a, &b], 0, true);
        b.run(&[Op::Write(7, 3)]);
        a.run(&[Op::Write(8, 4), Op::Write(1, 12)]);
        let seen = pages_of(&world.checkpoint(&[&a, &b], 1, true));
        assert!(seen.is_superset(&BTreeSet::from([1, 7, 8])), "{choice:?}: {seen:?}");
        assert_eq!([1, 7, 8].map(|page| world.store.word(SEG, page)), [12, 3, 4]);
    }
}
