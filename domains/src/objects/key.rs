//! Keys: what a domain holds, and all that it may do.

use crate::table::RecordId;
use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a key designates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum KeyType {
    /// Nothing: an empty slot.
    Null = 0,
    /// One page.
    Page = 1,
    /// An array of pages.
    Segment = 2,
    /// Sixteen keys.
    Node = 3,
    /// All of a domain: its slots, registers, memory map.
    Domain = 4,
    /// The right to send messages to a domain.
    Start = 5,
    /// The right to answer one call, once.
    Resume = 6,
    /// A budget of CPU time.
    Meter = 7,
    /// A quota of storage.
    Bank = 8,
    /// A maker of domains.
    Factory = 9,
    /// Tells what keys are, without using them.
    Discrim = 10,
    /// Tells the time.
    Clock = 11,
    /// Wakes its waiter at a time, restarts or not.
    Timer = 12,
    /// Random numbers.
    Random = 13,
    /// A stream to the outside.
    Console = 14,
    /// The log of the runtime.
    Log = 15,
    /// Asks for checkpoints and waits for them.
    Checkpoint = 16,
    /// Tells of restarts.
    Restart = 17,
    /// Records that no roll-back touches; the badge says whose.
    Journal = 18,
    /// What a program may reach outside; it is named by the program's number.
    Network = 19,
    /// One connection to the outside, in one life of the runtime.
    Connection = 20,
    /// No key: the holder's own slots, which it invokes by the slot number [`super::SELF_SLOT`].
    Own = 255,
}

impl KeyType {
    /// All that a slot may hold.
    pub const ALL: [Self; 21] = [
        Self::Null,
        Self::Page,
        Self::Segment,
        Self::Node,
        Self::Domain,
        Self::Start,
        Self::Resume,
        Self::Meter,
        Self::Bank,
        Self::Factory,
        Self::Discrim,
        Self::Clock,
        Self::Timer,
        Self::Random,
        Self::Console,
        Self::Log,
        Self::Checkpoint,
        Self::Restart,
        Self::Journal,
        Self::Network,
        Self::Connection,
    ];

    fn from_raw(raw: u8) -> Self {
        Self::ALL.get(usize::from(raw)).copied().unwrap_or(Self::Null)
    }

    /// What `docs/objects.md` and messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Page => "page",
            Self::Segment => "segment",
            Self::Node => "node",
            Self::Domain => "domain",
            Self::Start => "start",
            Self::Resume => "resume",
            Self::Meter => "meter",
            Self::Bank => "bank",
            Self::Factory => "factory",
            Self::Discrim => "discrim",
            Self::Clock => "clock",
            Self::Timer => "timer",
            Self::Random => "random",
            Self::Console => "console",
            Self::Log => "log",
            Self::Checkpoint => "checkpoint",
            Self::Restart => "restart",
            Self::Journal => "journal",
            Self::Network => "network",
            Self::Connection => "connection",
            Self::Own => "own",
        }
    }

    /// The rights that a key of this type can have.
    #[must_use]
    pub const fn full_rights(self) -> Rights {
        let bits = match self {
            Self::Null | Self::Own => 0,
            Self::Page | Self::Timer | Self::Console | Self::Checkpoint | Self::Journal | Self::Network => {
                Rights::READ.0 | Rights::WRITE.0
            }
            Self::Connection => Rights::READ.0 | Rights::WRITE.0 | Rights::MANAGE.0,
            Self::Segment => Rights::READ.0 | Rights::WRITE.0 | Rights::CALL.0 | Rights::MANAGE.0,
            Self::Node => Rights::READ.0 | Rights::WRITE.0 | Rights::STRONG.0,
            Self::Domain | Self::Meter => Rights::READ.0 | Rights::MANAGE.0,
            Self::Start => Rights::CALL.0 | Rights::SEND.0,
            Self::Resume => Rights::SEND.0,
            Self::Bank => Rights::READ.0 | Rights::WRITE.0 | Rights::MANAGE.0,
            Self::Factory => Rights::READ.0 | Rights::CALL.0 | Rights::MANAGE.0,
            Self::Discrim | Self::Clock | Self::Random | Self::Restart => Rights::READ.0,
            Self::Log => Rights::WRITE.0,
        };
        Rights(bits)
    }

    /// Whether keys of this type name a record.
    #[must_use]
    pub const fn has_record(self) -> bool {
        !matches!(
            self,
            Self::Null
                | Self::Own
                | Self::Discrim
                | Self::Clock
                | Self::Random
                | Self::Log
                | Self::Checkpoint
                | Self::Restart
                | Self::Journal
                | Self::Network
                | Self::Connection
        )
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of rights. Each bit allows something, so a subset never allows more.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);
    /// See the content or state.
    pub const READ: Self = Self(1);
    /// Change the content; buy from a bank.
    pub const WRITE: Self = Self(2);
    /// Wait for an answer; have a segment's keeper called by a fault; have a factory make.
    pub const CALL: Self = Self(4);
    /// What is fetched through it keeps its rights. Without it the key is weak.
    pub const STRONG: Self = Self(8);
    /// Send a message.
    pub const SEND: Self = Self(16);
    /// Change the object itself: its size, keeper, quota, budget, components; end it.
    pub const MANAGE: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::READ, "READ"),
        (Self::WRITE, "WRITE"),
        (Self::CALL, "CALL"),
        (Self::STRONG, "STRONG"),
        (Self::SEND, "SEND"),
        (Self::MANAGE, "MANAGE"),
    ];

    /// The set of these bits; unknown bits are dropped.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // six bits
    pub const fn from_bits(bits: u64) -> Self {
        Self((bits & 63) as u8)
    }

    /// The bits, as told to domains.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in Self::NAMES.iter().filter(|(right, _)| self.contains(*right)) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// A key, as it lies in a slot. All bits zero is the null key.
