//! `semper checkpoint`.

use std::path::Path;
use std::process::ExitCode;

use semper::control::{Connection, ControlError, Reply, Request};

use super::{Failure, say};

pub fn run(store: &Path) -> Result<ExitCode, Failure> {
    let answer = Connection::open(store).and_then(|connection| connection.ask(&Request::Checkpoint));
    match answer.map_err(|error| Failure::control(store, error))? {
        Reply::Committed { generation } => say(generation),
        other => return Err(Failure::control(store, ControlError::Unexpected(Box::new(other)))),
    }
    Ok(ExitCode::SUCCESS)
}
