//! `semper tag`.

use std::process::ExitCode;

use semper::control::{Connection, ControlError, Reply, Request};
use semper_store::{Generation, OpenOptions, Store};

use super::{Failure, held, say};
use crate::cli::Tag;

pub fn run(tag: &Tag) -> Result<ExitCode, Failure> {
    let generation = match Connection::open(&tag.store) {
        Ok(connection) => ask(tag, &connection)?,
        Err(ControlError::NotRunning) => at_rest(tag)?,
        Err(error) => return Err(Failure::control(&tag.store, error)),
    };
    say(generation);
    Ok(ExitCode::SUCCESS)
}

fn ask(tag: &Tag, connection: &Connection) -> Result<u64, Failure> {
    let name = tag.name.clone();
    let request = if tag.delete {
        Request::Untag { name }
    } else {
        let at = match &tag.at {
            None => None,
            Some(at) => Some(held::find(&tag.store, &Store::open_read_only(&tag.store)?, at)?.0),
        };
        Request::Tag { name, generation: at }
    };
    match connection.ask(&request).map_err(|error| Failure::control(&tag.store, error))? {
        Reply::Generation { generation } => Ok(generation),
        other => Err(Failure::control(&tag.store, ControlError::Unexpected(Box::new(other)))),
    }
}

fn at_rest(tag: &Tag) -> Result<u64, Failure> {
    let store = Store::open(&tag.store, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })?;
    let Generation(number) = if tag.delete {
        store.untag(&tag.name)?
    } else {
        let at = tag.at.as_ref().map(|at| held::find(&tag.store, &store, at)).transpose()?;
        let at = at.unwrap_or_else(|| store.generation());
        store.tag(&tag.name, at)?;
        at
    };
    Ok(number)
}
