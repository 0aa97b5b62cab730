//! A runtime that was killed while it filled the first segment with zeros left a file that no state had told of yet. It was taken for the segment with all its
//! records lost, and programs got EIO (found by `a_dispatcher_pays_once_over_any_number_of_kills` on a slow disk).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_journal::{Appended, Journal, Options, Writer};
use semper_store::{DirFolder, Disk, Folder, StoreId};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

const STORE: StoreId = StoreId([5; 16]);
const SEGMENT: &str = "0000000000000001.segment";

/// A directory in which no segment can be made.
struct NoSegments(DirFolder);

impl Folder for NoSegments {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.0.open(name)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn Disk>> {
        if name == SEGMENT { Err(io::Error::other("killed")) } else { self.0.create(name, len) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

fn begin(dir: &Path) -> Options {
    let options = Options { segment_bytes: 256 << 10, ..Options::default() };
    let opened = Journal::open(Arc::new(NoSegments(DirFolder::new(dir))), STORE, 0, &options);
    assert!(opened.is_err() && dir.join("state").exists());
    options
}

#[test]
fn a_first_segment_that_was_never_completed_is_made_anew() {
    for left in [0, 4096, 100 << 10, 256 << 10] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("journal");
        let options = begin(&dir);
        fs::write(dir.join(SEGMENT), vec![0; left]).unwrap();
        let journal = Journal::open(Arc::new(DirFolder::new(&dir)), STORE, 0, &options).unwrap();
        assert!(journal.trouble().is_none(), "{left} bytes: {:?}", journal.trouble());
        let appended = journal.append(Writer { number: 1, born: 1 }, 1, b"paid").unwrap();
        assert!(matches!(appended, Appended::New(1)), "{left} bytes: {appended:?}");
        drop(journal);
        let journal = Journal::open(Arc::new(DirFolder::new(&dir)), STORE, 2, &options).unwrap();
        assert!(journal.trouble().is_none() && journal.end() == 2);
    }
}

#[test]
fn a_first_segment_of_which_the_store_has_seen_records_is_never_given_up_like_that() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("journal");
    let options = begin(&dir);
    fs::write(dir.join(SEGMENT), vec![0; 256 << 10]).unwrap();
    let journal = Journal::open(Arc::new(DirFolder::new(&dir)), STORE, 5, &options).unwrap();
    assert!(journal.trouble().is_some());
}
