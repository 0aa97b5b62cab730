//! poll and select.

use super::machine::{BUFFER, Machine};
use crate::linux::{Errno, Outcome};
use std::time::Duration;

fn ask(m: &Machine, entries: &[(i32, u16)]) {
    for (i, &(fd, events)) in entries.iter().enumerate() {
        let at = BUFFER + i as u64 * 8;
        m.poke(at, &fd.to_le_bytes());
        m.poke(at + 4, &events.to_le_bytes());
    }
}

fn told(m: &Machine, i: u64) -> u16 {
    u16::from_le_bytes(m.peek(BUFFER + i * 8 + 6, 2).try_into().unwrap())
}

#[test]
fn poll_tells_what_is_ready() {
    let mut m = Machine::new();
    ask(&m, &[(0, 1), (1, 4), (77, 1), (-1, 1)]);
    assert_eq!(m.call(7, &[BUFFER, 4, 0]), Ok(2));
    assert_eq!([0, 1, 2, 3].map(|i| told(&m, i)), [0, 4, 32, 0]);
    m.console.input.lock().unwrap().push(b'x');
    assert_eq!(m.call(7, &[BUFFER, 1, u64::MAX]), Ok(1));
    assert_eq!(m.program.input_position(), 0);
    assert_eq!(m.call(7, &[BUFFER, 5000, 0]), Err(Errno::EINVAL));
}

#[test]
fn a_timeout_does_not_begin_anew_when_the_call_is_given_again() {
    let mut m = Machine::new();
    ask(&m, &[(0, 1)]);
    let first = m.wait(7, &[BUFFER, 1, 1000]);
    assert!(first.input && first.until.is_some());
    m.clock.advance(Duration::from_millis(600));
    m.restart();
    assert_eq!(m.again(), Outcome::Wait(first));
    m.clock.advance(Duration::from_millis(400));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Ok(0));
    // The next call has a timeout of its own.
    let next = m.wait(7, &[BUFFER, 1, 1000]);
    assert!(next.until > first.until);
}

#[test]
fn select_clears_what_is_not_ready_and_tells_the_time_left() {
    let mut m = Machine::new();
    m.poke(BUFFER, &1_u64.to_le_bytes());
    m.poke(BUFFER + 8, &2_u64.to_le_bytes());
    m.poke(BUFFER + 16, &[5_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
    assert_eq!(m.call(23, &[2, BUFFER, BUFFER + 8, 0, BUFFER + 16]), Ok(1));
    assert_eq!((m.peek_u64(BUFFER), m.peek_u64(BUFFER + 8)), (0, 2));
    m.poke(BUFFER, &1_u64.to_le_bytes());
    let wait = m.wait(23, &[1, BUFFER, 0, 0, BUFFER + 16]);
    assert!(wait.input);
    m.clock.advance(Duration::from_secs(2));
    m.console.input.lock().unwrap().push(b'x');
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Ok(1));
    assert_eq!(m.peek_u64(BUFFER + 16), 3);
    m.poke(BUFFER, &(1_u64 << 50).to_le_bytes());
    assert_eq!(m.call(23, &[64, BUFFER, 0, 0, 0]), Err(Errno::EBADF));
    assert_eq!(m.call(23, &[u64::MAX, 0, 0, 0, 0]), Err(Errno::EINVAL));
}

#[test]
fn the_wait_of_select_without_descriptors_is_a_sleep() {
    let mut m = Machine::new();
    m.poke(BUFFER, &[0_u64.to_le_bytes(), 500_000_000_u64.to_le_bytes()].concat());
    let wait = m.wait(270, &[0, 0, 0, 0, BUFFER, 0]);
    assert!(!wait.input && wait.until.is_some());
    m.clock.advance(Duration::from_millis(500));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Ok(0));
}
