//! `semper kill`, `semper start`, and `semper stop` of one domain.

use std::path::Path;
use std::process::ExitCode;

use semper::control::{Act, Connection, ControlError, Reply, Request};

use super::Failure;

pub fn run(store: &Path, domain: &str, act: Act) -> Result<ExitCode, Failure> {
    let request = Request::Operate { domain: domain.to_owned(), act };
    let answer = Connection::open(store).and_then(|connection| connection.ask(&request));
    match answer.map_err(|error| Failure::control(store, error))? {
        Reply::Done => Ok(ExitCode::SUCCESS),
        other => Err(Failure::control(store, ControlError::Unexpected(Box::new(other)))),
    }
}
