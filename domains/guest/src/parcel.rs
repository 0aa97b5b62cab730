//! Parcels: what a domain and the kernel hand each other by the network order *serve*. The kernel includes this file too.
//!
//! A string of parcels is one after the other, without anything between: a [`Head`] of [`HEAD`] bytes, least byte first, and as many
//! bytes as it says.
//!
//! ```text
//! 0          8     10     12     16
//! connection | len | flags | room | bytes...
//! ```

/// Bytes of a head.
pub const HEAD: usize = 16;

/// Of a parcel that the kernel gives: a new connection.
pub const CAME: u16 = 1;
/// The other side sends no more.
pub const ENDED: u16 = 2;
/// Nothing can be sent on it any more, and nothing comes; of connection 0: so it is with all that there were before.
pub const GONE: u16 = 4;

/// Of a parcel that a domain gives: nothing more is sent after these bytes.
pub const END: u16 = 1;
/// It is closed after these bytes; of connection 0: all that were let in at the port are reset.
pub const CLOSE: u16 = 2;
/// It is to be told when at least half of the room is free, and before that nothing that comes.
pub const WANT: u16 = 4;

/// What stands before the bytes of a parcel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// The number of the connection, which none in another life of the runtime has.
    pub connection: u64,
    /// Bytes that follow.
    pub len: u16,
    /// What else there is to say.
    pub flags: u16,
    /// Of one that the kernel gives: bytes that the connection takes now. Zero of one that a domain gives.
    pub room: u32,
}

impl Head {
    /// As it lies in a string.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; HEAD] {
        let all =
            self.connection as u128 | (self.len as u128) << 64 | (self.flags as u128) << 80 | (self.room as u128) << 96;
        all.to_le_bytes()
    }

    /// The reverse of [`Head::to_bytes`].
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // its parts
    pub const fn from_bytes(bytes: [u8; HEAD]) -> Self {
        let all = u128::from_le_bytes(bytes);
        Self { connection: all as u64, len: (all >> 64) as u16, flags: (all >> 80) as u16, room: (all >> 96) as u32 }
    }

    /// Whether a domain may give it.
    #[must_use]
    pub const fn is_of_domain(&self) -> bool {
        let known = self.flags & !(END | CLOSE | WANT) == 0 && self.room == 0;
        known && (self.connection != 0 || self.flags == CLOSE && self.len == 0)
    }
}

/// The parcels of a string, up to its end or to where it holds none.
#[derive(Clone, Debug)]
pub struct Heads<'a>(pub &'a [u8]);

impl<'a> Iterator for Heads<'a> {
    type Item = (Head, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk()?;
        let head = Head::from_bytes(*head);
        let (bytes, rest) = rest.split_at_checked(head.len.into())?;
        self.0 = rest;
        Some((head, bytes))
    }
}

/// Whether a string is of parcels that a domain may give, from its first byte to its last.
#[must_use]
pub fn are_of_domain(string: &[u8]) -> bool {
    let mut heads = Heads(string);
    heads.by_ref().all(|(head, _)| head.is_of_domain()) && heads.0.is_empty()
}
