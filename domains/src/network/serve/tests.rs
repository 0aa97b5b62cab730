//! Against real sockets of this host: who is told what, when; and strings that no domain should give.

use super::super::tests::{commit, network, soon};
use super::*;
use crate::linux::Errno;
use crate::parcel::{Heads, are_of_domain};
use proptest::prelude::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::Duration;

const LIFE: u32 = 0xabcd_0123;
const PORT: u16 = 7;

/// The network, where it listens, and what was told of it.
struct Served {
    network: Arc<HostNetwork>,
    address: SocketAddrV4,
    told: Vec<(Head, Vec<u8>)>,
}

fn served() -> Served {
    let (network, address, _) = network(&[], false);
    network.listen(PORT, 1024).unwrap();
    let first = network.take(PORT, LIFE);
    assert_eq!(parcels(&first), [(Head { flags: GONE, ..Head::default() }, Vec::new())], "all of before are gone");
    assert_eq!(network.take(PORT, LIFE), [], "that is told once");
    Served { network, address, told: Vec::new() }
}

/// A string, which must be of parcels to its end.
fn parcels(string: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut heads = Heads(string);
    let all = heads.by_ref().map(|(head, bytes)| (head, bytes.to_vec())).collect();
    assert!(heads.0.is_empty() && string.len() <= MAX_STRING);
    all
}

fn string(parcels: &[(u64, u16, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (connection, flags, bytes) in parcels {
        let head = Head { connection: *connection, len: u16::try_from(bytes.len()).unwrap(), flags: *flags, room: 0 };
        put(&mut all, head, bytes);
    }
    assert!(are_of_domain(&all));
    all
}

impl Served {
    /// Takes until this holds of all that was told since the last time; that.
    fn until(&mut self, mut holds: impl FnMut(&[(Head, Vec<u8>)]) -> bool) -> Vec<(Head, Vec<u8>)> {
        soon(|| {
            self.told.extend(parcels(&self.network.take(PORT, LIFE)));
            if holds(&self.told) { Ok(()) } else { Err(Errno::EAGAIN) }
        })
        .unwrap();
        std::mem::take(&mut self.told)
    }

    /// A new connection: its number, and the other end.
    fn come(&mut self) -> (u64, TcpStream) {
        let peer = TcpStream::connect(self.address).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let told = self.until(|told| !told.is_empty());
        let (head, bytes) = &told[0];
        assert_eq!((told.len(), head.flags, head.room as usize, bytes.len()), (1, CAME, SEND_LIMIT, 0));
        assert_eq!(head.connection >> 32, u64::from(LIFE), "it is of this life");
        (head.connection, peer)
    }

    fn post(&self, parcels: &[(u64, u16, &[u8])]) {
        self.network.post(PORT, LIFE, &string(parcels));
    }

    /// Waits until so many bytes of a connection came.
    fn bytes_of(&mut self, connection: u64, count: usize) -> Vec<u8> {
        let of = |told: &[(Head, Vec<u8>)]| {
            let mine = told.iter().filter(|(head, _)| head.connection == connection);
            mine.flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>()
        };
        of(&self.until(|told| of(told).len() >= count))
    }

    /// Whether nothing is told for a while.
    fn is_silent(&self) -> bool {
        (0..20).all(|_| {
            std::thread::sleep(Duration::from_millis(2));
            self.network.take(PORT, LIFE).is_empty()
        })
    }
}

fn gone(told: &[(Head, Vec<u8>)], connection: u64) -> bool {
    told.iter().any(|(head, _)| head.connection == connection && head.flags == GONE)
}

#[test]
fn what_came_is_told_of_each_and_answers_leave_with_their_checkpoint() {
    let mut served = served();
    let (one, mut first) = served.come();
    let (two, mut second) = served.come();
    first.write_all(b"of the first").unwrap();
    second.write_all(b"of the second").unwrap();
    let told = served.until(|told| told.len() == 2);
    let of = |connection| told.iter().find(|(head, _)| head.connection == connection).unwrap().1.clone();
    assert_eq!((of(one), of(two)), (b"of the first".to_vec(), b"of the second".to_vec()));
    served.post(&[(one, 0, b"to the first"), (two, CLOSE, b"to the second")]);
    first.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(first.read(&mut [0]).is_err(), "no checkpoint contains it");
    first.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    commit(&served.network);
    let mut got = [0; 12];
    first.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"to the first");
    let mut all = Vec::new();
    second.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"to the second");
    // What is sent to one that is closed, of another life, of another port or that never was is dropped.
    let (other, never) = ((u64::from(LIFE) + 1) << 32 | one & 0xffff_ffff, one + 1000);
    served.post(&[(two, 0, b"x"), (other, CLOSE, b"x"), (never, END, b"x")]);
    served.network.post(PORT + 1, LIFE, &string(&[(one, CLOSE, b"x")]));
    commit(&served.network);
    served.post(&[(one, END, b"the last")]);
    commit(&served.network);
    let mut all = Vec::new();
    first.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"the last");
    // It is still heard.
    first.write_all(b"and").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    let told = served.until(|told| told.iter().any(|(head, _)| head.flags == ENDED));
    assert_eq!(told.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), b"and");
    assert!(served.is_silent(), "an end is told once");
}

