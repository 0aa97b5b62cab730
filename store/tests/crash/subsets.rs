//! Short scripts: a crash at every point, with every subset of what was not flushed.

use crate::model::{World, compare, page, step};
use semper_store::sim::{Event, SECTOR, SimDisk, SimRng};
use semper_store::{CreateOptions, OpenOptions, PageIndex, PageRange, SegmentId, Store};

const SIZE: u64 = 3 << 20;

/// What a script asked of the disk, and how many events there were when each generation had been announced.
struct Script {
    events: Vec<Event>,
    announced: Vec<usize>,
    worlds: Vec<World>,
}

fn record(seed: u64) -> Script {
    let disk = SimDisk::new();
    disk.record();
    let store = Store::create_on(disk.clone(), &CreateOptions { size_bytes: SIZE, keep_generations: 2 }).unwrap();
    let mut rng = SimRng::new(seed);
    let mut world = World::default();
    let mut script = Script { events: Vec::new(), announced: vec![disk.history().len()], worlds: vec![world.clone()] };
    for round in 0..6 {
        let mut commit = store.begin().unwrap();
        // Far apart, so that there are several writes to lose.
        for i in 0..3 {
            let id = rng.bits() | 1;
            let at = rng.below(20);
            commit.put(SegmentId(i), PageIndex(at), &page(id)).unwrap();
            world.pages.insert((i, at), id);
            commit.write_out().unwrap();
        }
        if round % 3 == 2 {
            commit.remove(SegmentId(1), PageRange::between(0, 10)).unwrap();
            world.pages.retain(|(s, p), _| *s != 1 || *p >= 10);
        }
        if round % 2 == 1 {
            commit.set_one_flush();
        }
        commit.commit().unwrap();
        script.announced.push(disk.history().len());
        script.worlds.push(world.clone());
    }
    script.events = disk.history();
    script
}

#[test]
fn every_subset_of_unflushed_writes_leaves_an_announced_generation() {
    let mut crashes = 0;
    for seed in 0..3 {
        let script = record(seed);
        for cut in script.announced[0]..=script.events.len() {
            crashes += crash_at(&script, cut);
        }
    }
    println!("{crashes} crashes");
    assert!(crashes > 500);
}

/// Crashes when the first `cut` events have been asked for. Each unflushed write is kept, lost, or kept in its first half.
fn crash_at(script: &Script, cut: usize) -> u32 {
    let events = &script.events[..cut];
    let flushed = events.iter().rposition(|e| *e == Event::Flush).map_or(0, |at| at + 1);
    let write = |e: &'_ Event| match e {
        Event::Write { offset, data } => Some((*offset, data.clone())),
        Event::Flush => None,
    };
    let durable: Vec<(u64, Vec<u8>)> = events[..flushed].iter().filter_map(write).collect();
    let unsure: Vec<(u64, Vec<u8>)> = events[flushed..].iter().filter_map(write).collect();
    let last = script.announced.iter().rposition(|at| *at <= cut).unwrap();
    let subsets = 3_u32.pow(u32::try_from(unsure.len()).unwrap());
    assert!(subsets < 1000, "a script short enough for all subsets");
    for subset in 0..subsets {
        let mut choice = subset;
        let mut writes = durable.clone();
        for (offset, data) in &unsure {
            match choice % 3 {
                0 => writes.push((*offset, data.clone())),
                1 => writes.push((*offset, data[..(data.len() / 2).next_multiple_of(SECTOR)].to_vec())),
                _ => {}
            }
            choice /= 3;
        }
        let disk = SimDisk::from_writes(SIZE, writes.iter().map(|(at, data)| (*at, &data[..])));
        // Both ways of walking, by turns.
        let walk_in_commit = (subset as usize + cut).is_multiple_of(2);
        verify(&disk, script, last, walk_in_commit, &format!("cut {cut}, subset {subset}"));
    }
    subsets
}

fn verify(disk: &std::sync::Arc<SimDisk>, script: &Script, last: usize, walk_in_commit: bool, what: &str) {
    let options = OpenOptions { walk_in_commit, ..OpenOptions::default() };
    let store = Store::open_on(disk.clone(), &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    let stands = usize::try_from(store.generation().0).unwrap();
    assert!(stands == last || stands == last + 1, "{what}: {stands} stands, {last} was announced");
    for info in store.generations() {
        let world = &script.worlds[usize::try_from(info.generation.0).unwrap()];
        let compared = compare(&store, info.generation, world);
        assert!(matches!(compared, Ok(None)), "{what}, {}: {compared:?}", info.generation);
    }
    let mut world = script.worlds[stands].clone();
    let mut commit = store.begin().unwrap();
    step(&mut world, &mut commit, &mut SimRng::new(7)).unwrap();
    let made = commit.commit().unwrap();
    assert!(matches!(compare(&store, made.generation, &world), Ok(None)), "{what}: the next commit");
}
