//! Each call to the disk in turn fails, in each way; what was acknowledged stands, and the journal goes on after reopening.

use crate::harness::{STORE, folder, options};
use crate::model::{Asked, Model};
use semper_journal::{Appended, Error, Journal, Reader, Seen, Writer};
use semper_store::sim::{Failure, SimFolder, SimRng};
use std::sync::Arc;

/// The script: opens, fills two segments and some, and trims; says what was acknowledged, and what was asked for last.
fn script(sim: &Arc<SimFolder>, model: &mut Model, last: &mut Option<Asked>) -> Result<(), Error> {
    let journal = Journal::open(folder(sim), STORE, 0, &options(None))?;
    let mut rng = SimRng::new(42);
    for step in 0..12 {
        let asked = Asked { len: 12_000, ..Asked::new(&mut rng, model) };
        *last = Some(asked);
        match journal.append(asked.writer, asked.number, &asked.bytes())? {
            Appended::New(sequence) => model.add(sequence, asked),
            Appended::There(record) => panic!("{record:?} is there already"),
        }
        *last = None;
        if step == 8 {
            let sealed = journal.spans();
            journal.trim(sealed[0].1, "a test").inspect(|trimmed| model.trim(trimmed.first))?;
            journal.quiesce();
            model.end = journal.end();
        }
    }
    journal.quiesce();
    model.end = journal.end();
    Ok(())
}

#[test]
fn whichever_call_fails_what_was_acknowledged_stands() {
    let sim = SimFolder::new();
    let (mut model, mut last) = (Model::default(), None);
    script(&sim, &mut model, &mut last).unwrap();
    let calls = sim.disk().calls();
    assert!(calls > 60 && model.first > 1, "the script does enough to be worth it: {calls} calls");
    for failure in [Failure::PowerLoss, Failure::Eio, Failure::Enospc] {
        for at in 0..calls {
            // What was not flushed is kept or lost, each by itself: more than one way.
            (0..4).for_each(|way| one_failure(failure, at, way));
        }
    }
}

fn one_failure(failure: Failure, at: u64, way: u64) {
    let sim = SimFolder::new();
    sim.disk().fail_at(at, failure);
    let (mut model, mut last) = (Model::default(), None);
    let result = script(&sim, &mut model, &mut last);
    let what = format!("{failure:?} at call {at}, way {way}: {result:?}");
    sim.power_cycle(&mut SimRng::new(at * 4 + way));
    let journal = Journal::open(folder(&sim), STORE, 0, &options(None)).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(journal.trouble().is_none(), "{what}: {:?}", journal.trouble());
    for (sequence, asked) in model.records.iter().filter(|(sequence, _)| **sequence >= journal.first()) {
        let found = journal.find(asked.writer, asked.number).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(found.is_some_and(|r| r.sequence == *sequence && asked.is(&r)), "{what}: record {sequence}");
    }
    let mut reader = Reader::open(folder(&sim), STORE, 0).unwrap();
    let mut next = reader.first();
    while let Some(seen) = reader.step().unwrap() {
        let Seen::Record(record) = seen else { panic!("{what}: {seen:?}") };
        assert_eq!(record.sequence, next, "{what}");
        next += 1;
    }
    if let Some(asked) = last {
        // What failed is there or not, and asking for it again makes that certain.
        match journal.append(asked.writer, asked.number, &asked.bytes()).unwrap_or_else(|e| panic!("{what}: {e}")) {
            Appended::New(_) => {}
            Appended::There(record) => assert!(asked.is(&record), "{what}"),
        }
    }
    journal.quiesce();
}

#[test]
fn a_full_disk_is_told_and_room_lets_it_go_on() {
    let sim = SimFolder::new();
    let journal = Journal::open(folder(&sim), STORE, 0, &options(None)).unwrap();
    let mut model = Model::default();
    let mut append = |journal: &Arc<Journal>| {
        let writer = Writer { number: 1, born: 1 };
        let asked = Asked { writer, number: model.top(writer) + 1, id: model.end, len: 25_000 };
        let appended = journal.append(asked.writer, asked.number, &asked.bytes());
        if let Ok(Appended::New(sequence)) = appended {
            model.add(sequence, asked);
        }
        appended
    };
    append(&journal).unwrap();
    // The segment is full with the next one; the first call after that is for the making of another.
    append(&journal).unwrap();
    for _ in 0..3 {
        sim.disk().fail_at(sim.disk().calls(), Failure::Enospc);
        let refused = append(&journal);
        assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    }
    append(&journal).unwrap();
    assert_eq!(journal.end(), 4);
    for asked in model.records.values() {
        assert!(journal.find(asked.writer, asked.number).unwrap().is_some_and(|record| asked.is(&record)));
    }
}
