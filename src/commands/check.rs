//! `semper check`.

use std::process::ExitCode;

use indicatif::HumanCount;
use semper_store::{CheckReport, Store};
use serde::Serialize;

use super::failure::code;
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
    more_faults: u64,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Fault {
    generation: u64,
    segment: Option<u64>,
    page: Option<u64>,
    place: u64,
    reason: String,
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
    tell(&report, command)
}

/// Prints what was found.
pub fn tell(report: &CheckReport, command: &Status) -> Result<ExitCode, Failure> {
    if command.json {
        print_json(report)?;
    } else {
        print(report, &command.store.display().to_string());
    }
    Ok(ExitCode::from(if report.is_sound() { 0 } else { code::FOUND }))
}

fn print(report: &CheckReport, store: &str) {
    for fault in &report.faults {
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
    if report.is_sound() {
        say(format_args!("{store} is sound: {read}."));
        return;
    }
    say(format_args!("{store} is DAMAGED: {read}."));
    if report.free_map_holds == Some(false) {
        say("The map of free space does not hold; it is built anew at the next resume.");
    }
    say("If an older generation is whole, semper resume goes on from it, and says so. Copy the store before you try.");
}

fn print_json(report: &CheckReport) -> Result<(), Failure> {
    let document = Document {
        sound: report.is_sound(),
        generations: report.generations.iter().map(|info| info.generation.0).collect(),
        superseded: report.superseded.iter().map(|generation| generation.0).collect(),
        pages: report.pages,
        nodes: report.nodes,
        faults: report
            .faults
            .iter()
            .map(|fault| Fault {
                generation: fault.generation.0,
                segment: fault.page.map(|(segment, _)| segment.0),
                page: fault.page.map(|(_, page)| page.0),
                place: fault.place,
                reason: fault.reason.clone(),
            })
            .collect(),
        more_faults: report.more_faults,
        notes: report.notes.clone(),
    };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Failure::new(code::FAILED, format!("the report is no JSON: {error}")))?;
    say(text);
    Ok(())
}
