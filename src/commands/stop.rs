//! `semper stop`.

use std::path::Path;
use std::process::ExitCode;

use semper::control::{Connection, ControlError, Reply, Request};

use super::Failure;

pub fn run(store: &Path) -> Result<ExitCode, Failure> {
    let answer = Connection::open(store).and_then(|connection| connection.ask(&Request::Stop));
    match answer.map_err(|error| Failure::control(store, error))? {
        Reply::Stopped => Ok(ExitCode::SUCCESS),
        other => Err(Failure::control(store, ControlError::Unexpected(Box::new(other)))),
    }
}
