//! The checkpointer as its users see it: tickets, held output, the final checkpoint, failures that stick.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, missing_docs, reason = "shared by several test binaries, which use parts of it")]
mod fake;

use fake::{Act, Fault, Machine};
use semper_checkpoint::{CheckpointError, Checkpointer, Held, Policy, World};
use semper_store::Generation;
use std::sync::Arc;
use std::time::Duration;

/// Long: only a bug lets it go by.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(machine: &Arc<Machine>, policy: Policy) -> Arc<Checkpointer> {
    let world: Arc<dyn World> = Arc::clone(machine) as _;
    Checkpointer::start(Arc::clone(machine), Arc::clone(machine), world, policy).unwrap()
}

fn asked_only() -> Policy {
    Policy { interval: None, ..Policy::default() }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_ticket_gives_the_generation_that_contains_what_happened_before() {
    let machine = Machine::new([]);
    let checkpointer = start(&machine, asked_only());
    for value in 1..20 {
        machine.lock().act(Act::Write((1, value), value));
        let generation = checkpointer.request().wait(PATIENCE).unwrap();
        assert_eq!(machine.lock().generations[&generation.0].get(&(1, value)), Some(&value));
    }
    // Nothing is new: the newest answers.
    assert_eq!(checkpointer.request().wait(PATIENCE), Ok(Generation(19)));
    let summary = checkpointer.summary();
    assert_eq!((summary.totals.committed, summary.totals.unchanged, summary.generation), (19, 1, 19));
    assert_eq!(summary.last.len(), 19);
    let json = serde_json::to_value(&summary).unwrap();
    assert!(json["last"][0]["pause_us"].is_u64() && json["pauses"]["p99_us"].is_u64(), "{json}");
}

#[test]
fn held_output_needs_no_interval() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let checkpointer = start(&machine, asked_only());
    checkpointer.hasten(Held::Output);
    eventually("the output is released", || machine.lock().announced == 1);
}

#[test]
fn the_interval_works_by_itself_and_a_pause_stops_it() {
    let machine = Machine::new([]);
    let checkpointer = start(&machine, Policy { interval: Some(Duration::from_millis(10)), ..Policy::default() });
    for round in 1..4 {
        machine.lock().act(Act::Write((1, round), round));
        eventually("it is committed", || machine.newest().contains_key(&(1, round)));
    }
    checkpointer.pause();
    assert!(checkpointer.summary().paused);
    // A request is still answered.
    machine.lock().act(Act::Write((1, 9), 9));
    checkpointer.request().wait(PATIENCE).unwrap();
    assert!(machine.newest().contains_key(&(1, 9)));
    checkpointer.unpause();
    machine.lock().act(Act::Write((1, 10), 9));
    eventually("it goes on", || machine.newest().contains_key(&(1, 10)));
}

#[test]
fn an_inconsistency_stays_in_the_summary() {
    let machine = Machine::new([Act::Write((0, 1), 7)]);
    let checkpointer = start(&machine, asked_only());
    machine.arm(Fault::Check, 0);
    let error = checkpointer.request().wait(PATIENCE).unwrap_err();
    assert!(matches!(error, CheckpointError::Inconsistent(_)));
    assert!(checkpointer.summary().failing.is_some());
    checkpointer.request().wait(PATIENCE).unwrap();
    let summary = checkpointer.summary();
    assert_eq!(summary.failing, None);
    assert_eq!(summary.inconsistencies, 1);
    assert!(summary.inconsistent.unwrap().contains("a node without an owner"));
}

#[test]
fn a_full_store_goes_on_once_it_has_grown_and_the_held_output_with_it() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    machine.arm(Fault::CommitFull, 0);
    let checkpointer = start(&machine, asked_only());
    checkpointer.hasten(Held::Output);
    eventually("it fails", || checkpointer.summary().totals.failed == 1);
    machine.lock().free = 1 << 20;
    eventually("it is committed", || machine.lock().announced == 1);
}

#[test]
fn after_a_failed_flush_every_request_is_refused_at_once() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let checkpointer = start(&machine, asked_only());
    machine.arm(Fault::CommitPoisons, 0);
    let poisoned = Err(CheckpointError::Poisoned("flush: EIO".into()));
    assert_eq!(checkpointer.request().wait(PATIENCE), poisoned);
    assert_eq!(checkpointer.request().wait(PATIENCE), poisoned);
    assert_eq!(checkpointer.final_checkpoint(), poisoned);
    assert!(checkpointer.summary().ended.unwrap().contains("flush: EIO"));
    assert!(machine.lock().generations.is_empty());
}

#[test]
fn the_final_checkpoint_is_the_last() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let checkpointer = start(&machine, Policy { interval: Some(Duration::from_millis(10)), ..Policy::default() });
    let generation = checkpointer.final_checkpoint().unwrap();
    assert!(machine.lock().frozen);
    assert_eq!(machine.newest(), [((1, 1), 7)].into());
    assert!(matches!(checkpointer.request().wait(PATIENCE), Err(CheckpointError::Finished)));
    checkpointer.shut_down();
    assert_eq!(machine.lock().generations.len() as u64, generation.0);
}

#[test]
fn nobody_waits_for_a_checkpointer_that_has_ended() {
    let machine = Machine::new([]);
    let checkpointer = start(&machine, asked_only());
    checkpointer.shut_down();
    assert!(matches!(checkpointer.request().wait(PATIENCE), Err(CheckpointError::Ended(_))));
    assert!(matches!(checkpointer.final_checkpoint(), Err(CheckpointError::Ended(_))));
}
