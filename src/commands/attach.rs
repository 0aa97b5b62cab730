//! `semper run` on a store whose runtime is running already: the program is added to that one.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use semper::control::{Connection, ControlError, Ending, Reply, Request};
use semper::runtime::NewProgram;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

use super::failure::code;
use super::served::to_message;
use super::{Failure, terminal};

/// Adds the program; the domain that it became.
pub fn add(connection: &Connection, program: &NewProgram) -> Result<u64, ControlError> {
    let console: [&dyn AsFd; 3] = [&io::stdin(), &io::stdout(), &io::stderr()];
    connection.send(&Request::Run(to_message(program)), &console)?;
    match connection.receive()? {
        Reply::Started { domain } => Ok(domain),
        other => Err(ControlError::Unexpected(Box::new(other))),
    }
}

/// Waits for its end.
pub fn follow(connection: &Connection, store: &Path, domain: u64) -> Result<ExitCode, Failure> {
    heed_signals(store, domain).map_err(|error| Failure::io("signals cannot be heeded", &error))?;
    match connection.receive() {
        Ok(Reply::Ended(Ending::Exited(code))) => Ok(ExitCode::from(code)),
        Ok(Reply::Ended(Ending::Signaled(signal))) => Ok(ExitCode::from(code::SIGNAL.saturating_add(signal))),
        Ok(Reply::Ended(Ending::Stopped)) => {
            eprintln!("semper: the runtime was stopped; go on with: semper resume {}", store.display());
            Ok(ExitCode::from(code::STOPPED))
        }
        Ok(other) => Err(Failure::control(store, ControlError::Unexpected(Box::new(other)))),
        Err(_) => Err(Failure::new(
            code::NOT_RUNNING,
            format!("the runtime has died; the program goes on with: semper resume {}", store.display()),
        )),
    }
}

/// What is typed at the terminal is for the program, if it has a wish about it. Else Ctrl-C, and Ctrl-\ always, end this command and
/// not the program, which belongs to the runtime.
fn heed_signals(store: &Path, domain: u64) -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP])?;
    let store = store.to_path_buf();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let ask = |request| Connection::open(&store).and_then(|connection| connection.ask(&request));
        for origin in signals.forever() {
            let signal = u8::try_from(origin.signal).unwrap_or_default();
            let for_program = || matches!(ask(Request::Signal { domain, signal }), Ok(Reply::Signal { taken: true }));
            match origin.signal {
                SIGWINCH => {
                    for_program();
                }
                // The program could not be stopped with this command, and would go on reading what is typed.
                SIGTSTP => {}
                SIGINT if terminal::is_typed(&origin) && for_program() => {}
                _ => {
                    let _ = ask(Request::Detach { domain });
                    terminal::restore();
                    let shown = store.display();
                    eprintln!("semper: detached; the program goes on in {shown}: semper status {shown}");
                    std::process::exit(i32::from(code::SIGNAL + signal));
                }
            }
        }
    })?;
    Ok(())
}
