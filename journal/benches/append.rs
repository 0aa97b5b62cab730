//! The figures of the journal, each against the raw file system in the same run:
//! `cargo bench -p semper-journal --bench append` (`-- --quick`: a few seconds, no figures to rely on; `SEMPER_BENCH_DIR`: another file
//! system than that of the target directory).

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a bench fails by panicking")]

use io_uring::{IoUring, opcode, squeue, types};
use semper_journal::{Appended, Journal, Options, Writer};
use semper_store::{DirFolder, StoreId};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
/// Bytes of a record.
const PAYLOAD: usize = 100;
const CLIENTS: u32 = 64;
const RAW_BYTES: u64 = 64 << 20;

fn main() {
    // `cargo test --benches` only asks whether it builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (rounds, appends, each) = if quick { (1, 200, 20) } else { (3, 4000, 400) };
    let base =
        std::env::var("SEMPER_BENCH_DIR").map_or_else(|_| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(base).unwrap();
    for _ in 0..rounds {
        // By turns, so that what the disk does to one it does to the others.
        let raw = p50(raw_writes(dir.path(), appends, plain));
        let only_allocated = p50(raw_allocated(dir.path(), appends));
        let ring = p50(raw_writes(dir.path(), appends, ring_writes()));
        let one = durable(dir.path(), appends);
        let alone = p50(one.clone());
        let rate_one = rate(appends, one.iter().sum());
        let rate_many = many(dir.path(), each);
        println!("raw write + fdatasync, zeros first    p50 {raw:>9.1?}");
        println!(
            "raw, allocated only                   p50 {only_allocated:>9.1?}  {:.2} x",
            ratio(only_allocated, raw)
        );
        println!("raw, io_uring write linked to fsync   p50 {ring:>9.1?}  {:.2} x", ratio(ring, raw));
        println!("durable append, one writer            p50 {alone:>9.1?}  {:.2} x raw (bar 1.3)", ratio(alone, raw));
        println!(
            "appends per second: one writer {rate_one:.0}, {CLIENTS} writers {rate_many:.0}: {:.1} x (bar 15)",
            rate_many / rate_one
        );
    }
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn p50(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A file full of zeros.
fn zeros(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    for i in 0..RAW_BYTES >> 20 {
        file.write_all_at(&vec![0; 1 << 20], i << 20).unwrap();
    }
    file.sync_all().unwrap();
    file
}

/// One block after the other, each flushed.
fn raw_writes(dir: &Path, count: u64, mut write: impl FnMut(&File, &[u8], u64)) -> Vec<Duration> {
    let file = zeros(&dir.join("raw"));
    timed(&file, count, &mut write)
}

fn timed(file: &File, count: u64, write: &mut impl FnMut(&File, &[u8], u64)) -> Vec<Duration> {
    let block = [7; BLOCK];
    (0..count)
        .map(|i| {
            let begun = Instant::now();
            write(file, &block, i * BLOCK as u64 % RAW_BYTES);
            begun.elapsed()
        })
        .collect()
}

fn plain(file: &File, block: &[u8], offset: u64) {
    file.write_all_at(block, offset).unwrap();
    file.sync_data().unwrap();
}

/// As [`raw_writes`], in a file that was only allocated.
fn raw_allocated(dir: &Path, count: u64) -> Vec<Duration> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(dir.join("allocated")).unwrap();
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, i64::try_from(RAW_BYTES).unwrap()).unwrap();
    file.sync_all().unwrap();
    timed(&file, count, &mut plain)
}

/// The write and the flush in one call of io_uring.
#[allow(unsafe_code)]
fn ring_writes() -> impl FnMut(&File, &[u8], u64) {
    let mut ring = IoUring::new(4).unwrap();
    move |file, block, offset| {
        let fd = types::Fd(file.as_raw_fd());
        let write = opcode::Write::new(fd, block.as_ptr(), BLOCK as u32).offset(offset).build();
        let fsync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        // SAFETY: the block and the file outlive the call, which waits for both.
        unsafe {
            ring.submission().push(&write.flags(squeue::Flags::IO_LINK)).unwrap();
            ring.submission().push(&fsync).unwrap();
        }
        ring.submit_and_wait(2).unwrap();
        assert!(ring.completion().all(|done| done.result() >= 0));
    }
}

fn open(dir: &Path, name: &str) -> Arc<Journal> {
    let path = dir.join(name);
    let _ = std::fs::remove_dir_all(&path);
    Journal::open(Arc::new(DirFolder::new(&path)), StoreId([1; 16]), 0, &Options::default()).unwrap()
}

fn append(journal: &Arc<Journal>, writer: u32, number: u64) {
    let appended = journal.append(Writer { number: writer, born: 0 }, number, &[7; PAYLOAD]).unwrap();
    assert!(matches!(appended, Appended::New(_)));
}

fn durable(dir: &Path, count: u64) -> Vec<Duration> {
    let journal = open(dir, "one");
    let one = |number| {
        let begun = Instant::now();
        append(&journal, 1, number);
        begun.elapsed()
    };
    (0..count).map(one).collect()
}

/// Appends per second of all clients together.
fn many(dir: &Path, each: u64) -> f64 {
    let journal = open(dir, "many");
    let start = Barrier::new(CLIENTS as usize + 1);
    std::thread::scope(|scope| {
        let (journal, start) = (&journal, &start);
        let client = |writer| {
            scope.spawn(move || {
                start.wait();
                (0..each).for_each(|number| append(journal, writer, number));
            })
        };
        let clients: Vec<_> = (1..=CLIENTS).map(client).collect();
        start.wait();
        let begun = Instant::now();
        clients.into_iter().for_each(|client| client.join().unwrap());
        rate(u64::from(CLIENTS) * each, begun.elapsed())
    })
}
