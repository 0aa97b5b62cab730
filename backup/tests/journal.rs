//! The journal in streams: chains of increments whose ends were lost and written anew, trimmed journals, and bytes that may be anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use semper_backup::{
    Compression, Error, Frame, JournalPin, Options, Pinned, Restore, SideFiles, StreamReader, write_backup,
};
use semper_journal::{JOURNAL_DIR, Journal, Options as JournalOptions, Reader, Record, Retention, Seen, Writer};
use semper_store::{DirFolder, Folder, Generation, Store};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use world::{Step, World};

/// A world and a journal beside it, with small segments.
struct Place {
    dir: tempfile::TempDir,
    world: World,
    journal: Option<Arc<Journal>>,
    /// What the journal was known to have at each commit.
    known: Vec<(Generation, u64)>,
    count: u64,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Self { dir, world: World::new(), journal: None, known: Vec::new(), count: 0 };
        place.open();
        place
    }

    fn folder(&self) -> Arc<dyn Folder> {
        Arc::new(DirFolder::new(&self.dir.path().join(JOURNAL_DIR)))
    }

    fn open(&mut self) {
        let retention = Retention { max_bytes: u64::MAX, ..Retention::default() };
        let options = JournalOptions { segment_bytes: 32 << 10, retention, ..JournalOptions::default() };
        self.journal = Some(Journal::open(self.folder(), self.world.store.id(), 0, &options).unwrap());
    }

    fn append(&mut self, number: u64, bytes: &[u8]) {
        let writer = Writer { number: 1, born: 7 };
        self.journal.as_ref().unwrap().append(writer, number, bytes).unwrap();
    }

    fn append_some(&mut self, many: u64) {
        for _ in 0..many {
            self.count += 1;
            let content =
                vec![u8::try_from(self.count % 251).unwrap(); 100 + usize::try_from(self.count * 37 % 3000).unwrap()];
            self.append(self.count, &content);
        }
    }

    fn commit(&mut self) -> Generation {
        let end = self.journal.as_ref().unwrap().end();
        let first = self.known.len() as u64;
        let generation = self.world.commit(&[Step::Put { segment: 1, first, count: 2, value: 40 + first }]);
        self.known.push((generation, end));
        generation
    }

    fn known(&self, generation: Generation) -> u64 {
        self.known.iter().find(|(of, _)| *of == generation).map_or(0, |(_, end)| *end)
    }

    fn backup(&self, since: Option<Generation>) -> Vec<u8> {
        let generation = self.world.store.generation();
        let known = since.map_or(0, |since| self.known(since));
        let pin = JournalPin::new(self.folder(), self.world.store.id(), self.known(generation), known).unwrap();
        let files = SideFiles::default();
        let pinned = Pinned { store: &self.world.store, generation, since, files: &files, journal: pin.as_ref() };
        let options = Options { compression: Compression::None, ..Options::default() };
        write_backup(&pinned, &options, Vec::new(), &mut |_| {}).unwrap().0
    }

    fn records(&self) -> Vec<Record> {
        records(self.folder(), &self.world.store)
    }
}

fn records(folder: Arc<dyn Folder>, store: &Store) -> Vec<Record> {
    let mut reader = Reader::open(folder, store.id(), 0).unwrap();
    let mut all = Vec::new();
    while let Some(seen) = reader.step().unwrap() {
        match seen {
            Seen::Record(record) => all.push(record),
            Seen::Lost { lost, .. } => panic!("{lost}"),
        }
    }
    all
}

fn restore(target: &Path, streams: &[&[u8]]) -> Result<Vec<Record>, Error> {
    let mut restore = Restore::begin(target)?;
    for stream in streams {
        let mut reader = StreamReader::new(*stream, "stream");
        while restore.apply(&mut reader, &mut |_| {})? {}
    }
    restore.finish()?;
    let store = Store::open_read_only(target)?;
    Ok(records(Arc::new(DirFolder::read_only(&target.join(JOURNAL_DIR))), &store))
}

