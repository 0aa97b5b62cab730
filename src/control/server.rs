//! The runtime's end of the control socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use semper_journal::Wish;
use tracing::{debug, warn};

use super::debug::{self, Debugged};
use super::message::{Act, Ending, Gone, Program, Refusal, Reply, Request, Rotten};
use super::socket::{self, Bound};
use super::wire::{self, WireError};

/// How many requests are read and answered at once; more wait in the socket's queue.
const MAX_CONNECTIONS: usize = 16;
/// How many peers may wait for the end of a domain at once.
const MAX_WAITERS: usize = 1024;
/// How long a peer may take to send its request, or to take the answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a world stands for who moves it; then it goes on.
const STAND: Duration = Duration::from_secs(60);
/// The exit code for what is the peer's fault.
const BAD_REQUEST: u8 = 125;

/// What the socket serves: the runtime, or a stand-in in tests.
pub trait Served: Send + Sync + 'static {
    /// The status as JSON.
    ///
    /// # Errors
    /// When it cannot be had.
    fn status(&self) -> Result<String, Refusal>;
    /// Takes a checkpoint; gives its generation.
    ///
    /// # Errors
    /// When none was committed.
    fn checkpoint(&self) -> Result<u64, Refusal>;
    /// Takes a final checkpoint and ends everything cleanly.
    ///
    /// # Errors
    /// When that could not be committed.
    fn stop(&self) -> Result<(), Refusal>;
    /// Starts a program with a console (input, output, error); gives its domain.
    ///
    /// # Errors
    /// When it cannot be started.
    fn run(&self, program: Program, console: [OwnedFd; 3]) -> Result<u64, Refusal>;
    /// Waits until a domain has ended, or the runtime has stopped.
    fn wait(&self, domain: u64) -> Ending;
    /// Gives a domain a signal of its terminal; false, and nothing done, if its program has no wish about that signal.
    fn signal(&self, domain: u64, signal: u8) -> bool;
    /// Holds a generation, the newest if none is named, until what is returned is dropped; gives its number.
    ///
    /// # Errors
    /// When it cannot be held.
    fn hold(&self, generation: Option<u64>) -> Result<(u64, Box<dyn Send>), Refusal>;
    /// Names a generation, the newest if none is given; gives its number.
    ///
    /// # Errors
    /// When it cannot be named.
    fn tag(&self, name: &str, generation: Option<u64>) -> Result<u64, Refusal>;
    /// Takes a name away; gives the number of its generation.
    ///
    /// # Errors
    /// When there is none of that name.
    fn untag(&self, name: &str) -> Result<u64, Refusal>;
    /// Makes the store larger.
    ///
    /// # Errors
    /// When it cannot be.
    fn grow(&self, size_bytes: u64) -> Result<(), Refusal>;
    /// Makes the store smaller, which may take long.
    ///
    /// # Errors
    /// When it cannot be.
    fn shrink(&self, size_bytes: u64) -> Result<(), Refusal>;
    /// Takes up a mirror, which is brought up to date then, at so many bytes in a second.
    ///
    /// # Errors
    /// When it cannot be one.
    fn add_mirror(&self, dir: &[u8], rate: u64) -> Result<(), Refusal>;
    /// Makes a directory no mirror any more.
    ///
    /// # Errors
    /// When it is none, or the only one that has everything.
    fn remove_mirror(&self, dir: &[u8]) -> Result<(), Refusal>;
    /// Writes anew what is rotten on some sides; says which of the blocks nobody has as they should be.
    fn mend(&self, blocks: &[Rotten]) -> Vec<u32>;
    /// Writes anew what of the journal is rotten on some sides; says how much.
    ///
    /// # Errors
    /// It cannot be read.
    fn mend_journal(&self) -> Result<u64, Refusal>;
    /// Lets old records of the journal go; none: there is no journal.
    ///
    /// # Errors
    /// When that cannot be done.
    fn trim_journal(&self, wish: &Wish) -> Result<Option<Gone>, Refusal>;
    /// Notes that records of the journal before this one are in a backup.
    ///
    /// # Errors
    /// When that cannot be noted.
    fn cover_journal(&self, before: u64) -> Result<(), Refusal>;
    /// Has the world stand still at a committed generation; gives its number.
    ///
    /// # Errors
    /// When it cannot; it goes on then.
    fn hand_over(&self) -> Result<(u64, Box<dyn Handed>), Refusal>;
    /// Leaves a domain's terminal alone from now on.
    fn detach(&self, domain: u64);
    /// The banks to this depth and what they sold, as JSON.
    ///
    /// # Errors
    /// When they cannot be read.
    fn list(&self, depth: u32) -> Result<String, Refusal>;
    /// One object as JSON.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn inspect(&self, object: &str) -> Result<String, Refusal>;
    /// Does something to a domain.
    ///
    /// # Errors
    /// When there is none, or it cannot be done.
    fn operate(&self, domain: &str, act: Act) -> Result<(), Refusal>;
    /// Puts a debugger on a domain.
    ///
    /// # Errors
    /// When there is none, or it cannot be debugged.
    fn debug(&self, domain: &str, leave_stopped: bool) -> Result<Box<dyn Debugged>, Refusal>;
}

