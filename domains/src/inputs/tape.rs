//! The tape of one program: live it writes down what the program is told; in a replay it tells the same again.

mod emptying;
mod entries;

pub use emptying::Taken;
pub use entries::Entry;

use super::Branch;
use super::source::Source;
use super::wire::{self, ANSWER_BYTES, Head, Item, Question, RECORD_BYTES};
use crate::linux::Restart;
use crate::table::Record;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where a program stands among its inputs; part of its state, and rolled back with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Position {
    /// The branch.
    pub branch: Branch,
    /// Steps since the program's beginning.
    pub step: u64,
    /// Nothing that follows is in the journal before this record.
    pub from: u64,
    /// The number of the first record of inputs that follows.
    pub number: u64,
    /// Checksum of all that the program has shown so far.
    pub sum: u64,
    /// The store whose journal that is.
    pub store: [u8; 16],
}

impl Position {
    fn shows(&mut self, bytes: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial(sum(self));
        hasher.update(bytes);
        self.sum = u64::from(hasher.finalize());
    }
}

impl Record for Position {
    const KIND: u16 = 9;
    const NAME: &'static str = "position among the inputs";
}

/// What a program's next step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// The next one; the program forgets first what a load of its state would not know, if it did so before.
    Goes {
        /// Whether.
        forgets: bool,
    },
    /// The first after all that was recorded: it is live from here on.
    Live,
    /// All that was to be told again is told, and the program is to stand there.
    Stands,
}

/// What comes after a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The program goes on. What is recorded of that follows from the newest durable generation.
    Goes,
    /// It goes on, but from another generation than the newest, so that what follows is covered only when that is committed.
    Parts,
    /// It stands.
    Stands,
}

/// One program's tape.
#[derive(Default)]
pub struct Tape {
    /// The life that this is.
    life: Restart,
    /// Whether it is anything else than off.
    on: AtomicBool,
    inner: Mutex<Inner>,
    emptied: Condvar,
}

#[derive(Default)]
struct Inner {
    mode: Mode,
    position: Position,
    parent: Option<(Branch, u64)>,
    /// The life in which the program believes to be.
    life: Restart,
    /// A step is being taken; the question that was asked last in it; whether answers of it were written down.
    stepping: bool,
    index: u32,
    /// The place among the questions of a step of which call or fault it is; and that.
    stop_at: u32,
    stop: u32,
    told: bool,
    /// An answer is being found, which asks others itself.
    nested: bool,
    out: Out,
    /// What cannot be repeated happened; until the next capture nothing is written down.
    cut: bool,
    /// The branch that a durable generation, or the record of another branch, leads to.
    reached: Branch,
    captured: Branch,
    /// The next free number of its records, for when a replay is over.
    next_number: u64,
    differs: Option<String>,
    /// The step before which it last forgot what a load would not know, and that was written down.
    forgot: Option<u64>,
    /// The step with which this life began.
    began: u64,
    /// The latest times that were told.
    latest: [Duration; 2],
}

/// What waits to be written to the journal.
#[derive(Default)]
struct Out {
    done: Vec<(Head, Vec<u8>)>,
    items: Vec<u8>,
    /// The step of the last item, or with which the first begins to count.
    last: u64,
    bytes: usize,
    /// Steps that the records before it are enough for.
    steps: u64,
}

#[derive(Default)]
enum Mode {
    #[default]
    Off,
    Live,
    Replay {
        source: Box<Source>,
        then: Then,
    },
    Standing,
}

impl Tape {
    /// Of a program that may be recorded, in this life.
    #[must_use]
    pub fn new(life: Restart) -> Self {
        Self { life, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the program is recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(SeqCst)
    }

    /// Whether it is told again what it was told before.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.is_on() && matches!(self.lock().mode, Mode::Replay { .. })
    }