#[test]
fn each_increment_takes_the_journal_to_its_own_pin() {
    let mut place = Place::new();
    let (mut streams, mut expected, mut since) = (Vec::new(), Vec::new(), None);
    for round in 0..12 {
        place.append_some(round * 5 % 23);
        let generation = place.commit();
        place.append_some(round * 3 % 11);
        streams.push(place.backup(since));
        expected.push(place.records());
        since = Some(generation);
    }
    assert!(place.journal.as_ref().unwrap().spans().len() > 2, "it has several segments");
    assert!(streams[8].len() < streams[0].len() + (200 << 10), "an increment has what is new");
    for count in 1..=streams.len() {
        let chain: Vec<&[u8]> = streams[..count].iter().map(Vec::as_slice).collect();
        let restored = restore(&place.dir.path().join(format!("restored-{count}")), &chain).unwrap();
        assert_eq!(restored, expected[count - 1], "after {count} streams");
    }
    let alone = restore(&place.dir.path().join("alone"), &[&streams[0], &streams[2]]);
    assert!(matches!(alone, Err(Error::MissingBase { .. })), "{alone:?}");
}

#[test]
fn records_that_were_lost_with_the_power_do_not_stand_in_the_place_of_later_ones() {
    let mut place = Place::new();
    place.append_some(30);
    let base = place.commit();
    // A copy of the journal as it would be if what comes now were never flushed.
    place.journal = None;
    let (journal, copy) = (place.dir.path().join(JOURNAL_DIR), place.dir.path().join("copy"));
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&journal).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    place.open();
    place.append_some(40);
    let full = place.backup(None);
    place.journal = None;
    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&copy, &journal).unwrap();
    place.open();
    for number in 1000..1020 {
        place.append(number, b"another life");
    }
    place.commit();
    let increment = place.backup(Some(base));
    let restored = restore(&place.dir.path().join("restored"), &[&full, &increment]).unwrap();
    assert_eq!(restored, place.records());
}

#[test]
fn what_was_trimmed_goes_and_what_follows_a_trim_stands_alone() {
    let mut place = Place::new();
    place.append_some(60);
    let base = place.commit();
    let full = place.backup(None);
    place.append_some(60);
    // Beyond all that the base knows.
    let end = place.journal.as_ref().unwrap().end();
    place.journal.as_ref().unwrap().trim(end, "a test").unwrap();
    place.journal.as_ref().unwrap().quiesce();
    place.commit();
    let increment = place.backup(Some(base));
    let restored = restore(&place.dir.path().join("restored"), &[&full, &increment]).unwrap();
    assert_eq!(restored, place.records());
    assert!(restored[0].sequence > 61, "{}", restored[0].sequence);
}

#[test]
fn a_stream_with_a_journal_that_is_cut_or_spoilt_is_refused() {
    let mut place = Place::new();
    place.append_some(40);
    place.commit();
    let whole = place.backup(None);
    let read = |bytes: &[u8]| -> Result<u64, Error> {
        let mut reader = StreamReader::new(bytes, "stream");
        let mut records = 0;
        while reader.next_stream()?.is_some() {
            loop {
                match reader.next_frame()? {
                    Frame::Records(some) => records += some.len() as u64,
                    Frame::End(_) => break,
                    _ => {}
                }
            }
        }
        Ok(records)
    };
    assert_eq!(read(&whole).unwrap(), 40);
    for at in (0..whole.len()).step_by(41) {
        assert!(read(&whole[..at]).is_err(), "cut at {at}");
        let mut spoilt = whole.clone();
        spoilt[at] ^= 4;
        assert!(read(&spoilt).is_err(), "spoilt at {at}");
    }
    // One that says that it has none, and one that says that it has one.
    let mut version = whole.clone();
    version[8] = 1;
    assert!(read(&version).is_err());
}
