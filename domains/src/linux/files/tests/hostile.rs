//! Every call with arguments that mean harm: nothing panics, and the records stay consistent.

use super::machine::{BUFFER, DATA, Machine};
use super::model::Dice;
use crate::linux::files::CALLS;
use crate::linux::{ConsoleKind, Outcome, Stream};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const PATHS: [&str; 16] = [
    "/",
    ".",
    "..",
    "",
    "/tmp",
    "/tmp/a",
    "/tmp/a/b",
    "/tmp/b",
    "/proc/self/fd/3",
    "/proc/self/maps",
    "/dev/stdin",
    "/dev/zero",
    "/proc/self/exe",
    "/tmp/d/",
    "/proc",
    "a//../b",
];

fn argument(dice: &mut Dice) -> u64 {
    match dice.below(20) {
        0 => 0,
        1 => dice.below(8),
        2 => u64::MAX - dice.below(4096),
        3 => 1 << dice.below(64),
        4 => (1 << dice.below(64)) - 1,
        5 => dice.roll(),
        6 => i64::MIN.cast_unsigned() + dice.below(3),
        7 => (-100_i64).cast_unsigned(),
        8..=11 => DATA + dice.below(16) * 64,
        12 | 13 => BUFFER + dice.below(4096),
        14 => 0x40_0000 + dice.below(0x2000),
        15 => dice.below(1 << 20),
        16 => [0o102, 0o1102, 0o2101, 0o200_000, 0o4000][usize::try_from(dice.below(5)).unwrap()],
        _ => dice.below(12),
    }
}

fn storm(seed: u64, steps: u64) {
    let mut dice = Dice::new(seed);
    let terminal = ConsoleKind::Terminal { rows: 1, columns: 2 };
    let kinds = [terminal, ConsoleKind::Pipe, ConsoleKind::File { size: 5 }, ConsoleKind::Null];
    let mut m = Machine::with_console([dice.pick(&kinds), dice.pick(&kinds), dice.pick(&kinds)]);
    m.console.input.lock().unwrap().extend(b"some input");
    for step in 0..steps {
        for slot in 0..16 {
            let path = dice.pick(&PATHS);
            m.poke(DATA + slot * 64, path.as_bytes());
            m.poke(DATA + slot * 64 + path.len() as u64, &[0]);
        }
        for _ in 0..4 {
            let (at, word) = (BUFFER + dice.below(512) * 8, argument(&mut dice));
            m.poke(at, &word.to_le_bytes());
        }
        m.segments.room.store(if dice.below(10) == 0 { dice.below(64) } else { 1 << 20 }, SeqCst);
        let call = dice.pick(CALLS);
        let arguments: [u64; 6] = std::array::from_fn(|_| argument(&mut dice));
        let outcome = m.step(u64::from(call.number), &arguments);
        assert!(!matches!(outcome, Outcome::Ended(_)), "seed {seed} step {step}: {} {arguments:x?}", call.name);
        assert_eq!(m.program.check(), None, "seed {seed} step {step}: {} {arguments:x?}", call.name);
        m.clock.advance(Duration::from_millis(dice.below(50)));
        let [out, err] = m.program.outputs();
        m.program.note_released(Stream::Out, out.written);
        m.program.note_released(Stream::Err, err.released + dice.below(1 << 22));
        if step % 40 == 0 {
            m.restart();
        }
    }
    let mut kept = m.program.segments();
    kept.sort();
    assert_eq!(m.segments.alive(), kept, "seed {seed}: segments that no file has");
}

#[test]
fn hostile_arguments_do_no_harm() {
    for seed in 1..=30 {
        storm(seed, 500);
    }
}
