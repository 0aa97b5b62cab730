//! The memory calls.

use super::support::Machine;
use crate::abi::WINDOW_END;
use crate::linux::Errno;
use crate::linux::vma::{Kind, READ, WRITE};

const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const MUNMAP: u64 = 11;
const BRK: u64 = 12;
const MREMAP: u64 = 25;
const MADVISE: u64 = 28;
const ANON: u64 = 0x22;
const FIXED: u64 = 0x10;
const NOREPLACE: u64 = 0x10_0000;
const NO_FD: u64 = u64::MAX;

fn map(m: &mut Machine, length: u64) -> u64 {
    m.call(MMAP, &[0, length, 3, ANON, NO_FD, 0]).unwrap()
}

fn orders(m: &mut Machine) -> Vec<(u64, u64, u32)> {
    m.program.take_orders().iter().map(|o| (o.address, o.length, o.protection)).collect()
}

#[test]
fn new_mappings_go_top_down_and_are_given_to_the_process() {
    let mut m = Machine::new();
    let a = map(&mut m, 0x3000);
    assert_eq!(orders(&mut m), [(a, 0x3000, 3)]);
    let b = map(&mut m, 1);
    assert_eq!(b, a - 0x1000);
    // They touch and are alike: one area.
    assert_eq!(m.maps().iter().filter(|v| v.attributes.kind == Kind::Private && v.end > b).count(), 1);
    m.call(MUNMAP, &[b, 0x2000]).unwrap();
    assert_eq!(orders(&mut m), [(b, 0x1000, 3), (b, 0x2000, 0)]);
    assert_eq!(m.program.user.read(b, 8), Err(Errno::EFAULT));
    m.restart_compared();
}

#[test]
fn unmapped_memory_comes_back_as_zeros() {
    let mut m = Machine::new();
    let a = map(&mut m, 0x4000);
    m.poke(a + 0x1000, 7);
    m.call(MUNMAP, &[a, 0x4000]).unwrap();
    assert_eq!(m.peek(a + 0x1000), 7, "it is discarded lazily");
    assert_eq!(m.call(MMAP, &[a, 0x4000, 3, ANON | FIXED, NO_FD, 0]), Ok(a));
    assert_eq!(m.peek(a + 0x1000), 0);
    m.poke(a, 9);
    assert_eq!(m.call(MMAP, &[a, 0x1000, 1, ANON | FIXED, NO_FD, 0]), Ok(a));
    assert_eq!(m.peek(a), 0, "a fixed mapping replaces what was there");
    m.poke(a, 9);
    m.call(MUNMAP, &[a, 0x1000]).unwrap();
    m.program.before_capture();
    assert_eq!(m.peek(a), 0, "nothing dead is stored");
}

#[test]
fn a_call_that_fails_discards_nothing() {
    let mut m = Machine::new();
    let a = map(&mut m, 0x2000);
    m.poke(a, 5);
    m.program.set_address_space_limit(16 << 20);
    // Over the limit after it has looked at what it would replace.
    assert_eq!(m.call(MMAP, &[a, 64 << 20, 3, ANON | FIXED, NO_FD, 0]), Err(Errno::ENOMEM));
    m.program.before_capture();
    assert_eq!(m.peek(a), 5);
    assert_eq!(m.call(MMAP, &[0, 64 << 20, 3, ANON, NO_FD, 0]), Err(Errno::ENOMEM));
    m.restart_compared();
}

#[test]
fn protections_are_exact_and_bad_ranges_change_nothing() {
    let mut m = Machine::new();
    let a = map(&mut m, 0x3000);
    orders(&mut m);
    m.call(MPROTECT, &[a + 0x1000, 0x1000, 0]).unwrap();
    assert_eq!(orders(&mut m), [(a + 0x1000, 0x1000, 0)]);
    assert_eq!(m.program.user.writable(a, 0x3000), 0x1000);
    assert_eq!(m.program.user.write(a + 0xffc, &[1; 8]), Err(Errno::EFAULT));
    m.call(MPROTECT, &[a, 0x3000, 5]).unwrap();
    assert_eq!(orders(&mut m), [(a, 0x3000, 5)]);
    assert_eq!(m.call(MPROTECT, &[a, 0x4000_0000, 1]), Err(Errno::ENOMEM));
    assert_eq!(m.call(MPROTECT, &[a + 1, 0x1000, 1]), Err(Errno::EINVAL));
    assert_eq!(m.call(MPROTECT, &[a, 0x1000, 0x40]), Err(Errno::EINVAL));
    assert!(orders(&mut m).is_empty());
}

