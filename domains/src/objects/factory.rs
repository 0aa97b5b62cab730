//! Factories: makers of domains that can be shown to be confined. (Hardy, *The KeyKOS Factory*.)

use super::context::{Ctx, need};
use super::error::Stop;
use super::order::{ANY, Done, Order, Request, key_argument, order};
use super::slots::{SLOTS, slot_word};
use super::{Bank, Components, Effect, Factory, HALF, InvokeError, Key, KeyType, Meter, Rights, Segment, Which};
use crate::table::RecordId;

/// Where in a product's slots the requestor's keys are, after the components: the last two.
const REQUESTOR_SLOTS: [u8; 2] = [14, 15];

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["rights to keep"],
        gives_keys: &["factory"],
        does: "A weaker key to the same factory. MANAGE is the builder's right, CALL and READ the requestor's.",
        ..order(KeyType::Factory, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        words: &["slot"],
        keys: &[ANY],
        does: "What its products will hold in a slot, 0 to 13. A key by which something could be sent outward is a hole.",
        ..order(KeyType::Factory, 1, "install", Rights::MANAGE, install)
    },
    Order {
        words: &["first page", "instruction pointer", "stack pointer", "first argument"],
        keys: &[key_argument("image", &[KeyType::Segment], Rights::READ)],
        does: "What its products begin with: a copy of the segment, mapped from that page on, and the registers.",
        ..order(KeyType::Factory, 2, "set image", Rights::MANAGE, set_image)
    },
    Order {
        does: "From now on it makes domains, and cannot be changed any more: it has a copy of the image, paid by its bank.",
        ..order(KeyType::Factory, 3, "seal", Rights::MANAGE, seal)
    },
    Order {
        keys: &[
            key_argument("bank", &[KeyType::Bank], Rights::WRITE),
            key_argument("meter", &[KeyType::Meter], Rights::NONE),
            ANY,
            ANY,
        ],
        gives_keys: &["start key"],
        does: "Makes a domain from what the bank sells, charged to the meter, with keys 2 and 3 in its slots 14 and 15, and \
               lets it begin. Nobody gets its domain key. Its memory is a copy of the image.",
        ..order(KeyType::Factory, 4, "make", Rights::CALL, make)
    },
    Order {
        gives: &["holes", "1: sealed"],
        does: "The components by which a product could send something outward that the requestor did not give. 0 and sealed: \
               what it makes is confined. A sealed factory among the components counts with its own holes.",
        ..order(KeyType::Factory, 5, "holes", Rights::READ, holes)
    },
    Order {
        keys: &[key_argument("domain", &[KeyType::Start, KeyType::Domain], Rights::NONE)],
        gives: &["1: it did"],
        does: "Whether this factory, and no imitation, made the domain.",
        ..order(KeyType::Factory, 6, "certify", Rights::READ, certify)
    },
];

fn this(ctx: &Ctx<'_, '_>, request: &Request) -> Result<(RecordId, Factory), Stop> {
    ctx.object(&request.key, Which::Invoked)
}

/// The factory of the invoked key, still open to its builder.
fn unsealed(ctx: &Ctx<'_, '_>, request: &Request) -> Result<(RecordId, Factory), Stop> {
    let found = this(ctx, request)?;
    if found.1.sealed == 0 { Ok(found) } else { Err(InvokeError::Sealed.into()) }
}

/// The holes that a key is.
fn holes_of(ctx: &Ctx<'_, '_>, key: &Key) -> u32 {
    if key.is_discreet() {
        return 0;
    }
    // A requestor's key to a sealed factory: its products are what its own components let them be.
    if key.key_type() == KeyType::Factory
        && !key.rights().contains(Rights::MANAGE)
        && let Ok((_, factory)) = ctx.object::<Factory>(key, Which::Argument(0))
        && factory.sealed == 1
    {
        return factory.holes;
    }
    1
}

fn install(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut factory) = unsealed(ctx, request)?;
    let slot = slot_word(request, 0, SLOTS - 2)?;
    let (half, n) = (usize::from(slot) / HALF, usize::from(slot) % HALF);
    let record = RecordId::from_u64(factory.components[half]);
    let mut components: Components = ctx.tx.get(record)?;
    components.keys[n] = request.keys[0];
    ctx.tx.update(record, &components)?;
    factory.holes = count_holes(ctx, &factory)?;
    ctx.tx.update(id, &factory)?;
    Done::nothing()
}

