//! Reading a stream, which may be anything.

use crate::error::Error;
use crate::format::{
    END_MAGIC, FRAME_MAGIC, FrameHead, HEAD_LEN, Hash, Header, MAGIC, MAX_FRAMES, MAX_PATH, MAX_RECORD, Manifest,
    PIECE_LEN, Preamble, Trailer, coding, decode, kind,
};
use crate::side;
use semper_store::{MAX_SEGMENT_PAGES, MAX_SEGMENTS, PAGE_SIZE, PageIndex, PageRange, SegmentId};
use std::io::{ErrorKind, Read};
use zerocopy::FromBytes;

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
    /// The end of the stream: all that was written has been read.
    End(Manifest),
}

/// Reads one stream after the other from `input`.
pub struct StreamReader<R> {
    input: R,
    name: String,
    /// Bytes read so far.
    at: u64,
    /// Where the stream begins.
    start: u64,
    /// Where the frame begins, and its number.
    frame_at: u64,
    frame_number: u64,
    hash: Hash,
    seen: Manifest,
    /// Whether a stream is under way.
    inside: bool,
    full: bool,
    /// Where the next page may be.
    next: (u64, u64),
    /// The side file that is being read, and how much of it has been.
    file: (String, u64),
    payload: Vec<u8>,
    unpacked: Vec<u8>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl<R: Read> StreamReader<R> {
    /// Reads from `input`, which messages call `name`. Reads are of any size: buffer it.
    pub fn new(input: R, name: impl Into<String>) -> Self {
        Self {
            input,
            name: name.into(),
            at: 0,
            start: 0,
            frame_at: 0,
            frame_number: 0,
            hash: [0; 32],
            seen: Manifest::default(),
            inside: false,
            full: false,
            next: (0, 0),
            file: (String::new(), 0),
            payload: Vec::new(),
            unpacked: Vec::new(),
            zstd: None,
        }
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// The header of the next stream; none at the end of the input.
    ///
    /// # Errors
    /// [`Error::NotABackup`], [`Error::Version`], [`Error::Cut`], [`Error::Damaged`], what the host says.
    pub fn next_stream(&mut self) -> Result<Option<Header>, Error> {
        (self.start, self.frame_at, self.frame_number) = (self.at, self.at, 0);
        self.seen = Manifest::default();
        (self.next, self.file) = ((0, 0), (String::new(), 0));
        let mut bytes = [0; size_of::<Preamble>()];
        let got = self.fill(&mut bytes)?;
        if got == 0 && self.start > 0 {
            return Ok(None);
        }
        if got < MAGIC.len() || bytes[..MAGIC.len()] != MAGIC {
            return Err(Error::NotABackup { name: self.name.clone(), at: self.start });
        }
        let preamble = Preamble::read_from_bytes(&bytes[..]).map_err(|_| self.cut())?;
        if got < bytes.len() {
            return Err(self.cut());
        }
        let found = preamble.version.get();
        if found != crate::FORMAT_VERSION {
            return Err(Error::Version { name: self.name.clone(), found });
        }
        if preamble.zero.get() != 0 {
            return Err(self.damaged("it begins with a word that this version does not know"));
        }
        self.hash = preamble.hash();
        self.inside = true;
        let head = self.frame()?;
        if head.kind != kind::HEADER || self.payload.len() > MAX_RECORD {
            return Err(self.damaged("it is not the header that should come first"));
        }
        let header: Header = decode(&self.payload).map_err(|_| self.damaged("the header is none"))?;
        let earlier = |base: crate::Base| base.generation < header.generation.generation;
        if !header.since.is_none_or(earlier) {
            return Err(self.damaged("the header speaks of changes since a later generation"));
        }
        self.full = header.since.is_none();
        Ok(Some(header))
    }

    /// The next frame of the stream that [`StreamReader::next_stream`] began.
    ///
    /// # Errors
    /// As there.
    pub fn next_frame(&mut self) -> Result<Frame<'_>, Error> {
        if !self.inside {
            return Err(self.damaged("no stream was begun"));
        }
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
            kind::MANIFEST if (segment, first, count, head.coding) == (0, 0, 0, coding::PLAIN) => self.end(),
            other => Err(self.damaged(format!("a frame of kind {other} does not belong here"))),
        }
    }

