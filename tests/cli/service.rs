//! A key-value service without a line of persistence code, over kills: nothing that it answered is lost.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Background, Rng, Session, linux_program, native_program, seed, wait_for};
use crate::network::{OFTEN, connect, free_port, kill_process, listen};

/// A client of the service with a ledger of its own.
pub struct Client {
    port: u16,
    pub stream: Option<BufReader<TcpStream>>,
    random: Rng,
    /// By key: the values that it may have, the last one that was acknowledged first.
    ledger: HashMap<u64, Vec<u64>>,
    next: u64,
    pub acknowledged: u64,
    looked_up: u64,
}

impl Client {
    pub fn new(port: u16) -> Client {
        let random = Rng::with_seed(seed());
        Client { port, stream: None, random, ledger: HashMap::new(), next: 1, acknowledged: 0, looked_up: 0 }
    }

    /// Asks once; none: the connection broke.
    pub fn ask(&mut self, request: &str) -> Option<String> {
        let stream = self.stream.get_or_insert_with(|| BufReader::new(connect(self.port)));
        let mut answer = String::new();
        let asked = stream.get_mut().write_all(request.as_bytes()).and_then(|()| stream.read_line(&mut answer));
        match asked {
            Ok(_) if answer.ends_with('\n') => Some(answer.trim_end().to_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("an answer never came: {request}")
            }
            Ok(_) | Err(_) => {
                self.stream = None;
                None
            }
        }
    }

    fn look_up(&mut self, key: u64) {
        let Some(answer) = self.ask(&format!("get {key}\n")) else { return };
        let known = self.ledger.get(&key).cloned().unwrap_or_default();
        let found = answer.strip_prefix("is ").map(|value| value.split(' ').next().unwrap().parse::<u64>().unwrap());
        match found {
            // A set that broke may have happened; from now on it has, or has not.
            Some(value) => {
                assert!(known.contains(&value), "key {key} is {value}, of {known:?}");
                self.ledger.insert(key, vec![value]);
            }
            None => assert!(known.first().is_none_or(|first| *first == 0), "key {key} is lost: {known:?}"),
        }
        self.looked_up += 1;
    }

    pub fn step(&mut self) {
        let key = self.random.u64(0..200);
        if self.random.u64(0..3) == 0 {
            return self.look_up(key);
        }
        let value = self.next;
        self.next += 1;
        // 0: none was ever acknowledged.
        self.ledger.entry(key).or_insert_with(|| vec![0]).push(value);
        let filler = "x".repeat(self.random.usize(0..2000));
        if let Some(answer) = self.ask(&format!("set {key} {value} {filler}\n")) {
            assert!(answer.starts_with("ok "), "{answer}");
            self.ledger.insert(key, vec![value]);
            self.acknowledged += 1;
        }
    }

    pub fn check_all(&mut self) {
        let mut keys: Vec<u64> = self.ledger.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let before = self.looked_up;
            while self.looked_up == before {
                self.look_up(key);
            }
        }
    }
}

#[test]
fn nothing_that_was_answered_is_lost_when_the_process_dies() {
    let session = Session::new();
    let port = free_port();
    let at = listen(port, 7000);
    let flags = [OFTEN, &["--listen", &at]].concat();
    let _runtime = session.background(&mut session.run(&flags, &linux_program("kv-service"), &["7000"]));
    let mut client = Client::new(port);
    for _ in 0..10 {
        let until = Instant::now() + Duration::from_millis(100);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(40));
                kill_process(&session);
            });
            while Instant::now() < until {
                client.step();
            }
        });
        client.check_all();
    }
    assert!(client.acknowledged > 10, "hardly anything was done");
}

#[test]
fn nothing_that_was_answered_is_lost_over_any_number_of_kills() {
    storm(10, &[], &linux_program("kv-service"));
}

#[test]
fn nothing_that_native_domains_answered_is_lost_over_any_number_of_kills() {
    storm(10, &["--native"], &native_program("service"));
}

#[test]
fn nothing_that_was_answered_is_lost_without_a_checkpoint_where_inputs_are_recorded() {
    let never = ["--output", "journaled", "--checkpoint-interval", "0"];
    storm_with(10, &never, &["--record"], &linux_program("kv-service"));
}

#[test]
fn nothing_that_recorded_native_domains_answered_is_lost_without_a_checkpoint() {
    let never = ["--output", "journaled", "--checkpoint-interval", "0"];
    storm_with(10, &never, &["--native", "--record"], &native_program("service"));
}

#[test]
#[ignore = "takes minutes"]
fn soak() {
    let kills = std::env::var("SEMPER_KILLS").map_or(200, |kills| kills.parse().unwrap());
    storm(kills, &[], &linux_program("kv-service"));
    let journaled = [OFTEN, &["--output", "journaled"]].concat();
    storm_with(kills, &journaled, &["--record"], &linux_program("kv-service"));
    for native in ["service", "hub"] {
        storm(kills, &["--native"], &native_program(native));
        storm_with(kills, &journaled, &["--native", "--record"], &native_program(native));
    }
}

pub fn storm(kills: u32, flags: &[&str], program: &Path) {
    storm_with(kills, OFTEN, flags, program);
}