#[test]
fn hints_are_taken_when_free_and_noreplace_replaces_nothing() {
    let mut m = Machine::new();
    assert_eq!(m.call(MMAP, &[0x1000_0123, 0x1000, 3, ANON, NO_FD, 0]), Ok(0x1000_0000));
    assert_ne!(m.call(MMAP, &[0x1000_0000, 0x1000, 3, ANON, NO_FD, 0]), Ok(0x1000_0000));
    assert_eq!(m.call(MMAP, &[0x1000_0000, 0x1000, 3, ANON | NOREPLACE, NO_FD, 0]), Err(Errno::EEXIST));
    assert_eq!(m.call(MMAP, &[WINDOW_END, 0x1000, 3, ANON | FIXED, NO_FD, 0]), Err(Errno::ENOMEM));
    assert_eq!(m.call(MMAP, &[0, 0, 3, ANON, NO_FD, 0]), Err(Errno::EINVAL));
    assert_eq!(m.call(MMAP, &[0, u64::MAX, 3, ANON, NO_FD, 0]), Err(Errno::ENOMEM));
}

#[test]
fn the_break_moves_grants_ahead_and_comes_back_as_zeros() {
    let mut m = Machine::new();
    let start = m.call(BRK, &[0]).unwrap();
    assert_eq!(m.call(BRK, &[start + 0x5000]), Ok(start + 0x5000));
    let (from, now, granted) = m.program.brk_state();
    assert_eq!((from, now), (start, start + 0x5000));
    assert!(granted >= now + (1 << 20));
    orders(&mut m);
    assert_eq!(m.call(BRK, &[start + 0x8_0000]), Ok(start + 0x8_0000));
    assert!(orders(&mut m).is_empty(), "it was granted ahead");
    m.poke(start + 0x6000, 3);
    assert_eq!(m.call(BRK, &[start + 0x1000]), Ok(start + 0x1000));
    assert_eq!(m.program.brk_state().2, start + 0x1000, "the stub must not grow over old content");
    assert_eq!(m.call(BRK, &[start + 0x8000]), Ok(start + 0x8000));
    assert_eq!(m.peek(start + 0x6000), 0);
    assert!(m.program.note_brk(start + 0x9123));
    assert!(!m.program.note_brk(start + (1 << 30)), "what the stub says is checked");
    assert!(!m.program.note_brk(start - 1));
    assert_eq!(m.call(BRK, &[0]), Ok(start + 0x9123));
    assert_eq!(m.call(BRK, &[WINDOW_END]), Ok(start + 0x9123));
    m.restart_compared();
}

#[test]
fn a_mapping_in_what_was_granted_ahead_wins_over_the_grant() {
    let mut m = Machine::new();
    let start = m.call(BRK, &[0]).unwrap();
    m.call(BRK, &[start + 0x1000]).unwrap();
    let at = start + 0x10_000;
    assert_eq!(m.call(MMAP, &[at, 0x1000, 1, ANON | FIXED, NO_FD, 0]), Ok(at));
    assert_eq!(m.program.brk_state().2, start + 0x1000);
    assert_eq!(m.call(BRK, &[start + 0x20_000]), Ok(start + 0x1000), "the break cannot pass it");
    assert_eq!(m.call(BRK, &[start + 0x10_000]), Ok(start + 0x10_000));
    assert_eq!(m.call(MPROTECT, &[start + 0x8000, 0x1000, 0]), Ok(0));
}

#[test]
fn mremap_grows_in_place_or_moves_with_its_content() {
    let mut m = Machine::new();
    let wall = map(&mut m, 0x1000);
    m.call(MPROTECT, &[wall, 0x1000, 1]).unwrap();
    let a = map(&mut m, 0x2000);
    m.poke(a, 1);
    m.poke(a + 0x1000, 2);
    assert_eq!(m.call(MREMAP, &[a, 0x2000, 0x3000, 0]), Err(Errno::ENOMEM));
    let b = m.call(MREMAP, &[a, 0x2000, 0x3000, 1]).unwrap();
    assert_eq!((m.peek(b), m.peek(b + 0x1000), m.peek(b + 0x2000)), (1, 2, 0));
    assert_eq!(m.program.user.readable(a, 1), 0);
    assert_eq!(m.call(MMAP, &[a, 0x2000, 3, ANON | FIXED, NO_FD, 0]), Ok(a));
    assert_eq!(m.peek(a), 0);
    m.call(MUNMAP, &[a, 0x2000]).unwrap();
    assert_eq!(m.call(MREMAP, &[b, 0x3000, 0x1000, 0]), Ok(b));
    assert_eq!(m.call(MREMAP, &[b, 0x1000, 0x2000, 0]), Ok(b), "there is room behind it again");
    assert_eq!(m.peek(b + 0x1000), 0);
    let c = m.call(MREMAP, &[b, 0x2000, 0x2000, 3, 0x2000_0000]).unwrap();
    assert_eq!((c, m.peek(c)), (0x2000_0000, 1));
    assert_eq!(m.call(MREMAP, &[c, 0x2000, 0x2000, 3, c + 0x1000]), Err(Errno::EINVAL));
    assert_eq!(m.call(MREMAP, &[0x3000_0000, 0x2000, 0x4000, 1]), Err(Errno::EFAULT));
    m.restart_compared();
}

