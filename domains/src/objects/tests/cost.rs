//! What an invocation costs: `cargo test --release -p semper-domains objects::tests::cost -- --ignored --nocapture`.

use super::*;
use std::time::Instant;

/// The best and the median of many short runs, a round each.
fn per_round(what: &str, mut round: impl FnMut()) {
    const ROUNDS: u32 = 2_000;
    let mut runs: Vec<_> = (0..300)
        .map(|_| {
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| round());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{what}: median {:.0} ns, best {:.0} ns", runs[150], runs[0]);
}

#[test]
#[ignore = "prints timings"]
fn what_an_invocation_costs() {
    let mut world = World::new();
    let (client, server) = (world.domain(), world.server());
    world.introduce(client, 2, server, 0);
    let call = Invocation { invoker: client, slot: 2, order: 1, words: [1, 2, 3, 4], string_len: 64, ..IDLE };
    let answer = Invocation { invoker: server, slot: RESUME_SLOT, how: How::ReplyAndWait, string_len: 64, ..IDLE };
    per_round("call and answer, two invocations", || {
        world.effects.clear();
        world.invoke(&call);
        world.invoke(&answer);
    });
    let with_key = Invocation { keys: [0, NO_SLOT, NO_SLOT, NO_SLOT], ..call };
    per_round("the same, a key passed", || {
        world.effects.clear();
        world.invoke(&with_key);
        world.invoke(&answer);
    });
    let mut n = 1000;
    per_round("the same, with a deadline", || {
        n += 1;
        world.effects.clear();
        world.invoke(&Invocation { deadline: 1 << 40 | n, ..call });
        world.invoke(&answer);
    });
    world.get(client, BANK, 4, &[], &[], 3);
    world.give(client, 4, Key::device(KeyType::Discrim));
    let accept = [5, NO_SLOT, NO_SLOT, NO_SLOT];
    world.ask(client, 3, 2, &[3], &[METER]).unwrap();
    let fetch = Invocation { invoker: client, slot: 3, order: 1, words: [3, 0, 0, 0], accept, ..IDLE };
    per_round("node fetch", || {
        world.invoke(&fetch);
    });
    let mut turn = 0;
    per_round("node fetch, another key each time", || {
        turn ^= 1;
        world.invoke(&Invocation { words: [3 + turn, 0, 0, 0], ..fetch });
    });
    per_round("node store, another key each time", || {
        turn ^= 1;
        let keys = [if turn == 0 { BANK } else { METER }, NO_SLOT, NO_SLOT, NO_SLOT];
        world.invoke(&Invocation { invoker: client, slot: 3, order: 2, words: [5, 0, 0, 0], keys, ..IDLE });
    });
    let keys = [2, NO_SLOT, NO_SLOT, NO_SLOT];
    let classify = Invocation { invoker: client, slot: 4, order: 1, keys, ..IDLE };
    per_round("discrim classify", || {
        world.invoke(&classify);
    });
    let buy = Invocation { invoker: client, slot: BANK, order: 2, accept, ..IDLE };
    let sell = Invocation { invoker: client, slot: BANK, order: 9, keys: [5, NO_SLOT, NO_SLOT, NO_SLOT], ..IDLE };
    per_round("page bought and sold, two invocations", || {
        world.effects.clear();
        world.invoke(&buy);
        world.invoke(&sell);
    });
}

/// Ten million objects in one table: opening it, and a purchase in it. Takes 2.7 GB of memory.
#[test]
#[ignore = "prints timings; takes 2.7 GB"]
fn what_ten_million_objects_cost() {
    const OBJECTS: u32 = 10_000_000;
    let pages = 64 + 256 + OBJECTS as usize / 16 + 16;
    let memory = std::sync::Arc::new(std::sync::Mutex::new(VecMemory::zeroed(pages)));
    let mut world = World::on(Shared(memory.clone()), Storage { pages: u64::MAX, records: u64::MAX });
    let me = world.domain();
    let start = Instant::now();
    for _ in 0..OBJECTS - 20 {
        world.effects.clear();
        world.ask(me, BANK, 2, &[], &[]).unwrap();
    }
    println!("{OBJECTS} pages bought: {:.0} ns each", start.elapsed().as_secs_f64() * 1e9 / f64::from(OBJECTS));
    let start = Instant::now();
    let (table, _) = Table::open(Shared(memory)).unwrap();
    println!("opened in {:.2} ms, {} objects", start.elapsed().as_secs_f64() * 1e3, table.len());
    world.table = table;
    let mut worst = 0.0_f64;
    for _ in 0..1000 {
        let start = Instant::now();
        world.ask(me, BANK, 9, &[], &[GOT]).unwrap();
        world.ask(me, BANK, 2, &[], &[]).unwrap();
        worst = worst.max(start.elapsed().as_secs_f64());
    }
    println!("sold and bought: at worst {:.1} us", worst * 1e6);
    let start = Instant::now();
    world.table.check().unwrap();
    println!("checked in {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
}

struct Shared(std::sync::Arc<std::sync::Mutex<VecMemory>>);

impl crate::table::TableMemory for Shared {
    fn len_bytes(&self) -> u64 {
        self.0.lock().unwrap().len_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        self.0.lock().unwrap().read(offset, out);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.lock().unwrap().write(offset, data);
    }
}
