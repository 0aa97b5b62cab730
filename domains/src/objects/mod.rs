//! Objects, keys and invocation: the capability kernel as pure code over segment 0.
//!
//! A domain holds keys in slots, and invoking one is all that it can do. This module reads and changes the object table and
//! tells, as a list of [`Effect`]s, what has to happen outside it: which domain runs on with what message, which pages are
//! copied or dropped. It knows no process, no file and no clock of its own. `docs/decisions/0300-objects-and-keys.md` draws
//! the records, `docs/objects.md` (generated) lists every order and error.
//!
//! # Promise
//!
//! Each function here is one transaction, bounded in size: it happened wholly or not at all, whoever is killed.
//!
//! # Invariants
//!
//! * A key's rights never grow: every key that comes out of an order has the rights of one that went in, or fewer, or is
//!   to an object that the order made.
//! * A key whose object is gone, was renewed, or (resume keys) has been used, does nothing but give the error `Void`.
//! * What a bank and the banks below it sold is exactly its use, in pages and in records.
//! * A domain is in at most one list of waiters. Each call is answered once: by its callee, a holder of its resume key, its
//!   deadline, or the kernel when the callee ends.
//!
//! # What it does not do
//!
//! It never sees the bytes of a string: effects say from where to where they are copied. It does not schedule.

#![forbid(unsafe_code)]

mod alarm;
mod bank;
mod context;
mod deliver;
mod device;
mod domain;
mod effect;
mod error;
mod factory;
mod genesis;
mod invoke;
mod keeper;
mod key;
mod list;
mod memory;
mod meter;
mod network;
mod node;
mod operator;
mod order;
mod personality;
mod reap;
mod records;
mod service;
mod slots;
mod sold;
mod view;

#[cfg(test)]
mod tests;

pub use alarm::next_alarm;
pub use effect::{Answer, Delivery, Effect, JournalAsk, JournalOrder, Outcome, Place, Surroundings, Text};
pub use error::{FIRST_ERROR, InvokeError, Resource, Which};
pub use genesis::{
    Genesis, MadeProgram, NewDomain, NewProgram, begin, create, end_program, make_console, make_domain, make_program,
};
pub use invoke::{How, Invocation, invoke};
pub use key::{ConnectionId, KEY_BYTES, Key, KeyType, Rights};
pub use list::waits_outside;
pub use network::{AfterSent, NetworkAsk};
pub use operator::{sell_domain, start as start_domain, stop as stop_domain};
pub use order::{KeyArgument, Order, orders};
pub use personality::{LinuxDomain, NewLinuxDomain, end_linux, give_start, make_linux, personality_starts, withdraw};
pub use records::{
    Alarm, Bank, Components, Console, Domain, Factory, HALF, Hub, IN_FAULT, Mapping, Meter, NO_LINK, Node, NodeHalf,
    OUTSIDE, Owned, Page, Pending, SEVERING, STOPPED, Segment, Slots, Storage, Timer,
};
pub use service::{Fault, charge, complete, complete_with, expire, fault, still_waits, work};
pub use slots::{NO_SLOT, RESUME_SLOT, SELF_SLOT, SLOTS};
pub use sold::Sold;
pub use view::{mappings, slots_of};

use std::fmt;

/// Bytes of a string.
pub const MAX_STRING: u32 = 4096;
/// Keys of a message.
pub const MESSAGE_KEYS: usize = 4;
/// Banks above each other. Each purchase is charged to all of them.
pub const MAX_BANK_DEPTH: u32 = 16;
/// Meters above each other.
pub const MAX_METER_DEPTH: u32 = 16;
/// Mappings of one domain. Each new one is compared with all.
pub const MAX_MAPPINGS: u32 = 64;
const _: () = assert!(MAX_MAPPINGS as usize == crate::abi::MAX_MAPPINGS);
/// Pages of a segment.
pub const MAX_SEGMENT_PAGES: u64 = 1 << 28;
/// Objects taken apart, callers told or alarms gone off in one transaction.
pub const STEP: u32 = 64;
/// Control pages of a domain: charged to its bank.
pub const CONTROL_PAGES: u64 = crate::abi::CONTROL_PAGES;
/// The store's number of the first segment that is an object; those below are the personality's.
pub const FIRST_SEGMENT: u64 = 1 << 32;

/// What a domain is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// It never began.
    New = 0,
    /// It may execute.
    Running = 1,
    /// It waits for any message.
    Available = 2,
    /// It waits for its callee to become available.
    Queued = 3,
    /// Its message was taken; it waits for the answer.
    Waiting = 4,
    /// It stands at a fault that no keeper took.
    Faulted = 5,
    /// It is being taken apart.
    Dying = 6,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 7] =
        [Self::New, Self::Running, Self::Available, Self::Queued, Self::Waiting, Self::Faulted, Self::Dying];

    /// What messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Available => "available",
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Faulted => "faulted",
            Self::Dying => "dying",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Domain {
    /// What it is doing. A byte that is no phase (damage) counts as dying: such a domain does nothing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.phase)).copied().unwrap_or(Phase::Dying)
    }

    /// Whether the platform may execute it.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        self.phase() == Phase::Running && !self.has(STOPPED) && !self.has(SEVERING)
    }
}

/// What kind of message waits in a domain's [`Pending`] record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PendingKind {
    /// A call.
    Call = 1,
    /// A send.
    Send = 2,
    /// A call that the kernel makes for a faulting domain.
    Fault = 3,
    /// No message: what the domain waits for outside the table.
    Outside = 4,
}
