//! The network: sockets of the host's on behalf of programs, which have numbers of them and nothing else.
//!
//! **Promise.** Nothing can be reached that was not granted. What a program sends leaves when the checkpoint that contains the sending has
//! committed, or at once where output is immediate, and so does the end of what it sends. After a restart, or when a program goes back
//! alone, listeners are open as its records say, and every connection of before is gone.
//!
//! **Limits.** A connection holds at most [`SEND_LIMIT`] bytes that have not left. What comes stays with the host until the program asks for
//! it, so that TCP slows the peer. A program has at most [`MAX_CONNECTIONS`], those counted that it closed and that still have something to send;
//! who connects beyond that waits with the host, and beyond the backlog is refused there. No call waits.
//!
//! * `grants`: what may be reached.
//! * `port`: where the host listens.
//! * `connection`: what is sent, and when it leaves.
//! * `serve`: many connections in one hand-over.
//! * `poller`: the one thread.

mod connection;
mod grants;
mod poller;
mod port;
mod serve;
#[cfg(test)]
pub mod tests;

pub use connection::SEND_LIMIT;
pub use grants::{Grants, Listen, MAX_CONNECTS, MAX_LISTENS};
pub use poller::Poller;

use crate::kernel::bell::Bell;
use crate::linux::{Accepted, Errno, Network, Ready};
use connection::{Connection, Sent, Served};
use poller::{Event, Which};
use port::Port;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serve::Serving;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Connections that a program may have.
pub const MAX_CONNECTIONS: usize = 1024;

/// What the kernel does when a program sent something that is held.
pub trait NetworkEvents: Send + Sync {
    /// The next checkpoint is wanted soon; `much`: even if checkpoints are made only when asked for; `all`: at once, since whoever was
    /// answered lately is answered again, and nobody else is likely to be.
    fn sent(&self, much: bool, all: bool);
}

/// The network of one program.
pub struct HostNetwork {
    poller: Arc<Poller>,
    bell: Arc<Bell>,
    events: Arc<dyn NetworkEvents>,
    /// Whether what is sent leaves at once.
    at_once: bool,
    ports: BTreeMap<u16, Port>,
    connects: Vec<SocketAddrV4>,
    connections: Mutex<Connections>,
    /// What is served by port, and who of it is to be looked at. The second lock is taken after any other.
    serving: Mutex<BTreeMap<u16, Serving>>,
    hints: Mutex<Vec<Served>>,
    /// See [`HostNetwork::reap`].
    reaps: AtomicBool,
    myself: Weak<Self>,
}

/// For what was sent together: whether a checkpoint is wanted, in any case, and at once.
#[derive(Default)]
struct Wants {
    any: bool,
    much: bool,
    all: bool,
}

#[derive(Default)]
struct Connections {
    next: u64,
    /// On how many something was sent lately: since the capture before the last one; and since the last one.
    lately: usize,
    answered: usize,
    open: BTreeMap<u64, Arc<Connection>>,
}

/// A port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be listened at: {reason}")]
pub struct PortError {
    /// Where.
    pub address: SocketAddrV4,
    /// Why.
    pub reason: String,
}

