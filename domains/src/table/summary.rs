//! The summary: a byte for each page of records, 1 if a listed record lies there. Opening a table reads only those pages.

use super::{Inconsistency, Table, TableError, Tx};

/// Bytes that are read at once.
const BLOCK: u32 = 512;

impl Table {
    /// The summary's byte for a page of records; 0 if the table has no summary.
    pub(super) fn flag(&self, page: u32) -> u8 {
        let mut flag = [0];
        if self.geometry.has_summary() {
            self.memory.read(self.geometry.summary_offset(page), &mut flag);
        }
        flag[0]
    }

    /// Fills the directory: from the pages that the summary names, or, in a table of format 1, from all.
    pub(super) fn load_directory(&mut self) -> Result<(), Inconsistency> {
        let pages = self.geometry.record_pages(self.allocation.high_water);
        if !self.geometry.has_summary() {
            return (0..pages).try_for_each(|page| self.load_page(page));
        }
        let mut block = [0_u8; BLOCK as usize];
        let mut first = 0;
        while first < pages {
            let count = BLOCK.min(pages - first);
            let flags = &mut block[..count as usize];
            self.memory.read(self.geometry.summary_offset(first), flags);
            for (page, flag) in (first..).zip(&*flags).filter(|(_, flag)| **flag != 0) {
                if *flag != 1 {
                    return Err(Inconsistency::Summary { page, found: *flag, expected: 1 });
                }
                self.load_page(page)?;
            }
            first += count;
        }
        Ok(())
    }

    fn load_page(&mut self, page: u32) -> Result<(), Inconsistency> {
        let (first, end) = self.geometry.records_of(page, self.allocation.high_water);
        for index in first..end {
            let kind = self.sound_header(index)?.directory_kind();
            self.directory.set(index, kind);
        }
        Ok(())
    }
}

impl Tx<'_> {
    /// Logs the summary's byte for the page of `index`, so that it can be written.
    pub(super) fn protect_flag(&mut self, index: u32) -> Result<(), TableError> {
        let table = &mut *self.table;
        if !table.geometry.has_summary() {
            return Ok(());
        }
        let word = table.geometry.summary_offset(index / table.geometry.records_per_page()) & !7;
        table.log.protect(&*table.memory, word, word + 8)
    }

    /// Brings the summary's byte for the page of `index`, which is logged, in line with the directory.
    pub(super) fn write_flag(&mut self, index: u32) {
        let table = &mut *self.table;
        if !table.geometry.has_summary() {
            return;
        }
        let page = index / table.geometry.records_per_page();
        // Beyond the high-water mark nothing is filed.
        let (first, end) = table.geometry.records_of(page, u32::MAX);
        let flag = u8::from(table.directory.any_in(first, end));
        if table.flag(page) != flag {
            table.memory.write(table.geometry.summary_offset(page), &[flag]);
        }
    }
}
