//! Connections on which something came ahead.
//!
//! A call that tells of several ready connections has what came on them put into the pages of the process, where the stub answers who receives,
//! and takes what is sent in return, without a stop for each (decisions/0405-mail.md). What lies there is the front of what was received: all
//! that the kernel does on a connection itself goes by it, and between two stops nobody else knows of it.

use super::{Accepted, Errno, Network, Ready};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a connection takes without being asked, when it says that it has room: less than that room.
pub(super) const ROOM: u32 = 64 << 10;

/// Bytes of one connection that come ahead.
pub(super) const PARCEL_BYTES: usize = 4 << 10;

/// What came ahead on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its number.
    pub connection: u64,
    /// The descriptor on which the stub may answer; none: only the kernel does.
    pub fd: Option<u32>,
    /// What was not received yet.
    pub bytes: Vec<u8>,
    /// Bytes that may be put by to be sent.
    pub room: u32,
    /// Who receives does not wait, and is told once that there is nothing.
    pub dry: bool,
    /// There was nothing behind these bytes.
    pub whole: bool,
    /// It came with the stop that is being served.
    pub fresh: bool,
}

/// Something that was put by to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// On which connection.
    pub connection: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// What lies in the pages of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// In which life of the world it came.
    pub life: [u64; 2],
    /// What came ahead.
    pub parcels: Vec<Parcel>,
    /// What is to be sent, in order.
    pub letters: Vec<Letter>,
}

/// The network, with what came ahead before the rest.
pub(super) struct Ahead {
    network: Arc<dyn Network>,
    front: Mutex<BTreeMap<u64, VecDeque<u8>>>,
}

impl Ahead {
    pub fn new(network: Arc<dyn Network>) -> Arc<Self> {
        Arc::new(Self { network, front: Mutex::default() })
    }

    fn front(&self) -> MutexGuard<'_, BTreeMap<u64, VecDeque<u8>>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts back what came ahead.
    pub fn put_back(&self, connection: u64, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.front().entry(connection).or_default().extend(bytes);
        }
    }

    /// What came ahead and was not received.
    pub fn take_front(&self, connection: u64) -> Vec<u8> {
        self.front().remove(&connection).map(Vec::from).unwrap_or_default()
    }

    /// Forgets what nobody asked for.
    pub fn clear(&self) {
        self.front().clear();
    }

    /// Sends what was put by. A connection that is not there any more has lost it, as Linux would have.
    pub fn send_all(&self, letter: &Letter) {
        let mut bytes = &letter.bytes[..];
        while !bytes.is_empty() {
            match self.network.send(letter.connection, bytes) {
                Ok(count) if count > 0 => bytes = &bytes[count.min(bytes.len())..],
                _ => return,
            }
        }
    }

    /// Bytes that came ahead and were not received, of all connections.
    pub fn bytes(&self) -> usize {
        self.front().values().map(VecDeque::len).sum()
    }

    /// Receives ahead, behind what did before: how many bytes, and whether there were no more. An end or an error is left to who receives.
    pub fn fetch(&self, connection: u64, most: usize) -> (usize, bool) {
        let mut bytes = vec![0; most];
        let got = self.network.receive(connection, &mut bytes, false).unwrap_or(0).min(most);
        bytes.truncate(got);
        self.put_back(connection, bytes);
        (got, got < most)
    }
}

impl Network for Ahead {
    fn granted(&self, port: u16) -> Result<Ipv4Addr, Errno> {
        self.network.granted(port)
    }

    fn listen(&self, port: u16, backlog: u32) -> Result<(), Errno> {
        self.network.listen(port, backlog)
    }

    fn stop_listening(&self, port: u16) {
        self.network.stop_listening(port);
    }

    fn accept(&self, port: u16) -> Result<Accepted, Errno> {
        self.network.accept(port)
    }

    fn connect(&self, to: SocketAddrV4) -> Result<u64, Errno> {
        self.network.connect(to)
    }

    fn connected(&self, connection: u64) -> Result<SocketAddrV4, Errno> {
        self.network.connected(connection)
    }

    fn receive(&self, connection: u64, out: &mut [u8], look: bool) -> Result<usize, Errno> {
        let mut all = self.front();
        let Some(front) = all.get_mut(&connection).filter(|front| !front.is_empty()) else {
            drop(all);
            return self.network.receive(connection, out, look);
        };
        let count = front.len().min(out.len());
        for (to, from) in out.iter_mut().zip(front.iter()) {
            *to = *from;
        }
        if !look {
            front.drain(..count);
        }
        drop(all);
        // What is behind it, if there is room. An error is told to who finds nothing else.
        match &mut out[count..] {
            [] => Ok(count),
            rest => match self.network.ready(connection) {
                Ok(ready) if ready.input && !ready.failed => {
                    Ok(count + self.network.receive(connection, rest, look).unwrap_or(0))
                }
                _ => Ok(count),
            },
        }
    }

    fn send(&self, connection: u64, data: &[u8]) -> Result<usize, Errno> {
        self.network.send(connection, data)
    }

    fn take_error(&self, connection: u64) -> Option<Errno> {
        self.network.take_error(connection)
    }

    fn shut_down(&self, connection: u64, receiving: bool, sending: bool) {
        if receiving {
            self.front().remove(&connection);
        }
        self.network.shut_down(connection, receiving, sending);
    }

