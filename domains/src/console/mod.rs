//! The console: three streams of a program, connected to descriptors outside the store.
//!
//! **Promise.** Output leaves when the checkpoint that contains it has committed, in order, and where it goes to a regular
//! file, each byte is written at its own place, so that doing it again after a crash changes nothing. Input that a
//! program has consumed since the last commit is kept, and given again after a restart.
//!
//! * `input`: regular files by position; pipes and terminals through a log beside the store.
//! * `output`: releases the streams; a mark per stream says how far, beside the store.
//! * `beside`: the same files in the mirrors of the store.
//! * `mark`: those files' bytes (`docs/format-console.md`).
//! * `terminal`: the host's terminal has the modes that the program set.

mod beside;
mod input;
mod mark;
mod output;
mod terminal;

pub use beside::{Beside, CONSOLE_DIR, copy_files};
pub use output::{OutputStream, Releaser};
pub use terminal::share_controlling_terminal;

use crate::kernel::bell::Bell;
use crate::kernel::objects::FileIdentity;
use crate::linux::{Console, ConsoleKind, Input, Stream};
use input::InputSide;
use nix::sys::stat::{FileStat, SFlag, fstat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use terminal::{Modes, Terminal};

/// The descriptors that a program's streams are connected to.
#[derive(Debug)]
pub struct ConsoleFds {
    /// Standard input.
    pub input: OwnedFd,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub error: OwnedFd,
}

/// What the kernel does when output was produced.
pub trait OutputEvents: Send + Sync {
    /// A program wrote: the next checkpoint is wanted soon, or the output may leave at once.
    fn wrote(&self, domain: u64);
}

/// The host side of one domain's console.
pub struct HostConsole {
    domain: u64,
    fds: Mutex<Option<Arc<ConsoleFds>>>,
    input: Mutex<InputSide>,
    written: [AtomicU64; 2],
    /// Per output stream: its reader is gone.
    broken: [AtomicBool; 2],
    /// Standard error goes where standard output goes.
    joined: AtomicBool,
    /// What the outputs are, where a regular file is the program's alone; else nothing: then what is written is added to its end.
    outputs: Mutex<[FileIdentity; 2]>,
    terminal: Terminal,
    bell: Arc<Bell>,
    events: Arc<dyn OutputEvents>,
}

impl HostConsole {
    /// A console of domain `domain` that is not connected yet; its input log lies `beside` the store.
    ///
    /// # Errors
    /// When the input log cannot be read.
    pub fn new(
        beside: &Arc<Beside>,
        domain: u64,
        bell: Arc<Bell>,
        events: Arc<dyn OutputEvents>,
    ) -> std::io::Result<Arc<Self>> {
        let input = InputSide::open(beside, domain)?;
        Ok(Arc::new(Self {
            domain,
            fds: Mutex::new(None),
            input: Mutex::new(input),
            written: [AtomicU64::new(0), AtomicU64::new(0)],
            broken: [AtomicBool::new(false), AtomicBool::new(false)],
            joined: AtomicBool::new(false),
            outputs: Mutex::default(),
            terminal: Terminal::default(),
            bell,
            events,
        }))
    }

    /// Connects it. Returns what each stream is, for the record: regular files by identity.
    ///
    /// # Errors
    /// When a descriptor cannot be looked at.
    pub fn connect(
        self: &Arc<Self>,
        fds: ConsoleFds,
        known: [FileIdentity; 3],
        positions: [u64; 3],
    ) -> std::io::Result<[FileIdentity; 3]> {
        let joined = is_same_file(fds.output.as_fd(), fds.error.as_fd())?;
        let input = identify(fds.input.as_fd(), known[0], positions[0], false)?;
        let [output, error] = identify_outputs(&fds, joined, [known[1], known[2]], [positions[1], positions[2]])?;
        let identities = [input, output, error];
        *self.outputs() = [output, error];
        self.terminal.connect(terminal_of(&fds).map(|fd| fd.try_clone_to_owned()).transpose()?);
        let fds = Arc::new(fds);
        *self.fds.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&fds));
        self.joined.store(joined, SeqCst);
        self.broken.iter().for_each(|broken| broken.store(false, SeqCst));
        let mut input = self.input();
        if identities[0].inode == 0 {
            input.connect_stream(fds, positions[0], Arc::clone(&self.bell));
        } else {
            input.connect_file(fds, identities[0].base);
        }
        drop(input);
        self.bell.ring();
        Ok(identities)
    }

    /// What the outputs are: regular files of the program's alone.
    fn outputs(&self) -> std::sync::MutexGuard<'_, [FileIdentity; 2]> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of its program.
    #[must_use]
    pub fn domain(&self) -> u64 {
        self.domain
    }

    /// What the outputs are now: regular files of the program's alone, or nothing.
    #[must_use]
    pub fn places(&self) -> [FileIdentity; 2] {
        *self.outputs()
    }

    /// Whether an output goes to the regular file that one of another console's does.
    #[must_use]
    pub fn shares_a_file_with(&self, other: &Self) -> bool {
        let files = |console: &Self| {
            console.fds().map_or_else(Vec::new, |fds| {
                let stats = [fds.output.as_fd(), fds.error.as_fd()].map(|fd| fstat(fd).ok().filter(is_regular));
                stats.into_iter().flatten().map(|stat| (stat.st_dev, stat.st_ino)).collect()
            })
        };
        let mine = files(self);
        files(other).iter().any(|file| mine.contains(file))
    }

    /// Another program writes to the same regular file: what either writes is added to its end from now on, as to a pipe.
    pub fn share_files(&self) {
        *self.outputs() = [FileIdentity::default(); 2];
    }

    fn input(&self) -> std::sync::MutexGuard<'_, InputSide> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptors, if connected.
    #[must_use]
    pub fn fds(&self) -> Option<Arc<ConsoleFds>> {
        self.fds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far the program has written: output, error.
    #[must_use]
    pub fn written(&self) -> [u64; 2] {
        [self.written[0].load(SeqCst), self.written[1].load(SeqCst)]
    }

    /// After a restart or a roll-back: how far the program has written.
    pub fn set_written(&self, written: [u64; 2]) {
        self.written[0].store(written[0], SeqCst);
        self.written[1].store(written[1], SeqCst);
    }

    /// The reader of standard output (0) or standard error (1) is gone: it will never be taken.
    pub fn set_broken(&self, stream: usize) {
        self.broken[stream].store(true, SeqCst);
        self.bell.ring();
    }

    /// Standard output up to `upto` has left.
    fn output_left(&self, upto: u64) {
        self.terminal.output_left(upto);
    }

    /// The device number of its terminal, if it has one.
    #[must_use]
    pub fn terminal_device(&self) -> Option<u64> {
        let fds = self.fds()?;
        fstat(terminal_of(&fds)?).ok().map(|stat| stat.st_rdev)
    }

    /// Its terminal gets the program's modes again, should others have changed them.
    pub fn apply_terminal_modes(&self) {
        self.terminal.apply_again();
    }

    /// The program has ended, or the runtime does: its terminal becomes what it was before.
    pub fn leave_terminal(&self) {
        self.terminal.leave();
    }

    /// Whoever sits at its terminal goes away: nothing is read from there any more, and it becomes what it was before.
    pub fn detach(&self) {
        self.input().disconnect();
        self.terminal.leave();
    }

    /// After a replay: the program has read input up to `position`.
    pub fn goes_on_at(&self, position: u64) {
        self.input().goes_on_at(position);
    }

    /// A commit covers input up to `position`: what is kept before it may go.
    pub fn input_committed(&self, position: u64) {
        self.input().forget_before(position);
    }
}

