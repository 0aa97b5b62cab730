//! The journal in a stream: the records that a restored world has to find.
//!
//! A record that was written is not durable before its flush, and one that a reader sees may be lost with the power and its place be taken by another. So
//! an increment does not go on where the backup before it ended, but where the *generation* that it was made since knows the journal to be durable:
//! below that all lives of the store have the same records. What the backup before had beyond is written anew.

use crate::error::Error;
use crate::format::{MAX_RECORD, PIECE_LEN, decode, encode};
use rkyv::{Archive, Deserialize, Serialize};
use semper_journal::{Kind, MAX_PAYLOAD, Reader, Record, Seen, Writer};
use semper_store::{Folder, StoreId};
use std::sync::Arc;

/// Bytes of records in a frame, about; a record fits above it.
const FRAME_LEN: usize = PIECE_LEN / 2;

/// What a record costs besides its payload, at most.
const RECORD_LEN: usize = 64;

/// Stretches of records that a journal can have given up.
const MAX_GIVEN_UP: usize = 200;

/// A part of a journal, as a stream tells of it before its records.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct JournalPart {
    /// The first record that was not trimmed.
    pub first: u64,
    /// The first record of the stream: `first`, or what the generation that it was made since knew to be durable.
    pub from: u64,
    /// The sequence after the last record of the stream.
    pub until: u64,
    /// The sequence after the last record that the generation knew to be durable: an increment since it begins there.
    pub known: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// The stretches of records that were given up.
    pub given_up: Vec<(u64, u64)>,
}

impl JournalPart {
    /// Whether its numbers can be.
    pub(crate) fn is_sane(&self) -> bool {
        let stretches = self.given_up.len() <= MAX_GIVEN_UP && self.given_up.iter().all(|(from, to)| from <= to);
        1 <= self.first
            && self.first <= self.from
            && self.from <= self.until
            && self.known <= self.until
            && self.until <= MAX_SEQUENCE
            && stretches
    }

    /// Whether all records from `from` to before `until` were given up.
    pub(crate) fn gave_up(&self, mut from: u64, until: u64) -> bool {
        while from < until {
            let Some((_, to)) = self.given_up.iter().find(|(a, b)| (*a..=*b).contains(&from)) else { return false };
            from = to.saturating_add(1);
        }
        true
    }
}

/// More records than any journal has.
const MAX_SEQUENCE: u64 = 1 << 56;

/// A record in a frame.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Saved {
    sequence: u64,
    time: u64,
    writer: u64,
    number: u64,
    note: bool,
    bytes: Vec<u8>,
}

/// The payload of a frame of records.
pub(crate) fn pack(records: &[Record]) -> Result<Vec<u8>, Error> {
    let saved = |record: &Record| Saved {
        sequence: record.sequence,
        time: record.time,
        writer: record.writer.word(),
        number: record.number,
        note: record.kind == Kind::Note,
        bytes: record.bytes.clone(),
    };
    let all: Vec<Saved> = records.iter().map(saved).collect();
    let packed = encode(&all).map_err(|e| Error::io("write the backup", std::io::Error::other(e)))?;
    Ok(packed.to_vec())
}

/// What a stream has said of the journal, and which record comes next.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub part: JournalPart,
    next: u64,
}

impl Incoming {
    /// The part that a frame tells of; the reason if it cannot be.
    pub fn begin(payload: &[u8], before: Option<&Self>) -> Result<Self, &'static str> {
        let part: Option<JournalPart> = (payload.len() <= MAX_RECORD).then(|| decode(payload).ok()).flatten();
        let part = part.filter(JournalPart::is_sane).ok_or("it should tell of the journal, and does not")?;
        // A runtime trimmed its journal while it was read: all before is gone there.
        let goes_on =
            |before: &Self| part.from == part.first && part.from > before.next && part.until == before.part.until;
        if before.is_some_and(|before| !goes_on(before)) {
            return Err("it tells of the journal a second time");
        }
        Ok(Self { next: part.from, part })
    }

    /// The records of a frame; the reason if they cannot come here.
    pub fn records(&mut self, payload: &[u8], first: u64, count: u64) -> Result<Vec<Record>, &'static str> {
        let saved: Vec<Saved> = decode(payload).map_err(|_| "it should hold records of the journal, and does not")?;
        let whole = saved.first().is_some_and(|record| record.sequence == first) && saved.len() as u64 == count;
        if !whole {
            return Err("it does not hold the records that it says");
        }
        let mut records = Vec::with_capacity(saved.len());
        for Saved { sequence, time, writer, number, note, bytes } in saved {
            if sequence < self.next || sequence >= self.part.until || bytes.len() > MAX_PAYLOAD {
                return Err("it holds a record of the journal that cannot come here");
            }
            if !self.part.gave_up(self.next, sequence) {
                return Err("records of the journal are missing before it");
            }
            self.next = sequence + 1;
            let kind = if note { Kind::Note } else { Kind::Data };
            records.push(Record { sequence, time, writer: Writer::from_word(writer), number, kind, bytes });
        }
        Ok(records)
    }

    /// Whether all of it has come.
    pub fn is_complete(&self) -> bool {
        self.next == self.part.until || self.part.gave_up(self.next, self.part.until)
    }
}

