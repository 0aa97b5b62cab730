//! A key-value service: an ordinary single-threaded std program, with a map in memory and not one line that saves or loads it.
//!
//! ```text
//! semper run world --listen 127.0.0.1:7000 -- kv-service 7000
//! ```
//!
//! A request is a line, and so is its answer: `set KEY VALUE` is answered `ok VERSION`, where VERSION counts what was ever set;
//! `get KEY` by `is VALUE` or `none`; `size` by the number of keys. Clients of Redis are served too, with `SET KEY VALUE`, `GET KEY`,
//! `DBSIZE` and `PING` as arrays of its protocol (RESP2). Under Semper an answer leaves when the checkpoint that contains
//! what it tells is safe, so whoever has an answer can rely on it, whatever happens to the machine.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Bytes of the longest request; a client that sends a longer one is left.
const LONGEST: usize = 64 << 10;
/// Bytes of answers that a client may leave unread before it is asked for no more.
const UNREAD: usize = 64 << 10;
/// Words of the longest request of a client of Redis.
const WORDS: usize = 16;

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;

unsafe extern "C" {
    /// Of the C library, which std is linked with.
    fn poll(fds: *mut PollFd, count: u64, timeout: i32) -> i32;
}

#[derive(Default)]
struct Map {
    values: HashMap<Vec<u8>, Vec<u8>>,
    version: u64,
}

impl Map {
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.values.insert(key.to_vec(), value.to_vec());
        self.version += 1;
    }

    fn answer_line(&mut self, line: &[u8], answers: &mut Vec<u8>) {
        let mut words = line.trim_ascii_end().splitn(3, |byte| *byte == b' ');
        match (words.next(), words.next(), words.next()) {
            (Some(b"set"), Some(key), Some(value)) => {
                self.set(key, value);
                answers.extend_from_slice(format!("ok {}", self.version).as_bytes());
            }
            (Some(b"get"), Some(key), None) => match self.values.get(key) {
                Some(value) => answers.extend_from_slice(&[b"is ", &value[..]].concat()),
                None => answers.extend_from_slice(b"none"),
            },
            (Some(b"size"), None, None) => answers.extend_from_slice(self.values.len().to_string().as_bytes()),
            _ => answers.extend_from_slice(b"what?"),
        }
        answers.push(b'\n');
    }

    fn answer_array(&mut self, words: &[&[u8]], answers: &mut Vec<u8>) {
        let name = words[0].to_ascii_uppercase();
        match (&name[..], &words[1..]) {
            (b"SET", [key, value]) => {
                self.set(key, value);
                answers.extend_from_slice(b"+OK\r\n");
            }
            (b"GET", [key]) => match self.values.get(*key) {
                Some(value) => {
                    answers.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                    answers.extend_from_slice(&[value, &b"\r\n"[..]].concat());
                }
                None => answers.extend_from_slice(b"$-1\r\n"),
            },
            (b"DBSIZE", []) => answers.extend_from_slice(format!(":{}\r\n", self.values.len()).as_bytes()),
            (b"PING", []) => answers.extend_from_slice(b"+PONG\r\n"),
            _ => answers.extend_from_slice(b"-ERR this service has SET KEY VALUE, GET KEY, DBSIZE and PING\r\n"),
        }
    }

    /// Answers the first request in `asked`; its length, none if it is not all there, or an error if it never will be.
    fn answer(&mut self, asked: &[u8], answers: &mut Vec<u8>) -> Result<Option<usize>, ()> {
        if asked.first() == Some(&b'*') {
            let Some((words, length)) = array(asked)? else { return Ok(None) };
            self.answer_array(&words, answers);
            return Ok(Some(length));
        }
        let Some(end) = asked.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        self.answer_line(&asked[..end], answers);
        Ok(Some(end + 1))
    }
}

/// The number behind `mark` in the line at `at`, and where the next line begins.
fn count(asked: &[u8], at: usize, mark: u8, most: usize) -> Result<Option<(usize, usize)>, ()> {
    let Some(end) = asked[at..].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = asked[at..at + end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(&[mark]));
    let number = line.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).filter(|number| *number <= most);
    Ok(Some((number.ok_or(())?, at + end + 1)))
}

/// The words of a request, and its length in bytes.
type Words<'a> = (Vec<&'a [u8]>, usize);

/// An array of strings, which has at least one; none if it is not all there, an error if it never will be.
fn array(asked: &[u8]) -> Result<Option<Words<'_>>, ()> {
    let Some((number, mut at)) = count(asked, 0, b'*', WORDS)? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..number {
        let Some((length, from)) = count(asked, at, b'$', LONGEST)? else { return Ok(None) };
        let Some(word) = asked.get(from..from + length + 2) else { return Ok(None) };
        words.push(word.strip_suffix(b"\r\n").ok_or(())?);
        at = from + length + 2;
    }
    if words.is_empty() { Err(()) } else { Ok(Some((words, at))) }
}

struct Client {
    stream: TcpStream,
    asked: Vec<u8>,
    answers: Vec<u8>,
}

impl Client {
    /// Does what can be done without waiting. False: it is gone.
    fn serve(&mut self, map: &mut Map) -> bool {
        if self.answers.len() < UNREAD {
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(count) => self.asked.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        loop {
            let Ok(any) = self.answer(map) else { return false };
            while !self.answers.is_empty() {
                match self.stream.write(&self.answers) {
                    Ok(count) => drop(self.answers.drain(..count)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                    Err(_) => return false,
                }
            }
            if !any {
                return self.asked.len() <= LONGEST;
            }
        }
    }

    /// Answers what was asked, until there is enough to be read. Whether there was anything; an error: it says what is no request.
    fn answer(&mut self, map: &mut Map) -> Result<bool, ()> {
        let mut done = 0;
        while self.answers.len() < UNREAD {
            let Some(length) = map.answer(&self.asked[done..], &mut self.answers)? else { break };
            done += length;
        }
        self.asked.drain(..done);
        Ok(done > 0)
    }
}

fn main() {
    let port = std::env::args().nth(1).unwrap_or_else(|| "7000".to_owned());
    let listener = match TcpListener::bind(format!("0.0.0.0:{port}")) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("port {port}: {error}");
            std::process::exit(1);
        }
    };
    listener.set_nonblocking(true).expect("a listener can be made not to wait");
    let mut map = Map::default();
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let wanted = |client: &Client| {
            let reads = if client.answers.len() < UNREAD { POLLIN } else { 0 };
            reads | if client.answers.is_empty() { 0 } else { POLLOUT }
        };
        let mut fds = vec![PollFd { fd: listener.as_raw_fd(), events: POLLIN, revents: 0 }];
        fds.extend(clients.iter().map(|client| PollFd {
            fd: client.stream.as_raw_fd(),
            events: wanted(client),
            revents: 0,
        }));
        // SAFETY: the array has as many entries as are told.
        unsafe { poll(fds.as_mut_ptr(), fds.len() as u64, -1) };
        let mut ready = fds[1..].iter().map(|fd| fd.revents != 0);
        clients.retain_mut(|client| !ready.next().unwrap_or(false) || client.serve(&mut map));
        if fds[0].revents == 0 {
            continue;
        }
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                clients.push(Client { stream, asked: Vec::new(), answers: Vec::new() });
            }
        }
    }
}
