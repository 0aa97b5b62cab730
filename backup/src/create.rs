//! A generation into a stream: one thread reads and checks, the other one packs, hashes and writes.

use crate::error::Error;
use crate::format::{Base, Header, Manifest, PIECE_LEN};
use crate::journal::{Given, JournalPin};
use crate::seal::{Recipient, seal, sealed};
use crate::side::SideFiles;
use crate::write::{Compression, StreamWriter};
use semper_store::{Change, Generation, GenerationInfo, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Batches between the two threads: 8 MiB of them at most.
const AHEAD: usize = 8;
/// Most changes of a batch.
const TOGETHER: usize = 4096;

/// What is backed up. Somebody has to hold both generations meanwhile.
#[derive(Debug)]
pub struct Pinned<'a> {
    /// The store, opened for reading or not.
    pub store: &'a Store,
    /// The generation that the backup is of.
    pub generation: Generation,
    /// What it holds the changes since; none: it holds all.
    pub since: Option<Generation>,
    /// The files beside the pages.
    pub files: &'a SideFiles,
    /// The journal; none: it is not in the backup.
    pub journal: Option<&'a JournalPin>,
}

/// How to write it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How pages are written.
    pub compression: Compression,
    /// The most bytes of the stream in a second; none: as fast as it goes.
    pub rate_limit: Option<u64>,
    /// Who can open it, at most [`crate::MAX_RECIPIENTS`]; none: it is not encrypted.
    pub recipients: Vec<Recipient>,
    /// Ends the backup with [`Error::Stopped`] soon after it has been set.
    pub stop: Option<Arc<AtomicBool>>,
}

/// A change on its way from who reads to who writes.
enum Piece {
    /// So many bytes of pages.
    Pages(SegmentId, PageIndex, usize),
    Removed(SegmentId, PageRange),
}

/// Changes that go together: one for each of many scattered pages would be a switch of threads for each.
#[derive(Default)]
struct Batch {
    pieces: Vec<Piece>,
    /// The bytes of its pages, at most [`PIECE_LEN`].
    data: Vec<u8>,
}

impl Pinned<'_> {
    /// The header of the backup.
    ///
    /// # Errors
    /// A generation is not kept (any more).
    pub fn header(&self) -> Result<Header, Error> {
        let generations = self.store.generations();
        let found = |wanted: Generation| generations.iter().find(|info| info.generation == wanted);
        let attributes = self.store.attributes_of(self.generation)?;
        // The store tells which ones there are.
        let missing = |wanted| self.store.attributes_of(wanted).err().map(Error::from);
        let Some(info) = found(self.generation) else {
            return Err(missing(self.generation).unwrap_or_else(|| gone(self.generation)));
        };
        let since = match self.since {
            None => None,
            Some(since) => match found(since) {
                Some(info) => Some(Base::of(info)),
                None => return Err(missing(since).unwrap_or_else(|| gone(since))),
            },
        };
        Ok(Header {
            store: self.store.id().0,
            since,
            generation: Base::of(info),
            made_at: nanos(SystemTime::now()),
            pages: info.pages,
            store_bytes: self.store.space().total * PAGE_SIZE as u64,
            attributes,
        })
    }
}

fn gone(generation: Generation) -> Error {
    Error::io("back up", std::io::Error::other(format!("{generation} is gone")))
}

impl Base {
    /// A generation, as a header names it.
    #[must_use]
    pub fn of(info: &GenerationInfo) -> Self {
        Self { generation: info.generation.0, committed_at: nanos(info.committed_at) }
    }
}

fn nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Writes the backup to `out`, which is neither flushed nor buffered more than a piece. `progress` is called with the pages written so far.
/// Takes some 30 MiB of memory, whatever the size.
///
/// # Errors
/// What the store or the output says; the stream is then a cut one.
pub fn write_backup<W: Write>(
    pinned: &Pinned<'_>,
    options: &Options,
    out: W,
    progress: &mut dyn FnMut(u64),
) -> Result<(W, Header, Manifest), Error> {
    let header = pinned.header()?;
    if options.recipients.is_empty() {
        let (out, manifest) = write_stream(pinned, &header, options, out, progress)?;
        return Ok((out, header, manifest));
    }
    let sealing = seal(out, &header.label(), pinned.journal.is_some(), &options.recipients)?;
    let (sealing, manifest) = write_stream(pinned, &header, options, sealing, progress)?;
    Ok((sealed(sealing)?, header, manifest))
}

