//! Bad input, for every order of the table: the error names what was wrong, and nothing has changed.

use super::audit::audit;
use super::*;
use std::collections::BTreeSet;

/// A domain with a key of every type that has orders, in slots 2 to 11 and after; returns which is where.
fn with_all() -> (World, RecordId, Vec<(KeyType, Key)>) {
    let mut world = World::new();
    let me = world.domain();
    let other = world.domain();
    let mut keys = vec![(KeyType::Bank, world.key(me, BANK)), (KeyType::Meter, world.key(me, METER))];
    for (order, words) in [(2, &[][..]), (3, &[5]), (4, &[]), (7, &[]), (8, &[])] {
        world.ask(me, BANK, order, words, &[]).unwrap();
        let key = world.key(me, GOT);
        keys.push((key.key_type(), key));
    }
    keys.push((KeyType::Domain, Key::to(KeyType::Domain, other)));
    keys.push((KeyType::Start, Key::start(other, 0, 1)));
    let console = make_console(&mut world.table, &world.nature, &world.genesis.bank, 3, 0).unwrap().unwrap();
    keys.push((KeyType::Console, console));
    for device in [
        KeyType::Discrim,
        KeyType::Clock,
        KeyType::Random,
        KeyType::Log,
        KeyType::Checkpoint,
        KeyType::Restart,
        KeyType::Journal,
        KeyType::Network,
        KeyType::Connection,
    ] {
        keys.push((device, Key::device(device)));
    }
    (world, me, keys)
}

fn key_of(keys: &[(KeyType, Key)], wanted: KeyType) -> Key {
    keys.iter().find(|(t, _)| *t == wanted).map_or(Key::NULL, |(_, key)| *key)
}

/// What the invocation answers; it must be an answer, and nothing may have changed by an error.
fn refused(world: &mut World, call: &Invocation) -> Answer {
    let before = super::crash::picture(&world.table);
    let effects = world.effects.len();
    match world.invoke(call) {
        Outcome::Answered(answer) => {
            if answer.code >= FIRST_ERROR {
                assert_eq!(super::crash::picture(&world.table), before, "a refusal changes nothing");
                assert_eq!(world.effects.len(), effects);
            }
            answer
        }
        Outcome::Waits => panic!("{call:?} waits"),
    }
}

#[test]
fn codes_are_unique_and_every_object_key_can_be_weakened() {
    let mut seen = BTreeSet::new();
    for order in orders() {
        assert!(order.code < 32 && seen.insert((order.on, order.code)), "{} {}", order.on, order.name);
        assert!(order.on == KeyType::Own || order.on.full_rights().contains(order.rights), "{}", order.name);
        assert!(order.words.len() <= 4 && order.keys.len() <= 4 && order.gives.len() <= 4 && !order.does.is_empty());
        for argument in order.keys {
            assert!(argument.types.iter().take(1).all(|t| t.full_rights().contains(argument.rights)));
        }
    }
    for key_type in KeyType::ALL.into_iter().filter(|t| t.has_record()) {
        let weakens = seen.contains(&(key_type, 0));
        assert_eq!(weakens, !matches!(key_type, KeyType::Start | KeyType::Resume), "{key_type}");
    }
}

#[test]
fn a_wrong_order_code_is_named() {
    let (mut world, me, keys) = with_all();
    for (key_type, key) in keys.into_iter().filter(|(t, _)| *t != KeyType::Start) {
        world.give(me, 5, key);
        for order in [31, 32, 1 << 20, u32::MAX] {
            let answer = refused(&mut world, &Invocation { invoker: me, slot: 5, order, ..IDLE });
            assert_eq!(answer, InvokeError::WrongOrder { key: key_type, order }.into());
        }
    }
}

#[test]
fn a_missing_right_is_named_for_every_order_and_argument() {
    let (mut world, me, keys) = with_all();
    for order in orders().filter(|order| order.on != KeyType::Own) {
        world.give(me, 5, key_of(&keys, order.on).weaker(order.on.full_rights().without(order.rights)));
        let call = Invocation { invoker: me, slot: 5, order: order.code, ..IDLE };
        if order.rights != Rights::NONE {
            let which = Which::Invoked;
            let expected = InvokeError::NoRight { which, missing: order.rights };
            assert_eq!(refused(&mut world, &call), expected.into(), "{} {}", order.on, order.name);
        }
        world.give(me, 5, key_of(&keys, order.on));
        for (n, argument) in (0_u8..).zip(order.keys).filter(|(_, a)| a.rights != Rights::NONE) {
            let mut call = with_arguments(&mut world, me, order, &keys, call);
            world.give(me, 6 + n, key_of(&keys, argument.types[0]).weaker(Rights::NONE));
            call.keys[usize::from(n)] = 6 + n;
            let expected = InvokeError::NoRight { which: Which::Argument(n), missing: argument.rights };
            assert_eq!(refused(&mut world, &call), expected.into(), "{} {}", order.on, order.name);
        }
    }
}

