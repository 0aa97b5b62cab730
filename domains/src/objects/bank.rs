//! Banks: storage is bought, counted and given back.

use super::alarm::Tree;
use super::context::{Ctx, need_type};
use super::error::Stop;
use super::order::{ANY, Done, Order, Request, order};
use super::records::{BANK_DYING, Components, Slots};
use super::{
    Alarm, Bank, CONTROL_PAGES, Console, Domain, Effect, Factory, HALF, Hub, InvokeError, Key, KeyType, MAX_BANK_DEPTH,
    MAX_SEGMENT_PAGES, Meter, NO_LINK, Node, NodeHalf, Owned, Page, Pending, Place, Resource, Rights, STOPPED, Segment,
    Storage, Timer, Which,
};
use crate::table::{Record, RecordId, TableError};

/// What each kind of object costs.
pub(super) const PAGE: Storage = Storage { pages: 1, records: 1 };
pub(super) const NODE: Storage = Storage { pages: 0, records: 2 };
pub(super) const DOMAIN: Storage = Storage { pages: CONTROL_PAGES, records: 4 };
pub(super) const FACTORY: Storage = Storage { pages: 0, records: 3 };
pub(super) const RECORD: Storage = Storage { pages: 0, records: 1 };

const fn segment_cost(pages: u64) -> Storage {
    Storage { pages, records: 1 }
}

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["rights to keep"],
        gives_keys: &["bank"],
        does: "A weaker key to the same bank.",
        ..order(KeyType::Bank, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        gives: &["pages used", "pages allowed", "records used", "records allowed"],
        does: "What the bank and the banks below it have, and may have.",
        ..order(KeyType::Bank, 1, "usage", Rights::READ, usage)
    },
    Order {
        gives_keys: &["page"],
        does: "A page of zeros.",
        ..order(KeyType::Bank, 2, "buy page", Rights::WRITE, buy_page)
    },
    Order {
        words: &["pages"],
        gives_keys: &["segment"],
        does: "A segment of zeros. Its length is charged, touched or not.",
        ..order(KeyType::Bank, 3, "buy segment", Rights::WRITE, buy_segment)
    },
    Order {
        gives_keys: &["node"],
        does: "An empty node.",
        ..order(KeyType::Bank, 4, "buy node", Rights::WRITE, buy_node)
    },
    Order {
        gives_keys: &["domain"],
        does: "A domain without keys, memory and meter, that never began.",
        ..order(KeyType::Bank, 5, "buy domain", Rights::WRITE, buy_domain)
    },
    Order {
        words: &["pages allowed", "records allowed"],
        gives_keys: &["bank"],
        does: "A bank below this one. It reserves nothing: a purchase must fit into each bank above it.",
        ..order(KeyType::Bank, 6, "buy bank", Rights::WRITE, buy_bank)
    },
    Order {
        gives_keys: &["factory"],
        does: "A factory without components.",
        ..order(KeyType::Bank, 7, "buy factory", Rights::WRITE, buy_factory)
    },
    Order {
        gives_keys: &["timer"],
        does: "A timer.",
        ..order(KeyType::Bank, 8, "buy timer", Rights::WRITE, buy_timer)
    },
    Order {
        keys: &[ANY],
        does: "Frees an object that this bank sold; every key to it is void. A bank is destroyed instead.",
        ..order(KeyType::Bank, 9, "sell", Rights::WRITE, sell)
    },
    Order {
        keys: &[ANY],
        gives_keys: &["the object"],
        does: "Voids every key to an object that this bank sold, and gives a new one with all rights. Not for domains.",
        ..order(KeyType::Bank, 10, "renew", Rights::MANAGE, renew)
    },
    Order {
        words: &["pages allowed", "records allowed"],
        does: "Another quota. It may be less than what is used: then nothing can be bought.",
        ..order(KeyType::Bank, 11, "set limit", Rights::MANAGE, set_limit)
    },
    Order {
        does: "Frees everything that the bank and the banks below it sold, and the bank. Answers when all of it is gone; \
               the bank's own keys are void, and nothing more is sold, at once. The prime bank stays.",
        ..order(KeyType::Bank, 12, "destroy", Rights::MANAGE, destroy)
    },
];

/// An object that was just sold.
pub(super) type Sold = Result<RecordId, Stop>;

