//! The commands, one file each.

mod attach;
mod check;
mod checkpoint;
mod demo;
mod doctor;
mod failure;
mod figures;
mod foreground;
mod resume;
mod run;
mod served;
mod status;
mod stop;
mod terminal;

use std::process::ExitCode;

pub use failure::Failure;

use crate::cli::Command;

/// Carries out a command.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(run) => run::run(run),
        Command::Resume(resume) => resume::run(&resume),
        Command::Status(status) => status::run(&status),
        Command::Checkpoint(on) => checkpoint::run(&on.store),
        Command::Stop(on) => stop::run(&on.store),
        Command::Check(check) => check::run(&check),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Demo(demo) => demo::run(&demo),
    }
}

/// Prints a line of a result to standard output. A reader that has gone away, as `head` does, ends the command quietly.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
