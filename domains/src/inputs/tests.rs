//! A program that hangs on every answer, recorded, killed and brought back at random, against what it was.

#![allow(clippy::unwrap_used)]

use super::wire::Question;
use super::{Advance, Branch, Entry, Limit, Position, Source, Tape, Then};
use crate::linux::Restart;
use proptest::prelude::*;
use semper_journal::{Journal, Note, Options, Reader, Writer};
use semper_store::sim::{SimFolder, SimRng};
use semper_store::{Folder, StoreId};
use std::collections::BTreeMap;
use std::sync::Arc;

const STORE: StoreId = StoreId([7; 16]);
const WRITER: Writer = Writer { number: 1, born: 1 };

/// The state of the program: what it was told is mixed into it, and it decides what is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Program {
    state: u64,
    /// What no state has: a load would not know it.
    told: u64,
    /// It is many domains, and which of them is served is a part of what is told.
    many: bool,
}

impl Program {
    fn mix(&mut self, with: u64) {
        self.told = self.told.wrapping_add(with);
        self.state = (self.state ^ with ^ self.told).wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(23) ^ 0x9e37;
    }

    /// One step: up to four questions, some of which have a usual answer.
    fn step(&mut self, tape: &Tape, outside: &mut SimRng) -> Result<(), String> {
        if self.many {
            self.enter(tape, outside)?;
        } else {
            tape.step((self.state >> 32) as u32);
        }
        for _ in 0..self.state % 5 {
            let answer = match self.state >> 8 & 3 {
                0 => tape.ask(Question::Random, None, || outside.below(1 << 40)),
                1 => tape.ask(Question::Writable, Some(true), || outside.below(4) > 0).into(),
                2 => tape
                    .ask(Question::Receive, Some(vec![]), || vec![3_u8; usize::try_from(outside.below(3000)).unwrap()])
                    .len() as u64,
                _ => below_in_effect(tape, outside),
            };
            self.mix(answer);
        }
        tape.shows(&self.state.to_le_bytes());
        self.mix(1);
        tape.stepped()
    }
}

impl Program {
    /// A step that is an entry; the usual one hangs on what no state has.
    fn enter(&mut self, tape: &Tape, outside: &mut SimRng) -> Result<(), String> {
        let usual = (!self.told.is_multiple_of(4)).then_some(Entry::Posted(self.told % 3));
        let entry = if tape.is_replaying() { tape.entry(usual)? } else { Entry::Posted(outside.below(3)) };
        tape.enters(entry, usual);
        let Entry::Posted(number) = entry else { return Err(format!("{entry:?}")) };
        tape.calls(&[&self.state.to_le_bytes(), &number.to_le_bytes()]);
        self.mix(number);
        Ok(())
    }
}

fn below_in_effect(tape: &Tape, outside: &mut SimRng) -> u64 {
    // What is done outside is not done again.
    let replaying = tape.is_replaying();
    let mut done = false;
    tape.effect(|| done = true);
    assert_eq!(done, !replaying);
    tape.ask(Question::Cpu, None, || outside.below(100))
}

/// A world of one program, and what must come true again.
struct World {
    journal: Arc<Journal>,
    folder: Arc<dyn Folder>,
    tape: Tape,
    program: Program,
    /// Generations: their states and positions, oldest first.
    kept: Vec<(u64, Program, Position)>,
    captured: Option<(Program, Position)>,
    next_generation: u64,
    lives: u64,
    branches: Branch,
    /// By step: the state after so many steps, of the future that is.
    was: BTreeMap<u64, Program>,
    /// Steps after which something was shown, which must come true again.
    shown: u64,
    /// The same of the newest generation, while the world goes on from an older one and has committed nothing.
    aside: Option<(BTreeMap<u64, Program>, u64)>,
}

impl World {
    fn new(many: bool) -> Self {
        let folder: Arc<dyn Folder> = SimFolder::new();
        let journal = Journal::open(Arc::clone(&folder), STORE, 0, &Options::default()).unwrap();
        let tape = Tape::new(Restart::default());
        tape.begin(1, STORE.0, 1);
        let mut world = Self {
            journal,
            folder,
            tape,
            program: Program { state: 99, told: 0, many },
            kept: Vec::new(),
            captured: None,
            next_generation: 1,
            lives: 0,
            branches: 1,
            was: BTreeMap::from([(0, Program { state: 99, told: 0, many })]),
            shown: 0,
            aside: None,
        };
        world.capture();
        world.commit();
        world
    }