#[test]
fn advice_not_needed_gives_zeros() {
    let mut m = Machine::new();
    let a = map(&mut m, 0x3000);
    for at in [a, a + 0x1000, a + 0x2000] {
        m.poke(at, 4);
    }
    m.call(MADVISE, &[a + 0x1000, 0x1000, 4]).unwrap();
    assert_eq!([m.peek(a), m.peek(a + 0x1000), m.peek(a + 0x2000)], [4, 0, 4]);
    assert_eq!(m.call(MADVISE, &[0x3000_0000, 0x1000, 4]), Err(Errno::ENOMEM));
    assert_eq!(m.call(MADVISE, &[a, 0x1000, 14]), Ok(0));
    m.call(MADVISE, &[0x40_0000, 0x1000, 4]).unwrap();
    assert_ne!(m.peek(0x40_0200), 0, "the program's own image is kept");
}

#[test]
fn accesses_of_the_kernel_obey_the_map() {
    let mut m = Machine::new();
    let user = &m.program.user;
    assert_eq!(user.read(0x40_0000, 4).unwrap(), b"\x7fELF");
    assert_eq!(user.write(0x40_0000, b"x"), Err(Errno::EFAULT), "code is not written");
    assert_eq!(user.read(u64::MAX - 3, 8), Err(Errno::EFAULT));
    assert_eq!(user.read(0x40_0000, usize::MAX), Err(Errno::EINVAL));
    assert_eq!(user.read_cstr(0x40_0ff0, 4096), Err(Errno::EFAULT));
    assert_eq!(user.read_cstr(0x40_0201, 4), Err(Errno::ENAMETOOLONG));
    assert_eq!(user.readable(0x40_0ff0, 0x100), 0x10);
    let shared = m.call(MMAP, &[0, 0x1000, 3, 0x21, NO_FD, 0]).unwrap();
    let area = m.program.user.vmas().find(shared).unwrap();
    assert_eq!((area.attributes.kind, area.attributes.protection), (Kind::Shared, READ | WRITE));
}

/// Maps one page at a time until the stub may hand out more.
fn pooled() -> (Machine, u64, u64) {
    let mut m = Machine::new();
    for _ in 0..100 {
        map(&mut m, 0x1000);
        let (start, next) = m.program.pool_state();
        if start != 0 {
            orders(&mut m);
            return (m, start, next);
        }
    }
    panic!("a program that often maps is granted no pool");
}

#[test]
fn a_pool_is_taken_over_only_as_far_as_it_was_granted() {
    let (mut m, start, next) = pooled();
    assert_eq!(m.program.user.writable(start, next - start), next - start);
    assert!(m.program.note_pool(next - 0x3000));
    for wrong in [next, next - 0x3800, start - 0x1000, 0, u64::MAX] {
        assert!(!m.program.note_pool(wrong), "{wrong:x}");
        assert_eq!(m.program.pool_state(), (start, next - 0x3000));
    }
    // What the stub handed out is the program's like any other memory; the kernel hands out what comes next.
    m.poke(next - 0x2000, 8);
    assert_eq!(map(&mut m, 0x1000), next - 0x4000);
    assert!(orders(&mut m).is_empty(), "it was granted ahead");
    m.restart_compared();
    assert_eq!(m.program.pool_state(), (start, next - 0x4000));
    assert_eq!(m.peek(next - 0x2000), 8);
    m.call(MUNMAP, &[next - 0x3000, 0x3000]).unwrap();
    assert_eq!(m.program.pool_state(), (start, next - 0x4000));
    assert!(m.program.note_pool(start));
    assert_eq!(m.program.pool_state(), (start, start), "all of it is in use");
    assert_eq!(m.program.check(), None);
}

