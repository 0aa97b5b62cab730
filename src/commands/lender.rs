//! `semper lender`.

use std::process::ExitCode;

use semper_store::{Lender, Store};
use serde::Serialize;

use super::failure::code;
use super::{Failure, held, say};
use crate::cli::LenderOf;

/// The lender as `--json` prints it.
#[derive(Serialize)]
struct Document {
    dir: String,
    id: String,
    generation: u64,
    tag: String,
}

pub fn run(LenderOf { store, dir, json }: &LenderOf) -> Result<ExitCode, Failure> {
    if let Some(dir) = dir {
        if Store::lender_of(store)?.is_none() {
            return Err(Failure::new(code::USAGE, format!("all pages of {} are its own", store.display())));
        }
        held::refuse_running(store)?;
        Store::find_lender(store, dir)?;
    }
    let lender = Store::lender_of(store)?;
    if *json {
        let document = lender.as_ref().map(|Lender { dir, id, generation, tag }| Document {
            dir: dir.display().to_string(),
            id: id.to_string(),
            generation: generation.0,
            tag: tag.clone(),
        });
        let text = serde_json::to_string(&document);
        say(text.map_err(|error| Failure::new(code::FAILED, format!("the answer is no JSON: {error}")))?);
        return Ok(ExitCode::SUCCESS);
    }
    match lender {
        None => say(format_args!("All pages of {} are its own.", store.display())),
        Some(Lender { dir, id, generation, tag }) => say(format_args!(
            "{} has pages from {}, the store {id}, which keeps {generation} for it by the tag {tag}.",
            store.display(),
            dir.display()
        )),
    }
    Ok(ExitCode::SUCCESS)
}
