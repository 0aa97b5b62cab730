//! Pages that nobody sane wrote: errors with names, no panic, no memory without bound.

use super::super::layout::Allocation;
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn sound(open_transaction: bool) -> (Pages, Table, Vec<RecordId>) {
    let pages = Pages::zeroed();
    let mut table = pages.format();
    let mut tx = table.begin();
    let mut ids: Vec<_> = (0..20).map(|n| tx.insert(&Whole([n; 240])).unwrap()).collect();
    ids.extend((0..10).map(|n| tx.insert(&Odd([n; 13])).unwrap()));
    ids.iter().step_by(4).for_each(|id| tx.remove(*id).unwrap());
    tx.commit();
    if open_transaction {
        let mut tx = table.begin();
        tx.modify::<Whole>(ids[1], |whole| whole.0.fill(99)).unwrap();
        tx.remove(ids[2]).unwrap();
        tx.insert(&Odd([98; 13])).unwrap();
        tx.set_aside();
    }
    (pages, table, ids)
}

/// Everything that a table can do. Only the absence of panics is judged: what it reads may be anything.
fn use_it(table: &mut Table, ids: &[RecordId]) {
    let _ = (table.check(), table.check_all());
    for id in ids {
        let _ = (table.get::<Whole>(*id), table.get::<Odd>(*id), table.kind_of(*id));
    }
    let _ = table.iter::<Whole>().count() + table.iter::<Odd>().count();
    for commits in [false, true] {
        let mut tx = table.begin();
        for id in ids {
            let _ = tx.modify::<Whole>(*id, |whole| whole.0[0] ^= 1);
            let _ = tx.insert(&Odd([5; 13]));
            let _ = tx.remove(*id);
        }
        for _ in 0..50 {
            let _ = tx.insert(&Whole([6; 240]));
        }
        if commits {
            tx.commit();
        }
    }
    let _ = (table.check(), table.check_all());
}

/// Flips anywhere, and more often where structure is: the first page's fields and log, and the record headers.
fn flips() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let place = prop_oneof![
        0_usize..PAGES * PAGE_SIZE,
        32_usize..96,
        96_usize..700,
        (0_usize..48, 0_usize..16).prop_map(|(index, byte)| RECORDS_AT + index * 256 + byte),
    ];
    prop::collection::vec((place, 1_u8..), 1..6)
}

fn flip(pages: &Pages, flips: &[(usize, u8)]) {
    let mut state = pages.state();
    for (at, bits) in flips {
        state.bytes[*at] ^= bits;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn flipped_bytes_found_at_open_never_panic(flips in flips(), unfinished in any::<bool>()) {
        let (pages, _table, ids) = sound(unfinished);
        flip(&pages, &flips);
        if let Ok((mut table, _)) = pages.survivor().open() {
            prop_assert_eq!(table.check_all(), Ok(()));
            use_it(&mut table, &ids);
        }
    }

    #[test]
    fn flipped_bytes_under_an_open_table_never_panic(flips in flips(), unfinished in any::<bool>()) {
        let (pages, mut table, ids) = sound(unfinished);
        flip(&pages, &flips);
        use_it(&mut table, &ids);
    }

    #[test]
    fn a_flipped_bit_of_a_header_or_the_first_fields_is_found(index in 0_usize..30, at in 0_usize..16, bit in 0_u8..8) {
        let (pages, table, _) = sound(false);
        flip(&pages, &[(RECORDS_AT + index * 256 + at, 1 << bit)]);
        // A version or a length is any number; what refers to it finds out.
        let (is_version, is_length) = ((4..8).contains(&at), at >= 12 && index % 4 != 0);
        prop_assert!(table.check_all().is_err() || is_version || is_length);
        for place in [at * 2, 72 + at] {
            let (pages, table, _) = sound(false);
            flip(&pages, &[(place, 1 << bit)]);
            prop_assert!(table.check_all().is_err());
            prop_assert!(pages.survivor().open().is_err());
        }
    }
}

#[test]
fn an_undo_over_a_damaged_log_writes_nothing_and_the_table_refuses_to_go_on() {
    let (pages, mut table, ids) = sound(true);
    flip(&pages, &[(128 + 20, 1)]);
    let before = pages.bytes();
    drop(table.begin());
    assert_eq!(pages.bytes(), before);
    assert_eq!(table.check(), Err(Inconsistency::Broken));
    assert_eq!(table.begin().remove(ids[1]), Err(TableError::Damaged(Inconsistency::Broken)));
    assert!(matches!(pages.open(), Err(TableError::Damaged(Inconsistency::Log { .. }))));
    assert_eq!(pages.bytes(), before);
}

#[test]
fn damage_in_a_touched_page_stops_the_commit() {
    let (pages, mut table, ids) = sound(false);
    assert_eq!(table.check(), Ok(()));
    let mut tx = table.begin();
    tx.modify::<Whole>(ids[1], |whole| whole.0[0] = 200).unwrap();
    tx.commit();
    flip(&pages, &[(RECORDS_AT + 2 * 256, 0x40)]);
    let found = Inconsistency::RecordHeader { index: 2, what: "kind as written", found: 0x43 };
    assert_eq!((table.check(), table.check()), (Err(found.clone()), Err(found)));
}

/// As long as a segment can be, and empty but for what was written.
struct Endless(Mutex<HashMap<u64, u8>>);

impl TableMemory for Endless {
    fn len_bytes(&self) -> u64 {
        1 << 52
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        let bytes = self.0.lock().unwrap();
        (offset..).zip(out).for_each(|(at, byte)| *byte = bytes.get(&at).copied().unwrap_or(0));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.lock().unwrap().extend((offset..).zip(data.iter().copied()));
    }
}

#[test]
fn a_wild_high_water_mark_in_an_endless_segment_ends_at_the_first_record() {
    let mut table = Table::format(Endless(Mutex::default()), 512).unwrap();
    assert_eq!(table.capacity(), u32::MAX - 1);
    let mut tx = table.begin();
    tx.insert(&Whole([1; 240])).unwrap();
    tx.commit();
    let wild = Allocation { high_water: u32::MAX - 1, free_head: u32::MAX, live: 1, free: 0 };
    wild.write(&*table.memory);
    let error = Table::open(table.memory).unwrap_err();
    let unwritten = Inconsistency::RecordHeader { index: u32::MAX - 2, what: "its own index", found: 0 };
    assert_eq!(error, TableError::Damaged(unwritten));
}
