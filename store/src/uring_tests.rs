//! The ring, with what a kernel answers seldom.

#[path = "../../tests/needs/mod.rs"]
mod needs;

use super::*;
use crate::disk::BufferPool;
use crate::ids::PAGE_SIZE;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// A ring over a new file that may or may not be written to, and the file to look into; none, said by name, where the kernel refuses it.
fn ring(writable: bool) -> Option<(Ring, tempfile::NamedTempFile)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let direct = OpenOptions::new().read(true).write(writable).custom_flags(libc::O_DIRECT).open(file.path());
    let made = direct.and_then(|direct| IoUring::new(1).map(|_| direct));
    match made {
        Ok(direct) => Some((Ring::new(direct).unwrap(), file)),
        Err(e) => {
            needs::refused(&format!("io_uring with O_DIRECT: {e}"));
            None
        }
    }
}

/// Pages that are filled with 1, 2, 3...
fn pages(count: u8) -> DiskBuf {
    let mut buffer = BufferPool::default().take().unwrap();
    (1..=count).for_each(|fill| buffer.extend(&[fill; PAGE_SIZE]));
    buffer
}

/// As if `data` were under way; gives its token.
fn under_way(ring: &mut Ring, offset: u64, data: DiskBuf) -> u64 {
    let index = ring.free.pop().unwrap();
    ring.slots[index] = Some((data, offset));
    index as u64
}

#[test]
fn what_a_short_write_has_left_is_written() {
    let Some((mut ring, file)) = ring(true) else { return };
    // Nothing, part of a page, whole pages, all but a sector.
    for (at, written) in (0..).zip([0, 512, PAGE_SIZE, 2 * PAGE_SIZE + 100, 3 * PAGE_SIZE - 512]) {
        let offset = at * 3 * PAGE_SIZE as u64;
        let mut first = pages(3);
        let whole = first.to_vec();
        let kept = written - written % PAGE_SIZE;
        // What the kernel says that it has written, it has written.
        file.as_file().write_all_at(&whole[..written], offset).unwrap();
        // Only what is written now can be there afterwards.
        first[..kept].fill(0xee);
        let token = under_way(&mut ring, offset, first);
        ring.complete(token, i32::try_from(written).unwrap()).unwrap();
        let mut found = vec![0; 3 * PAGE_SIZE];
        file.as_file().read_exact_at(&mut found, offset).unwrap();
        assert!(found == whole, "{written} bytes of three pages were written");
    }
    assert_eq!(ring.free.len(), QUEUE_DEPTH, "each slot is given back");
    ring.drain().unwrap();
}

#[test]
fn the_rest_of_a_short_write_that_fails_is_told() {
    let Some((mut ring, _file)) = ring(false) else { return };
    let token = under_way(&mut ring, 0, pages(2));
    let e = ring.complete(token, i32::try_from(PAGE_SIZE).unwrap()).unwrap_err();
    assert_eq!(e.raw_os_error(), Some(libc::EBADF), "{e}");
    assert_eq!(ring.free.len(), QUEUE_DEPTH);
}

/// The kernel itself refuses these writes: their file is open for reading only.
#[test]
fn a_write_that_the_kernel_refuses_is_told_once() {
    let Some((mut ring, _file)) = ring(false) else { return };
    for _ in 0..2 {
        ring.write(0, pages(1)).unwrap();
        let e = ring.drain().unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EBADF), "{e}");
        ring.drain().unwrap();
        assert_eq!(ring.free.len(), QUEUE_DEPTH);
    }
}

#[test]
fn more_writes_than_the_queue_holds_all_arrive() {
    let Some((mut ring, file)) = ring(true) else { return };
    let count = 3 * QUEUE_DEPTH as u64;
    for at in 0..count {
        ring.write(at * 2 * PAGE_SIZE as u64, pages(2)).unwrap();
    }
    ring.drain().unwrap();
    let found = std::fs::read(file.path()).unwrap();
    assert!(found == pages(2).repeat(usize::try_from(count).unwrap()));
}
