//! Many appenders at once, on a real directory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_journal::{Appended, Journal, Options, Reader, Seen, Submitted, Writer};
use semper_store::{DirFolder, Folder, StoreId};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};

const STORE: StoreId = StoreId([5; 16]);

fn folder(dir: &Path) -> Arc<dyn Folder> {
    Arc::new(DirFolder::new(&dir.join("journal")))
}

fn open(dir: &Path) -> Arc<Journal> {
    let options = Options { segment_bytes: 256 << 10, ..Options::default() };
    Journal::open(folder(dir), STORE, 0, &options).unwrap()
}

#[test]
fn many_appenders_get_numbers_without_gaps_and_all_is_there_afterwards() {
    const WRITERS: u32 = 16;
    const EACH: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let start = Barrier::new(WRITERS as usize);
    let mut given: Vec<u64> = std::thread::scope(|scope| {
        let appender = |number: u32| {
            let (journal, start) = (&journal, &start);
            scope.spawn(move || {
                let writer = Writer { number, born: 1 };
                start.wait();
                let append =
                    |n: u64| match journal.append(writer, n, &vec![b'x'; 500 + usize::try_from(n).unwrap()]).unwrap() {
                        Appended::New(sequence) => sequence,
                        Appended::There(record) => panic!("{record:?}"),
                    };
                (0..EACH).map(append).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (1..=WRITERS).map(appender).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    given.sort_unstable();
    assert_eq!(given, (1..=u64::from(WRITERS) * EACH).collect::<Vec<_>>());
    drop(journal);
    let journal = open(dir.path());
    assert!(journal.spans().len() > 1, "the records are in several segments");
    for number in 1..=WRITERS {
        let writer = Writer { number, born: 1 };
        let mut from = 0;
        let mut numbers = Vec::new();
        while let Some(record) = journal.next_of(writer, from).unwrap() {
            numbers.push(record.number);
            from = record.sequence + 1;
        }
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "a writer's records are in its order");
        assert_eq!(journal.last(writer, 17).unwrap().unwrap().number, 17);
        assert!(matches!(journal.append(writer, 3, b""), Ok(Appended::There(record)) if record.number == 3));
    }
}

#[test]
fn the_same_number_from_many_threads_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let writer = Writer { number: 1, born: 1 };
    for number in 0..20 {
        let new: usize = std::thread::scope(|scope| {
            let append = || usize::from(matches!(journal.append(writer, number, b"once"), Ok(Appended::New(_))));
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(append)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(new, 1, "number {number}");
    }
    assert_eq!(journal.end(), 21);
}

#[test]
fn whoever_does_not_wait_is_told_by_another_thread() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let (tell, told) = mpsc::channel();
    for number in 0..50 {
        let Submitted::New(ticket) = journal.submit(Writer { number: 2, born: 0 }, number, b"later").unwrap() else {
            panic!("number {number} is there already")
        };
        let tell = tell.clone();
        ticket.then(move |result| tell.send(result.unwrap()).unwrap());
    }
    drop(tell);
    assert_eq!(told.iter().collect::<BTreeSet<_>>(), (1..=50).collect());
    // A ticket that nobody waits for leads its batch nowhere: the journal's thread does.
    drop(journal.submit(Writer { number: 3, born: 0 }, 1, b"alone").unwrap());
    journal.quiesce();
    assert_eq!(journal.end(), 52);
}

/// The journal's thread waited for the turn of a batch that nobody led, and whoever had its turn before woke it elsewhere: with one who waits for the
/// disk beside one who does not, both stood still.
#[test]
fn who_waits_and_who_is_told_do_not_keep_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Writer { number: 1, born: 1 };
            let mut numbers = 0..;
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                journal.append(writer, numbers.next().unwrap(), b"waits").unwrap();
            }
        });
        for number in 0..400 {
            let Submitted::New(ticket) = journal.submit(Writer { number: 2, born: 0 }, number, b"later").unwrap()
            else {
                panic!("number {number} is there already")
            };
            let (tell, told) = mpsc::channel();
            ticket.then(move |result| tell.send(result.unwrap()).unwrap());
            told.recv().unwrap();
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}

#[test]
fn a_reader_beside_an_appender_sees_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    // A segment that is read in many pieces, while it grows.
    let journal = Journal::open(folder(dir.path()), STORE, 0, &Options::default()).unwrap();
    let writer = Writer { number: 1, born: 1 };
    std::thread::scope(|scope| {
        let appender = scope.spawn(|| (0..1500).for_each(|n| drop(journal.append(writer, n, &[7; 900]).unwrap())));
        let mut rounds = 0;
        while !appender.is_finished() || rounds < 3 {
            rounds += 1;
            let read_only = Arc::new(DirFolder::read_only(&dir.path().join("journal")));
            let mut reader = Reader::open(read_only, STORE, 0).unwrap();
            let mut next = 1;
            while let Some(seen) = reader.step().unwrap() {
                match seen {
                    Seen::Record(record) => assert_eq!(record.sequence, next),
                    lost @ Seen::Lost { .. } => panic!("{lost:?}"),
                }
                next += 1;
            }
        }
    });
}
