//! `semper rewind`.

use std::path::Path;
use std::process::ExitCode;

use semper_journal::Note;
use semper_store::{OpenOptions, Store};

use super::failure::code;
use super::journal::open_at_rest;
use super::{Failure, held, say};
use crate::cli::Rewind;

pub fn run(rewind: &Rewind) -> Result<ExitCode, Failure> {
    held::refuse_running(&rewind.store)?;
    let store = Store::open(&rewind.store, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() })?;
    let to = held::find(&rewind.store, &store, &rewind.to)?;
    if to.0 == 0 {
        return Err(Failure::new(code::NOT_FOUND, "generation 0 is the empty store: there is nothing to go on with"));
    }
    note(&rewind.store, &store);
    say(store.rewind(to)?.0);
    Ok(ExitCode::SUCCESS)
}

/// Notes in the journal, if there is one, that what was recorded up to now does not follow the generation that is about to come. Should we die
/// in between, the note speaks of a generation that is not there, or that came by itself and has all before the note behind it.
fn note(dir: &Path, store: &Store) {
    let noted = open_at_rest(dir, store, false).and_then(|journal| {
        let Some(journal) = journal else { return Ok(()) };
        let noted = journal.note(&Note::Rewound { generation: store.next_generation().0 });
        journal.quiesce();
        noted.map_err(|error| Failure::journal(dir, &error))
    });
    if let Err(failure) = noted {
        eprintln!("semper: {failure}; recorded programs may be told again what they were told after that generation");
    }
}
