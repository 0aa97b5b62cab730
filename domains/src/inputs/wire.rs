//! The bytes of a record of inputs: a head, then items (`docs/format-journal.md`).
//!
//! Records lie in the journal and may hold anything when they are read: each is checked as a whole before it is believed.

use super::Branch;
use crate::linux::Restart;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of these bytes; the first of them.
pub const VERSION: u8 = 2;
/// Bytes of a record that are not exceeded by another item.
pub const RECORD_BYTES: usize = 56 << 10;
/// Most bytes of one answer.
pub const ANSWER_BYTES: usize = 32 << 10;
/// What every record says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The branch that it belongs to.
    pub branch: Branch,
    /// Where the branch began: in another one after so many steps, or by itself.
    pub parent: Option<(Branch, u64)>,
    /// The life in which the branch was lived.
    pub life: Restart,
    /// The step to which the first item's distance counts.
    pub first: u64,
    /// Steps that can be taken again with the items up to the end of this record.
    pub steps: u64,
    /// Checksum of all that the program has shown by then; none amid a step.
    pub sum: Option<u32>,
    /// Why the branch ends here, if it does: something that cannot be repeated.
    pub ends: Option<String>,
}

/// What is asked of the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Nothing: which call or fault it is whose answers follow.
    Stop,
    /// Monotonic time.
    Monotonic,
    /// Wall time.
    Realtime,
    /// Processor time.
    Cpu,
    /// Random bytes.
    Random,
    /// Console input.
    Read,
    /// What a console stream is.
    Stream,
    /// Whether standard error goes where standard output goes.
    Joined,
    /// Whether nobody will ever read an output stream.
    Broken,
    /// The modes of a terminal.
    Modes,
    /// Whether output may be written now.
    Writable,
    /// Whether a segment could be made.
    Segment,
    /// Whether the store has room.
    Space,
    /// The same, for a call that can wait.
    Room,
    /// The address of a port.
    Granted,
    /// Whether a port listens.
    Listen,
    /// A connection that came.
    Accept,
    /// A connection that is begun.
    Connect,
    /// Whether it stands.
    Connected,
    /// What was received.
    Receive,
    /// How much was taken to be sent.
    Send,
    /// The error of a connection.
    Error,
    /// What a port is ready for.
    PortReady,
    /// What a connection is ready for.
    Ready,
    /// How often something came.
    Edges,
    /// How often somebody connected.
    PortEdges,
    /// What became of an append to the journal.
    Append,
    /// A record of the journal.
    Record,
    /// The end of the journal.
    End,
    /// Nothing: a generation was captured before the step, and the program forgot what a load of that would not know.
    Captured,
    /// Of native domains: what the step is, and a check of all before it.
    Entry,
    /// What came for a domain that waits for the outside.
    Told,
    /// The newest durable generation.
    Generation,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "the call",
            Self::Monotonic => "monotonic time",
            Self::Realtime => "wall time",
            Self::Cpu => "processor time",
            Self::Random => "random bytes",
            Self::Read => "console input",
            Self::Stream => "the kind of a console stream",
            Self::Joined => "whether the outputs are one",
            Self::Broken => "whether an output has a reader",
            Self::Modes => "the modes of the terminal",
            Self::Writable => "whether output may be written",
            Self::Segment => "a segment",
            Self::Space | Self::Room => "room in the store",
            Self::Granted => "a port",
            Self::Listen => "listening",
            Self::Accept => "a connection that came",
            Self::Connect => "connecting",
            Self::Connected => "whether a connection stands",
            Self::Receive => "bytes received",
            Self::Send => "bytes sent",
            Self::Error => "the error of a connection",
            Self::PortReady => "what a port is ready for",
            Self::Ready => "what a connection is ready for",
            Self::Edges => "what came by a connection",
            Self::PortEdges => "who came to a port",
            Self::Append => "an append to the journal",
            Self::Record => "a record of the journal",
            Self::End => "the end of the journal",
            Self::Captured => "a capture",
            Self::Entry => "an entry",
            Self::Told => "what came for a domain that waits",
            Self::Generation => "the newest generation",
        })
    }
}

/// One answer of the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The step in which it was asked for.
    pub step: u64,
    /// The how manieth question of the step; 0 is [`Question::Captured`], 1 [`Question::Stop`]; of native domains 1 is [`Question::Entry`], 2
    /// [`Question::Stop`].
    pub index: u32,
    /// What was asked.
    pub question: Question,
    /// The answer.
    pub answer: Vec<u8>,
}

/// An item as it lies in a record.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    distance: u64,
    index: u32,
    question: Question,
    answer: &'a [u8],
}

