//! Unix sockets, timers and signals as descriptors: against a plain model, under calls that mean harm, over restarts.

use super::machine::{BUFFER, DATA, Machine};
use super::model::Dice;
use crate::linux::{Errno, Outcome};
use std::collections::VecDeque;
use std::time::Duration;

const POLL: u64 = 7;
const SOCKET: u64 = 41;
const CONNECT: u64 = 42;
const ACCEPT: u64 = 43;
const SEND: u64 = 44;
const RECEIVE: u64 = 45;
const SHUTDOWN: u64 = 48;
const BIND: u64 = 49;
const LISTEN: u64 = 50;
const SOCKETPAIR: u64 = 53;
const KILL: u64 = 62;
const SIGPROCMASK: u64 = 14;
const TIMER_CREATE: u64 = 283;
const TIMER_SET: u64 = 286;
const SIGNALFD: u64 = 289;
const STREAM: u64 = 1;
const SEQPACKET: u64 = 5;
const NONBLOCK: u64 = 0x800;
const DONTWAIT: u64 = 0x40;
const NOSIGNAL: u64 = 0x4000;

fn pair(m: &mut Machine, kind: u64) -> [u64; 2] {
    assert_eq!(m.call(SOCKETPAIR, &[1, kind, 0, BUFFER]), Ok(0));
    let both = m.peek_u64(BUFFER);
    [both & 0xffff_ffff, both >> 32]
}

fn send(m: &mut Machine, fd: u64, bytes: &[u8]) -> Result<u64, Errno> {
    m.poke(BUFFER, bytes);
    m.call(SEND, &[fd, BUFFER, bytes.len() as u64, DONTWAIT | NOSIGNAL, 0, 0])
}

fn receive(m: &mut Machine, fd: u64, length: u64) -> Result<Vec<u8>, Errno> {
    let count = m.call(RECEIVE, &[fd, BUFFER, length, DONTWAIT, 0, 0])?;
    Ok(m.peek(BUFFER, count))
}

fn address(m: &Machine, name: &str) -> [u64; 2] {
    m.poke(BUFFER, &1_u16.to_le_bytes());
    m.poke(BUFFER + 2, name.as_bytes());
    [BUFFER, 2 + name.len() as u64]
}

#[test]
fn what_was_sent_is_there_after_a_restart() {
    for kind in [STREAM, SEQPACKET] {
        let mut m = Machine::new();
        let [one, other] = pair(&mut m, kind);
        assert_eq!(send(&mut m, one, b"first"), Ok(5));
        assert_eq!(send(&mut m, other, b"back"), Ok(4));
        m.restart_in_another_life();
        assert_eq!(receive(&mut m, other, 5), Ok(b"first".to_vec()));
        assert_eq!(receive(&mut m, one, 99), Ok(b"back".to_vec()));
        m.close(other);
        m.restart_in_another_life();
        assert_eq!(receive(&mut m, one, 9), Ok(Vec::new()));
        assert_eq!(send(&mut m, one, b"x"), Err(Errno::EPIPE));
    }
}

#[test]
fn a_connection_that_waits_is_there_after_a_restart() {
    let mut m = Machine::new();
    let [server, client] = [0, 1].map(|_| m.call(SOCKET, &[1, STREAM, 0]).unwrap());
    for name in ["/tmp/s", "\0any"] {
        let at = address(&m, name);
        assert_eq!(m.call(BIND, &[server, at[0], at[1]]), if name == "/tmp/s" { Ok(0) } else { Err(Errno::EINVAL) });
    }
    assert_eq!(m.call(LISTEN, &[server, 2]), Ok(0));
    assert_eq!(m.wait(ACCEPT, &[server, 0, 0]).until, None);
    m.restart_in_another_life();
    let at = address(&m, "/tmp/s");
    assert_eq!(m.call(CONNECT, &[client, at[0], at[1]]), Ok(0));
    assert_eq!(send(&mut m, client, b"early"), Ok(5));
    m.restart_in_another_life();
    let peer = m.call(ACCEPT, &[server, 0, 0]).unwrap();
    assert_eq!(receive(&mut m, peer, 9), Ok(b"early".to_vec()));
    // One that is never accepted goes with the listener, and takes nothing with it.
    let late = m.call(SOCKET, &[1, STREAM, 0]).unwrap();
    let at = address(&m, "/tmp/s");
    assert_eq!(m.call(CONNECT, &[late, at[0], at[1]]), Ok(0));
    m.close(server);
    assert_eq!(receive(&mut m, late, 9), Err(Errno::ECONNRESET));
    assert_eq!(receive(&mut m, late, 9), Ok(Vec::new()));
    m.close(peer);
    m.close(late);
    m.close(client);
    assert_eq!(m.segments.alive(), {
        let mut kept = m.program.segments();
        kept.sort();
        kept
    });
}

