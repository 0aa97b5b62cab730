//! Nodes: sixteen keys.

use super::context::Ctx;
use super::error::Stop;
use super::order::{ANY, Done, Order, Request, order};
use super::slots::{SLOTS, slot_word};
use super::{HALF, Key, KeyType, Node, NodeHalf, Rights, Which};
use crate::table::RecordId;

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["rights to keep"],
        gives_keys: &["node"],
        does: "A weaker key to the same node. Without WRITE it is fetch-only; without STRONG it is weak: a page, segment or \
               node key fetched through it comes out with READ at most, a discrim key as it is, any other as no key.",
        ..order(KeyType::Node, 0, "weaken", Rights::NONE, weaken)
    },
    Order {
        words: &["slot"],
        gives_keys: &["key"],
        does: "A copy of the key in a slot.",
        ..order(KeyType::Node, 1, "fetch", Rights::READ, fetch)
    },
    Order {
        words: &["slot"],
        keys: &[ANY],
        does: "Puts a key into a slot; no key empties it.",
        ..order(KeyType::Node, 2, "store", Rights::WRITE, store)
    },
    Order {
        words: &["slot"],
        keys: &[ANY],
        gives_keys: &["key"],
        does: "Puts a key into a slot and gives the one that was there.",
        ..order(KeyType::Node, 3, "swap", Rights::READ.or(Rights::WRITE), swap)
    },
    Order { does: "Empties all slots.", ..order(KeyType::Node, 4, "clear", Rights::WRITE, clear) },
];

/// The weaker key of every type of key that has the order.
pub(super) fn weaken(_: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    Done::key(request.key.weaker(Rights::from_bits(request.words[0])))
}

/// A key as it comes out through the invoked node key.
fn fetched(request: &Request, key: Key) -> Key {
    if request.key.rights().contains(Rights::STRONG) { key } else { key.sensed() }
}

fn fetch(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (slot, node) = place(ctx, request)?;
    let key = if slot < HALF { node.1.keys[slot] } else { second(ctx, &node.1)?.1.keys[slot - HALF] };
    Done::key(fetched(request, key))
}

fn store(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    replace(ctx, request)?;
    Done::nothing()
}

fn swap(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let old = replace(ctx, request)?;
    Done::key(fetched(request, old))
}

fn clear(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut node) = ctx.object::<Node>(&request.key, Which::Invoked)?;
    let (second_id, mut half) = second(ctx, &node)?;
    (node.keys, half.keys) = ([Key::NULL; HALF], [Key::NULL; HALF]);
    ctx.tx.update(id, &node)?;
    ctx.tx.update(second_id, &half)?;
    Done::nothing()
}

fn place(ctx: &Ctx<'_, '_>, request: &Request) -> Result<(usize, (RecordId, Node)), Stop> {
    let slot = slot_word(request, 0, SLOTS)?;
    Ok((usize::from(slot), ctx.object(&request.key, Which::Invoked)?))
}

fn second(ctx: &Ctx<'_, '_>, node: &Node) -> Result<(RecordId, NodeHalf), Stop> {
    let id = RecordId::from_u64(node.second);
    Ok((id, ctx.tx.get(id)?))
}

/// Puts argument 0 into a slot; returns what was there.
fn replace(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Key, Stop> {
    let (slot, (id, node)) = place(ctx, request)?;
    let key = request.keys[0];
    if slot < HALF {
        let mut new = node;
        let old = std::mem::replace(&mut new.keys[slot], key);
        ctx.tx.put(id, &node, &new)?;
        return Ok(old);
    }
    let (id, half) = second(ctx, &node)?;
    let mut new = half;
    let old = std::mem::replace(&mut new.keys[slot - HALF], key);
    ctx.tx.put(id, &half, &new)?;
    Ok(old)
}
