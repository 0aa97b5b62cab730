//! The table of orders: what each type of key can be asked, with what, and what is needed for it.
//!
//! It is the one place: invocations are checked and dispatched by it, and `docs/objects.md` is written from it.

use super::context::{At, Ctx};
use super::error::Stop;
use super::{Key, KeyType, Rights, Text, bank, device, domain, factory, memory, meter, network, node, slots};
use std::sync::LazyLock;

/// A key that an order takes.
#[derive(Clone, Copy, Debug)]
pub struct KeyArgument {
    /// What it is for.
    pub name: &'static str,
    /// The types that are taken; empty: any, also none.
    pub types: &'static [KeyType],
    /// The rights that it must have.
    pub rights: Rights,
}

/// One order of one type of key.
#[derive(Clone, Copy)]
pub struct Order {
    /// The type of key.
    pub on: KeyType,
    /// The order code.
    pub code: u32,
    /// What people call it.
    pub name: &'static str,
    /// The rights that the invoked key must have.
    pub rights: Rights,
    /// The words that it takes, first to last.
    pub words: &'static [&'static str],
    /// Bytes of string that it takes at most.
    pub string: u32,
    /// The keys that it takes, first to last.
    pub keys: &'static [KeyArgument],
    /// The words that it answers with.
    pub gives: &'static [&'static str],
    /// The string that it answers with; empty: none.
    pub gives_string: &'static str,
    /// The keys that it answers with.
    pub gives_keys: &'static [&'static str],
    /// What it does.
    pub does: &'static str,
    /// Its code.
    pub(super) run: Run,
}

/// An order under way: everything was checked by the table.
pub(super) struct Request {
    /// Who invokes.
    pub(super) invoker: At,
    /// The invoked key.
    pub(super) key: Key,
    /// The words.
    pub(super) words: [u64; 4],
    /// The string.
    pub(super) text: Text,
    /// Bytes of the string.
    pub(super) len: u32,
    /// The keys.
    pub(super) keys: [Key; 4],
    /// Whether the invoker can wait.
    pub(super) may_wait: bool,
}

/// What an order answers.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) words: [u64; 4],
    pub(super) text: Text,
    pub(super) keys: [Key; 4],
}

/// How an order ends.
pub(super) enum Done {
    /// With an answer.
    Answered(Reply),
    /// The invoker waits: [`Ctx::answer_wait`] ends it.
    Waits,
}

pub(super) type Run = fn(&mut Ctx<'_, '_>, &Request) -> Result<Done, Stop>;

impl Done {
    pub(super) fn nothing() -> Result<Self, Stop> {
        Ok(Self::Answered(Reply::default()))
    }

    pub(super) fn words<const N: usize>(words: [u64; N]) -> Result<Self, Stop> {
        let mut reply = Reply::default();
        reply.words[..N].copy_from_slice(&words);
        Ok(Self::Answered(reply))
    }

    pub(super) fn key(key: Key) -> Result<Self, Stop> {
        Ok(Self::Answered(Reply { keys: [key, Key::NULL, Key::NULL, Key::NULL], ..Reply::default() }))
    }

    pub(super) fn text(text: Text) -> Result<Self, Stop> {
        Ok(Self::Answered(Reply { text, ..Reply::default() }))
    }
}

/// An order without any of the optional parts.
pub(super) const fn order(on: KeyType, code: u32, name: &'static str, rights: Rights, run: Run) -> Order {
    Order {
        on,
        code,
        name,
        rights,
        words: &[],
        string: 0,
        keys: &[],
        gives: &[],
        gives_string: "",
        gives_keys: &[],
        does: "",
        run,
    }
}

/// A key of one of these types with these rights.
pub(super) const fn key_argument(name: &'static str, types: &'static [KeyType], rights: Rights) -> KeyArgument {
    KeyArgument { name, types, rights }
}

/// Any key, or none.
pub(super) const ANY: KeyArgument = key_argument("key", &[], Rights::NONE);

/// The parts of the table.
const PARTS: [&[Order]; 9] = [
    slots::ORDERS,
    memory::ORDERS,
    node::ORDERS,
    domain::ORDERS,
    meter::ORDERS,
    bank::ORDERS,
    factory::ORDERS,
    device::ORDERS,
    network::ORDERS,
];

/// Every order, by type of key.
pub fn orders() -> impl Iterator<Item = &'static Order> {
    PARTS.iter().flat_map(|part| part.iter())
}

/// Order codes below it are looked up by an array.
const CODES: usize = 32;

static BY_CODE: LazyLock<Vec<[Option<&'static Order>; CODES]>> = LazyLock::new(|| {
    let mut all = vec![[None; CODES]; 256];
    for order in orders() {
        all[order.on as usize][order.code as usize] = Some(order);
    }
    all
});

/// The order of this code on keys of this type.
pub(super) fn find(on: KeyType, code: u32) -> Option<&'static Order> {
    BY_CODE[on as usize].get(usize::try_from(code).ok()?).copied().flatten()
}