/// The holes of all components. Those of factories among them count as they are now: an open one is a hole.
fn count_holes(ctx: &Ctx<'_, '_>, factory: &Factory) -> Result<u32, Stop> {
    let mut holes = 0_u32;
    for key in components(ctx, factory)? {
        holes = holes.saturating_add(holes_of(ctx, &key));
    }
    Ok(holes)
}

fn set_image(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut factory) = unsealed(ctx, request)?;
    ctx.object::<Segment>(&request.keys[0], Which::Argument(0))?;
    let [base, entry @ ..] = request.words;
    factory.image = request.keys[0].weaker(Rights::READ);
    (factory.base, factory.entry) = (base, entry);
    ctx.tx.update(id, &factory)?;
    Done::nothing()
}

fn seal(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut factory) = unsealed(ctx, request)?;
    if factory.image.is_null() {
        return Err(InvokeError::MissingKey { argument: 0 }.into());
    }
    // What it makes begins with what the image is now, whatever becomes of the segment.
    let (_, image) = ctx.object::<Segment>(&factory.image, Which::Invoked)?;
    let (copy, number) = ctx.sell_segment(factory.owned.bank, image.pages)?;
    ctx.tell(Effect::CopySegment { from: image.number, to: number, pages: image.pages });
    factory.image = Key::to(KeyType::Segment, copy).weaker(Rights::READ);
    factory.holes = count_holes(ctx, &factory)?;
    factory.sealed = 1;
    ctx.tx.update(id, &factory)?;
    Done::nothing()
}

fn components(ctx: &Ctx<'_, '_>, factory: &Factory) -> Result<[Key; 2 * HALF], Stop> {
    let mut all = [Key::NULL; 2 * HALF];
    for (half, id) in factory.components.iter().enumerate() {
        let components: Components = ctx.tx.get(RecordId::from_u64(*id))?;
        all[half * HALF..][..HALF].copy_from_slice(&components.keys);
    }
    Ok(all)
}

fn make(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, factory) = this(ctx, request)?;
    if factory.sealed == 0 {
        return Err(InvokeError::NotSealed.into());
    }
    let (bank, _) = ctx.object::<Bank>(&request.keys[0], Which::Argument(0))?;
    let (meter, _) = ctx.object::<Meter>(&request.keys[1], Which::Argument(1))?;
    let (_, image) = ctx.object::<Segment>(&factory.image, Which::Invoked)?;
    let domain = ctx.sell_domain(bank.index(), 0)?;
    let (segment, number) = ctx.sell_segment(bank.index(), image.pages)?;
    ctx.tell(Effect::CopySegment { from: image.number, to: number, pages: image.pages });
    let at = ctx.core(domain)?;
    let me = ctx.domain_mut(at);
    (me.meter, me.brand, me.entry) = (meter.as_u64(), id.as_u64(), factory.entry);
    for (slot, key) in (0..SLOTS - 2).zip(components(ctx, &factory)?) {
        if !key.is_null() {
            ctx.set_slot(at, slot, key)?;
        }
    }
    for (slot, key) in REQUESTOR_SLOTS.into_iter().zip([request.keys[2], request.keys[3]]) {
        ctx.set_slot(at, slot, key)?;
    }
    let memory = Key::to(KeyType::Segment, segment);
    need(&memory, Which::Invoked, Rights::READ)?;
    ctx.map(at, memory, Which::Invoked, [factory.base, 0, image.pages])?;
    ctx.begin_anew(at)?;
    Done::key(Key::start(domain, 0, 0))
}

fn holes(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (_, factory) = this(ctx, request)?;
    Done::words([factory.holes.into(), factory.sealed.into()])
}

fn certify(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, _) = this(ctx, request)?;
    let at = ctx.key_core(&request.keys[0], Which::Argument(0))?;
    Done::words([u64::from(ctx.domain(at).brand == id.as_u64())])
}
