//! `semper shrink`.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar};
use semper::control::{Connection, ControlError, Reply, Request};
use semper::runtime::{is_on_device, may_shrink};
use semper_store::{OpenOptions, PAGE_SIZE, Store};

use super::figures::status;
use super::{Failure, bar, say};
use crate::cli::Resize;

/// How often it is looked how far a runtime is.
const LOOK: Duration = Duration::from_millis(50);

pub fn run(shrink: &Resize) -> Result<ExitCode, Failure> {
    let bar = bar(0);
    match Connection::open(&shrink.store) {
        Ok(connection) => ask(shrink, &connection, &bar)?,
        Err(ControlError::NotRunning) => at_rest(shrink, &bar)?,
        Err(error) => return Err(Failure::control(&shrink.store, error)),
    }
    bar.finish_and_clear();
    if is_on_device(&shrink.store) {
        let (store, size) = (shrink.store.display(), BinaryBytes(shrink.size));
        say(format_args!(
            "{store} takes the first {size} of its device. Make the device smaller before the next start, which uses it whole."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(shrink: &Resize, connection: &Connection, bar: &ProgressBar) -> Result<(), Failure> {
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(|| connection.ask(&Request::Shrink { size_bytes: shrink.size }));
        while !asking.is_finished() {
            // Only to be shown.
            if let Some(state) = status(&shrink.store).ok().and_then(|status| status.store.shrinking) {
                show(bar, state.beyond_pages);
            }
            thread::sleep(LOOK);
        }
        asking.join().unwrap_or(Err(ControlError::Ended))
    });
    match answer.map_err(|error| Failure::control(&shrink.store, error))? {
        Reply::Done => Ok(()),
        other => Err(Failure::control(&shrink.store, ControlError::Unexpected(Box::new(other)))),
    }
}

fn at_rest(shrink: &Resize, bar: &ProgressBar) -> Result<(), Failure> {
    let store = Store::open(&shrink.store, &OpenOptions::default())?;
    // What is held is known once the trees have been walked, for which a commit waits.
    drop(store.begin()?);
    may_shrink(&shrink.store, &store, shrink.size, None)?;
    let shrunk = store.shrink(shrink.size, &mut |state| {
        show(bar, state.beyond);
        ControlFlow::Continue(())
    });
    Ok(shrunk?)
}

/// What is left decreases; the most that there was is all.
fn show(bar: &ProgressBar, beyond: u64) {
    let total = bar.length().unwrap_or(0).max(beyond);
    bar.set_length(total);
    bar.set_position(total - beyond);
    bar.set_message(format!("{} lie beyond yet", BinaryBytes(beyond * PAGE_SIZE as u64)));
}
