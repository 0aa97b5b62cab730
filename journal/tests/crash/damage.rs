//! Damage at rest: every kind of file, sampled bytes. What is read is right; what cannot be is told; nothing panics.

use crate::harness::{STORE, folder, options};
use crate::model::{Asked, Model};
use semper_journal::{Appended, Error, Journal, Note, Options, Reader, Seen, Writer, verify};
use semper_store::sim::{SimFolder, SimRng};
use semper_store::{Disk, Folder, StoreId};
use std::sync::Arc;

/// A journal of some segments.
fn journal() -> (Arc<SimFolder>, Model) {
    let sim = SimFolder::new();
    let journal = Journal::open(folder(&sim), STORE, 0, &options(None)).unwrap();
    let (mut rng, mut model) = (SimRng::new(3), Model::default());
    while journal.spans().len() < 3 {
        let asked = Asked::new(&mut rng, &model);
        match journal.append(asked.writer, asked.number, &asked.bytes()).unwrap() {
            Appended::New(sequence) => model.add(sequence, asked),
            Appended::There(_) => unreachable!(),
        }
    }
    for _ in 0..5 {
        let asked = Asked { len: 100, ..Asked::new(&mut rng, &model) };
        let Appended::New(sequence) = journal.append(asked.writer, asked.number, &asked.bytes()).unwrap() else {
            unreachable!()
        };
        model.add(sequence, asked);
    }
    (sim, model)
}

/// Everything that a reader gives is what was written, and everything else is told.
fn read(sim: &Arc<SimFolder>, model: &Model) -> Result<u64, Error> {
    let mut reader = Reader::open(folder(sim), STORE, 0)?;
    let (mut next, mut lost) = (1, 0);
    while let Some(seen) = reader.step()? {
        match seen {
            Seen::Record(record) => {
                assert_eq!(record.sequence, next);
                assert!(model.records[&next].is(&record), "record {next}");
                next += 1;
            }
            Seen::Lost { lost: told, .. } => {
                assert_eq!(told.from, next);
                lost += told.to - told.from + 1;
                next = told.to + 1;
            }
        }
    }
    // The last batch alone may be taken for one that was being written.
    assert!(next + 1 >= model.end, "records from {next} on are not told of");
    Ok(lost)
}

#[test]
fn whatever_byte_rots_what_is_read_is_right_and_the_rest_is_told() {
    let (sim, model) = journal();
    let pages = sim.disk().written_pages();
    let mut rng = SimRng::new(11);
    let (mut told, mut unread) = (0, 0);
    for _ in 0..600 {
        let (offset, flip) = (*rng.pick(&pages) * 4096 + rng.below(4096), 1 << rng.below(8));
        sim.disk().rot(offset, flip);
        match read(&sim, &model) {
            Ok(0) => {}
            Ok(_) => told += 1,
            Err(Error::BadState(_)) => unread += 1,
            Err(e) => panic!("{e}"),
        }
        sim.disk().rot(offset, flip);
    }
    assert!(told > 50, "some of what was damaged was in use: {told}");
    assert_eq!(unread, 0, "one half of the state is enough");
    assert_eq!(read(&sim, &model).unwrap(), 0);
}

#[test]
fn pages_of_garbage_and_pages_in_wrong_places_are_told() {
    let (sim, model) = journal();
    let pages = sim.disk().written_pages();
    for seed in 0..60 {
        let mut rng = SimRng::new(seed);
        let garbled: Vec<u64> = (0..1 + rng.below(3)).map(|_| *rng.pick(&pages)).collect();
        let (a, b) = (*rng.pick(&pages), *rng.pick(&pages));
        sim.disk().swap(a, b);
        let garble = |garbled: &[u64]| {
            for (i, page) in (seed..).zip(garbled) {
                let mut noise = SimRng::new(i);
                (0..4096).for_each(|at| sim.disk().rot(page * 4096 + at, noise.bits() as u8));
            }
        };
        garble(&garbled);
        let mut reader = match Reader::open(folder(&sim), STORE, 0) {
            Ok(reader) => Some(reader),
            Err(Error::BadState(_)) => None,
            Err(e) => panic!("seed {seed}: {e}"),
        };
        while let Some(Some(seen)) = reader.as_mut().map(|reader| reader.step().unwrap()) {
            if let Seen::Record(record) = seen {
                assert!(model.records[&record.sequence].is(&record), "seed {seed}: record {}", record.sequence);
            }
        }
        garble(&garbled);
        sim.disk().swap(a, b);
    }
    assert_eq!(read(&sim, &model).unwrap(), 0);
}

#[test]
fn a_damaged_index_is_made_again_and_costs_nothing() {
    let (sim, model) = journal();
    for name in sim.names().unwrap() {
        if name.ends_with(".index") {
            assert!(sim.delete(&name));
        }
    }
    let journal = Journal::open(folder(&sim), STORE, model.end, &options(None)).unwrap();
    assert!(journal.trouble().is_none());
    for (sequence, asked) in &model.records {
        let found = journal.find(asked.writer, asked.number).unwrap().unwrap();
        assert!(found.sequence == *sequence && asked.is(&found));
    }
    assert_eq!(sim.names().unwrap().iter().filter(|name| name.ends_with(".index")).count(), 3);
}

