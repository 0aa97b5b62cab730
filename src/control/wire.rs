//! Frames: a fixed header, then one validated message; descriptors travel with the header.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The longest message: enough for a command line with ten thousand files and for the status of as many domains.
pub const MAX_FRAME_BYTES: u32 = 4 << 20;
/// The version of the protocol. Both ends are normally the same executable; after an upgrade they may not be.
pub const VERSION: u16 = 8;
/// A console is three descriptors; no message carries more.
pub const MAX_DESCRIPTORS: usize = 3;
const MAGIC: [u8; 4] = *b"SMPR";

/// What stands before each message.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: U16,
    zero: U16,
    length: U32,
}

const _: () = assert!(size_of::<Header>() == 12);

/// Why a frame could not be sent or believed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed, or the peer was too slow.
    #[error("the control socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The peer hung up before its message was complete.
    #[error("the other side hung up")]
    HungUp,
    /// The first bytes are not those of a frame.
    #[error("what came over the control socket is not a message of Semper")]
    NotAFrame,
    /// The peer is of another version.
    #[error("the other side speaks version {theirs} of the control protocol, this side version {VERSION}")]
    Version {
        /// The version of the peer.
        theirs: u16,
    },
    /// The message is longer than any may be.
    #[error("a message of {length} bytes is longer than the limit of {MAX_FRAME_BYTES}")]
    TooLong {
        /// Its length.
        length: u64,
    },
    /// The bytes are no message.
    #[error("a message over the control socket is not valid: {0}")]
    Invalid(rancor::Error),
}

/// Sends `message`, and `descriptors` with it.
///
/// # Errors
/// When the socket fails, the peer takes nothing for the time-out of the socket, or the message is too long.
pub fn send<T>(stream: &UnixStream, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), WireError>
where
    T: for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    assert!(descriptors.len() <= MAX_DESCRIPTORS, "a message carries at most one console");
    let body = rkyv::to_bytes::<rancor::Error>(message).map_err(WireError::Invalid)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|&length| length <= MAX_FRAME_BYTES)
        .ok_or(WireError::TooLong { length: body.len() as u64 })?;
    let header = Header { magic: MAGIC, version: U16::new(VERSION), zero: U16::ZERO, length: U32::new(length) };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "the space is for three descriptors");
    }
    let sent = sendmsg(stream, &[IoSlice::new(header.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(io::Error::from)?;
    let mut writer = stream;
    writer.write_all(&header.as_bytes()[sent..])?;
    writer.write_all(&body)?;
    Ok(())
}

/// Receives one message and the descriptors that came with it.
///
/// # Errors
/// When the socket fails, the peer sends nothing for the time-out of the socket, or what it sends is not a valid frame.
pub fn receive<T>(stream: &UnixStream) -> Result<(T, Vec<OwnedFd>), WireError>
where
    T: rkyv::Archive,
    T::Archived:
        for<'a> CheckBytes<HighValidator<'a, rancor::Error>> + rkyv::Deserialize<T, HighDeserializer<rancor::Error>>,
{
    let (header, descriptors) = receive_header(stream)?;
    if header.magic != MAGIC || header.zero != U16::ZERO {
        return Err(WireError::NotAFrame);
    }
    if header.version.get() != VERSION {
        return Err(WireError::Version { theirs: header.version.get() });
    }
    let length = header.length.get();
    if length > MAX_FRAME_BYTES {
        return Err(WireError::TooLong { length: length.into() });
    }
    // Grows as the bytes arrive: a peer that only announces a long message costs nothing.
    let mut body: AlignedVec = AlignedVec::new();
    body.extend_from_reader(&mut stream.take(length.into()))?;
    if body.len() < length as usize {
        return Err(WireError::HungUp);
    }
    let message = rkyv::from_bytes::<T, rancor::Error>(&body).map_err(WireError::Invalid)?;
    Ok((message, descriptors))
}

fn receive_header(stream: &UnixStream) -> Result<(Header, Vec<OwnedFd>), WireError> {
    let mut header = [0u8; size_of::<Header>()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut header)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(io::Error::from)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if got.bytes == 0 {
        return Err(WireError::HungUp);
    }
    let mut reader = stream;
    reader.read_exact(&mut header[got.bytes..]).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => WireError::HungUp,
        _ => WireError::Socket(error),
    })?;
    Ok((zerocopy::transmute!(header), descriptors))
}
