//! `semper resume`.

use std::process::ExitCode;
use std::sync::Arc;

use semper::control::Connection;
use semper::runtime::{Options, Runtime, Start};

use super::failure::code;
use super::{Failure, foreground, terminal};
use crate::cli::Resume;

pub fn run(resume: &Resume) -> Result<ExitCode, Failure> {
    let shown = resume.store.display();
    if Connection::open(&resume.store).is_ok() {
        let message = format!("a runtime is running on {shown} already; see: semper status {shown}");
        return Err(Failure::new(code::IN_USE, message));
    }
    let _restore = terminal::Restore::at_the_end();
    let options = Options { network: resume.network.grants(), ..foreground::options(&resume.runtime) };
    let mut unused: Vec<&str> = resume.stdout.iter().map(|(name, _)| &**name).collect();
    let how = Start::Resume { size_bytes: resume.runtime.size, generation: resume.generation };
    let runtime = Runtime::start(&resume.store, how, &options, |name| {
        // Asked again for each generation that is tried.
        unused.retain(|of| *of != name);
        match resume.stdout.iter().find(|(of, _)| of == name) {
            Some((_, file)) => foreground::console_into(file),
            None => foreground::own_console(),
        }
    })?;
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