#[test]
fn a_call_that_names_addresses_in_the_pool_finds_them_free() {
    for call in [[MMAP, 0x3000, 1, ANON | NOREPLACE], [MMAP, 0x3000, 3, ANON | FIXED], [MPROTECT, 0x3000, 1, 0]] {
        let (mut m, start, next) = pooled();
        m.poke(start + 0x1000, 6);
        let answer = m.call(call[0], &[start, call[1], call[2], call[3], NO_FD, 0]);
        assert_eq!(answer, if call[0] == MMAP { Ok(start) } else { Err(Errno::ENOMEM) });
        if call[0] == MMAP {
            assert_eq!(m.program.user.readable(next - 0x1000, 1), 0);
            assert_eq!(m.program.pool_state(), (0, 0));
            assert_eq!(m.peek(start + 0x1000), 0);
        } else {
            assert_eq!(m.program.pool_state(), (start, next), "a refused call changes nothing");
        }
        m.restart_compared();
    }
}

#[test]
fn small_advice_that_memory_is_free_is_left_to_the_stub() {
    let mut m = Machine::new();
    let a = map(&mut m, 0x3000);
    m.program.advice_ranges();
    m.poke(a, 4);
    m.call(MADVISE, &[a, 0x1000, 8]).unwrap();
    assert_eq!(m.peek(a), 4);
    let told = m.program.advice_ranges().unwrap();
    assert!(told.contains(&[a, a + 0x3000]), "{told:x?}");
    assert_eq!(m.program.advice_ranges(), None, "nothing has changed");
    m.call(MPROTECT, &[a + 0x1000, 0x1000, 1]).unwrap();
    assert!(m.program.advice_ranges().unwrap().contains(&[a, a + 0x1000]));
    m.call(MUNMAP, &[a, 0x3000]).unwrap();
    assert_eq!(m.program.advice_ranges(), Some([[0, 0]; 4]));
    assert_eq!(m.call(MADVISE, &[a, 0x1000, 8]), Err(Errno::ENOMEM));
    let b = map(&mut m, 0x20_000);
    m.poke(b, 4);
    m.call(MADVISE, &[b, 0x20_000, 8]).unwrap();
    assert_eq!(m.peek(b), 0, "much is freed");
}

#[test]
fn what_may_be_written_may_be_read() {
    let mut m = Machine::new();
    let a = m.call(MMAP, &[0, 0x1000, 2, ANON, NO_FD, 0]).unwrap();
    assert_eq!(orders(&mut m), [(a, 0x1000, 2)]);
    m.poke(a, 77);
    assert_eq!(m.program.user.read(a, 1), Ok(vec![77]));
    m.call(MPROTECT, &[a, 0x1000, 0]).unwrap();
    assert_eq!(m.program.user.read(a, 1), Err(Errno::EFAULT));
}

#[test]
fn a_part_of_a_file_is_not_turned_into_zeros() {
    let mut m = Machine::new();
    let a = map(&mut m, 0x1000);
    m.program.user.write(a, b"/file\0").unwrap();
    let fd = m.call(2, &[a, 0o102, 0o644]).unwrap();
    m.program.user.write(a, b"content of the file").unwrap();
    assert_eq!(m.call(1, &[fd, a, 19]), Ok(19));
    let content = u64::from_le_bytes(*b"content ");
    for (protection, refused) in [(1, false), (3, true)] {
        let b = m.call(MMAP, &[0, 0x1000, protection, 2, fd, 0]).unwrap();
        let answer = m.call(MADVISE, &[b, 0x1000, 4]);
        assert_eq!(answer, if refused { Err(Errno::EINVAL) } else { Ok(0) });
        assert_eq!(m.peek(b), content);
        assert_eq!(m.call(MADVISE, &[b, 0x1000, 8]), Err(Errno::EINVAL), "only anonymous memory can be freed");
        m.restart_compared();
        // Once it could be written, it may have been.
        m.call(MPROTECT, &[b, 0x1000, 3]).unwrap();
        m.call(MPROTECT, &[b, 0x1000, 1]).unwrap();
        assert_eq!(m.call(MADVISE, &[b, 0x1000, 4]), Err(Errno::EINVAL));
    }
}

/// What the program wrote there would be gone with the next checkpoint.
#[test]
fn after_a_call_that_was_undone_the_stub_does_not_grow_the_break_into_what_waits_to_be_discarded() {
    let mut m = Machine::new();
    let start = m.call(12, &[0]).unwrap();
    m.call(12, &[start + 0x8000]).unwrap();
    m.poke(start + 0x4000, 7);
    m.call(12, &[start + 0x1000]).unwrap();
    assert_eq!(m.program.brk_state().2, start + 0x1000);
    // ppoll has changed the signal mask when it finds that there is no array.
    m.poke(start, 1);
    assert_eq!(m.call(271, &[8, 1, 0, start, 8]), Err(Errno::EFAULT));
    assert_eq!(m.program.brk_state().2, start + 0x1000);
    m.call(12, &[start + 0x8000]).unwrap();
    assert_eq!(m.peek(start + 0x4000), 0);
}
