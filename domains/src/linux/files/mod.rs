//! Files, descriptors, directories and the console of a program, all of it in its state segment and in segments of the
//! store, so that files roll back together with memory.
//!
//! **Invariants**, checked by [`Files::check`] whenever the records are read:
//! * an inode's `links` is the number of names that lead to it (a directory: 2 and its subdirectories);
//! * every name leads from a directory to an inode, and every directory is reached from the root;
//! * an inode without names is held by an open file, the current directory or `/proc/self/exe`;
//! * every descriptor has an open file, every open file a descriptor;
//! * bytes of a segment beyond its file's size are zeros;
//! * no segment belongs to two files;
//! * every socket has its inode, the two ends of a Unix connection know each other, and every interest of an `epoll` instance an open file.
//!
//! Bytes of a file lie in its segment at their offset. They are written after all checks, and records change before
//! anything is discarded, so a call that is undone has destroyed nothing that the records still tell of.

mod address;
mod call_table;
mod calls_fd;
mod calls_io;
mod calls_ioctl;
mod calls_meta;
mod calls_open;
mod calls_poll;
mod calls_socket;
mod calls_space;
mod calls_tree;
mod calls_unix;
mod check;
mod console;
mod data;
mod descriptors;
mod devices;
mod epoll;
mod eventfd;
mod flags;
mod flow;
mod import;
mod journal;
mod mail;
mod mirror;
mod node;
mod options;
mod path;
mod pipe;
mod proc;
mod proc_text;
mod records;
mod signalfd;
mod socket;
mod stat;
mod timerfd;
mod transfer;
mod tree;
mod unix;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub use tests::TestJournal;

pub use call_table::CALLS;
pub use console::{HELD_LIMIT, StreamState};
pub use import::ImportError;
pub use records::{FILE_BYTES, MAX_DESCRIPTORS, PATH_MAX};

use super::{Errno, Host, Program, Start, State, Stream};
use epoll::InterestKey;
use mirror::{Mirror, Single};
use node::{Node, PROC_MOUNT, ROOT};
use records::{Descriptor, Inode, Interest, OpenFile, Settings, SocketRecord, StreamRecord, UnixRecord, kind};
use semper_pager::Segment;
use semper_store::SegmentId;
use socket::Closed;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use tree::Names;
use zerocopy::FromZeros;

/// A program's files: a cache of its records, and open segments.
pub struct Files {
    inodes: Mirror<Inode>,
    names: Names,
    opens: Mirror<OpenFile>,
    descriptors: Mirror<Descriptor>,
    streams: Mirror<StreamRecord>,
    settings: Single<Settings>,
    sockets: Mirror<SocketRecord>,
    unix: Mirror<UnixRecord>,
    interests: Mirror<Interest>,
    /// Edges that interests were told of.
    told: HashMap<InterestKey, [u64; 2]>,
    /// Whom each instance of `epoll` told of last.
    last_told: HashMap<u64, InterestKey>,
    /// What this transaction closed.
    closed: Vec<Closed>,
    /// Segments of files in use, by inode.
    segments: HashMap<u64, Arc<Segment>>,
    /// Segments of the output streams, by stream number.
    stream_segments: HashMap<u64, Arc<Segment>>,
}

impl Files {
    /// Makes the first files: `/`, `/tmp`, `/dev`, `/proc`, and the descriptors 0, 1, 2.
    ///
    /// # Errors
    /// `ENOMEM` when the state is full, `ENOSPC` when no segment can be had.
    pub fn create(state: &mut State, host: &Host) -> Result<Self, Errno> {
        let mut settings = Settings::new_zeroed();
        settings.next_inode = ROOT;
        settings.next_open = 1;
        settings.cwd = Node::Inode(ROOT).word();
        settings.umask = 0o022;
        settings.termios = host.console.terminal_modes().unwrap_or_else(console::cooked_termios);
        let mut files = Self {
            inodes: Mirror::new(),
            names: Names::new(),
            opens: Mirror::new(),
            descriptors: Mirror::new(),
            streams: Mirror::new(),
            settings: Single::create(state, settings)?,
            sockets: Mirror::new(),
            unix: Mirror::new(),
            interests: Mirror::new(),
            told: HashMap::new(),
            last_told: HashMap::new(),
            closed: Vec::new(),
            segments: HashMap::new(),
            stream_segments: HashMap::new(),
        };
        files.make_root(state, host)?;
        let proc = files.make_directory(state, host, ROOT, b"proc", 0o555)?;
        debug_assert_eq!(proc, PROC_MOUNT);
        files.make_directory(state, host, ROOT, b"tmp", 0o1777)?;
        files.make_devices(state, host)?;
        files.make_console(state, host)?;
        Ok(files)
    }

    /// Reads the records of a program that exists.
    ///
    /// # Errors
    /// `EIO` when the records contradict themselves; the log has the sentence.
    pub fn load(state: &State, _host: &Host) -> Result<Self, Errno> {
        let files = Self {
            inodes: Mirror::load(state)?,
            names: Names::load(state)?,
            opens: Mirror::load(state)?,
            descriptors: Mirror::load(state)?,
            streams: Mirror::load(state)?,
            settings: Single::load(state)?,
            sockets: Mirror::load(state)?,
            unix: Mirror::load(state)?,
            interests: Mirror::load(state)?,
            told: HashMap::new(),
            last_told: HashMap::new(),
            closed: Vec::new(),
            segments: HashMap::new(),
            stream_segments: HashMap::new(),
        };
        match files.check() {
            Some(wrong) => Err(damaged(&wrong)),
            None => Ok(files),
        }
    }

    /// Forgets what was told by `epoll`: what is ready is told once more.
    pub fn forget_told(&mut self) {
        self.told.clear();
        self.last_told.clear();
    }

