//! What a user of the table may rely on, one promise a test.

use super::super::layout::{LIVE, RecordHeader};
use super::*;

#[test]
fn a_record_comes_back_as_it_was_inserted() {
    let mut table = Pages::zeroed().format();
    let mut tx = table.begin();
    let (small, odd) = (tx.insert(&Small([7; 24])).unwrap(), tx.insert(&Odd([9; 13])).unwrap());
    assert_eq!(tx.get::<Small>(small).unwrap(), Small([7; 24]));
    tx.commit();
    assert_eq!(table.get::<Odd>(odd).unwrap(), Odd([9; 13]));
    assert_eq!(table.first::<Odd>(), Some((odd, Odd([9; 13]))));
    assert_eq!(table.find::<Small>(|s| s.0[0] == 8), None);
    assert_eq!((table.count::<Small>(), table.len()), (1, 2));
    assert_eq!(RecordId::from_u64(odd.as_u64()), odd);
}

#[test]
fn ids_of_removed_records_are_void_even_when_the_place_is_used_again() {
    let mut table = Pages::zeroed().format();
    let mut tx = table.begin();
    let old = tx.insert(&Small([1; 24])).unwrap();
    tx.remove(old).unwrap();
    let new = tx.insert(&Small([2; 24])).unwrap();
    assert_eq!(tx.remove(old), Err(TableError::Void { id: old }));
    tx.commit();
    assert_eq!(new.index(), old.index());
    assert_eq!(table.get::<Small>(old), Err(TableError::Void { id: old }));
    assert_eq!(table.get::<Small>(RecordId::NONE), Err(TableError::Void { id: RecordId::NONE }));
    assert_eq!(table.get::<Small>(new).unwrap(), Small([2; 24]));
}

#[test]
fn a_record_is_not_read_as_another_kind() {
    let mut table = Pages::zeroed().format();
    let mut tx = table.begin();
    let id = tx.insert(&Small([1; 24])).unwrap();
    assert_eq!(tx.update(id, &Odd([0; 13])), Err(TableError::WrongKind { id, wanted: "Odd", found: 1 }));
    assert_eq!(tx.kind_of(id), Ok(1));
}

#[test]
fn a_record_that_cannot_fit_is_refused() {
    let mut table = Pages::zeroed().format();
    let refused = table.begin().insert(&TooBig([0; 241]));
    assert_eq!(refused, Err(TableError::TooLarge { name: "TooBig", bytes: 241, limit: 240 }));
}

#[test]
fn a_full_table_says_so_and_has_room_again_after_a_removal() {
    let mut table = Pages::zeroed().format();
    let capacity = table.capacity();
    let mut tx = table.begin();
    let ids: Vec<_> = (0..capacity).map(|_| tx.insert(&Whole([3; 240])).unwrap()).collect();
    assert_eq!(tx.insert(&Whole([3; 240])), Err(TableError::Full { capacity }));
    tx.remove(ids[5]).unwrap();
    assert_eq!(tx.insert(&Whole([4; 240])).unwrap().index(), 5);
    tx.commit();
    assert_eq!((table.len(), table.check_all()), (48, Ok(())));
}

#[test]
fn a_transaction_larger_than_the_log_fails_in_that_operation_and_can_be_undone() {
    let pages = Pages::zeroed();
    let mut table = Table::format_with_log(pages, RECORD_BYTES, 1).unwrap();
    let mut tx = table.begin();
    let ids: Vec<_> = (0..48).map(|_| tx.insert(&Whole([1; 240])).unwrap()).collect();
    tx.commit();
    let before = picture(&table);
    let mut tx = table.begin();
    let failed = ids.iter().find_map(|id| tx.update(*id, &Whole([2; 240])).err().map(|error| (*id, error)));
    let (id, error) = failed.unwrap();
    assert!(matches!(error, TableError::LogFull { needed: 256, .. }), "{error}");
    assert_eq!(tx.get::<Whole>(id).unwrap(), Whole([1; 240]));
    drop(tx);
    assert_eq!(picture(&table), before);
    assert_eq!(table.check(), Ok(()));
}

#[test]
fn changing_the_same_bytes_again_needs_no_more_log() {
    let mut table = Table::format_with_log(VecMemory::zeroed(4), 4096, 1).unwrap();
    let mut tx = table.begin();
    let id = tx.insert(&Small([0; 24])).unwrap();
    tx.commit();
    let mut tx = table.begin();
    for round in 0..=255 {
        tx.update(id, &Small([round; 24])).unwrap();
    }
    tx.commit();
    assert_eq!(table.get::<Small>(id).unwrap(), Small([255; 24]));
}

