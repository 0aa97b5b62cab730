//! Finds `cpuid` in code, so that it can be replaced.
//!
//! The same two bytes also stand in constants, addresses and data, where they must stay. Instructions of x86 have no fixed places, but whoever begins
//! to decode anywhere is in step with them after a few. So around each hit code is decoded from many places before it, and it is an instruction
//! only if they agree on that. Then it has to be used as one: it stands amid instructions that programs have, and eax was written just before.

use super::CPUID;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};
use memchr::memmem;

/// Bytes before a hit from which on is decoded.
const BEFORE: usize = 128;
/// Places there at which decoding begins.
const STARTS: usize = 32;
/// So near to the hit none begins that could get in step before.
const IN_STEP: usize = 64;
/// Bytes after a hit that are decoded.
const AFTER: usize = 128;
/// Instructions before and after that have to be some that programs have.
const AROUND: usize = 16;
/// Instructions before among which one writes eax.
const WRITES: usize = 12;
/// Bytes before and after a piece of code that it is to be seen with.
pub const CONTEXT: usize = BEFORE + AFTER;

/// Where in `code` instructions `cpuid` stand.
#[must_use]
pub fn questions(code: &[u8]) -> Vec<usize> {
    memmem::find_iter(code, &CPUID).filter(|at| is_instruction(code, *at)).collect()
}

fn decode(code: &[u8]) -> Decoder<'_> {
    Decoder::new(64, code, DecoderOptions::NONE)
}

fn is_instruction(code: &[u8], at: usize) -> bool {
    let first = at.saturating_sub(BEFORE);
    // Where the code begins whoever decodes is in step.
    let starts = (first..first + STARTS).filter(|start| *start == 0 || start + IN_STEP <= at);
    let ways: Vec<Option<Vec<Instruction>>> = starts.map(|start| way(&code[start..at])).collect();
    let arrived: Vec<&Vec<Instruction>> = ways.iter().flatten().collect();
    if arrived.len() * 4 < ways.len() * 3 {
        return false;
    }
    let after = &code[at..code.len().min(at + AFTER)];
    arrived.iter().any(|way| is_plausible_before(way)) && is_plausible_after(after)
}

/// The instructions from the beginning of `code` on, if one ends where it ends.
fn way(code: &[u8]) -> Option<Vec<Instruction>> {
    let mut decoder = decode(code);
    let mut all = Vec::new();
    while decoder.can_decode() {
        all.push(decoder.decode());
    }
    // One that goes beyond the end is invalid.
    (decoder.position() == code.len() && all.last().is_none_or(|last| !last.is_invalid())).then_some(all)
}

fn is_plausible_before(way: &[Instruction]) -> bool {
    let near = &way[way.len().saturating_sub(AROUND)..];
    let mut factory = InstructionInfoFactory::new();
    let mut writes = |instruction: &Instruction| {
        // What was called answers in eax.
        let calls = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        let is_eax = |register| matches!(register, Register::EAX | Register::RAX);
        let used = factory.info(instruction).used_registers();
        let mut writes = used.iter().filter(|used| matches!(used.access(), OpAccess::Write | OpAccess::ReadWrite));
        calls || writes.any(|used| is_eax(used.register()))
    };
    // Functions are aligned by such an instruction, and there may be data before it.
    let aligns = |instruction: &&Instruction| instruction.mnemonic() == Mnemonic::Nop && instruction.len() > 1;
    let mut block = near.iter().rev().take_while(|instruction| !aligns(instruction));
    block.all(is_usual) && near.iter().rev().take(WRITES).any(&mut writes)
}

/// Up to where it goes on elsewhere: behind that there may be data.
fn is_plausible_after(code: &[u8]) -> bool {
    let mut decoder = decode(code);
    for _ in 0..=AROUND {
        let instruction = decoder.decode();
        match instruction.flow_control() {
            // The piece ends amid it.
            _ if instruction.is_invalid() => return decoder.position() >= code.len(),
            _ if !is_usual(&instruction) => return false,
            FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => return true,
            // ud2, which compilers put where nothing comes.
            FlowControl::Exception => return true,
            _ => {}
        }
    }
    true
}

