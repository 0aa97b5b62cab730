//! Banks: exact to the page, and what they sold ends with them.

use super::audit::audit;
use super::*;

/// Buys one of everything from the bank in a slot; the keys are returned.
fn buy_all(world: &mut World, buyer: RecordId, bank: u8) -> Vec<Key> {
    let mut keys = Vec::new();
    for (order, words) in [(2, &[][..]), (3, &[5]), (4, &[]), (5, &[]), (6, &[1000, 1000]), (7, &[]), (8, &[])] {
        world.ask(buyer, bank, order, words, &[]).unwrap();
        keys.push(world.key(buyer, GOT));
    }
    world.ask(buyer, METER, 4, &[1000], &[bank]).unwrap();
    keys.push(world.key(buyer, GOT));
    keys
}

#[test]
fn everything_bought_is_counted_and_everything_sold_is_given_back() {
    let mut world = World::new();
    let buyer = world.domain();
    let before = audit(&world.table);
    let keys = buy_all(&mut world, buyer, BANK);
    let after = audit(&world.table);
    assert_eq!(after.pages - before.pages, 1 + 5 + CONTROL_PAGES);
    assert_eq!(after.records - before.records, 1 + 1 + 2 + 4 + 1 + 3 + 1 + 1);
    for key in keys {
        world.give(buyer, 5, key);
        if key.key_type() == KeyType::Bank {
            let call = Invocation { invoker: buyer, slot: 5, order: 12, ..IDLE };
            assert_eq!(world.invoke(&call), Outcome::Waits);
            world.work();
            assert_eq!(world.core(buyer).phase(), Phase::Running);
        } else {
            world.ask(buyer, BANK, 9, &[], &[5]).unwrap();
            world.work();
        }
        assert!(!world.table.contains(key.id()), "{key:?}");
        let again = world.ask(buyer, BANK, 9, &[], &[5]);
        assert_eq!(again, Err(code(InvokeError::Void { which: Which::Argument(0) })), "{key:?}");
    }
    assert_eq!(audit(&world.table), before);
}

#[test]
fn destroying_a_bank_frees_all_below_it_in_bounded_steps() {
    let mut world = World::new();
    let buyer = world.domain();
    let before = audit(&world.table);
    world.get(buyer, BANK, 6, &[10_000, 10_000], &[], 2);
    let mut keys = vec![world.key(buyer, 2)];
    let mut bank = 2;
    for depth in 0..6 {
        for _ in 0..10 {
            keys.extend(buy_all(&mut world, buyer, bank));
        }
        let below = 3 + depth;
        world.get(buyer, bank, 6, &[5000, 5000], &[], below);
        keys.push(world.key(buyer, below));
        bank = below;
    }
    audit(&world.table);
    world.take_effects();
    assert_eq!(world.invoke(&Invocation { invoker: buyer, slot: 2, order: 12, ..IDLE }), Outcome::Waits);
    // At once: nothing more is sold, not even below, and the bank's own keys are void.
    let other = world.domain();
    world.give(other, 2, keys[0]);
    world.give(other, 3, world.key(buyer, bank));
    let void = Err(code(InvokeError::Void { which: Which::Invoked }));
    assert_eq!((world.ask(other, 2, 1, &[], &[]), world.ask(other, 3, 2, &[], &[])), (void, void));
    let steps = world.work();
    assert!(steps > 5, "{steps} steps");
    assert!(keys.iter().all(|key| !world.table.contains(key.id())));
    let segments = |effect: &&Effect| matches!(effect, Effect::DropSegment { .. });
    assert_eq!(world.effects.iter().filter(segments).count(), 6 * 10 * 2, "segments, and domains' control pages");
    assert_eq!(world.answers(), [(buyer, Answer::default())]);
    let spent = audit(&world.table);
    assert_eq!((spent.pages, spent.records), (before.pages + CONTROL_PAGES, before.records + 4), "`other` remains");
}

#[test]
fn a_bank_destroyed_while_the_one_above_it_is() {
    let mut world = World::new();
    let (a, b) = (world.domain(), world.domain());
    let before = audit(&world.table);
    world.get(a, BANK, 6, &[10_000, 5_000], &[], 2);
    world.get(a, 2, 6, &[10_000, 5_000], &[], 3);
    for _ in 0..100 {
        world.ask(a, 3, 2, &[], &[]).unwrap();
        world.ask(a, 2, 2, &[], &[]).unwrap();
    }
    let (above, below) = (world.key(a, 2), world.key(a, 3));
    world.give(b, 3, below);
    assert_eq!(world.invoke(&Invocation { invoker: b, slot: 3, order: 12, ..IDLE }), Outcome::Waits);
    work(&mut world.table, &world.nature, &mut world.effects).unwrap();
    assert_eq!(world.invoke(&Invocation { invoker: a, slot: 2, order: 12, ..IDLE }), Outcome::Waits);
    world.work();
    assert_eq!(world.answers().len(), 2);
    assert!(!world.table.contains(above.id()) && !world.table.contains(below.id()));
    assert_eq!(audit(&world.table), before);
}

