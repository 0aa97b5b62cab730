//! `semper scrub`.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use semper::runtime::Scrubbing;
use semper_store::{CheckReport, Generation, PAGE_SIZE};

use super::failure::code;
use super::{Failure, bar, check, give_way, held};
use crate::cli::Scrub;

/// How often a reading is begun anew, because the generation that it began with went.
const TRIES: u32 = 5;

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
        let report = pass(scrub, &mut kept)?;
        kept.end(report.pages + report.nodes, report.faults.len() as u64 + report.more_faults);
        let code = check::tell(&report, &scrub.on)?;
        let Some(every) = scrub.every else { return Ok(code) };
        thread::sleep(every);
    }
}

/// Reads all of the newest generation, and what older ones have besides.
fn pass(scrub: &Scrub, kept: &mut Scrubbing) -> Result<CheckReport, Failure> {
    let dir = &scrub.on.store;
    for _ in 0..TRIES {
        let held = held::open_beside(dir, &[None])?;
        let generation = held.generations[0];
        let report = read(&held.store, generation, scrub.rate_limit, kept);
        if !report.superseded.contains(&generation) {
            return Ok(report);
        }
        eprintln!("semper: {} went while it was read; again", generation);
    }
    Err(gone(dir))
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
