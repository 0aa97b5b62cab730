//! Calls, answers, queues, deadlines, deaths, faults.

use super::audit::audit;
use super::*;

fn call(invoker: RecordId, slot: u8, order: u32) -> Invocation {
    Invocation { invoker, slot, order, ..IDLE }
}

fn reply(invoker: RecordId, order: u32, how: How) -> Invocation {
    Invocation { invoker, slot: RESUME_SLOT, how, order, ..IDLE }
}

/// The orders that servers got, in the order of delivery.
fn delivered(world: &mut World) -> Vec<(RecordId, u64, u32)> {
    let all = world.take_effects().into_iter().filter_map(|effect| match effect {
        Effect::Deliver { to, delivery } => Some((to, delivery.badge, delivery.order)),
        _ => None,
    });
    all.collect()
}

#[test]
fn a_call_is_delivered_with_badge_words_string_and_keys_and_answered_once() {
    let mut world = World::new();
    let (client, server) = (world.domain(), world.domain());
    world.introduce(client, 2, server, 99);
    let accept = [5, 6, NO_SLOT, 7];
    world.invoke(&Invocation { invoker: server, slot: 12, how: How::ReplyAndWait, accept, ..IDLE });
    world.take_effects();
    let words = [1, 2, 3, 4];
    let outcome = world.invoke(&Invocation {
        words,
        string_len: 30,
        keys: [BANK, NO_SLOT, METER, METER],
        accept: [8, NO_SLOT, NO_SLOT, NO_SLOT],
        ..call(client, 2, 17)
    });
    assert_eq!(outcome, Outcome::Waits);
    let text = Text::Message { domain: client, len: 30 };
    let delivery = Delivery { badge: 99, order: 17, words, text, keys: 0b1001, answerable: true };
    assert_eq!(world.take_effects(), [Effect::Deliver { to: server, delivery }]);
    assert_eq!(world.key(server, 5), world.genesis.bank);
    assert_eq!(world.key(server, 7), world.genesis.meter);
    assert_eq!((world.core(client).phase(), world.core(server).phase()), (Phase::Waiting, Phase::Running));
    // A copy of the resume key does not outlive the answer.
    world.ask(server, SELF_SLOT, 0, &[RESUME_SLOT.into(), 9], &[]).unwrap();
    let answer =
        Invocation { words: [5; 4], string_len: 4, keys: [7, 255, 255, 255], ..reply(server, 3, How::ReplyAndWait) };
    assert_eq!(world.invoke(&answer), Outcome::Waits);
    let text = Text::Message { domain: server, len: 4 };
    let expected = Answer { code: 3, words: [5; 4], text, keys: 1 };
    assert_eq!(world.answers(), [(client, expected)]);
    assert_eq!(world.key(client, 8), world.genesis.meter);
    assert_eq!(world.core(server).phase(), Phase::Available);
    world.invoke(&call(client, 2, 18));
    let void = code(InvokeError::Void { which: Which::Invoked });
    let stale = world.invoke(&Invocation { slot: 9, ..reply(server, 0, How::Send) });
    assert!(matches!(stale, Outcome::Answered(Answer { code, .. }) if code == void), "{stale:?}");
    assert_eq!(world.core(client).phase(), Phase::Waiting);
    audit(&world.table);
}

#[test]
fn callers_are_served_in_the_order_in_which_they_came() {
    let mut world = World::new();
    let server = world.domain();
    let clients: Vec<_> = (0..20).map(|_| world.domain()).collect();
    for (n, client) in (0..).zip(&clients) {
        world.introduce(*client, 2, server, n);
        let how = if n % 3 == 0 { How::Send } else { How::Call };
        assert_eq!(world.invoke(&Invocation { how, ..call(*client, 2, 1) }), Outcome::Waits);
        audit(&world.table);
    }
    world.take_effects();
    world.wait(server);
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.extend(delivered(&mut world).into_iter().map(|(_, badge, _)| badge));
        let slot = if world.key(server, RESUME_SLOT).is_null() { 12 } else { RESUME_SLOT };
        world.invoke(&Invocation { slot, ..reply(server, 0, How::ReplyAndWait) });
        audit(&world.table);
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    assert!(clients.iter().all(|client| world.core(*client).phase() == Phase::Running));
}

