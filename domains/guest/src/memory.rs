//! `memcpy` and its kin: what compiled code expects of a C library, and a domain program has none.
//!
//! They are written so that no compiler can see a copy loop in them and call itself: small sizes by overlapping words, others by the
//! processor's string instructions.

use core::arch::asm;

/// Copies `n` bytes from the first to the last.
///
/// # Safety
/// As `memcpy`.
#[inline]
pub unsafe fn copy_forward(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: the caller's promise; all words are loaded before the first is stored.
    unsafe {
        match n {
            17..=32 => {
                let (first, last) = (load::<u128>(from), load::<u128>(from.add(n - 16)));
                store(to, first);
                store(to.add(n - 16), last);
            }
            8..=16 => {
                let (first, last) = (load::<u64>(from), load::<u64>(from.add(n - 8)));
                store(to, first);
                store(to.add(n - 8), last);
            }
            4..=7 => {
                let (first, last) = (load::<u32>(from), load::<u32>(from.add(n - 4)));
                store(to, first);
                store(to.add(n - 4), last);
            }
            1..=3 => {
                let (first, middle, last) = (*from, *from.add(n / 2), *from.add(n - 1));
                *to = first;
                *to.add(n / 2) = middle;
                *to.add(n - 1) = last;
            }
            0 => {}
            _ => asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _,
                      options(nostack, preserves_flags)),
        }
    }
}

/// Copies `n` bytes between places that may overlap.
///
/// # Safety
/// As `memmove`.
#[inline]
pub unsafe fn copy_any(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: the caller's promise. Up to 32 bytes are loaded before any is stored; otherwise the direction is that in which
    // no byte is overwritten before it was read.
    unsafe {
        if n <= 32 || (to as usize).wrapping_sub(from as usize) >= n {
            copy_forward(to, from, n);
        } else {
            asm!("std", "rep movsb", "cld", inout("rcx") n => _, inout("rdi") to.add(n - 1) => _,
                 inout("rsi") from.add(n - 1) => _, options(nostack));
        }
    }
}

/// Sets `n` bytes.
///
/// # Safety
/// As `memset`.
#[inline]
pub unsafe fn fill(to: *mut u8, byte: u8, n: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") byte, options(nostack, preserves_flags));
    }
}

/// The difference of the first bytes that differ; 0: all `n` are the same.
///
/// # Safety
/// As `memcmp`.
#[inline]
#[must_use]
pub unsafe fn compare(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut at = 0;
    // SAFETY: the caller's promise; `at` stays below `n`.
    unsafe {
        while at + 8 <= n && load::<u64>(a.add(at)) == load::<u64>(b.add(at)) {
            at += 8;
        }
        while at < n {
            // Volatile, so that this is not seen to be a comparison of memory.
            let (left, right) = (a.add(at).read_volatile(), b.add(at).read_volatile());
            if left != right {
                return i32::from(left) - i32::from(right);
            }
            at += 1;
        }
    }
    0
}

#[inline]
unsafe fn load<T>(from: *const u8) -> T {
    // SAFETY: the caller reads within its bounds.
    unsafe { from.cast::<T>().read_unaligned() }
}

#[inline]
unsafe fn store<T>(to: *mut u8, value: T) {
    // SAFETY: the caller writes within its bounds.
    unsafe { to.cast::<T>().write_unaligned(value) }
}

/// Defines what the linker needs in the program: used by [`entry!`](crate::entry!), so that a program with a C library keeps that one's.
#[doc(hidden)]
#[macro_export]
macro_rules! __runtime_functions {
    () => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
            // SAFETY: the contract of the C function.
            unsafe { $crate::memory::copy_forward(to, from, n) };
            to
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
            // SAFETY: the contract of the C function.
            unsafe { $crate::memory::copy_any(to, from, n) };
            to
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
            // SAFETY: the contract of the C function, which takes the low byte.
            unsafe { $crate::memory::fill(to, byte.to_le_bytes()[0], n) };
            to
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
            // SAFETY: the contract of the C function.
            unsafe { $crate::memory::compare(a, b, n) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
            // SAFETY: the contract of the C function.
            unsafe { $crate::memory::compare(a, b, n) }
        }

        /// Named by the unwinding tables of the precompiled `alloc`; nothing unwinds.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        /// As above.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            ::core::panic!("nothing unwinds")
        }
    };
}
