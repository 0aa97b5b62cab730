//! Calls on connections that the stub answers: bytes that came ahead are received, and what is sent is put by for the kernel, as long as the
//! program has other parcels to open and so will soon be back.

use crate::abi::*;
use core::arch::global_asm;
use core::sync::atomic::{Ordering::Release, compiler_fence};

/// What a receiver is told when there is nothing.
const EAGAIN: u64 = (-11_i64) as u64;

unsafe extern "C" {
    /// Copies; not 0 if an address could not be used.
    fn mail_copy(to: u64, from: u64, count: u64) -> u64;
    /// The one instruction of it that touches memory.
    fn mail_copy_at();
    /// Where it goes on after a fault.
    fn mail_copy_failed();
}

global_asm!(
    ".globl mail_copy, mail_copy_at, mail_copy_failed",
    "mail_copy:",
    "mov rcx, rdx",
    "mail_copy_at:",
    "rep movsb",
    "xor eax, eax",
    "ret",
    "mail_copy_failed:",
    "mov eax, 1",
    "ret",
);

/// Where a fault at this instruction goes on, if it is the copy's.
pub fn after_fault(rip: u64) -> Option<u64> {
    (rip == mail_copy_at as *const () as u64).then_some(mail_copy_failed as *const () as u64)
}

#[inline(always)]
fn inbox() -> *mut Inbox {
    (CONTROL + INBOX) as *mut Inbox
}

unsafe fn parcels() -> &'static mut [Parcel] {
    // SAFETY: the page is mapped for the life of the process; there is one thread.
    unsafe {
        let count = ((*inbox()).count as usize).min(MAX_PARCELS);
        core::slice::from_raw_parts_mut((&raw mut (*inbox()).parcels).cast(), count)
    }
}

fn in_window(at: u64, count: u64) -> bool {
    at < WINDOW_END && count <= WINDOW_END - at
}

/// Receives; none: the kernel must.
///
/// # Safety
/// The control pages of a Linux program are mapped.
pub unsafe fn receive(fd: u64, to: u64, wanted: u64) -> Option<u64> {
    // SAFETY: as above; addresses of the program's are used by the copy only, whose faults are caught.
    unsafe {
        let parcel = parcels().iter_mut().find(|parcel| parcel.fd as u64 == fd)?;
        let left = parcel.end.saturating_sub(parcel.start) as u64;
        if left == 0 {
            // Once: who goes on asking without waiting asks the kernel.
            return (core::mem::take(&mut parcel.dry) != 0 && wanted != 0).then_some(EAGAIN);
        }
        let count = left.min(wanted);
        let start = parcel.start as u64;
        // Who gets less than was asked for may take it that there is no more.
        if wanted > left && parcel.whole == 0 {
            return None;
        }
        if count == 0 || !in_window(to, wanted) || start + left > INBOX_BYTES {
            return None;
        }
        if mail_copy(to, CONTROL + INBOX_BYTES_AT + start, count) != 0 {
            return None;
        }
        parcel.start += count as u32;
        Some(count)
    }
}

/// Puts by what is to be sent; none: the kernel must send it now.
///
/// # Safety
/// As [`receive`].
pub unsafe fn send(fd: u64, from: u64, count: u64) -> Option<u64> {
    // SAFETY: as `receive`.
    unsafe {
        let parcels = parcels();
        if !parcels.iter().any(|parcel| parcel.end > parcel.start) {
            return None;
        }
        let parcel = parcels.iter_mut().find(|parcel| parcel.fd as u64 == fd)?;
        let outbox = &mut *((CONTROL + OUTBOX) as *mut Outbox);
        let (at, used) = (outbox.count as usize, outbox.used as u64);
        let fits = count != 0 && count <= parcel.room as u64 && used <= OUTBOX_BYTES && count <= OUTBOX_BYTES - used;
        if !fits || at >= MAX_LETTERS || !in_window(from, count) {
            return None;
        }
        if mail_copy(CONTROL + OUTBOX_BYTES_AT + used, from, count) != 0 {
            return None;
        }
        parcel.room -= count as u32;
        outbox.letters[at] = Letter { connection: parcel.connection, start: used as u32, end: (used + count) as u32 };
        outbox.used = (used + count) as u32;
        // The server may look meanwhile: what it counts is there.
        compiler_fence(Release);
        outbox.count = at as u32 + 1;
        Some(count)
    }
}
