//! The network: what a program was granted, what leaves when, and what is left of it over kills.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Background, Libc, Session, TIMEOUT, c_program, native_c_program};
use crate::siege::reset;

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
pub fn compare(name: &str, libc: Libc, flags: &[&str]) {
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