#[test]
fn a_sender_that_waited_goes_on_when_its_message_is_taken_and_gives_no_resume_key() {
    let mut world = World::new();
    let (client, server) = (world.domain(), world.domain());
    world.introduce(client, 2, server, 0);
    world.invoke(&Invocation { how: How::Send, string_len: 7, ..call(client, 2, 1) });
    assert_eq!(world.core(client).phase(), Phase::Queued);
    world.wait(server);
    assert_eq!(world.core(client).phase(), Phase::Running);
    assert!(world.key(server, RESUME_SLOT).is_null());
    assert_eq!(world.answers(), [(client, Answer::default())]);
}

#[test]
fn a_deadline_ends_a_queued_call_and_a_taken_one() {
    let mut world = World::new();
    let (a, b, server) = (world.domain(), world.domain(), world.server());
    world.introduce(a, 2, server, 0);
    world.introduce(b, 2, server, 1);
    world.invoke(&Invocation { deadline: 5000, ..call(a, 2, 1) });
    world.invoke(&Invocation { deadline: 4000, ..call(b, 2, 1) });
    audit(&world.table);
    assert_eq!(next_alarm(&world.table), Ok(Some(4000)));
    world.take_effects();
    world.nature.now.set(4500);
    assert_eq!(expire(&mut world.table, &world.nature, &mut world.effects), Ok(false));
    assert_eq!(world.answers(), [(b, InvokeError::Timeout.into())]);
    world.nature.now.set(5000);
    expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
    assert_eq!(world.answers(), [(a, InvokeError::Timeout.into())]);
    audit(&world.table);
    // The answer comes too late.
    let late = world.invoke(&reply(server, 0, How::ReplyAndWait));
    assert_eq!(late, Outcome::Answered(InvokeError::Void { which: Which::Invoked }.into()));
    // One that has passed already does not queue.
    let past = world.invoke(&Invocation { deadline: 1, ..call(a, 2, 1) });
    assert_eq!(past, Outcome::Answered(InvokeError::Timeout.into()));
    assert_eq!(next_alarm(&world.table), Ok(None));
}

#[test]
fn deadlines_by_the_thousand_expire_in_order() {
    let mut world = World::new();
    let server = world.domain();
    let mut expected = Vec::new();
    for n in 0..500_u64 {
        let client = world.domain();
        world.introduce(client, 2, server, n);
        let deadline = 2000 + n * 7919 % 501;
        world.invoke(&Invocation { deadline, ..call(client, 2, 1) });
        expected.push((deadline, client.index()));
    }
    audit(&world.table);
    expected.sort_unstable();
    let mut seen = Vec::new();
    world.take_effects();
    while let Some(at) = next_alarm(&world.table).unwrap() {
        world.nature.now.set(at);
        while expire(&mut world.table, &world.nature, &mut world.effects).unwrap() {}
        seen.extend(world.answers().into_iter().map(|(id, _)| (at, id.index())));
    }
    assert_eq!(seen, expected);
    audit(&world.table);
}

#[test]
fn whoever_waits_for_a_domain_that_dies_or_begins_anew_is_told() {
    for dies in [true, false] {
        let mut world = World::new();
        let (boss, server) = (world.domain(), world.server());
        world.give(boss, 2, Key::to(KeyType::Domain, server));
        let clients: Vec<_> = (0..200).map(|_| world.domain()).collect();
        for client in &clients {
            world.introduce(*client, 2, server, 0);
            world.invoke(&call(*client, 2, 1));
        }
        world.take_effects();
        let why = if dies {
            world.ask(boss, BANK, 9, &[], &[2]).unwrap();
            InvokeError::CalleeDied
        } else {
            world.ask(boss, 2, 2, &[0x1000, 0x2000, 3], &[]).unwrap();
            InvokeError::CalleeRestarted
        };
        audit(&world.table);
        let steps = world.work();
        assert!(steps > 3, "200 callers take more than one transaction");
        let effects = world.effects.clone();
        let answers = world.answers();
        assert_eq!(answers.len(), 200);
        assert!(answers.iter().all(|(_, answer)| *answer == why.into()));
        audit(&world.table);
        if dies {
            assert!(world.table.get::<Domain>(server).is_err());
        } else {
            let entry = [0x1000, 0x2000, 3];
            assert!(effects.contains(&Effect::Begin { domain: server, entry }));
            assert!(world.core(server).is_runnable());
        }
        let again = world.invoke(&call(clients[0], 2, 1));
        assert_eq!(matches!(again, Outcome::Answered(_)), dies, "{again:?}");
    }
}