    fn close(&self, connection: u64, reset: bool) {
        // As Linux: the other end learns that what it sent was not taken.
        let unread = self.front().remove(&connection).is_some_and(|front| !front.is_empty());
        self.network.close(connection, reset || unread);
    }

    fn port_ready(&self, port: u16) -> Ready {
        self.network.port_ready(port)
    }

    fn ready(&self, connection: u64) -> Result<Ready, Errno> {
        let ready = self.network.ready(connection)?;
        let ahead = self.front().get(&connection).is_some_and(|front| !front.is_empty());
        Ok(Ready { input: ready.input || ahead, ..ready })
    }

    fn edges(&self, connection: u64) -> [u64; 2] {
        self.network.edges(connection)
    }

    fn port_edges(&self, port: u16) -> u64 {
        self.network.port_edges(port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoNetwork;
    use super::*;

    /// One connection on which `came` comes, and that keeps what is sent.
    #[derive(Default)]
    struct One {
        came: Mutex<Vec<u8>>,
        sent: Mutex<Vec<u8>>,
    }

    impl Network for One {
        fn receive(&self, _: u64, out: &mut [u8], look: bool) -> Result<usize, Errno> {
            let mut came = self.came.lock().unwrap();
            let count = came.len().min(out.len());
            out[..count].copy_from_slice(&came[..count]);
            if !look {
                came.drain(..count);
            }
            if count == 0 { Err(Errno::EAGAIN) } else { Ok(count) }
        }

        fn send(&self, _: u64, data: &[u8]) -> Result<usize, Errno> {
            // In small pieces.
            let count = data.len().min(3);
            self.sent.lock().unwrap().extend_from_slice(&data[..count]);
            Ok(count)
        }

        fn ready(&self, _: u64) -> Result<Ready, Errno> {
            Ok(Ready { input: !self.came.lock().unwrap().is_empty(), ..Ready::default() })
        }

        fn granted(&self, port: u16) -> Result<Ipv4Addr, Errno> {
            NoNetwork.granted(port)
        }

        fn listen(&self, port: u16, backlog: u32) -> Result<(), Errno> {
            NoNetwork.listen(port, backlog)
        }

        fn stop_listening(&self, _: u16) {}

        fn accept(&self, port: u16) -> Result<Accepted, Errno> {
            NoNetwork.accept(port)
        }

        fn connect(&self, to: SocketAddrV4) -> Result<u64, Errno> {
            NoNetwork.connect(to)
        }

        fn connected(&self, connection: u64) -> Result<SocketAddrV4, Errno> {
            NoNetwork.connected(connection)
        }

        fn take_error(&self, _: u64) -> Option<Errno> {
            None
        }

        fn shut_down(&self, _: u64, _: bool, _: bool) {}

        fn close(&self, _: u64, _: bool) {}

        fn port_ready(&self, _: u16) -> Ready {
            Ready::default()
        }

        fn edges(&self, _: u64) -> [u64; 2] {
            [0; 2]
        }

        fn port_edges(&self, _: u16) -> u64 {
            0
        }
    }

    fn received(ahead: &Ahead, most: usize, look: bool) -> Vec<u8> {
        let mut out = vec![0; most];
        let count = ahead.receive(1, &mut out, look).unwrap_or(0);
        out[..count].to_vec()
    }

    #[test]
    fn what_came_ahead_is_the_front_of_what_is_received() {
        let one = Arc::new(One::default());
        *one.came.lock().unwrap() = b"one two three".to_vec();
        let ahead = Ahead::new(Arc::clone(&one) as Arc<dyn Network>);
        assert_eq!((ahead.fetch(1, 4), ahead.bytes()), ((4, false), 4));
        assert_eq!(received(&ahead, 6, true), b"one two th"[..6].to_vec());
        assert_eq!(received(&ahead, 2, false), b"on");
        assert_eq!(ahead.fetch(1, 100), (9, true));
        assert!(one.came.lock().unwrap().is_empty() && ahead.ready(1).unwrap().input);
        assert_eq!(received(&ahead, 100, false), b"e two three");
        assert!(!ahead.ready(1).unwrap().input);
        assert_eq!(ahead.receive(1, &mut [0], false), Err(Errno::EAGAIN));
    }

    #[test]
    fn what_lies_in_the_pages_comes_before_what_comes_later() {
        let one = Arc::new(One::default());
        let ahead = Ahead::new(Arc::clone(&one) as Arc<dyn Network>);
        ahead.put_back(1, b"first ".to_vec());
        *one.came.lock().unwrap() = b"second".to_vec();
        assert_eq!(received(&ahead, 100, false), b"first second");
        ahead.put_back(1, b"left".to_vec());
        ahead.shut_down(1, true, false);
        assert_eq!(ahead.bytes(), 0);
        ahead.put_back(1, b"left".to_vec());
        assert_eq!(ahead.take_front(1), b"left");
        ahead.put_back(1, b"left".to_vec());
        ahead.close(1, false);
        assert_eq!(ahead.take_front(1), b"");
    }

    #[test]
    fn what_was_put_by_is_sent_whole() {
        let one = Arc::new(One::default());
        let ahead = Ahead::new(Arc::clone(&one) as Arc<dyn Network>);
        ahead.send_all(&Letter { connection: 1, bytes: b"a longer letter".to_vec() });
        assert_eq!(one.sent.lock().unwrap()[..], b"a longer letter"[..]);
    }
}
