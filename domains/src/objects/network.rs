//! Network and connection keys: what a program may reach outside, and what it has reached.
//!
//! A network key has the number of a program, whose grants say what can be reached. A connection key has no record: it names a connection of
//! the host's by life and number, so that a restart voids it by itself and nothing has to be taken back when domains die. Every order
//! waits for the platform, which alone knows what became of a connection.

use super::context::Ctx;
use super::error::Stop;
use super::list::Outside;
use super::order::{Done, Order, Request, order};
use super::{ConnectionId, InvokeError, KeyType, MAX_STRING, Rights};

/// What a domain asks of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // what the orders say
pub enum NetworkAsk {
    /// The next connection that comes to a port.
    Accept { program: u64, port: u16 },
    /// A connection to an IPv4 address.
    Connect { program: u64, address: u32, port: u16 },
    /// Sends the parcels of the string of the invoker's message, and then what came on the connections that this let in at a port.
    Serve { program: u64, port: u16, len: u32, then: AfterSent },
    /// Takes of the string of the invoker's message what there is room for.
    Send { on: ConnectionId, len: u32 },
    /// Bytes that came.
    Receive { on: ConnectionId, len: u32 },
    /// Nothing more is sent.
    ShutDown { on: ConnectionId },
    /// It ends.
    Close { on: ConnectionId },
}

/// What follows when a domain that serves has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterSent {
    /// It waits until there is something to tell.
    Waits,
    /// It is told what there is.
    Looks,
    /// It is told nothing.
    Goes,
}

impl AfterSent {
    const fn from_word(word: u64) -> Option<Self> {
        match word {
            0 => Some(Self::Waits),
            1 => Some(Self::Looks),
            2 => Some(Self::Goes),
            _ => None,
        }
    }
}

const ADDRESS: &str = "IPv4 address, its first byte the highest";

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["rights to keep"],
        gives_keys: &["network"],
        does: "A weaker key to the same network: READ lets in, WRITE connects.",
        ..order(KeyType::Network, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        words: &["port"],
        gives: &["its IPv4 address", "its port"],
        gives_keys: &["connection"],
        does: "Waits for the next connection to a port that was granted, over restarts.",
        ..order(KeyType::Network, 1, "accept", Rights::READ, accept)
    },
    Order {
        words: &[ADDRESS, "port"],
        gives_keys: &["connection"],
        does: "Connects to an address that was granted, and waits until that is done.",
        ..order(KeyType::Network, 2, "connect", Rights::WRITE, connect)
    },
    Order {
        words: &["port", "1: does not wait; 2: only sends"],
        string: MAX_STRING,
        gives_string: "parcels: what came",
        does: "Serves many connections at once: sends the parcels of the string, and waits until something came on a connection that this \
               order let in at the port, or there is a new one, or one ended, or one has room again. What is sent leaves when a durable \
               generation contains it. One domain can wait for each port. What a parcel is: `docs/network.md`.",
        ..order(KeyType::Network, 3, "serve", Rights::READ, serve)
    },
    Order {
        words: &["rights to keep"],
        gives_keys: &["connection"],
        does: "A weaker key to the same connection.",
        ..order(KeyType::Connection, 0, "weaken", Rights::NONE, super::node::weaken)
    },
    Order {
        string: MAX_STRING,
        gives: &["bytes taken"],
        does: "Takes what there is room for, and waits for room if there is none. It leaves when a durable generation contains it.",
        ..order(KeyType::Connection, 1, "send", Rights::WRITE, send)
    },
    Order {
        words: &["bytes"],
        gives_string: "what came; empty: its end",
        does: "Waits for something to come, and gives at most so many bytes of it.",
        ..order(KeyType::Connection, 2, "receive", Rights::READ, receive)
    },
    Order {
        does: "Nothing more is sent: the other side is told after all that was.",
        ..order(KeyType::Connection, 3, "shut down", Rights::WRITE, shut_down)
    },
    Order {
        does: "Ends it after all that was sent. What is asked by any key to it then is `Rescinded`; to close it again is none.",
        ..order(KeyType::Connection, 4, "close", Rights::MANAGE, close)
    },
];

