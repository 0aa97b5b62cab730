//! The records of segment 0 that objects are. `docs/decisions/0300-objects-and-keys.md` says why they are as they are.

use super::Key;
use crate::table::{FIRST_UNLISTED_KIND, Record, RecordId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A link that leads nowhere.
pub const NO_LINK: u32 = u32::MAX;

/// As the link of whom a domain waits for: something outside the table.
pub const OUTSIDE: u32 = u32::MAX - 1;

/// Keys in one record: half of a node, half of a domain's slots.
pub const HALF: usize = 8;

macro_rules! record {
    ($(#[$doc:meta])* $name:ident, $kind:expr, $label:literal,
     { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Record for $name {
            const KIND: u16 = $kind;
            const NAME: &'static str = $label;
        }

        const _: () = assert!(size_of::<$name>() <= 240, "it fits a record of segment 0");
    };
}

/// Where an object is in the list of what its bank sold: how every such object's record begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Owned {
    /// The bank that sold it; none for the prime bank.
    pub bank: u32,
    /// The next one in the bank's list.
    pub next: u32,
    /// The one before it.
    pub previous: u32,
    /// 0.
    pub zero: u32,
}

impl Owned {
    /// In no list.
    pub const NONE: Self = Self { bank: NO_LINK, next: NO_LINK, previous: NO_LINK, zero: 0 };
}

/// A place in a tree of alarms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Alarm {
    /// When, in nanoseconds of the world's monotonic clock; 0: not set.
    pub at: u64,
    /// Earlier ones.
    pub left: u32,
    /// Later ones.
    pub right: u32,
}

/// An amount of storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Storage {
    /// Pages of the store.
    pub pages: u64,
    /// Records of segment 0.
    pub records: u64,
}

record! {
    /// What is one of a kind.
    Hub, 16, "hub", {
        /// The number of the next new segment.
        next_segment: u64,
        /// The segment whose pages the page objects are.
        pool: u64,
        /// Mixed into the shape of the alarm trees, so that no guest can choose it.
        salt: u64,
        /// The prime bank.
        bank: u64,
        /// The prime meter.
        meter: u64,
        /// First of what is being taken apart.
        work: u32,
        /// Root of the deadlines of calls.
        deadlines: u32,
        /// Root of the timers.
        timers: u32,
        /// First of the domains that wait for something outside the table.
        outside: u32,
    }
}

record! {
    /// A page of the pool: the one whose index is this record's.
    Page, FIRST_UNLISTED_KIND + 17, "page", {
        /// Its bank.
        owned: Owned,
    }
}

record! {
    /// A segment of the store.
    Segment, FIRST_UNLISTED_KIND + 18, "segment object", {
        /// Its bank.
        owned: Owned,
        /// Its number in the store.
        number: u64,
        /// Pages that it has.
        pages: u64,
        /// Called by a fault in a mapping of it.
        keeper: Key,
    }
}

record! {
    /// The first half of a node.
    Node, FIRST_UNLISTED_KIND + 19, "node", {
        /// Its bank.
        owned: Owned,
        /// The second half.
        second: u64,
        /// Slots 0 to 7.
        keys: [Key; HALF],
    }
}

record! {
    /// The second half of a node.
    NodeHalf, FIRST_UNLISTED_KIND + 20, "second half of a node", {
        /// The first half.
        first: u64,
        /// Slots 8 to 15.
        keys: [Key; HALF],
    }
}

record! {
    /// The core of a domain.
    Domain, FIRST_UNLISTED_KIND + 21, "domain object", {
        /// Its bank.
        owned: Owned,
        /// A [`super::Phase`].
        phase: u8,
        /// Bits below.
        flags: u8,
        /// 0.
        zero: u16,
        /// Where the keys of the next message or answer go.
        accept: [u8; 4],
        /// Calls made; the serial of the one it waits in.
        serial: u64,
        /// Whom it waits for: the queue or the accepted list that it is in.
        waits_on: u32,
        /// The next in that list.
        next: u32,
        /// The one before it.
        previous: u32,
        /// Who waits for it to become available: the first.
        queue_head: u32,
        /// The last.
        queue_tail: u32,
        /// Whose calls it took and did not answer yet: the first.
        accepted: u32,
        /// Slot 16: the key that answers the last caller.
        resume: Key,
        /// Called by its faults.
        keeper: Key,
        /// Slots 0 to 7, 8 to 15.
        slots: [u64; 2],
        /// The message it is sending.
        pending: u64,
        /// What its CPU time is charged to.
        meter: u64,
        /// When its call is given up.
        deadline: Alarm,
        /// The factory that made it, if one did.
        brand: u64,
        /// The record of its personality, if it has one.
        program: u64,
        /// CPU time used, nanoseconds.
        cpu: u64,
        /// The segment of its control pages; 0: the personality's.
        control: u64,
        /// Where it begins: instruction pointer, stack pointer, first argument.
        entry: [u64; 3],
        /// Its mappings: the first.
        mappings: u32,
        /// How many.
        mapping_count: u32,
        /// Start keys of other epochs are void.
        start_epoch: u32,
        /// In the work list: the next.
        work_next: u32,
        /// In the work list: the one before.
        work_previous: u32,
        /// 0.
        zero2: u32,
    }
}