#[test]
fn a_domain_can_destroy_the_bank_that_it_comes_from() {
    let mut world = World::new();
    let boss = world.domain();
    world.get(boss, BANK, 6, &[1000, 1000], &[], 2);
    let bank = world.key(boss, 2);
    let meter = world.genesis.meter;
    let new = NewDomain { bank: &bank, meter: &meter, program: RecordId::NONE, slots: &[bank, meter] };
    let doomed = make_domain(&mut world.table, &world.nature, &new, &mut world.effects).unwrap().unwrap().id();
    personality_starts(&mut world.table, &world.nature, doomed, &mut world.effects).unwrap();
    assert_eq!(world.invoke(&Invocation { invoker: doomed, slot: 0, order: 12, ..IDLE }), Outcome::Waits);
    world.work();
    assert!(world.effects.iter().any(|effect| matches!(effect, Effect::Gone { domain } if *domain == doomed)));
    assert!(!world.table.contains(bank.id()) && !world.table.contains(doomed));
    audit(&world.table);
}

#[test]
fn quotas_hold_at_every_level() {
    let mut world = World::new();
    let buyer = world.domain();
    world.get(buyer, BANK, 6, &[10, 100], &[], 2);
    world.get(buyer, 2, 6, &[1000, 6], &[], 3);
    world.ask(buyer, 3, 3, &[8], &[]).unwrap();
    let pages = code(InvokeError::Limit { of: Resource::Pages, limit: 10 });
    assert_eq!(world.ask(buyer, 3, 3, &[3], &[]), Err(pages), "the quota above");
    world.ask(buyer, 3, 3, &[2], &[]).unwrap();
    assert_eq!(world.ask(buyer, 3, 1, &[], &[]), Ok([10, 1000, 2, 6]));
    assert_eq!(world.ask(buyer, 2, 1, &[], &[]), Ok([10, 10, 3, 100]));
    for _ in 0..2 {
        world.ask(buyer, 3, 4, &[], &[]).unwrap();
    }
    let records = code(InvokeError::Limit { of: Resource::Records, limit: 6 });
    assert_eq!(world.ask(buyer, 3, 8, &[], &[]), Err(records));
    world.ask(buyer, 2, 11, &[5, 5], &[]).unwrap();
    assert_eq!(world.ask(buyer, 2, 8, &[], &[]), Err(code(InvokeError::Limit { of: Resource::Records, limit: 5 })));
    audit(&world.table);
}

#[test]
fn a_segment_is_charged_its_length_as_it_changes() {
    let mut world = World::new();
    let buyer = world.domain();
    world.get(buyer, BANK, 6, &[100, 10], &[], 2);
    world.get(buyer, 2, 3, &[10], &[], 3);
    for (pages, fits) in [(100, true), (101, false), (1, true), (0, true), (60, true)] {
        assert_eq!(world.ask(buyer, 3, 5, &[pages], &[]).is_ok(), fits);
        audit(&world.table);
    }
    assert_eq!(world.ask(buyer, 2, 1, &[], &[]).unwrap()[0], 60);
}

#[test]
fn renewing_voids_every_copy_and_gives_one_new_key() {
    let mut world = World::new();
    let buyer = world.domain();
    for (order, words) in [(2, &[][..]), (3, &[5]), (4, &[]), (6, &[10, 10]), (7, &[]), (8, &[])] {
        world.get(buyer, BANK, order, words, &[], 2);
        let old = world.key(buyer, 2);
        world.get(buyer, BANK, 10, &[], &[2], 3);
        let new = world.key(buyer, 3);
        assert!(!world.table.contains(old.id()) && world.table.contains(new.id()));
        assert_eq!((old.id().index(), old.key_type(), old.rights()), (new.id().index(), new.key_type(), new.rights()));
        audit(&world.table);
    }
}

#[test]
fn a_bank_sells_back_only_what_it_sold() {
    let mut world = World::new();
    let buyer = world.domain();
    world.get(buyer, BANK, 6, &[100, 100], &[], 2);
    world.get(buyer, BANK, 2, &[], &[], 3);
    for order in [9, 10] {
        assert_eq!(world.ask(buyer, 2, order, &[], &[3]), Err(code(InvokeError::NotSoldHere)));
        assert_eq!(world.ask(buyer, 2, order, &[], &[]), Err(code(InvokeError::MissingKey { argument: 0 })));
    }
    assert_eq!(world.ask(buyer, BANK, 12, &[], &[]), Err(code(InvokeError::NotSoldHere)), "the prime bank stays");
}

#[test]
fn before_the_first_object_there_is_no_work() {
    let mut table = Table::format(VecMemory::zeroed(128), crate::kernel::objects::RECORD_BYTES).unwrap();
    let nature = World::new().nature;
    assert!(!work(&mut table, &nature, &mut Vec::new()).unwrap());
}
