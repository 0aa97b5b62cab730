//! `semper generations`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{BinaryBytes, HumanDuration};
use semper_store::{Generation, PAGE_SIZE, Store};
use serde::Serialize;

use super::failure::code;
use super::{Failure, say};
use crate::cli::Status;

/// The list as `--json` prints it, newest first.
#[derive(Serialize)]
struct Document {
    generations: Vec<Shown>,
    /// Tags of generations that are not kept any more.
    void_tags: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    generation: u64,
    /// Seconds since 1970.
    committed_at: u64,
    pages: u64,
    tags: Vec<String>,
}

pub fn run(command: &Status) -> Result<ExitCode, Failure> {
    let store = Store::open_read_only(&command.store)?;
    let tags = Store::tags_in(&command.store);
    let named = |generation: Generation| {
        let of = tags.iter().filter(|tag| tag.generation == generation);
        of.map(|tag| tag.name.clone()).collect::<Vec<_>>()
    };
    let kept = store.generations();
    // Generation 0 is the empty store, before anything was committed.
    let generations = kept.iter().filter(|kept| kept.generation.0 > 0).map(|kept| Shown {
        generation: kept.generation.0,
        committed_at: kept.committed_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        pages: kept.pages,
        tags: named(kept.generation),
    });
    let gone = tags.iter().filter(|tag| kept.iter().all(|kept| kept.generation != tag.generation));
    let void_tags = gone.map(|tag| tag.name.clone()).collect();
    let document = Document { generations: generations.collect(), void_tags };
    if command.json {
        let json = serde_json::to_string(&document);
        say(json.map_err(|error| Failure::new(code::FAILED, format!("the answer is no JSON: {error}")))?);
        return Ok(ExitCode::SUCCESS);
    }
    say("generation        size  committed         tags");
    let now = SystemTime::now();
    for Shown { generation, committed_at, pages, tags } in &document.generations {
        let age = now.duration_since(UNIX_EPOCH + Duration::from_secs(*committed_at)).unwrap_or_default();
        let size = BinaryBytes(pages * PAGE_SIZE as u64).to_string();
        let age = format!("{} ago", HumanDuration(Duration::from_secs(age.as_secs())));
        say(format_args!("{generation:>10}  {size:>10}  {age:<16}  {}", tags.join(", ")).to_string().trim_end());
    }
    for name in &document.void_tags {
        say(format_args!("the tag {name} is void: its generation is not kept any more"));
    }
    Ok(ExitCode::SUCCESS)
}
