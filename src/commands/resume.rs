//! `semper resume`.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use semper::control::{Connection, ControlError, Request};
use semper::runtime::{Options, Runtime, RuntimeError, Start};

use semper_store::Store;

use super::failure::code;
use super::{Failure, foreground, terminal};
use crate::cli::Resume;

/// How long a runtime that was killed may take to be gone: what it had just forked has its lock and its socket until that has become another
/// program.
const DYING: Duration = Duration::from_secs(2);

/// What is newer is given up, and so would be what forks have from there.
fn keeps_loans(resume: &Resume, generation: u64) -> Result<(), Failure> {
    let newer = Store::tags_in(&resume.store).into_iter().filter(|tag| tag.generation.0 > generation);
    let lost: Vec<String> = newer.filter(|tag| tag.is_of_a_fork()).map(|tag| tag.name).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let shown = resume.store.display();
    let told = format!(
        "generations newer than {generation} are given up, and forks have their pages from some: {}; go back without that (semper rewind {shown} --to \
         {generation}), or delete the tags first, if those forks are not needed (semper tag {shown} NAME --delete)",
        lost.join(", ")
    );
    Err(Failure::new(code::USAGE, told))
}

pub fn run(resume: &Resume) -> Result<ExitCode, Failure> {
    let shown = resume.store.display();
    let _restore = terminal::Restore::at_the_end();
    let options = Options { network: resume.network.grants(), ..foreground::options(&resume.runtime) };
    let mut unused: Vec<&str> = resume.stdout.iter().map(|(name, _)| &**name).collect();
    let how = Start::Resume { size_bytes: resume.runtime.size, generation: resume.generation };
    if let Some(generation) = resume.generation {
        keeps_loans(resume, generation)?;
    }
    let deadline = Instant::now() + DYING;
    let runtime = loop {
        if matches!(
            Connection::open(&resume.store).and_then(|connection| connection.ask(&Request::Status)),
            Ok(_) | Err(ControlError::Refused(_))
        ) {
            let message = format!("a runtime is running on {shown} already; see: semper status {shown}");
            return Err(Failure::new(code::IN_USE, message));
        }
        let started = Runtime::start(&resume.store, how, &options, |name| {
            // Asked again for each generation that is tried.
            unused.retain(|of| *of != name);
            match resume.stdout.iter().find(|(of, _)| of == name) {
                Some((_, file)) => foreground::console_into(file),
                None => foreground::own_console(),
            }
        });
        match started {
            Err(RuntimeError::Store(semper_store::Error::InUse { .. })) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            started => break started?,
        }
    };
    foreground::tell(&runtime);
    let socket = foreground::bind(&runtime, &resume.store)?;
    if runtime.status().domains.is_empty() {
        let _ = runtime.stop();
        let message = format!("there is no program in {shown} yet; start one: semper run {shown} -- PROGRAM");
        return Err(Failure::new(code::NO_STORE, message));
    }
    for name in unused {
        tracing::warn!("--stdout {name}: no program of that name goes on in {shown}");
    }
    let served = foreground::serve(Arc::clone(&runtime), socket, &resume.store, None);
    match runtime.ending() {
        Some(end) if end.resumes && end.early => Err(foreground::start_again(&end)),
        _ => served,
    }
}
