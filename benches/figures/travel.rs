//! From a command that goes back, or forks, to the first instruction; and reading all of a store to see whether it holds.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Advice, fadvise};

use crate::Outcome;
use crate::loads;
use crate::memory::Beyond;
use crate::native::{Program, ask, resume, semper};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median, percentile};
use crate::revival::{DEAD, since, warm};

const ASKED: [&str; 4] = ["--checkpoint-interval", "0", "--output", "immediate"];

/// `rewind` and `fork`.
pub fn travel(place: &mut Place) -> Outcome<Vec<Line>> {
    let mib: u64 = place.pick(8192, 512);
    let times = place.pick(7, 2);
    let program = Program::new(programs::c(place, "revive")?, [mib.to_string()]);
    let (store, fork) = (place.store(), place.store());
    let live = loads::ready(&program, &store, &ASKED, &mut Beyond::new("travel"))?;
    ask("checkpoint", &store, &[])?;
    ask("tag", &store, &["base"])?;
    live.kill()?;
    let (mut back, mut forked) = (Vec::new(), Vec::new());
    for _ in 0..times {
        back.push(first_instruction(&store, &store, || ask("rewind", &store, &["--to", "base"]).map(drop))?);
    }
    for _ in 0..times {
        let new = fork.to_string_lossy().into_owned();
        forked.push(first_instruction(&store, &fork, || ask("fork", &store, &[&new]).map(drop))?);
        fs::remove_dir_all(&fork)?;
        for tag in tags(&store)?.iter().filter(|tag| tag.starts_with("fork-")) {
            ask("tag", &store, &[tag, "--delete"])?;
        }
    }
    fs::remove_dir_all(&store)?;
    let line = |what: &str, measured: &[f64]| {
        Line::new(
            format!("{what} to the first instruction, {mib} MiB"),
            Unit::Millis,
            median(measured).unwrap_or(f64::NAN),
        )
        .against(200.0, 50.0)
        .note(format!(
            "longest of {times} {:.1} ms; with the start of `resume`, on {}",
            percentile(measured, 100).unwrap_or(f64::NAN),
            place.file_system()
        ))
    };
    Ok(vec![line("rewind", &back), line("fork", &forked)])
}

/// The names of a store's generations.
fn tags(store: &Path) -> Outcome<Vec<String>> {
    Ok(semper_store::Store::tags_in(store).into_iter().map(|tag| tag.name).collect())
}

/// Milliseconds from before `travel` to the first instruction of the program in `goes_on`.
fn first_instruction(store: &Path, goes_on: &Path, travel: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    std::thread::sleep(DEAD);
    warm(store)?;
    let started = SystemTime::now();
    travel()?;
    let mut live = resume(goes_on, &ASKED)?;
    let said = live.wait_for("first", || {})?;
    live.kill()?;
    Ok(since(started, said.value))
}

/// `scrub`.
pub fn scrub(place: &mut Place) -> Outcome<Vec<Line>> {
    let mib: u64 = place.pick(4096, 256);
    let program = Program::new(programs::c(place, "revive")?, [mib.to_string()]);
    let store = place.store();
    let live = loads::ready(&program, &store, &ASKED, &mut Beyond::new("scrub"))?;
    ask("checkpoint", &store, &[])?;
    live.kill()?;
    let (mut floor, mut scrubbed) = (Vec::new(), Vec::new());
    for _ in 0..place.pick(3, 1) {
        floor.push(cold(&store, || warm(&store))?);
        scrubbed.push(cold(&store, || {
            let output = semper("scrub", &store).output()?;
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}").into()) }
        })?);
    }
    fs::remove_dir_all(&store)?;
    let seconds = |times: &[Duration]| median(times).unwrap_or_default().as_secs_f64();
    let (floor, scrubbed) = (seconds(&floor), seconds(&scrubbed));
    Ok(vec![
        Line::new(format!("scrub of {mib} MiB / reading the file in order"), Unit::Ratio, scrubbed / floor)
            .against(1.5, 1.1)
            .note(format!("{scrubbed:.2} s, {floor:.2} s; from the disk, nothing of it in the cache")),
    ])
}

/// How long it takes when nothing of the store is in the cache of the host.
fn cold(store: &Path, read: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let pages = File::open(store.join("pages"))?;
    pages.sync_all()?;
    fadvise(&pages, 0, None, Advice::DontNeed)?;
    let start = Instant::now();
    read()?;
    Ok(start.elapsed())
}
