//! The bytes of a stream. `docs/format-backup.md` shows them.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use semper_store::{ATTRIBUTES_LEN, Generation, StoreId};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of a stream without a journal.
pub const FORMAT_VERSION: u32 = 1;

/// The version of a stream that holds another one, encrypted.
pub const SEALED_VERSION: u32 = 2;

/// The version of a stream with a journal.
pub const JOURNAL_VERSION: u32 = 3;

/// The version of a stream that holds one with a journal, encrypted.
pub const SEALED_JOURNAL_VERSION: u32 = 4;

/// What a stream is, as its version says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Form {
    /// It holds another one, encrypted.
    pub sealed: bool,
    /// It has the journal, or what it holds has.
    pub journal: bool,
}

impl Form {
    pub fn of(version: u32) -> Option<Self> {
        let (sealed, journal) = match version {
            FORMAT_VERSION => (false, false),
            SEALED_VERSION => (true, false),
            JOURNAL_VERSION => (false, true),
            SEALED_JOURNAL_VERSION => (true, true),
            _ => return None,
        };
        Some(Self { sealed, journal })
    }

    pub const fn version(self) -> u32 {
        match (self.sealed, self.journal) {
            (false, false) => FORMAT_VERSION,
            (true, false) => SEALED_VERSION,
            (false, true) => JOURNAL_VERSION,
            (true, true) => SEALED_JOURNAL_VERSION,
        }
    }
}

/// The most bytes of pages or of a file that one frame carries.
pub const PIECE_LEN: usize = 1 << 20;

/// The most frames that a stream can have: more than any disk holds.
pub const MAX_FRAMES: u64 = 1 << 48;

/// The most bytes of a header or manifest.
pub(crate) const MAX_RECORD: usize = 4096;

/// The most bytes of what opens an encrypted stream: some hundred and fifty recipients.
pub(crate) const MAX_KEYS: usize = 16 << 10;

/// Bytes that a path of a side file can have.
pub(crate) const MAX_PATH: usize = 255;

pub(crate) const MAGIC: [u8; 8] = *b"SEMPERBK";
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"SBfr";
pub(crate) const END_MAGIC: [u8; 8] = *b"SEMPEREN";

/// A hash of blake3.
pub(crate) type Hash = [u8; 32];

/// How a stream begins.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Preamble {
    pub magic: [u8; 8],
    pub version: U32,
    pub zero: U32,
}

impl Preamble {
    pub const fn of(version: u32) -> Self {
        Self { magic: MAGIC, version: U32::new(version), zero: U32::ZERO }
    }

    /// What the first frame's hash begins with.
    pub fn hash(&self) -> Hash {
        blake3::hash(self.as_bytes()).into()
    }
}

/// What stands before each payload, but for its hash.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FrameHead {
    pub magic: [u8; 4],
    pub kind: u8,
    pub coding: u8,
    pub zero: U16,
    pub sequence: U64,
    pub segment: U64,
    pub first: U64,
    pub count: U64,
    pub length: U32,
    pub zero_too: U32,
}

/// The head with the hash.
pub(crate) const HEAD_LEN: usize = size_of::<FrameHead>() + size_of::<Hash>();

const _: () = assert!(size_of::<FrameHead>() == 48 && size_of::<Preamble>() == 16 && size_of::<Trailer>() == 16);

impl FrameHead {
    /// The hash of this frame after the one whose hash is `before`.
    pub fn hash(&self, before: &Hash, payload: &[u8]) -> Hash {
        blake3::Hasher::new().update(before).update(self.as_bytes()).update(payload).finalize().into()
    }
}

/// What follows the manifest.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Trailer {
    /// Where the frame of the manifest begins, from the start of the stream.
    pub manifest: U64,
    pub magic: [u8; 8],
}

/// Kinds of frames.
pub(crate) mod kind {
    pub const HEADER: u8 = 1;
    pub const PAGES: u8 = 2;
    pub const REMOVED: u8 = 3;
    pub const FILE: u8 = 4;
    pub const MANIFEST: u8 = 5;
    pub const LABEL: u8 = 6;
    pub const SEALED: u8 = 7;
    pub const JOURNAL: u8 = 8;
    pub const RECORDS: u8 = 9;
}

/// How a payload is written.
pub(crate) mod coding {
    pub const PLAIN: u8 = 0;
    pub const ZSTD: u8 = 1;
}

/// The generation that an increment was made since.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Base {
    /// Its number.
    pub generation: u64,
    /// When it was committed, in nanoseconds since 1970: a copy of the store may have gone on to a generation of the same number.
    pub committed_at: u64,
}

impl Base {
    /// Its number, with its type.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }
}

/// What tells one backup from another: all that an encrypted one says in clear.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Label {
    /// The store that it is of.
    pub store: [u8; 16],
    /// What it holds the changes since; none: it holds all.
    pub since: Option<Base>,
    /// What it is a backup of.
    pub generation: Base,
    /// When it was made, in nanoseconds since 1970.
    pub made_at: u64,
}

impl Label {
    /// The store, with its type.
    #[must_use]
    pub fn store(&self) -> StoreId {
        StoreId(self.store)
    }

    /// What it is a backup of.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation.generation()
    }

    /// Whether what it was made since is older than itself, as it has to be.
    pub(crate) fn is_sane(&self) -> bool {
        self.since.is_none_or(|since| since.generation < self.generation.generation)
    }
}

/// What a stream says first.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Header {
    /// The store that it is of.
    pub store: [u8; 16],
    /// What it holds the changes since; none: it holds all.
    pub since: Option<Base>,
    /// What it is a backup of.
    pub generation: Base,
    /// When it was made, in nanoseconds since 1970.
    pub made_at: u64,
    /// Pages that the generation has.
    pub pages: u64,
    /// The size of the store.
    pub store_bytes: u64,
    /// The user area of the generation.
    pub attributes: [u8; ATTRIBUTES_LEN],
}

impl Header {
    /// What tells it from another.
    #[must_use]
    pub fn label(&self) -> Label {
        Label { store: self.store, since: self.since, generation: self.generation, made_at: self.made_at }
    }

    /// The store, with its type.
    #[must_use]
    pub fn store(&self) -> StoreId {
        StoreId(self.store)
    }

    /// What it is a backup of.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation.generation()
    }
}

/// What a stream says last.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Manifest {
    /// Frames before this one, the header counted.
    pub frames: u64,
    /// Pages in them.
    pub pages: u64,
    /// Frames that remove pages.
    pub removals: u64,
    /// Bytes of side files.
    pub file_bytes: u64,
    /// Bytes of the stream before the frame of the manifest.
    pub bytes: u64,
    /// The hash of the frame before, and so of the whole stream.
    pub hash: Hash,
}

/// The bytes of a record.
pub(crate) fn encode<T>(record: &T) -> Result<AlignedVec, rancor::Error>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    rkyv::to_bytes::<rancor::Error>(record)
}

/// A record, from bytes that may be anything.
pub(crate) fn decode<T>(bytes: &[u8]) -> Result<T, rancor::Error>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>> + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    let mut aligned: AlignedVec = AlignedVec::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    rkyv::from_bytes::<T, rancor::Error>(&aligned)
}
