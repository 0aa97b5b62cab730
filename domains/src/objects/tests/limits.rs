//! Each limit is reached, named, and harms nothing.

use super::audit::audit;
use super::*;

fn limit(of: Resource, limit: u64) -> u32 {
    InvokeError::Limit { of, limit }.code()
}

#[test]
fn banks_and_meters_above_each_other() {
    let mut world = World::new();
    let me = world.domain();
    for (from, order, words, of, most, keys) in [
        (BANK, 6, &[100, 100][..], Resource::BankDepth, MAX_BANK_DEPTH, &[][..]),
        (METER, 4, &[100], Resource::MeterDepth, MAX_METER_DEPTH, &[BANK]),
    ] {
        world.ask(me, SELF_SLOT, 0, &[from.into(), 2], &[]).unwrap();
        for _ in 0..most {
            world.get(me, 2, order, words, keys, 2);
        }
        assert_eq!(world.ask(me, 2, order, words, keys), Err(limit(of, most.into())));
        audit(&world.table);
    }
}

#[test]
fn mappings_of_a_domain() {
    let mut world = World::new();
    let me = world.domain();
    world.get(me, BANK, 3, &[4], &[], 2);
    world.give(me, 3, Key::to(KeyType::Domain, me));
    for n in 0..u64::from(MAX_MAPPINGS) {
        world.ask(me, 3, 13, &[0x1000 + n * 4, 0, 4], &[2]).unwrap();
    }
    let more = world.ask(me, 3, 13, &[0x10, 0, 1], &[2]);
    assert_eq!(more, Err(limit(Resource::Mappings, MAX_MAPPINGS.into())));
    world.ask(me, 3, 14, &[0x1000 + 40], &[]).unwrap();
    assert_eq!(world.ask(me, 3, 14, &[0x1000 + 40], &[]), Err(code(InvokeError::NotMapped { page: 0x1028 })));
    world.ask(me, 3, 13, &[0x10, 3, 1], &[2]).unwrap();
    world.ask(me, 3, 14, &[0x1000], &[]).unwrap();
    assert_eq!(world.ask(me, 3, 13, &[0x1002, 0, 4], &[2]), Err(code(InvokeError::Overlap { page: 0x1004 })));
    assert_eq!(mappings(&world.table, me).unwrap().len(), MAX_MAPPINGS as usize - 1);
    audit(&world.table);
    world.ask(me, BANK, 9, &[], &[2]).unwrap();
    assert!(mappings(&world.table, me).unwrap().is_empty(), "what was sold is mapped nowhere");
    let boss = world.domain();
    world.give(boss, 2, Key::to(KeyType::Domain, me));
    world.ask(boss, BANK, 9, &[], &[2]).unwrap();
    world.work();
    audit(&world.table);
}

#[test]
fn mappings_have_no_more_rights_than_their_key_and_lie_within_it() {
    let mut world = World::new();
    let me = world.domain();
    world.get(me, BANK, 3, &[4], &[], 2);
    world.get(me, 2, 0, &[Rights::READ.bits().into()], &[], 4);
    world.get(me, 2, 0, &[Rights::WRITE.bits().into()], &[], 5);
    world.give(me, 3, Key::to(KeyType::Domain, me));
    world.ask(me, 3, 13, &[0x100, 1, 3], &[4]).unwrap();
    assert_eq!(mappings(&world.table, me).unwrap()[0].object.rights(), Rights::READ);
    let missing = InvokeError::NoRight { which: Which::Argument(0), missing: Rights::READ };
    assert_eq!(world.ask(me, 3, 13, &[0x200, 0, 1], &[5]), Err(code(missing)));
    for (words, word) in [
        ([0x200, 0, 5], 2),
        ([0x200, 4, 1], 2),
        ([0x200, u64::MAX, 2], 2),
        ([0x200, 0, 0], 2),
        ([0, 0, 1], 0),
        ([1 << 28, 0, 1], 0),
        ([(1 << 28) - 1, 0, 2], 0),
        ([u64::MAX, 0, 1], 0),
    ] {
        let value = words[usize::from(word)];
        assert_eq!(world.ask(me, 3, 13, &words, &[2]), Err(code(InvokeError::BadWord { word, value })), "{words:x?}");
    }
}

#[test]
fn a_full_table_is_told_and_nothing_is_lost() {
    let mut world = World::on(VecMemory::zeroed(64 + 1 + 2), Storage { pages: 10_000, records: 10_000 });
    let me = world.domain();
    let mut refused = Err(0);
    for _ in 0..40 {
        refused = world.ask(me, BANK, 4, &[], &[]);
        audit(&world.table);
        if refused.is_err() {
            break;
        }
    }
    assert_eq!(refused, Err(limit(Resource::Table, 32)));
    world.ask(me, BANK, 9, &[], &[GOT]).unwrap();
    world.ask(me, BANK, 4, &[], &[]).unwrap();
    audit(&world.table);
}

#[test]
fn pages_of_a_segment_and_its_bytes() {
    let mut world = World::on(VecMemory::zeroed(100), Storage { pages: u64::MAX, records: 1000 });
    let me = world.domain();
    for pages in [0, MAX_SEGMENT_PAGES + 1, u64::MAX] {
        assert_eq!(world.ask(me, BANK, 3, &[pages], &[]), Err(limit(Resource::SegmentPages, MAX_SEGMENT_PAGES)));
    }
    world.get(me, BANK, 3, &[MAX_SEGMENT_PAGES], &[], 2);
    let end = MAX_SEGMENT_PAGES * 4096;
    assert!(world.ask(me, 2, 1, &[end - 10, 10], &[]).is_ok());
    assert!(world.ask(me, 2, 1, &[end - 10, 11], &[]).is_err());
    assert!(world.ask(me, 2, 1, &[u64::MAX, 1], &[]).is_err());
    assert!(world.ask(me, 2, 1, &[0, 4097], &[]).is_err());
    assert!(world.ask(me, 2, 3, &[1, u64::MAX], &[]).is_err());
    audit(&world.table);
}

#[test]
fn an_idle_domain_takes_one_kibibyte() {
    let mut world = World::new();
    let before = world.table.len();
    world.server();
    assert_eq!((world.table.len() - before) * crate::kernel::objects::RECORD_BYTES, 1024);
}
