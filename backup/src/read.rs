//! Reading a stream, which may be anything.

use crate::error::Error;
use crate::format::{Form, FrameHead, Header, Label, MAX_PATH, MAX_RECORD, Manifest, PIECE_LEN, coding, decode, kind};
use crate::frames::FrameReader;
use crate::journal::{Incoming, JournalPart};
use crate::seal::{self, Identities, Opened, Outside, Shared, lock};
use crate::side;
use semper_journal::Record;
use semper_store::{MAX_SEGMENT_PAGES, MAX_SEGMENTS, PAGE_SIZE, PageIndex, PageRange, SegmentId};
use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex};

/// A frame that has been checked.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Pages with their content.
    Pages {
        /// Their segment.
        segment: SegmentId,
        /// The first of them.
        first: PageIndex,
        /// What they hold, a whole number of pages and at most [`PIECE_LEN`] bytes.
        data: &'a [u8],
    },
    /// Pages that are not there any more.
    Removed {
        /// Their segment.
        segment: SegmentId,
        /// From the first to the last.
        range: PageRange,
    },
    /// A piece of a file that lies beside the pages.
    File {
        /// Its path in the store's directory: one that such a file can have.
        path: &'a str,
        /// Where the piece begins: at 0, or where the piece before ended.
        offset: u64,
        /// Its content.
        data: &'a [u8],
    },
    /// What is told of the journal before its records. A second one replaces the first: what came before it is trimmed.
    Journal(JournalPart),
    /// Records of the journal, in their order and without gaps but for those that were given up.
    Records(Vec<Record>),
    /// The end of the stream: all that was written has been read.
    End(Manifest),
}

/// Reads one stream after the other from `input`, encrypted or not.
pub struct StreamReader<R> {
    outside: Shared<R>,
    inside: Inside<R>,
    name: String,
    identities: Identities,
    seen: Manifest,
    full: bool,
    /// Whether the stream has the journal, and what has come of it.
    journal: bool,
    records: Option<Incoming>,
    /// Where the next page may be.
    next: (u64, u64),
    /// The side file that is being read, and how much of it has been.
    file: (String, u64),
    payload: Vec<u8>,
    unpacked: Vec<u8>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

/// The stream that is under way.
enum Inside<R> {
    /// None.
    Nothing,
    /// One in clear, and its header until it is asked for.
    Plain(Option<Box<Header>>),
    /// An encrypted one that was not opened.
    Sealed(Label),
    /// An encrypted one that was.
    Opened(Box<FrameReader<Opened<R>>>),
}

impl<R: Read> StreamReader<R> {
    /// Reads from `input`, which messages call `name`. Reads are of any size: buffer it.
    pub fn new(input: R, name: impl Into<String>) -> Self {
        let name = name.into();
        let outside = Outside { frames: FrameReader::new(input, name.clone()), ended: false };
        Self {
            outside: Arc::new(Mutex::new(outside)),
            inside: Inside::Nothing,
            name,
            identities: Identities::default(),
            seen: Manifest::default(),
            full: false,
            journal: false,
            records: None,
            next: (0, 0),
            file: (String::new(), 0),
            payload: Vec::new(),
            unpacked: Vec::new(),
            zstd: None,
        }
    }

    /// Opens what is encrypted with these.
    #[must_use]
    pub fn with_identities(mut self, identities: &Identities) -> Self {
        self.identities = identities.clone();
        self
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        lock(&self.outside).frames.bytes()
    }

    /// Whether the stream that is under way is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.inside, Inside::Sealed(_) | Inside::Opened(_))
    }

