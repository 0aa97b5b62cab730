//! A store out of streams: built under another name, complete before it gets its own.

use crate::building::Building;
use crate::error::Error;
use crate::format::{Header, MAX_FRAMES};
use crate::read::{Frame, StreamReader};
use crate::side::SideFiles;
use semper_store::{CreateOptions, Fill, Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Pieces between the thread that reads and the one that writes.
const AHEAD: usize = 8;

/// What a restore made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The header of the last stream.
    pub header: Header,
    /// How many streams it took.
    pub streams: u64,
}

/// A store that is being made. Dropped before [`Restore::finish`] it leaves nothing.
pub struct Restore {
    building: Building,
    store: Option<Fill>,
    last: Option<Header>,
    files: SideFiles,
    streams: u64,
}

/// What is to be put next.
enum Piece {
    Pages(SegmentId, PageIndex, Vec<u8>),
    Removed(SegmentId, PageRange),
    File(String, u64, Vec<u8>),
    End,
}

impl Restore {
    /// Begins to make the store `target`, a directory that is not there or is empty.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Busy`], what the host says.
    pub fn begin(target: &Path) -> Result<Self, Error> {
        match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && target.symlink_metadata().is_err() => {}
            _ => return Err(Error::Exists(target.to_owned())),
        }
        let building = Building::new(target)?;
        let (store, last, files) = (None, None, SideFiles::default());
        Ok(Self { building, store, last, files, streams: 0 })
    }

    /// Applies the next stream of `reader`: a full backup first, then increments in order. False if there is none. `progress` is called
    /// with the pages of the stream put so far.
    ///
    /// # Errors
    /// Those of [`StreamReader`]; [`Error::OtherStore`], [`Error::MissingBase`]; what the store says. Nothing more can be applied then.
    pub fn apply<R: Read + Send>(
        &mut self,
        reader: &mut StreamReader<R>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, Error> {
        let Some(header) = reader.next_stream()? else { return Ok(false) };
        self.follows(reader.name(), &header)?;
        self.files = SideFiles::default();
        let mut fill = match self.store.take() {
            Some(fill) => fill,
            None => {
                let options = CreateOptions { size_bytes: header.store_bytes, ..CreateOptions::default() };
                Fill::new(Store::create(self.building.path(), &options)?)
            }
        };
        let (pieces, arriving) = sync_channel(AHEAD);
        let (spent, spare) = channel();
        let files = &mut self.files;
        let done = std::thread::scope(|scope| {
            let source = &mut *reader;
            let reading = scope.spawn(move || read(source, &pieces, &spare));
            let put = put(&mut fill, &header, progress, arriving, &spent, files);
            let read = reading.join().map_err(|_| panicked())?;
            // What the stream says counts more than what became of half of it.
            read.and(put)
        });
        done?;
        let found = fill.store().generations().first().map_or(0, |newest| newest.pages);
        if found != header.pages {
            return Err(reader.damaged(format!("it makes a store of {found} pages where {} should be", header.pages)));
        }
        self.store = Some(fill);
        self.last = Some(header);
        self.streams += 1;
        Ok(true)
    }

    /// The generation that was applied last.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.last.as_ref().map(Header::generation)
    }

    /// Whether a stream can be applied to what there is.
    fn follows(&self, name: &str, header: &Header) -> Result<(), Error> {
        let missing = |why: String| {
            let needs = header.since.map_or(Generation(0), |since| since.generation());
            Err(Error::MissingBase { name: name.to_owned(), needs, why })
        };
        match (&self.last, header.since) {
            (None, None) => Ok(()),
            (None, Some(_)) => missing("and it is the first one".to_owned()),
            (Some(last), _) if last.store != header.store => {
                let (found, expected) = (header.store(), last.store());
                Err(Error::OtherStore { name: name.to_owned(), found, expected })
            }
            (Some(last), Some(since)) if last.generation == since => Ok(()),
            (Some(last), Some(since)) if last.generation.generation == since.generation => {
                missing("which is of a copy of the store that went another way".to_owned())
            }
            (Some(last), _) => missing(format!("and what comes before it is {}", last.generation())),
        }
    }

    /// Gives the store its name. From then on it is there, wholly and durably.
    ///
    /// # Errors
    /// [`Error::NotABackup`] if nothing was applied; what the host says.
    pub fn finish(mut self) -> Result<Restored, Error> {
        let (Some(fill), Some(header)) = (self.store.take(), self.last.take()) else {
            return Err(Error::NotABackup { name: "nothing".to_owned(), at: 0 });
        };
        drop(fill.finish()?);
        let path = self.building.path();
        self.files.write(path).map_err(Error::at("write the files beside the pages of", path))?;
        self.building.finish()?;
        Ok(Restored { header, streams: self.streams })
    }
}

fn panicked() -> Error {
    Error::io("read the backup", std::io::Error::other("the reader panicked"))
}

fn read<R: Read>(
    reader: &mut StreamReader<R>,
    pieces: &SyncSender<Piece>,
    spare: &Receiver<Vec<u8>>,
) -> Result<(), Error> {
    for _ in 0..MAX_FRAMES {
        let own = |data: &[u8]| {
            let mut buffer: Vec<u8> = spare.try_recv().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(data);
            buffer
        };
        let piece = match reader.next_frame()? {
            Frame::Pages { segment, first, data } => Piece::Pages(segment, first, own(data)),
            Frame::Removed { segment, range } => Piece::Removed(segment, range),
            Frame::File { path, offset, data } => Piece::File(path.to_owned(), offset, own(data)),
            Frame::End(_) => Piece::End,
        };
        let last = matches!(piece, Piece::End);
        // Who takes them has failed, and says so.
        if pieces.send(piece).is_err() || last {
            break;
        }
    }
    Ok(())
}

/// Puts what arrives into the store that is being made.
fn put(
    fill: &mut Fill,
    header: &Header,
    progress: &mut dyn FnMut(u64),
    arriving: Receiver<Piece>,
    spent: &Sender<Vec<u8>>,
    files: &mut SideFiles,
) -> Result<(), Error> {
    let mut done = 0;
    for piece in arriving {
        match piece {
            Piece::Pages(segment, first, data) => {
                fill.put(segment, first, &data)?;
                done += (data.len() / PAGE_SIZE) as u64;
                progress(done);
                let _ = spent.send(data);
            }
            Piece::Removed(segment, range) => fill.remove(segment, range)?,
            Piece::File(path, offset, data) => {
                if !files.add(&path, offset, &data) {
                    let why = std::io::Error::other("its files are larger than any store has");
                    return Err(Error::io("restore", why));
                }
            }
            Piece::End => return Ok(fill.end_world(header.attributes)?),
        }
    }
    // The stream ended early; its reader says why.
    Ok(())
}
