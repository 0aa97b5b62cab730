//! Keys by type, with a method for each order of `docs/objects.md`.
//!
//! A value of one of these types is a slot that the program takes to hold such a key. Nothing checks that it does: if not, the
//! kernel refuses what is asked, as [`Error::WrongOrder`] or [`Error::WrongKey`].

mod device;
mod domain;
mod network;
mod serve;
mod storage;

pub use device::{
    Appended, Checkpoint, Classified, Clock, Console, Discrim, Journal, Life, Log, Random, Record, Restart, Timer,
};
pub use domain::{Domain, DomainState, Factory, Meter, Resume, Start};
pub use network::{Connection, Network};
pub use serve::{Arrival, Arrivals, Parcel, Parcels, Peer};
pub use storage::{Bank, Node, Page, Quota, Segment, Usage};

use crate::{Answer, Call, Error, KeyType, Slot};

/// A key of a known type, or a slot that holds any.
pub trait Key: Sized + From<Slot> {
    /// Its slot.
    fn slot(&self) -> &Slot;

    /// Its slot, which goes on holding it.
    fn into_slot(self) -> Slot;

    /// The key in a well-known slot, such as those of [`abi::slot`](crate::abi::slot).
    #[must_use]
    fn at(slot: u8) -> Self {
        Self::from(Slot::fixed(slot))
    }

    /// The same key in another slot.
    ///
    /// # Errors
    /// [`Error::NoFreeSlot`].
    fn copy(&self) -> Result<Self, Error> {
        self.slot().copy().map(Self::from)
    }
}

impl Key for Slot {
    fn slot(&self) -> &Slot {
        self
    }

    fn into_slot(self) -> Slot {
        self
    }
}

/// The types of keys. `weaken` gives them order 0.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident $(: $weaken:ident)?;)*) => { $(
        $(#[$doc])*
        #[derive(PartialEq, Eq, Debug)]
        pub struct $name($crate::Slot);

        impl From<$crate::Slot> for $name {
            fn from(slot: $crate::Slot) -> Self {
                Self(slot)
            }
        }

        impl $crate::keys::Key for $name {
            fn slot(&self) -> &$crate::Slot {
                &self.0
            }

            fn into_slot(self) -> $crate::Slot {
                self.0
            }
        }

        $(
            impl $name {
                /// A weaker key to the same object, with those of these rights that this one has.
                ///
                /// # Errors
                /// [`Error::Void`], [`Error::NoFreeSlot`].
                pub fn $weaken(&self, keep: crate::Rights) -> Result<Self, Error> {
                    let call = Call::new(&self.0, crate::keys::order::$name::WEAKEN).words([keep.bits()]);
                    call.accept(0)?.call()?.key(0).map(Self)
                }
            }
        )?
    )* };
}
pub(crate) use keys;

/// Calls that have nothing to give but success.
pub(crate) trait Done {
    /// Calls.
    fn done(self) -> Result<(), Error>;
    /// Calls; the words of the answer.
    fn got(self) -> Result<[u64; 4], Error>;
    /// Calls; key 0 of the answer.
    fn gives(self) -> Result<Slot, Error>;
}

impl Done for Call<'_> {
    fn done(self) -> Result<(), Error> {
        self.call().map(drop)
    }

    fn got(self) -> Result<[u64; 4], Error> {
        self.call().map(|answer| answer.words)
    }

    fn gives(self) -> Result<Slot, Error> {
        let mut answer: Answer = self.accept(0)?.call()?;
        answer.key(0)
    }
}

