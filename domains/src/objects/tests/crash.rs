//! The kernel is killed at every write of every operation: what is left is before or after.

use super::audit::audit;
use super::*;
use crate::table::{TableMemory, VecMemory};
use std::sync::{Arc, Mutex};

/// Pages that outlive the table on them, and take no writes after a number of them.
#[derive(Clone)]
struct Mortal(Arc<Mutex<(VecMemory, u64, u64)>>);

impl Mortal {
    fn new(memory: VecMemory) -> Self {
        Self(Arc::new(Mutex::new((memory, 0, u64::MAX))))
    }

    /// What the next process maps.
    fn survivor(&self) -> Self {
        let state = self.0.lock().unwrap();
        Self::new(copy(&state.0))
    }

    fn kill_after(&self, writes: u64) {
        let mut state = self.0.lock().unwrap();
        (state.1, state.2) = (0, writes);
    }

    fn writes(&self) -> u64 {
        self.0.lock().unwrap().1
    }
}

fn copy(memory: &VecMemory) -> VecMemory {
    let pages = usize::try_from(memory.len_bytes()).unwrap() / semper_store::PAGE_SIZE;
    let copy = VecMemory::zeroed(pages);
    let mut page = vec![0; semper_store::PAGE_SIZE];
    for n in 0..pages as u64 {
        memory.read(n * 4096, &mut page);
        copy.write(n * 4096, &page);
    }
    copy
}

impl TableMemory for Mortal {
    fn len_bytes(&self) -> u64 {
        self.0.lock().unwrap().0.len_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        self.0.lock().unwrap().0.read(offset, out);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        // Of the write under way, the first half is there: a word is never torn.
        let kept = match state.1.cmp(&state.2.saturating_add(1)) {
            std::cmp::Ordering::Less => data.len(),
            std::cmp::Ordering::Equal => data.len() / 16 * 8,
            std::cmp::Ordering::Greater => 0,
        };
        state.0.write(offset, &data[..kept]);
        if state.1 == state.2.saturating_add(1) {
            drop(state);
            // The end of the process: nothing runs on, and what unwinding does is not written.
            std::panic::resume_unwind(Box::new("killed"));
        }
    }
}

/// Every live record, as its index, version, kind and bytes.
pub(super) fn picture(table: &Table) -> Vec<(RecordId, u16, Vec<u8>)> {
    (0..table.high_water())
        .filter_map(|index| table.id_at(index).ok())
        .map(|id| (id, table.kind_of(id).unwrap(), table.content(id).unwrap()))
        .collect()
}

/// What is killed.
type Step = fn(&mut World, &[RecordId]);

fn do_invoke(world: &mut World, call: &Invocation) {
    invoke(&mut world.table, &world.nature, call, &mut world.effects).unwrap();
}

const STEPS: &[(&str, Step)] = &[
    ("a call that is taken", |world, ids| {
        do_invoke(world, &Invocation { invoker: ids[0], slot: 2, order: 5, keys: [0, 1, 0, 1], ..IDLE });
    }),
    ("a call that queues, with a deadline", |world, ids| {
        let call = Invocation { invoker: ids[1], slot: 3, order: 5, keys: [0, 1, 0, 1], deadline: 9000, ..IDLE };
        do_invoke(world, &call);
    }),
    ("a wait that takes the first of a queue", |world, ids| {
        do_invoke(world, &Invocation { invoker: ids[2], slot: 12, how: How::ReplyAndWait, ..IDLE });
    }),
    ("an answer", |world, ids| {
        let how = How::ReplyAndWait;
        do_invoke(world, &Invocation { invoker: ids[4], slot: RESUME_SLOT, how, order: 3, keys: [0; 4], ..IDLE });
    }),
    ("a purchase of a domain", |world, ids| {
        do_invoke(world, &Invocation { invoker: ids[1], slot: 4, order: 5, accept: [9; 4], ..IDLE });
    }),
    ("a purchase of a segment", |world, ids| {
        let words = [12, 0, 0, 0];
        do_invoke(world, &Invocation { invoker: ids[1], slot: 4, order: 3, words, accept: [9; 4], ..IDLE });
    }),
    ("the end of a bank begins", |world, ids| {
        do_invoke(world, &Invocation { invoker: ids[1], slot: 4, order: 12, ..IDLE });
    }),
    ("a node is cleared", |world, ids| {
        do_invoke(world, &Invocation { invoker: ids[1], slot: 5, order: 4, ..IDLE });
    }),
    ("deadlines pass", |world, _| {
        world.nature.now.set(100_000);
        expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
    }),
    ("a fault", |world, ids| {
        fault(&mut world.table, &world.nature, ids[0], &Fault::default(), &mut world.effects).unwrap();
    }),
    ("a message that queues is withdrawn", |world, ids| {
        withdraw(&mut world.table, &world.nature, ids[5], &mut world.effects).unwrap();
    }),
    ("a wait for messages is given up", |world, ids| {
        withdraw(&mut world.table, &world.nature, ids[3], &mut world.effects).unwrap();
    }),
    ("an operator gives a start key", |world, ids| {
        give_start(&mut world.table, &world.nature, ids[0], 10, ids[3], 1).unwrap().unwrap();
    }),
    ("a Linux program gets its domain", |world, _| {
        let Genesis { bank, meter } = world.genesis;
        let limit = Storage { pages: 10, records: 10 };
        let new = NewLinuxDomain { bank, meter, limit, program: RecordId::from_u64(1 << 32), console: 1 };
        make_linux(&mut world.table, &world.nature, &new, &mut world.effects).unwrap().unwrap();
    }),
    ("work on a dying bank", |world, _| {
        work(&mut world.table, &world.nature, &mut world.effects).unwrap();
    }),
];