fn write_stream<W: Write>(
    pinned: &Pinned<'_>,
    header: &Header,
    options: &Options,
    out: W,
    progress: &mut dyn FnMut(u64),
) -> Result<(W, Manifest), Error> {
    let mut pace = Pace::new(options);
    let mut stream = StreamWriter::begin(out, header, pinned.journal.is_some(), options.compression)?;
    for (path, content) in pinned.files.iter() {
        stream.file(path, content)?;
    }
    if let Some(journal) = pinned.journal {
        journal.read(&mut |given| {
            match given {
                Given::Part(part) => stream.journal(part)?,
                Given::Records(records) => stream.records(records)?,
            }
            pace.keep(stream.bytes())
        })?;
    }
    let (batches, arriving) = sync_channel(AHEAD);
    let (spent, spare) = channel();
    let (read, written) = std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(pinned, &batches, &spare));
        let written = write(&mut stream, arriving, &spent, &mut pace, progress);
        (reader.join(), written)
    });
    // A failed write makes the reader end without a word.
    written?;
    read.map_err(|_| Error::io("read the store", std::io::Error::other("the reader panicked")))??;
    stream.finish()
}

fn read(pinned: &Pinned<'_>, batches: &SyncSender<Batch>, spare: &Receiver<Batch>) -> Result<(), Error> {
    let mut batch = Batch::default();
    let mut add = |piece: Piece, data: &[u8]| -> ControlFlow<()> {
        if batch.data.len() + data.len() > PIECE_LEN || batch.pieces.len() >= TOGETHER {
            let next = spare.try_recv().unwrap_or_default();
            if batches.send(std::mem::replace(&mut batch, next)).is_err() {
                return ControlFlow::Break(());
            }
        }
        batch.pieces.push(piece);
        batch.data.extend_from_slice(data);
        ControlFlow::Continue(())
    };
    let mut visit = |change: Change<'_>| match change {
        Change::Removed { segment, range } => add(Piece::Removed(segment, range), &[]),
        Change::Pages { segment, first, data } => data.chunks(PIECE_LEN).zip(0..).try_for_each(|(piece, at)| {
            let first = PageIndex(first.0 + at * (PIECE_LEN / PAGE_SIZE) as u64);
            add(Piece::Pages(segment, first, piece.len()), piece)
        }),
    };
    pinned.store.changes(pinned.since, pinned.generation, &mut visit)?;
    // Who takes nothing any more says why.
    let _ = batches.send(batch);
    Ok(())
}

/// Takes the batches, so that the reader ends when this does.
fn write<W: Write>(
    stream: &mut StreamWriter<W>,
    arriving: Receiver<Batch>,
    spent: &Sender<Batch>,
    pace: &mut Pace<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut pages = 0;
    for mut batch in arriving {
        let mut data = &batch.data[..];
        for piece in batch.pieces.drain(..) {
            match piece {
                Piece::Removed(segment, range) => stream.removed(segment, range)?,
                Piece::Pages(segment, first, len) => {
                    let (piece, rest) = data.split_at(len);
                    stream.pages(segment, first, piece)?;
                    pages += (len / PAGE_SIZE) as u64;
                    data = rest;
                }
            }
            progress(pages);
            pace.keep(stream.bytes())?;
        }
        batch.data.clear();
        // The reader may have ended already.
        let _ = spent.send(batch);
    }
    Ok(())
}

/// Keeps a stream below its rate, and ends it when it is to stop.
struct Pace<'a> {
    rate: Option<u64>,
    stop: Option<&'a AtomicBool>,
    /// When the next byte may be written.
    next: Instant,
    seen: u64,
}

impl<'a> Pace<'a> {
    /// What may be caught up after a standstill, and the longest sleep from which nothing wakes it.
    const SLACK: Duration = Duration::from_millis(100);

    fn new(options: &'a Options) -> Self {
        let rate = options.rate_limit.map(|rate| rate.max(1));
        Self { rate, stop: options.stop.as_deref(), next: Instant::now(), seen: 0 }
    }

    /// Waits until the rate lets the stream have `bytes` bytes.
    fn keep(&mut self, bytes: u64) -> Result<(), Error> {
        let new = bytes - std::mem::replace(&mut self.seen, bytes);
        let now = Instant::now();
        if let Some(rate) = self.rate {
            let since = now.checked_sub(Self::SLACK).unwrap_or(now);
            #[expect(clippy::cast_precision_loss, reason = "a pace needs no more digits")]
            let due = Duration::from_secs_f64(new as f64 / rate as f64);
            self.next = self.next.max(since) + due;
        }
        loop {
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(Error::Stopped);
            }
            let left = self.next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Self::SLACK));
        }
    }
}
