//! Queued writes through io_uring, with `O_DIRECT`. The only `unsafe` of this crate, with [`crate::file`]'s hint.

use crate::disk::{DiskBuf, QUEUE_DEPTH};
use io_uring::{IoUring, opcode, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// A ring and the writes that are under way in it.
pub(crate) struct Ring {
    ring: IoUring,
    file: File,
    /// The buffer and offset of each write under way; its index is the write's token.
    slots: Vec<Option<(DiskBuf, u64)>>,
    free: Vec<usize>,
    /// The first failure that nobody has been told of.
    failure: Option<io::Error>,
}

impl Ring {
    /// A ring that writes to `file`, which must have been opened with `O_DIRECT`.
    pub fn new(file: File) -> io::Result<Self> {
        let depth = u32::try_from(QUEUE_DEPTH + 1).expect("a small constant");
        let ring = IoUring::new(depth)?;
        let slots = (0..QUEUE_DEPTH).map(|_| None).collect();
        Ok(Self { ring, file, slots, free: (0..QUEUE_DEPTH).collect(), failure: None })
    }

    /// Queues a write; waits for one under way if there are too many.
    pub fn write(&mut self, offset: u64, data: DiskBuf) -> io::Result<()> {
        self.reap(0)?;
        while self.free.is_empty() {
            self.reap(1)?;
        }
        if let Some(e) = self.failure.take() {
            return Err(e);
        }
        let index = self.free.pop().expect("the loop above left one");
        let (start, len) = (data.as_ptr(), u32::try_from(data.len()).expect("a buffer is 1 MiB"));
        self.slots[index] = Some((data, offset));
        let entry = opcode::Write::new(types::Fd(self.file.as_raw_fd()), start, len)
            .offset(offset)
            .build()
            .user_data(index as u64);
        // SAFETY: the kernel reads `len` bytes at `start` until the completion is reaped. They belong to the buffer that
        // has just been put into `slots`, whose pages do not move with it, and which is taken out only in `complete`,
        // after the completion; `Drop` waits for all of them. The file stays open as long as `self`.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "the submission queue is as long as `slots`, and is emptied by each submit");
        retry(|| self.ring.submit()).map(|_| ())
    }

    /// Waits for all writes; tells the first failure since the last call.
    pub fn drain(&mut self) -> io::Result<()> {
        while self.free.len() < self.slots.len() {
            self.reap(1)?;
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Takes what has completed, after waiting for at least `want` completions.
    fn reap(&mut self, want: usize) -> io::Result<()> {
        if want > 0 {
            retry(|| self.ring.submit_and_wait(want))?;
        }
        let done: Vec<(u64, i32)> = self.ring.completion().map(|c| (c.user_data(), c.result())).collect();
        for (token, result) in done {
            if let Err(e) = self.complete(token, result) {
                self.failure.get_or_insert(e);
            }
        }
        Ok(())
    }

    fn complete(&mut self, token: u64, result: i32) -> io::Result<()> {
        let index = crate::width::to_usize(token);
        let (data, offset) = self.slots[index].take().expect("each write completes once");
        self.free.push(index);
        let Ok(written) = usize::try_from(result) else {
            return Err(io::Error::from_raw_os_error(-result));
        };
        if written < data.len() {
            // A short write: the rest again, in the plain way, which says why. It starts at its page's beginning to stay aligned.
            let from = written - written % crate::ids::PAGE_SIZE;
            self.file.write_all_at(&data[from..], offset + from as u64)?;
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Err(e) = self.drain() {
            tracing::warn!("a write failed while the store was being closed: {e}");
        }
        // If the ring itself is broken, the kernel may still read the buffers: they must never be used again.
        for left in self.slots.drain(..) {
            std::mem::forget(left);
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted) || e.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
#[path = "uring_tests.rs"]
mod tests;
