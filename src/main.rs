//! Semper: the command line.

#![forbid(unsafe_code)]

mod cli;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// The variable that says what is logged, as in `SEMPER_LOG=debug` or `SEMPER_LOG=semper_pager=trace`.
const LOG_VARIABLE: &str = "SEMPER_LOG";

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .with_env_var(LOG_VARIABLE)
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("semper: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
