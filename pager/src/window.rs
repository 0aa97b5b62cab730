//! A whole segment mapped into the runtime, for copying pages that are in memory.
//!
//! Reading and writing a memory file by system call costs 2.9 us per page here, copying through a mapping 0.5 us (1.3 us when
//! the page is cold): `docs/decisions/pager-copies-through-a-mapping.md`. This is one of the few modules with `unsafe`.
//!
//! Touching a hole through the mapping would give it a frame unasked. So this is used only for pages known to be in memory,
//! under the lock of their segment, which keeps them there.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

use crate::size;

/// The largest segment that is mapped: a domain's address space. The processor has room for over a hundred.
const MOST_PAGES: u64 = 1 << 28;

/// The mapping; safe to use at any offset within the segment.
pub(crate) struct Window {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this alone and lives until its drop; it holds plain bytes.
unsafe impl Send for Window {}
// SAFETY: as above; bytes go in and out by copying, and whoever changes them meanwhile can only change what they are.
unsafe impl Sync for Window {}

impl Window {
    /// None if the segment is too large, or the system has no room for it: then system calls have to do. The file must be
    /// sealed against shrinking.
    pub(crate) fn new(file: &impl AsFd, pages: u64) -> Option<Self> {
        if pages > MOST_PAGES {
            return None;
        }
        let len = NonZeroUsize::new(size::bytes(pages))?;
        let (prot, flags) =
            (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE);
        // SAFETY: a new shared mapping at an address of the kernel's choice disturbs nothing that exists.
        let base = unsafe { mmap(None, len, prot, flags, file, 0) }.ok()?;
        // SAFETY: our own mapping; the advice only keeps it from children of a fork.
        if let Err(errno) = unsafe { madvise(base, len.get(), MmapAdvise::MADV_DONTFORK) } {
            tracing::debug!(%errno, "a window would be inherited by a fork");
        }
        Some(Self { base: base.cast(), len: len.get() })
    }

    fn at(&self, offset: u64, len: usize) -> *mut u8 {
        let offset = size::index(offset);
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "{len} bytes at {offset} of {}", self.len);
        // SAFETY: within the mapping, as just asserted.
        unsafe { self.base.as_ptr().add(offset) }
    }

    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) {
        let from = self.at(offset, out.len());
        // SAFETY: `from` is valid for as many bytes (the file cannot shrink), and `out` is ours alone. A process may write
        // there meanwhile: then the copy is torn, as it would be by a system call, and any bytes are valid bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) }
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        let to = self.at(offset, data.len());
        // SAFETY: as for `read`; nothing in this process holds a reference into the mapping.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, which nobody uses any more.
        if let Err(errno) = unsafe { munmap(self.base.cast::<c_void>(), self.len) } {
            tracing::error!(%errno, "unmapping a window");
        }
    }
}
