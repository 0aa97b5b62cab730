//! A domain's key slots.

use super::context::{At, Ctx};
use super::error::Stop;
use super::order::{Done, Order, Request, order};
use super::{Domain, Effect, HALF, InvokeError, Key, KeyType, Rights, Slots};

/// Slots of a domain, without slot 16.
pub const SLOTS: u8 = 16;
/// Where the key that answers the last caller is put.
pub const RESUME_SLOT: u8 = 16;
/// As the slot to invoke: the domain's own slots.
pub const SELF_SLOT: u8 = 255;
/// As the slot of an argument: no key. As a slot to receive in: drop it.
pub const NO_SLOT: u8 = 255;

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["from slot", "to slot"],
        does: "Copies a key within the domain's own slots.",
        ..order(KeyType::Own, 0, "copy", Rights::NONE, copy)
    },
    Order {
        words: &["from slot", "to slot"],
        does: "Exchanges two of the domain's own slots.",
        ..order(KeyType::Own, 1, "exchange", Rights::NONE, exchange)
    },
    Order {
        words: &["slot"],
        does: "Empties one of the domain's own slots.",
        ..order(KeyType::Own, 2, "clear", Rights::NONE, clear)
    },
    Order {
        words: &["slot", "rights to keep"],
        does: "Makes the key in one of the domain's own slots weaker, whatever its type.",
        ..order(KeyType::Own, 3, "weaken", Rights::NONE, weaken)
    },
    Order {
        words: &["how: 0, or what went wrong"],
        does: "The domain ends: it is not executed any more, unless a holder of its key lets it begin anew. Those who wait for it \
               get `CalleeDied`. Does not return.",
        ..order(KeyType::Own, 4, "end", Rights::NONE, end)
    },
    Order {
        gives: &["slots"],
        does: "Which of the slots 0 to 15 hold a key, void or not: bit by bit.",
        ..order(KeyType::Own, 5, "used", Rights::NONE, used)
    },
];

/// A slot number in a word.
pub(super) fn slot_word(request: &Request, word: u8, slots: u8) -> Result<u8, InvokeError> {
    let value = request.words[usize::from(word)];
    u8::try_from(value).ok().filter(|slot| *slot < slots).ok_or(InvokeError::BadWord { word, value })
}

fn copy(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (from, to) = (slot_word(request, 0, SLOTS + 1)?, slot_word(request, 1, SLOTS + 1)?);
    let key = ctx.slot(request.invoker, from)?;
    ctx.set_slot(request.invoker, to, key)?;
    Done::nothing()
}

fn exchange(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let (from, to) = (slot_word(request, 0, SLOTS + 1)?, slot_word(request, 1, SLOTS + 1)?);
    let keys = (ctx.slot(request.invoker, from)?, ctx.slot(request.invoker, to)?);
    ctx.set_slot(request.invoker, from, keys.1)?;
    ctx.set_slot(request.invoker, to, keys.0)?;
    Done::nothing()
}

fn clear(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ctx.set_slot(request.invoker, slot_word(request, 0, SLOTS + 1)?, Key::NULL)?;
    Done::nothing()
}

fn weaken(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let slot = slot_word(request, 0, SLOTS + 1)?;
    let key = ctx.slot(request.invoker, slot)?;
    ctx.set_slot(request.invoker, slot, key.weaker(Rights::from_bits(request.words[1])))?;
    Done::nothing()
}

fn end(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let domain = ctx.id(request.invoker);
    ctx.tell(Effect::Ended { domain, code: request.words[0] });
    ctx.become_new(request.invoker)?;
    Ok(Done::Waits)
}

fn used(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let mut slots = 0;
    for slot in 0..SLOTS {
        slots |= u64::from(!ctx.slot(request.invoker, slot)?.is_null()) << slot;
    }
    Done::words([slots])
}

fn place(slot: u8) -> (usize, usize) {
    (usize::from(slot) / HALF, usize::from(slot) % HALF)
}

impl Ctx<'_, '_> {
    /// The key in a slot.
    pub(super) fn slot(&self, at: At, slot: u8) -> Result<Key, Stop> {
        match slot {
            0..SLOTS => {
                let (half, n) = place(slot);
                Ok(self.tx.get::<Slots>(self.domain(at).slots_id(half))?.keys[n])
            }
            RESUME_SLOT => Ok(self.domain(at).resume),
            _ => Err(InvokeError::BadSlot { slot }.into()),
        }
    }

    /// Puts a key into a slot; what was there is dropped.
    pub(super) fn set_slot(&mut self, at: At, slot: u8, key: Key) -> Result<(), Stop> {
        match slot {
            0..SLOTS => {
                let (half, n) = place(slot);
                let id = self.domain(at).slots_id(half);
                self.tx.modify::<Slots>(id, |slots| slots.keys[n] = key)?;
                Ok(())
            }
            RESUME_SLOT => {
                self.domain_mut(at).resume = key;
                Ok(())
            }
            _ => Err(InvokeError::BadSlot { slot }.into()),
        }
    }

    /// Puts the keys of a message or an answer where the domain wants them. Returns which were given.
    pub(super) fn receive(&mut self, at: At, keys: &[Key; 4]) -> Result<u8, Stop> {
        let accept = self.domain(at).accept;
        let mut given = 0;
        for (n, (key, slot)) in keys.iter().zip(accept).enumerate() {
            if slot == NO_SLOT {
                continue;
            }
            self.set_slot(at, slot, *key)?;
            given |= u8::from(!key.is_null()) << n;
        }
        Ok(given)
    }
}

/// That keys can be received in these slots.
pub(super) fn check_accept(accept: [u8; 4]) -> Result<(), InvokeError> {
    match accept.into_iter().find(|slot| *slot > RESUME_SLOT && *slot != NO_SLOT) {
        Some(slot) => Err(InvokeError::BadSlot { slot }),
        None => Ok(()),
    }
}

impl Domain {
    /// The key that answers its last caller.
    #[must_use]
    pub const fn resume_key(&self) -> &Key {
        &self.resume
    }
}