    /// Whether it is recorded now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_on() && matches!(self.lock().mode, Mode::Live)
    }

    /// The record of the journal from which on it is still to be told, if it is.
    #[must_use]
    pub fn needs(&self) -> Option<u64> {
        match &self.lock().mode {
            Mode::Replay { source, .. } => Some(source.place().0),
            _ => None,
        }
    }

    /// Whether all that was to be told again is.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.is_on() && matches!(self.lock().mode, Mode::Standing)
    }

    /// The life that the program believes to be in.
    #[must_use]
    pub fn life(&self) -> Restart {
        if self.is_on() { self.lock().life } else { self.life }
    }

    /// Where the program stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.lock().position
    }

    /// Steps that it was told again in this life.
    #[must_use]
    pub fn steps_told(&self) -> u64 {
        let inner = self.lock();
        inner.position.step - inner.began
    }

    /// Records from now on: a program that begins. `number`: the next free one of its inputs' records.
    pub fn begin(&self, branch: Branch, store: [u8; 16], number: u64) {
        let mut inner = self.lock();
        inner.life = self.life;
        inner.position = Position { branch, step: 0, from: 0, number, sum: 0, store };
        inner.out = Out::default();
        inner.mode = Mode::Live;
        self.on.store(true, SeqCst);
    }

    /// Goes on from `position` with what `source` tells. `number`: the next free one.
    pub fn replay(&self, position: Position, source: Source, (store, number): ([u8; 16], u64), then: Then) {
        let mut inner = self.lock();
        *inner = Inner { life: self.life, ..Inner::default() };
        inner.position = Position { store, ..position };
        inner.began = position.step;
        inner.out.steps = position.step;
        inner.next_number = number;
        inner.mode = Mode::Replay { source: Box::new(source), then };
        self.on.store(true, SeqCst);
    }

    /// Before a step: what it will be. `branch`: of what begins if that is live.
    pub fn advance(&self, branch: impl FnOnce() -> Branch) -> Advance {
        if !self.is_on() {
            return Advance::Goes { forgets: false };
        }
        let inner = &mut *self.lock();
        let step = inner.position.step;
        let Mode::Replay { source, then } = &mut inner.mode else {
            return if matches!(inner.mode, Mode::Standing) {
                Advance::Stands
            } else {
                Advance::Goes { forgets: false }
            };
        };
        if let Some((of, life)) = source.stretch(step) {
            // Whoever began a branch forgot then, too.
            let mut forgets = of != inner.position.branch;
            (inner.position.branch, inner.life) = (of, life);
            let captured = |item: &&Item| item.step == step && item.question == Question::Captured;
            if source.next(step).is_ok_and(|item| item.as_ref().is_some_and(captured)) {
                source.take();
                forgets = true;
            }
            return Advance::Goes { forgets };
        }
        let then = *then;
        if then == Then::Stands {
            inner.mode = Mode::Standing;
            return Advance::Stands;
        }
        inner.parent = Some((inner.position.branch, step));
        inner.position.number = inner.next_number;
        inner.position.branch = branch();
        inner.reached = if then == Then::Goes { inner.position.branch } else { 0 };
        inner.captured = 0;
        inner.life = self.life;
        inner.out = Out { last: step, steps: step, ..Out::default() };
        inner.mode = Mode::Live;
        if then == Then::Parts {
            // Of the ways from here this one is the last that was begun.
            inner.push_record(step, None);
        }
        Advance::Live
    }

    /// A step begins; `stop`: which call or fault it is.
    pub fn step(&self, stop: u32) {
        if self.is_on() {
            let mut inner = self.lock();
            (inner.stepping, inner.index, inner.stop_at, inner.stop, inner.told) = (true, 1, 1, stop, false);
        }
    }

    /// The step is taken. Something else than before: why.
    ///
    /// # Errors
    /// A sentence.
    pub fn stepped(&self) -> Result<(), String> {
        if !self.is_on() {
            return Ok(());
        }
        let inner = &mut *self.lock();
        inner.stepping = false;
        let step = inner.position.step;
        inner.position.step += 1;
        let Mode::Replay { source, .. } = &mut inner.mode else { return Ok(()) };
        match source.next(step) {
            Ok(Some(item)) if item.step == step => {
                let (question, (record, _)) = (item.question, source.place());
                inner.differs.get_or_insert(format!(
                    "record {record} of the journal has {question} in step {step}, which was not asked for"
                ));
            }
            Ok(_) => {
                let shown = sum(&inner.position);
                if let Some(record) = source.sum_at(step + 1).filter(|(_, was)| *was != shown).map(|(record, _)| record)
                {
                    inner.differs.get_or_insert(format!(
                        "by record {record} of the journal, in step {step}, it had shown something else"
                    ));
                }
            }
            Err(error) => {
                inner.differs.get_or_insert(error.to_string());
            }
        }
        inner.differs.clone().map_or(Ok(()), Err)
    }

    /// What the outside answers: found by `live` and written down, or told again. An answer that is `usual` is not written down.
    pub(crate) fn ask<T>(&self, question: Question, usual: Option<T>, live: impl FnOnce() -> T) -> T
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        if !self.is_on() {
            return live();
        }
        let mut inner = self.lock();
        if !inner.stepping || inner.nested || inner.cut {
            drop(inner);
            return live();
        }
        inner.index += 1;
        if matches!(inner.mode, Mode::Replay { .. }) {
            match inner.retell(question, usual) {
                Ok(answer) => return answer,
                // Nothing of what follows is kept or shown.
                Err(why) => inner.differs = Some(why),
            }
            drop(inner);
            return live();
        }
        inner.nested = true;
        drop(inner);
        let answer = live();
        let mut inner = self.lock();
        inner.nested = false;
        if !inner.cut && usual.as_ref() != Some(&answer) {
            inner.write_down(question, &answer);
        }
        answer
    }

    /// Does something outside, which in a replay was done before.
    pub(super) fn effect(&self, act: impl FnOnce()) {
        if !self.is_replaying() {
            act();
        }
    }

    /// The program shows something: what was recorded tells whether it did so before.
    pub(super) fn shows(&self, bytes: &[u8]) {
        if self.is_on() {
            self.lock().position.shows(bytes);
        }
    }

    /// A time was told: clocks do not go back behind it when the program is live again.
    pub(crate) fn told_time(&self, which: usize, time: Duration) {
        if self.is_on() {
            let mut inner = self.lock();
            inner.latest[which] = inner.latest[which].max(time);
        }
    }

    /// The latest monotonic and processor times that the program was told.
    #[must_use]
    pub fn latest(&self) -> [Duration; 2] {
        self.lock().latest
    }

    /// Something happened to the program that cannot be repeated: `why`.
    pub fn cut(&self, why: &str) {
        if !self.is_on() {
            return;
        }
        let mut inner = self.lock();
        if inner.cut || !matches!(inner.mode, Mode::Live) {
            return;
        }
        // What was asked in a step that is not taken to its end is not told again.
        inner.cut = true;
        let steps = inner.position.step;
        inner.close_record(steps, Some(why.to_owned()));
    }

    /// While the program stands, before a capture: its position, to be kept with its state. `from`: the end of the journal.
    pub fn capture(&self, from: u64, branch: impl FnOnce() -> Branch) -> Option<Position> {
        if !self.is_on() {
            return None;
        }
        let inner = &mut *self.lock();
        if matches!(inner.mode, Mode::Live) && !inner.cut {
            // What is recorded by now is of steps before it.
            let steps = inner.position.step;
            inner.close_record(steps, None);
        }
        let waiting = inner.out.done.len() as u64;
        let mut position = inner.position;
        position.number += waiting;
        if inner.cut {
            inner.cut = false;
            let step = position.step;
            position.branch = branch();
            inner.position.branch = position.branch;
            inner.parent = None;
            inner.life = self.life;
            let (done, bytes) = (std::mem::take(&mut inner.out.done), inner.out.bytes);
            inner.out = Out { done, bytes, last: step, steps: step, ..Out::default() };
        }
        match &inner.mode {
            Mode::Off => {}
            Mode::Replay { source, .. } => {
                (position.from, position.number) = source.place();
            }
            Mode::Live => {
                position.from = from;
                inner.captured = position.branch;
                if inner.forgot != Some(position.step) {
                    inner.forgot = Some(position.step);
                    inner.put(&Item {
                        step: position.step,
                        index: 0,
                        question: Question::Captured,
                        answer: Vec::new(),
                    });
                }
            }
            Mode::Standing => (position.from, position.number) = (from, inner.next_number),
        }
        Some(position)
    }

    /// That capture is durable.
    pub fn committed(&self) {
        if self.is_on() {
            let mut inner = self.lock();
            if matches!(inner.mode, Mode::Live) && inner.captured != 0 {
                inner.reached = inner.captured;
            }
        }
    }
}

