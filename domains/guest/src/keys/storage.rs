//! Banks and what they sell to keep bytes and keys in.

use super::order;
use super::{Domain, Done, Factory, Key, Start, Timer, keys};
use crate::abi::MAX_STRING;
use crate::{Call, Error, Slot};

keys! {
    /// A bank: buys and frees objects within a quota.
    Bank: weaken;
    /// An array of pages.
    Segment: weaken;
    /// One page.
    Page: weaken;
    /// Sixteen keys.
    Node: weaken;
}

/// Storage: pages of the store, and records of the object table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Pages.
    pub pages: u64,
    /// Records.
    pub records: u64,
}

/// What a bank and the banks below it have, and may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// What they have.
    pub used: Quota,
    /// What they may have.
    pub allowed: Quota,
}

/// Errors of purchases: [`Error::Limit`] when a quota is used up, [`Error::NoRight`] without WRITE, [`Error::NoFreeSlot`].
impl Bank {
    fn buy<K: Key>(&self, order: u32, words: [u64; 2]) -> Result<K, Error> {
        Call::new(self.slot(), order).words(words).gives().map(K::from)
    }

    /// What it has and may have.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ.
    pub fn usage(&self) -> Result<Usage, Error> {
        let [pages, most_pages, records, most_records] = Call::new(self.slot(), order::Bank::USAGE).got()?;
        let (used, allowed) = (Quota { pages, records }, Quota { pages: most_pages, records: most_records });
        Ok(Usage { used, allowed })
    }

    /// A page of zeros.
    ///
    /// # Errors
    /// Those of purchases.
    pub fn buy_page(&self) -> Result<Page, Error> {
        self.buy(order::Bank::BUY_PAGE, [0; 2])
    }

    /// A segment of zeros, `pages` long. Its length is charged, touched or not.
    ///
    /// # Errors
    /// Those of purchases.
    pub fn buy_segment(&self, pages: u64) -> Result<Segment, Error> {
        self.buy(order::Bank::BUY_SEGMENT, [pages, 0])
    }

    /// An empty node.
    ///
    /// # Errors
    /// Those of purchases.
    pub fn buy_node(&self) -> Result<Node, Error> {
        self.buy(order::Bank::BUY_NODE, [0; 2])
    }

    /// A domain without keys, memory and meter, that never began. [`crate::Spawn`] makes one that runs.
    ///
    /// # Errors
    /// Those of purchases.
    pub fn buy_domain(&self) -> Result<Domain, Error> {
        self.buy(order::Bank::BUY_DOMAIN, [0; 2])
    }

    /// A bank below this one. It reserves nothing.
    ///
    /// # Errors
    /// Those of purchases.
    pub fn buy_bank(&self, allowed: Quota) -> Result<Self, Error> {
        self.buy(order::Bank::BUY_BANK, [allowed.pages, allowed.records])
    }

    /// A factory without components.
    ///
    /// # Errors
    /// Those of purchases.
    pub fn buy_factory(&self) -> Result<Factory, Error> {
        self.buy(order::Bank::BUY_FACTORY, [0; 2])
    }

    /// A timer.
    ///
    /// # Errors
    /// Those of purchases.
    pub fn buy_timer(&self) -> Result<Timer, Error> {
        self.buy(order::Bank::BUY_TIMER, [0; 2])
    }

    /// Frees an object that this bank sold; every key to it is void.
    ///
    /// # Errors
    /// [`Error::NotSoldHere`], [`Error::NoRight`] without WRITE.
    pub fn sell(&self, object: &impl Key) -> Result<(), Error> {
        Call::new(self.slot(), order::Bank::SELL).key(0, object.slot()).done()
    }

    /// Voids every key to an object that this bank sold, and puts a new one with all rights into `object`. Not for domains.
    ///
    /// # Errors
    /// [`Error::NotSoldHere`], [`Error::NoRight`] without MANAGE.
    pub fn renew<K: Key>(&self, object: &K) -> Result<(), Error> {
        let to = Slot::fixed(object.slot().number());
        Call::new(self.slot(), order::Bank::RENEW).key(0, object.slot()).accept_in(0, to).done()
    }

    /// Sets another quota. It may be less than what is used: then nothing can be bought.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn set_limit(&self, allowed: Quota) -> Result<(), Error> {
        Call::new(self.slot(), order::Bank::SET_LIMIT).words([allowed.pages, allowed.records]).done()
    }

    /// Frees everything that it and the banks below it sold, and itself. Answers when all of it is gone.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn destroy(self) -> Result<(), Error> {
        Call::new(self.slot(), order::Bank::DESTROY).done()
    }
}

/// Reads bytes of a page or segment, in strings.
fn read(slot: &Slot, order: u32, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
    let mut at = from;
    for part in buffer.chunks_mut(MAX_STRING) {
        let (_, came) = Call::new(slot, order).words([at, part.len() as u64]).call_into(part)?;
        at += came as u64;
    }
    Ok(())
}

