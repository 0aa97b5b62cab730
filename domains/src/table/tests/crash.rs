//! The writer is killed at every write.
//!
//! Fault model: what was written before the kill is in the pages, in the order of the calls; of the write that was under
//! way, any of its aligned words may be there and any not; later writes are not. (The pages themselves lose nothing: that
//! is the store's care.) A write of one word happens or does not.

use super::*;
use proptest::prelude::*;

/// A table with records of every kind and a free list of two.
fn base() -> (Pages, Vec<RecordId>) {
    let pages = Pages::zeroed();
    let mut table = pages.format();
    let mut tx = table.begin();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(tx.insert(&Small([n; 24])).unwrap());
        ids.push(tx.insert(&Odd([n + 50; 13])).unwrap());
        ids.push(tx.insert(&Whole([n + 100; 240])).unwrap());
    }
    tx.remove(ids.remove(4)).unwrap();
    tx.remove(ids.remove(7)).unwrap();
    tx.commit();
    (pages, ids)
}

/// A transaction that does each thing in each order that matters.
fn everything(tx: &mut Tx<'_>, ids: &[RecordId]) -> Result<(), TableError> {
    tx.modify::<Small>(ids[0], |small| small.0[8] = 77)?;
    tx.modify::<Whole>(ids[2], |whole| whole.0[100..180].fill(78))?;
    tx.modify::<Whole>(ids[2], |whole| whole.0[40..220].fill(79))?;
    tx.remove(ids[1])?;
    // Takes the place that was just left, then the free ones, then new ones.
    for n in 0..5 {
        let id = tx.insert(&Whole([n + 200; 240]))?;
        tx.modify::<Whole>(id, |whole| whole.0[0] = 80)?;
    }
    let brief = tx.insert(&Odd([81; 13]))?;
    tx.remove(brief)?;
    tx.remove(ids[2])?;
    tx.update(ids[0], &Small([82; 24]))
}

fn run(pages: &Pages, ids: &[RecordId], canary: Canary, commits: bool) {
    let (mut table, _) = pages.survivor_in_place().unwrap();
    table.log.canary = canary;
    let mut tx = table.begin();
    if everything(&mut tx, ids).is_ok() && commits {
        tx.commit();
    }
}

impl Pages {
    /// Opens without losing the plan to kill: opening a sound table writes nothing.
    fn survivor_in_place(&self) -> Result<(Table, Opened), TableError> {
        let before = self.writes();
        let opened = self.open();
        assert_eq!(self.writes(), before, "opening a sound table writes nothing");
        opened
    }
}

fn picture_of(pages: &Pages) -> Result<Picture, String> {
    let (table, _) = pages.open().map_err(|error| error.to_string())?;
    Ok(picture(&table))
}

/// Kills the writer at each write of a transaction; returns how many there were, or the first crash that left something
/// that is neither before nor after.
fn kill_everywhere(canary: Canary, commits: bool) -> Result<u64, String> {
    let (base, ids) = base();
    let before = picture_of(&base)?;
    let whole = base.survivor();
    run(&whole, &ids, canary, commits);
    let (writes, after) = (whole.writes(), picture_of(&whole)?);
    assert_eq!(before == after, !commits);
    for kill in (0..writes).flat_map(|writes| TEARS.map(|torn| Kill { writes, torn })) {
        let pages = base.survivor();
        pages.kill_after(kill);
        run(&pages, &ids, canary, commits);
        let found = picture_of(&pages.survivor()).map_err(|error| format!("{kill:?}: {error}"))?;
        // The last write of a commit is one word; the tears that keep it are those that keep the first.
        let committed = commits && kill.writes == writes - 1 && kill.torn & 1 == 1;
        if found != *if committed { &after } else { &before } {
            return Err(format!("{kill:?}: neither before nor after"));
        }
    }
    Ok(writes)
}

#[test]
fn a_writer_killed_at_any_write_of_a_commit_leaves_before_or_after() {
    assert!(kill_everywhere(Canary::Healthy, true).unwrap() > 40);
}

