//! Random operations against a plain model: no right grows on any path, void keys stay void, banks are exact, calls are
//! answered once and in order.

use super::audit::{audit, domains, nodes};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// Any invocation at all, by any of the domains.
fn invocation() -> impl Strategy<Value = (usize, Invocation)> {
    let slot = || prop_oneof![8 => 0_u8..13, 1 => Just(RESUME_SLOT), 1 => Just(NO_SLOT)];
    let word = || prop_oneof![6 => 0_u64..17, 1 => Just(0x100), 1 => any::<u64>()];
    let how = prop_oneof![6 => Just(How::Call), 2 => Just(How::Send), 3 => Just(How::ReplyAndWait)];
    let deadline = prop_oneof![4 => Just(0_u64), 1 => 1000_u64..3000];
    let rest = (prop::array::uniform4(word()), prop::array::uniform4(slot()), prop::array::uniform4(slot()), deadline);
    let slots = prop_oneof![6 => slot(), 2 => Just(RESUME_SLOT), 2 => Just(SELF_SLOT), 2 => Just(12_u8)];
    (0_usize..6, slots, how, 0_u32..16, rest).prop_map(|(who, slot, how, order, (words, keys, accept, deadline))| {
        (who, Invocation { slot, how, order, words, keys, accept, deadline, ..IDLE })
    })
}

#[derive(Clone, Debug)]
enum Action {
    Invoke(usize, Invocation),
    Work,
    Later(u64),
    Fault(usize),
    Charge(usize, u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        30 => invocation().prop_map(|(who, call)| Action::Invoke(who, call)),
        2 => Just(Action::Work),
        1 => (1_u64..500).prop_map(Action::Later),
        1 => (0_usize..6).prop_map(Action::Fault),
        1 => (0_usize..6, 0_u64..2000).prop_map(|(who, ns)| Action::Charge(who, ns)),
    ]
}

/// What a holder of keys can come by: every key, with the most rights that any path gives, by object.
type Reach = BTreeMap<(u8, u64, u64, u32), Rights>;

fn name(key: &Key) -> (u8, u64, u64, u32) {
    (key.key_type() as u8, key.id().as_u64(), key.badge(), key.epoch())
}

fn add(reach: &mut Reach, key: &Key, nodes: &BTreeMap<u64, [Key; 16]>) {
    if key.is_null() {
        return;
    }
    let known = reach.entry(name(key)).or_default();
    let strong = |rights: Rights| rights.contains(Rights::STRONG);
    let news = *known != known.or(key.rights());
    *known = known.or(key.rights());
    if news && key.key_type() == KeyType::Node && key.rights().contains(Rights::READ) {
        let keys = nodes.get(&key.id().as_u64()).copied().unwrap_or_default();
        for inner in keys {
            add(reach, &if strong(key.rights()) { inner } else { inner.sensed() }, nodes);
        }
    }
}

/// Everything that one domain holds, and what it can fetch with it.
fn reach(world: &World, domain: RecordId) -> Reach {
    let nodes: BTreeMap<_, _> = nodes(&world.table).into_iter().map(|(id, keys)| (id.as_u64(), keys)).collect();
    let mut reach = Reach::new();
    let mut held = slots_of(&world.table, domain).unwrap().to_vec();
    held.push(*world.core(domain).resume_key());
    held.iter().for_each(|key| add(&mut reach, key, &nodes));
    // With a domain key comes all that the domain holds.
    let mut todo: Vec<u64> = Vec::new();
    let mut seen = vec![domain.as_u64()];
    let more = |reach: &Reach, todo: &mut Vec<u64>, seen: &mut Vec<u64>| {
        for ((key_type, id, ..), rights) in reach {
            if *key_type == KeyType::Domain as u8 && rights.contains(Rights::MANAGE) && !seen.contains(id) {
                seen.push(*id);
                todo.push(*id);
            }
        }
    };
    more(&reach, &mut todo, &mut seen);
    while let Some(id) = todo.pop() {
        if let Ok(keys) = slots_of(&world.table, RecordId::from_u64(id)) {
            keys.iter().for_each(|key| add(&mut reach, key, &nodes));
        }
        more(&reach, &mut todo, &mut seen);
    }
    reach
}

/// All keys in slots and nodes, by place.
fn places(world: &World) -> BTreeMap<(u64, usize), Key> {
    let mut all = BTreeMap::new();
    for (id, domain) in domains(&world.table) {
        if domain.phase() == Phase::Dying {
            continue;
        }
        let keys = slots_of(&world.table, id).unwrap();
        all.extend(keys.into_iter().chain([*domain.resume_key()]).enumerate().map(|(n, key)| ((id.as_u64(), n), key)));
    }
    for (id, keys) in nodes(&world.table) {
        all.extend(keys.into_iter().enumerate().map(|(n, key)| ((id.as_u64(), n), key)));
    }
    all
}