/// Pages of indexes change places while the journal is open: every record is found all the same.
#[test]
fn a_page_of_an_index_that_lies_in_a_wrong_place_hides_no_record() {
    let (sim, model) = journal();
    let journal = Journal::open(folder(&sim), STORE, model.end, &options(None)).unwrap();
    let names = sim.names().unwrap();
    let indexes = names.iter().filter(|name| name.ends_with(".index"));
    let pages: Vec<u64> = indexes.flat_map(|name| sim.written_pages(name)).collect();
    for (i, a) in pages.iter().enumerate() {
        for b in &pages[..i] {
            sim.disk().swap(*a, *b);
            for (sequence, asked) in &model.records {
                let found = journal.locate(asked.writer, asked.number).unwrap();
                assert_eq!(found.map(|found| found.sequence), Some(*sequence), "pages {a} and {b}");
            }
            sim.disk().swap(*a, *b);
        }
    }
}

/// Of what was cut nothing stays behind the end: it had the numbers of what comes next, and were that lost, would be read in its place.
#[test]
fn what_was_cut_is_wiped() {
    for unreadable in [false, true] {
        let sim = SimFolder::new();
        let journal = Journal::open(folder(&sim), STORE, 0, &options(None)).unwrap();
        let writer = Writer { number: 1, born: 1 };
        journal.append(writer, 1, b"stays").unwrap();
        let before = sim.disk().written_pages();
        journal.append(writer, 2, &[7; 20_000]).unwrap();
        drop(journal);
        let after: Vec<u64> = sim.disk().written_pages().into_iter().filter(|page| !before.contains(page)).collect();
        assert_eq!(after.len(), 5);
        // Its first page was never written, and one of the others cannot be read for now.
        (0..4096).for_each(|at| sim.disk().rot(after[0] * 4096 + at, byte_at(&sim, after[0] * 4096 + at)));
        if unreadable {
            sim.disk().refuse(after[4]);
        }
        let journal = Journal::open(folder(&sim), STORE, 0, &options(None)).unwrap();
        assert_eq!(journal.end(), 2);
        for page in after {
            assert!((0..4096).all(|at| byte_at(&sim, page * 4096 + at) == 0), "page {page}");
        }
    }
}

fn byte_at(sim: &SimFolder, offset: u64) -> u8 {
    let (page, at) = (offset / 4096 * 4096, (offset % 4096) as usize);
    let mut bytes = [0; 4096];
    sim.disk().read_at(page, &mut bytes).unwrap();
    bytes[at]
}

#[test]
fn a_missing_segment_is_told_refuses_appends_and_can_be_given_up() {
    let (sim, model) = journal();
    let names: Vec<String> = sim.names().unwrap().into_iter().filter(|name| name.ends_with(".segment")).collect();
    assert!(sim.delete(&names[1]));
    let journal = Journal::open(folder(&sim), STORE, model.end, &options(None)).unwrap();
    let Some(Error::Damaged(lost)) = journal.trouble() else { panic!("{:?}", journal.trouble()) };
    assert!(lost.len() == 1 && lost[0].file == names[1] && lost[0].reason == "its file is gone", "{lost:?}");
    let new = Writer { number: 8, born: 8 };
    assert!(matches!(journal.append(new, 1, b"x"), Err(Error::Damaged(_))));
    drop(journal);
    let accepting = Options { accept_loss: true, ..options(None) };
    let journal = Journal::open(folder(&sim), STORE, model.end, &accepting).unwrap();
    assert!(matches!(journal.append(new, 1, b"x"), Ok(Appended::New(sequence)) if sequence >= model.end));
    journal.quiesce();
    let mut reader = Reader::open(folder(&sim), STORE, 0).unwrap();
    let mut all = Vec::new();
    while let Some(seen) = reader.step().unwrap() {
        all.push(seen);
    }
    assert!(all.iter().any(|seen| matches!(seen, Seen::Lost { given_up: true, lost: told } if *told == lost[0])));
    let note = |seen: &Seen| {
        matches!(seen, Seen::Record(r) if r.writer == Writer::JOURNAL
            && matches!(Note::from_bytes(&r.bytes), Some(Note::GivenUp { from, .. }) if from == lost[0].from))
    };
    assert!(all.iter().any(note), "what was given up is noted");
    let report = verify(folder(&sim), STORE, &mut |_| ()).unwrap();
    assert!(report.is_sound() && report.given_up == lost, "{report:?}");
}

#[test]
fn a_deleted_journal_and_a_shortened_one_are_told() {
    let (sim, model) = journal();
    let gone = SimFolder::new();
    let missing = Journal::open(folder(&gone), STORE, model.end, &options(None)).map(drop);
    assert!(matches!(missing, Err(Error::Missing { seen }) if seen == model.end - 1), "{missing:?}");
    // The store knows of more than there is.
    let journal = Journal::open(folder(&sim), STORE, model.end + 4, &options(None)).unwrap();
    let Some(Error::Damaged(lost)) = journal.trouble() else { panic!("{:?}", journal.trouble()) };
    assert_eq!((lost[0].from, lost[0].to), (model.end, model.end + 3));
}

#[test]
fn another_stores_journal_and_another_version_are_refused() {
    let (sim, model) = journal();
    let other = StoreId([1; 16]);
    let foreign = Journal::open(folder(&sim), other, 0, &options(None)).map(drop);
    assert!(matches!(foreign, Err(Error::Foreign { found, expected }) if found == STORE && expected == other));
    assert!(matches!(Reader::open(folder(&sim), other, 0).map(drop), Err(Error::Foreign { .. })));
    assert!(model.end > 1);
}