/// Writes bytes of a page or segment, in strings.
fn write(slot: &Slot, order: u32, from: u64, bytes: &[u8]) -> Result<(), Error> {
    let mut at = from;
    for part in bytes.chunks(MAX_STRING) {
        Call::new(slot, order).words([at]).string(part).done()?;
        at += part.len() as u64;
    }
    Ok(())
}

impl Page {
    /// Fills `buffer` with the bytes from byte `from` on.
    ///
    /// # Errors
    /// [`Error::BadWord`] beyond the page, [`Error::NoRight`] without READ.
    pub fn read(&self, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        read(self.slot(), order::Page::READ, from, buffer)
    }

    /// Writes bytes from byte `from` on.
    ///
    /// # Errors
    /// [`Error::BadWord`] beyond the page, [`Error::NoRight`] without WRITE.
    pub fn write(&self, from: u64, bytes: &[u8]) -> Result<(), Error> {
        write(self.slot(), order::Page::WRITE, from, bytes)
    }

    /// Makes all bytes zero.
    ///
    /// # Errors
    /// [`Error::NoRight`] without WRITE.
    pub fn zero(&self) -> Result<(), Error> {
        Call::new(self.slot(), order::Page::ZERO).done()
    }
}

impl Segment {
    /// Fills `buffer` with the bytes from byte `from` on. More than [`MAX_STRING`] bytes take several calls, between which others may
    /// write.
    ///
    /// # Errors
    /// [`Error::BadWord`] beyond the end, [`Error::NoRight`] without READ.
    pub fn read(&self, from: u64, buffer: &mut [u8]) -> Result<(), Error> {
        read(self.slot(), order::Segment::READ, from, buffer)
    }

    /// Writes bytes from byte `from` on. More than [`MAX_STRING`] bytes take several calls, between which others may read.
    ///
    /// # Errors
    /// [`Error::BadWord`] beyond the end, [`Error::NoRight`] without WRITE.
    pub fn write(&self, from: u64, bytes: &[u8]) -> Result<(), Error> {
        write(self.slot(), order::Segment::WRITE, from, bytes)
    }

    /// Makes `bytes` bytes from byte `from` on zero.
    ///
    /// # Errors
    /// [`Error::BadWord`] beyond the end, [`Error::NoRight`] without WRITE.
    pub fn zero(&self, from: u64, bytes: u64) -> Result<(), Error> {
        Call::new(self.slot(), order::Segment::ZERO).words([from, bytes]).done()
    }

    /// Its length in pages.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ.
    pub fn pages(&self) -> Result<u64, Error> {
        Call::new(self.slot(), order::Segment::LENGTH).got().map(|words| words[0])
    }

    /// Makes it `pages` long: what lies beyond is gone, what is new is zeros, its bank is charged the difference.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::NoRight`] without MANAGE.
    pub fn truncate(&self, pages: u64) -> Result<(), Error> {
        Call::new(self.slot(), order::Segment::TRUNCATE).words([pages]).done()
    }

    /// Who is called when a domain faults in a mapping of it; `None`: nobody.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn set_keeper(&self, keeper: Option<&Start>) -> Result<(), Error> {
        with_keeper(self.slot(), order::Segment::SET_KEEPER, keeper)
    }
}

/// An order that takes a keeper, or none.
pub(super) fn with_keeper(slot: &Slot, order: u32, keeper: Option<&Start>) -> Result<(), Error> {
    let call = Call::new(slot, order);
    match keeper {
        Some(keeper) => call.key(0, keeper.slot()).done(),
        None => call.done(),
    }
}

impl Node {
    /// A copy of the key in a slot of the node. One that is empty gives [`Error::MissingKey`].
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ, [`Error::NoFreeSlot`].
    pub fn fetch<K: Key>(&self, slot: u8) -> Result<K, Error> {
        Call::new(self.slot(), order::Node::FETCH).words([slot.into()]).gives().map(K::from)
    }

    /// Puts a key into a slot of the node.
    ///
    /// # Errors
    /// [`Error::NoRight`] without WRITE.
    pub fn store(&self, slot: u8, key: &impl Key) -> Result<(), Error> {
        Call::new(self.slot(), order::Node::STORE).words([slot.into()]).key(0, key.slot()).done()
    }

    /// Puts a key into a slot of the node, and the key that was there into `key`.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ and WRITE.
    pub fn swap(&self, slot: u8, key: &impl Key) -> Result<(), Error> {
        let to = Slot::fixed(key.slot().number());
        let call = Call::new(self.slot(), order::Node::SWAP).words([slot.into()]);
        call.key(0, key.slot()).accept_in(0, to).done()
    }

    /// Empties all slots.
    ///
    /// # Errors
    /// [`Error::NoRight`] without WRITE.
    pub fn clear(&self) -> Result<(), Error> {
        Call::new(self.slot(), order::Node::CLEAR).done()
    }
}
