//! Tables of many records: what opening reads, what is found, and tables that were made without a summary.

use super::super::layout::Geometry;
use super::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A kind that is not listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(super) struct Hidden(pub(super) [u8; 40]);

impl Record for Hidden {
    const KIND: u16 = crate::table::FIRST_UNLISTED_KIND + 1;
    const NAME: &'static str = "Hidden";
}

/// A memory that counts what is read of it.
struct Counted(VecMemory, Arc<AtomicU64>);

impl TableMemory for Counted {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        self.1.fetch_add(out.len() as u64, Relaxed);
        self.0.read(offset, out);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }
}

/// Inserts `count` hidden records, in transactions that fit the log.
pub(super) fn fill(table: &mut Table, count: u32) -> Vec<RecordId> {
    let mut ids = Vec::new();
    for _ in 0..count / 1000 {
        let mut tx = table.begin();
        ids.extend((0..1000).map(|n| tx.insert(&Hidden([n.to_string().as_bytes()[0]; 40])).unwrap()));
        tx.commit();
        table.check().unwrap();
    }
    ids
}

#[test]
fn opening_reads_the_summary_and_the_pages_of_listed_records() {
    const RECORDS: u32 = 100_000;
    let memory = VecMemory::zeroed(7000);
    let mut table = Table::format(memory, RECORD_BYTES).unwrap();
    let ids = fill(&mut table, RECORDS / 2);
    let mut tx = table.begin();
    let listed = tx.insert(&Small([7; 24])).unwrap();
    tx.commit();
    let more = fill(&mut table, RECORDS / 2);
    let read = Arc::new(AtomicU64::new(0));
    let (mut table, _) = Table::open(Counted(take(table), Arc::clone(&read))).unwrap();
    // One byte for each page of 16 records, the headers of one such page, and the first fields.
    assert!(read.load(Relaxed) < u64::from(RECORDS) / 16 + 1024, "{read:?} bytes were read");
    assert_eq!(table.first::<Small>(), Some((listed, Small([7; 24]))));
    assert_eq!((table.count::<Small>(), table.len()), (1, RECORDS + 1));
    for id in [ids[0], ids[49_999], more[0], more[49_999]] {
        assert!(table.get::<Hidden>(id).is_ok());
    }
    let mut tx = table.begin();
    tx.remove(ids[5]).unwrap();
    assert_eq!(tx.insert(&Hidden([1; 40])).unwrap().index(), ids[5].index());
    tx.commit();
    assert_eq!((table.check(), table.check_all()), (Ok(()), Ok(())));
}

/// The memory of a table.
fn take(table: Table) -> VecMemory {
    let memory = VecMemory::zeroed(usize::try_from(table.memory.len_bytes()).unwrap() / PAGE_SIZE);
    let mut bytes = vec![0; usize::try_from(memory.len_bytes()).unwrap()];
    table.memory.read(0, &mut bytes);
    memory.write(0, &bytes);
    memory
}

#[test]
fn damage_in_a_page_that_opening_does_not_read_is_found_when_it_is_touched() {
    let mut table = Table::format(VecMemory::zeroed(1000), RECORD_BYTES).unwrap();
    let ids = fill(&mut table, 10_000);
    let memory = take(table);
    // The index that the record says it has.
    let place = u64::from(crate::table::DEFAULT_LOG_PAGES + 1) * 4096 + u64::from(ids[7777].index()) * 256 + 8;
    memory.write(place, &[0xFF; 4]);
    let (mut table, _) = Table::open(memory).unwrap();
    assert!(table.get::<Hidden>(ids[0]).is_ok());
    assert!(matches!(table.get::<Hidden>(ids[7777]), Err(TableError::Damaged(_))));
    assert!(table.check_all().is_err());
    let mut tx = table.begin();
    tx.modify::<Hidden>(ids[7778], |hidden| hidden.0[0] ^= 1).unwrap();
    tx.commit();
    assert!(table.check().is_err(), "a neighbour was changed, so the page would be committed");
}

#[test]
fn a_summary_that_contradicts_its_page_is_found() {
    let pages = Pages::zeroed();
    let mut table = pages.format();
    let mut tx = table.begin();
    tx.insert(&Hidden([1; 40])).unwrap();
    tx.commit();
    assert_eq!(table.check_all(), Ok(()));
    pages.write(u64::from(LOG_PAGES) * 4096, &[1]);
    let found = Inconsistency::Summary { page: 0, found: 1, expected: 0 };
    assert_eq!(table.check_all(), Err(found.clone()));
    assert_eq!(pages.open().unwrap_err(), TableError::Damaged(found));
}

#[test]
fn a_page_that_comes_into_use_does_not_inherit_its_flag() {
    let pages = Pages::zeroed();
    pages.write(u64::from(LOG_PAGES) * 4096, &[1; 8]);
    let mut table = pages.format();
    let mut tx = table.begin();
    for _ in 0..40 {
        tx.insert(&Hidden([1; 40])).unwrap();
    }
    tx.commit();
    assert_eq!((table.check(), pages.open().map(|_| ())), (Ok(()), Ok(())));
}

#[test]
fn a_renewed_record_keeps_its_content_and_voids_its_ids() {
    let pages = Pages::zeroed();
    let mut table = pages.format();
    let mut tx = table.begin();
    let old = tx.insert(&Small([9; 24])).unwrap();
    tx.commit();
    let mut tx = table.begin();
    tx.renew(old).unwrap();
    tx.abort();
    assert!(table.contains(old));
    let mut tx = table.begin();
    let new = tx.renew(old).unwrap();
    tx.commit();
    assert_eq!(table.get::<Small>(old), Err(TableError::Void { id: old }));
    assert_eq!(table.at::<Small>(old.index()), Ok((new, Small([9; 24]))));
    assert_eq!((table.check(), pages.open().unwrap().0.get(new)), (Ok(()), Ok(Small([9; 24]))));
}

#[test]
fn a_table_of_format_1_is_read_and_written_as_it_is() {
    let pages = Pages::zeroed();
    let geometry = Geometry::for_memory(pages.len_bytes(), RECORD_BYTES, LOG_PAGES).unwrap().without_summary();
    geometry.write(&pages);
    assert_eq!(pages.bytes()[8], 1);
    let (mut table, _) = pages.open().unwrap();
    let mut tx = table.begin();
    let (listed, hidden) = (tx.insert(&Small([3; 24])).unwrap(), tx.insert(&Hidden([4; 40])).unwrap());
    tx.commit();
    assert_eq!(table.check(), Ok(()));
    let (table, _) = pages.open().unwrap();
    assert_eq!(table.first::<Small>(), Some((listed, Small([3; 24]))));
    assert_eq!(table.get::<Hidden>(hidden), Ok(Hidden([4; 40])));
    // Its records lie where that format puts them: directly behind the log.
    assert_eq!(pages.bytes()[LOG_PAGES as usize * 4096 + 16], 3);
}