/// The checksum of what was shown.
fn sum(position: &Position) -> u32 {
    u32::try_from(position.sum & 0xffff_ffff).unwrap_or(0)
}

impl Inner {
    /// The answer that was given before.
    fn retell<T: DeserializeOwned>(&mut self, question: Question, usual: Option<T>) -> Result<T, String> {
        let (step, index, stop) = (self.position.step, self.index, self.stop);
        let Mode::Replay { source, .. } = &mut self.mode else { return Err(String::new()) };
        let next = source.next(step).map_err(|error| error.to_string())?;
        if let Some(item) = next.filter(|item| item.step == step && item.question == Question::Stop) {
            if item.answer != stop.to_le_bytes() {
                return Err(format!(
                    "record {} of the journal has another call in step {step} than the program makes",
                    source.place().0
                ));
            }
            source.take();
        }
        let next = source.next(step).map_err(|error| error.to_string())?;
        let at = |place: (u64, u64)| format!("record {} of the journal", place.0);
        match next.filter(|item| item.step == step) {
            Some(item) if item.index == index && item.question == question => {
                let item = source.take().ok_or_else(|| "the answer is gone".to_owned())?;
                postcard::from_bytes(&item.answer)
                    .map_err(|_| format!("{} has no answer for {question} in step {step}", at(source.place())))
            }
            Some(item) if item.index <= index => {
                let found = item.question;
                Err(format!("{} has {found} in step {step}, and the program asks for {question}", at(source.place())))
            }
            _ => usual.ok_or_else(|| {
                format!("{} has no answer in step {step}, and the program asks for {question}", at(source.place()))
            }),
        }
    }

