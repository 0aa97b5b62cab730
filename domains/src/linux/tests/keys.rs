//! The system call that invokes keys: its pointers, its waits, and the program's signals.

use super::support::Machine;
use crate::linux::*;
use std::sync::atomic::Ordering::SeqCst;

const INVOKE: u64 = crate::guest::SYSCALL;
const SIGACTION: u64 = 13;
const SIGRETURN: u64 = 15;
const DATA: u64 = 0x40_3000;
const HANDLER: u64 = 0x40_0500;
const RESTORER: u64 = 0x40_0600;
const SA_RESTART: u64 = 0x1000_0000;
const SA_RESTORER: u64 = 0x0400_0000;
const USR1: u8 = 10;

/// A machine with room for a message and a string at the returned address.
fn machine(becomes: Option<Invoked>) -> (Machine, u64, u64) {
    let mut m = Machine::new();
    *m.keys.becomes.lock().unwrap() = becomes;
    let at = m.call(9, &[0, 3 << 12, 3, 0x22, u64::MAX, 0]).unwrap();
    (m, at, at + 4096)
}

/// Order code 77 with the string "hello".
fn ask(m: &Machine, message: u64, string: u64) {
    m.poke(message, 77 << 32);
    m.poke(message + 48, 5);
    m.poke(string, u64::from_le_bytes(*b"hello\0\0\0"));
}

fn handle(m: &mut Machine, flags: u64) {
    for (i, word) in [HANDLER, flags | SA_RESTORER, RESTORER, 0].into_iter().enumerate() {
        m.poke(DATA + i as u64 * 8, word);
    }
    m.call(SIGACTION, &[u64::from(USR1), DATA, 0, 8]).unwrap();
}

#[test]
fn an_answer_comes_into_the_message_and_the_string() {
    let (mut m, message, string) = machine(Some(Invoked::Came));
    ask(&m, message, string);
    *m.keys.comes.lock().unwrap() = (5, b"answer".to_vec());
    assert_eq!(m.call(INVOKE, &[message, string]), Ok(0));
    assert_eq!(*m.keys.seen.lock().unwrap(), [(77, b"hello".to_vec())]);
    assert_eq!(m.peek32(message + 64), 5);
    assert_eq!(m.peek32(message + 112), 6);
    assert_eq!(m.peek(string), u64::from_le_bytes(*b"answer\0\0"));
    assert_eq!(m.peek(message), 77 << 32, "what was asked stays");
}

#[test]
fn a_message_that_cannot_be_read_and_written_whole_is_a_fault_and_invokes_nothing() {
    let (mut m, message, string) = machine(Some(Invoked::Came));
    let end = message + (3 << 12);
    let read_only = m.call(9, &[0, 2 << 12, 1, 0x22, u64::MAX, 0]).unwrap();
    for (message, string) in [
        (0, string),
        (message, 0),
        (message, u64::MAX),
        (u64::MAX - 60, string),
        (end - 119, string),
        (message, end - 4095),
        (read_only, string),
        (message, read_only),
        (crate::abi::CONTROL, string),
        (message, crate::abi::CONTROL),
    ] {
        assert_eq!(m.call(INVOKE, &[message, string]), Err(Errno::EFAULT), "{message:#x} {string:#x}");
    }
    assert!(m.keys.seen.lock().unwrap().is_empty());
    assert_eq!(m.call(INVOKE, &[end - 4096 - 120, end - 4096]), Ok(0));
}

#[test]
fn without_a_domain_there_is_no_such_call() {
    let (mut m, message, string) = machine(None);
    assert_eq!(m.call(INVOKE, &[message, string]), Err(Errno::ENOSYS));
    assert_eq!(m.call(INVOKE, &[message, string]), Err(Errno::ENOSYS), "it is not thought to be begun");
}

#[test]
fn a_string_of_any_length_is_read_within_its_page() {
    let (mut m, message, string) = machine(Some(Invoked::Came));
    m.poke(message + 48, u64::from(u32::MAX));
    assert_eq!(m.call(INVOKE, &[message, string]), Ok(0));
    assert_eq!(
        m.keys.seen.lock().unwrap()[0].1.len(),
        4096,
        "the object layer refuses it by the length that it was told"
    );
}