    /// Whether the stream that is under way has the journal of its store.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.journal
    }

    /// What the stream that came last told of the journal.
    #[must_use]
    pub fn journal(&self) -> Option<&JournalPart> {
        self.records.as_ref().map(|incoming| &incoming.part)
    }

    /// The header of the next stream; none at the end of the input.
    ///
    /// # Errors
    /// [`Error::NotABackup`], [`Error::Version`], [`Error::Cut`], [`Error::Damaged`], what the host says; [`Error::NoIdentity`] and
    /// [`Error::WrongIdentity`] if it is encrypted.
    pub fn next_stream(&mut self) -> Result<Option<Header>, Error> {
        if self.next_label()?.is_none() {
            return Ok(None);
        }
        self.open().map(Some)
    }

    /// What the next stream says in clear; none at the end of the input. It can then be opened, or passed over by
    /// [`StreamReader::skip_to_end`], for which no identity is needed.
    ///
    /// # Errors
    /// As [`StreamReader::next_stream`], but for those of identities.
    pub fn next_label(&mut self) -> Result<Option<Label>, Error> {
        self.inside = Inside::Nothing;
        self.seen = Manifest::default();
        self.records = None;
        (self.next, self.file) = ((0, 0), (String::new(), 0));
        let mut outside = lock(&self.outside);
        outside.ended = false;
        let Some(form) = outside.frames.begin()? else { return Ok(None) };
        let (label, inside) = if form.sealed {
            let label: Label = record(&mut outside.frames, kind::LABEL, &mut self.payload, decode)?;
            (label.clone(), Inside::Sealed(label))
        } else {
            let header: Header = record(&mut outside.frames, kind::HEADER, &mut self.payload, decode)?;
            (header.label(), Inside::Plain(Some(Box::new(header))))
        };
        if !label.is_sane() {
            return Err(outside.frames.damaged("the header speaks of changes since a later generation"));
        }
        drop(outside);
        self.full = label.since.is_none();
        self.journal = form.journal;
        self.inside = inside;
        Ok(Some(label))
    }

    /// The header of the stream that [`StreamReader::next_label`] began. If it is encrypted it is opened.
    ///
    /// # Errors
    /// As [`StreamReader::next_stream`].
    pub fn open(&mut self) -> Result<Header, Error> {
        let label = match &mut self.inside {
            Inside::Plain(header) => {
                let header = header.take();
                return header.map(|header| *header).ok_or_else(|| self.damaged("its header was read"));
            }
            Inside::Sealed(label) => label.clone(),
            Inside::Opened(_) | Inside::Nothing => return Err(self.damaged("no stream was begun")),
        };
        let opened = seal::open(&self.outside, &self.name, &self.identities)?;
        let mut frames = FrameReader::new(opened, format!("{} (decrypted)", self.name));
        if frames.begin()? != Some(Form { sealed: false, journal: self.journal }) {
            return Err(frames.damaged("what was encrypted is not what it says in clear that it is"));
        }
        let header: Header = record(&mut frames, kind::HEADER, &mut self.payload, decode)?;
        if header.label() != label {
            return Err(frames.damaged("it is not what it says in clear that it is"));
        }
        self.inside = Inside::Opened(Box::new(frames));
        Ok(header)
    }

    /// Reads a frame of the stream into `payload`.
    fn frame(&mut self) -> Result<FrameHead, Error> {
        let head = match &mut self.inside {
            Inside::Plain(_) => lock(&self.outside).frames.frame(&mut self.payload)?,
            Inside::Opened(frames) => frames.frame(&mut self.payload)?,
            Inside::Sealed(_) => return Err(Error::NoIdentity { name: self.name.clone() }),
            Inside::Nothing => return Err(self.damaged("no stream was begun")),
        };
        Ok(head)
    }

    /// The next frame of the stream that [`StreamReader::next_stream`] began.
    ///
    /// # Errors
    /// As there.
    pub fn next_frame(&mut self) -> Result<Frame<'_>, Error> {
        let head = self.frame()?;
        let (segment, first, count) = (head.segment.get(), head.first.get(), head.count.get());
        match head.kind {
            kind::PAGES => {
                self.advance(segment, first, count)?;
                if count > (PIECE_LEN / PAGE_SIZE) as u64 {
                    return Err(self.damaged(format!("{count} pages are more than a frame has")));
                }
                self.seen.pages += count;
                let len = usize::try_from(count).unwrap_or(0) * PAGE_SIZE;
                self.unpack(head.coding, len)?;
                let data = if head.coding == coding::ZSTD { &self.unpacked } else { &self.payload };
                Ok(Frame::Pages { segment: SegmentId(segment), first: PageIndex(first), data })
            }
            kind::REMOVED => {
                self.advance(segment, first, count)?;
                if self.full || !self.payload.is_empty() || head.coding != coding::PLAIN {
                    return Err(self.damaged("it removes pages where none can be removed"));
                }
                self.seen.removals += 1;
                let range = PageRange { first: PageIndex(first), count };
                Ok(Frame::Removed { segment: SegmentId(segment), range })
            }
            kind::FILE if segment == 0 && head.coding == coding::PLAIN => self.file(first, count),
            kind::JOURNAL if (segment, first, count, head.coding) == (0, 0, 0, coding::PLAIN) => {
                self.journal_comes()?;
                let incoming =
                    Incoming::begin(&self.payload, self.records.as_ref()).map_err(|why| self.damaged(why))?;
                Ok(Frame::Journal(self.records.insert(incoming).part.clone()))
            }
            kind::RECORDS if segment == 0 && head.coding == coding::PLAIN => {
                self.journal_comes()?;
                let incoming = self.records.as_mut().ok_or("nothing was told of the journal before its records");
                let records = incoming.and_then(|incoming| incoming.records(&self.payload, first, count));
                Ok(Frame::Records(records.map_err(|why| self.damaged(why))?))
            }
            kind::MANIFEST if (segment, first, count, head.coding) == (0, 0, 0, coding::PLAIN) => self.end(),
            other => Err(self.damaged(format!("a frame of kind {other} does not belong here"))),
        }
    }

    /// Reads the stream that was begun to its end. Of one that is encrypted and was not opened only the ciphertext is checked, and the manifest
    /// counts nothing.
    ///
    /// # Errors
    /// As [`StreamReader::next_frame`].
    pub fn skip_to_end(&mut self) -> Result<Manifest, Error> {
        if matches!(self.inside, Inside::Sealed(_)) {
            let mut outside = lock(&self.outside);
            while outside.piece(&mut self.payload)? {}
            drop(outside);
            self.inside = Inside::Nothing;
            return Ok(Manifest::default());
        }
        loop {
            if let Frame::End(manifest) = self.next_frame()? {
                return Ok(manifest);
            }
        }
    }

    /// The journal comes before the pages, and only where the version says that there is one.
    fn journal_comes(&self) -> Result<(), Error> {
        if self.journal && self.next == (0, 0) { Ok(()) } else { Err(self.damaged("the journal does not belong here")) }
    }

    /// All of the journal has come.
    fn journal_came(&self) -> Result<(), Error> {
        if self.records.as_ref().map_or(!self.journal, Incoming::is_complete) {
            return Ok(());
        }
        Err(self.damaged("records of the journal should come before it"))
    }

    /// Frames come in order of segment and page, and within the limits.
    fn advance(&mut self, segment: u64, first: u64, count: u64) -> Result<(), Error> {
        self.journal_came()?;
        let end = first.checked_add(count).filter(|end| *end <= MAX_SEGMENT_PAGES && segment < MAX_SEGMENTS);
        match end {
            Some(end) if count > 0 && (segment, first) >= self.next => {
                self.next = (segment, end);
                Ok(())
            }
            _ => Err(self.damaged(format!("{count} pages from page {first} of segment {segment} on cannot come here"))),
        }
    }

    fn unpack(&mut self, how: u8, len: usize) -> Result<(), Error> {
        if how == coding::PLAIN && self.payload.len() == len {
            return Ok(());
        }
        if how != coding::ZSTD {
            return Err(self.damaged(format!("{} bytes, coded as {how}, are no {len}", self.payload.len())));
        }
        if self.zstd.is_none() {
            let made = zstd::bulk::Decompressor::new().map_err(|e| Error::io("begin to decompress", e))?;
            self.zstd = Some(made);
        }
        // As long as it has to be, and not a byte longer.
        self.unpacked.resize(len, 0);
        let zstd =
            self.zstd.as_mut().ok_or(Error::Io { what: "decompress".to_owned(), source: ErrorKind::Other.into() })?;
        match zstd.decompress_to_buffer(&self.payload, &mut self.unpacked[..]) {
            Ok(got) if got == len => Ok(()),
            Ok(got) => Err(self.damaged(format!("it unpacks to {got} bytes instead of {len}"))),
            Err(e) => Err(self.damaged(format!("it cannot be unpacked: {e}"))),
        }
    }

    fn file(&mut self, offset: u64, path_len: u64) -> Result<Frame<'_>, Error> {
        let split = usize::try_from(path_len).ok().filter(|len| *len <= MAX_PATH.min(self.payload.len()));
        let path =
            split.and_then(|len| std::str::from_utf8(&self.payload[..len]).ok()).filter(|path| side::is_path(path));
        let (Some(split), Some(path)) = (split, path) else {
            return Err(self.damaged("it holds a file that no store has"));
        };
        let data = &self.payload[split..];
        let goes_on = path == self.file.0 && offset == self.file.1;
        if !(goes_on || offset == 0) || self.next != (0, 0) || self.records.is_some() {
            return Err(self.damaged("it holds a piece of a file that does not belong here"));
        }
        self.file = (path.to_owned(), offset + data.len() as u64);
        self.seen.file_bytes += data.len() as u64;
        Ok(Frame::File { path: std::str::from_utf8(&self.payload[..split]).unwrap_or_default(), offset, data })
    }

    fn end(&mut self) -> Result<Frame<'_>, Error> {
        self.journal_came()?;
        let manifest = match &mut self.inside {
            Inside::Opened(frames) => {
                let manifest = frames.end(&self.payload, &self.seen)?;
                // With this the ciphertext and the frames around it have been read to their ends, too.
                frames.nothing_follows()?;
                manifest
            }
            _ => lock(&self.outside).frames.end(&self.payload, &self.seen)?,
        };
        self.inside = Inside::Nothing;
        Ok(Frame::End(manifest))
    }

    pub(crate) fn damaged(&self, why: impl Into<String>) -> Error {
        match &self.inside {
            Inside::Opened(frames) => frames.damaged(why),
            _ => lock(&self.outside).frames.damaged(why),
        }
    }
}

/// The record in the next frame, which has to be of this kind.
fn record<R: Read, T>(
    frames: &mut FrameReader<R>,
    kind: u8,
    payload: &mut Vec<u8>,
    decode: fn(&[u8]) -> Result<T, rkyv::rancor::Error>,
) -> Result<T, Error> {
    let head = frames.frame(payload)?;
    if head.kind != kind || payload.len() > MAX_RECORD {
        return Err(frames.damaged("it is not the header that should come first"));
    }
    decode(payload).map_err(|_| frames.damaged("the header is none"))
}
