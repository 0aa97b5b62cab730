//! `semper journal`: what no roll-back touches, shown, written out, verified and trimmed.

mod select;
mod show;
mod trim;
mod verify;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use semper_journal::{Error, JOURNAL_DIR, Options, Writer};
use semper_store::{Folder, Store, StoreId};

use super::failure::journal_code;
use super::{Failure, say};
use crate::cli::JournalCommand;

pub fn run(command: &JournalCommand) -> Result<ExitCode, Failure> {
    match command {
        JournalCommand::Show(show) => show::run(show, if show.json { show::Form::Json } else { show::Form::Text }),
        JournalCommand::Export(show) => show::run(show, show::Form::Export),
        JournalCommand::Trim(trim) => trim::run(trim),
        JournalCommand::Verify(on) => verify::run(on),
    }
}

/// The journal's directory, to look at, and whose it should be. A runtime may go on meanwhile.
fn folder(store: &Path) -> Result<(Arc<dyn Folder>, StoreId), Failure> {
    let store = Store::open_read_only(store)?;
    Ok((store.folder(JOURNAL_DIR)?, store.id()))
}

/// What a command on a store without a journal says, and does not fail for.
fn say_none(store: &Path) {
    say(format_args!("{} has no journal yet: no program has written to one.", store.display()));
}

/// As `--writer` takes it.
fn is_of(writer: Writer, wanted: Option<u32>) -> bool {
    wanted.is_none_or(|number| writer.number == number)
}

/// A time of a record in words.
fn shown_time(nanos: u64) -> String {
    humantime::format_rfc3339_micros(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos)).to_string()
}

impl Failure {
    /// A failure of the journal of `store`.
    fn journal(store: &Path, error: &Error) -> Failure {
        Failure::new(journal_code(error), format!("{}: {error}", store.display()))
    }
}

/// How `semper journal` opens a journal to change it.
fn options(accept_loss: bool) -> Options {
    Options { accept_loss, ..Options::default() }
}
