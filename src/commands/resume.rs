//! `semper resume`.

use std::process::ExitCode;

use semper::control::Connection;
use semper::runtime::{Runtime, Start};

use super::failure::code;
use super::{Failure, foreground};
use crate::cli::Resume;

pub fn run(resume: &Resume) -> Result<ExitCode, Failure> {
    let shown = resume.store.display();
    if Connection::open(&resume.store).is_ok() {
        let message = format!("a runtime is running on {shown} already; see: semper status {shown}");
        return Err(Failure::new(code::IN_USE, message));
    }
    let options = foreground::options(&resume.runtime);
    let mut redirects = resume.stdout.clone();
    let runtime = Runtime::start(&resume.store, Start::Resume { size_bytes: resume.runtime.size }, &options, |name| {
        match redirects.iter().position(|(of, _)| of == name) {
            Some(at) => foreground::console_into(&redirects.swap_remove(at).1),
            None => foreground::own_console(),
        }
    })?;
    if runtime.status().domains.is_empty() {
        let _ = runtime.stop();
        let message = format!("there is no program in {shown} yet; start one: semper run {shown} -- PROGRAM");
        return Err(Failure::new(code::NO_STORE, message));
    }
    for (name, _) in redirects {
        tracing::warn!("--stdout {name}: no program of that name goes on in {shown}");
    }
    foreground::serve(runtime, &resume.store, None)
}