    /// Reads the stream that was begun to its end.
    ///
    /// # Errors
    /// As [`StreamReader::next_frame`].
    pub fn skip_to_end(&mut self) -> Result<Manifest, Error> {
        loop {
            if let Frame::End(manifest) = self.next_frame()? {
                return Ok(manifest);
            }
        }
    }

    /// Frames come in order of segment and page, and within the limits.
    fn advance(&mut self, segment: u64, first: u64, count: u64) -> Result<(), Error> {
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
        if !(goes_on || offset == 0) || self.next != (0, 0) {
            return Err(self.damaged("it holds a piece of a file that does not belong here"));
        }
        self.file = (path.to_owned(), offset + data.len() as u64);
        self.seen.file_bytes += data.len() as u64;
        Ok(Frame::File { path: std::str::from_utf8(&self.payload[..split]).unwrap_or_default(), offset, data })
    }

    fn end(&mut self) -> Result<Frame<'_>, Error> {
        if self.payload.len() > MAX_RECORD {
            return Err(self.damaged("the manifest is too long"));
        }
        let manifest: Manifest = decode(&self.payload).map_err(|_| self.damaged("the manifest is none"))?;
        // `frame` has counted this one, and its hash is the newest.
        let (frames, bytes) = (self.seen.frames - 1, self.frame_at - self.start);
        if manifest != (Manifest { frames, bytes, ..self.seen.clone() }) {
            return Err(self.damaged("the manifest does not fit what came before it"));
        }
        let mut bytes = [0; size_of::<Trailer>()];
        if self.fill(&mut bytes)? < bytes.len() {
            return Err(self.cut());
        }
        let fits = Trailer::read_from_bytes(&bytes[..])
            .is_ok_and(|trailer| trailer.magic == END_MAGIC && trailer.manifest.get() == manifest.bytes);
        if !fits {
            return Err(self.damaged("what follows the manifest is not the end"));
        }
        self.inside = false;
        Ok(Frame::End(manifest))
    }

    /// Reads a frame into `payload` and checks its hash.
    fn frame(&mut self) -> Result<FrameHead, Error> {
        (self.frame_at, self.frame_number) = (self.at, self.seen.frames);
        let mut bytes = [0; HEAD_LEN];
        if self.fill(&mut bytes)? < HEAD_LEN {
            return Err(self.cut());
        }
        let (head, hash) = bytes.split_at(size_of::<FrameHead>());
        let head = FrameHead::read_from_bytes(head).map_err(|_| self.cut())?;
        let sane = head.magic == FRAME_MAGIC && head.zero.get() == 0 && head.zero_too.get() == 0;
        if !sane || head.sequence.get() != self.seen.frames || self.seen.frames >= MAX_FRAMES {
            return Err(self.damaged("its head is not that of the frame that should come"));
        }
        let length = usize::try_from(head.length.get()).ok().filter(|length| *length <= PIECE_LEN);
        let Some(length) = length else {
            return Err(self.damaged(format!("it says that it has {} bytes, more than a frame has", head.length)));
        };
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(length, 0);
        let got = self.fill(&mut payload);
        self.payload = payload;
        if got? < length {
            return Err(self.cut());
        }
        let computed = head.hash(&self.hash, &self.payload);
        if computed != hash {
            return Err(self.damaged("its hash does not match"));
        }
        // The hash of all that came before the frame: what a manifest repeats.
        self.seen.hash = std::mem::replace(&mut self.hash, computed);
        self.seen.frames += 1;
        Ok(head)
    }

    /// Reads as much as there is; says how much.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        let mut got = 0;
        while got < out.len() {
            match self.input.read(&mut out[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(format!("read {} at byte {}", self.name, self.at), e)),
            }
        }
        self.at += got as u64;
        Ok(got)
    }

    fn cut(&self) -> Error {
        Error::Cut { name: self.name.clone(), at: self.at, frame: self.frame_number }
    }

    pub(crate) fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Damaged { name: self.name.clone(), at: self.frame_at, frame: self.frame_number, why: why.into() }
    }
}
