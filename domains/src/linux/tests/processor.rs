//! Programs that ask what the processor is, and are told by their kernel.

use super::support::Machine;
use crate::linux::vma::{EXEC, READ, WRITE};
use crate::linux::{CHUNK, Outcome};
use crate::processor::{Answers, CPUID, Level, PROTECTION, REPLACED, code};
use std::sync::Arc;

const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const PRIVATE_ANONYMOUS: u64 = 0x22;
/// `mov eax, 7; xor ecx, ecx; cpuid; ret`, and where it asks.
const FUNCTION: [u8; 10] = [0xb8, 7, 0, 0, 0, 0x31, 0xc9, CPUID[0], CPUID[1], 0xc3];
const ASKS: u64 = 7;

fn machine(answers: bool) -> Machine {
    let mut machine = Machine::new();
    machine.program.host.answers = answers.then(|| Arc::new(Answers::take(Level::V2)));
    machine
}

/// Writable memory full of instructions that do nothing.
fn memory(machine: &mut Machine, length: usize) -> u64 {
    let protection = u64::from(READ | WRITE);
    let at = machine.call(MMAP, &[0, length as u64, protection, PRIVATE_ANONYMOUS, u64::MAX, 0]).unwrap();
    let nothing = vec![0x90; CHUNK];
    for from in (0..length).step_by(CHUNK) {
        machine.program.user.put(at + from as u64, &nothing[..CHUNK.min(length - from)]).unwrap();
    }
    at
}

fn make_code(machine: &mut Machine, at: u64, length: usize) {
    machine.call(MPROTECT, &[at, length as u64, u64::from(READ | EXEC)]).unwrap();
}

fn bytes(machine: &Machine, at: u64) -> [u8; 2] {
    let mut bytes = [0; 2];
    machine.program.user.fetch(at, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_becomes_code_asks_the_kernel_and_is_told() {
    for replaced in [true, false] {
        let mut machine = machine(true);
        let at = memory(&mut machine, 4096);
        machine.program.user.put(at, &FUNCTION).unwrap();
        make_code(&mut machine, at, 4096);
        assert_eq!(bytes(&machine, at + ASKS), REPLACED);
        if !replaced {
            // Code that the program made: where the instruction faults that is served as well.
            machine.program.user.put(at + ASKS, &CPUID).unwrap();
        }
        let ready = |machine: &mut Machine, trap| {
            let r = &mut machine.regs;
            (r.rip, r.rax, r.rcx, r.rbx, r.trap) = (at + ASKS, 7, 0, u64::MAX, trap);
        };
        ready(&mut machine, PROTECTION);
        assert!(machine.asks());
        let r = machine.regs;
        assert_eq!((r.rip, r.rax, r.rbx & !0x200, r.rcx, r.rdx & !0x10), (at + ASKS + 2, 0, 0, 0, 0));
        // A page fault at the same place, and the same bytes in memory that is no code, are faults.
        ready(&mut machine, 14);
        assert!(!machine.asks());
        machine.call(MPROTECT, &[at, 4096, u64::from(READ)]).unwrap();
        ready(&mut machine, PROTECTION);
        assert!(!machine.asks());
    }
}

#[test]
fn a_program_without_answers_is_left_alone() {
    let mut machine = machine(false);
    let at = memory(&mut machine, 4096);
    machine.program.user.put(at, &FUNCTION).unwrap();
    make_code(&mut machine, at, 4096);
    assert_eq!(bytes(&machine, at + ASKS), CPUID);
    machine.program.user.put(at + ASKS, &REPLACED).unwrap();
    (machine.regs.rip, machine.regs.trap) = (at + ASKS, PROTECTION);
    assert!(!machine.asks());
    assert!(matches!(machine.fault(11, 0), Outcome::Ended(_)));
}

#[test]
fn it_is_found_where_two_pieces_of_a_search_meet_and_not_in_data() {
    let meet = (CHUNK - 2 * code::CONTEXT) as u64;
    let length = 2 * CHUNK;
    for asks in [ASKS, meet - 2, meet - 1, meet, meet + 1, length as u64 - 3] {
        let mut machine = machine(true);
        let at = memory(&mut machine, length);
        machine.program.user.put(at + asks - ASKS, &FUNCTION).unwrap();
        // The same two bytes as a constant: mov ecx, 0xa20f.
        machine.program.user.put(at + 5000, &[0xb9, CPUID[0], CPUID[1], 0, 0]).unwrap();
        make_code(&mut machine, at, length);
        assert_eq!((bytes(&machine, at + asks), bytes(&machine, at + 5001)), (REPLACED, CPUID), "{asks:#x}");
    }
}