impl Ctx<'_, '_> {
    /// Charges a purchase to a bank and to all above it.
    pub(super) fn charge_bank(&mut self, bank: u32, cost: Storage) -> Result<(), Stop> {
        let mut at = bank;
        while at != NO_LINK {
            let (id, mut record) = self.tx.at::<Bank>(at)?;
            if record.flags & BANK_DYING != 0 {
                return Err(InvokeError::Void { which: Which::Invoked }.into());
            }
            let used = &mut record.used;
            for (of, now, more, limit) in [
                (Resource::Pages, &mut used.pages, cost.pages, record.limit.pages),
                (Resource::Records, &mut used.records, cost.records, record.limit.records),
            ] {
                let total = now.checked_add(more).filter(|total| more == 0 || *total <= limit);
                *now = total.ok_or(InvokeError::Limit { of, limit })?;
            }
            self.tx.update(id, &record)?;
            at = record.owned.bank;
        }
        Ok(())
    }

    /// Takes back a charge.
    pub(super) fn uncharge_bank(&mut self, bank: u32, cost: Storage) -> Result<(), TableError> {
        let mut at = bank;
        while at != NO_LINK {
            let id = self.tx.id_at(at)?;
            let record = self.tx.modify::<Bank>(id, |bank| {
                bank.used.pages -= cost.pages.min(bank.used.pages);
                bank.used.records -= cost.records.min(bank.used.records);
            })?;
            at = record.owned.bank;
        }
        Ok(())
    }

    /// Sells an object: charges it, and puts it first in the bank's list.
    pub(super) fn buy<R: Record>(&mut self, bank: u32, cost: Storage, make: impl FnOnce(Owned) -> R) -> Sold {
        self.charge_bank(bank, cost)?;
        let (bank_id, record) = self.tx.at::<Bank>(bank)?;
        let id = self.tx.insert(&make(Owned { bank, next: record.sold, ..Owned::NONE }))?;
        if record.sold != NO_LINK {
            self.change_owned(record.sold, |owned| owned.previous = id.index())?;
        }
        self.tx.modify::<Bank>(bank_id, |bank| bank.sold = id.index())?;
        Ok(id)
    }

    /// Takes an object out of its bank's list and gives back what it cost.
    pub(super) fn unbuy(&mut self, owned: Owned, cost: Storage) -> Result<(), TableError> {
        if owned.bank == NO_LINK {
            return Ok(());
        }
        if owned.previous == NO_LINK {
            let id = self.tx.id_at(owned.bank)?;
            self.tx.modify::<Bank>(id, |bank| bank.sold = owned.next)?;
        } else {
            self.change_owned(owned.previous, |before| before.next = owned.next)?;
        }
        if owned.next != NO_LINK {
            self.change_owned(owned.next, |after| after.previous = owned.previous)?;
        }
        self.uncharge_bank(owned.bank, cost)
    }

    /// Changes an object's place in its bank's list, whatever the object is.
    fn change_owned(&mut self, index: u32, change: impl FnOnce(&mut Owned)) -> Result<(), TableError> {
        let id = self.tx.id_at(index)?;
        match self.tx.kind_of(id)? {
            Domain::KIND => {
                let at = self.core(id)?;
                change(&mut self.domain_mut(at).owned);
            }
            Page::KIND => drop(self.tx.modify::<Page>(id, |record| change(&mut record.owned))?),
            Segment::KIND => drop(self.tx.modify::<Segment>(id, |record| change(&mut record.owned))?),
            Node::KIND => drop(self.tx.modify::<Node>(id, |record| change(&mut record.owned))?),
            Meter::KIND => drop(self.tx.modify::<Meter>(id, |record| change(&mut record.owned))?),
            Bank::KIND => drop(self.tx.modify::<Bank>(id, |record| change(&mut record.owned))?),
            Factory::KIND => drop(self.tx.modify::<Factory>(id, |record| change(&mut record.owned))?),
            Timer::KIND => drop(self.tx.modify::<Timer>(id, |record| change(&mut record.owned))?),
            _ => drop(self.tx.modify::<Console>(id, |record| change(&mut record.owned))?),
        }
        Ok(())
    }