#[derive(Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Key {
    raw_type: u8,
    raw_rights: u8,
    zero: u16,
    epoch: u32,
    index: u32,
    version: u32,
    badge: u64,
}

/// A connection to the outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionId {
    /// The number of the program that it belongs to.
    pub program: u32,
    /// The life of the runtime, or what 32 bits of its id tell of it.
    pub life: u32,
    /// Its number among the program's of that life.
    pub number: u64,
}

/// Bytes of a key.
pub const KEY_BYTES: usize = 24;
const _: () = assert!(size_of::<Key>() == KEY_BYTES);

impl Key {
    /// No key.
    pub const NULL: Self = Self { raw_type: 0, raw_rights: 0, zero: 0, epoch: 0, index: 0, version: 0, badge: 0 };

    /// A key to the object `id`, with all rights.
    #[must_use]
    pub const fn to(key_type: KeyType, id: RecordId) -> Self {
        let (index, version) = (id.index(), id.version());
        Self { raw_type: key_type as u8, raw_rights: key_type.full_rights().0, index, version, ..Self::NULL }
    }

    /// A key to what has no record: discrim, clock, random, log, checkpoint, restart, journal, network, connection.
    #[must_use]
    pub const fn device(key_type: KeyType) -> Self {
        assert!(!key_type.has_record(), "this type of key names a record");
        Self::to(key_type, RecordId::NONE)
    }

    /// A journal key by which the records of `writer` are written and read.
    #[must_use]
    pub const fn journal(writer: u64) -> Self {
        Self { badge: writer, ..Self::device(KeyType::Journal) }
    }

    /// What the program of this number may reach.
    #[must_use]
    pub const fn network(program: u64) -> Self {
        Self { badge: program, ..Self::device(KeyType::Network) }
    }

    /// Connection `number` of a program, which is there in this life of the runtime and in no other.
    #[must_use]
    pub const fn connection(of: ConnectionId) -> Self {
        Self { index: of.program, epoch: of.life, badge: of.number, ..Self::device(KeyType::Connection) }
    }

    /// Which connection a connection key is to.
    #[must_use]
    pub const fn connection_id(&self) -> ConnectionId {
        ConnectionId { program: self.index, life: self.epoch, number: self.badge }
    }

    /// A start key to the domain `id` with this badge.
    #[must_use]
    pub const fn start(id: RecordId, epoch: u32, badge: u64) -> Self {
        Self { epoch, badge, ..Self::to(KeyType::Start, id) }
    }

    /// The key that answers call `serial` of the domain `id`.
    #[must_use]
    pub const fn resume(id: RecordId, serial: u64) -> Self {
        Self { badge: serial, ..Self::to(KeyType::Resume, id) }
    }

    /// What it designates. A type that no program knows is none.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        KeyType::from_raw(self.raw_type)
    }

    /// Whether the slot is empty.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        self.raw_type == 0
    }

    /// What its holder may do.
    #[must_use]
    pub fn rights(&self) -> Rights {
        Rights(self.raw_rights).and(self.key_type().full_rights())
    }

    /// The object's record.
    #[must_use]
    pub const fn id(&self) -> RecordId {
        RecordId::from_u64((self.version as u64) << 32 | self.index as u64)
    }

    /// The start epoch, or the life, that it was made in.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The badge of a start key, the serial of a resume key, the writer of a journal key, the program of a network key, the number of a
    /// connection.
    #[must_use]
    pub const fn badge(&self) -> u64 {
        self.badge
    }

    /// The same key with no rights but those in `mask`.
    #[must_use]
    pub const fn weaker(mut self, mask: Rights) -> Self {
        self.raw_rights &= mask.0;
        self
    }

    /// What comes out when this key is fetched through a weak one.
    #[must_use]
    pub fn sensed(self) -> Self {
        match self.key_type() {
            KeyType::Page | KeyType::Segment | KeyType::Node => self.weaker(Rights::READ),
            KeyType::Discrim => self,
            _ => Self::NULL,
        }
    }

    /// Whether whoever holds it has no way to send anything through it: what a confined domain may be given.
    /// A factory key is judged by the factory.
    #[must_use]
    pub fn is_discreet(&self) -> bool {
        match self.key_type() {
            KeyType::Page | KeyType::Segment | KeyType::Node => Rights::READ.contains(self.rights()),
            KeyType::Null | KeyType::Discrim | KeyType::Clock | KeyType::Random | KeyType::Restart => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key_type())?;
        if self.key_type().has_record() {
            write!(f, " {:?}", self.id())?;
        }
        write!(f, " {:?}", self.rights())?;
        if self.badge != 0 { write!(f, " badge {}", self.badge) } else { Ok(()) }
    }
}