macro_rules! orders {
    ($($type:ident { $($name:ident = $code:literal, $text:literal;)* })*) => {
        /// Every order that has a method: type of key, code, name. The names are those of `docs/objects.md`.
        pub const ORDERS: &[(KeyType, u32, &str)] = &[
            $($((KeyType::$type, $code, $text),)*)*
        ];

        pub(crate) mod order {
            $(#[allow(non_snake_case)] pub(crate) mod $type { $(pub(crate) const $name: u32 = $code;)* })*
        }
    };
}

orders! {
    Page { WEAKEN = 0, "weaken"; READ = 1, "read"; WRITE = 2, "write"; ZERO = 3, "zero"; }
    Segment {
        WEAKEN = 0, "weaken"; READ = 1, "read"; WRITE = 2, "write"; ZERO = 3, "zero"; LENGTH = 4, "length";
        TRUNCATE = 5, "truncate"; SET_KEEPER = 6, "set keeper";
    }
    Node { WEAKEN = 0, "weaken"; FETCH = 1, "fetch"; STORE = 2, "store"; SWAP = 3, "swap"; CLEAR = 4, "clear"; }
    Domain {
        WEAKEN = 0, "weaken"; STATE = 1, "state"; BEGIN = 2, "begin"; STOP = 3, "stop"; START = 4, "start";
        GET_REGISTERS = 5, "get registers"; SET_REGISTERS = 6, "set registers"; GET_SLOT = 7, "get slot";
        SET_SLOT = 8, "set slot"; SET_KEEPER = 9, "set keeper"; SET_METER = 10, "set meter";
        MAKE_START_KEY = 11, "make start key"; REVOKE_START_KEYS = 12, "revoke start keys"; MAP = 13, "map";
        UNMAP = 14, "unmap";
    }
    Meter {
        WEAKEN = 0, "weaken"; READ = 1, "read"; GRANT = 2, "grant"; SET = 3, "set"; MAKE = 4, "make";
        SET_KEEPER = 5, "set keeper";
    }
    Bank {
        WEAKEN = 0, "weaken"; USAGE = 1, "usage"; BUY_PAGE = 2, "buy page"; BUY_SEGMENT = 3, "buy segment";
        BUY_NODE = 4, "buy node"; BUY_DOMAIN = 5, "buy domain"; BUY_BANK = 6, "buy bank"; BUY_FACTORY = 7, "buy factory";
        BUY_TIMER = 8, "buy timer"; SELL = 9, "sell"; RENEW = 10, "renew"; SET_LIMIT = 11, "set limit";
        DESTROY = 12, "destroy";
    }
    Factory {
        WEAKEN = 0, "weaken"; INSTALL = 1, "install"; SET_IMAGE = 2, "set image"; SEAL = 3, "seal"; MAKE = 4, "make";
        HOLES = 5, "holes"; CERTIFY = 6, "certify";
    }
    Discrim { CLASSIFY = 1, "classify"; COMPARE = 2, "compare"; }
    Clock { MONOTONIC = 1, "monotonic"; WALL = 2, "wall"; }
    Timer { WEAKEN = 0, "weaken"; SET = 1, "set"; WAIT = 2, "wait"; READ = 3, "read"; }
    Random { WORDS = 1, "words"; BYTES = 2, "bytes"; }
    Console { WEAKEN = 0, "weaken"; WRITE = 1, "write"; READ = 2, "read"; }
    Log { WRITE = 1, "write"; }
    Checkpoint { REQUEST = 1, "request"; WAIT = 2, "wait"; NEWEST = 3, "newest"; }
    Restart { READ = 1, "read"; WHEN = 2, "when"; }
    Journal { WEAKEN = 0, "weaken"; APPEND = 1, "append"; FIND = 2, "find"; LAST = 3, "last"; NEXT = 4, "next"; }
    Network { WEAKEN = 0, "weaken"; ACCEPT = 1, "accept"; CONNECT = 2, "connect"; SERVE = 3, "serve"; }
    Connection {
        WEAKEN = 0, "weaken"; SEND = 1, "send"; RECEIVE = 2, "receive"; SHUT_DOWN = 3, "shut down"; CLOSE = 4, "close";
    }
    Own { COPY = 0, "copy"; EXCHANGE = 1, "exchange"; CLEAR = 2, "clear"; WEAKEN = 3, "weaken"; END = 4, "end"; USED = 5, "used"; }
}
