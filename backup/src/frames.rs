//! Frames out of bytes that may be anything: their hashes, their order, and the end of a stream.

use crate::error::Error;
use crate::format::{
    END_MAGIC, FRAME_MAGIC, Form, FrameHead, HEAD_LEN, Hash, MAGIC, MAX_FRAMES, MAX_RECORD, Manifest, PIECE_LEN,
    Preamble, Trailer, decode,
};
use std::io::{ErrorKind, Read};
use zerocopy::FromBytes;

/// Reads frame after frame from `input`, one stream after the other.
pub(crate) struct FrameReader<R> {
    input: R,
    name: String,
    /// Bytes read so far.
    at: u64,
    /// Where the stream begins.
    start: u64,
    /// Where the frame begins, and its number.
    frame_at: u64,
    frame_number: u64,
    /// Frames read.
    frames: u64,
    /// The hash of the newest frame, and of the one before.
    hash: Hash,
    before: Hash,
}

impl<R: Read> FrameReader<R> {
    pub fn new(input: R, name: String) -> Self {
        let (hash, before) = ([0; 32], [0; 32]);
        Self { input, name, at: 0, start: 0, frame_at: 0, frame_number: 0, frames: 0, hash, before }
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// Begins the next stream and says what it is; none at the end of the input.
    pub fn begin(&mut self) -> Result<Option<Form>, Error> {
        (self.start, self.frame_at, self.frame_number, self.frames) = (self.at, self.at, 0, 0);
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
        let form = Form::of(found).ok_or_else(|| Error::Version { name: self.name.clone(), found })?;
        if preamble.zero.get() != 0 {
            return Err(self.damaged("it begins with a word that this version does not know"));
        }
        self.hash = preamble.hash();
        Ok(Some(form))
    }

    /// Reads a frame, its payload into `payload`, and checks its hash.
    pub fn frame(&mut self, payload: &mut Vec<u8>) -> Result<FrameHead, Error> {
        (self.frame_at, self.frame_number) = (self.at, self.frames);
        let mut bytes = [0; HEAD_LEN];
        if self.fill(&mut bytes)? < HEAD_LEN {
            return Err(self.cut());
        }
        let (head, hash) = bytes.split_at(size_of::<FrameHead>());
        let head = FrameHead::read_from_bytes(head).map_err(|_| self.cut())?;
        let sane = head.magic == FRAME_MAGIC && head.zero.get() == 0 && head.zero_too.get() == 0;
        if !sane || head.sequence.get() != self.frames || self.frames >= MAX_FRAMES {
            return Err(self.damaged("its head is not that of the frame that should come"));
        }
        let length = usize::try_from(head.length.get()).ok().filter(|length| *length <= PIECE_LEN);
        let Some(length) = length else {
            return Err(self.damaged(format!("it says that it has {} bytes, more than a frame has", head.length)));
        };
        payload.resize(length, 0);
        if self.fill(payload)? < length {
            return Err(self.cut());
        }
        let computed = head.hash(&self.hash, payload);
        if computed != hash {
            return Err(self.damaged("its hash does not match"));
        }
        self.before = std::mem::replace(&mut self.hash, computed);
        self.frames += 1;
        Ok(head)
    }

    /// Checks the manifest, which is the newest frame, against what was `counted` in those before it, and reads what follows.
    pub fn end(&mut self, payload: &[u8], counted: &Manifest) -> Result<Manifest, Error> {
        if payload.len() > MAX_RECORD {
            return Err(self.damaged("the manifest is too long"));
        }
        let manifest: Manifest = decode(payload).map_err(|_| self.damaged("the manifest is none"))?;
        // `frame` has counted this one, and its hash is the newest.
        let (frames, bytes, hash) = (self.frames - 1, self.frame_at - self.start, self.before);
        if manifest != (Manifest { frames, bytes, hash, ..counted.clone() }) {
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
        Ok(manifest)
    }

    /// Nothing more comes.
    pub fn nothing_follows(&mut self) -> Result<(), Error> {
        if self.fill(&mut [0])? == 0 { Ok(()) } else { Err(self.damaged("something follows its end")) }
    }

    /// Reads as much as there is; says how much.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        let mut got = 0;
        while got < out.len() {
            match self.input.read(&mut out[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What lies around an encrypted stream says itself what is wrong with it.
                Err(e) => {
                    let what = || format!("read {} at byte {}", self.name, self.at);
                    return Err(e.downcast::<Error>().unwrap_or_else(|e| Error::io(what(), e)));
                }
            }
        }
        self.at += got as u64;
        Ok(got)
    }

    fn cut(&self) -> Error {
        Error::Cut { name: self.name.clone(), at: self.at, frame: self.frame_number }
    }

    pub fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Damaged { name: self.name.clone(), at: self.frame_at, frame: self.frame_number, why: why.into() }
    }
}
