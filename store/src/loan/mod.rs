//! A store whose pages still lie in another one, from which it was forked: they are read there, and copied bit by bit.
//!
//! # The promise
//!
//! Such a store is whole as long as its lender keeps the generation that it was forked from, which a tag there sees to. What it
//! commits goes to its own pages, and nothing to the lender's. When all is copied, the lender is needed no more.
//!
//! # Invariants
//!
//! * A place of the store is either written, and holds what a reference says, or what it is to hold lies at the same place of the lender (`disk`).
//! * What is copied is of a generation that is held meanwhile: no commit writes to such a place (`copy`).
//! * The lender is let go when no root lists a generation of which something was not copied durably (`copy`).

mod copy;
mod disk;
mod record;

pub(crate) use disk::Borrowing;
pub(crate) use record::Record;

use crate::directory::{self, PAGES_FILE};
use crate::error::Error;
use crate::ids::{Generation, StoreId};
use crate::lineage::MAX_ANCESTORS;
use crate::mirror::{Mirrored, newest_root};
use crate::store::Store;
use crate::tags::FORK;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that says in which store the pages still lie.
pub const LOAN_FILE: &str = "loan";

/// How far a store has come that borrows pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoanStatus {
    /// The directory of the store in which the others lie.
    pub lender: PathBuf,
    /// The tag there that keeps them.
    pub tag: String,
    /// All are copied: the lender is needed no more, and its tag can go.
    pub repaid: bool,
    /// Bytes copied since the store was opened, or found to be there.
    pub done: u64,
    /// How many there are; none: it is not known yet.
    pub total: Option<u64>,
}

/// What stands in for the disk of a store that borrows; none if it does not.
pub(crate) fn attach(own: &Arc<Mirrored>, depth: usize) -> Result<Option<Arc<Borrowing>>, Error> {
    let dir = PathBuf::from(own.home());
    let damaged = |why: &str| {
        let told =
            format!("its file `{LOAN_FILE}`, which says where pages of it lie, {why}; bring it back, or fork again");
        Error::not_a_store(told).about(&dir.join(PAGES_FILE))
    };
    // The root says it, in the same write that ends the need for the lender.
    let root = newest_root(&**own);
    let borrows = root.as_ref().is_some_and(|root| root.borrows);
    let text = match own.note(LOAN_FILE) {
        Ok(None) if borrows => return Err(damaged("is gone")),
        Ok(None) => return Ok(None),
        Ok(Some(text)) => text,
        Err(e) => return Err(Error::io(format!("read the file {LOAN_FILE} in {}", dir.display()), e)),
    };
    let record = Record::parse(&text).map_err(|why| damaged(&format!("is damaged: {why}")))?;
    if root.is_some_and(|root| root.id() != record.store) {
        return Err(damaged("is of another store"));
    }
    if !borrows {
        return Ok(Some(Arc::new(Borrowing::new(Arc::clone(own), record, None))));
    }
    let lender = lender(&dir, &record, depth)?;
    Ok(Some(Arc::new(Borrowing::new(Arc::clone(own), record, Some(Arc::new(lender))))))
}

/// Opens the store that a record names, from which the one in `dir` borrows, if it is that one and has what is borrowed.
fn lender(dir: &Path, record: &Record, depth: usize) -> Result<Store, Error> {
    let from = &record.from;
    let bad = |why: String| Error::Lender { dir: dir.to_owned(), lender: from.clone(), why };
    if depth >= MAX_ANCESTORS {
        return Err(bad("too many stores borrow from each other".to_owned()));
    }
    let lender = Store::open_read_only_behind(from, depth + 1).map_err(|e| bad(e.to_string()))?;
    if lender.id() != record.lender {
        return Err(bad(format!("another store lies there, {}", lender.id())));
    }
    let kept = lender.shared.current().root.find(Generation(record.generation)).map(|kept| kept.tree.root);
    if kept != Some(record.root) {
        let why = format!("generation {}, which the tag {} kept, is not there any more", record.generation, record.tag);
        return Err(bad(why));
    }
    Ok(lender)
}

/// The record of the store in `dir`, which is open nowhere or may be; none if it borrows nothing.
fn record_in(dir: &Path) -> Result<Option<Record>, Error> {
    let path = dir.join(LOAN_FILE);
    directory::pages(dir)?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("read {}", path.display()), e)),
    };
    let record = Record::parse(&text);
    record.map(Some).map_err(|why| Error::not_a_store(format!("its file `{LOAN_FILE}` is damaged: {why}")).about(&path))
}

/// Where a store lies that lends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lender {
    /// Its directory.
    pub dir: PathBuf,
    /// Its identity.
    pub id: StoreId,
    /// The generation of it that is lent, and the tag that keeps that.
    pub generation: Generation,
    /// The tag.
    pub tag: String,
}

impl Store {
    /// From which store the one in `dir` has pages, by what it says itself; none if all are its own. The lender need not be there.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no store, [`Error::NotAStore`] if what it says is damaged, what the host says.
    pub fn lender_of(dir: &Path) -> Result<Option<Lender>, Error> {
        let lender = |Record { lender, from, generation, tag, .. }: Record| Lender {
            dir: from,
            id: lender,
            generation: Generation(generation),
            tag,
        };
        Ok(record_in(dir)?.map(lender))
    }

    /// The store from which the one in `dir` has pages lies in `to` now: durably so, if it is that store and has what is borrowed. `dir` has to be at rest.
    ///
    /// # Errors
    /// [`Error::Lender`] if it is not, [`Error::BadArgument`] if `dir` borrows nothing, [`Error::InUse`], what the host says: nothing is changed then.
    pub fn find_lender(dir: &Path, to: &Path) -> Result<(), Error> {
        directory::pages(dir)?;
        let _lock = directory::lock(dir)?;
        let none = || Error::BadArgument(format!("all pages of {} are its own", dir.display()));
        let record = record_in(dir)?.ok_or_else(none)?;
        let from = fs::canonicalize(to).map_err(|e| Error::io(format!("find {}", to.display()), e))?;
        let record = Record { from, ..record };
        drop(lender(dir, &record, 0)?);
        let text = record.text().ok_or_else(|| {
            Error::BadArgument("only a store that lies in a directory with an UTF-8 path can lend".to_owned())
        })?;
        directory::replace(dir, LOAN_FILE, &text)
    }

    /// Where pages of the store still lie, if not all are its own.
    #[must_use]
    pub fn loan(&self) -> Option<LoanStatus> {
        self.shared.loan.as_ref().and_then(|loan| loan.status())
    }

    /// Copies what still lies in the lender, at so many bytes in a second; commits go on meanwhile. When it returns, the lender is needed no more; its
    /// tag is to be removed, and then [`Store::end_loan`] to be called.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a page holds nowhere, what the host says: what was copied stays, and it can be called again.
    pub fn repay(&self, rate: Option<u64>) -> Result<(), Error> {
        self.shared.check_writable()?;
        let Some(loan) = &self.shared.loan else { return Ok(()) };
        copy::copy(self, loan, rate)
    }

    /// Forgets the lender.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if pages still lie there; what the host says.
    pub fn end_loan(&self) -> Result<(), Error> {
        self.shared.check_writable()?;
        match &self.shared.loan {
            Some(loan) => loan.forget(),
            None => Ok(()),
        }
    }
}

/// The tag of a lender that keeps what the store `id` borrows.
#[must_use]
pub(crate) fn tag_for(id: StoreId) -> String {
    format!("{FORK}{:.8}", id.to_string())
}
