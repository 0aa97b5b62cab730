//! A segment's pages mapped into the runtime: the object table and the control pages.
//!
//! This is one of the few modules with `unsafe`. A view owns its mapping; bounds are checked on every access. What is behind
//! it is shared with other processes, so it is never given out as a plain reference: bytes are copied, or accessed as atomics.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use semper_store::{PAGE_SIZE, PageRange};

use crate::error::Error;
use crate::segment::Segment;

/// Pages of a segment, mapped shared into the runtime. They stay in memory while the view lives.
///
/// Writes through [`as_ptr`](Self::as_ptr) and the atomics are not seen by the dirty tracking: follow them with
/// [`mark_dirty`](Self::mark_dirty).
#[derive(Debug)]
pub struct View {
    segment: Arc<Segment>,
    range: PageRange,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the view alone and lives until its drop, whatever thread that is on; accesses through it
// are atomic or made by the caller's own `unsafe` code.
unsafe impl Send for View {}
// SAFETY: as above; no method gives out a reference to plain memory.
unsafe impl Sync for View {}

impl Segment {
    /// Maps a run of pages into the runtime, brings them into memory, and keeps them there.
    ///
    /// # Errors
    /// Out of bounds or empty; a page that the store cannot give; no memory.
    pub fn view(self: &Arc<Self>, range: PageRange) -> Result<View, Error> {
        self.check(range)?;
        let len = usize::try_from(range.count).ok().and_then(|count| count.checked_mul(PAGE_SIZE));
        let Some(size) = len.and_then(NonZeroUsize::new) else {
            return Err(Error::OutOfBounds { segment: self.id, pages: self.pages, range });
        };
        {
            // Pinned first: nothing brought in below can be evicted again.
            let mut state = self.lock();
            state.views.push(range);
            Self::repin(&mut state, range);
        }
        let mapped = self.make_resident(range).and_then(|()| {
            let offset = (range.first.0 * PAGE_SIZE as u64).cast_signed();
            let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: a new shared mapping at an address of the kernel's choice disturbs nothing that exists.
            unsafe { mmap(None, size, prot, MapFlags::MAP_SHARED, &self.memfd, offset) }
                .map_err(Error::errno("mapping a segment"))
        });
        match mapped {
            Ok(base) => Ok(View { segment: Arc::clone(self), range, base: base.cast(), len: size.get() }),
            Err(error) => {
                self.unpin(range);
                Err(error)
            }
        }
    }

    fn unpin(&self, range: PageRange) {
        let mut state = self.lock();
        if let Some(at) = state.views.iter().position(|view| *view == range) {
            state.views.swap_remove(at);
        }
        Self::repin(&mut state, range);
        self.shared.note_resident(self, &mut state, range);
    }
}

impl View {
    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The pages of the segment that are mapped.
    #[must_use]
    pub fn range(&self) -> PageRange {
        self.range
    }

    /// Bytes mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a view has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The first byte, page aligned; valid for [`len`](Self::len) bytes while the view lives. Others write there too.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    fn at(&self, offset: usize, len: usize, align: usize) -> NonNull<u8> {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(
            fits && offset.is_multiple_of(align),
            "access to {len} bytes at {offset} of a view of {} bytes",
            self.len
        );
        // SAFETY: within the mapping, as just asserted.
        unsafe { self.base.add(offset) }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// If they are not within the view.
    pub fn read_bytes(&self, offset: usize, out: &mut [u8]) {
        for (at, unit) in units(self.at(offset, out.len(), 1), out.len()) {
            match unit {
                Unit::Byte(byte) => out[at] = byte.load(Ordering::Relaxed),
                Unit::Word(word) => out[at..at + 8].copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()),
            }
        }
    }

    /// Copies bytes in and marks their pages dirty.
    ///
    /// # Panics
    /// If they are not within the view.
    pub fn write_bytes(&self, offset: usize, data: &[u8]) {
        for (at, unit) in units(self.at(offset, data.len(), 1), data.len()) {
            match unit {
                Unit::Byte(byte) => byte.store(data[at], Ordering::Relaxed),
                Unit::Word(word) => {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&data[at..at + 8]);
                    word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
                }
            }
        }
        if !data.is_empty() {
            let first = self.range.first.0 + (offset / PAGE_SIZE) as u64;
            let end = self.range.first.0 + (offset + data.len()).div_ceil(PAGE_SIZE) as u64;
            self.mark_dirty(PageRange::between(first, end));
        }
    }

    /// Tells that pages (of the segment, not of the view) were written. Call it after the write.
    ///
    /// # Panics
    /// If they are not within the view.
    pub fn mark_dirty(&self, pages: PageRange) {
        assert!(pages.first >= self.range.first && pages.end() <= self.range.end(), "pages of another place");
        self.segment.lock().frames.mark_dirty(pages);
    }

    /// A word, for waiting on and for talking to other processes.
    ///
    /// # Panics
    /// If it is not within the view, or not aligned.
    #[must_use]
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4, 4);
        // SAFETY: aligned, within the mapping, which lives as long as the borrow of the view; all accesses of this process
        // to it through safe code are atomic.
        unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) }
    }

    /// A double word.
    ///
    /// # Panics
    /// If it is not within the view, or not aligned.
    #[must_use]
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        let at = self.at(offset, 8, 8);
        // SAFETY: as for `atomic_u32`.
        unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) }
    }
}

/// A piece of shared memory.
enum Unit<'a> {
    Byte(&'a AtomicU8),
    Word(&'a AtomicU64),
}

/// `len` bytes of shared memory at `base`, by words where aligned, else by bytes, with the offset of each. `base` comes from
/// [`View::at`] for as many bytes, and the view outlives the walk.
fn units<'a>(base: NonNull<u8>, len: usize) -> impl Iterator<Item = (usize, Unit<'a>)> {
    let head = base.as_ptr().align_offset(8).min(len);
    let words = (len - head) / 8;
    let bytes = (0..head).chain(head + words * 8..len).map(move |at| {
        // SAFETY: within the `len` bytes for which `base` is valid; all accesses here are atomic.
        (at, Unit::Byte(unsafe { AtomicU8::from_ptr(base.add(at).as_ptr()) }))
    });
    bytes.chain((0..words).map(move |n| {
        let at = head + n * 8;
        // SAFETY: as above, and aligned to 8 by the choice of `head`.
        (at, Unit::Word(unsafe { AtomicU64::from_ptr(base.add(at).as_ptr().cast()) }))
    }))
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that this view made, and nobody has borrowed it any more.
        if let Err(errno) = unsafe { munmap(self.base.cast::<c_void>(), self.len) } {
            tracing::error!(%errno, "unmapping a view");
        }
        self.segment.unpin(self.range);
    }
}