#[test]
fn who_got_the_resume_key_is_waited_for() {
    let mut world = World::new();
    let (boss, client, server, worker) = (world.domain(), world.domain(), world.server(), world.domain());
    world.introduce(client, 2, server, 0);
    world.introduce(server, 2, worker, 0);
    world.give(boss, 2, Key::to(KeyType::Domain, server));
    world.give(boss, 3, Key::to(KeyType::Domain, worker));
    let accept = [4, NO_SLOT, NO_SLOT, NO_SLOT];
    world.invoke(&Invocation { invoker: worker, slot: 12, how: How::ReplyAndWait, accept, ..IDLE });
    world.invoke(&call(client, 2, 1));
    world.invoke(&Invocation { how: How::Send, keys: [RESUME_SLOT, 255, 255, 255], ..call(server, 2, 2) });
    audit(&world.table);
    world.ask(boss, BANK, 9, &[], &[2]).unwrap();
    world.work();
    assert_eq!(world.core(client).phase(), Phase::Waiting, "the server that passed it on may die");
    world.take_effects();
    world.invoke(&Invocation { slot: 4, ..reply(worker, 5, How::Send) });
    assert_eq!(world.answers(), [(client, Answer { code: 5, ..Answer::default() })]);
    audit(&world.table);
}

#[test]
fn a_stopped_domain_takes_nothing_until_it_is_started() {
    let mut world = World::new();
    let (boss, client, server) = (world.domain(), world.domain(), world.server());
    world.introduce(client, 2, server, 0);
    world.give(boss, 2, Key::to(KeyType::Domain, server));
    world.ask(boss, 2, 3, &[], &[]).unwrap();
    world.invoke(&call(client, 2, 1));
    assert_eq!(world.core(client).phase(), Phase::Queued);
    world.take_effects();
    world.ask(boss, 2, 4, &[], &[]).unwrap();
    assert_eq!(delivered(&mut world), [(server, 0, 1)]);
    audit(&world.table);
}

#[test]
fn revoked_start_keys_and_no_call_keys_do_not_call() {
    let mut world = World::new();
    let (boss, client, server) = (world.domain(), world.domain(), world.server());
    world.introduce(client, 2, server, 0);
    world.give(boss, 2, Key::to(KeyType::Domain, server));
    let epoch = world.core(server).start_epoch;
    world.give(client, 3, Key::start(server, epoch, 0).weaker(Rights::SEND));
    let missing = InvokeError::NoRight { which: Which::Invoked, missing: Rights::CALL };
    assert_eq!(world.invoke(&call(client, 3, 1)), Outcome::Answered(missing.into()));
    assert_eq!(
        world.invoke(&Invocation { how: How::Send, ..call(client, 3, 1) }),
        Outcome::Answered(Answer::default())
    );
    world.ask(boss, 2, 12, &[], &[]).unwrap();
    let void = InvokeError::Void { which: Which::Invoked };
    assert_eq!(world.invoke(&call(client, 2, 1)), Outcome::Answered(void.into()));
}

#[test]
fn a_keeper_gets_the_cause_and_repairs() {
    let mut world = World::new();
    let (boss, victim, keeper) = (world.domain(), world.domain(), world.domain());
    let accept = [4, NO_SLOT, NO_SLOT, NO_SLOT];
    world.invoke(&Invocation { invoker: keeper, slot: 12, how: How::ReplyAndWait, accept, ..IDLE });
    world.give(boss, 2, Key::to(KeyType::Domain, victim));
    world.introduce(boss, 3, keeper, 8);
    world.ask(boss, 2, 9, &[], &[3]).unwrap();
    world.take_effects();
    let fault_ = Fault { cause: 8, in_memory: false, address: 0, detail: 5, instruction: 0x4000 };
    fault(&mut world.table, &world.nature, victim, &fault_, &mut world.effects).unwrap();
    let text = Text::Registers { domain: victim };
    let delivery = Delivery { badge: 8, order: 1, words: [8, 0, 5, 0x4000], text, keys: 1, answerable: true };
    let expected = [Effect::Deliver { to: keeper, delivery }, Effect::Halt { domain: victim }];
    assert_eq!(world.take_effects(), expected);
    assert_eq!(world.key(keeper, 4), Key::to(KeyType::Domain, victim));
    world.ask(keeper, 4, 5, &[], &[]).unwrap();
    world.invoke(&reply(keeper, 0, How::ReplyAndWait));
    assert_eq!(world.take_effects(), [Effect::Resume { domain: victim }]);
    // Declined: it stands, until somebody starts it.
    fault(&mut world.table, &world.nature, victim, &fault_, &mut world.effects).unwrap();
    world.invoke(&reply(keeper, 1, How::ReplyAndWait));
    assert_eq!(world.core(victim).phase(), Phase::Faulted);
    world.ask(boss, 2, 4, &[], &[]).unwrap();
    assert!(world.core(victim).is_runnable());
    audit(&world.table);
}