/// A world in which each step has something to do. Domains: 0 caller of the available 3, 1 owner of a bank, 2 busy with a
/// queue of 5 and 6, 3 available, 4 with a call of 7 to answer.
fn base() -> (VecMemory, Vec<RecordId>) {
    let mut world = World::on(VecMemory::zeroed(80), Storage { pages: 10_000, records: 200 });
    let ids: Vec<_> = (0..9).map(|_| world.domain()).collect();
    for (client, slot, server) in [(0, 2, 3), (1, 3, 2), (5, 2, 2), (6, 2, 2), (7, 2, 4)] {
        world.introduce(ids[client], slot, ids[server], 1);
    }
    for server in [3, 4, 8] {
        world.wait(ids[server]);
    }
    for client in [5, 6, 7] {
        let keys = [0, 1, 0, 1];
        let deadline = 5000 + client as u64;
        world.invoke(&Invocation { invoker: ids[client], slot: 2, order: 1, keys, deadline, ..IDLE });
    }
    for bank in [4, 6] {
        world.get(ids[1], BANK, 6, &[1000, 100], &[], bank);
        for (order, words) in [(2, &[][..]), (3, &[5]), (4, &[]), (5, &[]), (6, &[10, 10]), (7, &[]), (8, &[])] {
            world.ask(ids[1], bank, order, words, &[]).unwrap();
        }
    }
    world.get(ids[1], 4, 4, &[], &[], 5);
    for slot in [0, 7, 8, 15] {
        world.ask(ids[1], 5, 2, &[slot], &[0]).unwrap();
    }
    // Domain 0 is kept by domain 8.
    world.give(ids[1], 7, Key::to(KeyType::Domain, ids[0]));
    world.introduce(ids[1], 8, ids[8], 0);
    world.ask(ids[1], 7, 9, &[], &[8]).unwrap();
    // A second bank is dying already.
    let other = ids[2];
    let dying = world.key(ids[1], 6);
    world.give(other, 6, dying);
    world.invoke(&Invocation { invoker: ids[0], slot: SELF_SLOT, order: 0, words: [0, 9, 0, 0], ..IDLE });
    let doomed = world.domain();
    world.give(doomed, 2, dying);
    assert_eq!(world.invoke(&Invocation { invoker: doomed, slot: 2, order: 12, ..IDLE }), Outcome::Waits);
    audit(&world.table);
    (saved(&world), ids)
}

/// The pages of a world that was made on 80 of them.
pub(super) fn saved(world: &World) -> VecMemory {
    let mut bytes = vec![0; 80 * semper_store::PAGE_SIZE];
    world.table.read_all(&mut bytes);
    let saved = VecMemory::zeroed(80);
    saved.write(0, &bytes);
    saved
}

fn open(memory: &Mortal, around: &World) -> World {
    let nature = Nature {
        now: Cell::new(around.nature.now.get()),
        random: Cell::new(around.nature.random.get()),
        life: Cell::new(1),
    };
    let (table, _) = Table::open(memory.clone()).unwrap();
    World { table, nature, genesis: around.genesis, effects: Vec::new() }
}

/// Runs `step` on the saved pages, whole and killed at each of its writes; returns how many there are. Each time all of it is there
/// afterwards, or nothing.
pub(super) fn kill_everywhere(name: &str, saved: &VecMemory, like: &World, step: impl Fn(&mut World)) -> u64 {
    let whole = Mortal::new(copy(saved));
    let mut world = open(&whole, like);
    let before = picture(&world.table);
    whole.kill_after(u64::MAX);
    step(&mut world);
    let (writes, after) = (whole.writes(), picture(&world.table));
    audit(&world.table);
    assert_eq!(writes > 3, before != after, "{name}: {writes} writes");
    for kill in 0..writes {
        let pages = Mortal::new(copy(saved));
        let mut world = open(&pages, like);
        pages.kill_after(kill);
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(&mut world)));
        assert!(killed.is_err(), "{name}: it is killed");
        std::mem::forget(world);
        let survivor = open(&pages.survivor(), like);
        audit(&survivor.table);
        let found = picture(&survivor.table);
        assert!(found == before || found == after, "{name}, killed after {kill} of {writes} writes");
    }
    writes
}

#[test]
fn a_kill_at_any_write_of_any_operation_leaves_before_or_after() {
    let (saved, ids) = base();
    let reference = World::new();
    for (name, step) in STEPS {
        let writes = kill_everywhere(name, &saved, &reference, |world| step(world, &ids));
        assert!(writes > 0, "{name} does something");
    }
}
