//! Many connections served by one domain: [`Network::serve`].

use super::{Key, Network, order};
use crate::abi::MAX_STRING;
use crate::parcel::{CAME, CLOSE, END, ENDED, GONE, HEAD, Head, Heads, WANT};
use crate::{Call, Error};
use alloc::vec::Vec;

/// Bytes of a longer parcel for which a new string is not begun.
const LEAST: usize = 64;

/// A connection that [`Network::serve`] let in. None in another life of the runtime has its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer(u64);

/// What is to be sent by [`Network::serve`], in its order.
#[derive(Debug)]
pub struct Parcels {
    bytes: Vec<u8>,
    /// How many of them are in the string that is filled last.
    filled: usize,
}

impl Default for Parcels {
    fn default() -> Self {
        Self::new()
    }
}

impl Parcels {
    /// As a program begins with it: whoever was let in at the port before, by an earlier beginning of this domain, is reset.
    #[must_use]
    pub fn new() -> Self {
        let mut new = Self { bytes: Vec::new(), filled: 0 };
        new.put(Peer(0), CLOSE, &[]);
        new
    }

    /// Sends bytes. More than there is [room](Parcel::room) for is more than the connection takes: it is lost then, and told as
    /// [`Arrival::Gone`].
    pub fn send(&mut self, to: Peer, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut space = MAX_STRING - self.filled;
            if space < HEAD + rest.len().min(LEAST) {
                space = MAX_STRING;
            }
            let (piece, others) = rest.split_at(rest.len().min(space - HEAD));
            self.put(to, 0, piece);
            rest = others;
        }
    }

    /// Nothing more is sent after what was: the other side is told.
    pub fn end(&mut self, on: Peer) {
        self.put(on, END, &[]);
    }

    /// Closes it after all that was sent; nothing more is told of it.
    pub fn close(&mut self, on: Peer) {
        self.put(on, CLOSE, &[]);
    }

    /// There is more to be sent: it is told, with no bytes, when at least half of the room is free, and nothing of what comes before that.
    pub fn want_room(&mut self, on: Peer) {
        self.put(on, WANT, &[]);
    }

    #[allow(clippy::cast_possible_truncation)] // less than a string
    fn put(&mut self, to: Peer, flags: u16, bytes: &[u8]) {
        let whole = HEAD + bytes.len();
        self.filled = if self.filled + whole > MAX_STRING { whole } else { self.filled + whole };
        let head = Head { connection: to.0, len: bytes.len() as u16, flags, room: 0 };
        self.bytes.extend_from_slice(&head.to_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of the parcels from `at` on that go in one string.
    fn string(&self, at: usize) -> &[u8] {
        let rest = &self.bytes[at..];
        let mut end = 0;
        for (_, bytes) in Heads(rest) {
            let next = end + HEAD + bytes.len();
            if next > MAX_STRING {
                break;
            }
            end = next;
        }
        &rest[..end]
    }

    /// The first bytes are sent.
    fn forget(&mut self, sent: usize) {
        self.bytes.drain(..sent);
        // What is left begins a string of its own.
        self.filled = if self.bytes.is_empty() { 0 } else { MAX_STRING };
    }
}

/// What came.
#[derive(Debug, Default)]
pub struct Arrivals(Vec<u8>);

/// One thing that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival<'a> {
    /// All connections of before are gone, as after each restart of the runtime. The first answer has it, too.
    AllGone,
    /// This one is: the other side broke it off, or it was sent more than it takes. What is sent to it is dropped.
    Gone(Peer),
    /// Something of a connection.
    Parcel(Parcel<'a>),
}

/// What came of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parcel<'a> {
    /// Which.
    pub peer: Peer,
    /// What it sent; empty if there is something else to tell.
    pub bytes: &'a [u8],
    /// Bytes that it takes now: at least half of all, which is 128 KiB, unless it was told to end.
    pub room: usize,
    /// It is a new one.
    pub is_new: bool,
    /// It sends no more.
    pub is_end: bool,
}

impl Arrivals {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Arrival<'_>> {
        Heads(&self.0).map(|(head, bytes)| match (head.connection, head.flags & GONE != 0) {
            (0, _) => Arrival::AllGone,
            (connection, true) => Arrival::Gone(Peer(connection)),
            (connection, false) => Arrival::Parcel(Parcel {
                peer: Peer(connection),
                bytes,
                room: usize::try_from(head.room).unwrap_or(usize::MAX),
                is_new: head.flags & CAME != 0,
                is_end: head.flags & ENDED != 0,
            }),
        })
    }
}

impl Network {
    /// Sends what `parcels` holds on connections that this let in at a port that was granted, and waits until something came on any of
    /// them, or there is a new one; what came is in `arrivals` then. One hand-over to the kernel serves as many requests as fit into a
    /// string.
    ///
    /// ```ignore
    /// // Says to everybody what he says.
    /// let (mut parcels, mut arrivals) = (Parcels::new(), Arrivals::new());
    /// loop {
    ///     network.serve(7000, &mut parcels, &mut arrivals)?;
    ///     for arrival in arrivals.iter() {
    ///         if let Arrival::Parcel(parcel) = arrival {
    ///             parcels.send(parcel.peer, parcel.bytes);
    ///             if parcel.is_end {
    ///                 parcels.close(parcel.peer);
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Outside`] 13 if the port was not granted, [`Error::NoRight`] without READ, [`Error::Busy`] while another domain waits so
    /// at this port.
    pub fn serve(&self, port: u16, parcels: &mut Parcels, arrivals: &mut Arrivals) -> Result<(), Error> {
        arrivals.0.clear();
        let mut sent = 0;
        loop {
            let string = parcels.string(sent);
            // What comes is told when all is sent: what is said of room holds for who answers it.
            let more = sent + string.len() < parcels.bytes.len();
            let words = [port.into(), if more { 2 } else { 0 }];
            let call = Call::new(self.slot(), order::Network::SERVE).words(words).string(string);
            let served = call.call_onto(&mut arrivals.0);
            if served.is_ok() {
                sent += string.len();
            }
            if served.is_err() || !more {
                parcels.forget(sent);
                return served;
            }
        }
    }
}

const _: () = assert!(HEAD + LEAST <= MAX_STRING);
