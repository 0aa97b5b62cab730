//! What the pager costs, on real processes, beside the floor of the kernel without us.
//!
//! `cargo bench -p semper-pager [-- NAME]`: names are scan, copy, fault, fresh, limit.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::cast_possible_truncation, missing_docs)]

#[path = "../tests/process/mod.rs"]
mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use process::{Process, SEG, range};
use semper_pager::{
    Backing, BackingError, PAGE_SIZE, PageIndex, Pager, PagerConfig, SegmentId, Stage, Staging, Tracking,
    TrackingChoice,
};

/// A store that gives the same page everywhere: as fast as a copy from the page cache.
struct Constant([u8; PAGE_SIZE]);

impl Backing for Constant {
    fn read(&self, _: SegmentId, _: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        out.chunks_mut(PAGE_SIZE).for_each(|page| page.copy_from_slice(&self.0));
        Ok(())
    }
}

fn pager(memory_limit: Option<u64>, tracking: TrackingChoice) -> Arc<Pager> {
    Pager::new(PagerConfig { memory_limit, tracking, verify: false }, Arc::new(Constant([7; PAGE_SIZE]))).unwrap()
}

fn stats(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    format!("min {:.0}  p50 {:.0}  p99 {:.0} us", at(0), at(50), at(99))
}

fn scan_and_copy() {
    let pages = 2 << 18;
    let pager = pager(None, TrackingChoice::Auto);
    let segment = pager.create_segment(SEG, 1 << 28).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    let (nanos, _) = process.touch(0, pages, true);
    println!("first touch of 2 GiB                        {:.2} us/page", nanos as f64 / 1e3 / pages as f64);
    let start = Instant::now();
    let first = pager.scan(Stage::Frozen).unwrap();
    println!("first scan of it ({} pages)             {:.1} ms", first.pages(), start.elapsed().as_secs_f64() * 1e3);
    pager.committed();
    for (name, stage) in [("frozen", Stage::Frozen), ("live", Stage::Live)] {
        let times = (0..200).map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            let scan = pager.scan(stage).unwrap();
            let time = start.elapsed();
            assert_eq!(scan.pages(), 0);
            pager.committed();
            time
        });
        println!("idle scan of 2 GiB, {name:6}                  {}", stats(times.collect()));
    }
    let mut staging = Staging::new();
    for count in [100, 1000, 10_000, 100_000] {
        let (mut scans, mut copies) = (Vec::new(), Vec::new());
        for _ in 0..if count > 10_000 { 5 } else { 30 } {
            let ops: Vec<_> = (0..count).map(|n| process::Op::Write(n * 7919 % pages, n)).collect();
            ops.chunks(60_000).for_each(|ops| drop(process.run(ops)));
            process.freeze();
            let start = Instant::now();
            let scan = pager.scan(Stage::Frozen).unwrap();
            scans.push(start.elapsed());
            staging.clear();
            let start = Instant::now();
            pager.copy(&scan, &mut staging).unwrap();
            copies.push(start.elapsed());
            assert_eq!(scan.pages(), count);
            process.thaw();
            pager.committed();
        }
        println!("{count:6} scattered pages written: scan          {}", stats(scans));
        println!("                           copy          {}", stats(copies));
    }
    println!("own memory for 2 GiB: {} KiB", pager.own_memory_bytes() >> 10);
}

