//! What is rotten on both sides, but not at the same record, is whole again on both.

use semper_journal::{Appended, JOURNAL_DIR, Journal, Options, Reader, Seen, Writer, verify};
use semper_store::sim::SimSides;
use semper_store::{CreateOptions, OpenOptions, Sites, Store};
use std::sync::Arc;

const WRITER: Writer = Writer { number: 1, born: 1 };

struct Case {
    sides: Arc<SimSides>,
    store: Store,
}

impl Case {
    /// Two sides, and a journal with a batch of three records and a later one.
    fn new() -> Self {
        let sides = SimSides::new(2);
        let options = CreateOptions { size_bytes: 2 << 20, ..CreateOptions::default() };
        drop(Store::create_on(sides.side("0").disk().clone(), &options).unwrap());
        let at = Arc::clone(&sides) as Arc<dyn Sites>;
        let store = Store::open_at(&at, "0", &OpenOptions { walk_in_commit: true, ..OpenOptions::default() }).unwrap();
        let number = store.add_mirror_at("1").unwrap();
        store.fill_mirror(number, None, &|_, _| Vec::new()).unwrap();
        let case = Self { sides, store };
        let journal = case.open();
        let tickets: Vec<_> = (1..=3)
            .map(|number| match journal.submit(WRITER, number, &[u8::try_from(number).unwrap(); 100]) {
                Ok(semper_journal::Submitted::New(ticket)) => ticket,
                _ => panic!("it is new"),
            })
            .collect();
        tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
        assert!(matches!(journal.append(WRITER, 4, b"later"), Ok(Appended::New(4))));
        case
    }

    fn open(&self) -> Arc<Journal> {
        let options = Options { segment_bytes: 64 << 10, ..Options::default() };
        Journal::open(self.store.folder(JOURNAL_DIR).unwrap(), self.store.id(), 0, &options).unwrap()
    }

    /// Spoils a record of the first batch on a side; 0: the batch's own head.
    fn spoil(&self, side: &str, record: u64) {
        let files = self.sides.side(side).files();
        // Behind the page of the segment's own lies the first batch.
        let page = files.written_pages("0000000000000001.segment")[1];
        let within = if record == 0 { 5 } else { 32 + (record - 1) * 152 + 60 };
        files.disk().rot(page * 4096 + within, 0x20);
    }

    fn read(&self) -> Vec<Seen> {
        let mut reader = Reader::open(self.store.folder(JOURNAL_DIR).unwrap(), self.store.id(), 0).unwrap();
        std::iter::from_fn(|| reader.step().unwrap()).collect()
    }

    fn pages(&self, side: &str) -> Vec<u8> {
        let folder = semper_store::Site::folder(&**self.sides.side(side), JOURNAL_DIR);
        let disk = folder.open("0000000000000001.segment").unwrap();
        let mut bytes = vec![0; 64 << 10];
        disk.read_at(0, &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn what_is_rotten_on_both_sides_but_not_at_the_same_record_is_put_together() {
    let case = Case::new();
    let right = case.pages("0");
    assert_eq!(right, case.pages("1"));
    for side in ["0", "1"] {
        case.spoil(side, 0);
    }
    case.spoil("0", 1);
    case.spoil("1", 3);
    let journal = case.open();
    assert!(journal.trouble().is_none(), "{:?}", journal.trouble());
    assert!(case.read().iter().all(|seen| matches!(seen, Seen::Record(_))));
    assert!(case.pages("0") == right && case.pages("1") == right, "each byte is as it was written");
    let mended: u64 = case.store.mirrors().iter().map(|side| side.mended).sum();
    assert!(mended >= 2, "{mended}");
}

#[test]
fn a_record_that_is_rotten_on_both_sides_is_named_and_those_beside_it_are_repaired() {
    let case = Case::new();
    for side in ["0", "1"] {
        case.spoil(side, 2);
    }
    case.spoil("1", 1);
    let seen = case.read();
    let lost: Vec<_> =
        seen.iter().filter_map(|seen| if let Seen::Lost { lost, .. } = seen { Some(lost) } else { None }).collect();
    assert!(lost.len() == 1 && (lost[0].from, lost[0].to) == (2, 2) && seen.len() == 4, "{seen:?}");
    let spoilt = case.pages("1");
    assert_eq!(spoilt, case.pages("0"), "record 1 is whole again on both");
    let report = verify(case.store.folder(JOURNAL_DIR).unwrap(), case.store.id(), &mut |_| ()).unwrap();
    assert!(report.lost.len() == 1 && !report.is_sound(), "{report:?}");
    assert!(case.open().trouble().is_some(), "nothing is appended until it is given up");
}

#[test]
fn a_reader_that_may_not_write_reads_from_the_other_side_and_changes_nothing() {
    let case = Case::new();
    case.spoil("0", 1);
    let spoilt = case.pages("0");
    let at = Arc::clone(&case.sides) as Arc<dyn Sites>;
    let store = Store::open_read_only_at(&at, "0").unwrap();
    let report = verify(store.folder(JOURNAL_DIR).unwrap(), store.id(), &mut |_| ()).unwrap();
    assert!(report.is_sound() && report.records == 4 && report.rotten == 1, "{report:?}");
    assert_eq!(case.pages("0"), spoilt);
    let report = verify(case.store.folder(JOURNAL_DIR).unwrap(), store.id(), &mut |_| ()).unwrap();
    assert!(report.rotten == 1 && case.pages("0") != spoilt, "{report:?}");
}
