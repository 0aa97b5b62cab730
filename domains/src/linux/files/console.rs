//! The console: three streams that leave the store.
//!
//! What a program writes goes to a segment at its absolute position, and leaves it when the kernel says that the host
//! has it. Input is read from the host by absolute position, which is a record: after a restart it goes on where the
//! last checkpoint was.

use super::super::state::State;
use super::flags::{O_RDWR, O_WRONLY};
use super::flow::{At, Flow};
use super::node::{Node, stream_number};
use super::records::{STREAM_PAGES, StreamRecord};
use super::{Errno, Files, Host};
use crate::linux::{ConsoleKind, Input, Program, Stream, Wait};
use semper_pager::Segment;
use semper_store::{PAGE_SIZE, PageRange, SegmentId};
use std::sync::Arc;
use zerocopy::FromZeros;

/// Output held back before the program has to wait (it may exceed this by one step).
pub const HELD_LIMIT: u64 = 4 << 20;
/// Output that one call may write at once: a regular file takes a write whole, and programs count on it.
const WHOLE_WRITE: u64 = 64 << 20;
const OUTPUT_BYTES: u64 = STREAM_PAGES * PAGE_SIZE as u64;

/// Where an output stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The segment that holds its bytes at their absolute position.
    pub segment: SegmentId,
    /// Bytes ever written.
    pub written: u64,
    /// Bytes that the host has; the segment holds `released..written`.
    pub released: u64,
}

