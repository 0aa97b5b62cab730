//! Every order of the table, and what the kernel does by itself, killed at every write: what is left is before or after.

use super::crash::{kill_everywhere, saved};
use super::*;

/// A small world with what orders are given: the invoked key goes to slot 5, its arguments to 6 and after.
struct Scene {
    world: World,
    me: RecordId,
    other: RecordId,
}

const INVOKED: u8 = 5;
const FIRST_ARGUMENT: u8 = 6;

impl Scene {
    fn new() -> Self {
        let mut world = World::on(VecMemory::zeroed(80), Storage { pages: 10_000, records: 200 });
        let (me, other) = (world.domain(), world.domain());
        Self { world, me, other }
    }

    /// A key of this type, to an object of its own.
    fn key(&mut self, wanted: KeyType) -> Key {
        let buy: (u32, &[u64]) = match wanted {
            KeyType::Page => (2, &[]),
            KeyType::Segment => (3, &[5]),
            KeyType::Node => (4, &[]),
            KeyType::Bank => (6, &[1000, 100]),
            KeyType::Factory => (7, &[]),
            KeyType::Timer => (8, &[]),
            KeyType::Meter => {
                self.world.ask(self.me, METER, 4, &[1_000_000], &[BANK]).unwrap();
                return self.world.key(self.me, GOT);
            }
            KeyType::Domain => return Key::to(KeyType::Domain, self.other),
            KeyType::Start => return Key::start(self.other, 0, 1),
            KeyType::Console => {
                let Genesis { bank, .. } = self.world.genesis;
                return make_console(&mut self.world.table, &self.world.nature, &bank, 3, 0).unwrap().unwrap();
            }
            device => return Key::device(device),
        };
        self.world.ask(self.me, BANK, buy.0, buy.1, &[]).unwrap();
        self.world.key(self.me, GOT)
    }

    fn ask(&mut self, order: u32, words: &[u64], keys: &[u8]) {
        self.world.ask(self.me, INVOKED, order, words, keys).unwrap();
    }

    /// What makes an order possible, and its words.
    fn prepare(&mut self, order: &Order) -> [u64; 4] {
        let mut words = [0; 4];
        let mut given = |values: &[u64]| words[..values.len()].copy_from_slice(values);
        match (order.on, order.name) {
            (KeyType::Segment, "truncate") => given(&[9]),
            (KeyType::Node, "clear") => self.ask(2, &[3], &[BANK]),
            (KeyType::Node, "fetch" | "store" | "swap") => {
                self.ask(2, &[3], &[BANK]);
                given(&[3]);
            }
            (KeyType::Domain, "start") => self.ask(3, &[], &[]),
            (KeyType::Domain, "map") => given(&[1 << 20, 0, 1]),
            (KeyType::Domain, "unmap") => {
                self.ask(13, &[1 << 20, 0, 1], &[FIRST_ARGUMENT]);
                given(&[1 << 20]);
            }
            (KeyType::Domain, "get registers" | "set registers") => self.ask(3, &[], &[]),
            (KeyType::Domain, "begin") => given(&[0x1000, 0x2000, 3]),
            (KeyType::Bank, "buy segment") => given(&[12]),
            (KeyType::Bank, "buy bank" | "set limit") => given(&[10, 10]),
            (KeyType::Meter, "grant" | "set" | "make") => given(&[2_000_000]),
            (KeyType::Factory, "install") => given(&[3]),
            (KeyType::Factory, "set image") => given(&[0x400, 0x40_0000, 0x50_0000, 9]),
            (KeyType::Factory, "seal") => self.image(),
            (KeyType::Factory, "make") => {
                self.image();
                self.ask(3, &[], &[]);
            }
            (KeyType::Timer, "set") => given(&[5000]),
            (KeyType::Random, "bytes") | (KeyType::Console, "read") | (KeyType::Connection, "receive") => given(&[8]),
            (KeyType::Network, "accept" | "connect") => given(&[7, 7]),
            (KeyType::Network, "serve") => given(&[7, 1]),
            (KeyType::Own, "copy" | "exchange") => given(&[0, 9]),
            (KeyType::Own, "weaken") => given(&[0, 1]),
            _ => {}
        }
        words
    }

    /// The factory gets an image.
    fn image(&mut self) {
        let image = self.key(KeyType::Segment);
        self.world.give(self.me, 11, image);
        self.ask(2, &[0x400, 0x40_0000, 0x50_0000, 9], &[11]);
    }
}

/// Orders that leave segment 0 as it was.
fn only_reads(order: &Order) -> bool {
    match order.on {
        KeyType::Page | KeyType::Segment if matches!(order.name, "read" | "write" | "zero" | "length") => true,
        KeyType::Domain => matches!(order.name, "state" | "get registers" | "set registers"),
        KeyType::Meter => order.name == "read",
        KeyType::Bank => order.name == "usage",
        KeyType::Factory => matches!(order.name, "holes" | "certify"),
        KeyType::Timer => order.name == "read",
        KeyType::Checkpoint => order.name != "wait",
        KeyType::Console => order.name == "write",
        KeyType::Own => order.name == "used",
        KeyType::Discrim | KeyType::Clock | KeyType::Random | KeyType::Log | KeyType::Restart => true,
        _ => false,
    }
}

