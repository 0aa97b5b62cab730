//! Encryption, by age: a whole stream as pieces of ciphertext in the frames of another one, which says in clear only whose backup it is and of
//! which generation.

use crate::error::Error;
use crate::format::{Form, Label, MAX_KEYS, Manifest, coding, encode, kind};
use crate::frames::FrameReader;
use crate::write::FrameWriter;
use age::{DecryptError, Decryptor, Encryptor, x25519};
use std::fs::File;
use std::io::{self, BufRead, Chain, Cursor, Read, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most recipients of one backup.
pub const MAX_RECIPIENTS: usize = 100;

/// The most bytes of a file of identities.
const MAX_IDENTITIES: u64 = 1 << 20;

/// Who can open a backup: the public half of an identity, `age1...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadKey { what: text.to_owned(), wanted: "recipient of age", why: why.to_owned() };
        if text.starts_with("AGE-SECRET-KEY-") {
            // Not repeated: it is a secret.
            let (what, why) = ("what was given".to_owned(), "it is an identity, which is secret".to_owned());
            return Err(Error::BadKey { what, wanted: "recipient of age", why });
        }
        text.parse().map(Self).map_err(|_| bad("it should be 62 letters and digits that begin with age1"))
    }
}

/// What opens backups: secret.
#[derive(Clone, Default)]
pub struct Identities(Vec<x25519::Identity>);

impl Identities {
    /// Reads files as `age-keygen` and `semper backup keygen` write them: an identity in a line, `AGE-SECRET-KEY-1...`; lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`Error::BadKey`], what the host says.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self, Error> {
        let mut all = Self::default();
        for path in paths {
            let path = path.as_ref();
            let bad = |why: String| Error::BadKey {
                what: path.display().to_string(),
                wanted: "file of identities of age",
                why,
            };
            let mut text = String::new();
            let file = File::open(path).map_err(|e| bad(e.to_string()))?;
            file.take(MAX_IDENTITIES).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
            let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
            let before = all.0.len();
            for (line, number) in lines {
                // The line is not repeated: it may be a secret.
                let identity = line.trim().parse();
                all.0.push(identity.map_err(|_| bad(format!("line {number} is not AGE-SECRET-KEY-1...")))?);
            }
            if all.0.len() == before {
                return Err(bad("there is none in it".to_owned()));
            }
        }
        Ok(all)
    }

    /// A new one: the content of a file for [`Identities::read`], and who is to be named to encrypt to it.
    #[must_use]
    pub fn generate() -> (String, Recipient) {
        let identity = x25519::Identity::generate();
        let (recipient, secret) = (identity.to_public(), identity.to_string());
        let secret = age::secrecy::ExposeSecret::expose_secret(&secret);
        (format!("# recipient: {recipient}\n{secret}\n"), Recipient(recipient))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Takes ciphertext and writes it in frames.
pub(crate) struct Sealer<W> {
    frames: FrameWriter<W>,
    piece: Vec<u8>,
}

/// Takes a stream and writes it encrypted.
pub(crate) type Sealing<W> = age::stream::StreamWriter<Sealer<W>>;

/// Begins to write a stream encrypted.
pub(crate) fn seal<W: Write>(
    out: W,
    label: &Label,
    journal: bool,
    recipients: &[Recipient],
) -> Result<Sealing<W>, Error> {
    let failed = |e: io::Error| Error::io("write the backup", e);
    let to = recipients.iter().take(MAX_RECIPIENTS + 1).map(|recipient| &recipient.0 as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(to).map_err(|e| Error::io("encrypt", io::Error::other(e)))?;
    let mut frames = FrameWriter::begin(out, Form { sealed: true, journal }.version()).map_err(failed)?;
    let record = encode(label).map_err(|e| failed(io::Error::other(e)))?;
    frames.frame(kind::LABEL, [0; 3], coding::PLAIN, &record).map_err(failed)?;
    let mut sealing = encryptor.wrap_output(Sealer { frames, piece: Vec::new() }).map_err(failed)?;
    // What opens it is in a frame of its own, so that a reader knows its size before it looks at it.
    sealing.flush().map_err(failed)?;
    Ok(sealing)
}

/// Ends it.
pub(crate) fn sealed<W: Write>(sealing: Sealing<W>) -> Result<W, Error> {
    let end = |mut sealer: Sealer<W>| {
        sealer.flush()?;
        sealer.frames.finish()
    };
    let (out, _) = sealing.finish().and_then(end).map_err(|e| Error::io("write the backup", e))?;
    Ok(out)
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(crate::PIECE_LEN - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == crate::PIECE_LEN {
            self.flush()?;
        }
        Ok(taken)
    }

    /// Ends a frame.
    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.frames.frame(kind::SEALED, [0; 3], coding::PLAIN, &self.piece)?;
        self.piece.clear();
        Ok(())
    }
}

/// The frames around an encrypted stream.
pub(crate) struct Outside<R> {
    pub frames: FrameReader<R>,
    /// Whether their manifest has come.
    pub ended: bool,
}

impl<R: Read> Outside<R> {
    /// The next piece of ciphertext, into `piece`; false at the end.
    pub fn piece(&mut self, piece: &mut Vec<u8>) -> Result<bool, Error> {
        piece.clear();
        if self.ended {
            return Ok(false);
        }
        let head = self.frames.frame(piece)?;
        let numbers = (head.segment.get(), head.first.get(), head.count.get(), head.coding);
        match head.kind {
            kind::SEALED if numbers == (0, 0, 0, coding::PLAIN) && !piece.is_empty() => Ok(true),
            kind::MANIFEST if numbers == (0, 0, 0, coding::PLAIN) => {
                self.frames.end(piece, &Manifest::default())?;
                piece.clear();
                self.ended = true;
                Ok(false)
            }
            other => Err(self.frames.damaged(format!("a frame of kind {other} does not belong here"))),
        }
    }
}

/// The frames around, of which the reader of what is inside has a share.
pub(crate) type Shared<R> = Arc<Mutex<Outside<R>>>;

/// Nothing panics while it is locked, and if something did, the next frame would not have the right number.
pub(crate) fn lock<R>(outside: &Mutex<Outside<R>>) -> MutexGuard<'_, Outside<R>> {
    outside.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ciphertext, piece after piece.
struct Pieces<R> {
    outside: Shared<R>,
    piece: Vec<u8>,
    at: usize,
}

impl<R: Read> BufRead for Pieces<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.at = 0;
            lock(&self.outside).piece(&mut self.piece).map_err(io::Error::other)?;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.fill_buf()?.read(out)?;
        self.consume(got);
        Ok(got)
    }
}

