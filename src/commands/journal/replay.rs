//! `semper journal replay`.

use std::process::ExitCode;
use std::time::Instant;

use semper::runtime::{Limit, Options, Replay, Runtime, RuntimeError, Start};
use serde::Serialize;

use super::super::failure::code;
use super::super::{Failure, foreground, held, say};
use crate::cli::{JournalReplay, Moment};

/// What was done, as `--json` prints it.
#[derive(Serialize)]
struct Document {
    from_generation: u64,
    generation: u64,
    seconds: f64,
    programs: Vec<Program>,
}

#[derive(Serialize)]
struct Program {
    name: String,
    steps: u64,
    ended: bool,
}

pub fn run(command: &JournalReplay) -> Result<ExitCode, Failure> {
    let shown = command.store.display();
    held::refuse_running(&command.store)?;
    let limit = match command.to {
        None => Limit::default(),
        Some(Moment::Sequence(last)) => Limit { sequence: Some(last), time: None },
        Some(Moment::Time(last)) => Limit { sequence: None, time: Some(last) },
    };
    let options = Options { replay: Replay::Only(limit), ..Options::default() };
    let began = Instant::now();
    let how = Start::Resume { size_bytes: None, generation: None };
    let runtime = Runtime::start(&command.store, how, &options, |_| foreground::own_console())?;
    foreground::tell(&runtime);
    let from_generation = runtime.generation();
    let over = runtime.wait_replayed();
    if let Some(end) = runtime.ending() {
        return Err(RuntimeError::Damaged(end).into());
    }
    if !over {
        return Err(Failure::new(code::FAILED, "the runtime ended before the replay did, which is a bug"));
    }
    let programs = runtime.steps().into_iter().map(|(name, steps, ended)| Program { name, steps, ended }).collect();
    runtime.stop()?;
    let seconds = began.elapsed().as_secs_f64();
    let done = Document { from_generation, generation: runtime.generation(), seconds, programs };
    if command.json {
        say(serde_json::to_string(&done).map_err(|error| Failure::new(code::FAILED, error.to_string()))?);
        return Ok(ExitCode::SUCCESS);
    }
    for Program { name, steps, ended } in &done.programs {
        say(format_args!("{name}: {steps} steps told again{}", if *ended { ", to its end" } else { "" }));
    }
    let Document { from_generation, generation, .. } = done;
    say(format_args!(
        "Generation {from_generation} is rolled forward: generation {generation}, after {seconds:.2} s. Go on: semper resume {shown}"
    ));
    Ok(ExitCode::SUCCESS)
}