impl HostNetwork {
    /// Opens the ports that are granted; none of them listens yet.
    ///
    /// # Errors
    /// [`PortError`]; then none is open.
    pub fn open(
        grants: &Grants,
        poller: &Arc<Poller>,
        bell: Arc<Bell>,
        events: Arc<dyn NetworkEvents>,
        at_once: bool,
    ) -> Result<Arc<Self>, PortError> {
        let mut ports = BTreeMap::new();
        for grant in &grants.listens {
            let failed = |error: io::Error| PortError { address: grant.address, reason: reason(&error) };
            ports.insert(grant.port, Port::open(*grant, poller.token()).map_err(failed)?);
        }
        let network = Arc::new_cyclic(|myself| Self {
            poller: Arc::clone(poller),
            bell,
            events,
            at_once,
            ports,
            connects: grants.connects.clone(),
            connections: Mutex::default(),
            serving: Mutex::default(),
            hints: Mutex::default(),
            reaps: AtomicBool::new(false),
            myself: Weak::clone(myself),
        });
        if !grants.is_empty() {
            network.watch().map_err(|error| PortError {
                address: grants.listens.first().map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), |l| l.address),
                reason: reason(&error),
            })?;
        }
        Ok(network)
    }

    fn watch(self: &Arc<Self>) -> io::Result<()> {
        self.poller.join(self)?;
        for (number, port) in &self.ports {
            self.poller.watch(&port.listener, port.token, &self.myself, Which::Port(*number))?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(u64, Arc<Connection>)> {
        self.lock().open.iter().map(|(number, one)| (*number, Arc::clone(one))).collect()
    }

    fn get(&self, number: u64) -> Result<Arc<Connection>, Errno> {
        self.lock().open.get(&number).cloned().ok_or(Errno::ECONNRESET)
    }

    /// One that its program has not closed.
    fn usable(&self, number: u64) -> Result<Arc<Connection>, Errno> {
        self.get(number).and_then(|one| if one.is_asked() { Ok(one) } else { Err(Errno::ECONNRESET) })
    }

    /// Connections whose peer has ended and that nobody asks for anything go from now on: nobody may be left who has a key to them.
    pub fn reap(&self) {
        self.reaps.store(true, SeqCst);
    }

    /// Listens where the program's records say that it does, and nowhere else.
    pub fn set_listening(&self, listening: &[(u16, u32)]) {
        for (number, port) in &self.ports {
            match listening.iter().find(|(of, _)| of == number) {
                Some((_, backlog)) => {
                    if let Err(error) = port.listen(*backlog) {
                        tracing::error!(errno = error.0, address = %port.grant.address, "the port cannot be listened at");
                    }
                }
                None => port.stop(),
            }
        }
        self.bell.ring();
    }

    /// Every connection ends with a reset: the program goes back to before what it did with them.
    pub fn reset(&self) {
        for (number, one) in self.all() {
            one.abort();
            self.remove(number);
        }
    }

    /// The program has ended: nobody is let in any more, and its connections end after what was sent.
    pub fn end(&self) {
        self.ports.values().for_each(Port::stop);
        for (number, _) in self.all() {
            self.close(number, false);
        }
        self.bell.ring();
    }

    /// While all stand still: what was sent so far is in this capture.
    pub fn captured(&self) {
        let mut connections = self.lock();
        connections.lately = connections.open.values().filter(|one| one.captured()).count();
        connections.answered = 0;
    }

    /// That capture is durable: what it contains may leave.
    pub fn committed(&self) {
        if self.release(Connection::committed) {
            self.bell.ring();
        }
    }

    fn release(&self, leave: impl Fn(&Connection) -> (bool, bool)) -> bool {
        let mut came = false;
        for (number, one) in self.all() {
            let (room, over) = leave(&one);
            came |= room || over;
            if room {
                self.hint(&one);
            }
            if over {
                self.remove(number);
            }
        }
        came
    }

    /// Notes what was sent so far, whose inputs are now put into the journal; tells whether anything waits for that.
    pub fn note(&self) -> bool {
        self.all().iter().fold(false, |waits, (_, one)| one.note() | waits)
    }

    /// They are there: what was noted may leave. Tells whether room came, or a connection is over.
    pub fn noted(&self) -> bool {
        self.release(Connection::noted)
    }

    /// Waits until all that may leave has left, or cannot, but not for ever.
    pub fn drain_for(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.all().iter().any(|(_, one)| one.is_leaving()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Bytes that were sent and have not left.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.lock().open.values().map(|one| one.held()).sum()
    }

    /// Connections that there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether as many were answered since the last capture as were lately.
    fn are_all_answered(&self, another: bool) -> bool {
        let mut connections = self.lock();
        connections.answered += usize::from(another);
        connections.answered >= connections.lately
    }

    /// Sends without telling that a checkpoint is wanted for it.
    fn give(&self, connection: u64, data: &[u8], wants: &mut Wants) -> Result<usize, Errno> {
        let sent = self.usable(connection)?.send(data, self.at_once)?;
        self.note_sent(sent, wants);
        Ok(sent.count)
    }

    fn note_sent(&self, sent: Sent, wants: &mut Wants) {
        if self.at_once {
            return;
        }
        let all = self.are_all_answered(sent.first);
        *wants = Wants { any: true, much: wants.much || sent.much, all: wants.all || all };
    }

    /// Tells it.
    fn tell(&self, wants: &Wants) {
        if wants.any {
            self.events.sent(wants.much, wants.all);
        }
    }

    fn sent_alone(&self, sent: Sent) -> usize {
        let mut wants = Wants::default();
        self.note_sent(sent, &mut wants);
        self.tell(&wants);
        sent.count
    }

    /// Sends all of what the program has put by, and will send when it stops next: then it is not sent again.
    ///
    /// # Errors
    /// As [`Network::send`].
    pub fn send_ahead(&self, connection: u64, data: &[u8]) -> Result<(), Errno> {
        self.sent_alone(self.usable(connection)?.send_ahead(data, self.at_once)?);
        Ok(())
    }

    fn add(&self, socket: TcpStream, connecting: bool) -> Result<u64, Errno> {
        let token = self.poller.token();
        let one = Arc::new(Connection::new(socket, token, connecting));
        let number = {
            let mut connections = self.lock();
            connections.next += 1;
            let number = connections.next;
            connections.open.insert(number, Arc::clone(&one));
            number
        };
        if let Err(error) = self.poller.watch(one.socket(), token, &self.myself, Which::Connection(number)) {
            self.remove(number);
            return Err(errno(&error));
        }
        Ok(number)
    }

    fn remove(&self, number: u64) {
        let gone = self.lock().open.remove(&number);
        if let Some(one) = gone {
            self.poller.forget(one.token);
            // Who waits with a port may come in now.
            self.bell.ring();
        }
    }

    /// Something happened; who waits for it is still to be woken.
    fn event(&self, which: Which, event: Event) {
        match which {
            Which::Port(port) => {
                if let Some(port) = self.ports.get(&port) {
                    port.event();
                }
            }
            Which::Connection(number) => {
                let Ok(one) = self.get(number) else { return };
                let (look, over) = one.event(event);
                if over {
                    self.remove(number);
                }
                if look {
                    self.hint(&one);
                }
            }
        }
    }

    fn tick(&self) {
        for (number, one) in self.all() {
            if one.has_lingered() || self.reaps.load(SeqCst) && one.is_abandoned() {
                self.hint(&one);
                self.remove(number);
            }
        }
    }
}

impl Drop for HostNetwork {
    fn drop(&mut self) {
        self.ports.values().for_each(|port| self.poller.forget(port.token));
        self.lock().open.values().for_each(|one| self.poller.forget(one.token));
    }
}

impl Network for HostNetwork {
    fn granted(&self, port: u16) -> Result<Ipv4Addr, Errno> {
        self.ports.get(&port).map(|port| *port.grant.address.ip()).ok_or(Errno::EACCES)
    }

    fn listen(&self, port: u16, backlog: u32) -> Result<(), Errno> {
        self.ports.get(&port).ok_or(Errno::EACCES)?.listen(backlog)
    }

    fn stop_listening(&self, port: u16) {
        if let Some(port) = self.ports.get(&port) {
            port.stop();
        }
    }

    fn accept(&self, port: u16) -> Result<Accepted, Errno> {
        let port = self.ports.get(&port).ok_or(Errno::EINVAL)?;
        if self.count() >= MAX_CONNECTIONS {
            return Err(Errno::EAGAIN);
        }
        let (socket, peer, local) = port.accept()?;
        Ok(Accepted { connection: self.add(socket, false)?, peer, local })
    }

    fn connect(&self, to: SocketAddrV4) -> Result<u64, Errno> {
        if !self.connects.contains(&to) {
            return Err(Errno::EACCES);
        }
        if self.count() >= MAX_CONNECTIONS {
            return Err(Errno::ENOBUFS);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
            .map_err(|e| errno(&e.into()))?;
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => self.add(socket.into(), true),
            Err(error) => Err(errno(&error.into())),
        }
    }

    fn connected(&self, connection: u64) -> Result<SocketAddrV4, Errno> {
        self.usable(connection)?.connected()
    }

    fn receive(&self, connection: u64, out: &mut [u8], stays: bool) -> Result<usize, Errno> {
        self.usable(connection)?.receive(out, stays)
    }

    fn send(&self, connection: u64, data: &[u8]) -> Result<usize, Errno> {
        Ok(self.sent_alone(self.usable(connection)?.send(data, self.at_once)?))
    }

    fn take_error(&self, connection: u64) -> Option<Errno> {
        match self.get(connection) {
            Ok(one) => one.take_error(),
            Err(errno) => Some(errno),
        }
    }

    fn shut_down(&self, connection: u64, receiving: bool, sending: bool) {
        let Ok(one) = self.get(connection) else { return };
        one.shut_down(receiving, sending, self.at_once);
        if sending && !self.at_once {
            self.events.sent(false, false);
        }
    }

    fn close(&self, connection: u64, reset: bool) {
        let Ok(one) = self.get(connection) else { return };
        if one.close(reset, self.at_once) {
            self.remove(connection);
        } else if !self.at_once {
            self.events.sent(false, false);
        }
        // Whoever else waits for something of it learns that it is no more.
        self.bell.ring();
    }

    fn port_ready(&self, port: u16) -> Ready {
        let ready = self.ports.get(&port).is_some_and(Port::is_ready);
        Ready { input: ready && self.count() < MAX_CONNECTIONS, ..Ready::default() }
    }

    fn ready(&self, connection: u64) -> Result<Ready, Errno> {
        Ok(self.usable(connection)?.ready())
    }

    fn edges(&self, connection: u64) -> [u64; 2] {
        self.get(connection).map_or([0; 2], |one| one.edges())
    }

    fn port_edges(&self, port: u16) -> u64 {
        self.ports.get(&port).map_or(0, |port| port.edges.load(SeqCst))
    }
}

/// What a socket of the host's is ready for now.
fn look(socket: &impl AsFd, wanted: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(socket, wanted)];
    match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// The error of the host's, as the program is told.
fn errno(error: &io::Error) -> Errno {
    let number = error.raw_os_error().and_then(|number| u16::try_from(number).ok());
    number.map_or(Errno::EIO, Errno)
}

/// Why the host refuses a port, in a user's words.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another program".into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        io::ErrorKind::PermissionDenied => "this user may not open that port".into(),
        _ => error.to_string(),
    }
}
