//! The commands, one file each.

mod attach;
mod backup;
mod check;
mod checkpoint;
mod debugging;
mod demo;
mod diff;
mod doctor;
mod document;
mod domain;
mod extract;
mod failure;
mod figures;
mod foreground;
mod fork;
mod gdb;
mod generations;
mod grow;
mod held;
mod inspect;
mod journal;
mod lender;
mod logs;
mod ls;
mod mirror;
mod moving;
mod resume;
mod rewind;
mod run;
mod scrub;
mod served;
mod shrink;
mod status;
mod stop;
mod tag;
mod terminal;

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

pub use failure::Failure;

use crate::cli::Command;
use semper::control::Act;

/// Carries out a command.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(run) => run::run(run),
        Command::Resume(resume) => resume::run(&resume),
        Command::Status(status) => status::run(&status),
        Command::Checkpoint(on) => checkpoint::run(&on.store),
        Command::Stop(stop) => match &stop.domain {
            None => stop::run(&stop.store),
            Some(domain) => domain::run(&stop.store, domain, Act::Stop),
        },
        Command::Start(on) => domain::run(&on.store, &on.domain, Act::Start),
        Command::Kill(on) => domain::run(&on.store, &on.domain, Act::Kill),
        Command::Logs(logs) => logs::run(&logs),
        Command::Gdb(gdb) => gdb::run(&gdb),
        Command::Ls(ls) => ls::run(&ls),
        Command::Inspect(inspect) => inspect::run(&inspect),
        Command::Generations(of) => generations::run(&of),
        Command::Tag(tag) => tag::run(&tag),
        Command::Rewind(rewind) => rewind::run(&rewind),
        Command::Fork(fork) => fork::run(&fork),
        Command::Lender(of) => lender::run(&of),
        Command::Extract(command) => extract::run(&command),
        Command::Move(command) => moving::send::run(&command),
        Command::Receive(command) => moving::receive::run(&command),
        Command::Diff(diff) => diff::run(&diff),
        Command::Grow(grow) => grow::run(&grow),
        Command::Shrink(shrink) => shrink::run(&shrink),
        Command::Journal(command) => journal::run(&command),
        Command::Backup(backup) => backup::run(&backup),
        Command::Mirror(mirror) => mirror::run(&mirror),
        Command::Check(check) => check::run(&check),
        Command::Scrub(scrub) => scrub::run(&scrub),
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

/// Progress of so many steps, on a terminal.
fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// How much less urgent it is than a program: enough to leave a busy one nine tenths of a core that both want.
const GIVES_WAY: i32 = 10;

/// The programs go first, where there are not cores for all.
fn give_way() {
    if let Err(error) = rustix::process::nice(GIVES_WAY) {
        tracing::debug!("what should give way goes on at its usual priority: {error}");
    }
}
