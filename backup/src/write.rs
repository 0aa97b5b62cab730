//! Writing a stream, frame by frame.

use crate::error::Error;
use crate::format::{
    END_MAGIC, FRAME_MAGIC, Form, FrameHead, Hash, Header, MAX_PATH, Manifest, PIECE_LEN, Preamble, Trailer, coding,
    encode, kind,
};
use crate::journal::{JournalPart, pack};
use semper_journal::Record;
use semper_store::{PAGE_SIZE, PageIndex, PageRange, SegmentId};
use std::io::{self, Write};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

/// How pages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Compressed by zstd, at this level (1 to 19), where that makes them smaller.
    Zstd(i32),
}

/// Writes frames, each with the hash of all before it.
pub(crate) struct FrameWriter<W> {
    out: W,
    hash: Hash,
    count: Manifest,
}

impl<W: Write> FrameWriter<W> {
    /// Begins a stream.
    pub fn begin(out: W, version: u32) -> io::Result<Self> {
        let preamble = Preamble::of(version);
        let mut frames = Self { out, hash: preamble.hash(), count: Manifest::default() };
        frames.raw(preamble.as_bytes())?;
        Ok(frames)
    }

    /// Adds a frame.
    pub fn frame(&mut self, kind: u8, place: [u64; 3], coding: u8, payload: &[u8]) -> io::Result<()> {
        let [segment, first, count] = place.map(U64::new);
        let head = FrameHead {
            magic: FRAME_MAGIC,
            kind,
            coding,
            zero: U16::ZERO,
            sequence: U64::new(self.count.frames),
            segment,
            first,
            count,
            length: U32::new(u32::try_from(payload.len()).map_err(io::Error::other)?),
            zero_too: U32::ZERO,
        };
        self.hash = head.hash(&self.hash, payload);
        self.count.frames += 1;
        self.raw(head.as_bytes())?;
        let hash = self.hash;
        self.raw(&hash)?;
        self.raw(payload)
    }

    /// Ends the stream with its manifest.
    pub fn finish(mut self) -> io::Result<(W, Manifest)> {
        let manifest = Manifest { hash: self.hash, ..self.count.clone() };
        let record = encode(&manifest).map_err(io::Error::other)?;
        self.frame(kind::MANIFEST, [0; 3], coding::PLAIN, &record)?;
        let trailer = Trailer { manifest: U64::new(manifest.bytes), magic: END_MAGIC };
        self.raw(trailer.as_bytes())?;
        Ok((self.out, manifest))
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.count.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Writes a stream. One without a call of [`StreamWriter::finish`] is a cut one.
pub struct StreamWriter<W> {
    frames: FrameWriter<W>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
}

impl<W: Write> StreamWriter<W> {
    /// Begins a stream with its header; `journal`: the journal is in it.
    ///
    /// # Errors
    /// What `out` says.
    pub fn begin(out: W, header: &Header, journal: bool, compression: Compression) -> Result<Self, Error> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd(level) => {
                Some(zstd::bulk::Compressor::new(level).map_err(|e| Error::io("begin to compress", e))?)
            }
        };
        let frames = FrameWriter::begin(out, Form { sealed: false, journal }.version()).map_err(failed)?;
        let mut stream = Self { frames, zstd, packed: Vec::new() };
        let record = encode(header).map_err(|e| failed(io::Error::other(e)))?;
        stream.frame(kind::HEADER, [0; 3], coding::PLAIN, &record)?;
        Ok(stream)
    }

    /// Adds pages, a whole number of them.
    ///
    /// # Errors
    /// What the output says.
    pub fn pages(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), Error> {
        let mut first = first.0;
        for piece in data.chunks(PIECE_LEN) {
            let count = (piece.len() / PAGE_SIZE) as u64;
            let place = [segment.0, first, count];
            match self.pack(piece) {
                Some(packed) => {
                    let done = self.frame(kind::PAGES, place, coding::ZSTD, &packed);
                    self.packed = packed;
                    done?;
                }
                None => self.frame(kind::PAGES, place, coding::PLAIN, piece)?,
            }
            self.frames.count.pages += count;
            first += count;
        }
        Ok(())
    }

    /// The piece compressed, if that makes it smaller. The buffer is given back by the caller.
    fn pack(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let zstd = self.zstd.as_mut()?;
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        packed.reserve(piece.len());
        // No room for more than the piece itself: what does not shrink fails here.
        let room = piece.len() - 1;
        packed.resize(room, 0);
        match zstd.compress_to_buffer(piece, &mut packed[..]) {
            Ok(len) => {
                packed.truncate(len);
                Some(packed)
            }
            Err(_) => {
                self.packed = packed;
                None
            }
        }
    }

    /// Adds pages that are not there any more.
    ///
    /// # Errors
    /// What the output says.
    pub fn removed(&mut self, segment: SegmentId, range: PageRange) -> Result<(), Error> {
        self.frames.count.removals += 1;
        self.frame(kind::REMOVED, [segment.0, range.first.0, range.count], coding::PLAIN, &[])
    }

    /// Adds a file that lies beside the pages.
    ///
    /// # Errors
    /// What the output says.
    pub fn file(&mut self, path: &str, content: &[u8]) -> Result<(), Error> {
        assert!(path.len() <= MAX_PATH, "paths of side files are ours");
        let mut at = 0;
        // An empty file has one empty piece.
        loop {
            let piece = &content[at..content.len().min(at + PIECE_LEN - MAX_PATH)];
            let payload = [path.as_bytes(), piece].concat();
            self.frame(kind::FILE, [0, at as u64, path.len() as u64], coding::PLAIN, &payload)?;
            self.frames.count.file_bytes += piece.len() as u64;
            at += piece.len();
            if at == content.len() {
                return Ok(());
            }
        }
    }

    /// Adds what is told of the journal before its records.
    pub(crate) fn journal(&mut self, part: &JournalPart) -> Result<(), Error> {
        let record = encode(part).map_err(|e| failed(io::Error::other(e)))?;
        self.frame(kind::JOURNAL, [0; 3], coding::PLAIN, &record)
    }

    /// Adds records of the journal, as many as fit into a frame.
    pub(crate) fn records(&mut self, records: &[Record]) -> Result<(), Error> {
        let first = records.first().map_or(0, |record| record.sequence);
        self.frame(kind::RECORDS, [0, first, records.len() as u64], coding::PLAIN, &pack(records)?)
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.frames.count.bytes
    }

    /// Ends the stream with its manifest. The output is not flushed.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(self) -> Result<(W, Manifest), Error> {
        self.frames.finish().map_err(failed)
    }

    fn frame(&mut self, kind: u8, place: [u64; 3], coding: u8, payload: &[u8]) -> Result<(), Error> {
        self.frames.frame(kind, place, coding, payload).map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("write the backup", error)
}