/// It is not executed.
pub const STOPPED: u8 = 1;
/// The call that it waits in was made by a fault of it.
pub const IN_FAULT: u8 = 2;
/// Those who wait for it are being told that it starts anew.
pub const SEVERING: u8 = 4;
/// It is in the work list.
pub const LISTED: u8 = 8;

record! {
    /// Half of a domain's slots.
    Slots, FIRST_UNLISTED_KIND + 22, "key slots", {
        /// The keys.
        keys: [Key; HALF],
    }
}

record! {
    /// The message that a domain is sending, while it must wait.
    Pending, FIRST_UNLISTED_KIND + 23, "pending message", {
        /// Its order code.
        order: u32,
        /// Bytes of its string, which stays in the sender's control pages.
        string_len: u32,
        /// The badge of the start key.
        badge: u64,
        /// The words.
        words: [u64; 4],
        /// The keys.
        keys: [Key; 4],
        /// A [`super::PendingKind`].
        kind: u8,
        /// 0.
        zero: [u8; 7],
    }
}

record! {
    /// A budget of CPU time.
    Meter, FIRST_UNLISTED_KIND + 24, "meter", {
        /// Its bank.
        owned: Owned,
        /// The meter that is charged too; 0 for the prime meter.
        parent: u64,
        /// Nanoseconds left; `u64::MAX`: no limit.
        budget: u64,
        /// Nanoseconds used.
        used: u64,
        /// Called when it is used up.
        keeper: Key,
        /// Meters above it.
        depth: u32,
        /// 0.
        zero: u32,
    }
}

record! {
    /// A quota of storage.
    Bank, FIRST_UNLISTED_KIND + 25, "bank", {
        /// The bank above it.
        owned: Owned,
        /// What it and the banks below may have.
        limit: Storage,
        /// What they have.
        used: Storage,
        /// Who waits for its end, and in which call.
        waiter: u64,
        /// The serial of that call.
        waiter_serial: u64,
        /// What it sold: the first.
        sold: u32,
        /// Banks above it.
        depth: u32,
        /// In the work list: the next.
        work_next: u32,
        /// In the work list: the one before.
        work_previous: u32,
        /// 1: it is being taken apart. 2: it is in the work list.
        flags: u32,
        /// 0.
        zero: u32,
    }
}

/// The bank is being taken apart.
pub const BANK_DYING: u32 = 1;
/// The bank is in the work list.
pub const BANK_LISTED: u32 = 2;

record! {
    /// A maker of domains.
    Factory, FIRST_UNLISTED_KIND + 26, "factory", {
        /// Its bank.
        owned: Owned,
        /// Its components.
        components: [u64; 2],
        /// What its products' memory is a copy of.
        image: Key,
        /// Where they begin: instruction, stack, argument.
        entry: [u64; 3],
        /// Where the image lies in them: the first page.
        base: u64,
        /// Components that a product could send outward by.
        holes: u32,
        /// 1: sealed.
        sealed: u32,
    }
}

record! {
    /// Half of a factory's components.
    Components, FIRST_UNLISTED_KIND + 27, "factory components", {
        /// The keys.
        keys: [Key; HALF],
    }
}

record! {
    /// A wake-up.
    Timer, FIRST_UNLISTED_KIND + 28, "timer", {
        /// Its bank.
        owned: Owned,
        /// When.
        alarm: Alarm,
        /// The last time that it went off and nobody had waited; 0: none.
        fired: u64,
        /// Who waits, and in which call.
        waiter: u64,
        /// The serial of that call.
        waiter_serial: u64,
    }
}

record! {
    /// A stream to the outside.
    Console, FIRST_UNLISTED_KIND + 29, "console", {
        /// Its bank.
        owned: Owned,
        /// Its number outside.
        number: u64,
        /// The life of the runtime that it was connected in, if it cannot outlive one; 0: it can.
        life: u64,
    }
}

record! {
    /// A piece of a domain's memory.
    Mapping, FIRST_UNLISTED_KIND + 30, "mapping", {
        /// The key by which it was mapped, to a page or segment.
        object: Key,
        /// Where in the domain: its first page.
        at: u64,
        /// Where in the object: its first page.
        offset: u64,
        /// How many.
        pages: u64,
        /// The next one of the domain.
        next: u32,
        /// 0.
        zero: u32,
    }
}

impl Domain {
    /// Whether bits of its flags are set.
    #[must_use]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it executes by itself; if not, a personality makes a Linux program of it.
    #[must_use]
    pub const fn is_native(&self) -> bool {
        self.control != 0
    }

    /// The record of its slots 0 to 7 or 8 to 15.
    #[must_use]
    pub const fn slots_id(&self, half: usize) -> RecordId {
        RecordId::from_u64(self.slots[half])
    }
}