#[test]
fn a_fault_in_a_mapping_calls_the_segment_keeper_if_the_key_may() {
    for may in [true, false] {
        let mut world = World::new();
        let (victim, pager) = (world.domain(), world.domain());
        world.get(victim, BANK, 3, &[16], &[], 2);
        world.introduce(victim, 3, pager, 0);
        world.ask(victim, 2, 6, &[], &[3]).unwrap();
        if !may {
            world.ask(victim, SELF_SLOT, 3, &[2, Rights::READ.bits().into()], &[]).unwrap();
        }
        world.give(victim, 4, Key::to(KeyType::Domain, victim));
        world.ask(victim, 4, 13, &[0x100, 2, 8], &[2]).unwrap();
        let accept = [4, NO_SLOT, NO_SLOT, NO_SLOT];
        world.invoke(&Invocation { invoker: pager, slot: 12, how: How::ReplyAndWait, accept, ..IDLE });
        world.take_effects();
        let at = Fault { cause: 11, in_memory: true, address: 0x10_3008, detail: 1, instruction: 2 };
        fault(&mut world.table, &world.nature, victim, &at, &mut world.effects).unwrap();
        let got = delivered(&mut world);
        assert_eq!(got, if may { vec![(pager, 0, 2)] } else { vec![] });
        assert_eq!(world.core(victim).phase(), if may { Phase::Waiting } else { Phase::Faulted });
        let key = world.key(pager, 4);
        assert!(!may || (key.key_type() == KeyType::Segment && !key.rights().contains(Rights::CALL)));
    }
}

#[test]
fn a_meter_that_is_used_up_calls_its_keeper_who_may_grant_more() {
    let mut world = World::new();
    let (worker, keeper) = (world.domain(), world.domain());
    world.get(worker, METER, 4, &[1000], &[BANK], 2);
    world.introduce(worker, 3, keeper, 0);
    world.ask(worker, 2, 5, &[], &[3]).unwrap();
    world.give(worker, 4, Key::to(KeyType::Domain, worker));
    world.ask(worker, 4, 10, &[], &[2]).unwrap();
    let accept = [4, NO_SLOT, NO_SLOT, NO_SLOT];
    world.invoke(&Invocation { invoker: keeper, slot: 12, how: How::ReplyAndWait, accept, ..IDLE });
    charge(&mut world.table, &world.nature, worker, 600, &mut world.effects).unwrap();
    assert_eq!(world.core(worker).phase(), Phase::Running);
    charge(&mut world.table, &world.nature, worker, 600, &mut world.effects).unwrap();
    assert_eq!(world.core(worker).phase(), Phase::Waiting);
    world.ask(keeper, 4, 2, &[5000], &[]).unwrap();
    assert_eq!(world.ask(keeper, 4, 1, &[], &[]), Ok([5000, 1200, 0, 0]));
    world.invoke(&reply(keeper, 0, How::ReplyAndWait));
    assert_eq!(world.core(worker).phase(), Phase::Running);
    assert_eq!(world.core(worker).cpu, 1200);
    assert_eq!(world.ask(worker, METER, 1, &[], &[]), Ok([u64::MAX, 1200, 0, 0]));
}