/// A record of inputs that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Its head.
    pub head: Head,
    /// Its items, in order.
    pub items: Vec<Item>,
}

/// Adds an item; `step` is the one before it in the record, and becomes its own.
pub(super) fn put(out: &mut Vec<u8>, last: &mut u64, item: &Item) {
    let packed = Packed {
        distance: item.step.saturating_sub(*last),
        index: item.index,
        question: item.question,
        answer: &item.answer,
    };
    *last = item.step;
    put_value(out, &packed);
}

/// Adds a value.
pub(super) fn put_value(out: &mut Vec<u8>, value: &impl Serialize) {
    match postcard::to_extend(value, std::mem::take(out)) {
        Ok(longer) => *out = longer,
        // Only for shapes without a length, of which there are none.
        Err(error) => tracing::error!(%error, "an input cannot be written down"),
    }
}

/// The bytes of a record.
pub(super) fn record(head: &Head, items: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_value(&mut out, head);
    out.extend_from_slice(items);
    out
}

/// The head of a record, and where its items begin.
pub(super) fn head(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    postcard::take_from_bytes(rest).ok()
}

impl Inputs {
    /// From the bytes of a record; none if they are not one of this version.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = head(bytes)?;
        let mut items: Vec<Item> = Vec::new();
        let mut step = head.first;
        while !rest.is_empty() {
            let (packed, after) = postcard::take_from_bytes::<Packed<'_>>(rest).ok()?;
            let Packed { distance, index, question, answer } = packed;
            step = step.checked_add(distance)?;
            if items.last().is_some_and(|last| last.step == step && last.index >= index) {
                return None;
            }
            items.push(Item { step, index, question, answer: answer.to_vec() });
            rest = after;
        }
        Some(Self { head, items })
    }
}

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { first, steps, ends, .. } = &self.head;
        let is_answer = |item: &&Item| !matches!(item.question, Question::Captured | Question::Stop | Question::Entry);
        let answers = self.items.iter().filter(is_answer);
        write!(f, "steps {first} to {steps}: {} answers", answers.clone().count())?;
        let bytes: usize = answers.map(|item| item.answer.len()).sum();
        write!(f, ", {bytes} bytes")?;
        match ends {
            Some(why) => write!(f, "; no replay goes beyond: {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some() -> (Head, Vec<Item>) {
        let life = Restart { restarts: 3, id: [4, 5], generation: 6, began: 7 };
        let head = Head {
            branch: 11,
            parent: Some((9, 2)),
            life,
            first: 100,
            steps: 108,
            sum: Some(7),
            ends: Some("it".into()),
        };
        let item = |step, index, question, answer: &[u8]| Item { step, index, question, answer: answer.to_vec() };
        let items = vec![
            item(100, 0, Question::Stop, &[1, 2, 3, 4]),
            item(100, 2, Question::Realtime, &[9; 12]),
            item(105, 0, Question::Stop, &[]),
            item(105, 1, Question::Receive, &[7; 3000]),
        ];
        (head, items)
    }

    fn bytes((head, items): &(Head, Vec<Item>)) -> Vec<u8> {
        let (mut packed, mut last) = (Vec::new(), head.first);
        items.iter().for_each(|item| put(&mut packed, &mut last, item));
        record(head, &packed)
    }

    #[test]
    fn a_record_comes_back_and_one_that_is_cut_does_not() {
        let (head, items) = some();
        let whole = bytes(&(head.clone(), items.clone()));
        assert_eq!(Inputs::read(&whole), Some(Inputs { head: head.clone(), items: items.clone() }));
        for len in 0..whole.len() {
            // A cut between two items leaves fewer of them; anywhere else it is seen.
            if let Some(read) = Inputs::read(&whole[..len]) {
                assert!(read.items.len() < items.len() && items.starts_with(&read.items));
            }
        }
        let older = [&[VERSION + 1], &whole[1..]].concat();
        assert_eq!(Inputs::read(&older), None);
    }

    #[test]
    fn items_out_of_order_are_refused() {
        let (head, mut items) = some();
        items[1].index = 0;
        assert_eq!(Inputs::read(&bytes(&(head, items))), None);
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_without_a_panic(at in 0usize..3200, with in any::<[u8; 9]>(), seed in any::<Vec<u8>>()) {
            let mut whole = bytes(&some());
            let at = at.min(whole.len() - 9);
            whole[at..at + 9].copy_from_slice(&with);
            if let Some(read) = Inputs::read(&whole) {
                prop_assert!(read.items.iter().map(|item| item.answer.len()).sum::<usize>() <= whole.len());
            }
            let _ = Inputs::read(&seed);
        }
    }
}
