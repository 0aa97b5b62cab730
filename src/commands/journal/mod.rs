//! `semper journal`: what no roll-back touches, shown, written out, verified and trimmed.

mod replay;
mod select;
mod show;
mod trim;
pub mod verify;

pub use replay::run as replay;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use semper::runtime::journal_seen;
use semper_journal::{Error, JOURNAL_DIR, Journal, Options, Writer};
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
        JournalCommand::Replay(command) => replay(command),
    }
}

/// The journal's directory, to look at, and whose it should be. A runtime may go on meanwhile.
fn folder(store: &Path) -> Result<(Arc<dyn Folder>, StoreId), Failure> {
    let store = Store::open_read_only(store)?;
    Ok((store.folder(JOURNAL_DIR)?, store.id()))
}

/// Opens the journal of a store at rest, which is open here, to change it; none: there is none.
pub(super) fn open_at_rest(dir: &Path, store: &Store, accept_loss: bool) -> Result<Option<Arc<Journal>>, Failure> {
    let failed = |error: Error| Failure::journal(dir, &error);
    let folder = store.folder(JOURNAL_DIR)?;
    let seen = journal_seen(dir)?;
    if seen <= 1 && !semper_journal::exists(&*folder).map_err(failed)? {
        return Ok(None);
    }
    let options = Options { accept_loss, ..Options::default() };
    let journal = Journal::open(folder, store.id(), seen, &options).map_err(failed)?;
    match journal.trouble() {
        None => Ok(Some(journal)),
        Some(error) => Err(failed(error)),
    }
}

/// What a command on a store without a journal says, and does not fail for.
fn say_none(store: &Path) {
    say(format_args!("{} has no journal yet: no program has written to one.", store.display()));
}

/// As `--writer` takes it.
fn is_of(writer: Writer, wanted: Option<u32>) -> bool {
    wanted.is_none_or(|number| writer.program() == number)
}

/// A time of a record in words.
fn shown_time(nanos: u64) -> String {
    humantime::format_rfc3339_micros(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos)).to_string()
}

impl Failure {
    /// A failure of the journal of `store`.
    pub(super) fn journal(store: &Path, error: &Error) -> Failure {
        Failure::new(journal_code(error), format!("{}: {error}", store.display()))
    }
}
