//! `semper run`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use semper::control::{Bound, Connection, ControlError};
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
        if let Some((connection, domain)) = add_to_running(&run, &program)? {
            return attach::follow(&connection, &run.store, domain);
        }
        match start(&run, &program) {
            // Another runtime was faster and is about to listen.
            Err(RuntimeError::Store(semper_store::Error::InUse { .. })) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(RuntimeError::Damaged(end)) if end.resumes && end.early => return Err(foreground::start_again(&end)),
            started => {
                let (runtime, socket, domain) = started?;
                return foreground::serve(runtime, socket, &run.store, Some(domain));
            }
        }
    }
}

/// Adds the program to the runtime that runs on the store; none: there is none, or it ended before it had read what was asked.
fn add_to_running(run: &Run, program: &NewProgram) -> Result<Option<(Connection, u64)>, Failure> {
    let failed = |error| match error {
        ControlError::NotRunning => Ok(None),
        error => Err(Failure::control(&run.store, error)),
    };
    let connection = match Connection::open(&run.store) {
        Ok(connection) => connection,
        Err(error) => return failed(error),
    };
    refuse_flags(run)?;
    match attach::add(&connection, program) {
        Ok(domain) => Ok(Some((connection, domain))),
        Err(error) => failed(error),
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

fn start(run: &Run, program: &NewProgram) -> Result<(Arc<Runtime>, Bound, u64), RuntimeError> {
    let options = foreground::options(&run.runtime);
    program.check()?;
    let how = Start::CreateOrOpen { size_bytes: run.runtime.size };
    let console = foreground::own_console()
        .map_err(|source| RuntimeError::File { path: "standard input, output or error".into(), source })?;
    let made = Made::when_started(&run.store);
    let runtime = Runtime::start(&run.store, how, &options, |_| foreground::own_console())?;
    foreground::tell(&runtime);
    let added =
        foreground::bind(&runtime, &run.store).and_then(|socket| Ok((socket, runtime.add(program.clone(), console)?)));
    match added {
        Ok((socket, domain)) => Ok((runtime, socket, domain)),
        Err(error) => {
            if let Some(made) = made {
                // There is nothing in it, so nothing can be lost.
                let _ = runtime.stop();
                drop(runtime);
                made.undo();
            }
            Err(error)
        }
    }
}

/// A store that is made for a program: it goes again if the program is refused.
struct Made {
    /// Its directory.
    dir: PathBuf,
    /// The directories on the way to it that are made for it, itself first.
    directories: Vec<PathBuf>,
}

impl Made {
    /// None if there is a store, or if it is to lie on what the user laid there.
    fn when_started(dir: &Path) -> Option<Made> {
        let new = !semper_store::Store::lies_in(dir);
        let ways = dir.ancestors().filter(|way| !way.as_os_str().is_empty());
        let directories = ways.take_while(|way| way.symlink_metadata().is_err()).map(Path::to_path_buf).collect();
        new.then(|| Made { dir: dir.to_path_buf(), directories })
    }

    fn undo(&self) {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
                _ => std::fs::remove_file(entry.path()),
            };
        }
        for directory in &self.directories {
            let _ = std::fs::remove_dir(directory);
        }
    }
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
        keys: run.keys.clone(),
        network: run.network.grants(),
        record: run.record,
        cpu: run.cpu.0,
        native: run.native.then(|| run.native_memory.unwrap_or(DEFAULT_NATIVE_MEMORY)),
    })
}

/// Finds the program as a shell does: by its path if there is a slash in it, else along PATH.
fn find(called: &OsString) -> Result<PathBuf, Failure> {
    let shown = called.display();
    let not_found = |hint: &str| Failure::new(code::NOT_FOUND, format!("there is no program {shown}{hint}"));
    let path = PathBuf::from(called);
    if called.is_empty() {
        return Err(Failure::new(code::NOT_FOUND, "the name of the program is empty"));
    }
    if called.as_bytes().contains(&b'/') || called == "." || called == ".." {
        return match path.is_dir() {
            true => Err(Failure::new(code::NOT_RUNNABLE, format!("{shown} is a directory, not a program"))),
            false if path.exists() => Ok(path),
            false => Err(not_found("")),
        };
    }
    let here = path.is_file();
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places)
        .map(|directory| directory.join(called))
        .find(|path| path.is_file())
        .ok_or_else(|| not_found(&if here { format!(" on PATH; the file here is ./{shown}") } else { String::new() }))
}
