//! `semper diff`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use semper_store::{Change, PAGE_SIZE};
use serde::Serialize;

use super::failure::code;
use super::{Failure, held, say};
use crate::cli::Diff;

/// The differences as `--json` prints them.
#[derive(Serialize)]
struct Document {
    from: u64,
    to: u64,
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Segment {
    segment: u64,
    /// Pages that are other than before, or new.
    written: u64,
    /// Runs of pages that went.
    removed_runs: u64,
}

pub fn run(diff: &Diff) -> Result<ExitCode, Failure> {
    let held = held::open(&diff.store, &[Some(&diff.from), Some(&diff.to)])?;
    let (from, to) = (held.generations[0], held.generations[1]);
    let mut segments: BTreeMap<u64, Segment> = BTreeMap::new();
    held.store.changes(Some(from), to, &mut |change| {
        let (Change::Pages { segment, .. } | Change::Removed { segment, .. }) = change;
        let counts = segments.entry(segment.0).or_insert(Segment { segment: segment.0, ..Segment::default() });
        match change {
            Change::Pages { data, .. } => counts.written += (data.len() / PAGE_SIZE) as u64,
            Change::Removed { .. } => counts.removed_runs += 1,
        }
        ControlFlow::Continue(())
    })?;
    let document = Document { from: from.0, to: to.0, segments: segments.into_values().collect() };
    if diff.json {
        let json = serde_json::to_string(&document);
        say(json.map_err(|error| Failure::new(code::FAILED, format!("the answer is no JSON: {error}")))?);
        return Ok(ExitCode::SUCCESS);
    }
    say("   segment  pages written  runs removed");
    for Segment { segment, written, removed_runs } in &document.segments {
        let what = if *segment == 0 { "  the object table" } else { "" };
        say(format_args!("{segment:>10}  {written:>13}  {removed_runs:>12}{what}"));
    }
    Ok(ExitCode::SUCCESS)
}
