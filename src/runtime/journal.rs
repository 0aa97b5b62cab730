//! What a store at rest knows of its journal.

use super::RuntimeError;
use super::status::offline_pager;
use std::path::Path;

/// The sequence after the last record of the journal that the newest generation in `dir` knows to be durable; 0 if it knows of none.
///
/// # Errors
/// When there is no store, or it is damaged.
pub fn journal_seen(dir: &Path) -> Result<u64, RuntimeError> {
    match offline_pager(dir)? {
        Some((store, pager)) => Ok(semper_domains::kernel::read_journal_end(&pager, store.id())?),
        None => Ok(0),
    }
}
