//! ELF files, good and bad, and the stack that a program begins on.

use super::support::{Machine, try_create};
use crate::linux::LoadError;
use crate::linux::vma::{EXEC, Kind, READ, WRITE};

/// One program header of a test image.
#[derive(Clone, Copy)]
pub struct Header {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub file: u64,
    pub memory: u64,
}

pub const LOAD: u32 = 1;

/// An ELF file of these headers; the bytes of segments are `offset & 0xff` counted up.
pub fn elf(kind: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
    let size = headers.iter().map(|h| h.offset + h.file).max().unwrap_or(0).max(0x1000);
    let mut out: Vec<u8> = (0..size).map(|i| i.to_le_bytes()[0]).collect();
    out[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &kind.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(40, &[0; 12]);
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &u16::try_from(headers.len()).unwrap().to_le_bytes());
    put(58, &[0; 6]);
    for (i, h) in headers.iter().enumerate() {
        let at = 64 + i * 56;
        put(at, &h.kind.to_le_bytes());
        put(at + 4, &h.flags.to_le_bytes());
        for (j, word) in [h.offset, h.address, h.address, h.file, h.memory, 0x1000].into_iter().enumerate() {
            put(at + 8 + j * 8, &word.to_le_bytes());
        }
    }
    out
}

fn code() -> Header {
    Header { kind: LOAD, flags: 5, offset: 0, address: 0x40_0000, file: 0x1000, memory: 0x1000 }
}

fn data() -> Header {
    Header { kind: LOAD, flags: 6, offset: 0x1010, address: 0x40_2010, file: 0x100, memory: 0x3000 }
}

/// A static executable: code at 0x400000, data at 0x402010 with bss behind it.
pub fn tiny() -> Vec<u8> {
    elf(2, 0x40_0100, &[code(), data()])
}