impl Console for HostConsole {
    fn read(&self, position: u64, out: &mut [u8]) -> Input {
        self.input().read(position, out)
    }

    fn kind(&self, stream: Stream) -> ConsoleKind {
        let Some(fds) = self.fds() else { return ConsoleKind::Pipe };
        match stream {
            Stream::In => kind(fds.input.as_fd()),
            Stream::Out => kind(fds.output.as_fd()),
            Stream::Err => kind(fds.error.as_fd()),
        }
    }

    fn is_joined(&self) -> bool {
        self.joined.load(SeqCst)
    }

    fn is_broken(&self, stream: Stream) -> bool {
        self.broken[usize::from(stream == Stream::Err)].load(SeqCst)
    }

    fn end_was_told(&self) {
        self.input().end_was_told();
    }

    fn terminal_modes(&self) -> Option<Modes> {
        self.terminal.modes()
    }

    fn set_terminal_modes(&self, modes: &Modes, written: u64) {
        self.terminal.set(*modes, written);
    }

    fn flush_input(&self) {
        self.terminal.flush_input();
    }

    fn wrote(&self, stream: Stream, written: u64) {
        let at = usize::from(stream == Stream::Err);
        self.written[at].store(written, SeqCst);
        self.events.wrote(self.domain);
    }
}

/// The stream that is a terminal, if one is.
fn terminal_of(fds: &ConsoleFds) -> Option<BorrowedFd<'_>> {
    [fds.input.as_fd(), fds.output.as_fd(), fds.error.as_fd()]
        .into_iter()
        .find(|fd| nix::unistd::isatty(fd).unwrap_or(false))
}

fn is_regular(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
}

