//! The frames of one segment: a sparse memory file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek64};
use semper_store::{PAGE_SIZE, PageRange};

use crate::window::Window;

const PAGE: u64 = PAGE_SIZE as u64;

/// A memory file of whole pages; a page never written is a hole, reads as zeros and costs nothing.
pub(crate) struct Memfd {
    file: File,
    pages: u64,
    /// Made at first need; none if it cannot be had.
    window: OnceLock<Option<Window>>,
}

fn offset(page: u64) -> i64 {
    // Segments are limited to 2^40 pages, so offsets to 2^52.
    (page * PAGE).cast_signed()
}

impl Memfd {
    pub(crate) fn new(name: &str, pages: u64) -> io::Result<Self> {
        // Data, never a program file to be exec'ed; older kernels do not know the flag.
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL)) {
            Err(Errno::EINVAL) => memfd_create(name, flags)?,
            other => other?,
        };
        let file = File::from(fd);
        file.set_len(pages * PAGE)?;
        // Whoever gets the descriptor cannot make the runtime's own mappings of it end in nothing.
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self { file, pages, window: OnceLock::new() })
    }

    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn window(&self) -> Option<&Window> {
        self.window.get_or_init(|| Window::new(&self.file, self.pages)).as_ref()
    }

    /// As `read`, but faster. All pages must be in memory, and stay while this runs (else they get frames).
    pub(crate) fn read_resident(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.window() {
            Some(window) => {
                window.read(offset, out);
                Ok(())
            }
            None => self.read(offset, out),
        }
    }

    /// As `write`, but faster, with the same condition as `read_resident`.
    pub(crate) fn write_resident(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.window() {
            Some(window) => {
                window.write(offset, data);
                Ok(())
            }
            None => self.write(offset, data),
        }
    }

    /// Frees the frames of a run and removes it from every page table.
    pub(crate) fn punch(&self, range: PageRange) -> io::Result<()> {
        if range.count == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let len = (range.count * PAGE).cast_signed();
        loop {
            match fallocate(&self.file, flags, offset(range.first.0), len) {
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Frames in use, exactly.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() / (PAGE / 512))
    }

    /// The first run of resident pages that starts in `range`.
    pub(crate) fn next_data(&self, range: PageRange) -> io::Result<Option<PageRange>> {
        if range.count == 0 {
            return Ok(None);
        }
        let fd = &self.file;
        let start = match lseek64(fd, offset(range.first.0), Whence::SeekData) {
            Ok(at) => at.unsigned_abs() / PAGE,
            Err(Errno::ENXIO) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if start >= range.end() {
            return Ok(None);
        }
        let end = lseek64(fd, offset(start), Whence::SeekHole)?.unsigned_abs() / PAGE;
        Ok(Some(PageRange::between(start, end.min(range.end()))))
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
