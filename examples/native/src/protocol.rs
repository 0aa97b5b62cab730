//! What the key-value services speak: lines, or the protocol of Redis (RESP2). That of `examples/linux/src/bin/kv-service.rs`.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use core::fmt::Display;

/// Bytes of the longest request.
pub const LONGEST: usize = 3 << 10;

/// What has the values.
pub trait Store {
    /// Why it does not answer.
    type Failure: Display;

    /// Puts a value; how many were ever put.
    fn put(&mut self, name: &[u8], value: &[u8]) -> Result<u64, Self::Failure>;
    /// The value of a name.
    fn get(&mut self, name: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Self::Failure>;
    /// How many names there are.
    fn size(&mut self) -> Result<u64, Self::Failure>;
}

/// A request: its words, how many bytes it has, and whether it is a client of Redis that asks.
pub struct Asked<'a> {
    words: Vec<&'a [u8]>,
    pub len: usize,
    redis: bool,
}

/// The first request. None: it is not all there.
pub fn request(asked: &[u8]) -> Result<Option<Asked<'_>>, ()> {
    let line =
        |at: usize| asked[at..].iter().position(|byte| *byte == b'\n').map(|end| (&asked[at..at + end], at + end + 1));
    let Some((first, mut at)) = line(0) else { return Ok(None) };
    let number = |line: &[u8], mark: u8| -> Result<usize, ()> {
        let digits = line.trim_ascii_end().strip_prefix(&[mark]).and_then(|digits| core::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).filter(|number| *number <= LONGEST).ok_or(())
    };
    if first.first() != Some(&b'*') {
        let words = first.trim_ascii_end().splitn(3, |byte| *byte == b' ').collect();
        return Ok(Some(Asked { words, len: at, redis: false }));
    }
    let count = number(first, b'*').and_then(|count| if count > 0 { Ok(count) } else { Err(()) })?;
    let mut words = Vec::new();
    for _ in 0..count {
        let Some((length, begin)) = line(at) else { return Ok(None) };
        let length = number(length, b'$')?;
        if asked.len() < begin + length + 2 {
            return Ok(None);
        }
        if !asked[begin + length..].starts_with(b"\r\n") {
            return Err(());
        }
        words.push(&asked[begin..begin + length]);
        at = begin + length + 2;
    }
    Ok(Some(Asked { words, len: at, redis: true }))
}

/// Adds the answer to a request.
pub fn answer<S: Store>(store: &mut S, request: &Asked<'_>, answers: &mut Vec<u8>) {
    let before = answers.len();
    if let Err(error) = done(store, request, answers) {
        // It is too long for a message, say: that of others may not be.
        answers.truncate(before);
        let told = if request.redis { format!("-ERR {error}\r\n") } else { format!("error: {error}\n") };
        answers.extend_from_slice(told.as_bytes());
    }
}

fn done<S: Store>(store: &mut S, request: &Asked<'_>, answers: &mut Vec<u8>) -> Result<(), S::Failure> {
    let (words, redis) = (&request.words, request.redis);
    let name = words.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    let mut say = |bytes: &[u8]| answers.extend_from_slice(bytes);
    match (&name[..], words.get(1..).unwrap_or_default()) {
        (b"set", [key, value]) => match store.put(key, value)? {
            _ if redis => say(b"+OK\r\n"),
            version => say(format!("ok {version}\n").as_bytes()),
        },
        (b"get", [key]) => match store.get(key)? {
            Some(value) if redis => {
                say(format!("${}\r\n", value.len()).as_bytes());
                say(&value);
                say(b"\r\n");
            }
            Some(value) => {
                say(b"is ");
                say(&value);
                say(b"\n");
            }
            None => say(if redis { b"$-1\r\n" } else { b"none\n" }),
        },
        (b"size" | b"dbsize", []) => {
            let size = store.size()?;
            say(if redis { format!(":{size}\r\n") } else { format!("{size}\n") }.as_bytes());
        }
        (b"ping", []) => say(b"+PONG\r\n"),
        _ if redis => say(b"-ERR there are SET KEY VALUE, GET KEY, DBSIZE and PING\r\n"),
        _ => say(b"what?\n"),
    }
    Ok(())
}