#[test]
fn a_queue_that_is_full_lets_nobody_in() {
    let mut m = Machine::new();
    let server = m.call(SOCKET, &[1, STREAM, 0]).unwrap();
    let at = address(&m, "\0full");
    assert_eq!(m.call(BIND, &[server, at[0], at[1]]), Ok(0));
    assert_eq!(m.call(LISTEN, &[server, 0]), Ok(0));
    let clients = [0, 1].map(|_| m.call(SOCKET, &[1, STREAM | NONBLOCK, 0]).unwrap());
    let at = address(&m, "\0full");
    assert_eq!(m.call(CONNECT, &[clients[0], at[0], at[1]]), Ok(0));
    assert_eq!(m.call(CONNECT, &[clients[1], at[0], at[1]]), Err(Errno::EAGAIN));
    // Shorter by a byte, it is another name.
    assert_eq!(m.call(CONNECT, &[clients[1], at[0], at[1] - 1]), Err(Errno::ECONNREFUSED));
    m.close(clients[0]);
    m.call(ACCEPT, &[server, 0, 0]).unwrap();
    let at = address(&m, "\0full");
    assert_eq!(m.call(CONNECT, &[clients[1], at[0], at[1]]), Ok(0));
}

/// One direction of a pair, as a plain queue.
fn against_a_model(kind: u64, seed: u64) {
    let (mut m, mut dice) = (Machine::new(), Dice::new(seed));
    let ends = pair(&mut m, kind);
    let mut queues: [VecDeque<Vec<u8>>; 2] = Default::default();
    let (mut shut, mut next) = ([false; 2], 0_u8);
    for step in 0..400 {
        let (from, about) = (usize::try_from(dice.below(2)).unwrap(), format!("seed {seed}, step {step}"));
        let waiting: usize = queues[from].iter().map(|message| message.len() + 4).sum();
        match dice.below(20) {
            0..=8 => {
                let length =
                    usize::try_from(if dice.below(8) == 0 { dice.below(60_000) } else { dice.below(900) }).unwrap();
                let bytes: Vec<u8> = (0..length).map(|i| next.wrapping_add(i.to_le_bytes()[0])).collect();
                next = next.wrapping_add(7);
                match send(&mut m, ends[from], &bytes) {
                    Ok(count) => {
                        assert!(!shut[from], "{about}");
                        let count = usize::try_from(count).unwrap();
                        assert!(count == length || kind == STREAM, "{about}");
                        if count > 0 || kind == SEQPACKET {
                            queues[from].push_back(bytes[..count].to_vec());
                        }
                    }
                    Err(Errno::EPIPE) => assert!(shut[from], "{about}"),
                    Err(errno) => {
                        assert_eq!(errno, Errno::EAGAIN, "{about}");
                        assert!(waiting + length > 200_000, "{about}: {waiting} bytes wait");
                    }
                }
            }
            9..=17 => {
                let most = dice.below(3000);
                let got = receive(&mut m, ends[1 - from], most.max(1));
                let most = usize::try_from(most.max(1)).unwrap();
                if waiting == 0 && queues[from].is_empty() {
                    assert_eq!(got, if shut[from] { Ok(Vec::new()) } else { Err(Errno::EAGAIN) }, "{about}");
                } else if kind == SEQPACKET {
                    let message = queues[from].pop_front().unwrap();
                    assert_eq!(got.unwrap(), message[..message.len().min(most)], "{about}");
                } else {
                    let all: Vec<u8> = queues[from].drain(..).flatten().collect();
                    let count = all.len().min(most);
                    assert_eq!(got.unwrap(), all[..count], "{about}");
                    if count < all.len() {
                        queues[from].push_back(all[count..].to_vec());
                    }
                }
            }
            18 => m.restart_in_another_life(),
            _ if dice.below(20) == 0 => {
                assert_eq!(m.call(SHUTDOWN, &[ends[from], 1]), Ok(0), "{about}");
                shut[from] = true;
            }
            _ => {}
        }
    }
}