    fn branch(&mut self) -> Branch {
        self.branches += 1;
        self.branches
    }

    fn advance(&mut self) -> Advance {
        let next = self.branches + 1;
        let advance = self.tape.advance(|| next);
        self.branches += u64::from(advance == Advance::Live);
        advance
    }

    /// Whether the step was taken again.
    fn step(&mut self, outside: &mut SimRng) -> bool {
        self.begin_step();
        let replaying = self.tape.is_replaying();
        self.program.step(&self.tape, outside).unwrap();
        let step = self.tape.position().step;
        if replaying {
            assert_eq!(self.was.get(&step), Some(&self.program), "step {step} comes true again");
        } else {
            self.was.split_off(&step);
            self.was.insert(step, self.program);
        }
        replaying
    }

    fn begin_step(&mut self) {
        if let Advance::Goes { forgets: true } | Advance::Live = self.advance() {
            self.program.told = 0;
        }
    }

    /// What is on the tape is made durable; then what that covers is shown.
    fn show(&mut self) {
        let taken = self.tape.take(true);
        for (number, bytes) in taken.records {
            self.journal.append(WRITER.inputs(), number, &bytes).unwrap();
        }
        if taken.covers {
            self.shown = self.shown.max(self.tape.position().step);
        }
    }

    fn capture(&mut self) {
        if self.tape.is_replaying() {
            return;
        }
        let branch = self.branch();
        self.program.told = 0;
        let position = self.tape.capture(self.journal.end(), || branch).unwrap();
        self.captured = Some((self.program, position));
    }

    fn commit(&mut self) {
        if let Some((program, position)) = self.captured.take() {
            self.kept.push((self.next_generation, program, position));
            self.next_generation += 1;
            self.tape.committed();
            self.aside = None;
            // Whatever the generation contains may be shown.
            self.shown = self.shown.max(position.step);
        }
    }

    /// The runtime is killed, and the world goes on from its newest generation; what was not made durable is gone.
    fn kill(&mut self) {
        self.captured = None;
        if let Some((was, shown)) = self.aside.take() {
            (self.was, self.shown) = (was, shown);
        }
        let (generation, program, position) = *self.kept.last().unwrap();
        self.resume(generation, program, position, Then::Goes);
        // All that was shown comes true, before anything new does.
        let mut outside = SimRng::new(self.lives);
        while self.tape.position().step < self.shown {
            let step = self.tape.position().step;
            assert!(self.step(&mut outside), "step {step} of {} was shown", self.shown);
        }
    }

    fn resume(&mut self, generation: u64, program: Program, position: Position, then: Then) {
        self.lives += 1;
        let life = Restart { restarts: self.lives, id: [self.lives, 0], generation, began: 0 };
        self.tape = Tape::new(life);
        self.program = Program { told: 0, ..program };
        let folder = Arc::clone(&self.folder);
        let open = move |from| Reader::open(Arc::clone(&folder), STORE, from);
        let nothing = Limit { sequence: Some(0), time: None };
        let limit = if then == Then::Parts { nothing } else { Limit::default() };
        let source = Source::find(open, WRITER.inputs(), &position, Some(generation), limit).unwrap();
        let next = self.journal.last(WRITER.inputs(), u64::MAX).unwrap().map_or(1, |record| record.number + 1);
        self.tape.replay(position, source, (STORE.0, next), then);
    }

    /// The world goes on from an older generation; until it has committed one, the newest is the one that a kill goes back to.
    fn part(&mut self, rng: &mut SimRng) {
        let index = usize::try_from(rng.below(self.kept.len() as u64)).unwrap();
        let (generation, program, position) = self.kept[index];
        let (.., newest) = *self.kept.last().unwrap();
        if (newest.branch, newest.step) == (position.branch, position.step) {
            // The same moment: what goes on from either goes on from both.
            return;
        }
        self.captured = None;
        if self.aside.is_none() {
            self.aside = Some((self.was.clone(), self.shown));
        }
        self.was.split_off(&(position.step + 1));
        self.shown = position.step;
        self.resume(generation, program, position, Then::Parts);
    }

