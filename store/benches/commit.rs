//! The figures of the store, each against the raw file system in the same run:
//! `cargo bench -p semper-store --bench commit` (set `SEMPER_BENCH_DIR` to measure another file system than that of the
//! target directory, `SEMPER_BENCH_MIB` for another amount than 1024).

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use semper_store::sim::SimRng;
use semper_store::{CreateOptions, IoChoice, OpenOptions, PAGE_SIZE, PageIndex, SegmentId, Store};
use std::fs::{File, OpenOptions as FileOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CHUNK: usize = 1 << 20;

fn main() {
    // `cargo test --benches` only asks whether it builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let mib = std::env::var("SEMPER_BENCH_MIB").map_or(1024, |text| text.parse().unwrap());
    let base =
        std::env::var("SEMPER_BENCH_DIR").map_or_else(|_| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(base).unwrap();
    for round in 0..3 {
        for io in [IoChoice::Auto, IoChoice::Plain] {
            large_commit(dir.path(), io, mib, round);
        }
    }
    for io in [IoChoice::Auto, IoChoice::Plain] {
        small_commits(dir.path(), io);
    }
    random_updates(dir.path());
    reads(dir.path(), mib);
}

fn open(dir: &Path, io: IoChoice) -> Store {
    // A store for each way of writing, so that neither profits from blocks that the other has laid out.
    let path = dir.join(format!("store-{io:?}"));
    if !path.exists() {
        drop(Store::create(&path, &CreateOptions::default()).unwrap());
    }
    Store::open(&path, &OpenOptions { io, ..OpenOptions::default() }).unwrap()
}

fn fill(buffer: &mut [u8], rng: &mut SimRng) {
    for page in buffer.chunks_mut(PAGE_SIZE) {
        page[..8].copy_from_slice(&(rng.bits() | 1).to_le_bytes());
        page[PAGE_SIZE - 1] = 1;
    }
}

/// Writes sequentially to a fresh file in the two ways there are; the better one counts.
fn raw_sequential(dir: &Path, mib: usize) -> Duration {
    let path = dir.join("raw");
    let mut buffer = vec![7_u8; CHUNK];
    let mut rng = SimRng::new(1);
    let file = File::create(&path).unwrap();
    let start = Instant::now();
    for i in 0..mib {
        fill(&mut buffer, &mut rng);
        file.write_all_at(&buffer, (i * CHUNK) as u64).unwrap();
    }
    file.sync_all().unwrap();
    let time = start.elapsed();
    std::fs::remove_file(path).unwrap();
    time
}

fn large_commit(dir: &Path, io: IoChoice, mib: usize, round: usize) {
    let raw = raw_sequential(dir, mib);
    let store = open(dir, io);
    let (mut buffer, mut rng) = (vec![7_u8; CHUNK], SimRng::new(2));
    let start = Instant::now();
    let mut commit = store.begin().unwrap();
    for i in 0..mib {
        fill(&mut buffer, &mut rng);
        commit.put(SegmentId(1), PageIndex((i * CHUNK / PAGE_SIZE) as u64), &buffer).unwrap();
    }
    let put = start.elapsed();
    let committed = commit.commit().unwrap();
    let time = start.elapsed();
    println!(
        "commit of {mib} MiB ({}), round {round}: {time:.2?} (put {put:.2?}, tree {:.2?}, flush {:.2?}); raw write + fsync {raw:.2?}; ratio {:.2}",
        store.io_kind(),
        committed.write_time,
        committed.flush_time,
        time.as_secs_f64() / raw.as_secs_f64(),
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn small_commits(dir: &Path, io: IoChoice) {
    let store = open(dir, io);
    let mut rng = SimRng::new(3);
    let mut page = vec![1_u8; PAGE_SIZE];
    let raw = FileOptions::new().create(true).truncate(false).write(true).open(dir.join("raw-small")).unwrap();
    raw.write_all_at(&vec![1; 64 * PAGE_SIZE], 0).unwrap();
    raw.sync_all().unwrap();
    let (mut times, mut raw_times) = (Vec::new(), Vec::new());
    for round in 0..300_u64 {
        let start = Instant::now();
        let mut commit = store.begin().unwrap();
        for _ in 0..4 {
            fill(&mut page, &mut rng);
            commit.put(SegmentId(1), PageIndex(rng.below(4096)), &page).unwrap();
        }
        commit.commit().unwrap();
        times.push(start.elapsed());
        let start = Instant::now();
        raw.write_all_at(&vec![2; 6 * PAGE_SIZE], round % 8 * 6 * PAGE_SIZE as u64).unwrap();
        raw.sync_data().unwrap();
        raw.write_all_at(&page, 60 * PAGE_SIZE as u64).unwrap();
        raw.sync_data().unwrap();
        raw_times.push(start.elapsed());
    }
    let (ours, raw) = (median(times), median(raw_times));
    println!(
        "commit of 4 pages ({}): median {ours:.1?}; raw 2 x (write + fdatasync) {raw:.1?}; ratio {:.2}",
        store.io_kind(),
        ours.as_secs_f64() / raw.as_secs_f64()
    );
}

fn random_updates(dir: &Path) {
    let store = open(dir, IoChoice::Auto);
    let mut rng = SimRng::new(4);
    let mut page = vec![1_u8; PAGE_SIZE];
    for round in 0..3 {
        let start = Instant::now();
        let mut commit = store.begin().unwrap();
        for _ in 0..100_000 {
            fill(&mut page, &mut rng);
            commit.put(SegmentId(1), PageIndex(rng.below(262_144)), &page).unwrap();
        }
        let put = start.elapsed();
        let c = commit.commit().unwrap();
        let bytes = c.bytes >> 20;
        println!(
            "100,000 random pages, round {round}: put {put:.2?}, tree {:.2?}, flush {:.2?}, {bytes} MiB",
            c.write_time, c.flush_time
        );
    }
}

fn reads(dir: &Path, mib: usize) {
    let start = Instant::now();
    let store = open(dir, IoChoice::Auto);
    let opened = start.elapsed();
    drop(store.begin().unwrap());
    println!("open: {opened:.2?}; free map known after {:.2?}", start.elapsed());
    let pages = (mib * CHUNK / PAGE_SIZE) as u64;
    let mut buffer = vec![0; CHUNK];
    let sequential = |buffer: &mut [u8]| {
        let start = Instant::now();
        for at in (0..pages).step_by(buffer.len() / PAGE_SIZE) {
            store.read(SegmentId(1), PageIndex(at), buffer).unwrap();
        }
        start.elapsed() / u32::try_from(pages).unwrap()
    };
    let cold = sequential(&mut buffer);
    let warm = sequential(&mut buffer);
    println!("sequential read, 1 MiB at once, per page: first {cold:.2?}, warm {warm:.2?}");
    let mut rng = SimRng::new(5);
    let mut times: Vec<Duration> = (0..50_000)
        .map(|_| {
            let at = rng.below(pages);
            let start = Instant::now();
            store.read(SegmentId(1), PageIndex(at), &mut buffer[..PAGE_SIZE]).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("random read of a page, warm: median {:.2?}, p99 {:.2?}", times[25_000], times[49_500]);
}