    /// Sells a domain.
    pub(super) fn sell_domain(&mut self, bank: u32, program: u64) -> Sold {
        let slots = [self.insert_slots()?, self.insert_slots()?];
        let pending = self.tx.insert(&EMPTY_PENDING)?.as_u64();
        let (cost, control) =
            if program == 0 { (DOMAIN, self.new_segment_number()?) } else { (Storage { pages: 0, ..DOMAIN }, 0) };
        let id = self.buy(bank, cost, |owned| Domain { owned, slots, pending, control, program, ..EMPTY_DOMAIN })?;
        if control != 0 {
            self.tell(Effect::NewSegment { segment: control, pages: CONTROL_PAGES });
        }
        Ok(id)
    }

    fn insert_slots(&mut self) -> Result<u64, TableError> {
        Ok(self.tx.insert(&Slots { keys: [Key::NULL; HALF] })?.as_u64())
    }

    fn new_segment_number(&mut self) -> Result<u64, Stop> {
        let (id, hub) = self.hub();
        let (number, limit) = (hub.next_segment, semper_store::MAX_SEGMENTS);
        if number >= limit {
            return Err(InvokeError::Limit { of: Resource::Segments, limit }.into());
        }
        self.set_hub(id, &Hub { next_segment: number + 1, ..hub })?;
        Ok(number)
    }

    /// Sells a segment.
    pub(super) fn sell_segment(&mut self, bank: u32, pages: u64) -> Result<(RecordId, u64), Stop> {
        if pages == 0 || pages > MAX_SEGMENT_PAGES {
            return Err(InvokeError::Limit { of: Resource::SegmentPages, limit: MAX_SEGMENT_PAGES }.into());
        }
        let number = self.new_segment_number()?;
        let make = |owned| Segment { owned, number, pages, keeper: Key::NULL };
        let id = self.buy(bank, segment_cost(pages), make)?;
        self.tell(Effect::NewSegment { segment: number, pages });
        Ok((id, number))
    }

    /// Another length for a segment.
    pub(super) fn resize(&mut self, id: RecordId, mut segment: Segment, pages: u64) -> Result<(), Stop> {
        if pages > MAX_SEGMENT_PAGES {
            return Err(InvokeError::Limit { of: Resource::SegmentPages, limit: MAX_SEGMENT_PAGES }.into());
        }
        let change = |pages| Storage { pages, records: 0 };
        if pages > segment.pages {
            self.charge_bank(segment.owned.bank, change(pages - segment.pages))?;
        } else {
            self.uncharge_bank(segment.owned.bank, change(segment.pages - pages))?;
        }
        segment.pages = pages;
        self.tx.update(id, &segment)?;
        self.tell(Effect::Resize { segment: segment.number, pages });
        Ok(())
    }

    /// Frees an object that is neither a domain nor a bank.
    pub(super) fn free_simple(&mut self, id: RecordId) -> Result<(), Stop> {
        let (owned, cost) = match self.tx.kind_of(id)? {
            Page::KIND => {
                let place = self.page_place(id);
                self.tell(Effect::Unmap { place });
                self.tell(Effect::Zero { place, len: semper_store::PAGE_SIZE as u64 });
                (self.tx.get::<Page>(id)?.owned, PAGE)
            }
            Segment::KIND => {
                let segment: Segment = self.tx.get(id)?;
                self.tell(Effect::DropSegment { segment: segment.number });
                (segment.owned, segment_cost(segment.pages))
            }
            Node::KIND => {
                let node: Node = self.tx.get(id)?;
                self.tx.remove(RecordId::from_u64(node.second))?;
                (node.owned, NODE)
            }
            Factory::KIND => {
                let factory: Factory = self.tx.get(id)?;
                for half in factory.components {
                    self.tx.remove(RecordId::from_u64(half))?;
                }
                // Its copy of the image, unless their bank's end took that first; it lies in the same list of what was sold.
                if factory.sealed != 0 && self.tx.contains(factory.image.id()) {
                    self.free_simple(factory.image.id())?;
                }
                (self.tx.get::<Factory>(id)?.owned, FACTORY)
            }
            Timer::KIND => {
                self.clear_alarm(Tree::Timers, id.index())?;
                let timer: Timer = self.tx.get(id)?;
                let void = InvokeError::Void { which: Which::Invoked };
                self.answer_wait(timer.waiter, timer.waiter_serial, void.into(), &[Key::NULL; 4])?;
                (timer.owned, RECORD)
            }
            Meter::KIND => (self.tx.get::<Meter>(id)?.owned, RECORD),
            _ => (self.tx.get::<Console>(id)?.owned, RECORD),
        };
        self.unbuy(owned, cost)?;
        self.tx.remove(id)?;
        Ok(())
    }

