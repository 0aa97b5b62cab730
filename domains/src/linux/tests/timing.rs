//! Clocks, sleeps, timers.

use super::support::Machine;
use crate::linux::{Errno, ExitStatus, Outcome};
use std::time::Duration;

const DATA: u64 = 0x40_3000;
const NANOSLEEP: u64 = 35;
const CLOCK_NANOSLEEP: u64 = 230;
const SETITIMER: u64 = 38;
const GETITIMER: u64 = 36;

fn poke(m: &Machine, at: u64, words: &[u64]) {
    for (i, word) in words.iter().enumerate() {
        m.poke(at + i as u64 * 8, *word);
    }
}

fn until(outcome: Outcome) -> Duration {
    match outcome {
        Outcome::Wait(wait) => wait.until.expect("it waits for a time"),
        other => panic!("it does not wait: {other:?}"),
    }
}

#[test]
fn a_sleep_across_a_restart_ends_when_it_should() {
    let mut m = Machine::new();
    poke(&m, DATA, &[10, 500_000_000]);
    let end = until(m.step(NANOSLEEP, &[DATA, 0]));
    assert_eq!(end, Duration::from_millis(110_500));
    m.clock.advance(Duration::from_secs(4));
    m.restart();
    assert_eq!(until(m.again()), end, "what is left counts, not the whole");
    m.clock.advance(Duration::from_millis(6500));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.regs.rax, 0);
    assert_eq!(
        until(m.step(NANOSLEEP, &[DATA, 0])),
        end + Duration::from_millis(10_500),
        "the next sleep is a new one"
    );
}

#[test]
fn absolute_sleeps_end_at_their_time() {
    let mut m = Machine::new();
    poke(&m, DATA, &[103, 0]);
    assert_eq!(until(m.step(CLOCK_NANOSLEEP, &[1, 1, DATA, 0])), Duration::from_secs(103));
    poke(&m, DATA, &[1_700_000_102, 0]);
    assert_eq!(until(m.step(CLOCK_NANOSLEEP, &[0, 1, DATA, 0])), Duration::from_secs(102));
    poke(&m, DATA, &[1, 0]);
    assert_eq!(m.call(CLOCK_NANOSLEEP, &[1, 1, DATA, 0]), Ok(0), "it is past already");
    poke(&m, DATA, &[1, 1_000_000_000]);
    assert_eq!(m.call(NANOSLEEP, &[DATA, 0]), Err(Errno::EINVAL));
    poke(&m, DATA, &[u64::MAX, 0]);
    assert_eq!(m.call(NANOSLEEP, &[DATA, 0]), Err(Errno::EINVAL));
    poke(&m, DATA, &[i64::MAX.cast_unsigned(), 0]);
    until(m.step(NANOSLEEP, &[DATA, 0]));
}

#[test]
fn an_interrupted_sleep_tells_what_is_left() {
    let mut m = Machine::new();
    poke(&m, DATA, &[0x40_0500, 0x0400_0000, 0x40_0600, 0]);
    m.call(13, &[14, DATA, 0, 8]).unwrap();
    m.call(37, &[2]).unwrap();
    poke(&m, DATA, &[10, 0]);
    assert_eq!(until(m.step(NANOSLEEP, &[DATA, DATA + 32])), Duration::from_secs(102), "the alarm comes first");
    m.clock.advance(Duration::from_secs(3));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.regs.rip, 0x40_0500);
    assert_eq!((m.peek(DATA + 32), m.peek(DATA + 40)), (7, 0));
}

#[test]
fn an_interval_timer_repeats_and_survives_a_restart() {
    let mut m = Machine::new();
    poke(&m, DATA, &[0x40_0500, 0x0400_0000, 0x40_0600, 0]);
    m.call(13, &[14, DATA, 0, 8]).unwrap();
    poke(&m, DATA, &[1, 0, 0, 250_000]);
    m.call(SETITIMER, &[0, DATA, 0]).unwrap();
    assert_eq!(m.program.timer_deadline(), Some(Duration::from_millis(100_250)));
    m.restart();
    m.clock.advance(Duration::from_millis(250));
    assert_eq!(m.interrupted(), Outcome::Resume);
    assert_eq!(m.regs.rip, 0x40_0500);
    assert_eq!(m.program.timer_deadline(), Some(Duration::from_millis(101_250)));
    m.clock.advance(Duration::from_millis(3500));
    m.call(GETITIMER, &[0, DATA]).unwrap();
    assert_eq!([m.peek(DATA), m.peek(DATA + 16), m.peek(DATA + 24)], [1, 0, 500_000]);
    assert_eq!(m.call(37, &[0]), Ok(1));
    assert_eq!(m.program.timer_deadline(), None);
    assert_eq!(m.call(SETITIMER, &[1, DATA, 0]), Err(Errno::EINVAL));
}

#[test]
fn an_alarm_without_a_handler_ends_the_program_even_in_its_sleep() {
    let mut m = Machine::new();
    m.call(37, &[1]).unwrap();
    poke(&m, DATA, &[10, 0]);
    until(m.step(NANOSLEEP, &[DATA, 0]));
    m.clock.advance(Duration::from_secs(1));
    assert_eq!(m.again(), Outcome::Ended(ExitStatus::Signal(14)));
}

#[test]
fn clocks_tell_their_time() {
    let mut m = Machine::new();
    for (clock, seconds) in [(0, 1_700_000_100), (1, 100), (4, 100), (7, 100), (5, 1_700_000_100), (2, 1), (3, 1)] {
        m.call(228, &[clock, DATA]).unwrap();
        assert_eq!(m.peek(DATA), seconds, "clock {clock}");
    }
    assert_eq!(m.call(228, &[77, DATA]), Err(Errno::EINVAL));
    assert_eq!(m.call(228, &[1, 0x40_0000]), Err(Errno::EFAULT));
    assert_eq!(m.call(201, &[0]), Ok(1_700_000_100));
    assert_eq!(m.call(100, &[DATA]), Ok(10_000));
    assert_eq!(m.peek(DATA), 123);
}

#[test]
fn a_futex_wait_times_out() {
    let mut m = Machine::new();
    poke(&m, DATA, &[5, 3, 0]);
    assert_eq!(m.call(202, &[DATA, 128, 6, 0]), Err(Errno::EAGAIN));
    assert_eq!(m.call(202, &[DATA, 129, 1]), Ok(0));
    assert_eq!(until(m.step(202, &[DATA, 128, 5, DATA + 8])), Duration::from_secs(103));
    m.clock.advance(Duration::from_secs(3));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.regs.rax, Errno::ETIMEDOUT.as_result());
}

#[test]
fn the_program_may_become_who_it_is_and_has_no_children() {
    let mut m = Machine::new();
    assert_eq!(m.call(105, &[1000]), Ok(0));
    assert_eq!(m.call(106, &[0]), Err(Errno::EPERM));
    assert_eq!(m.call(105, &[u64::MAX]), Err(Errno::EINVAL));
    assert_eq!(m.call(117, &[u64::MAX, 1000, 0xffff_ffff]), Ok(0));
    assert_eq!(m.call(117, &[u64::MAX, 1000, 0]), Err(Errno::EPERM));
    assert_eq!(m.call(61, &[u64::MAX, 0, 0, 0]), Err(Errno::ECHILD));
}