/// A world that stands still, to be moved. Dropped, it goes on.
pub trait Handed: Send {
    /// It lives elsewhere from now on, and the runtime ends.
    ///
    /// # Errors
    /// When that cannot be noted; it goes on then.
    fn moved(self: Box<Self>, to: String, id: [u8; 16]) -> Result<(), Refusal>;
}

/// The running server.
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    served: Arc<dyn Served>,
    load: Mutex<Load>,
    changed: Condvar,
}

#[derive(Default)]
struct Load {
    connections: usize,
    waiters: usize,
}

impl Server {
    /// Makes the socket in `store`; nobody can connect before it is served. The caller holds the lock of the store.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn bind(store: &Path) -> io::Result<Bound> {
        socket::bind(store)
    }

    /// Serves `served` on a socket of [`Server::bind`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(socket: Bound, served: Arc<dyn Served>) -> io::Result<Server> {
        let listener = socket.listen()?;
        let shared = Arc::new(Shared { served, load: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("control".to_owned()).spawn(move || accepting.accept(&listener))?;
        Ok(Server { shared })
    }

    /// Gives the answers that are under way a moment to leave before the process ends.
    pub fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut load = self.shared.load();
        while load.connections + load.waiters > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            load = self.shared.changed.wait_timeout(load, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Load)) {
        change(&mut self.load());
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Shared>, listener: &UnixListener) {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: they come back when others hang up.
                    warn!(%error, "the control socket cannot accept");
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let mut load = self.load();
            while load.connections >= MAX_CONNECTIONS {
                load = self.changed.wait(load).unwrap_or_else(PoisonError::into_inner);
            }
            load.connections += 1;
            drop(load);
            let shared = Arc::clone(self);
            let spawned = thread::Builder::new().name("control-peer".to_owned()).spawn(move || {
                if let Err(error) = shared.serve(&stream) {
                    debug!(%error, "a request over the control socket was dropped");
                }
                shared.change(|load| load.connections -= 1);
            });
            if spawned.is_err() {
                self.change(|load| load.connections -= 1);
            }
        }
    }

    fn serve(self: &Arc<Shared>, stream: &UnixStream) -> Result<(), WireError> {
        if !is_own_user(stream)? {
            warn!("a process of another user tried the control socket");
            return Ok(());
        }
        stream.set_read_timeout(Some(PEER_TIMEOUT))?;
        stream.set_write_timeout(Some(PEER_TIMEOUT))?;
        match wire::receive(stream) {
            Ok((request, descriptors)) => self.answer(stream, request, descriptors),
            Err(WireError::HungUp) => Ok(()),
            Err(error) => {
                wire::send(stream, &refused(BAD_REQUEST, error.to_string()), &[])?;
                Err(error)
            }
        }
    }

    fn answer(
        self: &Arc<Shared>,
        stream: &UnixStream,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), WireError> {
        let served = &self.served;
        let reply = match request {
            Request::Status => served.status().map(|json| Reply::Status { json }),
            Request::Checkpoint => served.checkpoint().map(|generation| Reply::Committed { generation }),
            Request::List { depth } => served.list(depth).map(|json| Reply::Document { json }),
            Request::Inspect { object } => served.inspect(&object).map(|json| Reply::Document { json }),
            Request::Operate { domain, act } => served.operate(&domain, act).map(|()| Reply::Done),
            Request::Debug { domain, leave_stopped } => match served.debug(&domain, leave_stopped) {
                Ok(debugged) => return self.debug(stream, debugged),
                Err(refusal) => Err(refusal),
            },
            Request::Hold { generation } => match served.hold(generation) {
                Ok((generation, hold)) => return self.hold(stream, generation, hold),
                Err(refusal) => Err(refusal),
            },
            Request::HandOver => match served.hand_over() {
                Ok((generation, world)) => return self.hand_over(stream, generation, world),
                Err(refusal) => Err(refusal),
            },
            Request::Moved { .. } => Ok(refused(BAD_REQUEST, "the world was not handed over here".to_owned())),
            Request::Tag { name, generation } => {
                served.tag(&name, generation).map(|generation| Reply::Generation { generation })
            }
            Request::Untag { name } => served.untag(&name).map(|generation| Reply::Generation { generation }),
            Request::Grow { size_bytes } => served.grow(size_bytes).map(|()| Reply::Done),
            Request::Shrink { size_bytes } => return self.shrink(stream, size_bytes),
            Request::AddMirror { dir, rate } => served.add_mirror(&dir, rate).map(|()| Reply::Done),
            Request::RemoveMirror { dir } => served.remove_mirror(&dir).map(|()| Reply::Done),
            Request::Mend { blocks } => Ok(Reply::Mended { left: served.mend(&blocks) }),
            Request::MendJournal => return self.mend_journal(stream),
            Request::TrimJournal { before, older_than, keep_bytes, only_covered } => {
                let wish = Wish { before, older_than, keep_bytes, only_covered };
                served.trim_journal(&wish).map(Reply::Trimmed)
            }
            Request::CoverJournal { before } => served.cover_journal(before).map(|()| Reply::Done),
            Request::Stop => served.stop().map(|()| Reply::Stopped),
            Request::Signal { domain, signal } => Ok(Reply::Signal { taken: served.signal(domain, signal) }),
            Request::Detach { domain } => {
                served.detach(domain);
                Ok(Reply::Detached)
            }
            Request::Wait { domain } => return self.answer_end_later(stream, domain),
            Request::Run(program) => match <[OwnedFd; 3]>::try_from(descriptors) {
                Err(_) => Ok(refused(BAD_REQUEST, "a program needs three descriptors as its console".to_owned())),
                Ok(console) => match served.run(program, console) {
                    Err(refusal) => Err(refusal),
                    Ok(domain) => {
                        wire::send(stream, &Reply::Started { domain }, &[])?;
                        return self.answer_end_later(stream, domain);
                    }
                },
            },
        };
        wire::send(stream, &reply.unwrap_or_else(Reply::Refused), &[])
    }

    /// Leaves the waiting to a thread that does not count as a connection.
    fn answer_end_later(self: &Arc<Shared>, stream: &UnixStream, domain: u64) -> Result<(), WireError> {
        self.later(stream, "control-wait", move |shared, stream| {
            let ending = shared.served.wait(domain);
            if let Err(error) = wire::send(&stream, &Reply::Ended(ending), &[]) {
                debug!(%error, domain, "nobody took the end of a domain");
            }
        })
    }

    /// Makes the store smaller in a thread that does not count as a connection; it goes on without the peer.
    fn shrink(self: &Arc<Shared>, stream: &UnixStream, size_bytes: u64) -> Result<(), WireError> {
        self.later(stream, "control-shrink", move |shared, stream| {
            let reply = shared.served.shrink(size_bytes).map(|()| Reply::Done);
            if let Err(error) = wire::send(&stream, &reply.unwrap_or_else(Reply::Refused), &[]) {
                debug!(%error, "nobody took how making the store smaller ended");
            }
        })
    }

    /// Reads all of the journal in a thread that does not count as a connection.
    fn mend_journal(self: &Arc<Shared>, stream: &UnixStream) -> Result<(), WireError> {
        self.later(stream, "control-mend", move |shared, stream| {
            let reply = shared.served.mend_journal().map(|repaired| Reply::JournalMended { repaired });
            if let Err(error) = wire::send(&stream, &reply.unwrap_or_else(Reply::Refused), &[]) {
                debug!(%error, "nobody took what of the journal was repaired");
            }
        })
    }

    /// Serves a debugger in a thread that does not count as a connection.
    fn debug(self: &Arc<Shared>, stream: &UnixStream, debugged: Box<dyn Debugged>) -> Result<(), WireError> {
        self.later(stream, "control-debug", move |_, stream| {
            let served = wire::send(&stream, &Reply::Done, &[]).and_then(|()| debug::serve(&stream, debugged));
            if let Err(error) = served {
                debug!(%error, "a debugger was dropped");
            }
        })
    }

    /// Keeps a hold until the peer is gone.
    fn hold(self: &Arc<Shared>, stream: &UnixStream, generation: u64, hold: Box<dyn Send>) -> Result<(), WireError> {
        self.later(stream, "control-hold", move |_, mut stream| {
            let answered = wire::send(&stream, &Reply::Generation { generation }, &[]);
            if answered.is_ok() && stream.set_read_timeout(None).is_ok() {
                // Nothing more is to be said here: whatever ends the read ends the hold.
                let _ = io::Read::read(&mut stream, &mut [0]);
            }
            drop(hold);
        })
    }

    /// Keeps a world standing until it has moved, or the peer is gone or silent.
    fn hand_over(
        self: &Arc<Shared>,
        stream: &UnixStream,
        generation: u64,
        world: Box<dyn Handed>,
    ) -> Result<(), WireError> {
        self.later(stream, "control-move", move |_, stream| {
            let answered = wire::send(&stream, &Reply::Generation { generation }, &[]);
            if answered.is_err() || stream.set_read_timeout(Some(STAND)).is_err() {
                return;
            }
            if let Ok((Request::Moved { to, id }, _)) = wire::receive(&stream) {
                let reply = world.moved(to, id).map(|()| Reply::Done);
                let _ = wire::send(&stream, &reply.unwrap_or_else(Reply::Refused), &[]);
            }
        })
    }

    fn later(
        self: &Arc<Shared>,
        stream: &UnixStream,
        name: &str,
        work: impl FnOnce(&Shared, UnixStream) + Send + 'static,
    ) -> Result<(), WireError> {
        {
            let mut load = self.load();
            if load.waiters >= MAX_WAITERS {
                drop(load);
                return wire::send(stream, &refused(BAD_REQUEST, "too many commands wait already".to_owned()), &[]);
            }
            load.waiters += 1;
        }
        let shared = Arc::clone(self);
        let stream = stream.try_clone();
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Ok(stream) = stream {
                work(&shared, stream);
            }
            shared.change(|load| load.waiters -= 1);
        });
        if spawned.is_err() {
            self.change(|load| load.waiters -= 1);
        }
        spawned.map(drop).map_err(WireError::from)
    }
}

fn is_own_user(stream: &UnixStream) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

fn refused(code: u8, message: String) -> Reply {
    Reply::Refused(Refusal { code, message })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
