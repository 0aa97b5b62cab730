//! What one checkpoint does, step by step, when all goes well and when something fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, missing_docs, reason = "shared by several test binaries, which use parts of it")]
mod fake;

use fake::{Act, Fault, Machine};
use semper_checkpoint::{CheckpointError, Engine, Figures, Limits, Outcome, Trigger};
use semper_store::Generation;
use std::sync::Arc;
use std::time::Duration;

type TestEngine = Engine<Machine, Machine>;

fn limits() -> Limits {
    Limits { small: 2, remainder: 4, near: 32, hot: 16, staging: 64, ..Limits::default() }
}

fn engine(machine: &Arc<Machine>) -> TestEngine {
    let this = || Arc::clone(machine);
    Engine::new(this(), this(), this(), this(), limits())
}

fn take(engine: &mut TestEngine, trigger: Trigger) -> Result<Outcome, CheckpointError> {
    let mut captures = 0;
    let result = engine.checkpoint(trigger, &mut || captures += 1);
    assert!(captures <= 1);
    if result.is_ok() {
        assert!(!engine.source().lock().frozen || trigger == Trigger::Final);
    }
    result
}

fn figures(outcome: Outcome) -> Figures {
    match outcome {
        Outcome::Committed(figures) => *figures,
        Outcome::Unchanged { .. } => panic!("something was committed"),
    }
}

#[test]
fn the_stop_comes_between_the_round_and_the_commit() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let done = figures(take(&mut engine(&machine), Trigger::Interval).unwrap());
    let expected = "scan live 1,copy,freeze,scan frozen 0,captured,thaw,commit,committed 1";
    assert_eq!(machine.events().join(","), expected);
    assert_eq!(machine.newest(), [((1, 1), 7)].into());
    assert_eq!((done.rounds, done.stops, done.pages, done.remainder), (1, 1, 1, 0));
    // freeze, check, scan: and nothing of the commit.
    assert_eq!(done.pause, Duration::from_micros(1110));
    assert_eq!(done.pause, done.freeze + done.check + done.scan + done.copy);
    assert_eq!(done.pause_total, done.pause);
    assert!(done.total > done.pause + done.write);
}

#[test]
fn what_is_written_during_the_round_is_in_the_checkpoint() {
    let script = [Act::Write((1, 1), 7), Act::Write((1, 2), 8), Act::Write((1, 1), 9), Act::Write((1, 3), 1)];
    let machine = Machine::new(script);
    take(&mut engine(&machine), Trigger::Interval).unwrap();
    assert!(machine.lock().script.is_empty());
    assert_eq!(machine.newest(), [((1, 1), 9), ((1, 2), 8), ((1, 3), 1)].into());
}

#[test]
fn a_world_at_rest_makes_no_generation() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let mut engine = engine(&machine);
    take(&mut engine, Trigger::Interval).unwrap();
    machine.events();
    let outcome = take(&mut engine, Trigger::Interval).unwrap();
    assert!(matches!(outcome, Outcome::Unchanged { generation: Generation(1), .. }));
    // It was stopped, as its registers may have changed; what the stop noted is announced, as held output may hang on it.
    let expected = "scan live 0,freeze,scan frozen 0,captured,thaw,committed 1";
    assert_eq!(machine.events().join(","), expected);
    assert_eq!(machine.lock().generations.len(), 1);
}

#[test]
fn a_world_that_waits_is_not_even_stopped() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let mut engine = engine(&machine);
    take(&mut engine, Trigger::Interval).unwrap();
    machine.events();
    machine.lock().idle = true;
    let begun = machine.lock().begun;
    take(&mut engine, Trigger::Interval).unwrap();
    assert_eq!(machine.events(), ["scan live 0"]);
    assert_eq!(machine.lock().begun, begun);
    // What was written before it began to wait is not overlooked.
    machine.lock().act(Act::Write((1, 2), 3));
    assert_eq!(take(&mut engine, Trigger::Interval).unwrap().generation(), Generation(2));
}

#[test]
fn a_request_to_a_fresh_store_makes_the_first_generation() {
    let machine = Machine::new([]);
    let mut engine = engine(&machine);
    assert_eq!(take(&mut engine, Trigger::Request).unwrap().generation(), Generation(1));
    assert_eq!(take(&mut engine, Trigger::Request).unwrap().generation(), Generation(1));
}

