//! ELF files, good and bad, and the stack that a program begins on.

use super::support::{Machine, try_create, try_create_with};
use crate::linux::vma::{EXEC, Kind, READ, WRITE};
use crate::linux::{LoadError, Needs};

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

const INTERP: u32 = 3;
const DYNAMIC: u32 = 2;

/// An image with a text at a place of its file.
fn with_text(mut image: Vec<u8>, at: usize, text: &[u8]) -> Vec<u8> {
    image[at..at + text.len()].copy_from_slice(text);
    image
}

/// A program that asks for `/lib/loader`.
fn asking() -> Vec<u8> {
    let name = b"/lib/loader\0";
    let header = Header { kind: INTERP, flags: 4, offset: 0x800, address: 0x40_0800, file: 12, memory: 12 };
    with_text(elf(2, 0x40_0100, &[header, code(), data()]), 0x800, name)
}

/// An interpreter at no particular address.
fn loader() -> Vec<u8> {
    let shift = |h: Header| Header { address: h.address - 0x40_0000, ..h };
    elf(3, 0x200, &[shift(code()), shift(data())])
}

#[test]
fn an_interpreter_lies_where_libraries_do_and_begins() {
    let m = try_create_with(&asking(), Some(&loader()), &["x"], &[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(m.program.check(), None);
    let base = m.start.rip - 0x200;
    assert!(base > m.program.mm.record.brk + (1 << 30) && base < m.program.mm.record.stack_start, "{base:#x}");
    let aux = |kind: u64| {
        let mut at = m.start.rsp + 32;
        while m.peek(at) != kind {
            at += 16;
        }
        m.peek(at + 8)
    };
    assert_eq!((aux(7), aux(9), aux(3)), (base, 0x40_0100, 0x40_0040));
    let kinds: Vec<_> = m.maps().iter().filter(|v| v.start >= base).map(|v| (v.attributes.kind, v.len())).collect();
    assert_eq!(kinds[..3], [(Kind::File, 0x1000), (Kind::Copy, 0x1000), (Kind::Private, 0x3000)]);
}

#[test]
fn an_interpreter_that_cannot_be_is_told() {
    let error = |image: &[u8], interpreter: Option<&[u8]>| match try_create_with(image, interpreter, &["x"], &[]) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    };
    assert_eq!(error(&asking(), None), "its interpreter /lib/loader is not there");
    assert_eq!(error(&asking(), Some(b"text")), "its interpreter cannot be used: it is not an ELF executable");
    assert!(error(&asking(), Some(&loader()[..0x1050])).contains("cannot be used: it is truncated"));
    // At the same addresses as the program.
    assert!(error(&asking(), Some(&tiny())).contains("cannot be used: its segments overlap at 0x400000"));
    for name in [&b"lib/loader\0"[..], b"/lib/loader/", b"/lib\0loader\0"] {
        let image = with_text(asking(), 0x800, name);
        assert!(error(&image, Some(&loader())).contains("no absolute path"), "{name:?}");
    }
}

/// A library that needs two others and says where to look.
fn needing(entries: &[(u64, u64)]) -> Vec<u8> {
    let section = Header { kind: DYNAMIC, flags: 6, offset: 0x1020, address: 0x2020, file: 0xc0, memory: 0xc0 };
    let bytes: Vec<u8> =
        entries.iter().flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()]).flatten().collect();
    let shift = |h: Header| Header { address: h.address - 0x40_0000, ..h };
    let image = elf(3, 0x100, &[shift(code()), shift(data()), section]);
    with_text(with_text(image, 0x900, b"\0libone.so\0two\0$ORIGIN:/x\0"), 0x1020, &bytes)
}

const STRINGS: [(u64, u64); 2] = [(5, 0x900), (10, 28)];

#[test]
fn a_library_says_what_it_needs() {
    let [table, size] = STRINGS;
    let needs = Needs::of(&needing(&[(1, 1), table, (1, 11), (29, 15), size, (0, 0), (1, 15)])).unwrap();
    assert_eq!(needs.libraries, [b"libone.so".to_vec(), b"two".to_vec()]);
    assert_eq!(needs.run_path.as_deref(), Some(&b"$ORIGIN:/x"[..]));
    assert_eq!((needs.inherited_path, needs.interpreter), (None, None));
    assert_eq!(Needs::of(&asking()).unwrap().interpreter.as_deref(), Some(&b"/lib/loader"[..]));
    assert_eq!(Needs::of(&tiny()).unwrap(), Needs::default());
}

#[test]
fn names_outside_a_library_are_refused() {
    let [table, size] = STRINGS;
    for entries in [
        &[(1, 1)][..],
        &[(1, 28), table, size],
        &[(1, u64::MAX), table, size],
        &[(1, 1), (5, 0x5000), size],
        &[(1, 1), (5, u64::MAX), size],
        &[(1, 1), table, (10, u64::MAX)],
        &[(1, 27), table, (10, 28 + 0x700)],
    ] {
        let found = Needs::of(&needing(entries));
        assert!(found.is_err() || found.as_ref().is_ok_and(|n| n.libraries == [b""]), "{entries:x?}: {found:?}");
    }
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
            let mut image = needing(&[(1, 1), STRINGS[0], (1, 11), (29, 15), STRINGS[1]]);
            image[at] = byte;
            let _ = Needs::of(&image);
            let mut image = asking();
            image[at] = byte;
            let _ = Needs::of(&image);
            let mut image = loader();
            image[at] = byte;
            let _ = try_create_with(&asking(), Some(&image), &["x"], &[]).map(|m| assert_eq!(m.program.check(), None));
            let mut image = whole.clone();
            image[at] = byte;
            let _ = try_create(&image, &["x"], &[]).map(|m| assert_eq!(m.program.check(), None, "byte {at} = {byte}"));
        }
    }
}
