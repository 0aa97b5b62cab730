//! Sockets of a program, against real ones of this host.

use super::machine::{BUFFER, DATA, Machine};
use crate::linux::{Errno, Outcome};
use crate::network::HostNetwork;
use crate::network::tests::{network, soon};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const READ: u64 = 0;
const WRITE: u64 = 1;
const POLL: u64 = 7;
const SIGACTION: u64 = 13;
const SIGUSR1: u8 = 10;
const SOCKET: u64 = 41;
const CONNECT: u64 = 42;
const SEND: u64 = 44;
const RECEIVE: u64 = 45;
const BIND: u64 = 49;
const LISTEN: u64 = 50;
const SET: u64 = 54;
const ACCEPT: u64 = 288;
const NONBLOCK: u64 = 0x800;
const PORT: u16 = 7;

fn machine() -> (Machine, Arc<HostNetwork>, SocketAddrV4) {
    let (network, address, _) = network(&[], false);
    let host = Arc::clone(&network);
    (Machine::with_network(host), network, address)
}

fn put_address(m: &Machine, port: u16) {
    let mut raw = [0; 16];
    raw[0] = 2;
    raw[2..4].copy_from_slice(&port.to_be_bytes());
    raw[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    m.poke(BUFFER, &raw);
}

fn listener(m: &mut Machine, flags: u64) -> u64 {
    let fd = m.call(SOCKET, &[2, 1 | flags, 0]).unwrap();
    put_address(m, PORT);
    assert_eq!(m.call(BIND, &[fd, BUFFER, 16]), Ok(0));
    assert_eq!(m.call(LISTEN, &[fd, 5]), Ok(0));
    fd
}

/// A connection from outside: the program's descriptor of it, and the other end.
fn accepted(m: &mut Machine, listener: u64, address: SocketAddrV4) -> (u64, TcpStream) {
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (soon(|| m.call(ACCEPT, &[listener, 0, 0, 0])).unwrap(), peer)
}

fn commit(network: &HostNetwork) {
    network.captured();
    network.committed();
}

#[test]
fn only_what_was_granted_can_be_bound_or_connected_to() {
    let (mut m, _network, _) = machine();
    let fd = m.call(SOCKET, &[2, 1, 6]).unwrap();
    put_address(&m, 8);
    assert_eq!(m.call(BIND, &[fd, BUFFER, 16]), Err(Errno::EACCES));
    assert_eq!(m.call(CONNECT, &[fd, BUFFER, 16]), Err(Errno::EACCES));
    assert_eq!(m.call(LISTEN, &[fd, 5]), Err(Errno::EACCES));
    put_address(&m, PORT);
    m.poke(BUFFER + 4, &[9, 9, 9, 9]);
    assert_eq!(m.call(BIND, &[fd, BUFFER, 16]), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(m.call(BIND, &[fd, BUFFER, 15]), Err(Errno::EINVAL));
    assert_eq!(m.call(BIND, &[1, BUFFER, 16]), Err(Errno::ENOTSOCK));
    assert_eq!(m.call(SOCKET, &[10, 1, 0]), Err(Errno::EAFNOSUPPORT));
    assert_eq!(m.call(SOCKET, &[2, 2, 0]), Err(Errno::EPROTONOSUPPORT));
    // Given back by closing, also by what shares it.
    let first = listener(&mut m, 0);
    put_address(&m, PORT);
    assert_eq!(m.call(BIND, &[fd, BUFFER, 16]), Err(Errno::EADDRINUSE));
    let copy = m.call(32, &[first]).unwrap();
    m.close(first);
    assert_eq!(m.call(BIND, &[fd, BUFFER, 16]), Err(Errno::EADDRINUSE));
    m.close(copy);
    assert_eq!(m.call(BIND, &[fd, BUFFER, 16]), Ok(0));
}

#[test]
fn after_a_restart_the_listener_is_as_it_was_and_connections_are_reset() {
    let (mut m, network, address) = machine();
    let listener = listener(&mut m, NONBLOCK);
    let (fd, _peer) = accepted(&mut m, listener, address);
    let wait = m.wait(READ, &[fd, BUFFER, 10]);
    assert!(wait.network);
    // Another life has another id, and a network without connections.
    network.reset();
    m.restart_in_another_life();
    assert_eq!(m.program.listening(), [(PORT, 5)]);
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Err(Errno::ECONNRESET), "the read that waited");
    assert_eq!(m.call(WRITE, &[fd, BUFFER, 10]), Err(Errno::ECONNRESET));
    assert_eq!(m.call(RECEIVE, &[fd, BUFFER, 10, 0x40, 0, 0]), Err(Errno::ECONNRESET));
    m.poke(BUFFER, &u32::try_from(fd).unwrap().to_le_bytes());
    m.poke(BUFFER + 4, &5_u16.to_le_bytes());
    assert_eq!(m.call(POLL, &[BUFFER, 1, u64::MAX]), Ok(1));
    assert_eq!(u16::from_le_bytes(m.peek(BUFFER + 6, 2).try_into().unwrap()), 1 | 4 | 8 | 16);
    m.close(fd);
    let (fd, mut peer) = accepted(&mut m, listener, address);
    assert_eq!(m.write(fd, b"new"), Ok(3));
    commit(&network);
    let mut got = [0; 3];
    peer.read_exact(&mut got).unwrap();
}

#[test]
fn a_send_that_waits_goes_on_where_it_was_and_a_signal_tells_how_far_it_came() {
    let (mut m, network, address) = machine();
    // A handler, with what returns from it.
    let action = [0x40_0100_u64, 0x400_0000, 0x40_0100, 0].map(u64::to_le_bytes).concat();
    m.poke(DATA, &action);
    assert_eq!(m.call(SIGACTION, &[SIGUSR1.into(), DATA, 0, 8]), Ok(0));
    let listener = listener(&mut m, NONBLOCK);
    let (fd, mut peer) = accepted(&mut m, listener, address);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let pattern: Vec<u8> = (0..1_000_000_usize).map(|i| u8::try_from(i % 251).unwrap()).collect();
    m.poke(BUFFER, &pattern);
    let total = pattern.len() as u64;
    let mut outcome = m.step(SEND, &[fd, BUFFER, total, 0, 0, 0]);
    let mut waits = 0;
    while let Outcome::Wait(wait) = outcome {
        assert!(wait.network);
        waits += 1;
        commit(&network);
        // Whoever has the records knows how far it is.
        m.restart();
        outcome = m.again();
    }
    assert!(waits > 1);
    assert_eq!(m.result(), Ok(total));
    // The second time it is interrupted.
    commit(&network);
    assert!(matches!(m.step(SEND, &[fd, BUFFER, total, 0, 0, 0]), Outcome::Wait(_)));
    assert!(m.program.signal_from_terminal(SIGUSR1));
    assert_eq!(m.again(), Outcome::Resume);
    // `rax` of what the handler interrupts, in the frame on the stack.
    let moved = m.peek_u64(m.regs.rsp + 8 + 144);
    assert!(moved > 0 && moved < total, "{moved}");
    commit(&network);
    m.close(fd);
    commit(&network);
    network.drain_for(Duration::from_secs(60));
    commit(&network);
    let all = reader.join().unwrap();
    assert_eq!(all.len() as u64, total + moved);
    assert!(all == [&pattern[..], &pattern[..usize::try_from(moved).unwrap()]].concat());
}

#[test]
fn a_timeout_of_the_socket_ends_a_wait() {
    let (mut m, _network, address) = machine();
    let listener = listener(&mut m, NONBLOCK);
    let (fd, mut peer) = accepted(&mut m, listener, address);
    m.poke(DATA, &[2_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
    assert_eq!(m.call(SET, &[fd, 1, 20, DATA, 16]), Ok(0));
    let wait = m.wait(READ, &[fd, BUFFER, 10]);
    assert!(wait.until.is_some());
    m.clock.advance(Duration::from_secs(2));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Err(Errno::EAGAIN));
    peer.write_all(b"x").unwrap();
    assert_eq!(soon(|| m.call(RECEIVE, &[fd, BUFFER, 10, 0x40, 0, 0])), Ok(1));
}
