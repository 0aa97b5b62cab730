//! A key-value service: an ordinary single-threaded std program, with a map in memory and not one line that saves or loads it.
//!
//! ```text
//! semper run world --listen 127.0.0.1:7000 -- kv-service 7000
//! ```
//!
//! A request is a line, and so is its answer: `set KEY VALUE` is answered `ok VERSION`, where VERSION counts what was ever set;
//! `get KEY` by `is VALUE` or `none`; `size` by the number of keys. Under Semper an answer leaves when the checkpoint that contains
//! what it tells is safe, so whoever has an answer can rely on it, whatever happens to the machine.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Bytes of the longest request; a client that sends a longer one is left.
const LONGEST: usize = 64 << 10;
/// Bytes of answers that a client may leave unread before it is asked for no more.
const UNREAD: usize = 64 << 10;

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
    values: HashMap<String, String>,
    version: u64,
}

impl Map {
    fn answer(&mut self, request: &str) -> String {
        let mut words = request.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("set"), Some(key), Some(value)) => {
                self.values.insert(key.to_owned(), value.to_owned());
                self.version += 1;
                format!("ok {}\n", self.version)
            }
            (Some("get"), Some(key), None) => match self.values.get(key) {
                Some(value) => format!("is {value}\n"),
                None => "none\n".to_owned(),
            },
            (Some("size"), None, None) => format!("{}\n", self.values.len()),
            _ => "what?\n".to_owned(),
        }
    }
}

struct Client {
    stream: TcpStream,
    asked: Vec<u8>,
    answers: Vec<u8>,
}

impl Client {
    /// Does what can be done without waiting. False: it is gone.
    fn serve(&mut self, map: &mut Map) -> bool {
        let mut piece = [0; 16 << 10];
        while self.answers.len() < UNREAD {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(count) => self.asked.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
            while let Some(end) = self.asked.iter().position(|byte| *byte == b'\n') {
                let request: Vec<u8> = self.asked.drain(..=end).collect();
                let answer = map.answer(String::from_utf8_lossy(&request[..end]).trim_end());
                self.answers.extend_from_slice(answer.as_bytes());
            }
            if self.asked.len() > LONGEST {
                return false;
            }
        }
        while !self.answers.is_empty() {
            match self.stream.write(&self.answers) {
                Ok(count) => drop(self.answers.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        true
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
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                clients.push(Client { stream, asked: Vec::new(), answers: Vec::new() });
            }
        }
    }
}
