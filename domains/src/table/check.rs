//! The consistency check: a world that fails it is never committed.

use super::layout::{Allocation, FREE, Geometry, KIND_FREE, KIND_RETIRED, NO_LINK};
use super::log::read_log_word;
use super::{Inconsistency, Table, TableError};

impl Table {
    /// Checks what changed since the last check that passed: the first page, that no transaction is open, and every
    /// record header in the pages that transactions touched. Costs nothing for what did not change.
    ///
    /// # Errors
    ///
    /// The first contradiction; the same pages are checked again next time.
    pub fn check(&mut self) -> Result<(), Inconsistency> {
        self.check_first_page()?;
        for page in self.touched.pages() {
            let first = page * self.geometry.records_per_page();
            let end = first.saturating_add(self.geometry.records_per_page()).min(self.allocation.high_water);
            for index in first..end {
                self.check_record(index)?;
            }
        }
        self.touched.clear();
        Ok(())
    }

    /// Checks everything: each record header, and the free list from end to end.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn check_all(&self) -> Result<(), Inconsistency> {
        self.check_first_page()?;
        for index in 0..self.allocation.high_water {
            self.check_record(index)?;
        }
        self.walk_free_list()
    }

    fn check_first_page(&self) -> Result<(), Inconsistency> {
        if self.broken {
            return Err(Inconsistency::Broken);
        }
        let (entries, used) = read_log_word(&*self.memory);
        if entries != 0 || used != 0 {
            return Err(Inconsistency::LogNotEmpty { entries });
        }
        match Geometry::read(&*self.memory) {
            Ok(found) if found == self.geometry => {}
            Err(TableError::Damaged(fault)) => return Err(fault),
            _ => return Err(Inconsistency::Header { what: "the table's geometry", found: 0, expected: 1 }),
        }
        if Allocation::read(&*self.memory, self.geometry)? != self.allocation {
            return Err(Inconsistency::Header { what: "the allocation as last written", found: 0, expected: 1 });
        }
        self.check_counts()
    }

    /// Whether the numbers in the first page are those of the directory.
    fn check_counts(&self) -> Result<(), Inconsistency> {
        let (free, retired) = (self.directory.count(KIND_FREE), self.directory.count(KIND_RETIRED));
        let live = self.allocation.high_water.saturating_sub(free).saturating_sub(retired);
        let pairs = [("free records", self.allocation.free, free), ("live records", self.allocation.live, live)];
        for (what, found, expected) in pairs {
            if found != expected {
                return Err(Inconsistency::Header { what, found: found.into(), expected: expected.into() });
            }
        }
        self.check_link(NO_LINK, self.allocation.free_head)
    }

    fn check_record(&self, index: u32) -> Result<(), Inconsistency> {
        let header = self.sound_header(index)?;
        if self.directory.kind(index) != Some(header.directory_kind()) {
            return Err(Inconsistency::RecordHeader { index, what: "kind as written", found: header.kind.into() });
        }
        if header.state == FREE { self.check_link(index, header.link) } else { Ok(()) }
    }

    /// Whether a link of the free list leads to a free record, or to the end.
    fn check_link(&self, from: u32, to: u32) -> Result<(), Inconsistency> {
        if to == NO_LINK || self.directory.kind(to) == Some(KIND_FREE) {
            return Ok(());
        }
        Err(Inconsistency::FreeList { index: from, what: "leads to a record that is not free" })
    }

    /// As many steps as there are free records must lead to the end: a list with a loop has none.
    fn walk_free_list(&self) -> Result<(), Inconsistency> {
        let mut at = self.allocation.free_head;
        for _ in 0..self.allocation.free {
            if at == NO_LINK {
                return Err(Inconsistency::FreeList { index: at, what: "ends early" });
            }
            at = self.sound_header(at)?.link;
            self.check_link(NO_LINK, at)?;
        }
        if at == NO_LINK { Ok(()) } else { Err(Inconsistency::FreeList { index: at, what: "does not end" }) }
    }
}
