//! The network: what a program was granted, what leaves when, and what is left of it over kills.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{
    Background, Libc, Rng, Session, TIMEOUT, c_program, linux_program, native_c_program, native_program, seed, wait_for,
};

pub const OFTEN: &[&str] = &["--checkpoint-interval", "50ms"];

/// A port of the host that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Connects as soon as somebody listens.
pub fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match TcpStream::connect(address(port)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                stream.set_nodelay(true).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "nobody listens at {port}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the connection says to some bytes.
fn echo(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Whether nothing comes for a while.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let silent = matches!(stream.read(&mut [0]), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    silent
}

/// `--listen` at a port of this host, for the program's port.
pub fn listen(port: u16, guest: u16) -> String {
    format!("127.0.0.1:{port}={guest}")
}

/// Starts a command whose program prints into `out`.
pub fn start(session: &Session, command: &mut Command) -> Background {
    let out = File::options().create(true).append(true).open(session.place().join("out")).unwrap();
    Background(command.stdout(out).stderr(Stdio::null()).spawn().unwrap())
}

pub fn printed(session: &Session) -> String {
    std::fs::read_to_string(session.place().join("out")).unwrap_or_default()
}

/// Waits until the program has printed something.
pub fn wait_until_printed(session: &Session, what: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while !printed(session).contains(what) {
        assert!(Instant::now() < deadline, "{what:?} is not printed: {}", printed(session));
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn checkpoint(session: &Session) {
    let output = session.output(&mut session.on_store("checkpoint"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn echo_server() -> Option<PathBuf> {
    c_program("echo_server", Libc::Glibc)
}

/// Runs a program natively, and under Semper with a way to itself; compares what it prints.
fn compare(name: &str, libc: Libc, flags: &[&str]) {
    let Some(program) = c_program(name, libc) else { return };
    let port = free_port().to_string();
    let native = Command::new(&program).arg(&port).output().unwrap();
    let native = String::from_utf8(native.stdout).unwrap();
    assert!(native.ends_with("done\n"), "{native}");
    let session = Session::new();
    let place = format!("127.0.0.1:{port}");
    let flags = [flags, &["--listen", &place, "--connect", &place]].concat();
    let output = session.output(&mut session.run(&flags, &program, &[&port]));
    let (found, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for (is, should) in found.lines().zip(native.lines()) {
        assert_eq!(is, should, "{error}");
    }
    assert_eq!(found, native, "{error}");
}

#[test]
fn sockets_are_as_linux_has_them_when_output_is_held() {
    compare("sockets", Libc::Musl, OFTEN);
    compare("sockets", Libc::Glibc, OFTEN);
}

#[test]
fn what_comes_ahead_on_several_connections_is_received_in_every_way() {
    compare("parcels", Libc::Musl, OFTEN);
    compare("parcels", Libc::Glibc, &["--checkpoint-interval", "30ms", "--record", "--output", "journaled"]);
    compare("parcels", Libc::Glibc, &["--output", "immediate"]);
}

#[test]
fn sockets_are_as_linux_has_them_when_output_is_immediate() {
    compare("sockets", Libc::Glibc, &["--output", "immediate"]);
}

#[test]
fn a_reply_leaves_only_with_the_checkpoint_that_contains_it() {
    let Some(program) = echo_server() else { return };
    let session = Session::new();
    let port = free_port();
    let flags = ["--checkpoint-interval", "0", "--listen", &listen(port, 7)];
    let _runtime = start(&session, &mut session.run(&flags, &program, &["7"]));
    let mut peer = connect(port);
    peer.write_all(b"hello").unwrap();
    assert!(is_silent(&mut peer), "a reply came that no checkpoint contains");
    checkpoint(&session);
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    // The end of what it sends tells something too.
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_silent(&mut peer), "it was told of an end that no checkpoint contains");
    checkpoint(&session);
    assert_eq!(peer.read(&mut answer).unwrap(), 0);
}

/// The echo server under a runtime with these flags, and the port of the host that leads to it.
fn echoing(flags: &[&str]) -> Option<(Session, u16, Background)> {
    let program = echo_server()?;
    let (session, port) = (Session::new(), free_port());
    let at = listen(port, 7);
    let flags = [flags, &["--listen", &at]].concat();
    let runtime = start(&session, &mut session.run(&flags, &program, &["7"]));
    Some((session, port, runtime))
}

#[test]
fn immediate_output_leaves_at_once() {
    let flags = ["--checkpoint-interval", "0", "--output", "immediate"];
    let Some((_session, port, _runtime)) = echoing(&flags) else { return };
    assert_eq!(echo(&mut connect(port), b"hello"), b"hello");
}

#[test]
fn what_came_in_one_life_is_nobody_elses_in_the_next() {
    let Some(program) = c_program("unread", Libc::Musl) else { return };
    for flags in
        [&["--checkpoint-interval", "0"][..], &["--checkpoint-interval", "0", "--record", "--output", "journaled"]]
    {
        let (session, port) = (Session::new(), free_port());
        let at = listen(port, 7);
        let how = [flags, &["--listen", &at]].concat();
        let mut runtime = start(&session, &mut session.run(&how, &program, &["7"]));
        let (mut first, mut second) = (connect(port), connect(port));
        first.write_all(b"of the first").unwrap();
        second.write_all(b"of the second, which stays unread").unwrap();
        // Until it waits with what the second sent.
        std::thread::sleep(Duration::from_millis(300));
        checkpoint(&session);
        runtime.0.kill().unwrap();
        runtime.wait();
        let resume = if flags.len() > 2 { &flags[..2] } else { flags };
        let _runtime = start(&session, session.on_store("resume").args(resume));
        let (mut third, mut fourth) = (connect(port), connect(port));
        third.write_all(b"the third").unwrap();
        fourth.write_all(b"the fourth").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        checkpoint(&session);
        let mut answer = [0; 9];
        third.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"the third");
        third.write_all(b".").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        checkpoint(&session);
        let mut answer = [0; 10];
        fourth.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "the fourth");
    }
}

#[test]
fn each_device_has_its_own_policy() {
    let still = ["--checkpoint-interval", "0"];
    let Some((session, port, _runtime)) = echoing(&[&still[..], &["--output", "network=immediate"]].concat()) else {
        return;
    };
    assert_eq!(echo(&mut connect(port), b"hello"), b"hello");
    assert!(!printed(&session).contains("accepted"), "it was printed, and no checkpoint contains it");
    checkpoint(&session);
    wait_until_printed(&session, "accepted");

    let flags = [&still[..], &["--output", "immediate", "--output", "network=held"]].concat();
    let Some((session, port, _runtime)) = echoing(&flags) else { return };
    let mut peer = connect(port);
    peer.write_all(b"hello").unwrap();
    wait_until_printed(&session, "accepted");
    assert!(is_silent(&mut peer), "a reply came that no checkpoint contains");
    checkpoint(&session);
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");

    // Of a recorded program: replies by the journal, what it prints by checkpoints.
    let flags = [&still[..], &["--record", "--output", "network=journaled"]].concat();
    let Some((session, port, mut runtime)) = echoing(&flags) else { return };
    let mut peer = connect(port);
    assert_eq!(echo(&mut peer, b"hello"), b"hello");
    assert!(!printed(&session).contains("accepted"), "it was printed, and no checkpoint contains it");
    runtime.0.kill().unwrap();
    runtime.wait();
    let flags = [&still[..], &["--output", "console=journaled"]].concat();
    let _runtime = start(&session, session.on_store("resume").args(flags));
    wait_until_printed(&session, "accepted");
    for wrong in ["tape=held", "console=soon", "later", "console="] {
        let output = session.output(session.on_store("resume").args(["--output", wrong]));
        assert_eq!(output.status.code(), Some(2), "{wrong}: {output:?}");
    }
}

#[test]
fn after_a_kill_the_listener_is_open_and_the_connection_is_reset() {
    let Some((session, port, mut runtime)) = echoing(OFTEN) else { return };
    let mut peer = connect(port);
    assert_eq!(echo(&mut peer, b"before"), b"before");
    checkpoint(&session);
    runtime.0.kill().unwrap();
    runtime.wait();
    let gone = peer.read(&mut [0; 8]);
    assert!(matches!(gone, Ok(0) | Err(_)), "the connection outlives its runtime: {gone:?}");
    // Without being told where to listen.
    let _runtime = start(&session, session.on_store("resume").args(OFTEN));
    assert_eq!(echo(&mut connect(port), b"after"), b"after");
    wait_until_printed(&session, "ended -1 104\naccepted\n");
    let printed = printed(&session);
    assert!(printed.starts_with("bind 0 0\nlisten 0 0\naccepted\nended -1 104\naccepted\n"), "{printed}");
}

/// Kills the process of the only program, and waits until it has another one.
pub fn kill_process(session: &Session) {
    let status = session.wait_until("it has a process", |status| status["domains"][0]["pid"].is_i64());
    let old = status["domains"][0]["pid"].as_i64().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(old).unwrap());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    session.wait_until("it has another process", |status| {
        status["domains"][0]["pid"].as_i64().is_some_and(|new| new != old)
    });
}

#[test]
fn a_process_that_dies_while_it_waits_keeps_its_connection() {
    let Some((session, port, _runtime)) = echoing(OFTEN) else { return };
    let mut peer = connect(port);
    assert_eq!(echo(&mut peer, b"before"), b"before");
    kill_process(&session);
    assert_eq!(echo(&mut peer, b"after"), b"after");
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
fn nothing_is_reached_that_was_not_granted() {
    let Some(program) = echo_server() else { return };
    let port = free_port();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = outside.local_addr().unwrap().port();
    // Neither.
    let session = Session::new();
    let output = session.output(&mut session.run(&[], &program, &["7"]));
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b"bind -1 13\n"[..]));
    let output = session.output(&mut session.run(&[], &program, &["7", &to.to_string()]));
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b"connect -1 13\n"[..]));
    // Another port, another address.
    let flags = ["--listen", &listen(port, 8), "--connect", &format!("127.0.0.2:{to}")];
    let output = session.output(&mut session.run(&flags, &program, &["7", &to.to_string()]));
    assert_eq!(&*output.stdout, b"connect -1 13\n");
    let output = session.output(&mut session.run(&flags, &program, &["7"]));
    assert_eq!(&*output.stdout, b"bind -1 13\n");
    outside.set_nonblocking(true).unwrap();
    assert_eq!(outside.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody came");
}

#[test]
fn a_program_connects_where_it_was_let() {
    let Some(program) = echo_server() else { return };
    let session = Session::new();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = outside.local_addr().unwrap().port();
    let port = free_port();
    let (at, outside_at) = (listen(port, 7), format!("localhost:{to}"));
    let flags = [OFTEN, &["--listen", &at, "--connect", &outside_at]].concat();
    let _runtime = start(&session, &mut session.run(&flags, &program, &["7", &to.to_string()]));
    let (mut peer, _) = outside.accept().unwrap();
    let mut asked = [0; 4];
    peer.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"ping");
    // It waits for all four bytes.
    peer.write_all(b"po").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    peer.write_all(b"ng").unwrap();
    assert_eq!(peer.read(&mut asked).unwrap(), 0);
    assert_eq!(echo(&mut connect(port), b"hello"), b"hello");
    wait_until_printed(&session, "connect 0 0\nsend 4 0\nanswer 4 0\nbind 0 0\n");
}

#[test]
fn one_write_that_waits_sends_all_of_it() {
    let Some(program) = echo_server() else { return };
    for interval in ["50ms", "0"] {
        let session = Session::new();
        let port = free_port();
        let flags = ["--checkpoint-interval", interval, "--listen", &listen(port, 7)];
        let _runtime = start(&session, &mut session.run(&flags, &program, &["7"]));
        let mut peer = connect(port);
        peer.write_all(b"B").unwrap();
        let (mut got, mut piece) = (0_usize, vec![0; 64 << 10]);
        while got < 4 << 20 {
            let count = peer.read(&mut piece).unwrap();
            assert!(count > 0, "it ended after {got} bytes");
            for (i, byte) in piece[..count].iter().enumerate() {
                assert_eq!(usize::from(*byte), (got + i) % 251, "byte {}", got + i);
            }
            got += count;
            // The last of it may be less than what hastens a checkpoint that nobody asks for.
            if interval == "0" && got > (4 << 20) - (256 << 10) {
                checkpoint(&session);
            }
        }
        drop(peer);
        checkpoint(&session);
        wait_until_printed(&session, "burst");
        assert!(printed(&session).contains("burst 4194304 0\n"), "{}", printed(&session));
    }
}

/// The error of a command that must be refused.
fn refused(session: &Session, command: &mut Command) -> String {
    let output = session.output(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

#[test]
fn a_port_in_use_is_told_and_nothing_is_lost() {
    let Some(program) = echo_server() else { return };
    let session = Session::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let at = listen(port, 7);
    let flags = [OFTEN, &["--listen", &at]].concat();
    let text = refused(&session, &mut session.run(&flags, &program, &["7"]));
    assert!(text.contains(&format!("127.0.0.1:{port} cannot be listened at: the port is in use")), "{text}");
    assert!(!session.store().exists(), "a run that was refused leaves nothing");
    drop(taken);
    let mut runtime = start(&session, &mut session.run(&flags, &program, &["7"]));
    assert_eq!(echo(&mut connect(port), b"first"), b"first");
    checkpoint(&session);
    runtime.0.kill().unwrap();
    runtime.wait();
    // At resume the port is somebody else's.
    let taken = TcpListener::bind(address(port)).unwrap();
    let before = std::fs::read(session.store().join("pages")).unwrap().len();
    let text = refused(&session, &mut session.on_store("resume"));
    assert!(text.contains("the port is in use") && text.contains("--listen ADDR:PORT=7"), "{text}");
    assert_eq!(std::fs::read(session.store().join("pages")).unwrap().len(), before);
    // It can be given another one, which stays.
    let other = free_port();
    let at = listen(other, 7);
    let flags = [OFTEN, &["--listen", &at]].concat();
    let mut runtime = start(&session, session.on_store("resume").args(flags));
    assert_eq!(echo(&mut connect(other), b"second"), b"second");
    checkpoint(&session);
    runtime.0.kill().unwrap();
    runtime.wait();
    let _runtime = start(&session, session.on_store("resume").args(OFTEN));
    assert_eq!(echo(&mut connect(other), b"third"), b"third");
    drop(taken);
}

#[test]
fn grants_that_cannot_be_are_told() {
    let Some(program) = echo_server() else { return };
    let session = Session::new();
    let here = "127.0.0.1:7001";
    for (flags, what) in [
        (&["--listen", "7001"][..], "no IPv4 address"),
        (&["--listen", "127.0.0.1:7001=x"], "no port"),
        (&["--listen", "127.0.0.1:0"], "port 0"),
        (&["--connect", "127.0.0.1"], "HOST:PORT"),
        (&["--listen", here, "--listen", here], "granted twice"),
        (&["--listen", here, "--listen", "127.0.0.1:7002=7001"], "granted twice"),
        (&["--connect", here, "--connect", here], "granted twice"),
    ] {
        let text = refused(&session, &mut session.run(flags, &program, &["7"]));
        assert!(text.contains(what), "{flags:?}: {text}");
        assert!(!session.store().exists(), "{flags:?}");
    }
}

#[test]
fn a_program_that_is_added_to_a_running_store_may_listen() {
    let Some(program) = echo_server() else { return };
    let session = Session::new();
    let (one, two) = (free_port(), free_port());
    let at = listen(one, 7);
    let flags = [OFTEN, &["--listen", &at]].concat();
    let _first = start(&session, &mut session.run(&flags, &program, &["7"]));
    assert_eq!(echo(&mut connect(one), b"one"), b"one");
    // Each has its own ports.
    let _second = start(&session, &mut session.run(&["--listen", &listen(two, 7)], &program, &["7"]));
    assert_eq!(echo(&mut connect(two), b"two"), b"two");
    assert_eq!(echo(&mut connect(one), b"one"), b"one");
}

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

#[test]
fn peers_that_do_not_read_or_come_and_go_take_nothing_from_others() {
    peers_come_and_go(&[], &linux_program("kv-service"), 50_000);
}

/// `big`: bytes of a value that much is asked for.
pub fn peers_come_and_go(flags: &[&str], program: &Path, big: usize) {
    let session = Session::new();
    let port = free_port();
    let at = listen(port, 7000);
    let flags = [OFTEN, &["--listen", &at], flags].concat();
    let _runtime = session.background(&mut session.run(&flags, program, &["7000"]));
    let mut client = Client::new(port);
    assert_eq!(client.ask(&format!("set big {}\n", "y".repeat(big))).as_deref(), Some("ok 1"));
    // They ask for much and read nothing.
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut peer = connect(port);
        nix::sys::socket::setsockopt(&peer, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
        peer.set_nonblocking(true).unwrap();
        for _ in 0..300 {
            if peer.write_all(b"get big\n").is_err() {
                break;
            }
        }
        slow.push(peer);
    }
    for n in 0..20 {
        assert_eq!(client.ask(&format!("set k {n}\n")), Some(format!("ok {}", n + 2)));
    }
    let held = session.status()["domains"][0]["held_output"].as_u64().unwrap();
    assert!(held <= 4 * (256 << 10), "{held} bytes are held");
    // They come and go, say half of something, reset.
    for n in 0..500_u32 {
        let mut peer = connect(port);
        match n % 4 {
            0 => {}
            1 => peer.write_all(b"get k").unwrap(),
            2 => {
                let _ = peer.write_all(b"get k\nget k\n");
                let _ = peer.shutdown(std::net::Shutdown::Write);
            }
            _ => reset(peer),
        }
    }
    assert_eq!(client.ask("get k\n").as_deref(), Some("is 19"));
    drop(slow);
    assert_eq!(client.ask("size\n").as_deref(), Some("2"));
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

/// What `native_network` says, up to the restart in its midst and after it.
const KEYS: [&str; 2] = [
    "accept, not granted: 28013
accept at no port: 9
connect, not granted: 28013
connect where nobody is: 28111
connect to no address: 9
connect: 0
send without the right: 5
close without the right: 5
receive nothing: 9
sent: 1
received: 2
shut down: 0
send after that: 21
received at the end: 0
close: 0
receive from a closed one: 21
close again: 0
accept that cannot wait: 12
accept: 0
from this host: 1
receive from one that is reset: 21
accept: 0
",
    "receive over a restart: 21
shut down after it: 21
accept after it: 0
received: 3
",
];

#[test]
fn network_keys_reach_what_was_granted_and_end_with_a_restart() {
    let Some(program) = native_c_program("native_network") else { return };
    let session = Session::new();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let (open, port, closed) = (outside.local_addr().unwrap().port(), free_port(), free_port());
    let places = [listen(port, 7), format!("127.0.0.1:{open}"), format!("127.0.0.1:{closed}")];
    let grants = ["--native", "--listen", &places[0], "--connect", &places[1], "--connect", &places[2]];
    let flags = [OFTEN, &grants[..]].concat();
    let args = ["7".into(), open.to_string(), closed.to_string()];
    let args = args.each_ref().map(String::as_str);
    let mut runtime = start(&session, &mut session.run(&flags, &program, &args));
    let (mut peer, _) = outside.accept().unwrap();
    let mut byte = [0];
    peer.read_exact(&mut byte).unwrap();
    peer.write_all(b"yz").unwrap();
    assert_eq!(peer.read(&mut byte).unwrap(), 0, "it was told of the end");
    drop(peer);
    reset(connect(port));
    let mut held = connect(port);
    wait_until_printed(&session, KEYS[0]);
    checkpoint(&session);
    assert_eq!(printed(&session), KEYS[0]);
    runtime.signal(nix::sys::signal::Signal::SIGKILL);
    runtime.wait();
    assert!(!matches!(held.read(&mut byte), Ok(1..)), "nothing was sent");
    let mut resumed = start(&session, session.on_store("resume").args(OFTEN));
    let mut anew = connect(port);
    anew.write_all(b"abc").unwrap();
    wait_until_printed(&session, &KEYS.concat());
    assert_eq!(resumed.wait().code(), Some(0));
    session.assert_sound();
}

/// Resident bytes of a process that belong to it alone: the frames of programs are shared memory and not among them.
fn private_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Has the end of a connection be a reset.
pub fn reset(peer: TcpStream) {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&peer, nix::sys::socket::sockopt::Linger, &at_once).unwrap();
}

/// Hostile peers, so many that come and go and so many that stay, beside a client that behaves: it is served all the time, and the
/// runtime's memory does not grow with them. Of a service: flags, the program, bytes of a value that much is asked for.
pub fn besieged(passing: u32, staying: usize, (flags, program, big): (&[&str], &Path, usize)) {
    let session = Session::new();
    let port = free_port();
    let at = listen(port, 7000);
    let flags = [OFTEN, &["--listen", &at], flags].concat();
    let runtime = session.background(&mut session.run(&flags, program, &["7000"]));
    let mut client = Client::new(port);
    assert_eq!(client.ask(&format!("set big {}\n", "y".repeat(big))).as_deref(), Some("ok 1"));
    let mut set = 1;
    let mut serves = |client: &mut Client| {
        set += 1;
        let asked = Instant::now();
        assert_eq!(client.ask(&format!("set k {set}\n")), Some(format!("ok {set}")));
        asked.elapsed()
    };
    serves(&mut client);
    // They say half of a request and no more, a byte at a time; ask for much and never read; say nothing.
    let mut slow = Vec::new();
    for n in 0..staying {
        let mut peer = connect(port);
        nix::sys::socket::setsockopt(&peer, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
        peer.set_nonblocking(true).unwrap();
        let said = match n % 3 {
            0 => b"set never ".to_vec(),
            // Of the first ones, more than the host takes off the runtime.
            1 => b"get big\n".repeat(if n < 30 { 10_000_000 } else { 1_000_000 } / big),
            _ => Vec::new(),
        };
        let _ = peer.write_all(&said);
        slow.push(peer);
    }
    serves(&mut client);
    let before = private_bytes(runtime.0.id());
    let mut longest = Duration::ZERO;
    for n in 0..passing {
        let mut peer = connect(port);
        match n % 5 {
            0 => {}
            1 => peer.write_all(b"get k").unwrap(),
            2 => {
                // Half-open: it sends no more, and waits for nothing.
                let _ = peer.write_all(b"get k\nget k\n");
                let _ = peer.shutdown(std::net::Shutdown::Write);
            }
            3 => reset(peer),
            _ => {
                let _ = peer.write_all(b"get big\n");
                reset(peer);
            }
        }
        if n % 50 == 0 {
            let peer = &mut slow[n as usize / 50 % staying];
            let _ = peer.write_all(b"x");
            longest = longest.max(serves(&mut client));
        }
    }
    let after = private_bytes(runtime.0.id());
    let held = session.status()["domains"][0]["held_output"].as_u64().unwrap();
    eprintln!(
        "{} KiB before, {} KiB after {passing} connections; {} KiB held; the longest answer took {longest:?}",
        before >> 10,
        after >> 10,
        held >> 10
    );
    assert!(held > 0, "nobody leaves anything unread");
    assert!(held <= (staying as u64 + 10) * (256 << 10), "{held} bytes are held");
    assert!(after < before + (16 << 20) + held, "the runtime grew from {before} to {after} bytes");
    assert!(longest < Duration::from_secs(10), "an answer took {longest:?}");
    drop(slow);
    serves(&mut client);
    assert_eq!(client.ask("size\n").as_deref(), Some("2"));
    let output = session.output(&mut session.on_store("stop"));
    assert!(output.status.success());
    session.assert_sound();
}

#[test]
fn a_siege_takes_bounded_memory_and_no_service() {
    besieged(1000, 60, (&[], &linux_program("kv-service"), 10_000));
}

#[test]
#[ignore = "takes a minute"]
fn a_long_siege() {
    besieged(10_000, 600, (&[], &linux_program("kv-service"), 10_000));
    besieged(10_000, 600, (&["--native"], &native_program("hub"), 2500));
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
