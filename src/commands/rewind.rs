//! `semper rewind`.

use std::process::ExitCode;

use semper::control::Connection;
use semper_store::{OpenOptions, Store};

use super::failure::code;
use super::{Failure, held, say};
use crate::cli::Rewind;

pub fn run(rewind: &Rewind) -> Result<ExitCode, Failure> {
    let shown = rewind.store.display();
    if Connection::open(&rewind.store).is_ok() {
        let told = format!("a runtime is running on {shown}; stop it first: semper stop {shown}");
        return Err(Failure::new(code::IN_USE, told));
    }
    let store = Store::open(&rewind.store, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })?;
    let to = held::find(&rewind.store, &store, &rewind.to)?;
    if to.0 == 0 {
        return Err(Failure::new(code::NOT_FOUND, "generation 0 is the empty store: there is nothing to go on with"));
    }
    say(store.rewind(to)?.0);
    Ok(ExitCode::SUCCESS)
}
