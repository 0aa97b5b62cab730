//! What a transaction costs: `cargo test --release -p semper-domains table::tests::cost -- --ignored --nocapture`.

use super::*;
use std::hint::black_box;
use std::time::Instant;

/// Prints the best of many short runs: other work on the machine only ever adds.
fn per_round(what: &str, mut round: impl FnMut(u32)) {
    const ROUNDS: u32 = 2_000;
    // Counts on from run to run, so that no run writes what the one before it left.
    let mut next = 0;
    let mut run = || {
        let start = Instant::now();
        (next..next + ROUNDS).for_each(&mut round);
        next += ROUNDS;
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
    };
    println!("{what}: {:.0} ns", (0..200).map(|_| run()).fold(f64::MAX, f64::min));
}

#[test]
#[ignore = "prints timings"]
fn what_a_transaction_costs() {
    let mut table = Table::format(VecMemory::zeroed(64 + 1000), 512).unwrap();
    let mut tx = table.begin();
    let ids: Vec<_> = (0..4000_u32).map(|n| tx.insert(&Whole([n.to_le_bytes()[0]; 240])).unwrap()).collect();
    let rare = tx.insert(&Odd([1; 13])).unwrap();
    tx.commit();
    per_round("transaction with one update of 100 bytes", |n| {
        let mut tx = table.begin();
        tx.modify::<Whole>(ids[n as usize % 4000], |w| w.0[40..140].fill((n / 4000 + n).to_le_bytes()[0])).unwrap();
        tx.commit();
    });
    per_round("transaction with an insert and a removal", |_| {
        let mut tx = table.begin();
        let id = tx.insert(&Small([1; 24])).unwrap();
        tx.remove(id).unwrap();
        tx.commit();
    });
    per_round("the same, undone", |_| {
        let mut tx = table.begin();
        let id = tx.insert(&Small([1; 24])).unwrap();
        tx.remove(id).unwrap();
    });
    per_round("transaction with one update, and the check", |n| {
        let mut tx = table.begin();
        tx.modify::<Odd>(rare, |odd| odd.0[0] = n.to_le_bytes()[0]).unwrap();
        tx.commit();
        table.check().unwrap();
    });
    per_round("get of 240 bytes", |n| {
        black_box(table.get::<Whole>(ids[n as usize % 4000]).unwrap());
    });
    per_round("the one record of its kind among 4000", |_| {
        black_box(table.first::<Odd>());
    });
}
