//! 64 clients, each of which appends a record of 100 bytes, waits until it is durable, and appends the next: to the journal, to SQLite, to
//! redb and etcd, turn about on the same disk.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml [--features etcd] [-- [--quick] [--dir DIR]]
//! ```

#[cfg(feature = "etcd")]
mod etcd;
mod logs;

use logs::{Journal, Log, Redb, SharedSqlite, Sqlite};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What fails with a sentence.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CLIENTS: u32 = 64;
const RECORD: &[u8; 100] = &[7; 100];

/// A way to open a log in an empty directory.
type Open = fn(&Path) -> Outcome<Box<dyn Log>>;

const LOGS: &[(&str, Open)] = &[
    ("the journal", Journal::open),
    ("SQLite, WAL, synchronous=FULL, a connection each", Sqlite::open),
    ("SQLite, the same, one connection for all", SharedSqlite::open),
    ("redb, durability immediate", Redb::open),
    #[cfg(feature = "etcd")]
    ("etcd, one member, by gRPC", etcd::Etcd::open),
];

/// What one run saw.
struct Seen {
    rate: f64,
    /// From the call to the return, of all appends.
    latencies: Vec<Duration>,
}

fn main() -> Outcome<()> {
    let (mut quick, mut dir) = (false, std::env::temp_dir());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--dir" => dir = args.next().map(PathBuf::from).ok_or("--dir wants a directory")?,
            other => return Err(format!("{other}? there are --quick and --dir DIR").into()),
        }
    }
    let (rounds, time) = if quick { (1, Duration::from_millis(500)) } else { (3, Duration::from_secs(5)) };
    let mut seen: Vec<Vec<Seen>> = LOGS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((name, open), seen) in LOGS.iter().zip(&mut seen) {
            let place = tempfile::tempdir_in(&dir)?;
            let log = open(place.path()).map_err(|error| format!("{name}: {error}"))?;
            seen.push(run(log.as_ref(), time).map_err(|error| format!("{name}: {error}"))?);
        }
    }
    println!("| {CLIENTS} clients, records of {} bytes | a second | journal / it | p50 | p99 |", RECORD.len());
    println!("| --- | --- | --- | --- | --- |");
    let journal = rate(&seen[0]);
    for ((name, _), seen) in LOGS.iter().zip(&seen) {
        let mut all: Vec<Duration> = seen.iter().flat_map(|seen| &seen.latencies).copied().collect();
        all.sort_unstable();
        let of = |percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)].as_secs_f64() * 1e3;
        println!("| {name} | {:.0} | {:.1} | {:.2} ms | {:.2} ms |", rate(seen), journal / rate(seen), of(50), of(99));
    }
    Ok(())
}

/// The median of the rounds.
fn rate(seen: &[Seen]) -> f64 {
    let mut rates: Vec<f64> = seen.iter().map(|seen| seen.rate).collect();
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn run(log: &dyn Log, time: Duration) -> Outcome<Seen> {
    let start = Barrier::new(CLIENTS as usize + 1);
    let (start, one) = (&start, |client: u32| -> Outcome<Vec<Duration>> {
        let mut client = log.client(client);
        start.wait();
        let (begun, mut latencies) = (Instant::now(), Vec::new());
        for number in 0.. {
            let asked = Instant::now();
            if asked - begun >= time {
                break;
            }
            client.as_mut().map_err(|error| error.to_string())?.append(number, RECORD)?;
            latencies.push(asked.elapsed());
        }
        Ok(latencies)
    });
    std::thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS).map(|client| scope.spawn(move || one(client))).collect();
        start.wait();
        let begun = Instant::now();
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.join().map_err(|_| "a client panicked")??);
        }
        let elapsed = begun.elapsed().as_secs_f64();
        if latencies.is_empty() {
            return Err("nothing was appended".into());
        }
        let count = u32::try_from(latencies.len())?;
        Ok(Seen { rate: f64::from(count) / elapsed, latencies })
    })
}