/// A terminal's settings at the start: lines, echo, signals (the kernel's `struct termios`).
pub(super) fn cooked_termios() -> [u8; 36] {
    let mut termios = [0; 36];
    for (i, word) in [0x4500_u32, 0x5, 0xbf, 0x8a3b].iter().enumerate() {
        termios[i * 4..i * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
    termios[17..17 + 16]
        .copy_from_slice(&[3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0xf, 0x17, 0x16]);
    termios
}

impl Files {
    /// The records of the streams, and descriptors 0, 1, 2.
    pub(super) fn make_console(&mut self, state: &mut State, host: &Host) -> Result<(), Errno> {
        for stream in [Stream::In, Stream::Out, Stream::Err] {
            let mut record = StreamRecord::new_zeroed();
            record.stream = u64::from(stream_number(stream));
            if stream != Stream::In {
                let segment = host.segments.create(STREAM_PAGES).map_err(|error| {
                    tracing::error!(%error, "no segment for the console");
                    Errno::ENOSPC
                })?;
                record.segment = segment.id().0;
                self.stream_segments.insert(record.stream, segment);
            }
            self.streams.insert(state, record)?;
            let flags = match (host.console.kind(stream), stream) {
                (ConsoleKind::Terminal { .. } | ConsoleKind::Null, _) => O_RDWR,
                (_, Stream::In) => 0,
                (_, Stream::Out | Stream::Err) => O_WRONLY,
            };
            self.open_node(state, Node::Console(stream_number(stream)), flags, false)?;
        }
        Ok(())
    }

    pub(super) fn stream_record(&self, stream: Stream) -> StreamRecord {
        let missing = StreamRecord::new_zeroed();
        self.streams.get(u64::from(stream_number(stream))).copied().unwrap_or(missing)
    }

    /// Where an output stream is.
    pub fn stream(&self, stream: Stream) -> StreamState {
        let record = self.stream_record(stream);
        StreamState { segment: SegmentId(record.segment), written: record.written, released: record.released }
    }

    /// Bytes of input that the program has read.
    pub fn input_position(&self) -> u64 {
        self.stream_record(Stream::In).position
    }

    /// The host has an output stream's bytes below `upto`: they are let go. Positions never go back.
    ///
    /// # Errors
    /// What the table says.
    pub fn set_released(&mut self, state: &mut State, host: &Host, stream: Stream, upto: u64) -> Result<(), Errno> {
        let old = self.stream_record(stream);
        let upto = upto.min(old.written);
        if upto <= old.released {
            return Ok(());
        }
        self.streams.update(state, old.stream, |s| s.released = upto)?;
        let page = PAGE_SIZE as u64;
        let gone = PageRange::between(old.released / page, upto / page);
        if gone.count > 0 {
            self.stream_segment(host, &old)?.discard(gone).map_err(|_| Errno::EIO)?;
        }
        Ok(())
    }

    fn stream_segment(&mut self, host: &Host, record: &StreamRecord) -> Result<Arc<Segment>, Errno> {
        if let Some(segment) = self.stream_segments.get(&record.stream) {
            return Ok(Arc::clone(segment));
        }
        let segment = host.segments.open(SegmentId(record.segment)).map_err(|error| {
            tracing::error!(%error, "a console stream's segment cannot be opened");
            Errno::EIO
        })?;
        self.stream_segments.insert(record.stream, Arc::clone(&segment));
        Ok(segment)
    }

    /// Whether output may be written without waiting.
    pub(super) fn output_has_room(&self, host: &Host, stream: Stream) -> bool {
        let record = self.stream_record(stream);
        host.console.may_write(&|| record.written - record.released <= HELD_LIMIT)
    }
}

/// The stream that a write to console node `n` goes to: reading ends of a terminal write to standard output, and so does
/// standard error where it is the same file, so that what was written first comes first.
pub(super) fn output_of(host: &Host, n: u8) -> Stream {
    if n == 2 && !host.console.is_joined() { Stream::Err } else { Stream::Out }
}

/// The stream whose kind console node `n` shows.
pub(super) fn shown_stream(host: &Host, n: u8) -> Stream {
    match n {
        0 => Stream::In,
        1 => Stream::Out,
        2 => Stream::Err,
        _ => terminal_stream(host).unwrap_or(Stream::In),
    }
}

/// A stream that is a terminal.
pub(super) fn terminal_stream(host: &Host) -> Option<Stream> {
    [Stream::In, Stream::Out, Stream::Err]
        .into_iter()
        .find(|&stream| matches!(host.console.kind(stream), ConsoleKind::Terminal { .. }))
}

impl Program {
    pub(super) fn read_console(&mut self, nonblocking: bool, at: At, out: &mut [u8]) -> Result<Flow, Errno> {
        let record = self.files.stream_record(Stream::In);
        let position = match at {
            At::Offset => record.position,
            At::Here(at) => at,
        };
        if out.is_empty() {
            return Ok(Flow::Done(0));
        }
        match self.host.console.read(position, out) {
            Input::Bytes(count) => {
                let count = count.min(out.len());
                if at == At::Offset {
                    self.files.streams.update(&mut self.state, record.stream, |s| s.position += count as u64)?;
                }
                Ok(Flow::Done(count))
            }
            Input::End => {
                self.host.console.end_was_told();
                Ok(Flow::Done(0))
            }
            Input::NotYet if nonblocking => Err(Errno::EAGAIN),
            Input::NotYet => Ok(Flow::Wait(Wait { input: true, ..Wait::default() })),
        }
    }

    pub(super) fn write_console(&mut self, n: u8, nonblocking: bool, data: &[u8], done: u64) -> Result<Flow, Errno> {
        let stream = output_of(&self.host, n);
        if self.host.console.is_broken(stream) {
            return Err(Errno::EPIPE);
        }
        let record = self.files.stream_record(stream);
        let held = record.written - record.released;
        let limit = if done > 0 { HELD_LIMIT + WHOLE_WRITE } else { HELD_LIMIT };
        let pages = super::data::pages_of(data.len() as u64);
        let may = || held <= limit && (held == 0 || self.host.segments.room_for(pages));
        if !self.host.console.may_write(&may) {
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            return Ok(Flow::Wait(Wait { output_room: true, ..Wait::default() }));
        }
        if let Some(wait) = self.host.room(pages)? {
            return if nonblocking { Err(Errno::EAGAIN) } else { Ok(Flow::Wait(wait)) };
        }
        self.append_output(stream, data)?;
        Ok(Flow::Done(data.len()))
    }

    /// Adds to an output stream, whatever it holds already.
    fn append_output(&mut self, stream: Stream, data: &[u8]) -> Result<(), Errno> {
        let record = self.files.stream_record(stream);
        let written = record.written + data.len() as u64;
        if written > OUTPUT_BYTES {
            return Err(Errno::EFBIG);
        }
        let segment = self.files.stream_segment(&self.host, &record)?;
        self.files.streams.update(&mut self.state, record.stream, |s| s.written = written)?;
        segment.write_at(record.written, data).map_err(|_| Errno::EIO)?;
        self.host.console.shows(data);
        self.host.console.wrote(stream, written);
        Ok(())
    }

    /// A holder of the key to this program's console wrote to it: that goes to standard output. Who writes waits while much is held.
    pub fn write_by_key(&mut self, data: &[u8]) {
        self.state.begin();
        let room = self.host.segments.room_for(super::data::pages_of(data.len() as u64));
        let done = if room { self.append_output(Stream::Out, data) } else { Err(Errno::ENOSPC) };
        match done {
            Ok(()) => self.state.commit(),
            Err(errno) => {
                tracing::warn!(program = %self.host.name, errno = errno.0, "what was written to its console by a key is lost");
                self.undo();
            }
        }
    }

    /// `lseek` on the console: standard input that is a regular file has a position that can be moved; output only tells.
    pub(super) fn seek_console(&mut self, n: u8, offset: i64, whence: u64) -> Result<u64, Errno> {
        let stream = shown_stream(&self.host, n);
        let ConsoleKind::File { size } = self.host.console.kind(stream) else { return Err(Errno::ESPIPE) };
        let record = self.files.stream_record(stream);
        let (current, end) = match stream {
            Stream::In => (record.position, size),
            Stream::Out | Stream::Err => {
                let written = self.files.stream_record(output_of(&self.host, n)).written;
                (written, written)
            }
        };
        let target = super::calls_fd::seek_target(offset, whence, current, end)?;
        match stream {
            Stream::In => self.files.streams.update(&mut self.state, record.stream, |s| s.position = target)?,
            Stream::Out | Stream::Err if target == current => {}
            Stream::Out | Stream::Err => return Err(Errno::ESPIPE),
        }
        Ok(target)
    }
}