/// `both`: flags of run and of resume.
pub fn storm_with(kills: u32, both: &[&str], flags: &[&str], program: &Path) {
    let session = Session::new();
    let port = free_port();
    let at = listen(port, 7000);
    let flags = [both, &["--listen", &at], flags].concat();
    let mut client = Client::new(port);
    let mut runtime = session.background(&mut session.run(&flags, program, &["7000"]));
    for _ in 0..kills {
        client.check_all();
        let until = Instant::now() + Duration::from_millis(100 + client.random.u64(0..300));
        while Instant::now() < until {
            client.step();
        }
        // In the middle of something: it is killed by another thread, while requests go on.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(runtime.0.id()).unwrap());
        let after = Duration::from_micros(client.random.u64(0..40_000));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(after);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        });
        while client.stream.is_some() {
            client.step();
        }
        killer.join().unwrap();
        wait_for(&mut runtime.0);
        runtime = session.background(session.on_store("resume").args(both));
    }
    client.check_all();
    eprintln!("{} sets were acknowledged, {} values looked up", client.acknowledged, client.looked_up);
    assert!(client.acknowledged > u64::from(kills), "hardly anything was done");
    let stopped = session.output(&mut session.on_store("stop"));
    assert!(stopped.status.success());
    runtime.wait();
    session.assert_sound();
}

/// A service of two native sessions; how many KiB each has for its heap.
fn two_sessions(session: &Session, port: u16, heap: &str) -> Background {
    let at = listen(port, 7000);
    let flags = [OFTEN, &["--listen", &at, "--native"]].concat();
    session.background(&mut session.run(&flags, &native_program("service"), &["7000", "2", heap]))
}

/// Asks for much at once, and is answered all of it, some times.
pub fn large_answers_come(port: u16) {
    let (asked, answers) = put_big(port);
    for _ in 0..3 {
        let mut peer = connect(port);
        peer.write_all(&asked).unwrap();
        let mut came = vec![0; answers.len()];
        peer.read_exact(&mut came).unwrap();
        assert!(came == answers);
    }
}

/// Puts a value of 2000 bytes and says, as a request for it that is sent 384 times in one piece, what the answers are together.
fn put_big(port: u16) -> (Vec<u8>, Vec<u8>) {
    let value = "y".repeat(2000);
    assert_eq!(Client::new(port).ask(&format!("set big {value}\n")).as_deref(), Some("ok 1"));
    (b"get big\n".repeat(384), format!("is {value}\n").repeat(384).into_bytes())
}

#[test]
fn answers_that_are_larger_than_a_native_sessions_heap_come_in_pieces() {
    let (session, port) = (Session::new(), free_port());
    let _runtime = two_sessions(&session, port, "256");
    large_answers_come(port);
    // What fits no message is refused, and nothing else.
    let mut client = Client::new(port);
    let refused = client.ask(&format!("set long {}\n", "z".repeat(4600)));
    assert_eq!(refused.as_deref(), Some("error: the arguments are too large for a message"));
    assert_eq!(client.ask("size\n").as_deref(), Some("1"));
    assert!(client.stream.is_some(), "it is the same connection");
}

#[test]
fn a_native_session_that_faults_begins_anew() {
    let (session, port) = (Session::new(), free_port());
    // Less than the answers that are sent together.
    let _runtime = two_sessions(&session, port, "12");
    let (asked, _) = put_big(port);
    for _ in 0..5 {
        let mut peer = connect(port);
        peer.write_all(&asked).unwrap();
        let mut came = [0; 4096];
        while peer.read(&mut came).is_ok_and(|came| came > 0) {}
    }
    let mut client = Client::new(port);
    assert_eq!(client.ask("size\n").as_deref(), Some("1"));
    assert!(client.stream.is_some(), "it is the same connection");
}

#[test]
fn the_service_answers_clients_of_redis() {
    let (session, port) = (Session::new(), free_port());
    let at = listen(port, 7000);
    let flags = [OFTEN, &["--listen", &at]].concat();
    let _runtime = session.background(&mut session.run(&flags, &linux_program("kv-service"), &["7000"]));
    speaks_redis(port);
}

/// A service that is asked as Redis is, well and badly.
pub fn speaks_redis(port: u16) {
    let mut peer = connect(port);
    // In pieces, and two in one.
    peer.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    peer.write_all(b"\nb\r\n*2\r\n$3\r\nget\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$2\r\nno\r\n*1\r\n$6\r\nDBSIZE\r\n")
        .unwrap();
    let mut answers = [0; 24];
    peer.read_exact(&mut answers).unwrap();
    assert_eq!(std::str::from_utf8(&answers).unwrap(), "+OK\r\n$4\r\na\r\nb\r\n$-1\r\n:1\r\n");
    // What is no request ends the connection, and nothing else.
    for wrong in [&b"*99999999\r\n"[..], b"*1\r\n$-1\r\n", b"*0\r\n", b"*1\r\n$2\r\nabcd\r\n"] {
        let mut peer = connect(port);
        peer.write_all(wrong).unwrap();
        assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)), "{wrong:?}");
    }
    assert_eq!(Client::new(port).ask("get k\n").as_deref(), Some("is a"));
}