    /// Where a page object's bytes are.
    pub(super) fn page_place(&self, id: RecordId) -> Place {
        let offset = u64::from(id.index()) * semper_store::PAGE_SIZE as u64;
        Place { segment: self.hub().1.pool, offset }
    }

    /// The bank that sold the object of a key; errors as for using the key.
    fn seller(&mut self, key: &Key, which: Which) -> Result<u32, Stop> {
        Ok(match key.key_type() {
            KeyType::Page => self.object::<Page>(key, which)?.1.owned,
            KeyType::Segment => self.object::<Segment>(key, which)?.1.owned,
            KeyType::Node => self.object::<Node>(key, which)?.1.owned,
            KeyType::Meter => self.object::<Meter>(key, which)?.1.owned,
            KeyType::Bank => self.object::<Bank>(key, which)?.1.owned,
            KeyType::Factory => self.object::<Factory>(key, which)?.1.owned,
            KeyType::Timer => self.object::<Timer>(key, which)?.1.owned,
            KeyType::Console => self.object::<Console>(key, which)?.1.owned,
            KeyType::Domain => {
                let at = self.key_core(key, which)?;
                self.domain(at).owned
            }
            KeyType::Null => return Err(InvokeError::MissingKey { argument: 0 }.into()),
            _ => return Err(InvokeError::NotSoldHere.into()),
        }
        .bank)
    }

    /// That this bank, and no other, sold the object of argument 0.
    fn check_seller(&mut self, request: &Request) -> Result<(), Stop> {
        let (bank, _) = self.object::<Bank>(&request.key, Which::Invoked)?;
        let seller = self.seller(&request.keys[0], Which::Argument(0))?;
        if seller == bank.index() { Ok(()) } else { Err(InvokeError::NotSoldHere.into()) }
    }
}

const EMPTY_PENDING: Pending =
    Pending { order: 0, string_len: 0, badge: 0, words: [0; 4], keys: [Key::NULL; 4], kind: 0, zero: [0; 7] };

const EMPTY_DOMAIN: Domain = Domain {
    owned: Owned::NONE,
    phase: 0,
    flags: STOPPED,
    zero: 0,
    accept: [super::NO_SLOT; 4],
    serial: 0,
    waits_on: NO_LINK,
    next: NO_LINK,
    previous: NO_LINK,
    queue_head: NO_LINK,
    queue_tail: NO_LINK,
    accepted: NO_LINK,
    resume: Key::NULL,
    keeper: Key::NULL,
    slots: [0; 2],
    pending: 0,
    meter: 0,
    deadline: Alarm { at: 0, left: 0, right: 0 },
    brand: 0,
    program: 0,
    cpu: 0,
    control: 0,
    entry: [0; 3],
    mappings: NO_LINK,
    mapping_count: 0,
    start_epoch: 0,
    work_next: NO_LINK,
    work_previous: NO_LINK,
    zero2: 0,
};

fn bank_of(ctx: &Ctx<'_, '_>, request: &Request) -> Result<u32, Stop> {
    Ok(ctx.object::<Bank>(&request.key, Which::Invoked)?.0.index())
}

fn usage(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (_, bank) = ctx.object::<Bank>(&request.key, Which::Invoked)?;
    Done::words([bank.used.pages, bank.limit.pages, bank.used.records, bank.limit.records])
}

fn buy_page(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let bank = bank_of(ctx, request)?;
    let id = ctx.buy(bank, PAGE, |owned| Page { owned })?;
    Done::key(Key::to(KeyType::Page, id))
}

fn buy_segment(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let bank = bank_of(ctx, request)?;
    let (id, _) = ctx.sell_segment(bank, request.words[0])?;
    Done::key(Key::to(KeyType::Segment, id))
}