#[test]
fn a_small_transaction_dirties_the_first_page_and_the_records() {
    let pages = Pages::zeroed();
    let mut table = pages.format();
    let mut tx = table.begin();
    let ids: Vec<_> = (0..40).map(|_| tx.insert(&Whole([1; 240])).unwrap()).collect();
    tx.commit();
    let before = pages.bytes();
    let mut tx = table.begin();
    tx.modify::<Whole>(ids[39], |whole| whole.0[100] = 2).unwrap();
    tx.commit();
    let after = pages.bytes();
    let dirty: Vec<_> = (0..PAGES).filter(|p| before[p * 4096..][..4096] != after[p * 4096..][..4096]).collect();
    assert_eq!(dirty, [0, 5]);
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let pages = Pages::zeroed();
    let mut table = pages.format();
    let mut tx = table.begin();
    let id = tx.insert(&Small([1; 24])).unwrap();
    tx.commit();
    let before = pages.writes();
    let mut tx = table.begin();
    tx.update(id, &Small([1; 24])).unwrap();
    tx.commit();
    assert_eq!(pages.writes(), before);
}

#[test]
fn a_transaction_set_aside_goes_on_when_resumed_and_is_undone_by_the_next_begin() {
    let mut table = Pages::zeroed().format();
    let mut tx = table.begin();
    let id = tx.insert(&Small([1; 24])).unwrap();
    tx.set_aside();
    assert_eq!(table.check(), Err(Inconsistency::LogNotEmpty { entries: 2 }));
    assert_eq!(table.get::<Small>(id).unwrap(), Small([1; 24]));
    let mut tx = table.resume();
    tx.update(id, &Small([2; 24])).unwrap();
    tx.commit();
    let mut tx = table.begin();
    tx.remove(id).unwrap();
    tx.set_aside();
    table.begin().abort();
    assert_eq!(table.get::<Small>(id).unwrap(), Small([2; 24]));
    assert_eq!((table.check(), table.check_all()), (Ok(()), Ok(())));
}

#[test]
fn a_record_that_runs_out_of_versions_is_never_used_again() {
    let pages = Pages::zeroed();
    let mut tx_table = pages.format();
    let mut tx = tx_table.begin();
    tx.insert(&Small([1; 24])).unwrap();
    tx.commit();
    let last = RecordHeader { kind: 1, state: LIVE, version: u32::MAX, index: 0, link: 24 };
    pages.write(RECORDS_AT as u64, last.as_bytes());
    let (mut table, _) = pages.open().unwrap();
    let mut tx = table.begin();
    tx.remove(RecordId::new(0, u32::MAX)).unwrap();
    assert_eq!(tx.insert(&Small([2; 24])).unwrap().index(), 1);
    tx.commit();
    assert_eq!((table.check(), table.len()), (Ok(()), 1));
    assert!(!table.contains(RecordId::new(0, u32::MAX)));
    assert_eq!(picture(&pages.open().unwrap().0), picture(&table));
}

#[test]
fn a_record_written_with_another_size_is_not_read() {
    let pages = Pages::zeroed();
    let mut table = pages.format();
    let mut tx = table.begin();
    let id = tx.insert(&Small([1; 24])).unwrap();
    tx.commit();
    pages.write(RECORDS_AT as u64 + 12, &16_u32.to_le_bytes());
    let wrong = TableError::WrongSize { id, name: "Small", expected: 24, found: 16 };
    assert_eq!(table.get::<Small>(id), Err(wrong));
}

#[test]
fn only_a_table_of_this_format_opens() {
    let error = |pages: &Pages| pages.open().unwrap_err();
    assert_eq!(error(&Pages::zeroed()), TableError::NotATable { found: 0 });
    assert_eq!(error(&Pages::new(vec![0; 100])), TableError::MemoryTooSmall { len_bytes: 100, needed: 4096 });
    let pages = Pages::zeroed();
    pages.format();
    let cut = Pages::new(pages.bytes()[..5 * 4096].to_vec());
    assert_eq!(error(&cut), TableError::MemoryTooSmall { len_bytes: 5 * 4096, needed: 6 * 4096 });
    pages.write(8, &[3]);
    assert_eq!(error(&pages), TableError::FormatVersion { found: 3, known: 2 });
    for size in [0, 16, 100, 8192] {
        let refused = Table::format(VecMemory::zeroed(66), size).unwrap_err();
        assert_eq!(refused, TableError::RecordBytes { found: size });
    }
}
