//! Pages and segments.

use super::context::Ctx;
use super::error::Stop;
use super::order::{Done, Order, Request, key_argument, order};
use super::{Effect, InvokeError, KeyType, MAX_STRING, Page, Place, Rights, Segment, Text, Which};

const PAGE_BYTES: u64 = semper_store::PAGE_SIZE as u64;

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["rights to keep"],
        gives_keys: &["page"],
        does: "A weaker key to the same page.",
        ..order(KeyType::Page, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        words: &["first byte", "bytes"],
        gives_string: "the bytes",
        does: "Reads bytes.",
        ..order(KeyType::Page, 1, "read", Rights::READ, read)
    },
    Order {
        words: &["first byte"],
        string: MAX_STRING,
        does: "Writes bytes.",
        ..order(KeyType::Page, 2, "write", Rights::WRITE, write)
    },
    Order { does: "Makes all bytes zero.", ..order(KeyType::Page, 3, "zero", Rights::WRITE, zero) },
    Order {
        words: &["rights to keep"],
        gives_keys: &["segment"],
        does: "A weaker key to the same segment. Without WRITE it is read-only; without CALL a fault through it never calls \
               the segment's keeper.",
        ..order(KeyType::Segment, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        words: &["first byte", "bytes"],
        gives_string: "the bytes",
        does: "Reads bytes.",
        ..order(KeyType::Segment, 1, "read", Rights::READ, read)
    },
    Order {
        words: &["first byte"],
        string: MAX_STRING,
        does: "Writes bytes.",
        ..order(KeyType::Segment, 2, "write", Rights::WRITE, write)
    },
    Order {
        words: &["first byte", "bytes"],
        does: "Makes bytes zero.",
        ..order(KeyType::Segment, 3, "zero", Rights::WRITE, zero)
    },
    Order { gives: &["pages"], does: "Its length.", ..order(KeyType::Segment, 4, "length", Rights::READ, length) },
    Order {
        words: &["pages"],
        does: "Another length. Pages beyond it are gone; new ones are zeros. The difference is charged to its bank.",
        ..order(KeyType::Segment, 5, "truncate", Rights::MANAGE, truncate)
    },
    Order {
        keys: &[key_argument("keeper", &[KeyType::Start, KeyType::Null], Rights::NONE)],
        does: "Who is called when a domain faults in a mapping of the segment; no key: nobody.",
        ..order(KeyType::Segment, 6, "set keeper", Rights::MANAGE, set_keeper)
    },
];

/// The object's bytes: where they begin and how many there are.
fn bytes(ctx: &Ctx<'_, '_>, request: &Request) -> Result<(Place, u64), Stop> {
    if request.key.key_type() == KeyType::Page {
        let (id, _) = ctx.object::<Page>(&request.key, Which::Invoked)?;
        return Ok((ctx.page_place(id), PAGE_BYTES));
    }
    let (_, segment) = ctx.object::<Segment>(&request.key, Which::Invoked)?;
    Ok((Place { segment: segment.number, offset: 0 }, segment.pages * PAGE_BYTES))
}

/// The place of `len` bytes from the one that word 0 says. `word` is what to blame for a length that is too large.
fn range(ctx: &Ctx<'_, '_>, request: &Request, len: u64, word: u8) -> Result<Place, Stop> {
    let (place, size) = bytes(ctx, request)?;
    let first = request.words[0];
    if first > size {
        return Err(InvokeError::BadWord { word: 0, value: first }.into());
    }
    if len > size - first {
        return Err(InvokeError::BadWord { word, value: request.words[usize::from(word)] }.into());
    }
    Ok(Place { offset: place.offset + first, ..place })
}

fn read(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let value = request.words[1];
    let bad = InvokeError::BadWord { word: 1, value };
    let len = u32::try_from(value).ok().filter(|len| *len <= MAX_STRING).ok_or(bad)?;
    let place = range(ctx, request, value, 1)?;
    Done::text(if len == 0 { Text::Empty } else { Text::Stored { place, len } })
}

fn write(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let place = range(ctx, request, request.len.into(), 0)?;
    if request.len != 0 {
        ctx.tell(Effect::Write { place, text: request.text });
    }
    Done::nothing()
}

fn zero(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    if request.key.key_type() == KeyType::Page {
        let (place, len) = bytes(ctx, request)?;
        ctx.tell(Effect::Zero { place, len });
        return Done::nothing();
    }
    let len = request.words[1];
    let place = range(ctx, request, len, 1)?;
    ctx.tell(Effect::Zero { place, len });
    Done::nothing()
}

fn length(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    Done::words([ctx.object::<Segment>(&request.key, Which::Invoked)?.1.pages])
}

fn truncate(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, segment) = ctx.object::<Segment>(&request.key, Which::Invoked)?;
    ctx.resize(id, segment, request.words[0])?;
    Done::nothing()
}

fn set_keeper(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (id, mut segment) = ctx.object::<Segment>(&request.key, Which::Invoked)?;
    segment.keeper = request.keys[0];
    ctx.tx.update(id, &segment)?;
    Done::nothing()
}
