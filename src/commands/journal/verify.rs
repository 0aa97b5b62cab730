//! `semper journal verify`.

use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount, ProgressBar};
use semper_journal::{Error, Lost, Report};
use serde::Serialize;

use super::super::failure::code;
use super::super::{Failure, say};
use super::{folder, say_none};
use crate::cli::Status;

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

pub fn run(command: &Status) -> Result<ExitCode, Failure> {
    let (folder, id) = folder(&command.store)?;
    let bar = ProgressBar::new_spinner();
    let report = semper_journal::verify(folder, id, &mut |report| {
        if report.records % STEP == 0 {
            bar.set_message(format!("{} records", HumanCount(report.records)));
            bar.tick();
        }
    });
    bar.finish_and_clear();
    let report = match report {
        Ok(report) => report,
        Err(Error::None) => {
            if command.json {
                say_json(&Report { first: 1, end: 1, ..Report::default() })?;
            } else {
                say_none(&command.store);
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(Failure::journal(&command.store, &error)),
    };
    if command.json {
        say_json(&report)?;
    } else {
        print(&report, &command.store.display().to_string());
    }
    Ok(ExitCode::from(if report.is_sound() { 0 } else { code::FOUND }))
}

fn print(report: &Report, store: &str) {
    report.lost.iter().for_each(|lost| say(format_args!("lost: {lost}")));
    report.given_up.iter().for_each(|lost| say(format_args!("given up: {lost}")));
    if report.torn {
        say("At its end something was begun and not finished; nobody was told that it was there.");
    }
    let read = format!(
        "{} records with {} in {} segments read",
        HumanCount(report.records),
        BinaryBytes(report.bytes),
        HumanCount(report.segments)
    );
    if report.is_sound() {
        say(format_args!("The journal of {store} is sound: {read}."));
    } else {
        say(format_args!("The journal of {store} is DAMAGED: {read}."));
        say(format_args!(
            "Bring back a copy of it, or give up what is lost: semper journal trim {store} --accept-loss"
        ));
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

fn say_json(report: &Report) -> Result<(), Failure> {
    let document = Document {
        sound: report.is_sound(),
        first: report.first,
        end: report.end,
        records: report.records,
        bytes: report.bytes,
        segments: report.segments,
        lost: stretches(&report.lost),
        given_up: stretches(&report.given_up),
        unfinished: report.torn,
    };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Failure::new(code::FAILED, format!("the report is no JSON: {error}")))?;
    say(text);
    Ok(())
}