fn buy_node(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let bank = bank_of(ctx, request)?;
    let second = ctx.tx.insert(&NodeHalf { first: 0, keys: [Key::NULL; HALF] })?;
    let id = ctx.buy(bank, NODE, |owned| Node { owned, second: second.as_u64(), keys: [Key::NULL; HALF] })?;
    ctx.tx.modify::<NodeHalf>(second, |half| half.first = id.as_u64())?;
    Done::key(Key::to(KeyType::Node, id))
}

fn buy_domain(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let bank = bank_of(ctx, request)?;
    let id = ctx.sell_domain(bank, 0)?;
    Done::key(Key::to(KeyType::Domain, id))
}

fn buy_bank(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (above, record) = ctx.object::<Bank>(&request.key, Which::Invoked)?;
    if record.depth >= MAX_BANK_DEPTH {
        return Err(InvokeError::Limit { of: Resource::BankDepth, limit: MAX_BANK_DEPTH.into() }.into());
    }
    let limit = Storage { pages: request.words[0], records: request.words[1] };
    let make = |owned| empty_bank(owned, limit, record.depth + 1);
    let id = ctx.buy(above.index(), RECORD, make)?;
    Done::key(Key::to(KeyType::Bank, id))
}

/// A bank that sold nothing.
pub(super) fn empty_bank(owned: Owned, limit: Storage, depth: u32) -> Bank {
    Bank {
        owned,
        limit,
        used: Storage::default(),
        waiter: 0,
        waiter_serial: 0,
        sold: NO_LINK,
        depth,
        work_next: NO_LINK,
        work_previous: NO_LINK,
        flags: 0,
        zero: 0,
    }
}

fn buy_factory(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let bank = bank_of(ctx, request)?;
    let empty = Components { keys: [Key::NULL; HALF] };
    let components = [ctx.tx.insert(&empty)?.as_u64(), ctx.tx.insert(&empty)?.as_u64()];
    let make = |owned| Factory { owned, components, image: Key::NULL, entry: [0; 3], base: 0, holes: 0, sealed: 0 };
    let id = ctx.buy(bank, FACTORY, make)?;
    Done::key(Key::to(KeyType::Factory, id))
}

fn buy_timer(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let bank = bank_of(ctx, request)?;
    let make = |owned| Timer { owned, alarm: Alarm::default(), fired: 0, waiter: 0, waiter_serial: 0 };
    let id = ctx.buy(bank, RECORD, make)?;
    Done::key(Key::to(KeyType::Timer, id))
}

fn sell(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ctx.check_seller(request)?;
    let key = &request.keys[0];
    match key.key_type() {
        KeyType::Bank => {
            let (wanted, found) = (KeyType::Node, KeyType::Bank);
            return Err(InvokeError::WrongKey { which: Which::Argument(0), wanted, found }.into());
        }
        KeyType::Domain => {
            let at = ctx.core(key.id())?;
            ctx.begin_death(at)?;
        }
        _ => ctx.free_simple(key.id())?,
    }
    Done::nothing()
}

fn renew(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ctx.check_seller(request)?;
    let key = &request.keys[0];
    match key.key_type() {
        KeyType::Domain => {
            need_type(key, Which::Argument(0), KeyType::Node)?;
        }
        KeyType::Page => {
            let place = ctx.page_place(key.id());
            ctx.tell(Effect::Unmap { place });
        }
        KeyType::Segment => {
            let (_, segment) = ctx.object::<Segment>(key, Which::Argument(0))?;
            ctx.tell(Effect::Unmap { place: Place { segment: segment.number, offset: 0 } });
        }
        _ => {}
    }
    let id = ctx.tx.renew(key.id())?;
    Done::key(Key::to(key.key_type(), id))
}

fn set_limit(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut bank) = ctx.object::<Bank>(&request.key, Which::Invoked)?;
    bank.limit = Storage { pages: request.words[0], records: request.words[1] };
    ctx.tx.update(id, &bank)?;
    Done::nothing()
}

fn destroy(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, bank) = ctx.object::<Bank>(&request.key, Which::Invoked)?;
    if bank.owned.bank == NO_LINK {
        return Err(InvokeError::NotSoldHere.into());
    }
    if !request.may_wait {
        return Err(InvokeError::WouldWait.into());
    }
    let serial = ctx.wait_for_kernel(request.invoker);
    let waiter = ctx.id(request.invoker).as_u64();
    ctx.begin_bank_death(id, Some((waiter, serial)))?;
    Ok(Done::Waits)
}
