//! `semper grow`.

use std::process::ExitCode;

use semper::control::{Connection, ControlError, Reply, Request};
use semper_store::{OpenOptions, Store};

use super::Failure;
use crate::cli::Resize;

pub fn run(grow: &Resize) -> Result<ExitCode, Failure> {
    match Connection::open(&grow.store) {
        Ok(connection) => {
            let answer = connection.ask(&Request::Grow { size_bytes: grow.size });
            match answer.map_err(|error| Failure::control(&grow.store, error))? {
                Reply::Done => {}
                other => return Err(Failure::control(&grow.store, ControlError::Unexpected(Box::new(other)))),
            }
        }
        Err(ControlError::NotRunning) => {
            let store = Store::open(&grow.store, &OpenOptions::default())?;
            store.grow(grow.size)?;
            // The root that says so.
            store.begin()?.commit()?;
        }
        Err(error) => return Err(Failure::control(&grow.store, error)),
    }
    Ok(ExitCode::SUCCESS)
}
