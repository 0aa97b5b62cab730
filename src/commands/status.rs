//! `semper status`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{BinaryBytes, HumanCount, HumanDuration};
use semper::runtime::{Caches, DomainStatus, JournalStatus, Loan, Moved, ScrubPass, ScrubStatus, ShrinkStatus};

use super::figures::{Checkpoint, Checkpoints, Domain, Memory, Shown, Store, status, status_json};
use super::{Failure, mirror, say};
use crate::cli::Status;

const PAGE_BYTES: u64 = 4096;
/// How many of the last checkpoints are shown.
const SHOWN: usize = 5;

pub fn run(command: &Status) -> Result<ExitCode, Failure> {
    if command.json {
        say(status_json(&command.store)?);
    } else {
        show(&status(&command.store)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Shown) {
    let Shown { live, stalled, store, domains, memory, journal, native, mirrors, loan, scrub, checkpoints } = status;
    say(format_args!("store        {} ({})", store.dir, store.id));
    match Moved::of(Path::new(&store.dir)) {
        Ok(Some(Moved { to, .. })) => say(format_args!("state        moved to {to}")),
        _ if *live => say("state        running"),
        _ => say("state        at rest; semper resume goes on"),
    }
    if let Some(stalled) = stalled {
        say(format_args!("stalled      {stalled}"));
    }
    show_space(store);
    for (at, side) in mirrors.iter().enumerate() {
        say(format_args!("{:<12} {}", if at == 0 { "sides" } else { "" }, mirror::line(side)));
    }
    if let Some(Loan { lender, tag, copied }) = loan {
        let copied = copied.map_or_else(
            || "they are copied while it runs".to_owned(),
            |(done, total)| format!("{} of {} copied", BinaryBytes(done), BinaryBytes(total)),
        );
        say(format_args!("pages of     {lender}, which keeps them by the tag {tag}; {copied}"));
    }
    if let Some(memory) = memory {
        show_memory(memory);
    }
    match journal {
        None => {}
        Some(Ok(JournalStatus { first, end, bytes })) if first < end => {
            say(format_args!("journal      records {first} to {}, {}", end - 1, BinaryBytes(*bytes)));
        }
        Some(Ok(JournalStatus { bytes, .. })) => {
            say(format_args!("journal      no record yet, {}", BinaryBytes(*bytes)))
        }
        Some(Err(reason)) => say(format_args!("journal      {reason}")),
    }
    if let Some(scrub) = scrub {
        show_scrub(scrub);
    }
    if let Some(native) = native.as_ref().filter(|native| native.loaded > 0) {
        show_native(native);
    }
    if domains.is_empty() {
        say("programs     none");
    } else {
        say("programs");
        domains.iter().for_each(show_domain);
    }
    if let Some(checkpoints) = checkpoints {
        show_checkpoints(checkpoints);
    }
}

fn show_space(store: &Store) {
    let (used, total) = (store.used_pages * PAGE_BYTES, store.total_pages * PAGE_BYTES);
    say(format_args!("space        {} of {} used, written by {}", BinaryBytes(used), BinaryBytes(total), store.io));
    if let Some(ShrinkStatus { to_pages, beyond_pages }) = store.shrinking {
        let (to, beyond) = (BinaryBytes(to_pages * PAGE_BYTES), BinaryBytes(beyond_pages * PAGE_BYTES));
        say(format_args!("shrinking    to {to}, {beyond} lie beyond yet"));
    }
    let now = SystemTime::now();
    let kept: Vec<String> = store
        .generations
        .iter()
        .map(|&(generation, at)| {
            let age = now.duration_since(UNIX_EPOCH + Duration::from_secs(at)).unwrap_or_default();
            format!("{generation} ({} ago)", HumanDuration(Duration::from_secs(age.as_secs())))
        })
        .collect();
    say(format_args!("generations  {}, newest {}", kept.join(", "), store.generation));
}

fn show_scrub(scrub: &ScrubStatus) {
    let age = |seconds: u64| {
        let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap_or_default();
        format!("{} ago", HumanDuration(Duration::from_secs(age.as_secs())))
    };
    if let Some(ScrubPass { generation, begun_at, pages, pages_total, .. }) = &scrub.now {
        let percent = 100 * pages / pages_total.max(&1);
        let how = if scrub.live { "is at" } else { "was ended at" };
        say(format_args!("scrub        {how} {percent} % of generation {generation}, begun {}", age(*begun_at)));
    }
    if let Some(ScrubPass { generation, ended_at, pages, faults, repaired, .. }) = &scrub.last {
        let found = if *faults == 0 { "sound".to_owned() } else { format!("DAMAGED, {} faults", HumanCount(*faults)) };
        let (pages, when) = (HumanCount(*pages), age(ended_at.unwrap_or_default()));
        let repaired =
            if *repaired == 0 { String::new() } else { format!(", {} blocks repaired", HumanCount(*repaired)) };
        say(format_args!("scrub        {found}: {pages} pages from generation {generation} on read{repaired}, {when}"));
    }
}

fn show_memory(memory: &Memory) {
    let limit = memory.limit_bytes.map(|limit| format!(" of {}", BinaryBytes(limit))).unwrap_or_default();
    say(format_args!(
        "memory       {}{limit}, {} write tracking, {} faults served, {} pages evicted",
        BinaryBytes(memory.resident_bytes),
        memory.tracking,
        memory.faults,
        memory.evicted
    ));
}

fn show_native(native: &Caches) {
    let Caches { processes, process_limit, waiting, loaded, segments, .. } = native;
    let waiting = if *waiting == 0 { String::new() } else { format!(", {waiting} domains wait for one") };
    say(format_args!(
        "native       {processes} processes of {process_limit}{waiting}; {loaded} domains and {segments} segments in memory"
    ));
}

/// A program of a listing, as the status shows it.
pub fn show_program(program: &DomainStatus) {
    let DomainStatus { id, name, state, exit_code, exit_signal, cpu_ms, held_output, cpu_level, recorded, .. } =
        program.clone();
    show_domain(&Domain { id, name, state, exit_code, exit_signal, cpu_ms, held_output, cpu_level, recorded });
}

fn show_domain(domain: &Domain) {
    let state = match (domain.exit_code, domain.exit_signal) {
        (Some(code), _) => format!("{} with status {code}", domain.state),
        (None, Some(signal)) => format!("{} by signal {signal}", domain.state),
        (None, None) => domain.state.clone(),
    };
    let held = match domain.held_output {
        0 => String::new(),
        bytes => format!(", {} of output held", BinaryBytes(bytes)),
    };
    let level = domain.cpu_level.as_ref().map(|level| format!(", for {level}")).unwrap_or_default();
    let recorded = if domain.recorded == Some(true) { ", recorded" } else { "" };
    let cpu = Duration::from_millis(domain.cpu_ms);
    say(format_args!(
        "  {:>3}  {:<20} {state}, {:.1} s of processor time{level}{recorded}{held}",
        domain.id,
        domain.name,
        cpu.as_secs_f64()
    ));
}

fn show_checkpoints(checkpoints: &Checkpoints) {
    let Checkpoints { last, totals, pauses } = checkpoints;
    say(format_args!(
        "checkpoints  {} committed, {} failed; pauses: half within {}, 99 % within {}, longest {}",
        totals.committed,
        totals.failed,
        milliseconds(pauses.p50_us),
        milliseconds(pauses.p99_us),
        milliseconds(pauses.max_us)
    ));
    if last.is_empty() {
        return;
    }
    say("  generation     pages       bytes  rounds     pause  slowed by     write     flush");
    for Checkpoint { generation, pages, bytes, rounds, pause_us, throttle_us, write_us, flush_us, .. } in
        last.iter().skip(last.len().saturating_sub(SHOWN))
    {
        say(format_args!(
            "  {generation:>10}  {pages:>8}  {:>10}  {rounds:>6}  {:>8}  {:>9}  {:>8}  {:>8}",
            BinaryBytes(*bytes).to_string(),
            milliseconds(*pause_us),
            if *throttle_us == 0 { "-".into() } else { milliseconds(*throttle_us) },
            milliseconds(*write_us),
            milliseconds(*flush_us)
        ));
    }
}

/// Microseconds as milliseconds, with as many digits as matter.
pub fn milliseconds(us: u64) -> String {
    let us = Duration::from_micros(us).as_secs_f64() * 1000.0;
    if us < 10.0 { format!("{us:.2} ms") } else { format!("{us:.0} ms") }
}