#[test]
fn one_that_fails_is_told_to_be_gone_once() {
    let mut served = served();
    let (one, peer) = served.come();
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    let told = served.until(|told| !told.is_empty());
    assert!(told.len() == 1 && gone(&told, one), "{told:?}");
    served.post(&[(one, 0, b"x")]);
    assert!(served.is_silent());
    assert_eq!(served.network.count(), 0);
}

/// Found by a review: in one answer two parcels of a connection told of the same room.
#[test]
fn whoever_answers_each_parcel_by_half_of_what_a_connection_holds_loses_none() {
    let mut served = served();
    let mut all = [served.come(), served.come()];
    let answer = |served: &Served, to: u64| {
        for piece in [7; SEND_LIMIT / 2].chunks(4000) {
            served.post(&[(to, 0, piece)]);
        }
    };
    for (number, peer) in &mut all {
        answer(&served, *number);
        peer.write_all(&[1; 3000]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let told = parcels(&served.network.take(PORT, LIFE));
    let lens: Vec<(u16, u16)> = told.iter().map(|(head, _)| (head.flags, head.len)).collect();
    assert_eq!(lens, [(0, 1024); 2]);
    told.iter().for_each(|(head, _)| answer(&served, head.connection));
    assert!(served.is_silent(), "nobody is gone");
    assert_eq!(served.network.held(), 2 * SEND_LIMIT as u64);
}

#[test]
fn nothing_is_told_of_one_that_failed_and_was_closed() {
    let mut served = served();
    let (one, peer) = served.come();
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    std::thread::sleep(Duration::from_millis(100));
    served.post(&[(one, CLOSE, b"the last")]);
    assert!(served.is_silent());
    assert_eq!(served.network.count(), 0);
}

/// Found by a review: a read stops before urgent bytes, and then it was taken that there is no more.
#[test]
fn what_is_behind_urgent_bytes_is_told() {
    let mut served = served();
    let (one, mut peer) = served.come();
    peer.write_all(b"before").unwrap();
    rustix::net::send(&peer, b"!", rustix::net::SendFlags::OOB).unwrap();
    peer.write_all(b"behind").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(served.bytes_of(one, 12), b"beforebehind");
    assert!(served.is_silent());
}

#[test]
fn whoever_sends_more_than_there_is_room_for_loses_that_connection_and_no_other() {
    let mut served = served();
    let (one, mut first) = served.come();
    let (two, mut second) = served.come();
    let piece = [7; 4000];
    for _ in 0..SEND_LIMIT / piece.len() {
        served.post(&[(one, 0, &piece)]);
    }
    assert_eq!(served.network.held(), (SEND_LIMIT / piece.len() * piece.len()) as u64);
    assert!(served.is_silent());
    served.post(&[(one, 0, &piece), (two, 0, b"second")]);
    let told = served.until(|told| !told.is_empty());
    assert!(told.len() == 1 && gone(&told, one), "{told:?}");
    served.post(&[(one, 0, b"dropped")]);
    let receives = std::thread::spawn(move || {
        let mut all = Vec::new();
        let end = first.read_to_end(&mut all);
        (all, end.map_err(|error| error.kind()))
    });
    soon(|| {
        commit(&served.network);
        if served.network.count() == 1 { Ok(()) } else { Err(Errno::EAGAIN) }
    })
    .unwrap();
    let (all, end) = receives.join().unwrap();
    assert!(all.iter().all(|byte| *byte == 7) && all.len() <= SEND_LIMIT, "nothing of what was too much");
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    let mut got = [0; 6];
    second.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"second");
}

#[test]
fn who_does_not_take_what_it_asked_for_is_not_heard_until_it_does() {
    let mut served = served();
    let (one, mut peer) = served.come();
    let piece = [7; 4000];
    let mut sent = 0;
    while sent <= SEND_LIMIT / 2 {
        served.post(&[(one, 0, &piece)]);
        sent += piece.len();
    }
    peer.write_all(b"more").unwrap();
    assert!(served.is_silent());
    served.post(&[(one, WANT, &[])]);
    assert!(served.is_silent(), "there is no room");
    commit(&served.network);
    let mut all = vec![0; sent];
    peer.read_exact(&mut all).unwrap();
    // First that there is room, by itself; what came when it was heard.
    let told = parcels(&soon(|| Ok::<_, Errno>(served.network.take(PORT, LIFE)).and_then(full)).unwrap());
    let room = |head: &Head| (SEND_LIMIT / 2..=SEND_LIMIT).contains(&(head.room as usize));
    assert!(told.len() == 1 && told[0].1.is_empty() && told[0].0.flags == 0 && room(&told[0].0), "{told:?}");
    served.post(&[(one, WANT, b"x")]);
    let told = parcels(&served.network.take(PORT, LIFE));
    assert!(told.len() == 1 && told[0].1.is_empty(), "it is told as often as that is wanted: {told:?}");
    assert_eq!(served.bytes_of(one, 4), b"more");
    assert!(served.is_silent());
}

/// Found by a review: where output is immediate what is sent takes along what is held, and nobody looked whether that made room.
#[test]
fn room_that_is_made_by_sending_is_told() {
    let (network, address, _) = network(&[], true);
    network.listen(PORT, 5).unwrap();
    network.take(PORT, LIFE);
    // Who hears of sockets stands while this is locked.
    let stands = Arc::new(Mutex::new(()));
    let stands_at = Arc::clone(&stands);
    network.bell.also(move || drop(stands_at.lock()));
    let mut served = Served { network, address, told: Vec::new() };
    let (one, mut peer) = served.come();
    while served.network.held() <= SEND_LIMIT as u64 / 2 {
        served.post(&[(one, 0, &[7; 4000])]);
    }
    served.post(&[(one, WANT, &[])]);
    assert!(served.is_silent());
    let stood = stands.lock().unwrap();
    let _other = TcpStream::connect(address).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while peer.read(&mut [0; 1 << 16]).is_ok() {}
    served.post(&[(one, 0, b"x")]);
    assert_eq!(served.network.held(), 0);
    drop(stood);
    served.until(|told| told.iter().any(|(head, _)| head.connection == one));
}

fn full(answer: Vec<u8>) -> Result<Vec<u8>, Errno> {
    if answer.is_empty() { Err(Errno::EAGAIN) } else { Ok(answer) }
}

#[test]
fn who_sends_much_takes_nothing_from_who_sends_little() {
    let mut served = served();
    let mut others: Vec<_> = (0..3).map(|_| served.come()).collect();
    let (fast, mut peer) = served.come();
    let writes = std::thread::spawn(move || {
        let _ = peer.write_all(&vec![1; 4 << 20]);
        peer
    });
    served.bytes_of(fast, 20_000);
    for round in 0..20_u8 {
        for (_, other) in &mut others {
            other.write_all(&[round; 100]).unwrap();
        }
        // Whoever is heard of is in one of the next two answers, and not behind all that the fast one has.
        let mut of_fast = 0;
        for (number, _) in &others {
            let mut got = 0;
            while got < 100 {
                let told = parcels(&served.network.take(PORT, LIFE));
                let of = |connection: u64| -> usize {
                    told.iter().filter(|(head, _)| head.connection == connection).map(|(_, bytes)| bytes.len()).sum()
                };
                let mine = told.iter().chain(&served.told).filter(|(head, _)| head.connection == *number);
                got = mine.map(|(_, bytes)| bytes.len()).sum();
                of_fast += of(fast);
                served.told.extend(told);
            }
        }
        served.told.clear();
        assert!(of_fast < 1 << 20, "{of_fast} bytes of the fast one came before a few of the others");
    }
    // In one answer nobody has more than its slice, if others are ready.
    served.network.post(PORT, LIFE, &string(&[(fast, CLOSE, &[])]));
    for (_, other) in &mut others {
        other.write_all(&[9; 3000]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let told = parcels(&served.network.take(PORT, LIFE));
    let lens: Vec<usize> = told.iter().map(|(_, bytes)| bytes.len()).collect();
    assert!(lens.len() >= 3 && lens.iter().all(|len| *len <= SLICE), "{lens:?}");
    // What it says to nobody is refused now.
    drop(served);
    drop(writes.join().unwrap());
}

#[test]
fn an_order_that_begins_anew_resets_who_was_let_in() {
    let mut served = served();
    let (one, mut peer) = served.come();
    served.network.post(PORT, LIFE, &Head { flags: CLOSE, ..Head::default() }.to_bytes());
    commit(&served.network);
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    served.post(&[(one, 0, b"x")]);
    assert!(served.is_silent());
    let (two, _) = served.come();
    assert!(two != one);
}

#[test]
fn as_many_as_there_may_be_are_let_in_and_each_that_ends_makes_room() {
    let mut served = served();
    let mut peers = Vec::new();
    let mut numbers = Vec::new();
    while peers.len() < MAX_CONNECTIONS {
        peers.push(TcpStream::connect(served.address).unwrap());
        if peers.len() % 100 == 0 || peers.len() == MAX_CONNECTIONS {
            let more = peers.len() - numbers.len();
            numbers.extend(served.until(|told| told.len() == more).into_iter().map(|(head, _)| head.connection));
        }
    }
    let mut waits = TcpStream::connect(served.address).unwrap();
    waits.write_all(b"let me in").unwrap();
    assert!(served.is_silent());
    served.post(&[(numbers[3], CLOSE, &[])]);
    commit(&served.network);
    let told = served.until(|told| told.iter().any(|(_, bytes)| !bytes.is_empty()));
    assert_eq!(told.last().unwrap().1, b"let me in");
}

proptest! {
    #[test]
    fn nonsense_is_no_parcel_and_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut heads = Heads(&bytes);
        let taken: usize = heads.by_ref().map(|(_, bytes)| HEAD + bytes.len()).sum();
        prop_assert_eq!(taken + heads.0.len(), bytes.len());
        if are_of_domain(&bytes) {
            prop_assert!(heads.0.is_empty());
        }
        let (network, _, _) = network(&[], false);
        network.post(PORT, LIFE, &bytes);
        prop_assert_eq!(network.held(), 0);
    }

    #[test]
    fn a_head_is_read_as_it_was_written(connection: u64, len: u16, flags: u16, room: u32) {
        let head = Head { connection, len, flags, room };
        prop_assert_eq!(Head::from_bytes(head.to_bytes()), head);
    }

    #[test]
    fn whole_parcels_are_taken_and_broken_ones_are_not(
        parcels in prop::collection::vec((1..u64::MAX, 0..8_u16, prop::collection::vec(any::<u8>(), 0..50)), 0..8),
        cut in 1..40_usize,
        flag in 3..16_u32,
    ) {
        let parcels: Vec<(u64, u16, &[u8])> = parcels.iter().map(|(to, flags, bytes)| (*to, *flags, &bytes[..])).collect();
        let whole = string(&parcels);
        prop_assert_eq!(Heads(&whole).count(), parcels.len());
        if let Some((to, flags, bytes)) = parcels.last() {
            prop_assert!(!are_of_domain(&whole[..whole.len() - cut.min(HEAD + bytes.len() - 1)]) || cut >= HEAD + bytes.len());
            let unknown = Head { connection: *to, flags: flags | 1 << flag, ..Head::default() };
            let room = Head { connection: *to, room: 1, ..Head::default() };
            let all = Head { connection: 0, flags: END, ..Head::default() };
            for wrong in [unknown, room, all] {
                prop_assert!(!are_of_domain(&[&whole[..], &wrong.to_bytes()].concat()));
            }
        }
    }
}
