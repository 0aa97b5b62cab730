//! The domains of Linux programs: what is given to them, what cannot be done to them, and how they stop waiting.

use super::audit::audit;
use super::*;
use crate::guest::slot;

impl World {
    /// The domain of a Linux program.
    fn linux(&mut self) -> LinuxDomain {
        let Genesis { bank, meter } = self.genesis;
        let limit = Storage { pages: 100, records: 100 };
        let new = NewLinuxDomain { bank, meter, limit, program: RecordId::from_u64(1 << 32), console: 3 };
        make_linux(&mut self.table, &self.nature, &new, &mut self.effects).unwrap().unwrap()
    }

    fn withdraw(&mut self, id: RecordId) -> bool {
        withdraw(&mut self.table, &self.nature, id, &mut self.effects).unwrap()
    }

    fn phase(&self, id: RecordId) -> Phase {
        self.table.get::<Domain>(id).unwrap().phase()
    }
}

fn call(invoker: RecordId) -> Invocation {
    Invocation { invoker, slot: 12, order: 9, ..IDLE }
}

#[test]
fn a_linux_program_cannot_destroy_itself_by_its_bank() {
    let mut world = World::new();
    let me = world.linux().domain;
    assert_eq!(world.invoke(&Invocation { invoker: me, slot: slot::BANK, order: 12, ..IDLE }), Outcome::Waits);
    world.work();
    assert_eq!(world.phase(me), Phase::Running);
    let gone = world.invoke(&Invocation { invoker: me, slot: slot::BANK, order: 4, ..IDLE });
    assert_eq!(gone, Outcome::Answered(InvokeError::Void { which: Which::Invoked }.into()));
    audit(&world.table);
}

#[test]
fn what_belongs_to_the_personality_is_refused() {
    let mut world = World::new();
    let me = world.linux().domain;
    for order in [2, 3, 4, 5, 6, 9, 14] {
        let answer = world.invoke(&Invocation { invoker: me, slot: slot::SELF, order, ..IDLE });
        assert_eq!(answer, Outcome::Answered(InvokeError::Foreign.into()), "order {order}");
    }
    let words = world.ask(me, slot::SELF, 1, &[], &[]).unwrap();
    assert_eq!(words, [Phase::Running as u64, 0, 0, 0]);
    world.ask(me, slot::SELF, 11, &[7], &[]).unwrap();
    assert_eq!(world.key(me, GOT), Key::start(me, 0, 7));
    let used = world.invoke(&Invocation { invoker: me, order: 5, ..IDLE });
    assert!(matches!(used, Outcome::Answered(Answer { words: [slots, 0, 0, 0], .. }) if slots == 0x3ff | 1 << GOT));
    let read = world.invoke(&Invocation { invoker: me, slot: slot::CONSOLE, order: 2, words: [5, 0, 0, 0], ..IDLE });
    let missing = Rights::READ;
    assert_eq!(read, Outcome::Answered(InvokeError::NoRight { which: Which::Invoked, missing }.into()));
}

#[test]
fn its_end_frees_everything_and_tells_those_who_wait() {
    let mut world = World::new();
    let before = audit(&world.table);
    let program = world.linux();
    let caller = world.domain();
    world.introduce(caller, 12, program.domain, 5);
    world.ask(program.domain, slot::BANK, 3, &[20], &[]).unwrap();
    assert_eq!(world.invoke(&call(caller)), Outcome::Waits);
    world.effects.clear();
    end_linux(&mut world.table, &world.nature, &program, &mut world.effects).unwrap();
    assert!(world.effects.contains(&Effect::Gone { domain: program.domain }));
    world.work();
    let died = Effect::Answer { to: caller, answer: InvokeError::CalleeDied.into() };
    assert!(world.effects.contains(&died), "{:?}", world.effects);
    end_linux(&mut world.table, &world.nature, &program, &mut world.effects).unwrap();
    let after = audit(&world.table);
    assert_eq!(after.records - before.records, 4, "only the caller is left");
}

