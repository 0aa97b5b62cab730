//! Many clients of a key-value server that speaks the protocol of Redis (RESP2), in one thread: each has one connection and one
//! request under way.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::Outcome;

/// Keys that are set, at random.
const KEYS: u32 = 10_000;
/// Bytes of a value.
const VALUE: usize = 100;
const SET: &[u8] = b"+OK\r\n";
/// Longer than any answer takes.
const PATIENCE: u16 = 30_000;

/// What the clients saw.
pub struct Seen {
    /// Answers that came, and in what time.
    pub requests: u32,
    pub elapsed: Duration,
    /// From a request to its answer, in milliseconds.
    pub latencies: Vec<f64>,
}

impl Seen {
    pub fn rate(&self) -> f64 {
        f64::from(self.requests) / self.elapsed.as_secs_f64()
    }
}

struct Client {
    stream: TcpStream,
    asked: Instant,
    heard: Vec<u8>,
}

impl Client {
    fn ask(&mut self, request: &mut Vec<u8>) -> Outcome<()> {
        let key = format!("key:{:012}", fastrand::u32(0..KEYS));
        request.clear();
        write!(request, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE}\r\n", key.len())?;
        request.resize(request.len() + VALUE, b'x');
        request.extend_from_slice(b"\r\n");
        self.asked = Instant::now();
        Ok(self.stream.write_all(request)?)
    }

    /// Reads; the time that its request took, if the answer is all there.
    fn hear(&mut self) -> Outcome<Option<Duration>> {
        let mut piece = [0; 64];
        match self.stream.read(&mut piece) {
            Ok(0) => return Err("the server has closed a connection".into()),
            Ok(count) => self.heard.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if self.heard.len() < SET.len() {
            return Ok(None);
        }
        if self.heard != SET {
            return Err(format!("the server says {:?}", String::from_utf8_lossy(&self.heard)).into());
        }
        self.heard.clear();
        Ok(Some(self.asked.elapsed()))
    }
}

/// Connects as soon as somebody listens.
pub fn connect(to: SocketAddr, patience: Duration) -> Outcome<TcpStream> {
    let deadline = Instant::now() + patience;
    loop {
        match TcpStream::connect(to) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(format!("nobody listens at {to}: {error}").into()),
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// How many keys there are, of a connection on which nothing was asked.
pub fn size(stream: &mut TcpStream) -> Outcome<u64> {
    stream.write_all(b"*1\r\n$6\r\nDBSIZE\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let number = text.trim_end().strip_prefix(':').and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("the server says {text:?}").into())
}

/// `count` clients set keys for so long. What comes in the first tenth is not counted: connections, and memory that is new.
pub fn set(to: SocketAddr, count: u32, time: Duration) -> Outcome<Seen> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut clients = Vec::new();
    let mut request = Vec::new();
    for number in 0..count {
        let stream = connect(to, Duration::from_secs(30))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number.into()))?;
        clients.push(Client { stream, asked: Instant::now(), heard: Vec::new() });
    }
    for client in &mut clients {
        client.ask(&mut request)?;
    }
    let begun = Instant::now() + time / 10;
    let mut seen = Seen { requests: 0, elapsed: Duration::ZERO, latencies: Vec::new() };
    let mut events = [EpollEvent::empty(); 64];
    while seen.elapsed < time {
        let ready = epoll.wait(&mut events, PATIENCE)?;
        if ready == 0 {
            return Err("an answer never came".into());
        }
        for event in &events[..ready] {
            let client = &mut clients[usize::try_from(event.data())?];
            let Some(latency) = client.hear()? else { continue };
            if client.asked >= begun {
                seen.requests += 1;
                seen.latencies.push(latency.as_secs_f64() * 1e3);
            }
            client.ask(&mut request)?;
        }
        seen.elapsed = begun.elapsed();
    }
    Ok(seen)
}