fn kind(fd: BorrowedFd<'_>) -> ConsoleKind {
    let Ok(stat) = fstat(fd) else { return ConsoleKind::Null };
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => ConsoleKind::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
        SFlag::S_IFCHR if nix::unistd::isatty(fd).unwrap_or(false) => {
            let (rows, columns) = window_size(fd);
            ConsoleKind::Terminal { rows, columns }
        }
        SFlag::S_IFCHR => ConsoleKind::Null,
        _ => ConsoleKind::Pipe,
    }
}

fn window_size(fd: BorrowedFd<'_>) -> (u16, u16) {
    let mut size = nix::libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    unsafe { nix::libc::ioctl(fd.as_raw_fd(), nix::libc::TIOCGWINSZ, &raw mut size) };
    if size.ws_row == 0 || size.ws_col == 0 { (24, 80) } else { (size.ws_row, size.ws_col) }
}

fn is_same_file(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> std::io::Result<bool> {
    let (a, b) = (fstat(a)?, fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// As [`identify`] for both outputs, whose positions (bytes released) are given. In one file what was released of both
/// lies behind the base: a base is converted where the outputs were joined before and are not now, or the other way.
fn identify_outputs(
    fds: &ConsoleFds,
    joined: bool,
    known: [FileIdentity; 2],
    positions: [u64; 2],
) -> std::io::Result<[FileIdentity; 2]> {
    let [mut output, mut error] = known;
    let behind = i64::try_from(positions[1]).unwrap_or(i64::MAX);
    if output.is_same_file(&error) {
        output.base = output.base.saturating_add(behind);
        error = FileIdentity::default();
    }
    if !joined {
        return Ok([
            identify(fds.output.as_fd(), output, positions[0], true)?,
            identify(fds.error.as_fd(), error, positions[1], true)?,
        ]);
    }
    output.base = output.base.saturating_sub(behind);
    let together = identify(fds.output.as_fd(), output, positions[0].saturating_add(positions[1]), true)?;
    Ok([together, together])
}

/// Where byte 0 of a stream lies in the regular file it is connected to; the zero identity for anything else.
///
/// The same file as before keeps its base. If it was cut since (`> file` at resume), or is another one, the stream goes on where
/// the file now ends or stands.
fn identify(fd: BorrowedFd<'_>, known: FileIdentity, position: u64, output: bool) -> std::io::Result<FileIdentity> {
    let stat = fstat(fd)?;
    if !is_regular(&stat) {
        return Ok(FileIdentity::default());
    }
    let position = i64::try_from(position).unwrap_or(i64::MAX);
    let same = known.inode == stat.st_ino && known.device == stat.st_dev && known.inode != 0;
    if same && (!output || stat.st_size >= known.base.saturating_add(position)) {
        return Ok(known);
    }
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?;
    let appends = flags & nix::libc::O_APPEND != 0;
    let here = if output && appends { stat.st_size } else { nix::unistd::lseek(fd, 0, nix::unistd::Whence::SeekCur)? };
    Ok(FileIdentity { device: stat.st_dev, inode: stat.st_ino, base: here - position })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    fn fds(output: &Path, error: &Path) -> ConsoleFds {
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap().into();
        ConsoleFds { input: File::open("/dev/null").unwrap().into(), output: append(output), error: append(error) }
    }

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("semper-console-{}-{name}", std::process::id()))
    }

    #[test]
    fn joining_and_parting_outputs_leaves_neither_gap_nor_overlap() {
        let (a, b) = (place("a"), place("b"));
        File::create(&a).unwrap().write_all(&[b'x'; 10]).unwrap();
        File::create(&b).unwrap();
        let nothing = [FileIdentity::default(); 2];
        let apart = identify_outputs(&fds(&a, &b), false, nothing, [0, 0]).unwrap();
        assert_eq!(apart.map(|i| i.base), [10, 0]);
        // 20 bytes of output and 5 of errors left, then both go into the first file: byte 20 of the output follows.
        File::options().append(true).open(&a).unwrap().write_all(&[b'o'; 20]).unwrap();
        let joined = identify_outputs(&fds(&a, &a), true, apart, [20, 5]).unwrap();
        assert!(joined[0].is_same_file(&joined[1]));
        assert_eq!(joined.map(|i| i.base + 20 + 5), [30, 30]);
        assert_eq!(identify_outputs(&fds(&a, &a), true, joined, [20, 5]).unwrap(), joined);
        // 7 more, then apart again: the output goes on there, errors at the end of the other file.
        File::options().append(true).open(&a).unwrap().write_all(&[b'o'; 7]).unwrap();
        let apart = identify_outputs(&fds(&a, &b), false, joined, [27, 5]).unwrap();
        assert_eq!(apart.map(|i| i.base), [10, -5]);
        let other = identify_outputs(&fds(&b, &b), true, apart, [27, 5]).unwrap();
        assert_eq!(other[0].base + 27 + 5, 0, "another file is filled from its end on");
        for path in [a, b] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
