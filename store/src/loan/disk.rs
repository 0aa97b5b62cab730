//! The disk of a store that borrows: its own, and behind it that of the lender.

use super::record::Record;
use super::{LOAN_FILE, LoanStatus};
use crate::disk::{Disk, DiskBuf};
use crate::error::Error;
use crate::mirror::Mirrored;
use crate::store::Store;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The store's own disk, where a place that was never written holds zeros, for which no reference stands. What does not hold there is read from
/// the lender. Nothing is written on that occasion: who reads does not know whether a commit has taken the place meanwhile.
pub(crate) struct Borrowing {
    own: Arc<Mirrored>,
    /// None: it is forgotten.
    record: Mutex<Option<Record>>,
    /// None: all is copied.
    lender: Mutex<Option<Arc<Store>>>,
    pub(super) done: AtomicU64,
    pub(super) total: AtomicU64,
}

impl Borrowing {
    pub(super) fn new(own: Arc<Mirrored>, record: Record, lender: Option<Arc<Store>>) -> Self {
        let (record, lender) = (Mutex::new(Some(record)), Mutex::new(lender));
        Self { own, record, lender, done: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    /// The store in which pages still lie.
    pub(crate) fn lender(&self) -> Option<Arc<Store>> {
        self.lender.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing lies there any more.
    pub(super) fn let_go(&self) {
        *self.lender.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn status(&self) -> Option<LoanStatus> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let Record { from, tag, .. } = record.as_ref()?;
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        Some(LoanStatus {
            lender: from.clone(),
            tag: tag.clone(),
            repaid: self.lender().is_none(),
            done: self.done.load(Ordering::Relaxed),
            total,
        })
    }

    pub(super) fn forget(&self) -> Result<(), Error> {
        if self.lender().is_some() {
            return Err(Error::BadArgument("pages of the store still lie in another one".to_owned()));
        }
        self.own.keep_note(LOAN_FILE, None)?;
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

impl Disk for Borrowing {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.own.read_at(offset, out)
    }

    fn will_read(&self, offset: u64, len: u64) {
        match self.lender() {
            Some(lender) => lender.shared.disk.will_read(offset, len),
            None => self.own.will_read(offset, len),
        }
    }

    fn write_at(&self, offset: u64, data: DiskBuf) -> io::Result<()> {
        self.own.write_at(offset, data)
    }

    fn drain(&self) -> io::Result<()> {
        self.own.drain()
    }

    fn flush(&self) -> io::Result<()> {
        self.own.flush()
    }

    fn len(&self) -> io::Result<u64> {
        self.own.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.own.set_len(len)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.own.cut(len)
    }

    fn capacity(&self) -> io::Result<u64> {
        self.own.capacity()
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.own.preallocate(offset, len)
    }

    fn copies(&self) -> Vec<u32> {
        self.own.copies()
    }

    fn read_copy(&self, copy: u32, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.own.read_copy(copy, offset, out)
    }

    fn mend(&self, offset: u64, out: &mut [u8], holds: &dyn Fn(&[u8]) -> bool) -> Option<u32> {
        if let Some(mended) = self.own.mend(offset, out, holds) {
            return Some(mended);
        }
        let disk = Arc::clone(&self.lender()?.shared.disk);
        let mut bytes = vec![0; out.len()];
        if disk.read_at(offset, &mut bytes).is_err() || !holds(&bytes) {
            // It may have a mirror, or borrow itself.
            disk.mend(offset, &mut bytes, holds)?;
        }
        out.copy_from_slice(&bytes);
        Some(0)
    }
}