/// The journal of a store, as it is when its generation is pinned.
#[derive(Clone)]
pub struct JournalPin {
    folder: Arc<dyn Folder>,
    store: StoreId,
    since: u64,
    known: u64,
    until: u64,
}

impl JournalPin {
    /// Of the journal of `store` in `folder`; none if there is none. `known`: the sequence after the last record that the pinned generation
    /// knows to be durable. `since`: the same of the generation that the backup is made since, if the backup of that one has the journal;
    /// 0: all of it is taken.
    ///
    /// # Errors
    /// The journal is gone, of another store, or ends before what the generation knows; what the host says.
    pub fn new(folder: Arc<dyn Folder>, store: StoreId, known: u64, since: u64) -> Result<Option<Self>, Error> {
        let mut reader = match Reader::open(Arc::clone(&folder), store, u64::MAX) {
            Ok(reader) => reader,
            Err(semper_journal::Error::None) if known <= 1 => return Ok(None),
            Err(semper_journal::Error::None) => return Err(semper_journal::Error::Missing { seen: known - 1 }.into()),
            Err(error) => return Err(error.into()),
        };
        // What is seen at its end may not be durable yet; what is durable is seen.
        while reader.step()?.is_some() {}
        let until = reader.next_sequence();
        if until < known {
            return Err(missing(until, known));
        }
        Ok(Some(Self { folder, store, since, known, until }))
    }

    /// The sequence after the last record that the pinned generation knows to be durable. What comes below it is in the backup for good; what
    /// comes after it, the next increment has again.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known
    }

    /// The sequence after the last record that is taken.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.until
    }

    /// Gives the parts and records in order.
    pub(crate) fn read(&self, give: &mut dyn FnMut(Given<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let mut reader = Reader::open(Arc::clone(&self.folder), self.store, self.since)?;
        let mut part = self.part(&reader, reader.first().max(self.since).min(self.until));
        let mut next = part.from;
        give(Given::Part(&part))?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while next < self.until {
            match reader.step()? {
                Some(Seen::Lost { lost, given_up: true }) => next = next.max(lost.to.saturating_add(1)),
                Some(Seen::Lost { lost, .. }) => return Err(semper_journal::Error::Damaged(vec![lost]).into()),
                Some(Seen::Record(record)) if record.sequence < next => {}
                Some(Seen::Record(record)) if record.sequence >= self.until => next = self.until,
                Some(Seen::Record(record)) => {
                    if record.sequence > next && record.sequence >= reader.first() && reader.first() > part.first {
                        // It was trimmed up to here meanwhile.
                        records.clear();
                        bytes = 0;
                        part = self.part(&reader, record.sequence);
                        part.first = record.sequence;
                        give(Given::Part(&part))?;
                    } else if record.sequence > next {
                        return Err(missing(next, record.sequence));
                    }
                    next = record.sequence + 1;
                    bytes += record.bytes.len() + RECORD_LEN;
                    records.push(record);
                    if bytes >= FRAME_LEN {
                        give(Given::Records(&records))?;
                        records.clear();
                        bytes = 0;
                    }
                }
                None => return Err(missing(next, self.until)),
            }
        }
        if records.is_empty() { Ok(()) } else { give(Given::Records(&records)) }
    }

    fn part(&self, reader: &Reader, from: u64) -> JournalPart {
        let (first, until) = (reader.first().min(from), self.until);
        let given_up = reader.given_up().iter().copied().filter(|(_, to)| *to >= from).collect();
        JournalPart { first, from, until, known: self.known, segment_bytes: reader.segment_bytes(), given_up }
    }
}

/// What is read of a journal.
pub(crate) enum Given<'a> {
    Part(&'a JournalPart),
    Records(&'a [Record]),
}

fn missing(from: u64, until: u64) -> Error {
    let (to, file) = (until - 1, "state".to_owned());
    let reason = "the store has seen it, and the files end before it".to_owned();
    semper_journal::Error::Damaged(vec![semper_journal::Lost { from, to, file, offset: 0, reason }]).into()
}

impl std::fmt::Debug for JournalPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { store, since, known, until, .. } = self;
        write!(f, "the journal of {store} from {since} to {until}, of which {known} are known")
    }
}
