//! Nodes, pages, segments, timers, devices.

use super::audit::audit;
use super::*;

#[test]
fn a_node_keeps_sixteen_keys() {
    let mut world = World::new();
    let me = world.domain();
    world.get(me, BANK, 4, &[], &[], 2);
    for slot in 0..16 {
        world.give(me, 3, Key::start(me, 0, slot));
        world.ask(me, 2, 2, &[slot], &[3]).unwrap();
    }
    for slot in 0..16 {
        world.ask(me, 2, 1, &[slot], &[]).unwrap();
        assert_eq!(world.key(me, GOT).badge(), slot);
        world.ask(me, 2, 3, &[slot], &[BANK]).unwrap();
        assert_eq!(world.key(me, GOT).badge(), slot);
        world.ask(me, 2, 1, &[slot], &[]).unwrap();
        assert_eq!(world.key(me, GOT), world.genesis.bank);
    }
    let bad = InvokeError::BadWord { word: 0, value: 16 };
    assert_eq!(world.ask(me, 2, 1, &[16], &[]), Err(code(bad)));
    world.ask(me, 2, 4, &[], &[]).unwrap();
    world.ask(me, 2, 1, &[15], &[]).unwrap();
    assert!(world.key(me, GOT).is_null());
}

#[test]
fn what_is_fetched_through_a_weak_key_is_weakened_too() {
    let mut world = World::new();
    let me = world.domain();
    world.get(me, BANK, 4, &[], &[], 2);
    world.get(me, BANK, 4, &[], &[], 3);
    world.get(me, BANK, 3, &[4], &[], 4);
    for (slot, key) in [(0, 3), (1, 4), (2, BANK)] {
        world.ask(me, 2, 2, &[slot], &[key]).unwrap();
    }
    world.give(me, 5, Key::device(KeyType::Discrim));
    world.ask(me, 2, 2, &[3], &[5]).unwrap();
    world.get(me, 2, 0, &[Rights::READ.bits().into()], &[], 6);
    for (slot, rights) in [(0, Rights::READ), (1, Rights::READ), (2, Rights::NONE), (3, Rights::READ)] {
        world.ask(me, 6, 1, &[slot], &[]).unwrap();
        assert_eq!(world.key(me, GOT).rights(), rights, "slot {slot}");
    }
    assert!(world.ask(me, 6, 2, &[0], &[BANK]).is_err());
    // Through two weak nodes.
    world.ask(me, 3, 2, &[0], &[4]).unwrap();
    world.get(me, 6, 1, &[0], &[], 7);
    world.ask(me, 7, 1, &[0], &[]).unwrap();
    assert_eq!(world.key(me, GOT).rights(), Rights::READ);
}

#[test]
fn pages_and_segments_are_read_and_written_where_the_effect_says() {
    let mut world = World::new();
    let me = world.domain();
    world.get(me, BANK, 2, &[], &[], 2);
    let index = u64::from(world.key(me, 2).id().index());
    let read = Invocation { invoker: me, slot: 2, order: 1, words: [100, 50, 0, 0], ..IDLE };
    let place = Place { segment: POOL, offset: index * 4096 + 100 };
    let answer = Answer { text: Text::Stored { place, len: 50 }, ..Answer::default() };
    assert_eq!(world.invoke(&read), Outcome::Answered(answer));
    world.take_effects();
    let write = Invocation { order: 2, string_len: 50, ..read };
    world.invoke(&write);
    let text = Text::Message { domain: me, len: 50 };
    assert_eq!(world.take_effects(), [Effect::Write { place, text }]);
    let beyond = Invocation { words: [4095, 0, 0, 0], string_len: 2, ..write };
    assert_eq!(world.invoke(&beyond), Outcome::Answered(InvokeError::BadWord { word: 0, value: 4095 }.into()));
    world.ask(me, 2, 0, &[Rights::READ.bits().into()], &[]).unwrap();
    world.ask(me, SELF_SLOT, 1, &[GOT.into(), 2], &[]).unwrap();
    let missing = InvokeError::NoRight { which: Which::Invoked, missing: Rights::WRITE };
    assert_eq!(world.invoke(&write), Outcome::Answered(missing.into()));
}

#[test]
fn a_timer_wakes_its_waiter_also_in_another_life() {
    let mut world = World::new();
    let (a, b) = (world.domain(), world.domain());
    world.get(a, BANK, 8, &[], &[], 2);
    world.give(b, 2, world.key(a, 2));
    world.ask(a, 2, 1, &[5000], &[]).unwrap();
    assert_eq!(world.invoke(&Invocation { invoker: a, slot: 2, order: 2, ..IDLE }), Outcome::Waits);
    let busy = world.invoke(&Invocation { invoker: b, slot: 2, order: 2, ..IDLE });
    assert_eq!(busy, Outcome::Answered(InvokeError::Busy.into()));
    assert_eq!(next_alarm(&world.table), Ok(Some(5000)));
    world.nature.life.set(9);
    world.nature.now.set(6000);
    world.take_effects();
    expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
    assert_eq!(world.answers(), [(a, Answer { words: [6000, 0, 0, 0], ..Answer::default() })]);
    // Nobody waits: it is remembered.
    world.ask(a, 2, 1, &[6500], &[]).unwrap();
    world.nature.now.set(7000);
    expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
    assert_eq!(world.ask(b, 2, 3, &[], &[]), Ok([0, 7000, 0, 0]));
    assert_eq!(world.ask(b, 2, 2, &[], &[]), Ok([7000, 0, 0, 0]));
    // It is sold under its waiter.
    world.invoke(&Invocation { invoker: b, slot: 2, order: 2, ..IDLE });
    world.take_effects();
    world.ask(a, BANK, 9, &[], &[2]).unwrap();
    assert_eq!(world.answers(), [(b, InvokeError::Void { which: Which::Invoked }.into())]);
    audit(&world.table);
}