#[test]
fn a_wait_over_a_restart_invokes_once() {
    let (mut m, message, string) = machine(Some(Invoked::Waits));
    ask(&m, message, string);
    assert!(matches!(m.step(INVOKE, &[message, string]), Outcome::Wait(_)));
    m.restart();
    assert!(matches!(m.again(), Outcome::Wait(_)));
    *m.keys.becomes.lock().unwrap() = Some(Invoked::Came);
    m.restart();
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!((m.regs.rax, m.keys.seen.lock().unwrap().len()), (0, 1));
    assert_eq!(m.call(INVOKE, &[message, string]), Ok(0));
    assert_eq!(m.keys.seen.lock().unwrap().len(), 2, "the next one is a new one");
}

#[test]
fn a_full_console_is_waited_for_before_anything_is_begun() {
    let (mut m, message, string) = machine(Some(Invoked::Full));
    assert!(matches!(m.step(INVOKE, &[message, string]), Outcome::Wait(Wait { output_room: true, .. })));
    m.restart();
    *m.keys.becomes.lock().unwrap() = Some(Invoked::Came);
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.keys.seen.lock().unwrap().len(), 2);
}

#[test]
fn a_signal_ends_a_wait_by_which_nothing_is_lost() {
    for restarts in [false, true] {
        let (mut m, message, string) = machine(Some(Invoked::Waits));
        handle(&mut m, if restarts { SA_RESTART } else { 0 });
        m.keys.withdraws.store(true, SeqCst);
        m.regs.rip = 0x40_0102;
        assert!(matches!(m.step(INVOKE, &[message, string]), Outcome::Wait(_)));
        assert!(m.program.signal_from_terminal(USR1));
        assert_eq!(m.again(), Outcome::Resume);
        assert_eq!(m.regs.rip, HANDLER);
        m.regs.rsp += 8;
        m.regs.rip = RESTORER + 7;
        assert_eq!(m.step(SIGRETURN, &[]), Outcome::Resume);
        let (rip, rax) = if restarts { (0x40_0100, INVOKE) } else { (0x40_0102, Errno::EINTR.as_result()) };
        assert_eq!((m.regs.rip, m.regs.rax), (rip, rax));
        assert!(matches!(m.step(INVOKE, &[message, string]), Outcome::Wait(_)));
        assert_eq!(m.keys.seen.lock().unwrap().len(), 2, "it was given up, and begun anew");
    }
}

#[test]
fn a_signal_waits_for_the_answer_of_who_took_the_message() {
    let (mut m, message, string) = machine(Some(Invoked::Waits));
    handle(&mut m, 0);
    assert!(matches!(m.step(INVOKE, &[message, string]), Outcome::Wait(_)));
    assert!(m.program.signal_from_terminal(USR1));
    assert!(matches!(m.again(), Outcome::Wait(_)));
    m.restart();
    assert!(matches!(m.again(), Outcome::Wait(_)));
    *m.keys.becomes.lock().unwrap() = Some(Invoked::Came);
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.regs.rip, HANDLER, "the handler runs when the answer is there");
    assert_eq!(m.keys.seen.lock().unwrap().len(), 1);
}

#[test]
fn a_signal_that_ends_the_program_ends_every_wait() {
    let (mut m, message, string) = machine(Some(Invoked::Waits));
    // An alarm, which nobody handles.
    m.call(37, &[1]).unwrap();
    assert!(matches!(m.step(INVOKE, &[message, string]), Outcome::Wait(Wait { until: Some(_), .. })));
    m.clock.advance(std::time::Duration::from_secs(2));
    assert_eq!(m.again(), Outcome::Ended(ExitStatus::Signal(14)));
}

#[test]
fn a_domain_that_ends_itself_is_the_end_of_the_program() {
    let (mut m, message, string) = machine(Some(Invoked::Ended(3)));
    assert_eq!(m.step(INVOKE, &[message, string]), Outcome::Ended(ExitStatus::Code(3)));
}
