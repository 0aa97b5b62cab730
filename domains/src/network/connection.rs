//! One connection: a socket of the host's, and what the program sent that has not left.
//!
//! Positions count bytes that the program ever sent; the end of what it sends is one more. What is captured at a position leaves when that
//! capture has committed.

use super::poller::Event;
use super::{errno, look};
use crate::linux::{Errno, Ready};
use rustix::event::PollFlags;
use rustix::net::Shutdown;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that a connection holds before who sends has to wait.
pub const SEND_LIMIT: usize = 256 << 10;
/// With this much or less, there is room for who waits to send.
const ROOM: usize = SEND_LIMIT / 2;
/// What is kept of the memory for them when none are held.
const KEPT_BYTES: usize = 16 << 10;
/// How long a connection that the program has closed may take to take what was sent to it.
const LINGER: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Connection {
    socket: TcpStream,
    /// What the poller calls it.
    pub(super) token: u64,
    /// Something may have come since it was last found that nothing had, or that there was no more.
    maybe: AtomicBool,
    edges: [AtomicU64; 2],
    /// The host said that the peer sends no more, that it failed, or that urgent bytes came, before which a read stops.
    hung: AtomicBool,
    /// Whom it is served with, and that it is to be looked at.
    pub(super) served: OnceLock<Served>,
    pub(super) hinted: AtomicBool,
    outgoing: Mutex<Outgoing>,
}

/// Of a connection that is served with others: the port that let it in, and what the order calls it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub port: u16,
    pub key: u32,
}

/// What became of a look for input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// Nothing came.
    None,
    /// So many bytes came; whether there may be more.
    Bytes(usize, bool),
    /// The peer sends no more.
    Ended,
    /// It is over.
    Failed,
}

#[derive(Default)]
struct Outgoing {
    /// What has not left, from position `base` on.
    bytes: VecDeque<u8>,
    base: u64,
    /// What is before it may leave.
    released: u64,
    /// What the newest capture contains.
    captured: u64,
    /// What follows from inputs that are in the journal, or on their way.
    noted: u64,
    /// Bytes that were taken before the program's call told of them, and are the next that it will tell of.
    ahead: usize,
    /// Something was sent since then; and between the one before it and it.
    answered: bool,
    answered_before: bool,
    /// The position after the end, if the program sends no more; and whether the peer was told.
    end: Option<u64>,
    end_told: bool,
    /// It does not stand yet.
    connecting: bool,
    /// Nothing can be sent any more, and why, until that is told.
    failed: bool,
    error: Option<Errno>,
    /// The program has closed it, and wants a reset.
    closed: bool,
    reset: bool,
    /// When the program asked something of it last; when it came, if it never did.
    asked: Option<Instant>,
    /// When all that it takes was released.
    lingers_since: Option<Instant>,
}

/// What became of bytes that were given to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// How many were taken.
    pub count: usize,
    /// Whether much is held now.
    pub much: bool,
    /// Whether they are the first since the last capture.
    pub first: bool,
}

impl Outgoing {
    fn written(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn tail(&self) -> u64 {
        self.end.unwrap_or_else(|| self.written())
    }

    /// It is over, and why is to be told.
    fn fail(&mut self, error: Errno) {
        if !self.failed {
            self.error = Some(error);
        }
        self.give_up();
    }

    /// It is over, and that was told.
    fn give_up(&mut self) {
        (self.failed, self.connecting) = (true, false);
        self.base = self.written();
        self.bytes = VecDeque::new();
    }

    /// Nothing is left to be done for it.
    fn is_over(&self) -> bool {
        self.closed && (self.failed || self.end_told)
    }
}

impl Connection {
    pub(super) fn new(socket: TcpStream, token: u64, connecting: bool) -> Self {
        // What leaves was gathered by then; to wait for more would only add to the delay.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let outgoing = Mutex::new(Outgoing { connecting, asked: Some(Instant::now()), ..Outgoing::default() });
        let edges = [AtomicU64::new(1), AtomicU64::new(1)];
        let (maybe, hung, hinted) = (AtomicBool::new(true), AtomicBool::new(false), AtomicBool::new(false));
        Self { socket, token, maybe, edges, hung, served: OnceLock::new(), hinted, outgoing }
    }