/// Whether programs have such an instruction; bytes that are none soon make up one that they do not have.
fn is_usual(instruction: &Instruction) -> bool {
    let rare = matches!(
        instruction.code(),
        Code::Int_imm8 | Code::Int1 | Code::Retfd | Code::Retfq | Code::Retfd_imm16 | Code::Retfq_imm16 | Code::Xlat_m8
    );
    !instruction.is_invalid() && !instruction.is_privileged() && !rare
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use object::{Object, ObjectSegment, SegmentFlags};
    use std::collections::BTreeSet;
    use std::process::Command;

    /// `mov eax, 7; xor ecx, ecx; cpuid; mov [rdi], ebx; ret` amid `pad`.
    fn function(pad: &[u8]) -> Vec<u8> {
        let body = [0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0x1f, 0xc3];
        [pad, &body, pad].concat()
    }

    #[test]
    fn it_is_found_amid_code_and_not_in_constants_and_data() {
        assert_eq!(questions(&function(&[0x90; 200])), [207]);
        assert_eq!(questions(&function(&[])), [7]);
        // mov eax, 0xa20f; mov rax, 0x0000a20f0000a20f; lea rax, [rip + 0xa20f]
        let constants = [
            &[0xb8, 0x0f, 0xa2, 0, 0][..],
            &[0x48, 0xb8, 0x0f, 0xa2, 0, 0, 0x0f, 0xa2, 0, 0],
            &[0x48, 0x8d, 0x05, 0x0f, 0xa2, 0, 0],
        ];
        let code: Vec<u8> = std::iter::repeat_n(constants.concat(), 40).flatten().collect();
        assert_eq!(questions(&code), [0; 0]);
        // Words of a library's author before it, and what aligns it.
        let words = [&b"CRYPTOGAMS by <appro@openssl.org> ins outs "[..], &[0x66, 0x0f, 0x1f, 0x44, 0, 0]].concat();
        assert_eq!(questions(&function(&words)), [words.len() + 7]);
        // Nobody wrote eax.
        assert_eq!(questions(&[&[0x90; 200][..], &CPUID, &[0x90; 200]].concat()), [0; 0]);
        let mut seed = 1u32;
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        });
        let noise: Vec<u8> = noise.take(8 << 20).collect();
        let hits = memmem::find_iter(&noise, &CPUID).count();
        let taken = questions(&noise).len();
        assert!(hits > 100 && taken * 50 <= hits, "{taken} of {hits} hits in noise");
        assert_eq!(questions(&[]), [0; 0]);
        assert_eq!(questions(&CPUID), [0; 0]);
    }

    /// Where objdump says that `cpuid` stands, without what it takes for code amid bytes that are none: some libraries have tables beside it.
    fn by_objdump(path: &str) -> Option<BTreeSet<u64>> {
        let output = Command::new("objdump").args(["-d", "--no-show-raw-insn", path]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let address = |line: &str| u64::from_str_radix(line.trim().strip_suffix(":")?, 16).ok();
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        let is_code = |at: usize| {
            let near = &lines[at.saturating_sub(AROUND)..lines.len().min(at + AROUND)];
            !near.iter().any(|(_, what)| what.contains("(bad)"))
        };
        let found = (0..lines.len()).filter(|at| lines[*at].1.trim() == "cpuid" && is_code(*at));
        Some(found.filter_map(|at| address(lines[at].0)).collect())
    }

    /// The same by [`questions`], as a loader sees it: by executable segment.
    fn by_us(path: &str) -> BTreeSet<u64> {
        let data = std::fs::read(path).unwrap();
        let file = object::File::parse(&*data).unwrap();
        let executable = |flags| matches!(flags, SegmentFlags::Elf { p_flags } if p_flags & object::elf::PF_X != 0);
        let segments = file.segments().filter(|segment| executable(segment.flags()));
        segments
            .flat_map(|segment| {
                let first = segment.address();
                questions(segment.data().unwrap()).into_iter().map(move |at| first + at as u64).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn in_the_programs_of_this_machine_all_are_found_and_nothing_else() {
        let candidates = std::env::var("SEMPER_TEST_BINARIES").unwrap_or_else(|_| {
            "/lib64/ld-linux-x86-64.so.2 /lib/x86_64-linux-gnu/libc.so.6 /usr/bin/bash-static /bin/bash /bin/busybox /usr/bin/python3 \
             /usr/lib/x86_64-linux-gnu/libcrypto.so.3 /usr/lib/x86_64-linux-gnu/libstdc++.so.6 /usr/lib/x86_64-linux-gnu/libgcc_s.so.1 \
             /lib/x86_64-linux-gnu/libm.so.6 /usr/lib/x86_64-linux-musl/libc.so"
                .into()
        });
        let mut seen = 0;
        for path in candidates.split_whitespace().filter(|path| std::path::Path::new(path).exists()) {
            let Some(wanted) = by_objdump(path) else { return };
            assert_eq!(by_us(path), wanted, "{path}");
            seen += wanted.len();
        }
        assert!(seen > 0, "none of them asks the processor");
    }
}