#[test]
fn a_large_round_is_followed_by_short_stops() {
    let mut script = vec![Act::Fill(30), Act::Rest];
    script.extend([Act::Fill(20), Act::Rest, Act::Rest]);
    let machine = Machine::new(script);
    let done = figures(take(&mut engine(&machine), Trigger::Interval).unwrap());
    let events = machine.events().join(",");
    assert!(events.starts_with("scan live 30,copy,freeze,scan frozen 20,thaw,copy,freeze"), "{events}");
    assert_eq!((done.rounds, done.stops, done.throttles), (1, 3, 0));
    assert!(done.pause_total > done.pause);
}

#[test]
fn a_round_that_does_not_fit_into_memory_is_streamed() {
    let machine = Machine::new([Act::Fill(200)]);
    let done = figures(take(&mut engine(&machine), Trigger::Interval).unwrap());
    assert!(machine.events().join(",").starts_with("scan live 200,stream,scan live 0,freeze"));
    assert_eq!(done.pages, 200);
}

#[test]
fn a_writer_faster_than_the_disk_is_slowed_down_and_still_captured_whole() {
    let machine = Machine::new((0..4000).map(|_| Act::Fill(200)));
    let done = figures(take(&mut engine(&machine), Trigger::Interval).unwrap());
    assert!(done.throttles > 0);
    assert!(machine.lock().staged_peak <= 2 * limits().staging);
    assert_eq!(machine.newest().len(), 200);
}

#[test]
fn a_broken_object_table_is_never_committed() {
    let machine = Machine::new([Act::Write((0, 1), 7)]);
    let mut engine = engine(&machine);
    machine.arm(Fault::Check, 0);
    let error = take(&mut engine, Trigger::Interval).unwrap_err();
    assert!(matches!(error, CheckpointError::Inconsistent(_)));
    assert_eq!(
        machine.events().join(","),
        "scan live 1,copy,freeze,thaw,abandon,failed: the object table is inconsistent: a node without an owner; this state is \
         not committed"
    );
    assert!(machine.lock().generations.is_empty());
    // Once it holds again, nothing of it was forgotten.
    take(&mut engine, Trigger::Retry).unwrap();
    assert_eq!(machine.newest(), [((0, 1), 7)].into());
}

#[test]
fn whatever_fails_the_next_attempt_has_everything() {
    let faults =
        [Fault::Freeze, Fault::Check, Fault::Scan, Fault::Copy, Fault::PutFull, Fault::Begin, Fault::CommitFull];
    for fault in faults {
        for after in 0..4 {
            let script = [Act::Fill(30), Act::Write((1, 1), 5), Act::Fill(20), Act::Discard((9, 3), 4), Act::Fill(9)];
            let machine = Machine::new(script);
            let mut engine = engine(&machine);
            machine.arm(fault, after);
            let first = take(&mut engine, Trigger::Interval);
            assert_eq!(machine.lock().generations.len(), usize::from(first.is_ok()), "{fault:?} {after}");
            machine.lock().faults.clear();
            take(&mut engine, Trigger::Retry).unwrap();
            take(&mut engine, Trigger::Retry).unwrap();
            let memory = machine.lock().memory.clone();
            assert_eq!(machine.newest(), memory, "{fault:?} {after}");
        }
    }
}

#[test]
fn a_failed_flush_is_final() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let mut engine = engine(&machine);
    machine.arm(Fault::CommitPoisons, 0);
    let error = take(&mut engine, Trigger::Interval).unwrap_err();
    assert_eq!(error, CheckpointError::Poisoned("flush: EIO".into()));
    assert!(error.is_final());
    assert_eq!(take(&mut engine, Trigger::Interval).unwrap_err(), error);
    assert!(machine.lock().generations.is_empty());
}

#[test]
fn the_final_checkpoint_leaves_the_world_standing_unless_it_fails() {
    let machine = Machine::new([Act::Write((1, 1), 7)]);
    let mut engine = engine(&machine);
    machine.arm(Fault::CommitFull, 0);
    take(&mut engine, Trigger::Final).unwrap_err();
    assert!(!machine.lock().frozen);
    take(&mut engine, Trigger::Final).unwrap();
    assert!(machine.lock().frozen);
    assert_eq!(machine.newest(), [((1, 1), 7)].into());
}
