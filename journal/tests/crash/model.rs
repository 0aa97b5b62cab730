//! What the journal should hold.

use semper_journal::{Kind, Record, Writer};
use semper_store::sim::SimRng;
use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// A record as it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    pub writer: Writer,
    pub number: u64,
    pub id: u64,
    pub len: usize,
}

impl Asked {
    /// A record of one of three writers, with a number that was not given yet.
    pub fn new(rng: &mut SimRng, model: &Model) -> Self {
        let writer = Writer { number: 1 + rng.below(3) as u32, born: 7 };
        let number = loop {
            let number = if rng.one_in(3) { rng.bits() } else { model.top(writer) + 1 };
            if !model.numbers.contains_key(&(writer, number)) {
                break number;
            }
        };
        let len = match rng.below(20) {
            0 => rng.below(20_000),
            1..4 => rng.below(3000),
            _ => rng.below(80),
        };
        Self { writer, number, id: rng.bits(), len: len as usize }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut rng = SimRng::new(self.id);
        let mut bytes: Vec<u8> = Vec::with_capacity(self.len + 8);
        while bytes.len() < self.len {
            bytes.extend_from_slice(&rng.bits().to_le_bytes());
        }
        bytes.truncate(self.len);
        bytes
    }

    pub fn is(&self, record: &Record) -> bool {
        (self.writer, self.number) == (record.writer, record.number)
            && record.kind == Kind::Data
            && record.bytes == self.bytes()
    }
}

/// All that was acknowledged and not trimmed.
#[derive(Clone, Debug)]
pub struct Model {
    pub first: u64,
    pub end: u64,
    pub records: BTreeMap<u64, Asked>,
    pub numbers: BTreeMap<(Writer, u64), u64>,
    /// The first record of the last batch, and of the one before it.
    pub last_batch: u64,
    pub batch_before: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self { first: 1, end: 1, records: BTreeMap::new(), numbers: BTreeMap::new(), last_batch: 1, batch_before: 1 }
    }
}

impl Model {
    pub fn add(&mut self, sequence: u64, asked: Asked) {
        self.records.insert(sequence, asked);
        self.numbers.insert((asked.writer, asked.number), sequence);
        self.end = self.end.max(sequence + 1);
    }

    /// A batch begins with record `first`, if that is not in the last one.
    pub fn begin_batch(&mut self, first: u64) {
        if first > self.last_batch {
            (self.batch_before, self.last_batch) = (self.last_batch, first);
        }
    }

    /// Notes of the journal's own count, too.
    pub fn add_note(&mut self, sequence: u64) {
        self.end = self.end.max(sequence + 1);
    }

    pub fn trim(&mut self, first: u64) {
        self.first = first;
        self.remove(..first);
    }

    /// Records from `end` on are gone.
    pub fn cut(&mut self, end: u64) {
        self.remove(end..);
        self.end = end;
        if self.last_batch >= end {
            self.last_batch = self.batch_before;
        }
    }

    fn remove(&mut self, range: impl RangeBounds<u64>) {
        let gone: Vec<u64> = self.records.range(range).map(|(sequence, _)| *sequence).collect();
        for sequence in gone {
            if let Some(asked) = self.records.remove(&sequence) {
                self.numbers.remove(&(asked.writer, asked.number));
            }
        }
    }

    pub fn top(&self, writer: Writer) -> u64 {
        let of = self.numbers.range((writer, 0)..=(writer, u64::MAX - 1)).next_back();
        of.map_or(0, |((_, number), _)| (*number).min(u64::MAX - 2))
    }
}
