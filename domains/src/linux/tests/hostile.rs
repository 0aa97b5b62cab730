//! Every call under arguments that mean harm: nothing panics, and the records stay consistent.

use super::support::Machine;
use crate::linux::{Outcome, calls};

/// A small generator whose seed is in every message.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn argument(&mut self, m: &Machine) -> u64 {
        let maps = m.maps();
        let area = maps[usize::try_from(self.below(maps.len() as u64)).unwrap()];
        match self.below(14) {
            0 => 0,
            1 => self.below(16),
            2 => u64::MAX - self.below(16),
            3 => 1 << self.below(64),
            4 => (1 << self.below(64)) - 1,
            5 => self.roll(),
            6 => area.start + self.below(area.len()) / 4096 * 4096,
            7 => area.end - self.below(64),
            8 => area.start.wrapping_sub(self.below(64)),
            9 => self.below(32) * 4096,
            10 => 0x40_3000 + self.below(0x1000),
            11 => m.regs.rsp,
            12 => [0x22, 0x32, 0x10_0022, 0x21, 0x31, 2][usize::try_from(self.below(6)).unwrap()],
            _ => i64::MIN.cast_unsigned() + self.below(3),
        }
    }
}

fn storm(seed: u64, steps: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut m = Machine::new();
    let numbers: Vec<u64> = calls::all().map(|c| u64::from(c.number)).collect();
    for step in 0..steps {
        let number = match dice.below(40) {
            0 => dice.roll(),
            _ => numbers[usize::try_from(dice.below(numbers.len() as u64)).unwrap()],
        };
        let arguments: [u64; 6] = std::array::from_fn(|_| dice.argument(&m));
        for _ in 0..4 {
            let (at, value) = (0x40_3000 + dice.below(512) * 8, dice.argument(&m));
            m.poke(at, value);
        }
        let outcome = match dice.below(30) {
            0 => m.fault([4, 5, 7, 8, 11, 99][usize::try_from(dice.below(6)).unwrap()], arguments[0]),
            1 => m.interrupted(),
            _ => m.step(number, &arguments),
        };
        m.clock.advance(std::time::Duration::from_millis(dice.below(50)));
        assert_eq!(m.program.check(), None, "seed {seed} step {step}: call {number} {arguments:x?}");
        let ended = matches!(outcome, Outcome::Ended(_));
        if ended || step % 50 == 0 {
            m.restart_compared();
        }
        if ended || m.maps().len() < 2 {
            m = Machine::new();
        }
    }
}

#[test]
fn hostile_arguments_do_no_harm() {
    for seed in 1..=24 {
        storm(seed, 400);
    }
}
