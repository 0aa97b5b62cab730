//! The network, as native domains ask for it by their keys.
//!
//! What a domain asks for is tried at once, and again when the network rings, until something comes of it; no try waits. After a restart
//! what was asked is asked again: a connection of before is gone then, and whoever waits for one to come waits on.

use super::recording::Told;
use super::turn::Turn;
use super::{Executive, ExecutiveError};
use crate::kernel::bell::Bell;
use crate::kernel::{Kernel, KernelError};
use crate::linux::{Errno, Network};
use crate::network::{Grants, HostNetwork};
use crate::objects::{self, AfterSent, ConnectionId, InvokeError, Key, NetworkAsk, Text};
use crate::parcel;
use crate::table::RecordId;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Connections that a program which listens may have waiting for it.
const BACKLOG: u32 = 1024;

/// What a domain asked, in which call; the connection that it began, and whether what it gave is sent: both once in a life.
struct Asked {
    domain: RecordId,
    serial: u64,
    ask: NetworkAsk,
    began: Option<u64>,
    sent: bool,
}

/// What is asked and not answered, in its order.
#[derive(Default)]
pub(super) struct Asks {
    asked: Vec<Asked>,
    /// Something was added since they were last tried.
    added: bool,
}

impl Asks {
    pub(super) fn add(&mut self, domain: RecordId, serial: u64, ask: NetworkAsk) {
        self.asked.push(Asked { domain, serial, ask, began: None, sent: false });
        self.added = true;
    }

    /// All of it is tried, in any case.
    pub(super) fn ask_again(&mut self) {
        self.added = true;
    }
}

/// What came of a try.
enum Tried {
    /// Nothing yet.
    NotYet,
    /// An answer: words, a string, a connection.
    Done([u64; 4], Vec<u8>, Option<u64>),
    Refused(InvokeError),
}

impl From<Errno> for Tried {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EAGAIN => Self::NotYet,
            Errno::ECONNRESET | Errno::EPIPE => Self::Refused(InvokeError::Rescinded),
            Errno(number) => Self::Refused(InvokeError::Outside { errno: number.into() }),
        }
    }
}

impl Kernel {
    /// Opens what a native program was granted; its ports let in at once, and who comes waits for a domain that accepts.
    pub(super) fn open_native_network(
        self: &Arc<Self>,
        program: &str,
        grants: &Grants,
    ) -> Result<Arc<HostNetwork>, KernelError> {
        let bell = Arc::new(Bell::default());
        let weak = Arc::downgrade(self);
        bell.also(move || {
            if let Some(kernel) = weak.upgrade() {
                kernel.native.network_came();
            }
        });
        let network = self.open_network(program, grants, &bell)?;
        network.reap();
        network.set_listening(&grants.listens.iter().map(|one| (one.port, BACKLOG)).collect::<Vec<_>>());
        Ok(network)
    }
}

impl Executive {
    pub(super) fn network_came(&self) {
        // Before it looks, one ring is as good as many.
        if !self.network_rang.swap(true, SeqCst) {
            self.ring();
        }
    }

    /// What tells this life from others in a connection key.
    #[allow(clippy::cast_possible_truncation)] // what fits into the key
    pub(super) fn short_life(&self) -> u32 {
        self.tape.life().id[0] as u32
    }
}

