//! A working set larger than memory: right results, and frames within the limit.
#![allow(clippy::unwrap_used, missing_docs)]

mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use process::{Op, Process, SEG, World, able, put_word, range, word};
use semper_pager::{PAGE_SIZE, PageIndex, TrackingChoice};

const MIB: u64 = 1 << 20;
const BOTH: [TrackingChoice; 2] = [TrackingChoice::Async, TrackingChoice::Sync];

struct Random(u64);
impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Runs ops under the limit, with a checkpoint whenever the pager wants one. Gives the most frames seen.
fn run_pressed(world: &World, process: &mut Process, ops: &[Op]) -> u64 {
    process.begin(ops);
    let mut most = 0;
    while !process.is_done() {
        most = most.max(world.pager.usage().resident);
        if world.pager.wants_checkpoint() {
            world.checkpoint(&[process], 1, true);
        }
        std::thread::yield_now();
    }
    most.max(world.pager.usage().resident)
}

#[test]
fn random_writes_over_eight_times_the_memory() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, Some(8 * MIB));
        let limit = 8 * MIB / PAGE_SIZE as u64;
        let pages = 8 * limit;
        let segment = world.pager.create_segment(SEG, pages).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        let (mut rng, mut model) = (Random(0x9e37_79b9_7f4a_7c15), BTreeMap::new());
        let mut most = 0;
        for _ in 0..4 {
            let mut expected = Vec::new();
            let ops: Vec<Op> = (0..8000)
                .map(|_| {
                    let (page, value) = (rng.below(pages), rng.below(u64::MAX));
                    if rng.below(3) > 0 {
                        model.insert(page, value);
                        expected.push(value);
                        Op::Write(page, value)
                    } else {
                        expected.push(model.get(&page).copied().unwrap_or(0));
                        Op::Read(page)
                    }
                })
                .collect();
            most = most.max(run_pressed(&world, &mut process, &ops));
            assert_eq!(process.values(ops.len()), expected, "{choice:?}");
        }
        for (page, value) in model {
            assert_eq!(word(&segment, page), value);
        }
        let usage = world.pager.usage();
        assert!(usage.evictions > limit / 2 && usage.pressed, "{usage:?}");
        assert!(most <= limit, "{most} frames of {limit}");
    }
}

fn stored_words(world: &World) -> BTreeMap<u64, u64> {
    let pages = world.store.pages.lock().unwrap();
    let word = |content: &[u8]| u64::from_ne_bytes(content[..8].try_into().unwrap());
    pages.iter().map(|((_, page), content)| (*page, word(content))).collect()
}

#[test]
fn everything_at_once_under_a_limit_agrees_with_a_model() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = World::new(choice, Some(4 * MIB));
        let pages = 6000;
        (0..3000).for_each(|page| world.store.put(SEG, page, page + 1));
        let mut model: BTreeMap<u64, u64> = (0..3000).map(|page| (page, page + 1)).collect();
        // None: committed in the midst of a round; then the store itself is the model.
        let mut committed = Some(model.clone());
        let segment = world.pager.open_segment(SEG, pages, &[range(0, 3000)]).unwrap();
        let mut rng = Random(0xdead_beef_cafe_f00d);
        let mut running = Some(Process::start(&segment));
        for round in 0..90 {
            let (mut process, attachment) = running.take().unwrap();
            let mut expected = Vec::new();
            let hot = rng.below(2) == 0;
            let ops: Vec<Op> = (0..400)
                .map(|_| {
                    let page = rng.below(if hot { 500 } else { pages });
                    let value = rng.below(u64::MAX);
                    if rng.below(2) == 0 {
                        model.insert(page, value);
                        expected.push(value);
                        return Op::Write(page, value);
                    }
                    expected.push(model.get(&page).copied().unwrap_or(0));
                    Op::Read(page)
                })
                .collect();
            process.begin(&ops);
            process.wait(|| {
                if world.pager.wants_checkpoint() {
                    world.checkpoint(&[&process], 0, true);
                    committed = None;
                }
            });
            assert_eq!(process.values(ops.len()), expected, "round {round} {choice:?}");
            for _ in 0..20 {
                let page = rng.below(pages);
                match rng.below(6) {
                    0 => {
                        let end = (page + 1 + rng.below(40)).min(pages);
                        segment.discard(range(page, end)).unwrap();
                        model.retain(|at, _| !(page..end).contains(at));
                    }
                    1 | 2 => {
                        put_word(&segment, page, round + 7);
                        model.insert(page, round + 7);
                    }
                    3 if page + 130 < pages => {
                        segment.move_pages(PageIndex(page), PageIndex(page + 64), 60).unwrap();
                        for n in page..page + 60 {
                            match model.remove(&n) {
                                Some(value) => model.insert(n + 64, value),
                                None => model.remove(&(n + 64)),
                            };
                        }
                    }
                    _ => assert_eq!(word(&segment, page), model.get(&page).copied().unwrap_or(0)),
                }
            }
            match rng.below(12) {
                0 => {
                    // Killed and rolled back.
                    process.kill();
                    drop(attachment);
                    let stored = world.store.stored(SEG);
                    world.pager.revert_segment(SEG, &stored).unwrap();
                    model = committed.clone().unwrap_or_else(|| stored_words(&world));
                    committed = Some(model.clone());
                    running = Some(Process::start(&segment));
                }
                1 => {
                    process.kill();
                    drop(attachment);
                    running = Some(Process::start(&segment));
                }
                2 => {
                    process.freeze();
                    attachment.detach().unwrap();
                    process.kill();
                    running = Some(Process::start(&segment));
                }
                3 => {
                    world.checkpoint(&[&process], 1, false);
                    running = Some((process, attachment));
                }
                _ => {
                    world.checkpoint(&[&process], (round % 3) as usize, true);
                    committed = Some(model.clone());
                    running = Some((process, attachment));
                }
            }
        }
        for page in 0..pages {
            assert_eq!(word(&segment, page), model.get(&page).copied().unwrap_or(0), "page {page}");
        }
        assert!(world.pager.usage().evictions > 0);
    }
}

