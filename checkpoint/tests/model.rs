//! Random programs, random failures: each committed generation is the state of the world at its final stop (the fake world asserts
//! that whenever a commit is announced), and nothing that failed is ever missing from what succeeds later.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, missing_docs, reason = "shared by several test binaries, which use parts of it")]
mod fake;

use fake::{Act, Fault, Machine};
use proptest::prelude::*;
use semper_checkpoint::{CheckpointError, Engine, Limits, Trigger};
use std::sync::Arc;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => ((0..3_u64, 0..12_u64), 0..100_u64).prop_map(|(at, value)| Act::Write(at, value)),
        2 => (1..60_u64).prop_map(Act::Fill),
        2 => ((0..3_u64, 0..12_u64), 1..6_u64).prop_map(|(at, count)| Act::Discard(at, count)),
        1 => (0..40_u64, 1..20_u64).prop_map(|(first, count)| Act::Discard((9, first), count)),
        1 => (1..3_u64).prop_map(Act::Drop),
        6 => Just(Act::Rest),
    ]
}

fn fault() -> impl Strategy<Value = (Fault, u32)> {
    let kind = prop_oneof![
        Just(Fault::Freeze),
        Just(Fault::Check),
        Just(Fault::Scan),
        Just(Fault::Copy),
        Just(Fault::PutFull),
        Just(Fault::Begin),
        Just(Fault::CommitFull),
    ];
    (kind, 0..12_u32)
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![3 => Just(Trigger::Interval), 1 => Just(Trigger::Request), 1 => Just(Trigger::HeldOutput)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_generation_is_the_world_at_one_instant(
        script in proptest::collection::vec(act(), 0..300),
        attempts in proptest::collection::vec((trigger(), proptest::option::weighted(0.4, fault())), 1..10),
        (staging, near, small) in (1..80_u64, 1..40_u64, 0..6_u64),
    ) {
        let machine = Machine::new(script);
        let limits = Limits { small, remainder: small + 2, near, hot: near / 2, staging, ..Limits::default() };
        let this = || Arc::clone(&machine);
        let mut engine = Engine::new(this(), this(), this(), this(), limits);
        for (trigger, fault) in attempts {
            if let Some((fault, after)) = fault {
                machine.arm(fault, after);
            }
            let before = machine.lock().generations.len();
            let result = engine.checkpoint(trigger, &mut || {});
            let state = machine.lock();
            prop_assert!(!state.frozen);
            if let Err(error) = result {
                prop_assert!(!matches!(error, CheckpointError::Poisoned(_)));
                prop_assert_eq!(state.generations.len(), before);
            }
        }
        {
            let mut state = machine.lock();
            state.faults.clear();
            state.script.clear();
        }
        let last = engine.checkpoint(Trigger::Final, &mut || {});
        prop_assert!(last.is_ok());
        let mut memory = machine.lock().memory.clone();
        memory.retain(|_, value| *value != 0);
        prop_assert_eq!(machine.newest(), memory);
        prop_assert!(machine.lock().staged_peak <= 2 * staging + 300);
    }
}
