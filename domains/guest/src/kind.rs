//! What keys are and what they allow, as the kernel numbers it.

use core::fmt;

macro_rules! key_types {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a key designates.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum KeyType {
            $($(#[$doc])* $name = $number,)*
        }

        impl KeyType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type of this number; one that this crate does not know is `None`.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What `docs/objects.md` calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

key_types! {
    /// Nothing: an empty slot.
    Null = 0, "null";
    /// One page.
    Page = 1, "page";
    /// An array of pages.
    Segment = 2, "segment";
    /// Sixteen keys.
    Node = 3, "node";
    /// All of a domain.
    Domain = 4, "domain";
    /// The right to send messages to a domain.
    Start = 5, "start";
    /// The right to answer one call, once.
    Resume = 6, "resume";
    /// A budget of CPU time.
    Meter = 7, "meter";
    /// A quota of storage.
    Bank = 8, "bank";
    /// A maker of domains.
    Factory = 9, "factory";
    /// Tells what keys are.
    Discrim = 10, "discrim";
    /// Tells the time.
    Clock = 11, "clock";
    /// Wakes its waiter at a time.
    Timer = 12, "timer";
    /// Random numbers.
    Random = 13, "random";
    /// A stream to the outside.
    Console = 14, "console";
    /// The log of the runtime.
    Log = 15, "log";
    /// Asks for checkpoints and waits for them.
    Checkpoint = 16, "checkpoint";
    /// Tells of restarts.
    Restart = 17, "restart";
    /// Records that no roll-back touches.
    Journal = 18, "journal";
    /// What the program may reach outside.
    Network = 19, "network";
    /// One connection to the outside.
    Connection = 20, "connection";
    /// No key: the domain's own slots.
    Own = 255, "own";
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of rights. Each allows something, so a key with fewer of them never allows more.
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

    /// The set of these bits; bits that mean nothing are dropped.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // six bits
    pub const fn from_bits(bits: u64) -> Self {
        Self((bits & 63) as u8)
    }

    /// The bits, as messages carry them.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Those that are in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
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