fn ask(ctx: &mut Ctx<'_, '_>, request: &Request, ask: NetworkAsk) -> Result<Done, Stop> {
    if !request.may_wait {
        return Err(InvokeError::WouldWait.into());
    }
    ctx.wait_outside(request.invoker, Outside::Network(ask))?;
    Ok(Done::Waits)
}

fn port(request: &Request, word: u8) -> Result<u16, InvokeError> {
    let value = request.words[usize::from(word)];
    u16::try_from(value).ok().filter(|port| *port != 0).ok_or(InvokeError::BadWord { word, value })
}

fn accept(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask(ctx, request, NetworkAsk::Accept { program: request.key.badge(), port: port(request, 0)? })
}

fn connect(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let value = request.words[0];
    let address = u32::try_from(value).map_err(|_| InvokeError::BadWord { word: 0, value })?;
    ask(ctx, request, NetworkAsk::Connect { program: request.key.badge(), address, port: port(request, 1)? })
}

fn serve(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let value = request.words[1];
    let then = AfterSent::from_word(value).ok_or(InvokeError::BadWord { word: 1, value })?;
    let (program, port) = (request.key.badge(), port(request, 0)?);
    ask(ctx, request, NetworkAsk::Serve { program, port, len: request.len, then })
}

fn send(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask(ctx, request, NetworkAsk::Send { on: request.key.connection_id(), len: request.len })
}

fn receive(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    let len = super::device::wanted_bytes(request)?;
    ask(ctx, request, NetworkAsk::Receive { on: request.key.connection_id(), len })
}

fn shut_down(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask(ctx, request, NetworkAsk::ShutDown { on: request.key.connection_id() })
}

fn close(ctx: &mut Ctx<'_, '_>, request: &Request) -> Result<Done, Stop> {
    ask(ctx, request, NetworkAsk::Close { on: request.key.connection_id() })
}

impl NetworkAsk {
    /// As a waiting domain's record has it: which order, and words.
    pub(super) const fn as_raw(self) -> (u32, [u64; 4]) {
        const fn of(on: ConnectionId, len: u32) -> [u64; 4] {
            [(on.life as u64) << 32 | on.program as u64, on.number, len as u64, 0]
        }
        match self {
            Self::Accept { program, port } => (0, [program, port as u64, 0, 0]),
            Self::Connect { program, address, port } => (1, [program, port as u64, address as u64, 0]),
            Self::Send { on, len } => (2, of(on, len)),
            Self::Receive { on, len } => (3, of(on, len)),
            Self::ShutDown { on } => (4, of(on, 0)),
            Self::Close { on } => (5, of(on, 0)),
            Self::Serve { program, port, len, then } => (6, [program, port as u64, len as u64, then as u64]),
        }
    }

    /// The reverse of [`Self::as_raw`].
    #[allow(clippy::cast_possible_truncation)] // what was put together
    pub(super) const fn from_raw(order: u32, words: [u64; 4]) -> Self {
        let [first, second, third, fourth] = words;
        let on = ConnectionId { program: first as u32, life: (first >> 32) as u32, number: second };
        match order {
            0 => Self::Accept { program: first, port: second as u16 },
            1 => Self::Connect { program: first, address: third as u32, port: second as u16 },
            2 => Self::Send { on, len: third as u32 },
            3 => Self::Receive { on, len: third as u32 },
            4 => Self::ShutDown { on },
            6 => {
                let then = match AfterSent::from_word(fourth) {
                    Some(then) => then,
                    None => AfterSent::Waits,
                };
                Self::Serve { program: first, port: second as u16, len: third as u32, then }
            }
            _ => Self::Close { on },
        }
    }
}
