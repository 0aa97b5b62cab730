//! The table against a map: random transactions that are committed, dropped, left behind or cut off.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Insert { kind: u8, value: u8 },
    Update { which: usize, from: usize, to: usize, value: u8 },
    Remove { which: usize },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    CommitAndReopen,
    Drop,
    SetAsideAndBegin,
    /// The process ends in the middle.
    Killed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..3, any::<u8>()).prop_map(|(kind, value)| Step::Insert { kind, value }),
        4 => (any::<usize>(), 0_usize..240, 0_usize..=240, any::<u8>())
            .prop_map(|(which, from, to, value)| Step::Update { which, from, to, value }),
        2 => any::<usize>().prop_map(|which| Step::Remove { which }),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Commit),
        1 => Just(End::CommitAndReopen),
        2 => Just(End::Drop),
        1 => Just(End::SetAsideAndBegin),
        1 => Just(End::Killed),
    ]
}

type Model = BTreeMap<RecordId, (u16, Vec<u8>)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_table_is_a_map_with_transactions(
        transactions in prop::collection::vec((prop::collection::vec(step(), 0..12), end()), 1..25),
    ) {
        let mut pages = Pages::zeroed();
        let mut table = pages.format();
        let mut model = Model::new();
        let mut gone = Vec::new();
        for (steps, end) in transactions {
            let mut next = model.clone();
            let mut removed = Vec::new();
            let mut tx = table.begin();
            for step in steps {
                apply(&mut tx, &mut next, &mut removed, step);
            }
            prop_assert_eq!(&pictured(&tx), &next);
            match end {
                End::Commit | End::CommitAndReopen => {
                    tx.commit();
                    model = next;
                    gone.extend(removed);
                }
                End::Drop => drop(tx),
                End::SetAsideAndBegin => {
                    tx.set_aside();
                    drop(table.begin());
                }
                End::Killed => tx.set_aside(),
            }
            if matches!(end, End::CommitAndReopen | End::Killed) {
                pages = pages.survivor();
                table = pages.open().unwrap().0;
            }
            prop_assert_eq!(table.check(), Ok(()));
            prop_assert_eq!(table.check_all(), Ok(()));
            prop_assert_eq!(&pictured(&table), &model);
            for id in &gone {
                prop_assert_eq!(table.get::<Whole>(*id), Err(TableError::Void { id: *id }));
            }
        }
    }
}

fn pictured(table: &Table) -> Model {
    picture(table).into_iter().map(|(id, kind, bytes)| (id, (kind, bytes))).collect()
}

fn apply(tx: &mut Tx<'_>, model: &mut Model, removed: &mut Vec<RecordId>, step: Step) {
    let pick = |which: usize| model.keys().nth(which % model.len().max(1)).copied();
    match step {
        Step::Insert { kind, value } => {
            let (inserted, kind, bytes) = match kind {
                0 => (tx.insert(&Small([value; 24])), Small::KIND, vec![value; 24]),
                1 => (tx.insert(&Odd([value; 13])), Odd::KIND, vec![value; 13]),
                _ => (tx.insert(&Whole([value; 240])), Whole::KIND, vec![value; 240]),
            };
            match inserted {
                Ok(id) => assert!(model.insert(id, (kind, bytes)).is_none(), "{id} was given twice"),
                Err(error) => assert_eq!((error, tx.len()), (TableError::Full { capacity: 48 }, 48)),
            }
        }
        Step::Update { which, from, to, value } => {
            let Some(id) = pick(which) else { return };
            let (kind, bytes) = model.get_mut(&id).unwrap();
            let len = bytes.len();
            bytes[from.min(to).min(len)..from.max(to).min(len)].fill(value);
            match *kind {
                Small::KIND => tx.update(id, &Small::read_from_bytes(bytes).unwrap()),
                Odd::KIND => tx.update(id, &Odd::read_from_bytes(bytes).unwrap()),
                _ => tx.update(id, &Whole::read_from_bytes(bytes).unwrap()),
            }
            .unwrap();
        }
        Step::Remove { which } => {
            let Some(id) = pick(which) else { return };
            tx.remove(id).unwrap();
            model.remove(&id);
            removed.push(id);
        }
    }
}
