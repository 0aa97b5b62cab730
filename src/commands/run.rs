//! `semper run`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use semper::control::{Connection, ControlError};
use semper::runtime::{DEFAULT_NATIVE_MEMORY, Import, NewProgram, Runtime, RuntimeError, Start};

use super::failure::code;
use super::{Failure, attach, foreground, terminal};
use crate::cli::Run;

/// How long a runtime that holds the store may take to open its control socket.
const STARTING: Duration = Duration::from_secs(5);

pub fn run(run: Run) -> Result<ExitCode, Failure> {
    let program = new_program(&run)?;
    let _restore = terminal::Restore::at_the_end();
    let deadline = Instant::now() + STARTING;
    loop {
        match Connection::open(&run.store) {
            Ok(connection) => {
                refuse_flags(&run)?;
                return attach::run(&connection, &run.store, &program);
            }
            Err(ControlError::NotRunning) => {}
            Err(error) => return Err(Failure::control(&run.store, error)),
        }
        match start(&run, &program) {
            // Another runtime was faster and is about to listen.
            Err(RuntimeError::Store(semper_store::Error::InUse { .. })) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(RuntimeError::Damaged(end)) if end.resumes && end.early => return Err(foreground::start_again(&end)),
            started => {
                let (runtime, domain) = started?;
                return foreground::serve(runtime, &run.store, Some(domain));
            }
        }
    }
}

/// A runtime that is running keeps the flags that it was started with.
fn refuse_flags(run: &Run) -> Result<(), Failure> {
    let given = run.runtime.given();
    if given.is_empty() {
        return Ok(());
    }
    let (flags, shown) = (given.join(", "), run.store.display());
    let belong = if given.len() == 1 { "belongs" } else { "belong" };
    let message = format!(
        "{flags} {belong} to the start of a runtime, and one is running on {shown} already; run without, or stop \
         it first: semper stop {shown}"
    );
    Err(Failure::new(code::USAGE, message))
}

fn start(run: &Run, program: &NewProgram) -> Result<(std::sync::Arc<Runtime>, u64), RuntimeError> {
    let options = foreground::options(&run.runtime);
    program.check()?;
    let how = Start::CreateOrOpen { size_bytes: run.runtime.size };
    let console = foreground::own_console()
        .map_err(|source| RuntimeError::File { path: "standard input, output or error".into(), source })?;
    let runtime = Runtime::start(&run.store, how, &options, |_| foreground::own_console())?;
    foreground::tell(&runtime);
    let domain = runtime.add(program.clone(), console)?;
    Ok((runtime, domain))
}

fn new_program(run: &Run) -> Result<NewProgram, Failure> {
    let called = run.program.first().expect("the command line requires a program");
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::io(format_args!("{} has no absolute path", path.display()), &error))
    };
    let program = absolute(&find(called)?)?;
    let files = run.files.iter().map(|file| {
        let host = absolute(&file.host)?;
        if !host.exists() {
            return Err(Failure::new(code::USAGE, format!("there is no file {} to import", file.host.display())));
        }
        Ok(Import { host, guest: Some(file.guest.clone()) })
    });
    Ok(NewProgram {
        name: run.name.clone(),
        program,
        args: run.program.clone(),
        env: run.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        files: files.collect::<Result<_, _>>()?,
        native: run.native.then(|| run.native_memory.unwrap_or(DEFAULT_NATIVE_MEMORY)),
    })
}

/// Finds the program as a shell does: by its path if there is a slash in it, else along PATH.
fn find(called: &OsString) -> Result<PathBuf, Failure> {
    let not_found = || Failure::new(code::NOT_FOUND, format!("there is no program {}", called.display()));
    if called.as_bytes().contains(&b'/') {
        let path = PathBuf::from(called);
        return if path.exists() { Ok(path) } else { Err(not_found()) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(called))
        .find(|path| path.is_file())
        .ok_or_else(not_found)
}
