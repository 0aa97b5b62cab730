//! What stands between a program and the outside: each answer goes by the program's tape.

use super::Tape;
use super::wire::{ANSWER_BYTES, Question};
use crate::guest::Message;
use crate::linux::{
    Accepted, Appending, Clock, Console, ConsoleKind, Errno, Host, Input, Invoked, Journal, JournalRecord,
    JournalTrouble, Keys, Network, Ready, Received, Room, SegmentError, Segments, Stream,
};
use semper_pager::Segment;
use semper_store::SegmentId;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// The same outside, by a tape.
#[must_use]
pub fn taped(host: Host, tape: &Arc<Tape>) -> Host {
    let Host { segments, console, network, clock, journal, random, keys, answers, name, .. } = host;
    let (fill, of) = (Arc::clone(tape), Arc::clone(tape));
    Host {
        segments: Arc::new(Taped(segments, Arc::clone(tape))),
        console: Arc::new(Taped(console, Arc::clone(tape))),
        network: Arc::new(Taped(network, Arc::clone(tape))),
        clock: Arc::new(Taped(clock, Arc::clone(tape))),
        journal: Arc::new(Taped(journal, Arc::clone(tape))),
        keys: Arc::new(Taped(keys, Arc::clone(tape))),
        random: Arc::new(move |out: &mut [u8]| {
            if !fill.is_on() {
                return random(out);
            }
            for piece in out.chunks_mut(ANSWER_BYTES) {
                let found = fill.ask(Question::Random, None, || {
                    let mut found = vec![0; piece.len()];
                    random(&mut found);
                    found
                });
                copy(&found, piece);
            }
        }),
        restart: Arc::new(move || of.life()),
        answers,
        name,
    }
}

/// Something of the outside, and the tape.
struct Taped<T: ?Sized>(Arc<T>, Arc<Tape>);

/// Bytes that were told again, as far as there is room: a tape that does not fit has been noticed, or is at the end of the step.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}

/// As many bytes as one answer may have.
fn piece(out: &mut [u8]) -> &mut [u8] {
    let length = out.len().min(ANSWER_BYTES);
    &mut out[..length]
}

impl Clock for Taped<dyn Clock> {
    fn monotonic(&self) -> Duration {
        let time = self.1.ask(Question::Monotonic, None, || self.0.monotonic());
        self.1.told_time(0, time);
        time
    }

    fn realtime(&self) -> Duration {
        self.1.ask(Question::Realtime, None, || self.0.realtime())
    }

    fn cpu(&self) -> Duration {
        let time = self.1.ask(Question::Cpu, None, || self.0.cpu());
        self.1.told_time(1, time);
        time
    }
}

/// [`Input`], with the bytes.
#[derive(PartialEq, Serialize, Deserialize)]
enum Got {
    Bytes(Vec<u8>),
    NotYet,
    End,
}

impl Console for Taped<dyn Console> {
    fn read(&self, position: u64, out: &mut [u8]) -> Input {
        if !self.1.is_on() {
            return self.0.read(position, out);
        }
        let out = piece(out);
        let got = self.1.ask(Question::Read, Some(Got::NotYet), || match self.0.read(position, out) {
            Input::Bytes(count) => Got::Bytes(out[..count.min(out.len())].to_vec()),
            Input::NotYet => Got::NotYet,
            Input::End => Got::End,
        });
        match got {
            Got::Bytes(bytes) => Input::Bytes(copy(&bytes, out)),
            Got::NotYet => Input::NotYet,
            Got::End => Input::End,
        }
    }

    fn end_was_told(&self) {
        self.1.effect(|| self.0.end_was_told());
    }

    fn terminal_modes(&self) -> Option<[u8; 36]> {
        let modes = self.1.ask(Question::Modes, None, || self.0.terminal_modes().map(|modes| modes.to_vec()));
        modes.and_then(|modes| modes.try_into().ok())
    }

    fn set_terminal_modes(&self, modes: &[u8; 36], written: u64) {
        self.1.effect(|| self.0.set_terminal_modes(modes, written));
    }

    fn flush_input(&self) {
        self.1.effect(|| self.0.flush_input());
    }

    fn kind(&self, stream: Stream) -> ConsoleKind {
        self.1.ask(Question::Stream, None, || self.0.kind(stream))
    }

    fn is_joined(&self) -> bool {
        self.1.ask(Question::Joined, Some(false), || self.0.is_joined())
    }

    fn is_broken(&self, stream: Stream) -> bool {
        self.1.ask(Question::Broken, Some(false), || self.0.is_broken(stream))
    }

    fn may_write(&self, now: &dyn Fn() -> bool) -> bool {
        self.1.ask(Question::Writable, Some(true), now)
    }

    fn shows(&self, bytes: &[u8]) {
        self.1.shows(bytes);
    }

    fn wrote(&self, stream: Stream, written: u64) {
        self.0.wrote(stream, written);
    }
}

impl Network for Taped<dyn Network> {
    fn granted(&self, port: u16) -> Result<Ipv4Addr, Errno> {
        self.1.ask(Question::Granted, None, || self.0.granted(port))
    }

    fn listen(&self, port: u16, backlog: u32) -> Result<(), Errno> {
        self.1.ask(Question::Listen, Some(Ok(())), || self.0.listen(port, backlog))
    }

    fn stop_listening(&self, port: u16) {
        self.1.effect(|| self.0.stop_listening(port));
    }

    fn accept(&self, port: u16) -> Result<Accepted, Errno> {
        self.1.ask(Question::Accept, Some(Err(Errno::EAGAIN)), || self.0.accept(port))
    }

    fn connect(&self, to: SocketAddrV4) -> Result<u64, Errno> {
        self.1.ask(Question::Connect, None, || self.0.connect(to))
    }