#[test]
fn who_owes_an_answer_is_not_given_another_to_answer() {
    let mut world = World::new();
    let (client, server, helper) = (world.domain(), world.domain(), world.domain());
    world.introduce(client, 2, server, 1);
    world.introduce(server, 2, helper, 1);
    world.wait(server);
    world.wait(helper);
    world.invoke(&call(client, 2, 1));
    world.invoke(&call(server, 2, 2));
    // The helper would have the server answer it in the client's place.
    let busy = Outcome::Answered(InvokeError::Busy.into());
    assert_eq!(world.invoke(&reply(helper, 0, How::Call)), busy);
    assert_eq!(world.invoke(&reply(helper, 0, How::Send)), Outcome::Answered(Answer::default()));
    world.take_effects();
    assert_eq!(world.invoke(&reply(server, 5, How::Send)), Outcome::Answered(Answer::default()));
    assert_eq!(world.answers(), [(client, Answer { code: 5, ..Answer::default() })]);
    // Nobody is owed anything by now: the two may go on as they like.
    world.invoke(&call(server, 2, 2));
    world.wait(helper);
    world.invoke(&call(server, 2, 3));
    assert_eq!(world.invoke(&reply(helper, 0, How::Call)), Outcome::Waits);
    assert_eq!(world.invoke(&reply(server, 7, How::Send)), Outcome::Answered(Answer::default()));
    audit(&world.table);
}

#[test]
fn a_resume_key_without_the_right_answers_nobody() {
    let mut world = World::new();
    let (client, server) = (world.domain(), world.domain());
    world.introduce(client, 2, server, 1);
    world.wait(server);
    world.invoke(&call(client, 2, 1));
    world.ask(server, SELF_SLOT, 0, &[RESUME_SLOT.into(), 9], &[]).unwrap();
    world.ask(server, SELF_SLOT, 3, &[9, 0], &[]).unwrap();
    let refused = InvokeError::NoRight { which: Which::Invoked, missing: Rights::SEND };
    let weak = Invocation { slot: 9, ..reply(server, 0, How::Send) };
    assert_eq!(world.invoke(&weak), Outcome::Answered(refused.into()));
    assert_eq!(world.core(client).phase(), Phase::Waiting);
}

#[test]
fn waits_for_the_kernel_have_deadlines_too() {
    let mut world = World::new();
    let me = world.domain();
    world.get(me, BANK, 8, &[], &[], 2);
    world.give(me, 3, Key::device(KeyType::Checkpoint));
    for slot in [2, 3] {
        let now = world.nature.now.get();
        let wait = Invocation { invoker: me, slot, order: 2, deadline: now + 500, ..IDLE };
        assert_eq!(world.invoke(&wait), Outcome::Waits);
        let serial = world.core(me).serial;
        assert!(still_waits(&world.table, me, serial));
        world.take_effects();
        world.nature.now.set(now + 1000);
        expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
        assert_eq!(world.answers(), [(me, InvokeError::Timeout.into())]);
        assert!(!still_waits(&world.table, me, serial));
        // What comes later comes to nobody.
        let late = complete(&mut world.table, &world.nature, me, serial, Answer::default(), &mut world.effects);
        assert_eq!(late, Ok(false));
        audit(&world.table);
    }
}

#[test]
fn a_meter_that_was_used_up_while_its_domain_waited_is_found_when_it_goes_on() {
    let mut world = World::new();
    let (me, keeper) = (world.domain(), world.server());
    world.get(me, METER, 4, &[1000], &[BANK], 2);
    world.introduce(me, 3, keeper, 1);
    world.ask(me, 2, 5, &[], &[3]).unwrap();
    world.give(me, 4, Key::to(KeyType::Domain, me));
    world.ask(me, 4, 10, &[], &[2]).unwrap();
    world.get(me, BANK, 8, &[], &[], 5);
    world.ask(me, 5, 1, &[5000], &[]).unwrap();
    world.invoke(&Invocation { invoker: me, slot: 5, order: 2, ..IDLE });
    let charge =
        |world: &mut World, time| charge(&mut world.table, &world.nature, me, time, &mut world.effects).unwrap();
    assert!(charge(&mut world, 2000), "it is still to come");
    assert_eq!(world.core(me).phase(), Phase::Waiting);
    world.nature.now.set(6000);
    expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
    world.take_effects();
    assert!(!charge(&mut world, 0));
    assert_eq!(delivered(&mut world), [(keeper, 1, 3)]);
    audit(&world.table);
}
