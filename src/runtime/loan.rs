//! A forked world whose pages still lie in the store that it was forked from: they are copied beside it.

use crate::control::{Connection, ControlError, Request};
use semper_store::{Error, OpenOptions, Store};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where pages still lie, as `status` shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Loan {
    /// The directory of the store in which they lie.
    pub lender: String,
    /// The tag that keeps them there.
    pub tag: String,
    /// Bytes copied since this runtime began, and about how many there are; none if that has not begun.
    pub copied: Option<(u64, u64)>,
}

impl Loan {
    pub(super) fn of(store: &Store) -> Option<Self> {
        let loan = store.loan().filter(|loan| !loan.repaid)?;
        let copied = loan.total.map(|total| (loan.done, total));
        Some(Self { lender: loan.lender.display().to_string(), tag: loan.tag, copied })
    }
}

/// Copies what a store borrows, and has the lender let it go. Says whether there is nothing left to do.
pub(super) fn repay(store: &Store, rate: u64) -> bool {
    let Some(loan) = store.loan() else { return true };
    let lender = loan.lender.display();
    if !loan.repaid {
        if let Err(error) = store.repay(Some(rate)) {
            tracing::warn!("not all pages are copied from {lender}: {error}");
            return false;
        }
        tracing::info!("all pages are copied from {lender}");
    }
    if let Err(why) = untag(&loan.lender, &loan.tag) {
        tracing::warn!("{lender} keeps the tag {} still: {why}", loan.tag);
        return false;
    }
    match store.end_loan() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("{error}");
            false
        }
    }
}

/// Takes a name from a generation of another store. Fine if that is gone, or has none of that name.
///
/// # Errors
/// Why it cannot now, in words.
pub fn untag(dir: &Path, name: &str) -> Result<(), String> {
    if Store::tags_in(dir).iter().all(|tag| tag.name != name) {
        return Ok(());
    }
    match Connection::open(dir) {
        Ok(connection) => {
            connection.ask(&Request::Untag { name: name.to_owned() }).map(drop).map_err(|e| e.to_string())
        }
        Err(ControlError::NotRunning) => {
            match Store::open(dir, &OpenOptions { walk_in_commit: true, ..OpenOptions::default() }) {
                Ok(store) => store.untag(name).map(drop).map_err(|error| error.to_string()),
                Err(Error::Missing { .. }) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}
