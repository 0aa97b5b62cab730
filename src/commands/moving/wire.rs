//! What the two ends say to each other: messages, and between them the streams of backups.

use std::io::{self, Read, Write};

use rkyv::{Archive, Deserialize, Serialize, rancor};

/// The way to the other end.
pub trait Wire {
    /// What comes from there.
    fn input(&mut self) -> &mut (dyn Read + Send);
    /// What goes there.
    fn output(&mut self) -> &mut dyn Write;
}

/// What a message begins with.
const MAGIC: [u8; 4] = *b"SMmv";

/// The version of what is said.
pub const VERSION: u32 = 1;

/// The most bytes of a message.
const LONGEST: usize = 4096;

/// A message.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// To there: which world comes, and by which move.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The store that it leaves.
        store: [u8; 16],
        /// What no other move has.
        id: [u8; 16],
    },
    /// From there: streams can come.
    Ready,
    /// To there: a stream of a backup follows at once.
    Stream,
    /// From there: it is in the store that is made.
    Applied,
    /// To there: that was all.
    Last,
    /// From there: all of it is durable, and waits.
    Prepared,
    /// To there: it has left here.
    Commit,
    /// From there: it lives there.
    Done,
    /// From there: it cannot be done.
    Refused(String),
}

/// Says something.
pub fn say(out: &mut (impl Write + ?Sized), message: &Message) -> io::Result<()> {
    let bytes = rkyv::to_bytes::<rancor::Error>(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&MAGIC)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)?;
    out.flush()
}

/// Hears what is said next.
pub fn hear(input: &mut (impl Read + ?Sized)) -> io::Result<Message> {
    let mut head = [0; 8];
    input.read_exact(&mut head).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(e.kind(), "the other end is gone"),
        _ => e,
    })?;
    let [a, b, c, d, length @ ..] = head;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if [a, b, c, d] != MAGIC || length > LONGEST {
        return Err(io::Error::other("what is at the other end is no semper, or speaks amid what it sends"));
    }
    let mut bytes = rkyv::util::AlignedVec::<16>::with_capacity(length);
    bytes.resize(length, 0);
    input.read_exact(&mut bytes)?;
    rkyv::from_bytes::<Message, rancor::Error>(&bytes)
        .map_err(|_| io::Error::other("the other end says what this version does not know"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_nonsense_is_an_error() {
        let said = [
            Message::Hello { version: VERSION, store: [1; 16], id: [2; 16] },
            Message::Commit,
            Message::Refused("no".into()),
        ];
        let mut wire = Vec::new();
        for message in &said {
            say(&mut wire, message).unwrap();
        }
        let mut input = &wire[..];
        for message in said {
            assert_eq!(hear(&mut input).unwrap(), message);
        }
        assert!(hear(&mut input).is_err());
        for at in 0..wire.len() {
            let mut bytes = wire.clone();
            bytes[at] ^= 0xff;
            // Something else or an error, and no panic.
            let mut input = &bytes[..];
            while hear(&mut input).is_ok() {}
        }
        assert!(hear(&mut &[b'S', b'M', b'm', b'v', 255, 255, 255, 255][..]).is_err());
    }
}
