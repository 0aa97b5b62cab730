//! Signals of a program's own.

use super::support::Machine;
use crate::linux::{Errno, ExitStatus, Outcome};

const SIGACTION: u64 = 13;
const SIGPROCMASK: u64 = 14;
const SIGRETURN: u64 = 15;
const PAUSE: u64 = 34;
const GETPID: u64 = 39;
const KILL: u64 = 62;
const SIGPENDING: u64 = 127;
const SIGTIMEDWAIT: u64 = 128;
const SIGSUSPEND: u64 = 130;
const SIGALTSTACK: u64 = 131;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const DATA: u64 = 0x40_3000;
const HANDLER: u64 = 0x40_0500;
const RESTORER: u64 = 0x40_0600;

const INT: u64 = 2;
const SEGV: u64 = 11;
const USR1: u64 = 10;
const USR2: u64 = 12;

fn handle(m: &mut Machine, signal: u64, flags: u64, mask: u64) {
    for (i, word) in [HANDLER, flags | SA_RESTORER, RESTORER, mask].into_iter().enumerate() {
        m.poke(DATA + i as u64 * 8, word);
    }
    m.call(SIGACTION, &[signal, DATA, 0, 8]).unwrap();
}

fn mask(m: &mut Machine, how: u64, set: u64) {
    m.poke(DATA, set);
    m.call(SIGPROCMASK, &[how, DATA, 0, 8]).unwrap();
}

fn bit(signal: u64) -> u64 {
    1 << (signal - 1)
}

/// The handler returns.
fn leave(m: &mut Machine) -> Outcome {
    assert_eq!(m.peek(m.regs.rsp), RESTORER, "the return address is the restorer");
    m.regs.rsp += 8;
    m.regs.rip = RESTORER + 7;
    m.step(SIGRETURN, &[])
}

#[test]
fn a_handler_gets_a_frame_as_linux_builds_it_and_returning_undoes_it() {
    let mut m = Machine::new();
    handle(&mut m, USR1, 0, bit(INT));
    m.regs.rbx = 0x1234;
    m.regs.eflags = 0x202 | 0x400 | 1;
    m.vector.0[600] = 99;
    let stack = m.regs.rsp;
    assert_eq!(m.step(KILL, &[1000, USR1]), Outcome::Resume);
    let at = m.regs;
    assert_eq!((at.rip, at.rdi, at.rax), (HANDLER, USR1, 0));
    assert_eq!(at.rsp % 16, 8);
    assert!(at.rsp < stack - 128 - 836 - 440);
    assert_eq!(at.eflags & 0x400, 0, "the direction flag is clear in a handler");
    assert_eq!((at.rdx, at.rsi), (at.rsp + 8, at.rsp + 312));
    assert_eq!(m.peek(at.rsi), USR1, "siginfo begins with the signal");
    assert_eq!(m.peek32(at.rsi + 8), 0, "SI_USER");
    assert_eq!(m.peek(at.rsi + 16), 1000 | 1000 << 32, "sender and its user");
    assert_eq!(m.peek(at.rdx), 7, "uc_flags");
    assert_eq!(m.peek(at.rdx + 40 + 88), 0x1234, "rbx in the context");
    let fpstate = m.peek(at.rdx + 40 + 184);
    assert_eq!(fpstate % 64, 0);
    assert_eq!(m.peek(fpstate + 600), 99);
    assert_eq!(m.peek32(fpstate + 832), 0x4650_5845, "FP_XSTATE_MAGIC2");
    assert_eq!((m.vector.0[600], m.vector.0[512]), (0, 0), "a handler begins with fresh vector state");
    assert_eq!(m.program.signals.record.mask, bit(USR1) | bit(INT));
    m.regs.rbx = 5;
    assert_eq!(leave(&mut m), Outcome::Resume);
    assert_eq!((m.regs.rbx, m.regs.rsp, m.regs.rax), (0x1234, stack, 0));
    assert_eq!(m.regs.eflags, 0x202 | 0x400 | 1);
    assert_eq!((m.vector.0[600], m.vector.0[512]), (99, 7));
    assert_eq!(m.program.signals.record.mask, 0);
}

