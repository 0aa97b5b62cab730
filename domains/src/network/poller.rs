//! One thread that hears of all sockets of all programs.

use super::HostNetwork;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Events that are taken at once.
const EVENTS: usize = 256;
/// How often connections are looked after that are only left to end.
const TICK: Duration = Duration::from_secs(1);

/// Which socket of a program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The port that the program binds.
    Port(u16),
    /// The connection of this number.
    Connection(u64),
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// Something came, or ended.
    pub input: bool,
    /// It ended, or some of what came is urgent: to receive less than was asked for does not say that there is no more.
    pub stops_short: bool,
    /// It failed, or hung up.
    pub failed: bool,
}

/// Knows whose a socket is.
pub struct Poller {
    epoll: Arc<Epoll>,
    next: AtomicU64,
    sockets: Mutex<Sockets>,
}

#[derive(Default)]
struct Sockets {
    by_token: HashMap<u64, (Weak<HostNetwork>, Which)>,
    networks: Vec<Weak<HostNetwork>>,
    running: bool,
}

impl Poller {
    /// Makes it; the thread begins with the first program that may reach something.
    ///
    /// # Errors
    /// What the host says.
    pub fn new() -> io::Result<Arc<Self>> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        Ok(Arc::new(Self { epoll, next: AtomicU64::new(1), sockets: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network is there.
    pub(super) fn join(self: &Arc<Self>, network: &Arc<HostNetwork>) -> io::Result<()> {
        let mut sockets = self.lock();
        sockets.networks.retain(|network| network.strong_count() > 0);
        sockets.networks.push(Arc::downgrade(network));
        if !sockets.running {
            let (epoll, poller) = (Arc::clone(&self.epoll), Arc::downgrade(self));
            std::thread::Builder::new().name("network".into()).spawn(move || run(&epoll, &poller))?;
            sockets.running = true;
        }
        Ok(())
    }

    /// A number for a socket.
    pub(super) fn token(&self) -> u64 {
        self.next.fetch_add(1, SeqCst)
    }

    /// Hears of a socket from now on.
    pub(super) fn watch(&self, socket: impl AsFd, token: u64, of: &Weak<HostNetwork>, which: Which) -> io::Result<()> {
        self.lock().by_token.insert(token, (Weak::clone(of), which));
        let (ways, ends) = (EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT, EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI);
        let flags = ways | ends | EpollFlags::EPOLLET;
        self.epoll.add(socket, EpollEvent::new(flags, token)).map_err(|error| {
            self.forget(token);
            error.into()
        })
    }

    /// The socket is about to be closed, which ends its events.
    pub(super) fn forget(&self, token: u64) {
        self.lock().by_token.remove(&token);
    }

    /// Tells the network whose socket it is; which that is.
    fn tell(&self, event: &EpollEvent) -> Option<Arc<HostNetwork>> {
        let (network, which) = self.lock().by_token.get(&event.data()).cloned()?;
        let network = network.upgrade()?;
        let flags = event.events();
        let failed = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        let input = flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
        let stops_short = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI);
        network.event(which, Event { input, stops_short, failed });
        Some(network)
    }

    fn tick(&self) {
        let networks: Vec<_> = self.lock().networks.iter().filter_map(Weak::upgrade).collect();
        networks.iter().for_each(|network| network.tick());
    }
}

fn run(epoll: &Epoll, poller: &Weak<Poller>) {
    let mut events = [EpollEvent::empty(); EVENTS];
    let mut ticked = Instant::now();
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::from(1000_u16)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                tracing::error!(%error, "the network cannot be heard any more");
                return;
            }
        };
        let Some(poller) = poller.upgrade() else { return };
        // Who waits is woken once for all of them: then it finds all of them, too.
        let mut told: Vec<Arc<HostNetwork>> = events[..count].iter().filter_map(|event| poller.tell(event)).collect();
        told.sort_unstable_by_key(|network| Arc::as_ptr(network).addr());
        told.dedup_by(|a, b| Arc::ptr_eq(a, b));
        told.iter().for_each(|network| network.bell.ring());
        drop(told);
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            poller.tick();
        }
    }
}