/// Whether a key that appeared is one that `source` allows: held before with those rights, new, or derived.
fn allowed(key: &Key, source: &Reach, existed: impl Fn(RecordId) -> bool) -> bool {
    if source.get(&name(key)).is_some_and(|rights| rights.contains(key.rights())) {
        return true;
    }
    let manages =
        |id: u64| source.get(&(KeyType::Domain as u8, id, 0, 0)).is_some_and(|rights| rights.contains(Rights::MANAGE));
    match key.key_type() {
        KeyType::Null => true,
        KeyType::Start if manages(key.id().as_u64()) => true,
        // Made by the delivery of a call: to a waiting caller.
        KeyType::Resume => true,
        other => other.has_record() && !existed(key.id()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_right_grows_on_any_path(actions in prop::collection::vec(action(), 1..60)) {
        let mut world = World::on(VecMemory::zeroed(150), Storage { pages: 100_000, records: 900 });
        let ids: Vec<_> = (0..6).map(|_| world.domain()).collect();
        // A small society: each has a bank of its own, nodes, and start keys to the next two; the prime bank goes.
        for (n, id) in ids.iter().enumerate() {
            world.get(*id, BANK, 6, &[1000, 120], &[], 0);
            world.get(*id, METER, 4, &[1_000_000], &[0], 1);
            world.get(*id, 0, 4, &[], &[], 2);
            world.get(*id, 0, 3, &[8], &[], 3);
            world.introduce(*id, 4, ids[(n + 1) % 6], n as u64);
            world.introduce(*id, 5, ids[(n + 2) % 6], n as u64);
            world.ask(*id, SELF_SLOT, 2, &[GOT.into()], &[]).unwrap();
        }
        world.give(ids[0], 6, Key::to(KeyType::Domain, ids[3]));
        world.give(ids[1], 6, Key::device(KeyType::Discrim));
        world.give(ids[2], 6, Key::to(KeyType::Domain, ids[5]).weaker(Rights::READ));
        audit(&world.table);
        let mut void: Vec<Key> = Vec::new();
        for action in actions {
            let before = places(&world);
            let alive: Vec<_> = domains(&world.table);
            let all_reaches: BTreeMap<_, _> = alive.iter().map(|(id, _)| (*id, reach(&world, *id))).collect();
            let pending: Vec<Key> = alive.iter()
                .filter(|(_, d)| d.phase() == Phase::Queued)
                .flat_map(|(_, d)| world.table.get::<Pending>(RecordId::from_u64(d.pending)).unwrap().keys)
                .collect();
            let existing: std::collections::BTreeSet<_> =
                (0..world.table.high_water()).filter_map(|n| world.table.id_at(n).ok()).collect();
            let mut source = Reach::new();
            let nodes_now: BTreeMap<_, _> = nodes(&world.table).into_iter().map(|(id, keys)| (id.as_u64(), keys)).collect();
            pending.iter().for_each(|key| add(&mut source, key, &nodes_now));
            match &action {
                Action::Invoke(who, call) => {
                    let invoker = ids[*who];
                    if !world.table.contains(invoker) || world.core(invoker).phase() != Phase::Running {
                        continue;
                    }
                    for (key, rights) in &all_reaches[&invoker] {
                        let known = source.entry(*key).or_default();
                        *known = known.or(*rights);
                    }
                    world.invoke(&Invocation { invoker, ..*call });
                }
                Action::Work => drop(world.work()),
                Action::Later(by) => {
                    world.nature.now.set(world.nature.now.get() + by);
                    expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
                }
                Action::Fault(who) => {
                    if world.table.contains(ids[*who]) {
                        // What a keeper gets: the domain, and what it was set for by its holder.
                        add(&mut source, &Key::to(KeyType::Domain, ids[*who]), &nodes_now);
                        fault(&mut world.table, &world.nature, ids[*who], &Fault::default(), &mut world.effects).unwrap();
                    }
                }
                Action::Charge(who, ns) => {
                    if world.table.contains(ids[*who]) {
                        let meter = RecordId::from_u64(world.core(ids[*who]).meter);
                        add(&mut source, &Key::to(KeyType::Meter, meter), &nodes_now);
                        charge(&mut world.table, &world.nature, ids[*who], *ns, &mut world.effects).unwrap();
                    }
                }
            }
            world.effects.clear();
            audit(&world.table);
            let after = places(&world);
            for (place, key) in &after {
                if before.get(place) == Some(key) {
                    continue;
                }
                let fine = allowed(key, &source, |id| existing.contains(&id));
                prop_assert!(fine, "{key:?} came to {place:?} by {action:?}");
            }
            void.extend(before.values().filter(|key| key.key_type().has_record() && !world.table.contains(key.id())));
            for key in &void {
                prop_assert!(!world.table.contains(key.id()), "{key:?} became valid again");
            }
        }
    }

    /// The queue of one server against a queue.
    #[test]
    fn calls_are_answered_once_and_in_order(
        steps in prop::collection::vec((0_u8..8, 0_usize..5, 1_u64..400), 1..80),
    ) {
        let mut world = World::new();
        let server = world.domain();
        let clients: Vec<_> = (0..5).map(|_| world.domain()).collect();
        for (n, client) in clients.iter().enumerate() {
            world.introduce(*client, 2, server, n as u64);
        }
        // Who queues, with deadlines; whom the server serves; copies of resume keys that are used up.
        let mut queue: VecDeque<(usize, bool)> = VecDeque::new();
        let mut deadlines: BTreeMap<usize, u64> = BTreeMap::new();
        let mut serving: Option<usize> = None;
        let mut available = false;
        let mut used: Vec<Key> = Vec::new();
        for (what, who, value) in steps {
            world.effects.clear();
            let now = world.nature.now.get();
            match what {
                0..=2 if world.core(clients[who]).phase() == Phase::Running => {
                    let how = if value % 4 == 0 { How::Send } else { How::Call };
                    let deadline = if value % 3 == 0 { now + value } else { 0 };
                    let order = u32::try_from(who).unwrap();
                    world.invoke(&Invocation { invoker: clients[who], slot: 2, how, order, deadline, ..IDLE });
                    let stays = how == How::Call || !available;
                    if deadline != 0 && stays {
                        deadlines.insert(who, deadline);
                    }
                    queue.push_back((who, how == How::Call));
                }
                3..=5 if world.core(server).phase() == Phase::Running => {
                    let key = world.key(server, RESUME_SLOT);
                    let slot = if serving.is_some() { RESUME_SLOT } else { 12 };
                    world.invoke(&Invocation { invoker: server, slot, how: How::ReplyAndWait, order: 9, ..IDLE });
                    if let Some(client) = serving.take() {
                        deadlines.remove(&client);
                        used.push(key);
                        let answer = Answer { code: 9, ..Answer::default() };
                        let told = Effect::Answer { to: clients[client], answer };
                        prop_assert!(world.effects.contains(&told));
                    }
                    available = true;
                }
                6 => {
                    world.nature.now.set(now + value);
                    expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
                    let late: Vec<_> = deadlines.iter().filter(|(_, at)| **at <= now + value).map(|(n, _)| *n).collect();
                    let told: std::collections::BTreeSet<_> = world.answers().into_iter().map(|(id, a)| (id, a.code)).collect();
                    let expected = late.iter().map(|n| (clients[*n], InvokeError::Timeout.code())).collect();
                    prop_assert_eq!(told, expected);
                    for n in late {
                        deadlines.remove(&n);
                        queue.retain(|(queued, _)| *queued != n);
                        if serving == Some(n) {
                            serving = None;
                            used.push(world.key(server, RESUME_SLOT));
                            world.give(server, 12, Key::NULL);
                        }
                    }
                }
                _ => {
                    if let Some(key) = used.last().copied() && world.core(clients[who]).phase() == Phase::Running {
                        world.give(clients[who], 7, key);
                        let replay = Invocation { invoker: clients[who], slot: 7, how: How::Send, ..IDLE };
                        let void = InvokeError::Void { which: Which::Invoked };
                        prop_assert_eq!(world.invoke(&replay), Outcome::Answered(void.into()));
                    }
                }
            }
            // What the server gets is the first of the queue.
            let delivered = world.effects.iter().find_map(|effect| match effect {
                Effect::Deliver { delivery, .. } => Some(delivery.badge),
                _ => None,
            });
            if available && let Some((first, calls)) = queue.pop_front() {
                prop_assert_eq!(delivered, Some(first as u64));
                available = false;
                serving = calls.then_some(first);
                if !calls {
                    deadlines.remove(&first);
                }
            } else {
                prop_assert_eq!(delivered, None);
            }
            audit(&world.table);
        }
    }
}
