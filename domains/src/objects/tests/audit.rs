//! What must hold between any two transactions, read from the table alone.

use super::*;
use crate::table::Record;
use std::collections::BTreeSet;

/// Every live record of a kind.
fn all<R: Record>(table: &Table) -> Vec<(RecordId, R)> {
    (0..table.high_water())
        .filter_map(|index| table.id_at(index).ok())
        .filter_map(|id| table.get::<R>(id).ok().map(|record| (id, record)))
        .collect()
}

/// Every domain there is.
pub(super) fn domains(table: &Table) -> Vec<(RecordId, Domain)> {
    all(table)
}

/// Every node there is, with its keys.
pub(super) fn nodes(table: &Table) -> Vec<(RecordId, [Key; 16])> {
    let with_keys = |(id, node): (RecordId, Node)| {
        let half: NodeHalf = table.get(RecordId::from_u64(node.second)).unwrap();
        let mut keys = [Key::NULL; 16];
        keys[..8].copy_from_slice(&node.keys);
        keys[8..].copy_from_slice(&half.keys);
        (id, keys)
    };
    all::<Node>(table).into_iter().map(with_keys).collect()
}

/// What an object in a bank's list costs, and the banks' own sums.
fn cost(table: &Table, id: RecordId) -> (Owned, Storage) {
    let records = |pages, records| Storage { pages, records };
    if let Ok(r) = table.get::<Page>(id) {
        (r.owned, records(1, 1))
    } else if let Ok(r) = table.get::<Segment>(id) {
        (r.owned, records(r.pages, 1))
    } else if let Ok(r) = table.get::<Node>(id) {
        (r.owned, records(0, 2))
    } else if let Ok(r) = table.get::<Domain>(id) {
        let control = if r.control == 0 { 0 } else { CONTROL_PAGES };
        (r.owned, records(control, 4 + u64::from(r.mapping_count)))
    } else if let Ok(r) = table.get::<Meter>(id) {
        (r.owned, records(0, 1))
    } else if let Ok(r) = table.get::<Factory>(id) {
        (r.owned, records(0, 3))
    } else if let Ok(r) = table.get::<Timer>(id) {
        (r.owned, records(0, 1))
    } else if let Ok(r) = table.get::<Console>(id) {
        (r.owned, records(0, 1))
    } else {
        let bank = table.get::<Bank>(id).unwrap();
        let used = bank_total(table, id, &bank);
        assert_eq!(used, bank.used, "the bank {id} has what it says");
        (bank.owned, records(used.pages, used.records + 1))
    }
}

/// What a bank and those below it sold, counted.
fn bank_total(table: &Table, id: RecordId, bank: &Bank) -> Storage {
    let (mut total, mut previous, mut at) = (Storage::default(), NO_LINK, bank.sold);
    while at != NO_LINK {
        let (owned, cost) = cost(table, table.id_at(at).unwrap());
        assert_eq!((owned.bank, owned.previous), (id.index(), previous), "links of what a bank sold");
        total.pages += cost.pages;
        total.records += cost.records;
        (previous, at) = (at, owned.next);
    }
    total
}

/// Checks everything; returns what the prime bank has sold.
pub(super) fn audit(table: &Table) -> Storage {
    table.check_all().unwrap();
    let (_, hub) = table.first::<Hub>().unwrap();
    let prime = RecordId::from_u64(hub.bank);
    let bank: Bank = table.get(prime).unwrap();
    let total = bank_total(table, prime, &bank);
    assert_eq!(total, bank.used, "the prime bank has what it says");
    // Hub, prime bank and prime meter are the only records that nobody sold.
    assert_eq!(u64::from(table.len()), total.records + 3, "every record was sold once");
    check_waiters(table, &hub);
    total
}

/// Every list of waiters holds those that say so, once, and nobody else waits there.
fn check_waiters(table: &Table, hub: &Hub) {
    let mut listed = BTreeSet::new();
    let mut walk = |head: u32, on: u32, phase: Phase| {
        let (mut at, mut previous) = (head, NO_LINK);
        while at != NO_LINK {
            let domain = table.at::<Domain>(at).unwrap().1;
            assert_eq!((domain.phase(), domain.waits_on, domain.previous), (phase, on, previous));
            assert!(listed.insert(at), "in one list, once");
            (previous, at) = (at, domain.next);
        }
        previous
    };
    let domains = domains(table);
    for (id, domain) in &domains {
        let last = walk(domain.queue_head, id.index(), Phase::Queued);
        assert_eq!(last, domain.queue_tail);
        walk(domain.accepted, id.index(), Phase::Waiting);
        let free = domain.phase() == Phase::Available && !domain.has(STOPPED) && !domain.has(SEVERING);
        assert!(!free || domain.queue_head == NO_LINK, "nobody queues for an available domain");
    }
    walk(hub.outside, records::OUTSIDE, Phase::Waiting);
    for (id, domain) in &domains {
        let waits = matches!(domain.phase(), Phase::Queued | Phase::Waiting) && domain.waits_on != NO_LINK;
        assert_eq!(waits, listed.contains(&id.index()), "{id}");
    }
    let mut alarms = BTreeSet::new();
    walk_alarms(table, hub.deadlines, 0, u64::MAX, &mut alarms);
    let set: BTreeSet<_> = domains.iter().filter(|(_, d)| d.deadline.at != 0).map(|(id, _)| id.index()).collect();
    assert_eq!(alarms, set, "the tree of deadlines holds those that are set");
}

fn walk_alarms(table: &Table, at: u32, low: u64, high: u64, found: &mut BTreeSet<u32>) {
    if at == NO_LINK {
        return;
    }
    let alarm = table.at::<Domain>(at).unwrap().1.deadline;
    assert!((low..=high).contains(&alarm.at) && found.insert(at));
    walk_alarms(table, alarm.left, low, alarm.at, found);
    walk_alarms(table, alarm.right, alarm.at, high, found);
}