    fn write_down(&mut self, question: Question, answer: &impl Serialize) {
        let mut bytes = Vec::new();
        wire::put_value(&mut bytes, answer);
        if bytes.len() > ANSWER_BYTES + 1024 {
            tracing::error!(%question, bytes = bytes.len(), "an answer is too long to be recorded");
        }
        let step = self.position.step;
        if !std::mem::replace(&mut self.told, true) {
            let (index, answer) = (self.stop_at, self.stop.to_le_bytes().to_vec());
            self.put(&Item { step, index, question: Question::Stop, answer });
        }
        self.put(&Item { step, index: self.index, question, answer: bytes });
    }

    fn put(&mut self, item: &Item) {
        if !self.out.items.is_empty() && self.out.items.len() + item.answer.len() > RECORD_BYTES {
            // Amid a step.
            self.close_record(item.step, None);
            if let Some((head, _)) = self.out.done.last_mut() {
                head.sum = None;
            }
        }
        let before = self.out.items.len();
        wire::put(&mut self.out.items, &mut self.out.last, item);
        self.out.bytes += self.out.items.len() - before;
    }

    /// What is written down so far becomes a record, with which `steps` steps can be taken.
    fn close_record(&mut self, steps: u64, ends: Option<String>) {
        if !self.out.items.is_empty() || steps > self.out.steps || ends.is_some() {
            self.push_record(steps, ends);
        }
    }

    fn push_record(&mut self, steps: u64, ends: Option<String>) {
        let out = &mut self.out;
        let head = Head {
            branch: self.position.branch,
            parent: self.parent,
            life: self.life,
            first: out.steps,
            steps,
            sum: Some(sum(&self.position)),
            ends,
        };
        let items = std::mem::take(&mut out.items);
        out.bytes += 64;
        out.done.push((head, items));
        (out.last, out.steps) = (steps, steps);
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("position", &self.position()).finish_non_exhaustive()
    }
}
