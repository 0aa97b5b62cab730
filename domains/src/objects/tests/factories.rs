//! Factories: what they make, what they tell about it, and what weak keys let through.

use super::audit::audit;
use super::*;

/// A builder with a factory in slot 2 and an image of 4 pages in slot 3.
fn builder() -> (World, RecordId) {
    let mut world = World::new();
    let builder = world.domain();
    world.get(builder, BANK, 7, &[], &[], 2);
    world.get(builder, BANK, 3, &[4], &[], 3);
    world.ask(builder, 2, 2, &[0x400, 0x40_0000, 0x50_0000, 9], &[3]).unwrap();
    world.give(builder, 4, Key::device(KeyType::Discrim));
    world.give(builder, 5, Key::device(KeyType::Log));
    (world, builder)
}

#[test]
fn a_factory_makes_a_domain_from_what_the_requestor_pays() {
    let (mut world, builder) = builder();
    world.ask(builder, 2, 1, &[3], &[4]).unwrap();
    assert_eq!(world.ask(builder, 2, 4, &[], &[BANK, METER]), Err(code(InvokeError::NotSealed)));
    world.ask(builder, 2, 3, &[], &[]).unwrap();
    assert_eq!(world.ask(builder, 2, 1, &[3], &[4]), Err(code(InvokeError::Sealed)));
    assert_eq!(world.ask(builder, 2, 5, &[], &[]), Ok([0, 1, 0, 0]));
    let requestor = world.domain();
    let factory = world.key(builder, 2).weaker(Rights::CALL.or(Rights::READ));
    world.give(requestor, 2, factory);
    world.get(requestor, BANK, 6, &[100, 100], &[], 3);
    world.take_effects();
    world.get(requestor, 2, 4, &[], &[3, METER, BANK, 3], 4);
    let product = world.key(requestor, 4);
    assert_eq!((product.key_type(), product.badge()), (KeyType::Start, 0));
    let id = product.id();
    let effects = world.take_effects();
    assert!(effects.contains(&Effect::Begin { domain: id, entry: [0x40_0000, 0x50_0000, 9] }));
    assert!(effects.iter().any(|e| matches!(e, Effect::CopySegment { pages: 4, .. })));
    assert_eq!(world.ask(requestor, 3, 1, &[], &[]).unwrap(), [4 + CONTROL_PAGES, 100, 6, 100]);
    let slots = slots_of(&world.table, id).unwrap();
    assert_eq!(
        (slots[3], slots[14], slots[15]),
        (Key::device(KeyType::Discrim), world.key(requestor, 0), world.key(requestor, 3))
    );
    let map = mappings(&world.table, id).unwrap();
    assert_eq!((map.len(), map[0].at, map[0].pages), (1, 0x400, 4));
    assert!(world.core(id).is_runnable());
    // It certifies its own, and nothing else.
    assert_eq!(world.ask(requestor, 2, 6, &[], &[4]), Ok([1, 0, 0, 0]));
    world.introduce(requestor, 5, builder, 0);
    assert_eq!(world.ask(requestor, 2, 6, &[], &[5]), Ok([0; 4]));
    assert_eq!(
        world.ask(requestor, 2, 3, &[], &[]),
        Err(code(InvokeError::NoRight { which: Which::Invoked, missing: Rights::MANAGE }))
    );
    audit(&world.table);
    // And it ends with the bank that paid.
    world.invoke(&Invocation { invoker: requestor, slot: 3, order: 12, ..IDLE });
    world.work();
    assert!(!world.table.contains(id));
    audit(&world.table);
}

#[test]
fn a_sealed_factory_has_an_image_of_its_own() {
    let (mut world, builder) = builder();
    let before = world.ask(builder, BANK, 1, &[], &[]).unwrap();
    let image: Segment = world.table.get(world.key(builder, 3).id()).unwrap();
    world.take_effects();
    world.ask(builder, 2, 3, &[], &[]).unwrap();
    let copied = world.take_effects().into_iter().find_map(|effect| match effect {
        Effect::CopySegment { from, to, pages: 4 } if from == image.number => Some(to),
        _ => None,
    });
    let copy = copied.expect("the image is copied");
    // Whatever becomes of the segment, it makes what it was sealed with.
    world.ask(builder, 3, 5, &[1], &[]).unwrap();
    world.ask(builder, BANK, 9, &[], &[3]).unwrap();
    world.take_effects();
    world.get(builder, 2, 4, &[], &[BANK, METER], 4);
    let made = world.take_effects();
    assert!(made.iter().any(|e| matches!(e, Effect::CopySegment { from, pages: 4, .. } if *from == copy)), "{made:?}");
    let product = world.key(builder, 4).id();
    audit(&world.table);
    // It goes with the factory; what is left is the product, and the segment that was sold is not.
    world.ask(builder, BANK, 9, &[], &[2]).unwrap();
    assert!(world.take_effects().contains(&Effect::DropSegment { segment: copy }));
    let [pages, ..] = world.ask(builder, BANK, 1, &[], &[]).unwrap();
    assert_eq!(pages, before[0] - 4 + 4 + CONTROL_PAGES);
    assert!(world.table.contains(product));
    audit(&world.table);
    // A bank that ends takes factory and image, whichever it comes to first.
    for _ in 0..3 {
        world.get(builder, BANK, 6, &[100, 100], &[], 6);
        world.get(builder, 6, 3, &[4], &[], 7);
        world.get(builder, 6, 7, &[], &[], 8);
        world.ask(builder, 8, 2, &[0x400, 0x40_0000, 0x50_0000, 9], &[7]).unwrap();
        world.ask(builder, 8, 3, &[], &[]).unwrap();
        world.invoke(&Invocation { invoker: builder, slot: 6, order: 12, ..IDLE });
        world.work();
        assert_eq!(world.ask(builder, BANK, 1, &[], &[]).unwrap()[0], pages);
        audit(&world.table);
    }
}