fn faults() {
    let pages = 1 << 16;
    for choice in [TrackingChoice::Async, TrackingChoice::Sync] {
        let pager = pager(None, choice);
        let name = if pager.tracking() == Tracking::Async { "async" } else { "sync" };
        for (what, write) in [("read", false), ("write", true)] {
            let segment = pager.open_segment(SEG, pages * 8, &[range(0, pages * 8)]).unwrap();
            let (mut process, attachment) = Process::start(&segment);
            let (nanos, _) = process.touch(0, pages, write);
            println!(
                "{name:5} store, in order, {what:5}                 {:.2} us/page",
                nanos as f64 / 1e3 / pages as f64
            );
            drop((process, attachment));
            pager.close_segment(SEG);
            let segment = pager.open_segment(SEG, pages * 8, &[range(0, pages * 8)]).unwrap();
            let (mut process, attachment) = Process::start(&segment);
            let mut at = 1u64;
            let ops: Vec<_> = (0..20_000)
                .map(|_| {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let page = (at >> 20) % (pages * 8);
                    if write { process::Op::Write(page, 1) } else { process::Op::Read(page) }
                })
                .collect();
            process.begin(&ops);
            let nanos = process.wait(|| ());
            println!("{name:5} store, random, {what:5}                   {:.2} us/page", nanos as f64 / 1e3 / 20_000.0);
            drop((process, attachment));
            pager.close_segment(SEG);
        }
    }
}

fn fresh() {
    let pages = 1 << 17;
    let floor = {
        let fd = nix::sys::memfd::memfd_create("floor", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        let file = std::fs::File::from(fd);
        file.set_len(pages * PAGE_SIZE as u64).unwrap();
        // SAFETY: a new mapping of a file that only we have.
        let at = unsafe {
            use std::os::fd::AsRawFd;
            let (len, prot) = ((pages as usize) * PAGE_SIZE, libc::PROT_READ | libc::PROT_WRITE);
            libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, file.as_raw_fd(), 0).cast::<u8>()
        };
        let start = Instant::now();
        for page in 0..pages as usize {
            // SAFETY: within the mapping.
            unsafe { at.add(page * PAGE_SIZE).write_volatile(1) };
        }
        start.elapsed().as_nanos() as f64 / 1e3 / pages as f64
    };
    println!("plain memfd, first touch                    {floor:.2} us/page");
    for choice in [TrackingChoice::Async, TrackingChoice::Sync] {
        let pager = pager(None, choice);
        let segment = pager.create_segment(SEG, 1 << 28).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        let (first, _) = process.touch(0, pages, true);
        let first = first as f64 / 1e3 / pages as f64;
        println!("{choice:?}: fresh, first touch                   {first:.2} us/page, {:.2} of plain", first / floor);
        drop(pager.scan(Stage::Frozen).unwrap());
        pager.committed();
        let (again, _) = process.touch(0, pages, true);
        println!("{choice:?}: first write after a scan             {:.2} us/page", again as f64 / 1e3 / pages as f64);
    }
}

fn limit() {
    let store = Arc::new(process::MemoryStore::default());
    let config = PagerConfig { memory_limit: Some(256 << 20), ..PagerConfig::default() };
    let pager = Pager::new(config, store.clone()).unwrap();
    let pages = 2 << 18;
    let segment = pager.create_segment(SEG, pages).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    let mut staging = Staging::new();
    let start = Instant::now();
    let (mut most, mut pauses) = (0, Vec::new());
    process.start_writer(pages);
    while start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_micros(200));
        if !pager.wants_checkpoint() {
            continue;
        }
        most = most.max(pager.usage().resident);
        process.freeze();
        let freeze = Instant::now();
        let scan = pager.scan(Stage::Frozen).unwrap();
        staging.clear();
        pager.copy(&scan, &mut staging).unwrap();
        pauses.push(freeze.elapsed());
        process.thaw();
        staging.replay(&mut process::Apply(&mut store.pages.lock().unwrap())).unwrap();
        pager.committed();
    }
    let writes = process.progress();
    println!(
        "2 GiB random writes under 256 MiB: {:.0} writes/s, {} checkpoints, pause {}, most frames {} MiB, {} evictions",
        writes as f64 / start.elapsed().as_secs_f64(),
        pauses.len(),
        stats(pauses),
        most >> 8,
        pager.usage().evictions
    );
}

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let all: [(&str, fn()); 4] = [("scan", scan_and_copy), ("fault", faults), ("fresh", fresh), ("limit", limit)];
    for (name, bench) in all {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            bench();
        }
    }
}
