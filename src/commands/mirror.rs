//! `semper mirror`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount, ProgressBar};
use semper::control::{Connection, ControlError, Reply, Request};
use semper::runtime::{DEFAULT_MIRROR_RATE, Side, fill_mirror, hand_down, sides};
use semper_store::{Error, MIRROR_WAITS, OpenOptions, Store};

use super::failure::code;
use super::figures::status;
use super::{Failure, bar, say};
use crate::cli::{AddMirror, Mirror, RemoveMirror, Status};

/// How often it is looked how far a mirror is.
const LOOK: Duration = Duration::from_millis(100);

pub fn run(command: &Mirror) -> Result<ExitCode, Failure> {
    match command {
        Mirror::Add(add) => self::add(add)?,
        Mirror::Remove(remove) => self::remove(remove)?,
        Mirror::Status(of) => self::show(of)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(command: &AddMirror) -> Result<(), Failure> {
    let AddMirror { store, dir, rate_limit } = command;
    let dir = absolute(dir)?;
    let rate = rate_limit.unwrap_or(DEFAULT_MIRROR_RATE);
    match Connection::open(store) {
        Ok(connection) => {
            let request = Request::AddMirror { dir: dir.as_os_str().as_bytes().to_vec(), rate };
            done(store, &connection, &request)?;
            let look = || Ok(status(store)?.mirrors);
            until_whole(&dir, look, || false)?;
        }
        Err(ControlError::NotRunning) => add_at_rest(store, &dir, rate)?,
        Err(error) => return Err(Failure::control(store, error)),
    }
    say(format_args!("{} has everything, and is written in step with {}.", dir.display(), store.display()));
    Ok(())
}

fn add_at_rest(home: &Path, dir: &Path, rate: u64) -> Result<(), Failure> {
    let store = Store::open(home, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })?;
    let number = store.add_mirror(dir)?;
    thread::scope(|scope| {
        let filling = scope.spawn(|| fill_mirror(&store, number, rate));
        // What it failed by is told below.
        let _ = until_whole(dir, || Ok(sides(&store)), || filling.is_finished());
        filling.join().unwrap_or_else(|_| Err(Error::BadArgument("the copying panicked".to_owned())))
    })?;
    hand_down(home, &store);
    Ok(())
}

/// Shows how far a mirror is until it is whole.
fn until_whole(
    dir: &Path,
    mut look: impl FnMut() -> Result<Vec<Side>, Failure>,
    over: impl Fn() -> bool,
) -> Result<(), Failure> {
    let bar: ProgressBar = bar(0);
    let real = |dir: &Path| dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let place = real(dir);
    loop {
        let over = over();
        let side = look()?.into_iter().find(|side| real(Path::new(&side.dir)) == place);
        match side {
            Some(Side { state, .. }) if state == "whole" => break,
            Some(Side { why: Some(why), .. }) if why != MIRROR_WAITS => {
                return Err(Failure::new(code::FAILED, format!("{} is not up to date: {why}", dir.display())));
            }
            Some(Side { copied, .. }) => {
                let (copied, total) = copied.unwrap_or_default();
                bar.set_length(total);
                bar.set_position(copied);
                bar.set_message(format!("{} of {}", BinaryBytes(copied), BinaryBytes(total)));
            }
            None => {
                let told = format!("{} was removed again before it was up to date", dir.display());
                return Err(Failure::new(code::FAILED, told));
            }
        }
        if over {
            break;
        }
        thread::sleep(LOOK);
    }
    bar.finish_and_clear();
    Ok(())
}

fn remove(command: &RemoveMirror) -> Result<(), Failure> {
    let RemoveMirror { store, dir } = command;
    let dir = absolute(dir)?;
    match Connection::open(store) {
        Ok(connection) => done(store, &connection, &Request::RemoveMirror { dir: dir.as_os_str().as_bytes().to_vec() }),
        Err(ControlError::NotRunning) => {
            match Store::open(store, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() }) {
                Ok(open) => open.remove_mirror(&dir)?,
                Err(Error::Parted { .. } | Error::NotWhole { .. }) => {
                    Store::leave_side(store, &dir)?;
                    let generation = Store::open_read_only(store).map(|store| store.generation().to_string());
                    let from = generation.unwrap_or_else(|error| error.to_string());
                    say(format_args!("{} goes on without {}, from {from}.", store.display(), dir.display()));
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        }
        Err(error) => Err(Failure::control(store, error)),
    }
}

fn done(store: &Path, connection: &Connection, request: &Request) -> Result<(), Failure> {
    match connection.ask(request).map_err(|error| Failure::control(store, error))? {
        Reply::Done => Ok(()),
        other => Err(Failure::control(store, ControlError::Unexpected(Box::new(other)))),
    }
}

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| Failure::io(dir.display(), &error))
}

fn show(command: &Status) -> Result<(), Failure> {
    let mirrors = status(&command.store)?.mirrors;
    if command.json {
        let text = serde_json::to_string_pretty(&mirrors);
        say(text.map_err(|error| Failure::new(code::FAILED, format!("the status is no JSON: {error}")))?);
    } else if mirrors.is_empty() {
        say(format_args!("{} has no mirrors.", command.store.display()));
    } else {
        mirrors.iter().for_each(|side| say(line(side)));
    }
    Ok(())
}

/// A side in a line.
pub fn line(side: &Side) -> String {
    let Side { dir, state, why, copied, repaired, .. } = side;
    let repaired = if *repaired == 0 { String::new() } else { format!(", {} blocks repaired", HumanCount(*repaired)) };
    let how = match (why, copied) {
        (Some(why), _) => format!("away: {why}"),
        (_, Some((copied, total))) => {
            format!("being brought up to date, {} of {}", BinaryBytes(*copied), BinaryBytes(*total))
        }
        _ => state.replace("whole", "in step"),
    };
    format!("{dir}  {how}{repaired}")
}
