//! The consistency check: a world that fails it is never committed.

use super::directory::UNLISTED;
use super::layout::{Allocation, FREE, Geometry, LIVE, NO_LINK, RETIRED};
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
            self.check_page(*page)?;
        }
        self.touched.clear();
        Ok(())
    }

    /// Checks everything: each record header, the numbers of records, and the free list from end to end.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn check_all(&self) -> Result<(), Inconsistency> {
        self.check_first_page()?;
        for page in 0..self.geometry.record_pages(self.allocation.high_water) {
            self.check_page(page)?;
        }
        self.check_counts()?;
        self.walk_free_list()
    }

    fn check_first_page(&self) -> Result<(), Inconsistency> {
        if self.broken {
            return Err(Inconsistency::Broken);
        }
        if !self.memory.is_whole() {
            return Err(Inconsistency::Unreadable);
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
        self.check_link(NO_LINK, self.allocation.free_head)
    }

    /// Whether the last record that was ever used is one: a wild high-water mark shows at once.
    pub(super) fn check_high_water(&self) -> Result<(), Inconsistency> {
        self.allocation.high_water.checked_sub(1).map_or(Ok(()), |last| self.sound_header(last).map(drop))
    }

    fn check_page(&self, page: u32) -> Result<(), Inconsistency> {
        let (first, end) = self.geometry.records_of(page, self.allocation.high_water);
        for index in first..end {
            self.check_record(index)?;
        }
        let (found, expected) = (self.flag(page), self.directory.any_in(first, end));
        if self.geometry.has_summary() && found != u8::from(expected) {
            return Err(Inconsistency::Summary { page, found, expected: u8::from(expected) });
        }
        Ok(())
    }

    /// Whether the numbers in the first page are those of the records.
    fn check_counts(&self) -> Result<(), Inconsistency> {
        let (mut free, mut live) = (0_u32, 0_u32);
        for index in 0..self.allocation.high_water {
            match self.sound_header(index)?.state {
                FREE => free += 1,
                LIVE => live += 1,
                _ => {}
            }
        }
        for (what, found, expected) in
            [("free records", self.allocation.free, free), ("live records", self.allocation.live, live)]
        {
            if found != expected {
                return Err(Inconsistency::Header { what, found: found.into(), expected: expected.into() });
            }
        }
        Ok(())
    }

    fn check_record(&self, index: u32) -> Result<(), Inconsistency> {
        let header = self.sound_header(index)?;
        debug_assert!(header.state != RETIRED || header.directory_kind() == UNLISTED, "only live records are listed");
        if self.directory.kind(index) != header.directory_kind() {
            return Err(Inconsistency::RecordHeader { index, what: "kind as written", found: header.kind.into() });
        }
        if header.state == FREE { self.check_link(index, header.link) } else { Ok(()) }
    }

    /// Whether a link of the free list leads to a free record, or to the end.
    fn check_link(&self, from: u32, to: u32) -> Result<(), Inconsistency> {
        if to == NO_LINK || (to < self.allocation.high_water && self.sound_header(to)?.state == FREE) {
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