    /// The world goes back, and then another way.
    fn rewind(&mut self, rng: &mut SimRng) {
        let index = usize::try_from(rng.below(self.kept.len() as u64)).unwrap();
        let (_, program, position) = self.kept[index];
        self.journal.note(&Note::Rewound { generation: self.next_generation }).unwrap();
        self.journal.quiesce();
        (self.captured, self.aside) = (None, None);
        self.kept.push((self.next_generation, program, position));
        self.next_generation += 1;
        self.was.split_off(&(position.step + 1));
        self.shown = position.step;
        let (generation, ..) = *self.kept.last().unwrap();
        self.resume(generation, program, position, Then::Goes);
        assert_eq!(self.advance(), Advance::Live, "what was left is not told again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_was_shown_comes_true_again(seed in any::<u64>(), many in any::<bool>()) {
        let mut rng = SimRng::new(seed);
        let mut outside = SimRng::new(!seed);
        let mut world = World::new(many);
        for _ in 0..150 {
            match rng.below(40) {
                0 | 1 => world.kill(),
                2 => world.rewind(&mut rng),
                14 => world.part(&mut rng),
                3 | 4 => world.capture(),
                5 | 6 => world.commit(),
                7 => {
                    // A signal between two instructions: the program is another one from here on.
                    if !world.tape.is_replaying() {
                        world.begin_step();
                        world.tape.cut("a test");
                        world.program.mix(outside.below(1 << 30));
                    }
                }
                8..=13 => world.show(),
                _ => (0..rng.below(20)).for_each(|_| {
                    world.step(&mut outside);
                }),
            }
        }
        world.kill();
    }
}

/// Two domains and what they were served in, on a tape and again; `changed`: what one of them does otherwise, in which step.
fn again(changed: Option<u64>) -> Result<(), String> {
    let folder: Arc<dyn Folder> = SimFolder::new();
    let journal = Journal::open(Arc::clone(&folder), STORE, 0, &Options::default()).unwrap();
    let tape = Tape::new(Restart::default());
    tape.begin(1, STORE.0, 1);
    let position = tape.capture(journal.end(), || 2).unwrap();
    // 7 is the usual one. Every tenth time another comes first.
    let run = |tape: &Tape, changed: Option<u64>| -> Result<(), String> {
        let usual = Some(Entry::Posted(7));
        for step in 0..100u64 {
            let replays = tape.is_replaying();
            if replays {
                tape.advance(|| 3);
            }
            let entry = if replays { tape.entry(usual)? } else { Entry::Posted(if step % 10 == 9 { 8 } else { 7 }) };
            assert_eq!(entry, Entry::Posted(if step % 10 == 9 { 8 } else { 7 }));
            tape.enters(entry, usual);
            tape.calls(&[&(step + u64::from(changed == Some(step))).to_le_bytes()]);
            tape.stepped()?;
        }
        Ok(())
    };
    run(&tape, None)?;
    let mut bytes = 0;
    for (number, record) in tape.take(true).records {
        bytes += record.len();
        journal.append(WRITER.inputs(), number, &record).unwrap();
    }
    assert!(bytes < 100 + 10 * 11, "{bytes} bytes for ten entries that are not the usual ones");
    let open = move |from| Reader::open(Arc::clone(&folder), STORE, from);
    let source = Source::find(open, WRITER.inputs(), &position, Some(0), Limit::default()).unwrap();
    let told = Tape::new(Restart::default());
    told.replay(position, source, (STORE.0, 9), Then::Stands);
    run(&told, changed)?;
    assert_eq!(told.advance(|| 3), Advance::Stands);
    Ok(())
}

#[test]
fn the_order_comes_back_and_who_differs_is_found_at_the_next_entry_that_is_written() {
    again(None).unwrap();
    let why = again(Some(31)).unwrap_err();
    assert!(why.contains("before step 39"), "{why}");
    let why = again(Some(99)).unwrap_err();
    assert!(why.contains("in step 99"), "{why}");
}
