//! A table in a segment of which little is in memory.

use super::*;
use semper_pager::{Backing, BackingError, PageIndex, PageRange, Pager, PagerConfig, SegmentId};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A store with the pages of one segment, some of which cannot be read.
struct Stored {
    bytes: Vec<u8>,
    bad: Option<u64>,
    read: AtomicU64,
}

impl Backing for Stored {
    fn read(&self, _: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        let pages = first.0..first.0 + (out.len() / PAGE_SIZE) as u64;
        if self.bad.is_some_and(|bad| pages.contains(&bad)) {
            return Err("checksum".into());
        }
        self.read.fetch_add(out.len() as u64, Relaxed);
        let start = usize::try_from(first.0).unwrap() * PAGE_SIZE;
        out.copy_from_slice(&self.bytes[start..start + out.len()]);
        Ok(())
    }
}

/// Pages of the segment: a log, a summary, and 4000 pages of records.
const LENGTH: usize = 4065;

/// A table of 60,000 records of a kind that is not listed, as a store holds it, and the ids.
fn stored(bad: Option<u64>) -> (Arc<Stored>, Vec<RecordId>) {
    let mut table = Table::format(VecMemory::zeroed(LENGTH), RECORD_BYTES).unwrap();
    let ids = super::summary::fill(&mut table, 60_000);
    let mut bytes = vec![0; LENGTH * PAGE_SIZE];
    table.read_all(&mut bytes);
    (Arc::new(Stored { bytes, bad, read: AtomicU64::new(0) }), ids)
}

fn open(store: &Arc<Stored>) -> Result<(Table, Opened), TableError> {
    let pager = Pager::new(PagerConfig::default(), Arc::clone(store) as Arc<dyn Backing>).unwrap();
    let pages = LENGTH as u64;
    let segment = pager.open_segment(SegmentId(9), pages, &[PageRange::between(0, pages)]).unwrap();
    Table::open(LazyMemory::new(segment))
}

#[test]
fn only_what_is_touched_comes_into_memory() {
    let (store, ids) = stored(None);
    let (mut table, _) = open(&store).unwrap();
    // The first piece (fields, log, summary) and the last (the record below the high-water mark).
    let opened = store.read.load(Relaxed);
    assert!(opened <= 3 << 20, "{opened} bytes were read");
    let mut tx = table.begin();
    tx.modify::<super::summary::Hidden>(ids[30_000], |hidden| hidden.0 = [5; 40]).unwrap();
    tx.commit();
    assert_eq!(table.get::<super::summary::Hidden>(ids[30_000]).unwrap().0, [5; 40]);
    let touched = store.read.load(Relaxed) - opened;
    assert!(touched <= 2 << 20, "{touched} bytes were read");
    assert_eq!((table.check(), table.check_all()), (Ok(()), Ok(())));
}

#[test]
fn pages_that_cannot_be_read_are_damage_and_stop_the_commit() {
    let page = 65 + 30_000 / 16;
    let (store, ids) = stored(Some(page));
    let (mut table, _) = open(&store).unwrap();
    assert!(table.get::<super::summary::Hidden>(ids[0]).is_ok());
    assert_eq!(table.check(), Ok(()));
    assert!(matches!(table.get::<super::summary::Hidden>(ids[30_000]), Err(TableError::Damaged(_))));
    assert_eq!(table.check(), Err(Inconsistency::Unreadable));
}
