//! Against real sockets of this host: what is held, what is bounded, what is gone.

use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::atomic::AtomicU64;

/// Counts how often a checkpoint was wanted, wanted in any case, and wanted at once.
#[derive(Default)]
pub struct Wanted {
    soon: AtomicU64,
    much: AtomicU64,
    all: AtomicU64,
}

impl NetworkEvents for Wanted {
    fn sent(&self, much: bool, all: bool) {
        self.all.fetch_add(u64::from(all), SeqCst);
        if much { &self.much } else { &self.soon }.fetch_add(1, SeqCst);
    }
}

/// A port of this host that is free now.
pub fn free_address() -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    match listener.local_addr().unwrap() {
        std::net::SocketAddr::V4(address) => address,
        other => panic!("{other}"),
    }
}

/// A network that may listen at a free address for port 7, and connect to these.
pub fn network(connects: &[SocketAddrV4], at_once: bool) -> (Arc<HostNetwork>, SocketAddrV4, Arc<Wanted>) {
    let address = free_address();
    let grants = Grants { listens: vec![Listen { address, port: 7 }], connects: connects.to_vec() };
    let wanted = Arc::new(Wanted::default());
    let events = Arc::clone(&wanted) as Arc<dyn NetworkEvents>;
    let poller = Poller::new().unwrap();
    // The thread ends with the poller, which the network keeps.
    let network = HostNetwork::open(&grants, &poller, Arc::new(Bell::default()), events, at_once).unwrap();
    (network, address, wanted)
}

/// What a call gives once it is not `EAGAIN` any more.
pub fn soon<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match call() {
            Err(Errno::EAGAIN) => assert!(Instant::now() < deadline, "it never comes"),
            other => return other,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A connection from outside to port 7: its number, and the other end.
pub fn pair(network: &HostNetwork, address: SocketAddrV4) -> (u64, TcpStream) {
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (soon(|| network.accept(7)).unwrap().connection, peer)
}

/// A capture is made, and durable.
pub fn commit(network: &HostNetwork) {
    network.captured();
    network.committed();
}

fn is_silent(peer: &mut TcpStream) -> bool {
    peer.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let silent = matches!(peer.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    peer.set_nonblocking(false).unwrap();
    silent
}

#[test]
fn what_is_sent_leaves_when_the_capture_that_contains_it_has_committed() {
    let (network, address, wanted) = network(&[], false);
    network.listen(7, 5).unwrap();
    let (one, mut peer) = pair(&network, address);
    assert_eq!(network.send(one, b"first"), Ok(5));
    assert_eq!(wanted.soon.load(SeqCst), 1);
    network.captured();
    assert_eq!(network.send(one, b"second"), Ok(6));
    assert!(is_silent(&mut peer), "captured is not committed");
    network.committed();
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"first");
    assert!(is_silent(&mut peer), "what came after the capture stays");
    assert_eq!(network.held(), 6);
    // The end comes behind it, with a capture of its own.
    network.captured();
    network.close(one, false);
    network.committed();
    let mut got = [0; 6];
    peer.read_exact(&mut got).unwrap();
    assert!(is_silent(&mut peer));
    assert_eq!(network.count(), 1);
    commit(&network);
    assert_eq!(peer.read(&mut got).unwrap(), 0);
    assert_eq!(network.count(), 0);
    assert_eq!(network.send(one, b"x"), Err(Errno::ECONNRESET));
}

#[test]
fn immediate_output_leaves_at_once() {
    let (network, address, _) = network(&[], true);
    network.listen(7, 5).unwrap();
    let (one, mut peer) = pair(&network, address);
    assert_eq!(network.send(one, b"first"), Ok(5));
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    network.shut_down(one, false, true);
    assert_eq!(peer.read(&mut got).unwrap(), 0);
    assert_eq!(network.send(one, b"x"), Err(Errno::EPIPE));
    network.close(one, false);
    assert_eq!(network.count(), 0);
}

#[test]
fn what_was_sent_ahead_is_not_sent_again() {
    let (network, address, _) = network(&[], false);
    network.listen(7, 5).unwrap();
    let (one, mut peer) = pair(&network, address);
    assert_eq!(network.send_ahead(one, b"first"), Ok(()));
    assert_eq!(network.send_ahead(one, b"second"), Ok(()));
    commit(&network);
    let mut got = [0; 11];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"firstsecond");
    // The program says it in other pieces, and goes on in the middle of one.
    assert_eq!(network.send(one, b"fir"), Ok(3));
    assert_eq!(network.send(one, b"stse"), Ok(4));
    assert_eq!(network.send(one, b"cond, third"), Ok(11));
    commit(&network);
    let mut got = [0; 7];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b", third");
    assert!(is_silent(&mut peer));
    // All or nothing, as long as it is not the program that waits.
    let much = vec![7; SEND_LIMIT - 10];
    assert_eq!(network.send_ahead(one, &much), Ok(()));
    assert_eq!(network.send_ahead(one, &[7; 11]), Err(Errno::EAGAIN));
    assert_eq!(network.held(), much.len() as u64);
    assert_eq!(network.send(one, &much), Ok(much.len()));
    assert_eq!(network.send(one, &[7; 11]), Ok(10));
}

