//! Releases output: what a commit covers is written to the descriptors, by a thread of the domain's own so that a reader that does
//! not read stops nobody else.

use super::beside::{Beside, SideFile};
use super::mark::{Header, Kind};
use super::{HostConsole, is_regular};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};
use semper_pager::Segment;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes released in one piece.
const CHUNK: usize = 64 << 10;

/// Where a stream's bytes lie.
#[derive(Clone)]
pub struct OutputStream {
    /// Its segment: byte `n` of the stream at offset `n`.
    pub segment: Arc<Segment>,
    /// Released as far as the state of the last commit knows.
    pub released: u64,
}

#[derive(Default)]
struct Progress {
    target: [u64; 2],
    released: [u64; 2],
    closing: bool,
    failed: bool,
}

/// The output side of one domain's console.
pub struct Releaser {
    console: Arc<HostConsole>,
    segments: [Arc<Segment>; 2],
    mark: SideFile,
    domain: u64,
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Releaser {
    /// Starts the thread. `replayed`: the program does again what it did before it goes on, so more may have left than it has written by
    /// now. `done` is called after each piece with what has left so far: output, error.
    ///
    /// # Errors
    /// When the mark file cannot be opened or the thread not be started.
    pub fn start(
        console: Arc<HostConsole>,
        domain: u64,
        beside: &Arc<Beside>,
        streams: [OutputStream; 2],
        replayed: bool,
        done: impl Fn([u64; 2]) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let mark = SideFile::open(beside, format!("{domain}.mark"))?;
        let written = console.written();
        let identity = *console.outputs();
        let marked = Header::read(&mark, Kind::Mark, domain).map_or([0, 0], |h| [h.a, h.b]);
        let mut released = [streams[0].released, streams[1].released];
        for i in 0..2 {
            // A regular file is written again at the same place, which also heals what a power loss took from it. Elsewhere the mark tells what has left.
            if identity[i].inode == 0 && marked[i] > released[i] && (replayed || marked[i] <= written[i]) {
                released[i] = marked[i];
            }
        }
        console.output_left(released[0]);
        let [out, err] = streams;
        let releaser = Arc::new(Self {
            console,
            segments: [out.segment, err.segment],
            mark,
            domain,
            progress: Mutex::new(Progress { target: released, released, ..Progress::default() }),
            changed: Condvar::new(),
        });
        let run = Arc::clone(&releaser);
        std::thread::Builder::new().name("console-out".into()).spawn(move || run.run(done))?;
        Ok(releaser)
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Output up to `target` (output, error) may leave.
    pub fn release(&self, target: [u64; 2]) {
        let mut progress = self.lock();
        for (now, wanted) in progress.target.iter_mut().zip(target) {
            *now = wanted.max(*now);
        }
        self.changed.notify_all();
    }

    /// Whether output up to `written` (output, error) is more than may leave by now.
    pub fn keeps_back(&self, written: [u64; 2]) -> bool {
        self.lock().target.iter().zip(written).any(|(target, written)| written > *target)
    }

    /// Other descriptors are connected now.
    pub fn reconnected(&self) {
        self.lock().failed = false;
        self.changed.notify_all();
    }

    /// How far output has left: output, error.
    #[must_use]
    pub fn released(&self) -> [u64; 2] {
        self.lock().released
    }

    /// Waits until all that may leave has left, or cannot.
    pub fn drain(&self) {
        let mut progress = self.lock();
        while progress.released != progress.target && !progress.failed {
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Self::drain`], but not for ever.
    pub fn drain_for(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut progress = self.lock();
        while progress.released != progress.target && !progress.failed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            progress = self.changed.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the thread after what it is writing.
    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    fn run(&self, done: impl Fn([u64; 2])) {
        loop {
            let mut progress = self.lock();
            while !progress.closing && (progress.released == progress.target || progress.failed) {
                progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
            if progress.closing {
                return;
            }
            let (released, target) = (progress.released, progress.target);
            drop(progress);
            let stream = usize::from(released[0] == target[0]);
            let result = self.piece(stream, released, target[stream]);
            let mut progress = self.lock();
            match result {
                Ok(n) => progress.released[stream] += n,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    // As to a pipe without a reader: it is gone.
                    progress.released[stream] = progress.target[stream];
                    self.console.set_broken(stream);
                }
                Err(error) => {
                    tracing::warn!(%error, domain = self.domain, "output cannot be written; it stays in the store until a console is connected");
                    progress.failed = true;
                }
            }
            let now = progress.released;
            self.console.output_left(now[0]);
            let settled = now == progress.target || progress.failed;
            drop(progress);
            if settled {
                self.sync_files();
            }
            done(now);
            self.changed.notify_all();
        }
    }

    /// Writes one piece of a stream and moves the mark.
    fn piece(&self, stream: usize, released: [u64; 2], target: u64) -> io::Result<u64> {
        let from = released[stream];
        let fds = self.console.fds().ok_or_else(|| io::Error::other("no console is connected"))?;
        let fd = if stream == 0 { fds.output.as_fd() } else { fds.error.as_fd() };
        // Held while a place in a regular file is written, so that nobody else begins to share the file meanwhile.
        let placing = self.console.outputs();
        let identity = *placing;
        let n = usize::try_from(target - from).unwrap_or(CHUNK).min(CHUNK);
        let mut bytes = vec![0u8; n];
        self.segments[stream].read_at(from, &mut bytes).map_err(io::Error::other)?;
        let written = if identity[stream].inode == 0 {
            drop(placing);
            if fstat(fd).is_ok_and(|stat| is_regular(&stat)) { append(fd, &bytes)? } else { write_some(fd, &bytes)? }
        } else {
            // Standard output and error in one file: each piece goes behind what both have released.
            let at = if identity[0].is_same_file(&identity[1]) { released[0] + released[1] } else { from };
            write_at(fd, &bytes, identity[stream].base, at)?;
            n
        };
        let mut now = released;
        now[stream] += written as u64;
        Header { domain: self.domain, a: now[0], b: now[1] }.write(&self.mark, Kind::Mark)?;
        Ok(written as u64)
    }

    /// What is released into regular files must be durable before a later commit says so.
    fn sync_files(&self) {
        let identity = *self.console.outputs();
        let Some(fds) = self.console.fds() else { return };
        for (i, fd) in [fds.output.as_fd(), fds.error.as_fd()].into_iter().enumerate() {
            if identity[i].inode != 0 {
                let _ = nix::unistd::fdatasync(fd);
            }
        }
    }
}

/// Writes what a pipe or terminal takes; waits while it takes nothing.
fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::write(fd, bytes) {
            Ok(n) => return Ok(n),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut ready = [PollFd::new(fd, PollFlags::POLLOUT)];
                let _ = poll(&mut ready, PollTimeout::from(1000u16));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Adds to a regular file that others write too, and leaves the file offset behind it.
fn append(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if flags(fd)?.contains(OFlag::O_APPEND) {
        write_all(fd, bytes)?;
        return Ok(bytes.len());
    }
    match opened_again(fd, File::options().append(true)) {
        Ok(mut file) => file.write_all(bytes)?,
        // Another user opened it for us. Who appends between the two calls is overwritten.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            lseek(fd, 0, Whence::SeekEnd)?;
            write_all(fd, bytes)?;
        }
        Err(error) => return Err(error),
    }
    lseek(fd, 0, Whence::SeekEnd)?;
    Ok(bytes.len())
}

fn flags(fd: BorrowedFd<'_>) -> io::Result<OFlag> {
    Ok(OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?))
}

/// The same file with other flags. Refused where this user may not open it, though he was given the descriptor.
fn opened_again(fd: BorrowedFd<'_>, options: &OpenOptions) -> io::Result<File> {
    options.open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[write_some(fd, bytes)?..];
    }
    Ok(())
}

/// Writes at an absolute place, also where the descriptor was opened for appending, and leaves the file offset behind
/// it, as a program that wrote by itself would: whoever shares the descriptor goes on there.
fn write_at(fd: BorrowedFd<'_>, bytes: &[u8], base: i64, at: u64) -> io::Result<()> {
    let start = base.saturating_add(i64::try_from(at).unwrap_or(i64::MAX));
    let flags = flags(fd)?;
    let place = u64::try_from(start).map_err(|_| io::Error::other("the output file was cut while it was written"))?;
    if flags.contains(OFlag::O_APPEND) {
        // With O_APPEND Linux ignores the place: open the same file without it.
        match opened_again(fd, File::options().write(true)) {
            Ok(file) => return file.write_all_at(bytes, place),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Another user opened it for us: for this moment nobody who shares the descriptor appends.
                fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_APPEND))?;
                let written = pwrite_all(fd, bytes, start);
                fcntl(fd, FcntlArg::F_SETFL(flags))?;
                return written;
            }
            Err(error) => return Err(error),
        }
    }
    pwrite_all(fd, bytes, start)?;
    let end = start.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    lseek(fd, end, Whence::SeekSet)?;
    Ok(())
}

fn pwrite_all(fd: BorrowedFd<'_>, bytes: &[u8], start: i64) -> io::Result<()> {
    let mut done = 0usize;
    while done < bytes.len() {
        let offset = start.saturating_add(i64::try_from(done).unwrap_or(i64::MAX));
        match nix::sys::uio::pwrite(fd, &bytes[done..], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