#[test]
fn who_waits_for_the_outside_is_found_again_after_a_restart() {
    let mut world = World::new();
    let mut waiting = Vec::new();
    for n in 0..150 {
        let me = world.domain();
        let console = make_console(&mut world.table, &world.nature, &world.genesis.bank, n, 0).unwrap().unwrap();
        world.give(me, 2, console);
        world.give(me, 3, Key::device(KeyType::Checkpoint));
        let (slot, words) = if n % 2 == 0 { (2, [100, 0, 0, 0]) } else { (3, [0; 4]) };
        world.take_effects();
        assert_eq!(world.invoke(&Invocation { invoker: me, slot, order: 2, words, ..IDLE }), Outcome::Waits);
        waiting.push(*world.effects.last().unwrap());
    }
    audit(&world.table);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        after = waits_outside(&world.table, after, &mut found).unwrap();
        if after.is_none() {
            break;
        }
    }
    found.reverse();
    assert_eq!(found, waiting);
    let Effect::ConsoleRead { domain, serial, .. } = waiting[0] else { panic!() };
    let answer = Answer { text: Text::Given { len: 5 }, ..Answer::default() };
    let World { table, nature, effects, .. } = &mut world;
    assert_eq!(complete(table, nature, domain, serial, answer, effects), Ok(true));
    assert_eq!(complete(table, nature, domain, serial, answer, effects), Ok(false), "once");
    audit(&world.table);
}

#[test]
fn a_console_that_did_not_survive_is_rescinded() {
    let mut world = World::new();
    let me = world.domain();
    let console = make_console(&mut world.table, &world.nature, &world.genesis.bank, 4, 1).unwrap().unwrap();
    world.give(me, 2, console);
    assert!(world.ask(me, 2, 1, &[], &[]).is_ok());
    world.nature.life.set(2);
    assert_eq!(world.ask(me, 2, 1, &[], &[]), Err(code(InvokeError::Rescinded)));
}

#[test]
fn discrim_tells_what_keys_are_without_using_them() {
    let mut world = World::new();
    let (me, server) = (world.domain(), world.server());
    world.give(me, 2, Key::device(KeyType::Discrim));
    world.introduce(me, 3, server, 0);
    world.introduce(me, 4, server, 1);
    let start = [KeyType::Start as u64, (Rights::CALL.or(Rights::SEND)).bits().into(), 1, 0];
    assert_eq!(world.ask(me, 2, 1, &[], &[3]), Ok(start));
    assert_eq!(world.ask(me, 2, 1, &[], &[]), Ok([0, 0, 0, 1]));
    assert_eq!(world.ask(me, 2, 2, &[], &[3, 4]), Ok([1, 0, 0, 0]));
    assert_eq!(world.ask(me, 2, 2, &[], &[3, 3]), Ok([1, 1, 0, 0]));
    assert_eq!(world.ask(me, 2, 2, &[], &[3, BANK]), Ok([0; 4]));
    world.give(me, 5, Key::to(KeyType::Domain, server));
    world.ask(me, BANK, 9, &[], &[5]).unwrap();
    assert_eq!(world.ask(me, 2, 1, &[], &[3]).unwrap()[2], 0, "void at once");
}

#[test]
fn devices_answer() {
    let mut world = World::new();
    let me = world.domain();
    for (key_type, order, expected) in [
        (KeyType::Clock, 1, [1000, 0, 0, 0]),
        (KeyType::Clock, 2, [1_001_000, 0, 0, 0]),
        (KeyType::Restart, 1, [7, 1, 2, 9]),
        (KeyType::Checkpoint, 3, [42, 0, 0, 0]),
    ] {
        world.give(me, 2, Key::device(key_type));
        assert_eq!(world.ask(me, 2, order, &[], &[]), Ok(expected));
    }
    world.give(me, 2, Key::device(KeyType::Random));
    assert_ne!(world.ask(me, 2, 1, &[], &[]), world.ask(me, 2, 1, &[], &[]));
    world.give(me, 2, Key::device(KeyType::Log));
    world.take_effects();
    world.invoke(&Invocation { invoker: me, slot: 2, order: 1, string_len: 9, ..IDLE });
    let text = Text::Message { domain: me, len: 9 };
    assert_eq!(world.take_effects(), [Effect::Log { domain: me, text }]);
}