#[test]
fn a_writer_killed_at_any_write_of_an_abort_leaves_before() {
    assert!(kill_everywhere(Canary::Healthy, false).unwrap() > 50);
}

#[test]
fn the_crash_test_finds_a_log_word_that_counts_too_early() {
    kill_everywhere(Canary::CountFirst, true).unwrap_err();
}

#[test]
fn the_crash_test_finds_a_log_word_that_counts_too_late() {
    kill_everywhere(Canary::CountLate, true).unwrap_err();
}

#[test]
fn the_crash_test_finds_a_range_that_was_not_logged() {
    kill_everywhere(Canary::SkipSecond, true).unwrap_err();
}

#[test]
fn an_undo_that_is_killed_is_done_again() {
    let (base, ids) = base();
    let before = picture_of(&base).unwrap();
    let whole = base.survivor();
    run(&whole, &ids, Canary::Healthy, true);
    let writes = whole.writes();
    for first in 0..writes {
        let killed = base.survivor();
        killed.kill_after(Kill { writes: first, torn: TEARS[3] });
        run(&killed, &ids, Canary::Healthy, true);
        let reopened = killed.survivor();
        let undone = u64::from(reopened.open().map_or(0, |(_, opened)| opened.undone));
        for kill in (0..=undone).flat_map(|writes| TEARS.map(|torn| Kill { writes, torn })) {
            let again = killed.survivor();
            again.kill_after(kill);
            let _ = again.open();
            let found = picture_of(&again.survivor()).unwrap();
            let expected = if first == writes - 1 { picture_of(&killed.survivor()).unwrap() } else { before.clone() };
            assert_eq!(found, expected, "killed at {first}, then {kill:?}");
        }
    }
}

#[test]
fn a_format_that_is_killed_is_no_table_or_an_empty_one() {
    let (old, _) = base();
    for kill in (0..6).flat_map(|writes| TEARS.map(|torn| Kill { writes, torn })) {
        let pages = old.survivor();
        pages.kill_after(kill);
        let _ = Table::format_with_log(pages.clone(), 512, 1);
        match pages.survivor().open() {
            Ok((table, _)) if table.is_empty() => {}
            // Killed before its first write.
            Ok((table, _)) => assert!(kill.writes == 0 && table.len() == 10, "{kill:?}"),
            Err(error) => assert_eq!(error, TableError::NotATable { found: 0 }, "{kill:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_random_transaction_killed_anywhere_leaves_before_or_after(
        steps in prop::collection::vec((0_u8..5, any::<u8>(), 0_usize..240, 0_usize..240), 1..30),
        share in 0.0..1.0_f64,
        torn in any::<u64>(),
    ) {
        let (base, ids) = base();
        let before = picture_of(&base).unwrap();
        let whole = base.survivor();
        random(&whole, &ids, &steps);
        let after = picture_of(&whole).unwrap();
        let pages = base.survivor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let writes = (whole.writes() as f64 * share) as u64;
        pages.kill_after(Kill { writes, torn });
        random(&pages, &ids, &steps);
        let found = picture_of(&pages.survivor()).unwrap();
        prop_assert!(found == before || found == after);
    }
}

fn random(pages: &Pages, ids: &[RecordId], steps: &[(u8, u8, usize, usize)]) {
    let (mut table, _) = pages.survivor_in_place().unwrap();
    let mut ids = ids.to_vec();
    let mut tx = table.begin();
    for (what, value, a, b) in steps {
        let id = ids[a % ids.len()];
        let inserted = match what {
            0 => tx.insert(&Whole([*value; 240])).ok(),
            1 => tx.insert(&Odd([*value; 13])).ok(),
            2 => tx.remove(id).err().map(|_| id),
            _ => tx.modify::<Whole>(id, |w| w.0[*a.min(b)..*a.max(b)].fill(*value)).ok().map(|_| id),
        };
        ids.extend(inserted);
    }
    tx.commit();
}