fn error(image: &[u8]) -> String {
    match try_create(image, &["x"], &[]) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_image_lies_where_it_says_with_its_protections_and_zeros_behind() {
    let m = Machine::new();
    assert_eq!(m.start.rip, 0x40_0100);
    assert_eq!(m.peek(0x40_0200), 0x0706_0504_0302_0100);
    assert_eq!(m.peek(0x40_2010), 0x1716_1514_1312_1110);
    assert_eq!(m.peek(0x40_2110), 0);
    let maps = m.maps();
    let seen: Vec<_> = maps[..3].iter().map(|v| (v.start, v.end, v.attributes.protection, v.attributes.kind)).collect();
    let (code, data) = (READ | EXEC, READ | WRITE);
    assert_eq!(
        seen,
        [
            (0x40_0000, 0x40_1000, code, Kind::Image),
            (0x40_2000, 0x40_3000, data, Kind::Image),
            (0x40_3000, 0x40_6000, data, Kind::Private)
        ]
    );
    assert_eq!(maps[3].attributes.kind, Kind::Stack);
    assert_eq!(maps[3].len(), 8 << 20);
    assert_eq!(m.program.check(), None);
}

#[test]
fn a_position_independent_program_is_moved_as_a_whole() {
    let shift = |h: Header| Header { address: h.address - 0x40_0000, ..h };
    let m = try_create(&elf(3, 0x100, &[shift(code()), shift(data())]), &["x"], &[]).unwrap_or_else(|e| panic!("{e}"));
    let maps = m.maps();
    assert!(maps[0].start >= 0x40_0000_0000);
    assert_eq!(m.start.rip, maps[0].start + 0x100);
    assert_eq!(maps[1].start, maps[0].start + 0x2000);
}

#[test]
fn the_stack_tells_arguments_environment_and_machine() {
    let m = try_create(&tiny(), &["prog", "one"], &["A=b"]).unwrap_or_else(|e| panic!("{e}"));
    let sp = m.start.rsp;
    assert_eq!(sp % 16, 0);
    assert_eq!(m.peek(sp), 2);
    let text = |at: u64| String::from_utf8(m.program.user.read_cstr(at, 100).unwrap()).unwrap();
    assert_eq!(text(m.peek(sp + 8)), "prog");
    assert_eq!(text(m.peek(sp + 16)), "one");
    assert_eq!(m.peek(sp + 24), 0);
    assert_eq!(text(m.peek(sp + 32)), "A=b");
    assert_eq!(m.peek(sp + 40), 0);
    let mut aux = std::collections::BTreeMap::new();
    let mut at = sp + 48;
    while m.peek(at) != 0 {
        aux.insert(m.peek(at), m.peek(at + 8));
        at += 16;
    }
    assert_eq!(aux[&3], 0x40_0040, "AT_PHDR");
    assert_eq!(aux[&5], 2, "AT_PHNUM");
    assert_eq!(aux[&6], 4096, "AT_PAGESZ");
    assert_eq!(aux[&9], 0x40_0100, "AT_ENTRY");
    assert_eq!(text(aux[&31]), "/bin/test");
    assert_eq!(text(aux[&15]), "x86_64");
    assert_ne!(m.peek(aux[&25]), 0, "AT_RANDOM");
    assert!(aux[&51] >= 2048, "AT_MINSIGSTKSZ");
    assert!(!aux.contains_key(&33), "there is no vDSO");
}

#[test]
fn what_cannot_run_is_refused_with_a_sentence() {
    assert_eq!(error(b"#!/bin/sh\necho hello world\n"), "it is not an ELF executable");
    assert!(error(&std::fs::read("/proc/self/exe").unwrap()).starts_with("it is dynamically linked; build it static"));
    let change = |at: usize, byte: u8| {
        let mut image = tiny();
        image[at] = byte;
        image
    };
    assert!(error(&change(4, 1)).contains("32-bit"));
    assert!(error(&change(18, 183)).contains("another processor (ELF machine 183)"));
    assert!(error(&change(16, 1)).contains("not an executable (ELF type 1)"));
    assert!(error(&tiny()[..0x1050]).contains("truncated"));
    assert!(error(&tiny()[..40]).contains("truncated"));
    assert!(
        error(&elf(2, 0x40_2020, &[code(), data()])).contains("entry point 0x402020 is not in an executable segment")
    );
    let outside = Header { address: 1 << 41, ..code() };
    assert!(error(&elf(2, 1 << 41, &[outside])).contains("lies outside"));
    let low = Header { address: 0, ..code() };
    assert!(error(&elf(2, 0x10, &[low])).contains("lies outside"));
    let wrapping = Header { memory: u64::MAX - 0x100, ..code() };
    assert!(error(&elf(2, 0x40_0100, &[wrapping])).contains("is larger than"));
    let over = Header { address: 0x40_0810, offset: 0x810, file: 0x10, memory: 0x10, ..data() };
    assert!(error(&elf(2, 0x40_0100, &[code(), over])).contains("overlap"));
    let far = Header { address: 0x90_0000_0010, ..data() };
    assert!(error(&elf(2, 0x40_0100, &[code(), far])).contains("is larger than"));
    assert!(error(&elf(2, 0x40_0100, &[])).contains("make no sense"));
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let long = "x".repeat(3 << 20);
    assert!(matches!(try_create(&tiny(), &[&long], &[]), Err(LoadError::ArgumentsTooLong(_))));
    assert!(matches!(try_create(&tiny(), &["a\0b"], &[]), Err(LoadError::ZeroInArgument)));
}

#[test]
fn no_damaged_file_does_harm() {
    let whole = tiny();
    for cut in (0..256).chain([0x1000, 0x1010, 0x1050]) {
        let _ = try_create(&whole[..cut], &["x"], &[]).map(|m| assert_eq!(m.program.check(), None));
    }
    for at in 0..64 + 2 * 56 {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut image = whole.clone();
            image[at] = byte;
            let _ = try_create(&image, &["x"], &[]).map(|m| assert_eq!(m.program.check(), None, "byte {at} = {byte}"));
        }
    }
}
