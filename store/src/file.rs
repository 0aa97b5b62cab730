//! A disk that is a file or a block device.

use crate::disk::{Disk, DiskBuf};
use crate::uring::Ring;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoChoice {
    /// For a block device io_uring with `O_DIRECT` where both can be had; for a file, where it was measured to be faster and
    /// leaves the pages where an eviction or a resume finds them, plain writes with early write-back.
    #[default]
    Auto,
    /// io_uring with `O_DIRECT`, or an error.
    Uring,
    /// `pwrite` through the page cache.
    Plain,
}

/// How the store writes in fact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoKind {
    /// io_uring with `O_DIRECT`.
    Uring,
    /// `pwrite` through the page cache.
    Plain,
    /// A disk that the caller brought.
    Custom,
}

impl std::fmt::Display for IoKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring, direct",
            Self::Plain => "plain writes",
            Self::Custom => "custom disk",
        })
    }
}

/// A file or block device. Reads go through the host's page cache, so that a page that was read lately costs no disk
/// access; the kernel drops the cached copy of what is written around it.
pub struct FileDisk {
    file: File,
    ring: Option<Mutex<Ring>>,
    device: bool,
    /// What was last found of its capacity, and when.
    capacity: Mutex<Option<(Instant, u64)>>,
    /// Something could not be made durable, and the host tells that once.
    lost: AtomicBool,
}

/// How long a look at the capacity counts. It asks for the file's times, and then each write that follows changes them anew: the flush after
/// it writes the inode too, which takes as long as a small flush itself (ext4 without a journal, 45 of 150 us). Once a commit is too often.
const CAPACITY_AGE: Duration = Duration::from_millis(200);

impl FileDisk {
    /// Opens `path` for reading and writing.
    ///
    /// # Errors
    /// What the host says; with [`IoChoice::Uring`] also that io_uring or `O_DIRECT` cannot be had.
    pub fn open(path: &Path, io: IoChoice) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let device = file.metadata()?.file_type().is_block_device();
        let ring = match io {
            IoChoice::Plain => None,
            IoChoice::Uring => Some(open_ring(path)?),
            IoChoice::Auto if !device => None,
            IoChoice::Auto => open_ring(path)
                .inspect_err(|e| tracing::debug!("plain writes, since io_uring with O_DIRECT cannot be had: {e}"))
                .ok(),
        };
        Ok(Self { file, ring: ring.map(Mutex::new), device, capacity: Mutex::default(), lost: AtomicBool::new(false) })
    }

    /// Opens `path` for reading.
    ///
    /// # Errors
    /// What the host says.
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let device = file.metadata()?.file_type().is_block_device();
        Ok(Self { file, ring: None, device, capacity: Mutex::default(), lost: AtomicBool::new(false) })
    }

    /// The outcome of making something durable. The host tells of what it could not write once, to whoever asks first, and keeps those pages, as clean:
    /// the flushes that follow are to fail too, and whoever opens the file again is to read what is on the medium.
    fn synced(&self, outcome: io::Result<()>) -> io::Result<()> {
        outcome.inspect_err(|_| {
            self.lost.store(true, Ordering::Relaxed);
            let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        })
    }

    fn forget_capacity(&self) {
        *self.capacity.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How writes go.
    #[must_use]
    pub fn kind(&self) -> IoKind {
        if self.ring.is_some() { IoKind::Uring } else { IoKind::Plain }
    }
}

fn open_ring(path: &Path) -> io::Result<Ring> {
    Ring::new(OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?)
}

impl Disk for FileDisk {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn will_read(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
        // Advice: what reads it later hears of what is wrong.
        let _ = posix_fadvise(&self.file, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }

    fn write_at(&self, offset: u64, data: DiskBuf) -> io::Result<()> {
        if let Some(ring) = &self.ring {
            return ring.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
        }
        self.file.write_all_at(&data, offset)?;
        // Below this the flush that follows at once does as well.
        if data.len() >= 256 * 1024 {
            start_writeback(&self.file, offset, data.len() as u64);
        }
        Ok(())
    }

    fn drain(&self) -> io::Result<()> {
        match &self.ring {
            Some(ring) => ring.lock().unwrap_or_else(PoisonError::into_inner).drain(),
            None => Ok(()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.drain()?;
        if self.lost.load(Ordering::Relaxed) {
            return Err(io::Error::other("what was written before could not be made durable"));
        }
        self.synced(self.file.sync_data())
    }

    fn len(&self) -> io::Result<u64> {
        // A block device has no length in its metadata, but it has an end.
        if self.device { (&self.file).seek(SeekFrom::End(0)) } else { Ok(self.file.metadata()?.len()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.device {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a block device is grown by its own tools"));
        }
        self.file.set_len(len)?;
        self.forget_capacity();
        self.synced(self.file.sync_all())
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        if self.device {
            return Ok(());
        }
        self.file.set_len(len)?;
        self.forget_capacity();
        self.synced(self.file.sync_all())
    }

    fn capacity(&self) -> io::Result<u64> {
        if self.device {
            return self.len();
        }
        let mut known = self.capacity.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = known.filter(|(found, _)| found.elapsed() < CAPACITY_AGE) {
            return Ok(bytes);
        }
        let file = self.file.metadata()?;
        let below = nix::sys::statvfs::fstatvfs(&self.file)?;
        let free = below.blocks_available().saturating_mul(below.fragment_size());
        let bytes = file.blocks().saturating_mul(512).saturating_add(free).min(file.len());
        *known = Some((Instant::now(), bytes));
        Ok(bytes)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.device {
            return Ok(());
        }
        let range = |n: u64| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, range(offset)?, range(len)?) {
            // This file system cannot promise: its writes will tell.
            Err(nix::Error::EOPNOTSUPP | nix::Error::ENOSYS | nix::Error::EPERM) => Ok(()),
            other => other.map_err(io::Error::from),
        }
    }
}

/// Lets the host begin to write `len` bytes of `file` from `offset` on, so that the flush finds little left to do. Only a hint.
pub fn start_writeback(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: the call takes no pointers; the descriptor is open.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}