#[test]
fn a_message_that_was_not_taken_is_withdrawn_whole() {
    let mut world = World::new();
    let (me, busy) = (world.linux().domain, world.domain());
    world.introduce(me, 12, busy, 5);
    assert!(!world.withdraw(me), "it does not wait");
    let asked = Invocation { deadline: 5000, ..call(me) };
    assert_eq!(world.invoke(&asked), Outcome::Waits);
    assert_eq!(world.phase(me), Phase::Queued);
    assert!(world.withdraw(me));
    assert_eq!(world.phase(me), Phase::Running);
    audit(&world.table);
    assert_eq!(next_alarm(&world.table).unwrap(), None);
    world.effects.clear();
    world.wait(busy);
    assert!(world.effects.is_empty(), "the message was delivered all the same: {:?}", world.effects);
}

#[test]
fn a_message_that_was_taken_is_waited_for() {
    let mut world = World::new();
    let (me, server) = (world.linux().domain, world.server());
    world.introduce(me, 12, server, 5);
    assert_eq!(world.invoke(&call(me)), Outcome::Waits);
    assert!(!world.withdraw(me));
    assert_eq!(world.phase(me), Phase::Waiting);
    world.invoke(&Invocation { invoker: server, slot: RESUME_SLOT, how: How::Send, ..IDLE });
    assert_eq!(world.phase(me), Phase::Running);
    audit(&world.table);
}

#[test]
fn who_answered_and_gave_up_waiting_only_waits_the_next_time() {
    let mut world = World::new();
    let (me, caller) = (world.linux().domain, world.domain());
    world.introduce(caller, 12, me, 5);
    let wait = Invocation { invoker: me, slot: RESUME_SLOT, how: How::ReplyAndWait, ..IDLE };
    assert_eq!(world.invoke(&wait), Outcome::Waits);
    assert_eq!(world.invoke(&call(caller)), Outcome::Waits);
    assert!(!world.withdraw(me), "a message is there");
    assert_eq!(world.invoke(&wait), Outcome::Waits);
    assert_eq!(world.phase(caller), Phase::Running);
    assert!(world.withdraw(me));
    assert_eq!(world.invoke(&wait), Outcome::Waits, "its key was used, but it may wait");
    assert_eq!(world.phase(me), Phase::Available);
}

#[test]
fn waits_for_the_kernel_are_given_up_without_loss() {
    let mut world = World::new();
    let me = world.linux().domain;
    let durable = Invocation { invoker: me, slot: slot::CHECKPOINT, order: 2, ..IDLE };
    assert_eq!(world.invoke(&durable), Outcome::Waits);
    let serial = world.table.get::<Domain>(me).unwrap().serial;
    assert!(world.withdraw(me));
    audit(&world.table);
    let World { table, nature, effects, .. } = &mut world;
    assert!(!complete(table, nature, me, serial, Answer::default(), effects).unwrap(), "nobody waits any more");
    // A timer that goes off meanwhile is found by the next wait.
    world.get(me, slot::BANK, 8, &[], &[], 11);
    world.ask(me, 11, 1, &[2000], &[]).unwrap();
    let wait = Invocation { invoker: me, slot: 11, order: 2, ..IDLE };
    assert_eq!(world.invoke(&wait), Outcome::Waits);
    assert!(world.withdraw(me));
    world.nature.now.set(3000);
    expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
    assert!(matches!(world.invoke(&wait), Outcome::Answered(Answer { code: 0, words: [3000, ..], .. })));
}

#[test]
fn a_start_key_goes_only_into_an_empty_slot_that_there_is() {
    let mut world = World::new();
    let (me, other) = (world.linux().domain, world.domain());
    let World { table, nature, .. } = &mut world;
    let mut give = |domain, place, callee| give_start(table, nature, domain, place, callee, 1).unwrap();
    assert_eq!(give(me, 16, other), Err(InvokeError::BadSlot { slot: 16 }));
    assert_eq!(give(me, 9, other), Err(InvokeError::Busy));
    assert_eq!(give(me, 10, RecordId::NONE), Err(InvokeError::Void { which: Which::Argument(0) }));
    assert_eq!(give(me, 10, other), Ok(()));
    assert_eq!(world.key(me, 10), Key::start(other, 0, 1));
}