#[test]
fn what_a_hostile_frame_holds_is_made_harmless() {
    let mut m = Machine::new();
    handle(&mut m, USR1, 0, 0);
    m.step(KILL, &[1000, USR1]);
    let context = m.regs.rdx + 40;
    let fpstate = m.peek(context + 184);
    m.poke(context + 136, u64::MAX);
    m.poke(context + 144, 0);
    m.poke(m.regs.rdx + 296, u64::MAX);
    m.poke(fpstate + 24, 0x0000_ffff_ffff_ffff);
    m.poke(fpstate + 512, u64::MAX);
    m.poke(fpstate + 520, u64::MAX);
    m.poke(fpstate + 464, m.peek(fpstate + 464));
    m.poke(fpstate + 472, u64::MAX);
    assert_eq!(leave(&mut m), Outcome::Resume);
    assert_eq!(m.regs.eflags, 0x5_0dd5 | 0x202);
    assert_eq!((m.regs.selectors & 0xffff, m.regs.selectors >> 48), (0x33, 0x2b));
    assert_eq!(m.program.signals.record.mask, !(bit(9) | bit(19)));
    assert_eq!(u32::from_le_bytes(m.vector.0[24..28].try_into().unwrap()), 0xffff);
    assert_eq!(m.vector.0[512..528], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(m.vector.0[472], 7);

    for (offset, value) in [(40 + 128, 1 << 63), (40 + 184, 1), (40 + 184, 0xffff_8000_0000_0000)] {
        let mut m = Machine::new();
        handle(&mut m, USR1, 0, 0);
        m.step(KILL, &[1000, USR1]);
        m.poke(m.regs.rdx + offset, value);
        assert_eq!(leave(&mut m), Outcome::Ended(ExitStatus::Signal(11)));
    }
    let mut m = Machine::new();
    m.regs.rsp = 0;
    assert_eq!(m.step(SIGRETURN, &[]), Outcome::Ended(ExitStatus::Signal(11)));
}

#[test]
fn default_actions_end_or_do_nothing() {
    for (signal, ends) in [
        (INT, true),
        (15, true),
        (6, true),
        (9, true),
        (17, false),
        (18, false),
        (20, false),
        (19, false),
        (28, false),
        (40, true),
    ] {
        let mut m = Machine::new();
        let expected =
            if ends { Outcome::Ended(ExitStatus::Signal(u8::try_from(signal).unwrap())) } else { Outcome::Resume };
        assert_eq!(m.step(KILL, &[1000, signal]), expected, "signal {signal}");
        if ends {
            assert_eq!(m.step(GETPID, &[]), expected, "it stays ended");
            m.restart();
            assert_eq!(m.step(GETPID, &[]), expected, "also after a restart");
        }
    }
    let mut m = Machine::new();
    assert_eq!(m.call(KILL, &[1001, INT]), Err(Errno::ESRCH));
    assert_eq!(m.call(KILL, &[1000, 65]), Err(Errno::EINVAL));
    assert_eq!(m.call(KILL, &[1000, 0]), Ok(0));
    assert_eq!(m.call(234, &[1000, 1001, INT]), Err(Errno::ESRCH));
    assert_eq!(m.call(SIGACTION, &[9, DATA, 0, 8]), Err(Errno::EINVAL));
}

#[test]
fn a_blocked_signal_waits_also_across_a_restart() {
    let mut m = Machine::new();
    handle(&mut m, USR1, 0, 0);
    handle(&mut m, 40, 0, 0);
    mask(&mut m, 0, bit(USR1) | bit(40));
    for _ in 0..3 {
        m.call(KILL, &[1000, USR1]).unwrap();
        m.call(KILL, &[1000, 40]).unwrap();
    }
    m.call(SIGPENDING, &[DATA, 8]).unwrap();
    assert_eq!(m.peek(DATA), bit(USR1) | bit(40));
    m.restart();
    let stack = m.regs.rsp;
    m.poke(DATA, 0);
    assert_eq!(m.step(SIGPROCMASK, &[2, DATA, 0, 8]), Outcome::Resume);
    // USR1 first, so the real-time signal's frame lies on top of it and runs first, as in Linux; it queued three times.
    for signal in [40, USR1] {
        assert_eq!((m.regs.rip, m.regs.rdi), (HANDLER, signal));
        if signal == 40 {
            assert_eq!(m.program.signals.pending_set(), bit(40));
        }
        leave(&mut m);
        if signal == 40 {
            for _ in 0..2 {
                assert_eq!(m.regs.rdi, 40);
                leave(&mut m);
            }
        }
    }
    assert_eq!((m.regs.rsp, m.program.signals.pending_set()), (stack, 0));
}

#[test]
fn faults_go_to_their_handler_or_end_the_program() {
    let mut m = Machine::new();
    assert_eq!(m.fault(11, 0xdead_0000), Outcome::Ended(ExitStatus::Signal(11)));

    let mut m = Machine::new();
    handle(&mut m, SEGV, 0, 0);
    (m.regs.trap, m.regs.error, m.regs.cr2) = (14, 6, 0xdead_0000);
    assert_eq!(m.fault(11, 0xdead_0000), Outcome::Resume);
    assert_eq!((m.regs.rip, m.regs.rdi), (HANDLER, SEGV));
    assert_eq!((m.peek32(m.regs.rsi + 8), m.peek(m.regs.rsi + 16)), (1, 0xdead_0000));
    let context = m.regs.rdx + 40;
    assert_eq!([m.peek(context + 152), m.peek(context + 160), m.peek(context + 176)], [6, 14, 0xdead_0000]);
    assert_eq!(m.fault(11, 0), Outcome::Ended(ExitStatus::Signal(11)), "a second one inside the handler is blocked");

    let mut m = Machine::new();
    handle(&mut m, 8, 0, 0);
    mask(&mut m, 0, bit(8));
    assert_eq!(m.fault(8, 0), Outcome::Ended(ExitStatus::Signal(8)));

    let mut m = Machine::new();
    handle(&mut m, SEGV, 0, 0);
    m.regs.rsp = 0x10_0000;
    assert_eq!(m.fault(11, 0xf_fff8), Outcome::Ended(ExitStatus::Signal(11)), "a stack overflow without another stack");
}

#[test]
fn a_stack_overflow_is_handled_on_the_alternate_stack() {
    let mut m = Machine::new();
    let stack = m.call(9, &[0, 0x4000, 3, 0x22, u64::MAX, 0]).unwrap();
    for (i, word) in [stack, 0, 0x4000].into_iter().enumerate() {
        m.poke(DATA + i as u64 * 8, word);
    }
    m.call(SIGALTSTACK, &[DATA, 0]).unwrap();
    handle(&mut m, SEGV, SA_ONSTACK | SA_NODEFER, 0);
    m.regs.rsp = 0x10_0000;
    assert_eq!(m.fault(11, 0xf_fff8), Outcome::Resume);
    assert!(m.regs.rsp > stack && m.regs.rsp < stack + 0x4000);
    m.call(SIGALTSTACK, &[0, DATA]).unwrap();
    assert_eq!((m.peek(DATA), m.peek32(DATA + 8), m.peek(DATA + 16)), (stack, 1, 0x4000));
    assert_eq!(m.call(SIGALTSTACK, &[DATA, 0]), Err(Errno::EPERM));
    let first = m.regs.rsp;
    assert_eq!(m.fault(11, 0), Outcome::Resume);
    assert!(m.regs.rsp < first - 128, "nested on the same stack");
    m.regs.rsp = stack + 300;
    assert_eq!(m.fault(11, 0), Outcome::Ended(ExitStatus::Signal(11)), "the alternate stack overflows too");
}

#[test]
fn an_autodisarmed_stack_comes_back_when_the_handler_returns() {
    let mut m = Machine::new();
    let stack = m.call(9, &[0, 0x4000, 3, 0x22, u64::MAX, 0]).unwrap();
    for (i, word) in [stack, 1 << 31, 0x4000].into_iter().enumerate() {
        m.poke(DATA + i as u64 * 8, word);
    }
    m.call(SIGALTSTACK, &[DATA, 0]).unwrap();
    handle(&mut m, USR1, SA_ONSTACK, 0);
    m.step(KILL, &[1000, USR1]);
    assert!(m.regs.rsp > stack && m.regs.rsp < stack + 0x4000);
    m.call(SIGALTSTACK, &[0, DATA]).unwrap();
    assert_eq!(m.peek32(DATA + 8), 2, "disarmed in the handler");
    leave(&mut m);
    m.call(SIGALTSTACK, &[0, DATA]).unwrap();
    assert_eq!((m.peek(DATA), m.peek32(DATA + 8)), (stack, 1 << 31));
}

#[test]
fn a_waiting_call_ends_or_restarts() {
    let mut m = Machine::new();
    handle(&mut m, 14, 0, 0);
    assert!(matches!(m.step(PAUSE, &[]), Outcome::Wait(_)));
    m.call(37, &[1]).unwrap();
    let rip = m.regs.rip;
    let Outcome::Wait(wait) = m.step(PAUSE, &[]) else { panic!("it does not wait") };
    assert_eq!(wait.until, m.program.timer_deadline());
    m.clock.advance(std::time::Duration::from_secs(2));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!((m.regs.rip, m.regs.rdi), (HANDLER, 14));
    leave(&mut m);
    assert_eq!((m.regs.rax, m.regs.rip), (Errno::EINTR.as_result(), rip));

    // A futex wait restarts if the handler says so.
    handle(&mut m, 14, SA_RESTART, 0);
    m.poke(DATA + 64, 7);
    m.call(37, &[1]).unwrap();
    assert!(matches!(m.step(202, &[DATA + 64, 128, 7, 0]), Outcome::Wait(_)));
    m.clock.advance(std::time::Duration::from_secs(2));
    assert_eq!(m.again(), Outcome::Resume);
    leave(&mut m);
    assert_eq!((m.regs.rax, m.regs.rip), (202, rip - 2));
    assert_eq!((m.regs.rdi, m.regs.rdx), (DATA + 64, 7));
}

#[test]
fn sigsuspend_lets_through_what_it_says_and_puts_the_mask_back() {
    let mut m = Machine::new();
    handle(&mut m, USR1, 0, 0);
    mask(&mut m, 2, bit(USR1) | bit(USR2));
    m.call(KILL, &[1000, USR1]).unwrap();
    m.poke(DATA, bit(INT));
    assert_eq!(m.step(SIGSUSPEND, &[DATA, 8]), Outcome::Resume);
    assert_eq!(m.regs.rip, HANDLER);
    assert_eq!(m.program.signals.record.mask, bit(INT) | bit(USR1));
    leave(&mut m);
    assert_eq!(m.regs.rax, Errno::EINTR.as_result());
    assert_eq!(m.program.signals.record.mask, bit(USR1) | bit(USR2));
    // The mask of a wait survives a restart.
    m.poke(DATA, bit(INT));
    assert!(matches!(m.step(SIGSUSPEND, &[DATA, 8]), Outcome::Wait(_)));
    m.restart();
    assert!(matches!(m.again(), Outcome::Wait(_)));
    assert_eq!(m.program.signals.record.saved_mask, bit(USR1) | bit(USR2));
}

#[test]
fn flags_of_an_action_are_obeyed() {
    let mut m = Machine::new();
    handle(&mut m, USR1, SA_RESETHAND | SA_NODEFER, 0);
    m.step(KILL, &[1000, USR1]);
    assert_eq!(m.program.signals.record.mask, 0);
    assert_eq!(m.step(KILL, &[1000, USR1]), Outcome::Ended(ExitStatus::Signal(10)));

    // Without a restorer there is no way back: Linux gives SIGSEGV.
    let mut m = Machine::new();
    for (i, word) in [HANDLER, 0, 0, 0].into_iter().enumerate() {
        m.poke(DATA + i as u64 * 8, word);
    }
    m.call(SIGACTION, &[USR1, DATA, 0, 8]).unwrap();
    assert_eq!(m.step(KILL, &[1000, USR1]), Outcome::Ended(ExitStatus::Signal(11)));
}

#[test]
fn signals_can_be_taken_without_a_handler() {
    let mut m = Machine::new();
    mask(&mut m, 0, bit(USR1));
    m.call(KILL, &[1000, USR1]).unwrap();
    m.poke(DATA, bit(USR1));
    assert_eq!(m.call(SIGTIMEDWAIT, &[DATA, DATA + 64, 0, 8]), Ok(USR1));
    assert_eq!(m.peek(DATA + 64), USR1);
    m.poke(DATA + 16, 0);
    m.poke(DATA + 24, 1000);
    let Outcome::Wait(wait) = m.step(SIGTIMEDWAIT, &[DATA, 0, DATA + 16, 8]) else { panic!("it does not wait") };
    assert!(wait.until.is_some());
    m.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.regs.rax, Errno::EAGAIN.as_result());
}
