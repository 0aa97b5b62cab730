//! Sleeping on several words at once: `futex_waitv(2)` (Linux 5.16).

use nix::libc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

/// Words that one call can wait on.
pub const MOST: usize = 128;

/// `FUTEX2_SIZE_U32`; shared between processes.
const SIZE_U32: u32 = 2;
const PRIVATE: u32 = 128;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// A word and what it was when it was looked at.
#[derive(Clone, Copy)]
pub struct Watched<'a> {
    /// The word.
    pub word: &'a AtomicU32,
    /// What it was.
    pub seen: u32,
    /// Whether other processes wake on it.
    pub shared: bool,
}

/// Sleeps until one of the words was woken or is not as it was, or `timeout` has passed. At most [`MOST`] words count.
pub fn wait(words: &[Watched<'_>], timeout: Option<Duration>) {
    let mut waiters = [Waiter::default(); MOST];
    let count = words.len().min(MOST);
    for (waiter, watched) in waiters.iter_mut().zip(words) {
        *waiter = Waiter {
            value: watched.seen.into(),
            address: watched.word.as_ptr() as u64,
            flags: if watched.shared { SIZE_U32 } else { SIZE_U32 | PRIVATE },
            reserved: 0,
        };
    }
    let deadline = timeout.map(|timeout| {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        let nanos = now.tv_nsec + i64::from(timeout.subsec_nanos());
        libc::timespec {
            tv_sec: now.tv_sec.saturating_add(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX))
                + nanos / 1_000_000_000,
            tv_nsec: nanos % 1_000_000_000,
        }
    });
    let time = deadline.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the words outlive the call, which reads `count` waiters and one timespec.
    unsafe { libc::syscall(libc::SYS_futex_waitv, waiters.as_ptr(), count, 0, time, libc::CLOCK_MONOTONIC) };
}

/// Wakes who sleeps on a word of this process.
pub fn wake(word: &AtomicU32) {
    let how = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: FUTEX_WAKE only uses the address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), how, i32::MAX) };
}

/// The value of a word, for [`Watched::seen`].
pub fn look(word: &AtomicU32) -> u32 {
    word.load(SeqCst)
}
