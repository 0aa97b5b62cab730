//! `semper ls`.

use std::process::ExitCode;
use std::time::Duration;

use semper::control::Request;
use semper::runtime::{Listing, offline_listing};
use semper_domains::native::inspect::{BankView, Sold, SoldView};

use super::document::document;
use super::{Failure, say, status};
use crate::cli::Ls;

/// From so much on a quota is shown as none.
const NO_LIMIT: u64 = 1 << 30;

pub fn run(command: &Ls) -> Result<ExitCode, Failure> {
    let store = &command.store;
    let request = Request::List { depth: command.depth };
    let (listing, json): (Listing, String) = document(store, &request, || Ok(offline_listing(store, command.depth)?))?;
    if command.json {
        say(json);
    } else {
        show(&listing);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(listing: &Listing) {
    let Listing { tree, linux, .. } = listing;
    match &tree.bank {
        Some(bank) => show_bank(bank, 0),
        None => say("no objects: no program has run in this store"),
    }
    if !linux.is_empty() {
        say("linux programs");
        linux.iter().for_each(status::show_program);
    }
}

fn show_bank(bank: &BankView, level: usize) {
    let indent = "  ".repeat(level);
    let name = match &bank.program {
        Some(program) => format!(" of program {program}"),
        None if level == 0 => " (prime)".into(),
        None => String::new(),
    };
    let dying = if bank.dying { ", being destroyed" } else { "" };
    say(format_args!(
        "{indent}bank {}{name}: {} of {} pages, {} of {} records{dying}",
        bank.object,
        bank.pages_used,
        limit(bank.pages_allowed),
        bank.records_used,
        limit(bank.records_allowed)
    ));
    let indent = "  ".repeat(level + 1);
    if bank.sold.is_empty() && bank.incomplete {
        let counts: Vec<String> = bank.counts.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        say(format_args!("{indent}not listed: {}", counts.join(", ")));
    }
    for sold in &bank.sold {
        say(format_args!("{indent}{}", line(sold)));
    }
    bank.banks.iter().for_each(|below| show_bank(below, level + 1));
}

fn limit(allowed: u64) -> String {
    if allowed >= NO_LIMIT { "unlimited".into() } else { allowed.to_string() }
}

fn line(sold: &SoldView) -> String {
    let object = &sold.object;
    let kind = sold.what.kind();
    match &sold.what {
        Sold::Domain { program, linux, phase, stopped, cpu_ns, mappings, pages, pid } => {
            let of = if *linux { "Linux program" } else { "program" };
            let program = program.as_ref().map(|name| format!(" of {of} {name}")).unwrap_or_default();
            let stopped = if *stopped { ", stopped" } else { "" };
            let process = pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
            let cpu = seconds(*cpu_ns);
            format!(
                "{kind} {object}{program}: {phase}{stopped}, {cpu} of CPU, {mappings} mappings of {pages} pages{process}"
            )
        }
        Sold::Segment { pages, resident, .. } => {
            let resident = resident.map(|resident| format!(", {resident} in memory")).unwrap_or_default();
            format!("{kind} {object}: {pages} pages{resident}")
        }
        Sold::Page | Sold::Node => format!("{kind} {object}"),
        Sold::Meter { left_ns, used_ns } => {
            format!("{kind} {object}: {}, {} used", left(*left_ns), seconds(*used_ns))
        }
        Sold::Factory { sealed, holes } => {
            format!("{kind} {object}: {}, {holes} holes", if *sealed { "sealed" } else { "not sealed" })
        }
        Sold::Timer { at_ns } => match at_ns {
            Some(at) => format!("{kind} {object}: goes off at {} of the world's clock", seconds(*at)),
            None => format!("{kind} {object}: not set"),
        },
        Sold::Console { number } => format!("{kind} {object}: of program number {number}"),
    }
}

/// What is left of a budget.
pub fn left(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or_else(|| "no limit".into(), |left| format!("{} left", seconds(left)))
}

/// Nanoseconds as seconds.
pub fn seconds(nanoseconds: u64) -> String {
    format!("{:.3} s", Duration::from_nanos(nanoseconds).as_secs_f64())
}
