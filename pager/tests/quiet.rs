//! Memory that is not written for long leaves the scan, and nothing that is written there later is lost.
#![allow(clippy::unwrap_used, missing_docs)]

mod process;

use std::collections::BTreeSet;

use process::{Op, Process, SEG, World, able, pages_of, range};
use semper_pager::{PAGE_SIZE, PageIndex, Segment, TrackingChoice};

const CHUNK: u64 = 512;
/// More than the chunks that are always scanned.
const CHUNKS: u64 = 40;
const PAGES: u64 = CHUNKS * CHUNK;

fn checkpoints(world: &World, process: &Process, count: usize) {
    for _ in 0..count {
        world.checkpoint(&[process], 0, true);
    }
}

/// Every page of the store is what is in memory.
fn store_is_memory(world: &World, segment: &Segment, what: &str) {
    let mut frame = vec![0; PAGE_SIZE];
    for page in 0..segment.pages() {
        segment.read_at(page * PAGE_SIZE as u64, &mut frame).unwrap();
        let stored = world.store.pages.lock().unwrap().get(&(SEG, page)).cloned();
        let same = stored.map_or(frame.iter().all(|byte| *byte == 0), |stored| *stored == *frame);
        assert!(same, "page {page} differs from the store: {what}");
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn quiet_memory_leaves_the_scan_and_comes_back_page_by_page() {
    if !able(TrackingChoice::Async) {
        return;
    }
    let world = World::new(TrackingChoice::Async, None);
    let segment = world.pager.create_segment(SEG, PAGES + 100).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    process.touch(0, PAGES, true);
    checkpoints(&world, &process, 4);
    assert_eq!(world.pager.usage().cold, 0, "cold too early");
    checkpoints(&world, &process, 6);
    let cold = world.pager.usage().cold;
    assert!(cold >= (CHUNKS - 20) * CHUNK, "only {cold} pages left the scan");
    // One page in each of three chunks, and a page that is only read.
    let written = [5, CHUNK * 7 + 1, CHUNK * 12 + 511];
    process.run(&[Op::Read(CHUNK * 3), Op::Write(written[0], 1), Op::Write(written[1], 2), Op::Write(written[2], 3)]);
    let usage = world.pager.usage();
    assert!(usage.warmed > 0 && usage.cold < cold, "{usage:?}");
    assert_eq!(pages_of(&world.checkpoint(&[&process], 1, true)), BTreeSet::from(written));
    assert_eq!(written.map(|page| world.store.word(SEG, page)), [1, 2, 3]);
    // What became hot by a write is written again without asking.
    let before = world.pager.usage().warmed;
    process.run(&[Op::Write(written[0], 9)]);
    assert_eq!(pages_of(&world.checkpoint(&[&process], 0, true)), BTreeSet::from([written[0]]));
    assert_eq!(world.pager.usage().warmed, before);
}

#[test]
fn a_killed_process_has_written_nothing_where_it_was_quiet() {
    if !able(TrackingChoice::Async) {
        return;
    }
    let world = World::new(TrackingChoice::Async, None);
    let segment = world.pager.create_segment(SEG, PAGES).unwrap();
    let (mut process, attachment) = Process::start(&segment);
    process.touch(0, PAGES, true);
    checkpoints(&world, &process, 20);
    let cold = world.pager.usage().cold;
    assert!(cold > 0);
    process.run(&[Op::Write(3, 33)]);
    process.kill();
    let seen = pages_of(&world.checkpoint(&[], 0, true));
    drop(attachment);
    let seen: BTreeSet<u64> = seen.union(&pages_of(&world.checkpoint(&[], 0, true))).copied().collect();
    assert!(seen.contains(&3));
    assert!(seen.len() as u64 <= PAGES - cold + CHUNK, "{} pages of {PAGES}, {cold} were quiet", seen.len());
    store_is_memory(&world, &segment, "after the death");
    let (mut next, _attachment) = Process::start(&segment);
    assert_eq!(next.run(&[Op::Read(3), Op::Read(CHUNK * 30)]), [33, CHUNK * 30 + 1]);
}

#[test]
fn scarce_memory_makes_all_of_it_hot_again() {
    if !able(TrackingChoice::Async) {
        return;
    }
    let world = World::new(TrackingChoice::Async, Some(PAGES * PAGE_SIZE as u64 + (64 << 20)));
    let segment = world.pager.create_segment(SEG, 2 * PAGES).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    process.touch(0, PAGES, true);
    checkpoints(&world, &process, 20);
    assert!(world.pager.usage().cold > 0);
    for first in (PAGES..2 * PAGES).step_by(256) {
        process.begin_touch(first, 256);
        while !process.is_done() {
            checkpoints(&world, &process, 1);
        }
    }
    let usage = world.pager.usage();
    assert!(usage.pressed && usage.cold == 0 && usage.evictions > 0, "{usage:?}");
    process.begin(&[Op::Write(4, 44), Op::Write(PAGES - 1, 45)]);
    while !process.is_done() {
        checkpoints(&world, &process, 1);
    }
    checkpoints(&world, &process, 1);
    assert_eq!([4, PAGES - 1, PAGES + 300].map(|page| world.store.word(SEG, page)), [44, 45, 300 - 256 + 1]);
    store_is_memory(&world, &segment, "under pressure");
}

#[test]
fn nothing_is_lost_in_a_random_life() {
    if !able(TrackingChoice::Async) {
        return;
    }
    let seed = 0x51e3_77aa_90b1_4c2d;
    let mut random = Random(seed);
    let world = World::new(TrackingChoice::Async, None);
    let segment = world.pager.create_segment(SEG, PAGES).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    process.touch(0, PAGES, true);
    let mut expected = BTreeSet::new();
    let mut warmed = 0;
    for round in 0..250 {
        // Mostly a few chunks, now and then anywhere, now and then nothing at all for long.
        let ops: Vec<Op> = match round % 25 {
            0..12 => Vec::new(),
            12..20 => (0..40).map(|_| Op::Write(random.below(4 * CHUNK), random.below(u64::MAX))).collect(),
            _ => (0..20).map(|_| Op::Write(random.below(PAGES), random.below(u64::MAX))).collect(),
        };
        expected.extend(ops.iter().map(|op| match op {
            Op::Write(page, _) | Op::Read(page) => *page,
        }));
        // The process runs while scans are made and pages taken away.
        process.begin(&ops);
        let live = if round % 3 == 0 { pages_of(&world.checkpoint(&[&process], 2, true)) } else { BTreeSet::new() };
        if random.below(4) == 0 {
            process.wait(|| ());
            let first = random.below(PAGES - 40);
            segment.discard(range(first, first + 40)).unwrap();
            expected.retain(|page| !range(first, first + 40).contains(PageIndex(*page)));
            let page = first + random.below(40);
            process.run(&[Op::Read(first), Op::Write(page, random.below(u64::MAX))]);
            expected.insert(page);
        }
        process.wait(|| ());
        let commit = random.below(5) != 0;
        let seen = pages_of(&world.checkpoint(&[&process], round % 2, commit));
        let missed: Vec<_> = expected.iter().filter(|page| !live.contains(page) && !seen.contains(page)).collect();
        assert!(missed.is_empty(), "seed {seed:#x}, round {round}: missed {missed:?}");
        // What the first one committed and nobody wrote since will not come again.
        expected.retain(|page| !commit && seen.contains(page));
        if round % 50 == 49 {
            world.checkpoint(&[&process], 0, true);
            store_is_memory(&world, &segment, &format!("seed {seed:#x}, round {round}"));
            expected.clear();
        }
        warmed = world.pager.usage().warmed;
    }
    assert!(warmed > 20, "only {warmed} quiet chunks were written");
}