#[test]
fn faulters_wait_in_order_and_go_on_when_a_checkpoint_makes_room() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = World::new(TrackingChoice::Auto, Some(4 * MIB));
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    world.pager.on_pressure(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let segment = world.pager.create_segment(SEG, 10_000).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    let ops: Vec<Op> = (0..3000).map(|page| Op::Write(page, page + 1)).collect();
    process.begin(&ops);
    while world.pager.usage().waiting == 0 {
        std::thread::yield_now();
    }
    assert!(calls.load(Ordering::SeqCst) == 1 && world.pager.wants_checkpoint());
    let stuck = process.progress();
    assert!(stuck < 3000);
    // The runtime's own writes never wait.
    put_word(&segment, 9000, 1);
    assert_eq!(word(&segment, 9000), 1);
    process.wait(|| {
        if world.pager.wants_checkpoint() {
            world.checkpoint(&[&process], 0, true);
        }
    });
    let reads: Vec<Op> = (0..3000).map(Op::Read).collect();
    process.begin(&reads);
    process.wait(|| {
        if world.pager.wants_checkpoint() {
            world.checkpoint(&[&process], 0, true);
        }
    });
    assert_eq!(process.values(3000), (1..=3000).collect::<Vec<u64>>());
}

#[test]
fn a_quota_holds_writers_until_it_is_lifted() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = World::new(TrackingChoice::Auto, None);
    let segment = world.pager.create_segment(SEG, 10_000).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    process.touch(0, 500, true);
    world.pager.set_frame_quota(Some(560));
    while !world.pager.usage().pressed {
        std::thread::yield_now();
    }
    process.begin(&(0..1000).map(|page| Op::Write(page + 500, 1)).collect::<Vec<_>>());
    while world.pager.usage().waiting == 0 {
        std::thread::yield_now();
    }
    assert!(world.pager.usage().resident <= 560);
    world.pager.set_frame_quota(None);
    process.wait(|| ());
    assert_eq!(process.progress(), 1000);
}

#[test]
fn a_hot_set_stays_while_a_scan_passes() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = World::new(TrackingChoice::Auto, Some(8 * MIB));
    let pages = 12_000;
    (0..pages).for_each(|page| world.store.put(SEG, page, page));
    let segment = world.pager.open_segment(SEG, pages, &[range(0, pages)]).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    let hot: Vec<Op> = (0..400).map(Op::Read).collect();
    let mut brought_for_hot = 0;
    for pass in 0..60 {
        let before = world.pager.usage().pages_brought;
        run_pressed(&world, &mut process, &hot);
        if pass > 20 {
            brought_for_hot += world.pager.usage().pages_brought - before;
        }
        let first = 400 + pass * 190;
        let cold: Vec<Op> = (first..first + 190).map(Op::Read).collect();
        run_pressed(&world, &mut process, &cold);
    }
    // 39 passes over 400 pages; a plain FIFO would bring each of them about every ninth pass.
    assert!(brought_for_hot < 400, "{brought_for_hot} {:?}", world.pager.usage());
}