#[test]
fn a_pair_is_two_queues() {
    for seed in 1..=12 {
        against_a_model(STREAM, seed);
        against_a_model(SEQPACKET, seed);
    }
}

#[test]
fn hostile_calls_on_unix_sockets_do_no_harm() {
    const CALLS: [u64; 16] =
        [0, 1, 3, 32, SOCKET, CONNECT, ACCEPT, SEND, RECEIVE, 46, 47, SHUTDOWN, BIND, LISTEN, SOCKETPAIR, 87];
    for seed in 1..=20 {
        let (mut m, mut dice) = (Machine::new(), Dice::new(seed));
        // SIGPIPE waits.
        m.poke(BUFFER, &(1_u64 << 12).to_le_bytes());
        assert_eq!(m.call(SIGPROCMASK, &[0, BUFFER, 0, 8]), Ok(0));
        for step in 0..400 {
            for slot in 0..4 {
                m.poke(DATA + slot * 128, &1_u16.to_le_bytes());
                m.poke(DATA + slot * 128 + 2, dice.pick(&["/tmp/a\0", "/tmp/b\0", "\0a", "\0b", "/tmp\0"]).as_bytes());
            }
            let call = dice.pick(&CALLS);
            let mut a = [dice.below(24), 0, 0, 0, 0, 0];
            for word in &mut a[1..] {
                *word = match dice.below(8) {
                    0 | 1 => dice.below(6),
                    2..=4 => DATA + dice.below(4) * 128,
                    5 => dice.below(110),
                    6 => BUFFER + dice.below(512),
                    _ => dice.roll(),
                };
            }
            match call {
                SOCKET | SOCKETPAIR => a = [1, dice.pick(&[1, 2, 5, 0x801]), 0, BUFFER, 0, 0],
                BIND | CONNECT => (a[1], a[2]) = (DATA + dice.below(4) * 128, dice.pick(&[2, 4, 9, 10])),
                87 => a[0] = DATA + 2 + dice.below(4) * 128,
                _ => {}
            }
            let outcome = m.step(call, &a);
            assert!(!matches!(outcome, Outcome::Ended(_)), "seed {seed} step {step}: {call} {a:x?}");
            if step % 50 == 0 {
                m.restart_in_another_life();
            }
        }
        for fd in 3..1024 {
            let _ = m.call(3, &[fd]);
        }
        let mut kept = m.program.segments();
        kept.sort();
        assert_eq!(m.segments.alive(), kept, "seed {seed}: segments that nothing has");
    }
}

#[test]
fn a_timer_goes_on_over_a_restart() {
    let mut m = Machine::new();
    let timer = m.call(TIMER_CREATE, &[1, 0]).unwrap();
    let setting: Vec<u8> = [0_u64, 200_000_000, 1, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(BUFFER, &setting);
    assert_eq!(m.call(TIMER_SET, &[timer, 0, BUFFER, 0]), Ok(0));
    let until = m.wait(0, &[timer, BUFFER, 8]).until.unwrap();
    m.restart_in_another_life();
    m.poke(DATA, &u32::try_from(timer).unwrap().to_le_bytes());
    m.poke(DATA + 4, &1_u16.to_le_bytes());
    // A wait ends with the timer if that is earlier, and with its own time if not.
    assert_eq!(m.wait(POLL, &[DATA, 1, 5000]).until, Some(until));
    m.clock.advance(Duration::from_millis(1450));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Ok(1));
    assert_eq!(m.read(timer, 8).unwrap(), 3_u64.to_le_bytes());
    assert_eq!(m.wait(0, &[timer, BUFFER, 8]).until, Some(until + Duration::from_millis(600)));
}

#[test]
fn a_signal_that_waits_is_read_after_a_restart() {
    let mut m = Machine::new();
    let mask = 1_u64 << 9 | 1 << 11;
    m.poke(BUFFER, &mask.to_le_bytes());
    assert_eq!(m.call(SIGPROCMASK, &[0, BUFFER, 0, 8]), Ok(0));
    let fd = m.call(SIGNALFD, &[u64::MAX, BUFFER, 8, 0]).unwrap();
    assert_eq!(m.wait(0, &[fd, BUFFER, 128]).until, None);
    assert!(m.program.signal_from_terminal(12));
    m.restart_in_another_life();
    assert_eq!(m.call(KILL, &[1000, 10]), Ok(0));
    let read = m.read(fd, 4096).unwrap();
    assert_eq!(read.len(), 256);
    assert_eq!((read[0], read[128]), (10, 12));
}
