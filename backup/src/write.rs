//! Writing a stream, frame by frame.

use crate::error::Error;
use crate::format::{
    END_MAGIC, FRAME_MAGIC, FrameHead, Hash, Header, MAX_PATH, Manifest, PIECE_LEN, Preamble, Trailer, coding, encode,
    kind,
};
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

/// Writes a stream. One without a call of [`StreamWriter::finish`] is a cut one.
pub struct StreamWriter<W> {
    out: W,
    hash: Hash,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
    count: Manifest,
}

impl<W: Write> StreamWriter<W> {
    /// Begins a stream with its header.
    ///
    /// # Errors
    /// What `out` says.
    pub fn begin(out: W, header: &Header, compression: Compression) -> Result<Self, Error> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd(level) => {
                Some(zstd::bulk::Compressor::new(level).map_err(|e| Error::io("begin to compress", e))?)
            }
        };
        let preamble = Preamble::NOW;
        let mut stream = Self { out, hash: preamble.hash(), zstd, packed: Vec::new(), count: Manifest::default() };
        stream.raw(preamble.as_bytes())?;
        let record = encode(header).map_err(|e| Error::io("write the header", io::Error::other(e)))?;
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
            self.count.pages += count;
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
        self.count.removals += 1;
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
            self.count.file_bytes += piece.len() as u64;
            at += piece.len();
            if at == content.len() {
                return Ok(());
            }
        }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.count.bytes
    }

    /// Ends the stream with its manifest. The output is not flushed.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> Result<(W, Manifest), Error> {
        let manifest = Manifest { hash: self.hash, ..self.count.clone() };
        let record = encode(&manifest).map_err(|e| Error::io("write the manifest", io::Error::other(e)))?;
        self.frame(kind::MANIFEST, [0; 3], coding::PLAIN, &record)?;
        let trailer = Trailer { manifest: U64::new(manifest.bytes), magic: END_MAGIC };
        self.raw(trailer.as_bytes())?;
        Ok((self.out, manifest))
    }

    fn frame(&mut self, kind: u8, [segment, first, count]: [u64; 3], coding: u8, payload: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(payload.len()).map_err(|e| Error::io("write a frame", io::Error::other(e)))?;
        let head = FrameHead {
            magic: FRAME_MAGIC,
            kind,
            coding,
            zero: U16::ZERO,
            sequence: U64::new(self.count.frames),
            segment: U64::new(segment),
            first: U64::new(first),
            count: U64::new(count),
            length: U32::new(length),
            zero_too: U32::ZERO,
        };
        self.hash = head.hash(&self.hash, payload);
        self.count.frames += 1;
        self.raw(head.as_bytes())?;
        let hash = self.hash;
        self.raw(&hash)?;
        self.raw(payload)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|e| Error::io("write the backup", e))?;
        self.count.bytes += bytes.len() as u64;
        Ok(())
    }
}
