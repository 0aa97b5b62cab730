//! The global allocator of a domain program: one heap, between its image and its stack.

use core::alloc::{GlobalAlloc, Layout};
use talc::TalcCell;
use talc::source::Manual;

/// The heap of the program. [`entry!`](crate::entry!) makes it the global allocator.
pub struct Heap(TalcCell<Manual>);

// SAFETY: only `entry!` makes one, in a program that is a domain: one thread, without signal handlers.
unsafe impl Sync for Heap {}

impl Heap {
    /// An empty heap: everything is refused.
    ///
    /// # Safety
    /// It is used by one thread only.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(TalcCell::new(Manual))
    }

    /// Gives it the bytes from `start` to `end`; too few of them are not used.
    ///
    /// # Safety
    /// Nothing else uses those bytes, ever.
    pub(crate) unsafe fn claim(&self, start: u64, end: u64) {
        let bytes = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        // SAFETY: the caller's promise. Too small a range is left alone.
        let _ = unsafe { self.0.claim(start as *mut u8, bytes) };
    }
}

impl core::fmt::Debug for Heap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Heap")
    }
}

// SAFETY: all is passed on to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}
