//! `semper run` on a store whose runtime is running already: the program is added to that one.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use semper::control::{Connection, Ending, Reply, Request};
use semper::runtime::NewProgram;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Failure;
use super::failure::code;
use super::served::to_message;

pub fn run(connection: &Connection, store: &Path, program: &NewProgram) -> Result<ExitCode, Failure> {
    let failed = |error| Failure::control(store, error);
    let console: [&dyn AsFd; 3] = [&io::stdin(), &io::stdout(), &io::stderr()];
    connection.send(&Request::Run(to_message(program)), &console).map_err(failed)?;
    match connection.receive().map_err(failed)? {
        Reply::Started { .. } => {}
        other => return Err(Failure::control(store, semper::control::ControlError::Unexpected(Box::new(other)))),
    }
    detach_on_signals(store).map_err(|error| Failure::io("signals cannot be heeded", &error))?;
    match connection.receive() {
        Ok(Reply::Ended(Ending::Exited(code))) => Ok(ExitCode::from(code)),
        Ok(Reply::Ended(Ending::Signaled(signal))) => Ok(ExitCode::from(code::SIGNAL.saturating_add(signal))),
        Ok(Reply::Ended(Ending::Stopped)) => {
            eprintln!("semper: the runtime was stopped; go on with: semper resume {}", store.display());
            Ok(ExitCode::from(code::STOPPED))
        }
        Ok(other) => Err(failed(semper::control::ControlError::Unexpected(Box::new(other)))),
        Err(_) => Err(Failure::new(
            code::NOT_RUNNING,
            format!("the runtime has died; the program goes on with: semper resume {}", store.display()),
        )),
    }
}

/// Ctrl-C ends this command, not the program, which belongs to the runtime.
fn detach_on_signals(store: &Path) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let shown = store.display().to_string();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("semper: detached; the program goes on in {shown}: semper status {shown}");
            std::process::exit(i32::from(code::SIGNAL) + signal);
        }
    })?;
    Ok(())
}