    pub(super) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn edges(&self) -> [u64; 2] {
        [self.edges[0].load(SeqCst), self.edges[1].load(SeqCst)]
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out whether it stands by now.
    fn settle(&self, out: &mut Outgoing) {
        if !out.connecting || look(&self.socket, PollFlags::OUT).is_empty() {
            return;
        }
        match self.socket.take_error() {
            Ok(None) => out.connecting = false,
            Ok(Some(error)) | Err(error) => out.fail(errno(&error)),
        }
    }

    pub(super) fn connected(&self) -> Result<SocketAddrV4, Errno> {
        let mut out = self.lock();
        self.settle(&mut out);
        if out.connecting {
            return Err(Errno::EAGAIN);
        }
        if out.failed {
            return Err(out.error.take().unwrap_or(Errno::ECONNABORTED));
        }
        match self.socket.local_addr() {
            Ok(SocketAddr::V4(local)) => Ok(local),
            Ok(_) => Err(Errno::EAFNOSUPPORT),
            Err(error) => Err(errno(&error)),
        }
    }

    pub(super) fn receive(&self, bytes: &mut [u8], stays: bool) -> Result<usize, Errno> {
        // The host tells of what comes from here on, and of an end that it has told of not again.
        let maybe = self.maybe.swap(false, SeqCst);
        let got = if stays { self.socket.peek(bytes) } else { (&self.socket).read(bytes) };
        let empty = match &got {
            Ok(n) => !stays && *n > 0 && *n < bytes.len() && !self.hung.load(SeqCst),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.maybe.fetch_or(maybe && !empty, SeqCst);
        match got {
            Ok(n) if n > 0 || bytes.is_empty() => Ok(n),
            got => {
                let mut out = self.lock();
                self.settle(&mut out);
                if let Some(error) = out.error.take() {
                    return Err(error);
                }
                if out.connecting {
                    return Err(Errno::EAGAIN);
                }
                got.map_err(|error| {
                    if error.kind() != ErrorKind::WouldBlock {
                        out.give_up();
                    }
                    errno(&error)
                })
            }
        }
    }

    /// Takes bytes, but for those that it took ahead.
    pub(super) fn send(&self, data: &[u8], at_once: bool) -> Result<Sent, Errno> {
        let mut out = self.lock();
        let known = out.ahead.min(data.len());
        out.ahead -= known;
        match self.take(&mut out, &data[known..], at_once) {
            Err(Errno::EAGAIN) if known > 0 => Ok(Sent { count: known, much: false, first: false }),
            taken => taken.map(|sent| Sent { count: known + sent.count, ..sent }),
        }
    }

    /// Takes all of what the program will tell of when it stops next, or nothing.
    pub(super) fn send_ahead(&self, data: &[u8], at_once: bool) -> Result<Sent, Errno> {
        let mut out = self.lock();
        if out.bytes.len() + data.len() > SEND_LIMIT {
            return Err(Errno::EAGAIN);
        }
        let sent = self.take(&mut out, data, at_once)?;
        out.ahead += sent.count;
        Ok(sent)
    }

    fn take(&self, out: &mut Outgoing, data: &[u8], at_once: bool) -> Result<Sent, Errno> {
        self.settle(out);
        if let Some(error) = out.error {
            return Err(error);
        }
        if out.failed || out.end.is_some() {
            return Err(Errno::EPIPE);
        }
        let count = (SEND_LIMIT - out.bytes.len().min(SEND_LIMIT)).min(data.len());
        if out.connecting || count == 0 && !data.is_empty() {
            return Err(Errno::EAGAIN);
        }
        out.bytes.extend(&data[..count]);
        if at_once {
            out.released = out.tail();
            self.flush(out);
        }
        let first = count > 0 && !std::mem::replace(&mut out.answered, true);
        Ok(Sent { count, much: out.bytes.len() > ROOM, first })
    }

    /// Receives, if something may have come.
    pub(super) fn look_for(&self, bytes: &mut [u8]) -> Input {
        if !self.maybe.load(SeqCst) {
            return Input::None;
        }
        match self.receive(bytes, false) {
            Ok(0) => Input::Ended,
            Ok(count) => Input::Bytes(count, self.maybe.load(SeqCst)),
            Err(Errno::EAGAIN) => Input::None,
            Err(_) => Input::Failed,
        }
    }

    /// Bytes that it takes now; none: it takes nothing any more, since it failed.
    pub(super) fn room(&self) -> Option<usize> {
        let out = self.lock();
        let room = if out.end.is_none() { SEND_LIMIT - out.bytes.len().min(SEND_LIMIT) } else { 0 };
        (!out.failed).then_some(room)
    }

    /// Whether half of the room is free, or nothing more is sent.
    pub(super) fn has_room(&self) -> bool {
        let out = self.lock();
        out.end.is_some() || out.bytes.len() <= ROOM
    }

    pub(super) fn take_error(&self) -> Option<Errno> {
        let mut out = self.lock();
        self.settle(&mut out);
        if let Some(error) = out.error.take() {
            return Some(error);
        }
        let error = self.socket.take_error().ok().flatten().map(|error| errno(&error));
        if error.is_some() {
            out.give_up();
        }
        error
    }

    pub(super) fn shut_down(&self, receiving: bool, sending: bool, at_once: bool) {
        if receiving {
            // What the peer sends now is refused by the host.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
        }
        if sending {
            let mut out = self.lock();
            if out.end.is_none() {
                out.end = Some(out.written() + 1);
            }
            if at_once {
                out.released = out.tail();
                self.flush(&mut out);
            }
        }
    }

    /// Tells whether it is over at once.
    pub(super) fn close(&self, reset: bool, at_once: bool) -> bool {
        let mut out = self.lock();
        if out.end.is_none() {
            out.end = Some(out.written() + 1);
        }
        (out.closed, out.reset) = (true, reset);
        if out.connecting {
            out.fail(Errno::ECONNABORTED);
        }
        if at_once {
            out.released = out.tail();
        }
        self.flush(&mut out);
        out.is_over()
    }

    /// The program asks something of it; whether it has not closed it.
    pub(super) fn is_asked(&self) -> bool {
        let mut out = self.lock();
        out.asked = Some(Instant::now());
        !out.closed
    }

    /// Whether its peer has ended and nobody has asked for anything for long.
    pub(super) fn is_abandoned(&self) -> bool {
        let long = self.lock().asked.is_none_or(|asked| asked.elapsed() > LINGER);
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let abandoned = long && look(&self.socket, PollFlags::RDHUP).intersects(ended);
        if abandoned {
            self.abort();
            self.lock().give_up();
        }
        abandoned
    }

    /// Its end is to be a reset, for whoever still has it.
    pub(super) fn abort(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Tells whether anything was sent since the capture before the last one.
    pub(super) fn captured(&self) -> bool {
        let mut out = self.lock();
        out.captured = out.tail();
        let answered = std::mem::take(&mut out.answered);
        std::mem::replace(&mut out.answered_before, answered) || answered
    }

    /// What was captured is durable. Tells whether room came for who waits to send, and whether it is over.
    pub(super) fn committed(&self) -> (bool, bool) {
        let mut out = self.lock();
        out.released = out.released.max(out.captured);
        let room = self.flush(&mut out);
        (room, out.is_over())
    }

    /// Notes how far it was sent to; tells whether that is further than what may leave.
    pub(super) fn note(&self) -> bool {
        let mut out = self.lock();
        out.noted = out.tail();
        out.noted > out.released
    }

    /// What was noted may leave. As [`Connection::committed`].
    pub(super) fn noted(&self) -> (bool, bool) {
        let mut out = self.lock();
        out.released = out.released.max(out.noted);
        let room = self.flush(&mut out);
        (room, out.is_over())
    }

    /// The host says that something came, or that there is room. Tells whether there is something to be looked at, and whether it is over.
    pub(super) fn event(&self, Event { input, stops_short, failed }: Event) -> (bool, bool) {
        let mut out = self.lock();
        let connecting = out.connecting;
        self.settle(&mut out);
        if connecting && !out.connecting {
            self.edges[1].fetch_add(1, SeqCst);
        }
        if failed
            && !out.connecting
            && let Ok(Some(error)) = self.socket.take_error()
        {
            out.fail(errno(&error));
        }
        self.hung.fetch_or(stops_short || failed, SeqCst);
        if input || failed {
            // Nobody could ask anything of it before that was told.
            out.asked = Some(Instant::now());
            self.maybe.store(true, SeqCst);
            self.edges[0].fetch_add(1, SeqCst);
        }
        let room = self.flush(&mut out);
        (input || failed || room, out.is_over())
    }

    /// Whether it is over since its peer takes nothing.
    pub(super) fn has_lingered(&self) -> bool {
        let out = self.lock();
        let long = out.lingers_since.is_some_and(|since| since.elapsed() > LINGER);
        if long {
            self.abort();
        }
        long
    }

    /// Whether something may leave and has not yet.
    pub(super) fn is_leaving(&self) -> bool {
        let out = self.lock();
        !out.failed && !out.connecting && (out.base < out.released.min(out.written()))
    }

    /// Bytes that were sent and have not left.
    pub(super) fn held(&self) -> u64 {
        self.lock().bytes.len() as u64
    }

    pub(super) fn ready(&self) -> Ready {
        let mut out = self.lock();
        self.settle(&mut out);
        if out.connecting {
            return Ready::default();
        }
        let mut seen = PollFlags::empty();
        if self.maybe.swap(false, SeqCst) {
            seen = look(&self.socket, PollFlags::IN | PollFlags::RDHUP);
            if !seen.is_empty() {
                self.maybe.store(true, SeqCst);
            }
        }
        // For a moment the host tells of the error of a reset, and not yet of the end.
        let over = out.failed || seen.contains(PollFlags::ERR);
        let input_ended = over || seen.intersects(PollFlags::RDHUP | PollFlags::HUP);
        Ready {
            input: out.failed || !seen.is_empty(),
            output: over || out.end.is_some() || out.bytes.len() <= ROOM,
            input_ended,
            hung_up: over || seen.contains(PollFlags::HUP) || input_ended && out.end.is_some(),
            failed: out.error.is_some() || seen.contains(PollFlags::ERR),
        }
    }

    /// Gives the host what may leave and what it takes. Tells whether that made room for who waits.
    fn flush(&self, out: &mut Outgoing) -> bool {
        if out.connecting {
            return false;
        }
        let full = out.bytes.len() > ROOM;
        while out.base < out.released && !out.bytes.is_empty() {
            let may = usize::try_from(out.released - out.base).unwrap_or(usize::MAX);
            let piece = out.bytes.as_slices().0;
            let piece = &piece[..piece.len().min(may)];
            match (&self.socket).write(piece) {
                Ok(0) => break,
                Ok(n) => {
                    out.bytes.drain(..n);
                    out.base += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => out.fail(errno(&error)),
            }
        }
        if out.bytes.is_empty() && out.bytes.capacity() > KEPT_BYTES {
            out.bytes = VecDeque::new();
        }
        self.tell_end(out);
        let room = full && out.bytes.len() <= ROOM;
        if room || out.failed {
            self.edges[1].fetch_add(1, SeqCst);
        }
        room || out.failed
    }

    fn tell_end(&self, out: &mut Outgoing) {
        let Some(end) = out.end.filter(|end| *end <= out.released) else { return };
        debug_assert!(out.written() < end);
        if !out.bytes.is_empty() {
            if out.closed && out.lingers_since.is_none() {
                out.lingers_since = Some(Instant::now());
            }
            return;
        }
        if out.reset {
            self.abort();
        }
        if !out.closed && !out.end_told {
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        out.end_told = true;
    }
}