    fn connected(&self, connection: u64) -> Result<SocketAddrV4, Errno> {
        self.1.ask(Question::Connected, Some(Err(Errno::EAGAIN)), || self.0.connected(connection))
    }

    fn receive(&self, connection: u64, out: &mut [u8], look: bool) -> Result<usize, Errno> {
        if !self.1.is_on() {
            return self.0.receive(connection, out, look);
        }
        let out = piece(out);
        let got = self.1.ask(Question::Receive, Some(Err(Errno::EAGAIN)), || {
            self.0.receive(connection, out, look).map(|count| out[..count.min(out.len())].to_vec())
        });
        got.map(|bytes| copy(&bytes, out))
    }

    fn send(&self, connection: u64, data: &[u8]) -> Result<usize, Errno> {
        let sent = self.1.ask(Question::Send, Some(Ok(data.len())), || self.0.send(connection, data));
        sent.map(|count| count.min(data.len())).inspect(|count| self.1.shows(&data[..*count]))
    }

    fn take_error(&self, connection: u64) -> Option<Errno> {
        self.1.ask(Question::Error, Some(None), || self.0.take_error(connection))
    }

    fn shut_down(&self, connection: u64, receiving: bool, sending: bool) {
        self.1.effect(|| self.0.shut_down(connection, receiving, sending));
    }

    fn close(&self, connection: u64, reset: bool) {
        self.1.effect(|| self.0.close(connection, reset));
    }

    fn port_ready(&self, port: u16) -> Ready {
        self.1.ask(Question::PortReady, Some(Ready::default()), || self.0.port_ready(port))
    }

    fn ready(&self, connection: u64) -> Result<Ready, Errno> {
        let usual = Ready { output: true, ..Ready::default() };
        self.1.ask(Question::Ready, Some(Ok(usual)), || self.0.ready(connection))
    }

    fn edges(&self, connection: u64) -> [u64; 2] {
        self.1.ask(Question::Edges, None, || self.0.edges(connection))
    }

    fn port_edges(&self, port: u16) -> u64 {
        self.1.ask(Question::PortEdges, None, || self.0.port_edges(port))
    }
}

impl Taped<dyn Journal> {
    /// A record of the journal never changes: its number is enough.
    fn record(
        &self,
        live: impl FnOnce() -> Result<Option<JournalRecord>, JournalTrouble>,
    ) -> Result<Option<JournalRecord>, JournalTrouble> {
        let mut seen = None;
        let number = self.1.ask(Question::Record, None, || {
            let found = live();
            let number = found.as_ref().map(|found| found.as_ref().map(|record| record.number)).map_err(|error| *error);
            seen = Some(found);
            number
        });
        match (seen, number?) {
            (Some(found), _) => found,
            (None, Some(number)) => match self.0.find(number) {
                // The journal may have to be opened in this life.
                Err(JournalTrouble::Wait) => {
                    self.0.work();
                    self.0.find(number)
                }
                found => found,
            },
            (None, None) => Ok(None),
        }
    }
}

impl Journal for Taped<dyn Journal> {
    fn append(&self, number: u64, bytes: &[u8]) -> Result<Appending, JournalTrouble> {
        self.1.ask(Question::Append, Some(Err(JournalTrouble::Wait)), || self.0.append(number, bytes))
    }

    fn find(&self, number: u64) -> Result<Option<JournalRecord>, JournalTrouble> {
        self.record(|| self.0.find(number))
    }

    fn last(&self, number: u64) -> Result<Option<JournalRecord>, JournalTrouble> {
        self.record(|| self.0.last(number))
    }

    fn next(&self, from: u64) -> Result<Option<JournalRecord>, JournalTrouble> {
        self.record(|| self.0.next(from))
    }

    fn end(&self) -> Result<u64, JournalTrouble> {
        self.1.ask(Question::End, None, || self.0.end())
    }

    fn work(&self) {
        self.1.effect(|| self.0.work());
    }
}

impl Segments for Taped<dyn Segments> {
    fn create(&self, pages: u64) -> Result<Arc<Segment>, SegmentError> {
        // The segment itself is made in a replay, too.
        let mut made = None;
        let could = self.1.ask(Question::Segment, Some(true), || {
            let result = self.0.create(pages);
            let could = result.is_ok();
            made = Some(result);
            could
        });
        match made {
            Some(made) => made,
            None if could => self.0.create(pages),
            None => Err(SegmentError { what: "a new segment".into(), reason: "it could not be made before".into() }),
        }
    }

    fn open(&self, id: SegmentId) -> Result<Arc<Segment>, SegmentError> {
        self.0.open(id)
    }

    fn remove(&self, id: SegmentId) {
        self.0.remove(id);
    }

    fn room_for(&self, pages: u64) -> bool {
        self.1.ask(Question::Space, Some(true), || self.0.room_for(pages))
    }

    fn room(&self, pages: u64) -> Room {
        self.1.ask(Question::Room, Some(Room::Now), || self.0.room(pages))
    }

    fn make_room(&self) {
        self.1.effect(|| self.0.make_room());
    }
}

/// Other domains are not recorded: what comes from them cannot be told again.
const BY_KEY: &str = "the program invoked a key";

impl Keys for Taped<dyn Keys> {
    fn invoke(&self, message: &Message, string: &[u8]) -> Result<Invoked, Errno> {
        self.1.cut(BY_KEY);
        self.0.invoke(message, string)
    }

    fn state(&self) -> Result<Invoked, Errno> {
        self.1.cut(BY_KEY);
        self.0.state()
    }

    fn received(&self) -> Received {
        self.1.cut(BY_KEY);
        self.0.received()
    }

    fn withdraw(&self) -> bool {
        self.1.cut(BY_KEY);
        self.0.withdraw()
    }
}
