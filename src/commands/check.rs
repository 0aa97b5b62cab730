//! `semper check`.

use std::process::ExitCode;

use indicatif::HumanCount;
use semper_store::{CheckReport, Store};
use serde::Serialize;

use super::failure::code;
use super::journal::verify::{self, Found};
use super::{Failure, bar, say};
use crate::cli::Status;

/// The report as `--json` prints it.
#[derive(Serialize)]
struct Document {
    sound: bool,
    generations: Vec<u64>,
    superseded: Vec<u64>,
    pages: u64,
    nodes: u64,
    faults: Vec<Fault>,
    /// What does not hold on one side, and on another does.
    rotten: Vec<Fault>,
    /// How much was written anew from another side.
    mended: u64,
    more_faults: u64,
    notes: Vec<String>,
    /// What a scrub found in the journal, or why it cannot be read; none if it was not looked at, or there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Fault {
    generation: u64,
    segment: Option<u64>,
    page: Option<u64>,
    place: u64,
    reason: String,
}

impl From<&semper_store::Fault> for Fault {
    fn from(fault: &semper_store::Fault) -> Self {
        Self {
            generation: fault.generation.0,
            segment: fault.page.map(|(segment, _)| segment.0),
            page: fault.page.map(|(_, page)| page.0),
            place: fault.place,
            reason: fault.reason.clone(),
        }
    }
}

pub fn run(command: &Status) -> Result<ExitCode, Failure> {
    let store = Store::open_read_only(&command.store)?;
    let bar = bar(0);
    let report = store.check(&mut |progress| {
        bar.set_length(progress.blocks_total);
        bar.set_position(progress.blocks_done);
        bar.set_message(progress.generation.to_string());
    });
    bar.finish_and_clear();
    tell(&report, command, 0, None)
}

/// What was found in a journal, or why it cannot be read.
pub type InJournal = Result<Found, String>;

/// Prints what was found, and how much of it was put right; in the journal too, if that was read.
pub fn tell(
    report: &CheckReport,
    command: &Status,
    mended: u64,
    journal: Option<&InJournal>,
) -> Result<ExitCode, Failure> {
    let store = command.store.display().to_string();
    if command.json {
        print_json(report, mended, journal)?;
    } else {
        print(report, &store, mended);
        match journal {
            Some(Ok(found)) => verify::print(found, &store),
            Some(Err(why)) => say(why),
            None => {}
        }
    }
    let sound = report.is_sound() && journal.is_none_or(|journal| journal.as_ref().is_ok_and(Found::is_sound));
    Ok(ExitCode::from(if sound { 0 } else { code::FOUND }))
}

fn print(report: &CheckReport, store: &str, mended: u64) {
    for fault in report.faults.iter().chain(report.rotten.iter().map(|rotten| &rotten.fault)) {
        say(fault);
    }
    if report.more_faults > 0 {
        say(format_args!("and {} more", HumanCount(report.more_faults)));
    }
    for note in &report.notes {
        say(format_args!("note: {note}"));
    }
    let read = format!(
        "{} pages and {} tree nodes of {} generations read",
        HumanCount(report.pages),
        HumanCount(report.nodes),
        report.generations.len()
    );
    if mended > 0 {
        say(format_args!("{} blocks were rotten on one side, and are written anew from another.", HumanCount(mended)));
    }
    if report.is_sound() {
        say(format_args!("{store} is sound: {read}."));
        return;
    }
    if report.faults.is_empty() && !report.rotten.is_empty() {
        say(format_args!(
            "{store} is rotten on one side, and nothing is lost: {read}. semper scrub {store} puts it right."
        ));
        return;
    }
    say(format_args!("{store} is DAMAGED: {read}."));
    if report.free_map_holds == Some(false) {
        say("The map of free space does not hold; it is built anew at the next resume.");
    }
    say("If an older generation is whole, semper resume goes on from it, and says so. Copy the store before you try.");
}

fn print_json(report: &CheckReport, mended: u64, journal: Option<&InJournal>) -> Result<(), Failure> {
    let no_json = |error| Failure::new(code::FAILED, format!("the report is no JSON: {error}"));
    let journal = journal.map(|journal| match journal {
        Ok(found) => serde_json::to_value(verify::document(found)),
        Err(why) => Ok(serde_json::Value::from(why.as_str())),
    });
    let document = Document {
        sound: report.is_sound(),
        generations: report.generations.iter().map(|info| info.generation.0).collect(),
        superseded: report.superseded.iter().map(|generation| generation.0).collect(),
        pages: report.pages,
        nodes: report.nodes,
        faults: report.faults.iter().map(Fault::from).collect(),
        rotten: report.rotten.iter().map(|rotten| Fault::from(&rotten.fault)).collect(),
        mended,
        more_faults: report.more_faults,
        notes: report.notes.clone(),
        journal: journal.transpose().map_err(no_json)?,
    };
    say(serde_json::to_string_pretty(&document).map_err(no_json)?);
    Ok(())
}
