//! Committing much at once, against writing as much to a file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::native::{Program, ask, status};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median};

const CHUNK_BYTES: usize = 1 << 20;

/// Line 8.
pub fn commit(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "dirty")?;
    let mib: usize = place.pick(1024, 128);
    let program = Program::new(file, [mib.to_string()]);
    let store = place.store();
    let mut live = program.under(&store, &["--checkpoint-interval", "0", "--output", "immediate"])?;
    let (mut fresh, mut again, mut raw, mut parts) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for round in 0..place.pick(6, 2) {
        raw.push(write_sequentially(place.path(), mib)?);
        live.tell("fill")?;
        live.wait_for("ready", || {})?;
        let start = Instant::now();
        ask("checkpoint", &store, &[])?;
        let took = start.elapsed();
        // New pages come first; after them pages that the store holds already.
        if round == 0 { &mut fresh } else { &mut again }.push(took);
        parts = part_times(&store)?;
    }
    live.kill()?;
    fs::remove_dir_all(&store)?;
    let seconds = |times: &[Duration]| median(times).unwrap_or_default().as_secs_f64();
    let floor = seconds(&raw);
    let line = |what: &str, times: &[Duration]| {
        let time = seconds(times);
        Line::new(format!("committing {mib} MiB of {what} / writing it with fsync"), Unit::Ratio, time / floor)
            .against(2.0, 1.2)
            .note(format!("{time:.2} s of {}, file {floor:.2} s; {parts}", times.len()))
    };
    Ok(vec![line("new pages", &fresh), line("rewritten pages", &again)])
}

fn part_times(store: &Path) -> Outcome<String> {
    let status = status(store)?;
    let last = status["checkpoints"]["last"].as_array().and_then(|last| last.last()).cloned().unwrap_or_default();
    let part = |name: &str| last[name].as_u64().unwrap_or(0);
    let (write, flush, pages) = (part("write_us") / 1000, part("flush_us") / 1000, part("pages"));
    Ok(format!("last: {pages} pages, write {write} ms, flush {flush} ms, of {} ms", part("total_us") / 1000))
}

/// Content that does not compress, made before the clock runs.
fn write_sequentially(dir: &Path, mib: usize) -> Outcome<Duration> {
    let path = dir.join("sequential");
    let mut chunk = vec![0; CHUNK_BYTES];
    fastrand::Rng::with_seed(1).fill(&mut chunk);
    let mut file = File::create(&path)?;
    let start = Instant::now();
    for _ in 0..mib {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    let took = start.elapsed();
    fs::remove_file(path)?;
    Ok(took)
}