    /// The segments that files and streams occupy.
    pub fn segments(&self) -> Vec<SegmentId> {
        let files = self.inodes.values().filter(|inode| inode.segment != 0).map(|inode| inode.segment);
        let streams = self.streams.values().filter(|stream| stream.segment != 0).map(|stream| stream.segment);
        files.chain(streams).map(SegmentId).collect()
    }

    /// The content of the regular file behind `fd`, open for reading, its size and its inode: what a private mapping copies.
    ///
    /// # Errors
    /// `EBADF`, `EACCES` unless open for reading, `ENODEV` for what is not a regular file, `ENOSPC`.
    pub fn mapping_source(
        &mut self,
        state: &mut State,
        host: &Host,
        fd: u64,
    ) -> Result<(Arc<Segment>, u64, u64), Errno> {
        let open = self.open_at(fd)?;
        let node::NodeKind::Regular(number) = self.kind_of(open.node()?)? else { return Err(Errno::ENODEV) };
        if !open.readable() {
            return Err(Errno::EACCES);
        }
        let size = self.inode(number)?.size;
        Ok((self.segment_made(state, host, number)?, size, number))
    }

    /// Puts the program's own file among its files, at the path under which it sees itself (one that is there already
    /// stays), and remembers it as `/proc/self/exe`. Arguments and environment are read back from the first stack.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn set_program(
        &mut self,
        state: &mut State,
        host: &Host,
        path: &[u8],
        mut image: &[u8],
        stack: u64,
    ) -> Result<(), ImportError> {
        let found = self.walk(host, Node::Inode(ROOT), path, true).ok().and_then(|place| place.node);
        let number = match found {
            Some(Node::Inode(number)) if self.inodes.get(number).is_some_and(|i| i.kind == kind::REGULAR) => number,
            _ => self.import(state, host, path, 0o755, &mut image)?,
        };
        let absolute = if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() };
        self.remember_program(state, host, number, &absolute, stack).map_err(|errno| import::refused(path, errno))
    }

    fn remember_program(
        &mut self,
        state: &mut State,
        host: &Host,
        number: u64,
        path: &[u8],
        stack: u64,
    ) -> Result<(), Errno> {
        let link = self.new_inode(state, host, kind::SYMLINK, 0o777)?;
        self.set_target(state, host, link, path)?;
        let (old_image, old_link) = (self.settings.get().image, self.settings.get().image_path);
        self.settings.update(state, |s| (s.image, s.image_path, s.stack) = (number, link, stack))?;
        self.forget(state, host, old_link)?;
        self.forget(state, host, old_image)
    }

    fn inode(&self, number: u64) -> Result<&Inode, Errno> {
        self.inodes.get(number).ok_or(Errno::ENOENT)
    }
}

/// Says in the log what is wrong with the records.
fn damaged(what: &str) -> Errno {
    tracing::error!("the file records of a program contradict themselves: {what}");
    Errno::EIO
}

impl Program {
    /// Standard output and standard error.
    #[must_use]
    pub fn outputs(&self) -> [StreamState; 2] {
        [Stream::Out, Stream::Err].map(|stream| self.files.stream(stream))
    }

    /// Bytes of console input that the program has read.
    #[must_use]
    pub fn input_position(&self) -> u64 {
        self.files.input_position()
    }

    /// The console's terminal gets the modes that the program last set, as when it is connected anew.
    pub fn show_terminal_modes(&self) {
        let written = self.files.stream(Stream::Out).written;
        self.host.console.set_terminal_modes(&self.files.settings.get().termios, written);
    }

    /// The host has an output stream's bytes below `upto`: they are let go. Should that fail, they are kept until the
    /// next call.
    pub fn note_released(&mut self, stream: Stream, upto: u64) {
        if let Err(errno) = self.change_files(|files, state, host| files.set_released(state, host, stream, upto)) {
            tracing::warn!(program = %self.host.name, errno = errno.0, "released output cannot be let go yet");
        }
    }

    /// Puts the program's own file among its files, at the path under which it sees itself, for `/proc/self/exe`; and says
    /// where it began, for `/proc/self/cmdline`. To be called once, after the files given at the start were imported.
    ///
    /// # Errors
    /// [`ImportError`]; nothing is changed then.
    pub fn set_program(&mut self, path: &[u8], image: &[u8], start: Start) -> Result<(), ImportError> {
        self.change_files(|files, state, host| files.set_program(state, host, path, image, start.rsp))
    }

    /// Makes a file at `guest`, with what `content` gives.
    ///
    /// # Errors
    /// [`ImportError`]; nothing is changed then.
    pub fn import(&mut self, guest: &[u8], mode: u32, content: &mut dyn Read) -> Result<(), ImportError> {
        self.change_files(|files, state, host| files.import(state, host, guest, mode, content).map(|_| ()))
    }

    /// Copies a file or directory of the host's to `guest`.
    ///
    /// # Errors
    /// [`ImportError`]; nothing is changed then.
    pub fn import_tree(&mut self, from: &Path, guest: &[u8]) -> Result<(), ImportError> {
        self.change_files(|files, state, host| files.import_tree(state, host, from, guest))
    }

    /// Changes files outside a call, in a transaction of its own.
    fn change_files<T, E: From<Errno>>(
        &mut self,
        change: impl FnOnce(&mut Files, &mut State, &Host) -> Result<T, E>,
    ) -> Result<T, E> {
        self.state.begin();
        let result = change(&mut self.files, &mut self.state, &self.host);
        if result.is_ok() {
            self.state.commit();
        } else if self.state.abort() {
            self.files = Files::load(&self.state, &self.host)?;
        }
        result
    }
}
