//! The only road to the disk.

use memmap2::MmapMut;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// What the store asks of a disk. [`crate::FileDisk`] is a file or a block device; the simulated disk tears, reorders,
/// loses and rots.
///
/// A write is *queued* by [`Disk::write_at`] and may reach the medium at any time, in any order, in parts, until
/// [`Disk::flush`] has returned `Ok`. A read that follows a finished write sees it.
#[expect(clippy::len_without_is_empty, reason = "no disk is empty")]
pub trait Disk: Send + Sync {
    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// What the host says; the end of the file is an error too.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// `len` bytes from `offset` on will be read soon: the host may begin to fetch them. Nothing depends on it.
    fn will_read(&self, _offset: u64, _len: u64) {}

    /// Queues a write of all of `data` at `offset`; both are multiples of a page. Blocks while too many are queued. The
    /// disk gives the buffer back to its pool when the write has finished.
    ///
    /// # Errors
    /// A failure of this write or of one queued before it.
    fn write_at(&self, offset: u64, data: DiskBuf) -> io::Result<()>;

    /// Waits until no write is queued.
    ///
    /// # Errors
    /// The first failure of a queued write since the last call.
    fn drain(&self) -> io::Result<()>;

    /// Waits as [`Disk::drain`] does and then until everything written is on the medium.
    ///
    /// # Errors
    /// A failed write, or a failed flush: nothing written since the last good flush may be relied on.
    fn flush(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the host says.
    fn len(&self) -> io::Result<u64>;

    /// Makes the disk longer, durably.
    ///
    /// # Errors
    /// What the host says; a block device cannot grow this way.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the disk shorter, durably. What cannot be made shorter, a block device, stays as it is.
    ///
    /// # Errors
    /// What the host says.
    fn cut(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Bytes that could be written in all: what the host has given already, and what it could still give, by a look that is not older than a
    /// fraction of a second.
    ///
    /// # Errors
    /// What the host says.
    fn capacity(&self) -> io::Result<u64> {
        self.len()
    }

    /// Asks the host to find the space for `offset..offset + len` now, so that writing it cannot fail for want of space.
    ///
    /// # Errors
    /// The host has no space. A host that cannot promise anything answers `Ok`.
    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// The numbers of the copies that it keeps of everything; a plain disk has one.
    fn copies(&self) -> Vec<u32> {
        vec![0]
    }

    /// As [`Disk::read_at`], of one copy.
    ///
    /// # Errors
    /// As [`Disk::read_at`].
    fn read_copy(&self, _copy: u32, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, out)
    }

    /// Writes over one copy, durably: what is known to belong there, and nobody else writes. Nothing is written to a disk that is open to look at.
    ///
    /// # Errors
    /// No copy can be written.
    fn write_copy(&self, _copy: u32, _offset: u64, _data: DiskBuf) -> io::Result<()> {
        Ok(())
    }

    /// Fills `out` from a copy of which `holds` is true, and writes that over the copies of which it is not. Says how many those
    /// were; none: no copy holds, and nothing was done.
    fn mend(&self, _offset: u64, _out: &mut [u8], _holds: &dyn Fn(&[u8]) -> bool) -> Option<u32> {
        None
    }
}

/// Bytes in a write buffer: large enough that a disk streams.
pub const BUFFER_LEN: usize = 1 << 20;

/// Writes that may be queued at once. With the one being filled, staging is bounded by `QUEUE_DEPTH + 1` buffers.
pub const QUEUE_DEPTH: usize = 15;

/// Buffers kept for the next commit; while a large one runs, few are ever spare.
const SPARE_BUFFERS: usize = 4;

/// Keeps written buffers for the next write.
#[derive(Debug, Default, Clone)]
pub struct BufferPool(Arc<Mutex<Vec<MmapMut>>>);

impl BufferPool {
    /// A buffer of [`BUFFER_LEN`] bytes, page-aligned, with a length of 0.
    ///
    /// # Errors
    /// The host has no memory.
    pub fn take(&self) -> io::Result<DiskBuf> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let map = match spare {
            Some(map) => map,
            None => MmapMut::map_anon(BUFFER_LEN)?,
        };
        Ok(DiskBuf { map: Some(map), len: 0, pool: self.clone() })
    }
}

/// A page-aligned buffer on its way to the disk; goes back to its pool when dropped.
#[derive(Debug)]
pub struct DiskBuf {
    map: Option<MmapMut>,
    len: usize,
    pool: BufferPool,
}

impl DiskBuf {
    /// Bytes that can still be added.
    #[must_use]
    pub fn room(&self) -> usize {
        BUFFER_LEN - self.len
    }

    /// Adds `bytes`.
    ///
    /// # Panics
    /// There is no room for them.
    pub fn extend(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(), "a write buffer holds {BUFFER_LEN} bytes");
        let at = self.len;
        self.len += bytes.len();
        self[at..].copy_from_slice(bytes);
    }
}

impl Deref for DiskBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.len])
    }
}

impl DerefMut for DiskBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        self.map.as_mut().map_or(&mut [], |map| &mut map[..len])
    }
}

impl Drop for DiskBuf {
    fn drop(&mut self) {
        if let Some(map) = self.map.take() {
            let mut spare = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
            // The rest goes back to the host, so that an idle store is small.
            if spare.len() < SPARE_BUFFERS {
                spare.push(map);
            }
        }
    }
}
