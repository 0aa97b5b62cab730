//! What a bank and the banks below it sold, for those who take a part of a world somewhere else.

use super::{Bank, Domain, NO_LINK, Owned, Page, Segment};
use crate::table::{Record, RecordId, Table, TableError};
use std::collections::BTreeSet;
use zerocopy::FromBytes;

/// What lies in the store outside the object table, and who executes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sold {
    /// Numbers of segments, those of control pages too.
    pub segments: BTreeSet<u64>,
    /// Pages of the pool.
    pub pages: BTreeSet<u64>,
    /// Domains, by the indices of their records.
    pub domains: BTreeSet<u32>,
}

impl Sold {
    /// Adds what `bank` and the banks below it sold. A bank that is gone sold nothing.
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub fn add(&mut self, table: &Table, bank: RecordId) -> Result<(), TableError> {
        if !table.contains(bank) {
            return Ok(());
        }
        let mut banks = vec![table.get::<Bank>(bank)?.sold];
        // Damaged lists may come back to where they were.
        let mut seen = BTreeSet::new();
        while let Some(mut next) = banks.pop() {
            while next != NO_LINK && seen.insert(next) {
                let id = table.id_at(next)?;
                match table.kind_of(id)? {
                    Bank::KIND => banks.push(table.get::<Bank>(id)?.sold),
                    Segment::KIND => {
                        self.segments.insert(table.get::<Segment>(id)?.number);
                    }
                    Page::KIND => {
                        self.pages.insert(u64::from(next));
                    }
                    Domain::KIND => {
                        self.domains.insert(next);
                        self.segments.insert(table.get::<Domain>(id)?.control);
                    }
                    _ => {}
                }
                let content = table.content(id)?;
                next = Owned::read_from_prefix(&content).map_or(NO_LINK, |(owned, _)| owned.next);
            }
        }
        // That of a Linux program is its personality's.
        self.segments.remove(&0);
        Ok(())
    }
}