#[test]
fn every_way_outward_is_a_hole() {
    let (mut world, builder) = builder();
    let page = {
        world.get(builder, BANK, 2, &[], &[], 6);
        world.key(builder, 6)
    };
    let node = {
        world.get(builder, BANK, 4, &[], &[], 6);
        world.key(builder, 6)
    };
    let segment = world.key(builder, 3);
    let cases = [
        (page, true),
        (page.weaker(Rights::READ), false),
        (node, true),
        (node.weaker(Rights::READ.or(Rights::STRONG)), true),
        (node.weaker(Rights::READ), false),
        (segment.weaker(Rights::READ.or(Rights::CALL)), true),
        (segment.weaker(Rights::READ), false),
        (Key::start(builder, 0, 0), true),
        (Key::start(builder, 0, 0).weaker(Rights::SEND), true),
        (world.genesis.bank, true),
        (world.genesis.meter.weaker(Rights::READ), true),
        (Key::device(KeyType::Log), true),
        (Key::device(KeyType::Clock), false),
        (Key::device(KeyType::Random), false),
        (Key::device(KeyType::Restart), false),
        (Key::device(KeyType::Checkpoint), true),
        (Key::network(1).weaker(Rights::READ), true),
        (Key::connection(ConnectionId { program: 1, life: 1, number: 1 }).weaker(Rights::READ), true),
    ];
    for (key, hole) in cases {
        world.give(builder, 6, key);
        world.ask(builder, 2, 1, &[0], &[6]).unwrap();
        assert_eq!(world.ask(builder, 2, 5, &[], &[]).unwrap()[0], u64::from(hole), "{key:?}");
    }
    // What replaces a hole closes it.
    world.ask(builder, 2, 1, &[0], &[]).unwrap();
    assert_eq!(world.ask(builder, 2, 5, &[], &[]).unwrap()[0], 0);
}

#[test]
fn a_factory_within_a_factory_counts_with_its_own_holes() {
    let (mut world, builder) = builder();
    world.get(builder, BANK, 7, &[], &[], 7);
    world.ask(builder, 7, 2, &[0x400, 0, 0, 0], &[3]).unwrap();
    for inner_leaks in [false, true] {
        world.get(builder, BANK, 7, &[], &[], 8);
        world.ask(builder, 8, 2, &[0x400, 0, 0, 0], &[3]).unwrap();
        if inner_leaks {
            world.ask(builder, 8, 1, &[2], &[5]).unwrap();
        }
        let requestor = Rights::CALL.or(Rights::READ);
        world.give(builder, 9, world.key(builder, 8).weaker(requestor));
        world.ask(builder, 7, 1, &[0], &[9]).unwrap();
        assert_eq!(world.ask(builder, 7, 5, &[], &[]).unwrap()[0], 1, "an open factory can still change");
        world.ask(builder, 8, 3, &[], &[]).unwrap();
        world.ask(builder, 7, 1, &[0], &[9]).unwrap();
        assert_eq!(world.ask(builder, 7, 5, &[], &[]).unwrap()[0], u64::from(inner_leaks));
    }
    world.ask(builder, 7, 3, &[], &[]).unwrap();
    assert_eq!(world.ask(builder, 7, 5, &[], &[]), Ok([1, 1, 0, 0]));
}

#[test]
fn a_program_that_ends_is_taken_apart_with_its_bank() {
    let mut world = World::new();
    let before = audit(&world.table);
    let Genesis { bank, meter } = world.genesis;
    let limit = Storage { pages: 1000, records: 1000 };
    let (network, entry) = (Some(Key::network(1)), [1, 2, 3]);
    let new = NewProgram { bank, meter, limit, pages: 16, base: 0x400, console: [1, 0], writer: 7, network, entry };
    let made = make_program(&mut world.table, &world.nature, &new, &mut world.effects).unwrap().unwrap();
    begin(&mut world.table, &world.nature, &made.domain, &mut world.effects).unwrap().unwrap();
    let invoker = made.domain.id();
    let end = Invocation { invoker, slot: SELF_SLOT, order: 4, words: [7, 0, 0, 0], ..IDLE };
    assert_eq!(world.invoke(&end), Outcome::Waits);
    assert!(world.take_effects().contains(&Effect::Ended { domain: invoker, code: 7 }));
    assert_eq!(world.core(invoker).phase(), Phase::New);
    end_program(&mut world.table, &world.nature, &made.bank, &mut world.effects).unwrap();
    world.work();
    assert!(!world.table.contains(invoker) && !world.table.contains(made.bank.id()));
    assert_eq!(audit(&world.table), before);
}
