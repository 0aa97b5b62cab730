//! Meters: budgets of CPU time, one above the other.

use super::bank::RECORD;
use super::context::{At, Ctx};
use super::error::Stop;
use super::order::{Done, Order, Request, key_argument, order};
use super::{Bank, InvokeError, Key, KeyType, MAX_METER_DEPTH, Meter, Resource, Rights, Which};
use crate::table::{RecordId, TableError};

/// A budget without limit.
pub(super) const UNLIMITED: u64 = u64::MAX;

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["rights to keep"],
        gives_keys: &["meter"],
        does: "A weaker key to the same meter.",
        ..order(KeyType::Meter, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        gives: &["nanoseconds left", "nanoseconds used"],
        does: "What is left and what was used. 2^64 - 1 left: no limit.",
        ..order(KeyType::Meter, 1, "read", Rights::READ, read)
    },
    Order {
        words: &["nanoseconds"],
        does: "Adds to the budget. The result stays below \"no limit\".",
        ..order(KeyType::Meter, 2, "grant", Rights::MANAGE, grant)
    },
    Order {
        words: &["nanoseconds"],
        does: "Sets what is left; 2^64 - 1: no limit.",
        ..order(KeyType::Meter, 3, "set", Rights::MANAGE, set)
    },
    Order {
        words: &["nanoseconds"],
        keys: &[key_argument("bank", &[KeyType::Bank], Rights::WRITE)],
        gives_keys: &["meter"],
        does: "A meter below this one, bought from the bank. CPU time is charged to it and to each meter above it.",
        ..order(KeyType::Meter, 4, "make", Rights::MANAGE, make)
    },
    Order {
        keys: &[key_argument("keeper", &[KeyType::Start, KeyType::Null], Rights::NONE)],
        does: "Who is called when the budget is used up; no key: nobody, and the domain stands.",
        ..order(KeyType::Meter, 5, "set keeper", Rights::MANAGE, set_keeper)
    },
];

/// A meter that has used nothing.
pub(super) fn fresh(owned: super::Owned, parent: u64, budget: u64, depth: u32) -> Meter {
    Meter { owned, parent, budget, used: 0, keeper: Key::NULL, depth, zero: 0 }
}

impl Ctx<'_, '_> {
    /// Charges CPU time to a domain's meter and to those above. Returns the first that is used up, or `Err` inside if
    /// the domain has no meter any more.
    pub(super) fn charge_meters(
        &mut self,
        at: At,
        nanoseconds: u64,
    ) -> Result<Result<Option<(RecordId, Meter)>, InvokeError>, TableError> {
        let me = self.domain_mut(at);
        me.cpu = me.cpu.saturating_add(nanoseconds);
        let mut next = RecordId::from_u64(me.meter);
        let mut empty = None;
        for _ in 0..=MAX_METER_DEPTH {
            let meter: Meter = match self.tx.get(next) {
                Ok(meter) => meter,
                Err(TableError::Void { .. } | TableError::WrongKind { .. }) => {
                    return Ok(Err(InvokeError::Void { which: Which::Invoked }));
                }
                Err(error) => return Err(error),
            };
            let mut charged = meter;
            charged.used = meter.used.saturating_add(nanoseconds);
            if meter.budget != UNLIMITED {
                charged.budget = meter.budget.saturating_sub(nanoseconds);
            }
            self.tx.put(next, &meter, &charged)?;
            if charged.budget == 0 && empty.is_none() {
                empty = Some((next, charged));
            }
            if meter.parent == 0 {
                break;
            }
            next = RecordId::from_u64(meter.parent);
        }
        Ok(Ok(empty))
    }
}

fn this(ctx: &Ctx<'_, '_>, request: &Request) -> Result<(RecordId, Meter), Stop> {
    ctx.object(&request.key, Which::Invoked)
}

fn read(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (_, meter) = this(ctx, request)?;
    Done::words([meter.budget, meter.used])
}

fn grant(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut meter) = this(ctx, request)?;
    if meter.budget != UNLIMITED {
        meter.budget = meter.budget.saturating_add(request.words[0]).min(UNLIMITED - 1);
        ctx.tx.update(id, &meter)?;
    }
    Done::nothing()
}

fn set(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut meter) = this(ctx, request)?;
    meter.budget = request.words[0];
    ctx.tx.update(id, &meter)?;
    Done::nothing()
}

fn make(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (above, meter) = this(ctx, request)?;
    if meter.depth >= MAX_METER_DEPTH {
        return Err(InvokeError::Limit { of: Resource::MeterDepth, limit: MAX_METER_DEPTH.into() }.into());
    }
    let (bank, _) = ctx.object::<Bank>(&request.keys[0], Which::Argument(0))?;
    let budget = request.words[0];
    let id = ctx.buy(bank.index(), RECORD, |owned| fresh(owned, above.as_u64(), budget, meter.depth + 1))?;
    Done::key(Key::to(KeyType::Meter, id))
}

fn set_keeper(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut meter) = this(ctx, request)?;
    meter.keeper = request.keys[0];
    ctx.tx.update(id, &meter)?;
    Done::nothing()
}
