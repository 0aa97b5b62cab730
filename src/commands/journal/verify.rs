//! `semper journal verify`.

use std::path::Path;
use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount, ProgressBar};
use semper::control::{Connection, ControlError, Reply, Request};
use semper::runtime::mend_journal;
use semper_journal::{Error, Lost, Report};
use semper_store::{OpenOptions, Store};
use serde::Serialize;

use super::super::failure::code;
use super::super::{Failure, say};
use super::{folder, say_none};
use crate::cli::{JournalVerify, Status};

/// Records between two looks at the progress.
const STEP: u64 = 1000;

/// The report as `--json` prints it.
#[derive(Serialize)]
struct Document {
    sound: bool,
    first: u64,
    end: u64,
    records: u64,
    bytes: u64,
    segments: u64,
    lost: Vec<Stretch>,
    given_up: Vec<Stretch>,
    /// What does not hold on one side, and on another does; and how much of that was written anew.
    rotten: u64,
    repaired: u64,
    unfinished: bool,
}

#[derive(Serialize)]
struct Stretch {
    from: u64,
    to: u64,
    file: String,
    offset: u64,
    reason: String,
}

/// What a reading found.
pub struct Found {
    pub report: Report,
    /// What was rotten on one side before it, and is written anew.
    pub repaired: u64,
}

impl Found {
    /// Whether all records hold on all sides.
    pub fn is_sound(&self) -> bool {
        self.report.is_sound() && self.report.rotten == 0
    }
}

/// Reads all of a journal, and repairs it first if it is wished and needed; none: there is none. `progress` is told after each record.
pub fn look(dir: &Path, repairs: bool, progress: &mut dyn FnMut(&Report)) -> Result<Option<Found>, Failure> {
    let mut read = || -> Result<Option<Report>, Failure> {
        let (folder, id) = folder(dir)?;
        match semper_journal::verify(folder, id, progress) {
            Ok(report) => Ok(Some(report)),
            Err(Error::None) => Ok(None),
            Err(error) => Err(Failure::journal(dir, &error)),
        }
    };
    let Some(report) = read()? else { return Ok(None) };
    if !repairs || report.rotten == 0 {
        return Ok(Some(Found { report, repaired: 0 }));
    }
    let repaired = repair(dir)?;
    Ok(read()?.map(|report| Found { report, repaired }))
}

/// Has what is rotten on some sides written anew, by the runtime if there is one.
fn repair(dir: &Path) -> Result<u64, Failure> {
    match Connection::open(dir) {
        Ok(connection) => match connection.ask(&Request::MendJournal).map_err(|error| Failure::control(dir, error))? {
            Reply::JournalMended { repaired } => Ok(repaired),
            other => Err(Failure::control(dir, ControlError::Unexpected(Box::new(other)))),
        },
        Err(ControlError::NotRunning) => {
            let store = Store::open(dir, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })?;
            Ok(mend_journal(&store)?)
        }
        Err(error) => Err(Failure::control(dir, error)),
    }
}

pub fn run(command: &JournalVerify) -> Result<ExitCode, Failure> {
    let Status { store, json } = &command.on;
    let bar = ProgressBar::new_spinner();
    let found = look(store, command.repair, &mut |report| {
        if report.records % STEP == 0 {
            bar.set_message(format!("{} records", HumanCount(report.records)));
            bar.tick();
        }
    });
    bar.finish_and_clear();
    let Some(found) = found? else {
        if *json {
            let report = Report { first: 1, end: 1, ..Report::default() };
            say_json(&Found { report, repaired: 0 })?;
        } else {
            say_none(store);
        }
        return Ok(ExitCode::SUCCESS);
    };
    if *json {
        say_json(&found)?;
    } else {
        print(&found, &store.display().to_string());
    }
    Ok(ExitCode::from(if found.is_sound() { 0 } else { code::FOUND }))
}

/// Prints what was found.
pub fn print(Found { report, repaired }: &Found, store: &str) {
    report.lost.iter().for_each(|lost| say(format_args!("lost: {lost}")));
    report.given_up.iter().for_each(|lost| say(format_args!("given up: {lost}")));
    if report.torn {
        say("At its end something was begun and not finished; nobody was told that it was there.");
    }
    if *repaired > 0 {
        let repaired = HumanCount(*repaired);
        say(format_args!("In {repaired} places the journal was rotten on one side, and is written anew from another."));
    }
    let read = format!(
        "{} records with {} in {} segments read",
        HumanCount(report.records),
        BinaryBytes(report.bytes),
        HumanCount(report.segments)
    );
    if !report.is_sound() {
        say(format_args!("The journal of {store} is DAMAGED: {read}."));
        say(format_args!(
            "Bring back a copy of it, or give up what is lost: semper journal trim {store} --accept-loss"
        ));
    } else if report.rotten > 0 {
        say(format_args!(
            "The journal of {store} is rotten on one side in {} places, and nothing is lost: {read}. semper scrub {store} puts it right.",
            HumanCount(report.rotten)
        ));
    } else {
        say(format_args!("The journal of {store} is sound: {read}."));
    }
}

fn stretches(lost: &[Lost]) -> Vec<Stretch> {
    let stretch = |lost: &Lost| Stretch {
        from: lost.from,
        to: lost.to,
        file: lost.file.clone(),
        offset: lost.offset,
        reason: lost.reason.clone(),
    };
    lost.iter().map(stretch).collect()
}

/// The report as JSON.
pub fn document(found: &Found) -> impl Serialize + use<> {
    let Found { report, repaired } = found;
    Document {
        sound: found.is_sound(),
        first: report.first,
        end: report.end,
        records: report.records,
        bytes: report.bytes,
        segments: report.segments,
        lost: stretches(&report.lost),
        given_up: stretches(&report.given_up),
        rotten: report.rotten,
        repaired: *repaired,
        unfinished: report.torn,
    }
}

fn say_json(found: &Found) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&document(found))
        .map_err(|error| Failure::new(code::FAILED, format!("the report is no JSON: {error}")))?;
    say(text);
    Ok(())
}
