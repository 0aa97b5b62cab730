//! Tests of the table, and what they share: records, a memory that can be killed, and a picture of a table's content.

#![allow(clippy::unwrap_used)]

mod cost;
mod crash;
mod hostile;
mod lazy;
mod model;
mod summary;
mod use_cases;

use super::log::Canary;
use super::{Inconsistency, LazyMemory, Opened, Record, RecordId, Table, TableError, TableMemory, Tx, VecMemory};
use semper_store::PAGE_SIZE;
use std::sync::{Arc, Mutex, MutexGuard};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const RECORD_BYTES: u32 = 256;
const LOG_PAGES: u32 = 2;
/// Two pages of log, one of summary, three of records: 48 records.
const PAGES: usize = 6;
const RECORDS_AT: usize = 3 * PAGE_SIZE;

macro_rules! record {
    ($name:ident, $kind:literal, $bytes:literal) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(transparent)]
        struct $name([u8; $bytes]);

        impl Record for $name {
            const KIND: u16 = $kind;
            const NAME: &'static str = stringify!($name);
        }
    };
}

record!(Small, 1, 24);
record!(Odd, 2, 13);
record!(Whole, 3, 240);
record!(TooBig, 4, 241);

/// Pages that outlive the table on them, as a memfd outlives the process, and that can stop taking writes.
#[derive(Clone)]
struct Pages(Arc<Mutex<State>>);

struct State {
    bytes: Vec<u8>,
    /// Writes since the last reset.
    writes: u64,
    kill: Option<Kill>,
}

/// The end of the writer: `writes` more happen whole; of the next, those words happen whose bit in `torn` is set; then
/// nothing does.
#[derive(Clone, Copy, Debug)]
struct Kill {
    writes: u64,
    torn: u64,
}

/// Nothing of the last write; its first word; its last ones; every second one.
const TEARS: [u64; 4] = [0, 1, !1, 0xAAAA_AAAA_AAAA_AAAA];

impl Pages {
    fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, writes: 0, kill: None })))
    }

    fn zeroed() -> Self {
        Self::new(vec![0; PAGES * PAGE_SIZE])
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn writes(&self) -> u64 {
        self.state().writes
    }

    fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// A copy that works, whatever became of this one: what the next process maps.
    fn survivor(&self) -> Self {
        Self::new(self.bytes())
    }

    fn kill_after(&self, kill: Kill) {
        let mut state = self.state();
        state.writes = 0;
        state.kill = Some(kill);
    }

    fn format(&self) -> Table {
        Table::format_with_log(self.clone(), RECORD_BYTES, LOG_PAGES).unwrap()
    }

    fn open(&self) -> Result<(Table, Opened), TableError> {
        Table::open(self.clone())
    }
}

impl TableMemory for Pages {
    fn len_bytes(&self) -> u64 {
        self.state().bytes.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.state().bytes[start..start + out.len()]);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state();
        let (start, nth) = (usize::try_from(offset).unwrap(), state.writes);
        state.writes += 1;
        let kept = match state.kill {
            Some(kill) if nth > kill.writes => 0,
            Some(kill) if nth == kill.writes => kill.torn,
            _ => u64::MAX,
        };
        for (at, byte) in (start..).zip(data) {
            if kept >> ((at / 8 - start / 8) % 64) & 1 == 1 {
                state.bytes[at] = *byte;
            }
        }
    }
}

/// Everything that a user of the table can see.
type Picture = Vec<(RecordId, u16, Vec<u8>)>;

fn picture(table: &Table) -> Picture {
    fn add<R: Record>(table: &Table, all: &mut Picture) {
        let before = all.len();
        all.extend(table.iter::<R>().map(|(id, record)| (id, R::KIND, record.as_bytes().to_vec())));
        assert_eq!(all.len() - before, table.count::<R>() as usize, "count and iter agree");
    }
    let mut all = Picture::new();
    add::<Small>(table, &mut all);
    add::<Odd>(table, &mut all);
    add::<Whole>(table, &mut all);
    all.sort();
    assert_eq!(all.len(), table.len() as usize, "len is the number of live records");
    all
}
