//! A store out of streams: built under another name, complete before it gets its own.

use crate::building::Building;
use crate::error::Error;
use crate::format::{Header, MAX_FRAMES};
use crate::journal::JournalPart;
use crate::read::{Frame, StreamReader};
use crate::side::SideFiles;
use semper_journal::{Copying, JOURNAL_DIR, Record};
use semper_store::{
    CreateOptions, DirFolder, Fill, Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store, StoreId,
};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
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
    /// The sequence after the last record of its journal; none: it has no journal.
    pub journal_end: Option<u64>,
}

/// A store that is being made. Dropped before [`Restore::finish`] it leaves nothing.
pub struct Restore {
    building: Building,
    store: Option<Fill>,
    last: Option<Header>,
    files: SideFiles,
    streams: u64,
    /// The journal, and what the last stream told of it.
    journal: Option<(Copying, JournalPart)>,
    without_journal: bool,
    note: Option<(String, Vec<u8>)>,
}

/// What is to be put next.
enum Piece {
    Pages(SegmentId, PageIndex, Vec<u8>),
    Removed(SegmentId, PageRange),
    File(String, u64, Vec<u8>),
    Journal(JournalPart),
    Records(Vec<Record>),
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
        Ok(Self { building, store, last, files, streams: 0, journal: None, without_journal: false, note: None })
    }

    /// Makes the store without the journal, though the streams have it.
    #[must_use]
    pub fn without_journal(mut self, without: bool) -> Self {
        self.without_journal = without;
        self
    }

    /// Puts a file of this name into the directory of the store, before that has its name.
    #[must_use]
    pub fn with_note(mut self, name: &str, content: &[u8]) -> Self {
        self.note = Some((name.to_owned(), content.to_vec()));
        self
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
        if !reader.has_journal() {
            self.drop_journal()?;
        }
        let (pieces, arriving) = sync_channel(AHEAD);
        let (spent, spare) = channel();
        let (files, name) = (&mut self.files, reader.name().to_owned());
        let mut journal = JournalInto {
            dir: self.building.path(),
            store: fill.store().id(),
            name,
            skip: self.without_journal,
            copy: &mut self.journal,
        };
        let done = std::thread::scope(|scope| {
            let source = &mut *reader;
            let reading = scope.spawn(move || read(source, &pieces, &spare));
            let put = put(&mut fill, &header, progress, arriving, &spent, files, &mut journal);
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

    /// The records of an earlier generation would not be those of this one.
    fn drop_journal(&mut self) -> Result<(), Error> {
        if self.journal.take().is_some() {
            let dir = self.building.path().join(JOURNAL_DIR);
            fs::remove_dir_all(&dir).map_err(Error::at("remove", &dir))?;
        }
        Ok(())
    }

    /// Does now what [`Restore::finish`] would have to do for what was applied so far.
    ///
    /// # Errors
    /// What the store says.
    pub fn settle(&mut self) -> Result<(), Error> {
        Ok(self.store.as_mut().map_or(Ok(()), Fill::settle)?)
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
        if let Some((name, content)) = &self.note {
            let file = path.join(name);
            let written = fs::File::create(&file).and_then(|mut note| {
                note.write_all(content)?;
                note.sync_all()
            });
            written.map_err(Error::at("write", &file))?;
        }
        let journal_end = self.journal.as_ref().map(|(copy, _)| copy.end());
        if let Some((copy, part)) = self.journal.take() {
            copy.finish(&part.given_up).map_err(Error::JournalCopy)?;
        }
        self.building.finish()?;
        Ok(Restored { header, streams: self.streams, journal_end })
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
            Frame::Journal(part) => Piece::Journal(part),
            Frame::Records(records) => Piece::Records(records),
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

/// Where the journal of a stream goes.
struct JournalInto<'a> {
    dir: &'a Path,
    store: StoreId,
    name: String,
    skip: bool,
    copy: &'a mut Option<(Copying, JournalPart)>,
}

impl JournalInto<'_> {
    fn begin(&mut self, part: JournalPart) -> Result<(), Error> {
        if self.skip {
            return Ok(());
        }
        let anew = part.from == part.first;
        if self.copy.is_none() {
            if !anew {
                let why = "and what comes before it has no journal".to_owned();
                return Err(Error::MissingRecords { name: self.name.clone(), from: part.from, why });
            }
            let folder = Arc::new(DirFolder::new(&self.dir.join(JOURNAL_DIR)));
            let copy = Copying::create(folder, self.store, part.segment_bytes).map_err(Error::JournalCopy)?;
            *self.copy = Some((copy, part.clone()));
        }
        let Some((copy, now)) = self.copy.as_mut() else { return Ok(()) };
        if anew {
            copy.anew(part.first).map_err(Error::JournalCopy)?;
        } else if !copy.back_to(part.from).map_err(Error::JournalCopy)? {
            let why = format!("and what comes before it knows records up to {} for sure", now.known.saturating_sub(1));
            return Err(Error::MissingRecords { name: self.name.clone(), from: part.from, why });
        }
        copy.trim(part.first).map_err(Error::JournalCopy)?;
        if part.known <= part.from {
            copy.mark(part.known).map_err(Error::JournalCopy)?;
        }
        *now = part;
        Ok(())
    }

    fn put(&mut self, records: Vec<Record>) -> Result<(), Error> {
        let Some((copy, part)) = self.copy.as_mut().filter(|_| !self.skip) else { return Ok(()) };
        for record in records {
            if copy.end() <= part.known && record.sequence >= part.known {
                copy.mark(part.known).map_err(Error::JournalCopy)?;
            }
            copy.push(record).map_err(Error::JournalCopy)?;
        }
        Ok(())
    }

    /// All records have come.
    fn end(&mut self) -> Result<(), Error> {
        match self.copy.as_mut().filter(|_| !self.skip) {
            Some((copy, part)) if copy.end() <= part.known => copy.mark(part.known).map_err(Error::JournalCopy),
            _ => Ok(()),
        }
    }
}

/// Puts what arrives into the store that is being made.
fn put(
    fill: &mut Fill,
    header: &Header,
    progress: &mut dyn FnMut(u64),
    arriving: Receiver<Piece>,
    spent: &Sender<Vec<u8>>,
    files: &mut SideFiles,
    journal: &mut JournalInto<'_>,
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
            Piece::Journal(part) => journal.begin(part)?,
            Piece::Records(records) => journal.put(records)?,
            Piece::End => {
                journal.end()?;
                return Ok(fill.end_world(header.attributes)?);
            }
        }
    }
    // The stream ended early; its reader says why.
    Ok(())
}