/// The call with the keys that its order wants.
fn with_arguments(
    world: &mut World,
    me: RecordId,
    order: &Order,
    keys: &[(KeyType, Key)],
    mut call: Invocation,
) -> Invocation {
    for (n, argument) in (0_u8..).zip(order.keys) {
        if let Some(first) = argument.types.first() {
            world.give(me, 6 + n, key_of(keys, *first));
            call.keys[usize::from(n)] = 6 + n;
        }
    }
    call
}

#[test]
fn missing_and_wrong_keys_are_named_for_every_argument() {
    let (mut world, me, keys) = with_all();
    for order in orders().filter(|order| order.on != KeyType::Own) {
        world.give(me, 5, key_of(&keys, order.on));
        let call = Invocation { invoker: me, slot: 5, order: order.code, ..IDLE };
        for (n, argument) in (0_u8..).zip(order.keys).filter(|(_, a)| !a.types.is_empty()) {
            let good = with_arguments(&mut world, me, order, &keys, call);
            let mut missing = good;
            missing.keys[usize::from(n)] = NO_SLOT;
            if !argument.types.contains(&KeyType::Null) {
                let answer = refused(&mut world, &missing);
                assert_eq!(answer, InvokeError::MissingKey { argument: n }.into(), "{} {}", order.on, order.name);
            }
            world.give(me, 6 + n, Key::device(KeyType::Clock));
            let (which, wanted, found) = (Which::Argument(n), argument.types[0], KeyType::Clock);
            let answer = refused(&mut world, &good);
            assert_eq!(answer, InvokeError::WrongKey { which, wanted, found }.into(), "{} {}", order.on, order.name);
        }
    }
}

#[test]
fn a_string_that_is_too_long_is_named_for_every_order() {
    let (mut world, me, keys) = with_all();
    for order in orders().filter(|order| order.on != KeyType::Own) {
        world.give(me, 5, key_of(&keys, order.on));
        for len in [order.string + 1, MAX_STRING + 1, u32::MAX] {
            let call = Invocation { invoker: me, slot: 5, order: order.code, string_len: len, ..IDLE };
            let limit = if len > MAX_STRING { MAX_STRING } else { order.string };
            assert_eq!(refused(&mut world, &call), InvokeError::StringTooLong { len, limit }.into(), "{}", order.name);
        }
    }
}

#[test]
fn a_void_key_is_named_for_every_order() {
    let (mut world, me, keys) = with_all();
    for order in orders().filter(|order| order.on.has_record() && order.code != 0) {
        let id = key_of(&keys, order.on).id();
        let stale = RecordId::from_u64(id.as_u64() ^ 1 << 40);
        world.give(me, 5, Key::to(order.on, stale));
        let call = Invocation { invoker: me, slot: 5, order: order.code, ..IDLE };
        let call = with_arguments(&mut world, me, order, &keys, call);
        let answer = refused(&mut world, &Invocation { words: [1, 1, 1, 1], ..call });
        assert_eq!(answer, InvokeError::Void { which: Which::Invoked }.into(), "{} {}", order.on, order.name);
    }
}

#[test]
fn any_words_are_answered() {
    let (mut world, me, keys) = with_all();
    let values = [0, 1, 15, 16, 17, 255, 4096, 4097, 1 << 32, u64::MAX / 4096, u64::MAX];
    // The order by which a domain ends is the one that is never answered.
    for order in orders().filter(|order| order.name != "end") {
        for (n, value) in values.into_iter().enumerate() {
            world.give(me, 5, key_of(&keys, order.on));
            let slot = if order.on == KeyType::Own { SELF_SLOT } else { 5 };
            let words = [value, values[(n * 7 + 3) % values.len()], values[(n * 5 + 1) % values.len()], value];
            let call = Invocation { invoker: me, slot, order: order.code, words, how: How::Send, ..IDLE };
            let call = with_arguments(&mut world, me, order, &keys, call);
            refused(&mut world, &call);
            world.work();
            audit(&world.table);
        }
    }
}

#[test]
fn slots_that_do_not_exist_are_named() {
    let mut world = World::new();
    let me = world.domain();
    let bad = |slot| Answer::from(InvokeError::BadSlot { slot });
    for slot in [17, 100, 254] {
        let base = Invocation { invoker: me, slot: BANK, order: 1, ..IDLE };
        assert_eq!(refused(&mut world, &Invocation { slot, ..base }), bad(slot));
        assert_eq!(refused(&mut world, &Invocation { keys: [255, slot, 255, 255], ..base }), bad(slot));
        assert_eq!(refused(&mut world, &Invocation { accept: [255, 255, 255, slot], ..base }), bad(slot));
    }
    assert_eq!(
        refused(&mut world, &Invocation { invoker: me, slot: 4, ..IDLE }),
        InvokeError::Empty { slot: 4 }.into()
    );
    let wrong = InvokeError::WrongKey { which: Which::Invoked, wanted: KeyType::Resume, found: KeyType::Bank };
    let how = How::ReplyAndWait;
    assert_eq!(refused(&mut world, &Invocation { invoker: me, slot: BANK, how, ..IDLE }), wrong.into());
}