#[test]
fn what_is_behind_urgent_bytes_is_seen() {
    let (network, address, _) = network(&[], false);
    network.listen(7, 5).unwrap();
    let (one, mut peer) = pair(&network, address);
    peer.write_all(b"before").unwrap();
    rustix::net::send(&peer, b"!", rustix::net::SendFlags::OOB).unwrap();
    peer.write_all(b"behind").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let mut got = [0; 100];
    assert_eq!(network.receive(one, &mut got, false), Ok(6), "the host stops there");
    assert!(network.ready(one).unwrap().input);
    assert_eq!(network.receive(one, &mut got, false), Ok(6));
    assert_eq!(&got[..6], b"behind");
    assert!(!network.ready(one).unwrap().input);
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory() {
    let (network, address, wanted) = network(&[], false);
    network.listen(7, 5).unwrap();
    let (one, mut peer) = pair(&network, address);
    let piece = vec![7; 100_000];
    let (mut taken, mut full) = (0_u64, 0);
    while full < 20 {
        match network.send(one, &piece) {
            Ok(count) => taken += count as u64,
            Err(errno) => {
                assert_eq!(errno, Errno::EAGAIN);
                assert!(!network.ready(one).unwrap().output);
                commit(&network);
                full += 1;
            }
        }
        assert!(network.held() <= SEND_LIMIT as u64);
    }
    assert!(wanted.much.load(SeqCst) > 0, "much that is held wants a checkpoint in any case");
    // It reads: all comes, in order, and there is room again.
    let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
    while got < taken {
        got += peer.read(&mut buffer).unwrap() as u64;
        commit(&network);
    }
    assert_eq!(got, taken);
    assert!(network.ready(one).unwrap().output);
}

#[test]
fn ports_let_in_only_while_the_program_listens() {
    let (network, address, _) = network(&[], false);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(network.accept(7), Err(Errno::EINVAL));
    assert_eq!(network.listen(8, 5), Err(Errno::EACCES));
    network.listen(7, 5).unwrap();
    let (one, peer) = pair(&network, address);
    network.stop_listening(7);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    network.set_listening(&[(7, 5)]);
    let (two, _) = pair(&network, address);
    assert!(two > one, "a number is never used again");
    drop(peer);
    assert_eq!(soon(|| network.receive(one, &mut [0], false)), Ok(0));
}

#[test]
fn a_port_that_another_one_has_is_told() {
    let (_network, address, _) = network(&[], false);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let std::net::SocketAddr::V4(there) = taken.local_addr().unwrap() else { panic!() };
    let grants = Grants { listens: vec![Listen { address: there, port: 7 }], connects: vec![] };
    let events = Arc::new(Wanted::default());
    let opened = HostNetwork::open(&grants, &Poller::new().unwrap(), Arc::new(Bell::default()), events, false);
    let error = opened.err().unwrap();
    assert_eq!(error.to_string(), format!("{there} cannot be listened at: the port is in use by another program"));
    assert_ne!(address, there);
}

#[test]
fn resets_are_told_once_and_going_back_resets_all() {
    let (network, address, _) = network(&[], false);
    network.listen(7, 5).unwrap();
    let (one, peer) = pair(&network, address);
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(soon(|| network.receive(one, &mut [0], false)), Err(Errno::ECONNRESET));
    assert_eq!(network.receive(one, &mut [0], false), Ok(0));
    assert_eq!(soon(|| network.send(one, b"x").and(Err::<(), _>(Errno::EAGAIN))), Err(Errno::EPIPE));
    let (two, mut peer) = pair(&network, address);
    network.send(two, b"never").unwrap();
    network.reset();
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(network.receive(two, &mut [0], false), Err(Errno::ECONNRESET));
    assert!(network.ready(two).is_err());
    assert_eq!(network.count(), 0);
}

#[test]
fn connections_go_only_where_they_were_granted() {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let std::net::SocketAddr::V4(there) = outside.local_addr().unwrap() else { panic!() };
    let nobody = free_address();
    let (network, _, _) = network(&[there, nobody], false);
    assert_eq!(network.connect(SocketAddrV4::new(*there.ip(), 1)), Err(Errno::EACCES));
    assert_eq!(network.connect(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), there.port())), Err(Errno::EACCES));
    let one = network.connect(there).unwrap();
    assert!(soon(|| network.connected(one)).is_ok());
    let (mut peer, _) = outside.accept().unwrap();
    network.send(one, b"hello").unwrap();
    commit(&network);
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    peer.write_all(b"answer").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut got = [0; 10];
    assert_eq!(soon(|| network.receive(one, &mut got, true)), Ok(6), "looked at");
    assert_eq!(network.receive(one, &mut got, false), Ok(6));
    assert_eq!(soon(|| network.receive(one, &mut got, false)), Ok(0));
    let two = network.connect(nobody).unwrap();
    assert_eq!(soon(|| network.connected(two)), Err(Errno::ECONNREFUSED));
}

#[test]
fn a_checkpoint_is_wanted_at_once_when_all_are_answered_who_were_lately() {
    let (network, address, wanted) = network(&[], false);
    network.listen(7, 16).unwrap();
    let peers: Vec<_> = (0..3).map(|_| pair(&network, address)).collect();
    let at_once = |answered: &[usize]| {
        for of in answered {
            network.send(peers[*of].0, b"answer").unwrap();
        }
        wanted.all.swap(0, SeqCst)
    };
    // Nobody was answered before: whoever is first is all there is.
    assert_eq!(at_once(&[0, 1, 2]), 3);
    network.captured();
    assert_eq!(at_once(&[0, 1]), 0, "one of the three is still expected");
    assert_eq!(at_once(&[1]), 0, "a second piece of one answer counts for nothing");
    assert_eq!(at_once(&[2]), 1);
    network.captured();
    // The others are forgotten after a second capture without them.
    assert_eq!(at_once(&[0]), 0);
    network.captured();
    assert_eq!(at_once(&[0]), 0);
    network.captured();
    assert_eq!(at_once(&[0]), 1);
}