#[test]
fn a_kill_at_any_write_of_any_order_leaves_before_or_after() {
    let mut killed = 0;
    for order in orders() {
        let name = format!("{}: {}", order.on, order.name);
        let mut scene = Scene::new();
        let me = scene.me;
        let key = scene.key(order.on);
        scene.world.give(me, INVOKED, key);
        let accept = [10, NO_SLOT, NO_SLOT, NO_SLOT];
        let mut call = Invocation { invoker: me, slot: INVOKED, order: order.code, accept, ..IDLE };
        if order.on == KeyType::Own {
            call.slot = SELF_SLOT;
        }
        for (n, argument) in (0_u8..).zip(order.keys) {
            let wanted = argument.types.first().copied().unwrap_or(KeyType::Page);
            let key = scene.key(wanted);
            scene.world.give(me, FIRST_ARGUMENT + n, key);
            call.keys[usize::from(n)] = FIRST_ARGUMENT + n;
        }
        let page = scene.key(KeyType::Page);
        if order.name == "unmap" {
            scene.world.give(me, FIRST_ARGUMENT, page);
        }
        if order.name == "sell" || order.name == "renew" {
            // Of what this very bank sold.
            scene.world.ask(me, INVOKED, 4, &[], &[]).unwrap();
            let sold = scene.world.key(me, GOT);
            scene.world.give(me, FIRST_ARGUMENT, sold);
        }
        call.words = scene.prepare(order);
        if order.string > 0 {
            call.string_len = 200.min(order.string);
        }
        let before = saved(&scene.world);
        let changes = std::cell::Cell::new(false);
        let writes = kill_everywhere(&name, &before, &scene.world, |world| {
            let outcome = world.invoke(&call);
            let refused = matches!(outcome, Outcome::Answered(Answer { code: FIRST_ERROR.., .. }));
            assert!(!refused, "{name} is done: {outcome:?}");
            changes.set(true);
        });
        assert_eq!(writes == 0, only_reads(order), "{name}: {writes} writes");
        assert!(changes.get());
        killed += writes;
    }
    assert!(killed > 400, "{killed} kills");
}

#[test]
fn a_kill_at_any_write_of_what_the_kernel_does_by_itself_leaves_before_or_after() {
    type Prepare = fn(&mut Scene);
    type Step = fn(&mut World, &[RecordId; 2]);
    let steps: [(&str, Prepare, Step); 6] = [
        (
            "a timer goes off for one who waits",
            |scene| {
                let timer = scene.key(KeyType::Timer);
                scene.world.give(scene.me, INVOKED, timer);
                scene.ask(1, &[5000], &[]);
                scene.world.invoke(&Invocation { invoker: scene.me, slot: INVOKED, order: 2, ..IDLE });
            },
            |world, _| {
                world.nature.now.set(100_000);
                expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
            },
        ),
        (
            "a timer goes off for nobody",
            |scene| {
                let timer = scene.key(KeyType::Timer);
                scene.world.give(scene.me, INVOKED, timer);
                scene.ask(1, &[5000], &[]);
            },
            |world, _| {
                world.nature.now.set(100_000);
                expire(&mut world.table, &world.nature, &mut world.effects).unwrap();
            },
        ),
        (
            "a meter is used up and has a keeper",
            |scene| {
                scene.world.wait(scene.other);
                scene.world.introduce(scene.me, INVOKED, scene.other, 1);
                scene.world.ask(scene.me, METER, 5, &[], &[INVOKED]).unwrap();
                scene.world.ask(scene.me, METER, 3, &[10], &[]).unwrap();
            },
            |world, [me, _]| {
                charge(&mut world.table, &world.nature, *me, 20, &mut world.effects).unwrap();
            },
        ),
        (
            "a meter is used up and has none",
            |scene| {
                scene.world.ask(scene.me, METER, 3, &[10], &[]).unwrap();
            },
            |world, [me, _]| {
                charge(&mut world.table, &world.nature, *me, 20, &mut world.effects).unwrap();
            },
        ),
        (
            "what a domain waited for outside has come",
            |scene| {
                let console = scene.key(KeyType::Console);
                scene.world.give(scene.me, INVOKED, console);
                let read = Invocation { invoker: scene.me, slot: INVOKED, order: 2, words: [8, 0, 0, 0], ..IDLE };
                scene.world.invoke(&read);
            },
            |world, [me, _]| {
                let serial = world.core(*me).serial;
                let done =
                    complete(&mut world.table, &world.nature, *me, serial, Answer::default(), &mut world.effects);
                assert!(done.unwrap());
            },
        ),
        (
            "a fault, and its keeper is called",
            |scene| {
                scene.world.wait(scene.other);
                scene.world.introduce(scene.me, INVOKED, scene.other, 1);
                let domain = Key::to(KeyType::Domain, scene.me);
                scene.world.give(scene.me, 7, domain);
                scene.world.ask(scene.me, 7, 9, &[], &[INVOKED]).unwrap();
            },
            |world, [me, _]| {
                fault(&mut world.table, &world.nature, *me, &Fault::default(), &mut world.effects).unwrap()
            },
        ),
    ];
    for (name, prepare, step) in steps {
        let mut scene = Scene::new();
        prepare(&mut scene);
        let (before, ids) = (saved(&scene.world), [scene.me, scene.other]);
        let writes = kill_everywhere(name, &before, &scene.world, |world| step(world, &ids));
        assert!(writes > 0, "{name} does something");
    }
}