/// What was encrypted.
pub(crate) struct Opened<R> {
    plain: age::stream::StreamReader<Chain<Cursor<Vec<u8>>, Pieces<R>>>,
    outside: Shared<R>,
}

impl<R: Read> Read for Opened<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.plain.read(out).map_err(|e| match e.downcast::<Error>() {
            Ok(outside) => io::Error::other(outside),
            Err(e) => {
                let why = format!("what is encrypted in or before it is not what was written ({e})");
                io::Error::other(lock(&self.outside).frames.damaged(why))
            }
        })
    }
}

/// Opens the stream that begins in the next frame of `outside`.
pub(crate) fn open<R: Read>(outside: &Shared<R>, name: &str, identities: &Identities) -> Result<Opened<R>, Error> {
    if identities.is_empty() {
        return Err(Error::NoIdentity { name: name.to_owned() });
    }
    let mut keys = Vec::new();
    let came = lock(outside).piece(&mut keys)?;
    let no_age = |_| lock(outside).frames.damaged("what should open the encryption is nothing that age writes");
    if !came || keys.len() > MAX_KEYS {
        return Err(no_age(DecryptError::InvalidHeader));
    }
    // It has to end in this frame, so that no more than this is taken into memory for it.
    Decryptor::new_buffered(keys.as_slice()).map_err(no_age)?;
    let pieces = Pieces { outside: Arc::clone(outside), piece: Vec::new(), at: 0 };
    let decryptor = Decryptor::new_buffered(Cursor::new(keys).chain(pieces)).map_err(no_age)?;
    let with = identities.0.iter().map(|identity| identity as &dyn age::Identity);
    match decryptor.decrypt(with) {
        Ok(plain) => Ok(Opened { plain, outside: Arc::clone(outside) }),
        Err(DecryptError::NoMatchingKeys) => {
            Err(Error::WrongIdentity { name: name.to_owned(), tried: identities.0.len() })
        }
        Err(error) => Err(no_age(error)),
    }
}