impl Turn<'_> {
    /// Tries what is asked, if something may have come of it.
    pub(super) fn network(&mut self) -> Result<(), ExecutiveError> {
        let rang = self.kernel.native.network_rang.swap(false, SeqCst);
        if !std::mem::take(&mut self.state.network.added) && !rang {
            return Ok(());
        }
        let mut result = Ok(());
        for asked in std::mem::take(&mut self.state.network.asked) {
            // What goes wrong with one is no affair of the others'.
            result = result.and(self.try_one(asked));
        }
        result
    }

    fn try_one(&mut self, mut asked: Asked) -> Result<(), ExecutiveError> {
        let Asked { domain, serial, .. } = asked;
        // Whoever is gone takes nothing from those who are there.
        if !objects::still_waits(&self.kernel.objects().table, domain, serial) {
            self.abandon(&asked);
            return Ok(());
        }
        let tried = match self.attempt(&mut asked) {
            Err(ExecutiveError::Table(error)) => return Err(error.into()),
            Err(error) => {
                tracing::error!(%error, domain = %domain, "what a domain asks of the network cannot be done");
                Tried::Refused(InvokeError::Unusable)
            }
            Ok(tried) => tried,
        };
        match tried {
            Tried::NotYet => {
                self.state.network.asked.push(asked);
                Ok(())
            }
            Tried::Done(words, bytes, connection) => {
                let connection = connection.map(|number| (program_of(asked.ask), number));
                self.tell((domain, serial), Told { words, bytes, connection, ..Told::default() }).map(drop)
            }
            Tried::Refused(error) => self.tell((domain, serial), error.into()).map(drop),
        }
    }

    /// The network of a program that has not ended.
    fn network_of(&self, program: u64) -> Option<Arc<HostNetwork>> {
        let program = self.state.programs.get(&program).filter(|program| !program.ended());
        program.map(|program| Arc::clone(&program.network))
    }

    /// A connection that nobody waits for any more.
    fn abandon(&self, asked: &Asked) {
        if let (Some(number), Some(network)) = (asked.began, self.network_of(program_of(asked.ask).into())) {
            network.close(number, true);
        }
    }

    fn attempt(&mut self, asked: &mut Asked) -> Result<Tried, ExecutiveError> {
        let Some(network) = self.network_of(program_of(asked.ask).into()) else {
            return Ok(Tried::Refused(InvokeError::Rescinded));
        };
        let on = match asked.ask {
            NetworkAsk::Accept { port, .. } => {
                // Most of the time nobody came, and many wait for who does.
                let may = network.granted(port).and_then(|_| match network.port_ready(port).input {
                    true => network.accept(port),
                    false => Err(Errno::EAGAIN),
                });
                // What the host lacks for a moment is no answer.
                let lacks = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS];
                let may = may.map_err(|errno| if lacks.contains(&errno) { Errno::EAGAIN } else { errno });
                return Ok(may.map_or_else(Tried::from, |came| {
                    let peer = [came.peer.ip().to_bits().into(), came.peer.port().into(), 0, 0];
                    Tried::Done(peer, Vec::new(), Some(came.connection))
                }));
            }
            NetworkAsk::Connect { address, port, .. } => {
                let to = SocketAddrV4::new(Ipv4Addr::from_bits(address), port);
                return Ok(connect(&network, to, &mut asked.began));
            }
            NetworkAsk::Serve { port, len, then, .. } => {
                return match network.granted(port) {
                    Ok(_) => self.serve_many(&network, asked, port, (len, then)),
                    Err(errno) => Ok(errno.into()),
                };
            }
            NetworkAsk::Send { on, .. }
            | NetworkAsk::Receive { on, .. }
            | NetworkAsk::ShutDown { on }
            | NetworkAsk::Close { on } => on,
        };
        let is_of_before = on.life != self.kernel.native.short_life();
        Ok(match asked.ask {
            NetworkAsk::Close { .. } => {
                if !is_of_before {
                    network.close(on.number, false);
                }
                Tried::Done([0; 4], Vec::new(), None)
            }
            _ if is_of_before => Tried::Refused(InvokeError::Rescinded),
            NetworkAsk::Send { len, .. } => {
                let text = if len > 0 { Text::Message { domain: asked.domain, len } } else { Text::Empty };
                let bytes = self.text(&text, &[])?;
                let sent = network.send(on.number, &bytes);
                self.state.buffer = bytes;
                sent.map_or_else(Tried::from, |count| Tried::Done([count as u64, 0, 0, 0], Vec::new(), None))
            }
            NetworkAsk::Receive { len, .. } => {
                let mut bytes = vec![0; (len as usize).min(crate::guest::MAX_STRING)];
                match network.ready(on.number).and_then(|ready| if ready.input { Ok(()) } else { Err(Errno::EAGAIN) }) {
                    Ok(()) => network.receive(on.number, &mut bytes, false).map_or_else(Tried::from, |count| {
                        bytes.truncate(count);
                        Tried::Done([0; 4], bytes, None)
                    }),
                    Err(errno) => errno.into(),
                }
            }
            _ => match network.ready(on.number) {
                Ok(_) => {
                    network.shut_down(on.number, false, true);
                    Tried::Done([0; 4], Vec::new(), None)
                }
                Err(errno) => errno.into(),
            },
        })
    }

    /// Sends what the domain gave, once, and tells it what came; `order`: bytes of its string, and what follows.
    fn serve_many(
        &mut self,
        network: &HostNetwork,
        asked: &mut Asked,
        port: u16,
        order: (u32, AfterSent),
    ) -> Result<Tried, ExecutiveError> {
        let ((len, then), life) = (order, self.kernel.native.short_life());
        let serves = |ask| matches!(ask, NetworkAsk::Serve { port: other, .. } if other == port);
        let same = |other: &Asked| serves(other.ask) && program_of(other.ask) == program_of(asked.ask);
        // Who asked before is among those already that were tried.
        if self.state.network.asked.iter().any(same) {
            return Ok(Tried::Refused(InvokeError::Busy));
        }
        if !std::mem::replace(&mut asked.sent, true) && len > 0 {
            let bytes = self.text(&Text::Message { domain: asked.domain, len }, &[])?;
            let sound = parcel::are_of_domain(&bytes);
            if sound {
                network.post(port, life, &bytes);
            }
            self.state.buffer = bytes;
            if !sound {
                return Ok(Tried::Refused(InvokeError::BadString { len }));
            }
        }
        let came = if then == AfterSent::Goes { Vec::new() } else { network.take(port, life) };
        Ok(if came.is_empty() && then == AfterSent::Waits { Tried::NotYet } else { Tried::Done([0; 4], came, None) })
    }
}

/// The key to a connection of a program's, in the life of this number.
pub(super) const fn connection_key(program: u32, life: u32, number: u64) -> Key {
    Key::connection(ConnectionId { program, life, number })
}

fn connect(network: &HostNetwork, to: SocketAddrV4, began: &mut Option<u64>) -> Tried {
    let number = match *began {
        Some(number) => number,
        None => match network.connect(to) {
            Ok(number) => *began.insert(number),
            Err(errno) => return errno.into(),
        },
    };
    match network.connected(number) {
        Ok(_) => Tried::Done([0; 4], Vec::new(), Some(number)),
        Err(Errno::EAGAIN) => Tried::NotYet,
        Err(errno) => {
            network.close(number, false);
            Tried::Refused(InvokeError::Outside { errno: errno.0.into() })
        }
    }
}

/// The number of the program that an order is about.
fn program_of(ask: NetworkAsk) -> u32 {
    match ask {
        NetworkAsk::Accept { program, .. }
        | NetworkAsk::Connect { program, .. }
        | NetworkAsk::Serve { program, .. } => u32::try_from(program).unwrap_or(u32::MAX),
        NetworkAsk::Send { on, .. }
        | NetworkAsk::Receive { on, .. }
        | NetworkAsk::ShutDown { on }
        | NetworkAsk::Close { on } => on.program,
    }
}
