//! `semper scrub`.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use semper::control::{Connection, ControlError, Reply, Request};
use semper::runtime::Scrubbing;
use semper_store::{CheckReport, Generation, OpenOptions, PAGE_SIZE, Store};

use super::failure::code;
use super::journal::verify::{self, Found};
use super::served::to_rotten;
use super::{Failure, bar, check, give_way, held};
use crate::cli::Scrub;

/// How often a reading is begun anew, because the generation that it began with went.
const TRIES: u32 = 5;

/// Blocks that a runtime is asked at once to write anew.
const MENDED_AT_ONCE: usize = 256;

/// How often it is kept how far it has come.
const KEPT: Duration = Duration::from_millis(500);

pub fn run(scrub: &Scrub) -> Result<ExitCode, Failure> {
    give_way();
    let dir = &scrub.on.store;
    // Whether there is a store at all, before a file is made beside it.
    held::open_beside(dir, &[None])?;
    let begun = Scrubbing::begin(dir);
    let begun = begun.map_err(|error| Failure::io(format_args!("keep in {} what is found", dir.display()), &error))?;
    let Some(mut kept) = begun else {
        return Err(Failure::new(code::IN_USE, format!("another scrub of {} is under way", dir.display())));
    };
    loop {
        let (report, mended) = pass(scrub, &mut kept)?;
        let journal = read_journal(dir, scrub.rate_limit)?;
        let (lost, repaired) = match &journal {
            Some(Ok(found)) => (found.report.lost.len() as u64, found.repaired),
            Some(Err(_)) => (1, 0),
            None => (0, 0),
        };
        let faults = report.faults.len() as u64 + report.more_faults + lost;
        kept.end(report.pages + report.nodes, faults, mended + repaired);
        let code = check::tell(&report, &scrub.on, mended, journal.as_ref())?;
        let Some(every) = scrub.every else { return Ok(code) };
        thread::sleep(every);
    }
}

/// Reads all of the newest generation, and what older ones have besides; says what was found, and how much of it was put right.
fn pass(scrub: &Scrub, kept: &mut Scrubbing) -> Result<(CheckReport, u64), Failure> {
    let dir = &scrub.on.store;
    for _ in 0..TRIES {
        let held = held::open_beside(dir, &[None])?;
        let generation = held.generations[0];
        let mut report = read(&held.store, generation, scrub.rate_limit, kept);
        if !report.superseded.contains(&generation) {
            // What is rotten is of a generation that is held.
            let mended = mend(dir, &mut report)?;
            return Ok((report, mended));
        }
        eprintln!("semper: {} went while it was read; again", generation);
    }
    Err(gone(dir))
}

/// Reads all of the journal, on all sides, and has it repaired; none: there is none. Inside: why it cannot be read.
fn read_journal(dir: &Path, rate: Option<u64>) -> Result<Option<Result<Found, String>>, Failure> {
    let begun = Instant::now();
    let looked = verify::look(dir, true, &mut |report| {
        if let Some(rate) = rate {
            thread::sleep(due(report.bytes / PAGE_SIZE as u64, rate).saturating_sub(begun.elapsed()));
        }
    });
    match looked {
        Ok(found) => Ok(found.map(Ok)),
        Err(failure) if failure.code == code::NO_STORE => Ok(Some(Err(failure.message))),
        Err(failure) => Err(failure),
    }
}

/// Has what is rotten on some sides written anew. What could not be stays in the report, if it is still needed. Says how many blocks were.
fn mend(dir: &Path, report: &mut CheckReport) -> Result<u64, Failure> {
    let rotten = std::mem::take(&mut report.rotten);
    for some in rotten.chunks(MENDED_AT_ONCE) {
        let left = match Connection::open(dir) {
            Ok(connection) => {
                let request = Request::Mend { blocks: some.iter().map(|rotten| to_rotten(&rotten.block)).collect() };
                match connection.ask(&request).map_err(|error| Failure::control(dir, error))? {
                    Reply::Mended { left } => left,
                    other => return Err(Failure::control(dir, ControlError::Unexpected(Box::new(other)))),
                }
            }
            Err(ControlError::NotRunning) => {
                let store = Store::open(dir, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })?;
                let left = (0..).zip(some).filter(|(_, rotten)| store.mend(&rotten.block).is_none());
                left.map(|(at, _)| at).collect()
            }
            Err(error) => return Err(Failure::control(dir, error)),
        };
        report.rotten.extend((0..).zip(some).filter(|(at, _)| left.contains(at)).map(|(_, rotten)| rotten.clone()));
    }
    let mended = rotten.len() - report.rotten.len();
    if !report.rotten.is_empty() {
        let kept = Store::open_read_only(dir)?.generations();
        report.rotten.retain(|rotten| kept.iter().any(|kept| kept.generation == rotten.fault.generation));
    }
    Ok(mended as u64)
}

fn gone(dir: &Path) -> Failure {
    let told = format!("{} was resumed, or its runtime ended, each time while it was read; try again", dir.display());
    Failure::new(code::NOT_FOUND, told)
}

fn read(store: &semper_store::Store, generation: Generation, rate: Option<u64>, kept: &mut Scrubbing) -> CheckReport {
    let bar = bar(0);
    let begun = Instant::now();
    let mut told = begun;
    kept.pass(generation.0);
    let report = store.check_from(Some(generation), &mut |progress| {
        bar.set_length(progress.blocks_total);
        bar.set_position(progress.blocks_done);
        bar.set_message(progress.generation.to_string());
        if told.elapsed() >= KEPT {
            kept.at(progress.blocks_done, progress.blocks_total);
            told = Instant::now();
        }
        if let Some(rate) = rate {
            thread::sleep(due(progress.blocks_done, rate).saturating_sub(begun.elapsed()));
        }
    });
    bar.finish_and_clear();
    report
}

/// When so many pages may have been read.
fn due(pages: u64, rate: u64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a pace needs no more digits")]
    let seconds = pages as f64 * PAGE_SIZE as f64 / rate.max(1) as f64;
    // A rate of a byte would come to more than a duration holds.
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
