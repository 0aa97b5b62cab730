//! Many connections served by one native domain, `hub` of the examples: each gets what is its own, whatever the others and the machine do.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use crate::harness::{Background, Session, native_c_program, native_program, sigkill};
use crate::network::{OFTEN, checkpoint, connect, free_port, listen, printed, start, wait_until_printed};
use crate::replay::{copy, replay, succeeds};
use crate::service::{Client, large_answers_come, speaks_redis, storm, storm_with};
use crate::siege::{besieged, peers_come_and_go};

const NATIVE: &[&str] = &["--native"];
const NEVER: &[&str] = &["--output", "journaled", "--checkpoint-interval", "0"];

/// The service at a port of this host.
fn hub(session: &Session, port: u16) -> Background {
    let at = listen(port, 7000);
    let flags = [OFTEN, NATIVE, &["--listen", &at]].concat();
    session.background(&mut session.run(&flags, &native_program("hub"), &["7000"]))
}

#[test]
fn many_clients_get_each_its_own_answers() {
    let (session, port) = (Session::new(), free_port());
    let _runtime = hub(&session, port);
    std::thread::scope(|scope| {
        for client in 0..40_u32 {
            scope.spawn(move || {
                let mut stream = BufReader::new(connect(port));
                let mut answer = String::new();
                for round in 0..30_u32 {
                    // Two in one piece, and one in two.
                    let value = format!("{client}-{round}-{}", "x".repeat((client * round) as usize));
                    let set = format!("set {client} {value}\nget {client}\nget ");
                    stream.get_mut().write_all(set.as_bytes()).unwrap();
                    stream.get_mut().write_all(format!("{client}\n").as_bytes()).unwrap();
                    answer.clear();
                    (0..3).for_each(|_| assert!(stream.read_line(&mut answer).unwrap() > 0));
                    let (done, got) = answer.split_once('\n').unwrap();
                    assert!(done.starts_with("ok "), "{done}");
                    assert_eq!(got, format!("is {value}\n").repeat(2));
                }
            });
        }
    });
    let mut client = Client::new(port);
    assert_eq!(client.ask("size\n").as_deref(), Some("40"));
    assert_eq!(client.ask("set last 1\n").as_deref(), Some("ok 1201"));
}

#[test]
fn it_answers_clients_of_redis() {
    let (session, port) = (Session::new(), free_port());
    let _runtime = hub(&session, port);
    speaks_redis(port);
}

#[test]
fn large_answers_come_in_pieces_and_a_request_that_is_too_long_ends_its_connection() {
    let (session, port) = (Session::new(), free_port());
    let _runtime = hub(&session, port);
    large_answers_come(port);
    let mut client = Client::new(port);
    assert_eq!(client.ask("size\n").as_deref(), Some("1"));
    let mut peer = connect(port);
    peer.write_all(&[b'x'; 20_000]).unwrap();
    assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(client.ask("size\n").as_deref(), Some("1"));
    assert!(client.stream.is_some(), "it is the same connection");
}

#[test]
fn nothing_that_was_answered_together_is_lost_over_any_number_of_kills() {
    storm(10, NATIVE, &native_program("hub"));
}

#[test]
fn nothing_that_was_answered_together_is_lost_without_a_checkpoint_where_it_is_recorded() {
    storm_with(10, NEVER, &["--native", "--record"], &native_program("hub"));
}

#[test]
fn peers_that_do_not_read_or_come_and_go_take_nothing_from_those_beside_them() {
    peers_come_and_go(NATIVE, &native_program("hub"), 2500);
}

#[test]
fn a_siege_of_one_domain_takes_bounded_memory_and_no_service() {
    besieged(600, 60, (NATIVE, &native_program("hub"), 2500));
}

#[test]
fn after_a_restart_all_connections_are_gone_and_nothing_of_them_is_anybody_elses() {
    let (session, port) = (Session::new(), free_port());
    let mut runtime = hub(&session, port);
    for life in 0..3 {
        let mut client = Client::new(port);
        assert_eq!(client.ask(&format!("set life {life}\n")), Some(format!("ok {}", life + 1)));
        // Each has said half of something, which the domain keeps.
        let mut halves: Vec<_> = (0..20).map(|_| connect(port)).collect();
        halves.iter_mut().for_each(|half| half.write_all(b"set life wro").unwrap());
        let deadline = Instant::now() + Duration::from_millis(200);
        while Instant::now() < deadline {
            assert_eq!(client.ask("get life\n"), Some(format!("is {life}")));
        }
        checkpoint(&session);
        assert!(sigkill(&mut runtime.0));
        for mut half in halves {
            let gone = half.read(&mut [0]);
            assert!(matches!(gone, Ok(0) | Err(_)), "the connection outlives its runtime: {gone:?}");
        }
        runtime = session.background(session.on_store("resume").args(OFTEN));
        // As many new ones, one of which gets each number that was.
        for _ in 0..25 {
            let mut anew = BufReader::new(connect(port));
            anew.get_mut().write_all(b"get life\n").unwrap();
            let mut answer = String::new();
            anew.read_line(&mut answer).unwrap();
            assert_eq!(answer, format!("is {life}\n"));
        }
    }
    assert!(sigkill(&mut runtime.0));
    session.assert_sound();
}

#[test]
fn who_dribbles_or_half_closes_is_answered_and_holds_nobody_up() {
    let (session, port) = (Session::new(), free_port());
    let _runtime = hub(&session, port);
    let mut client = Client::new(port);
    let mut slow = connect(port);
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nslowl\r\n" {
        slow.write_all(&[*byte]).unwrap();
        assert!(client.ask("set other x\n").is_some_and(|answer| answer.starts_with("ok ")));
    }
    let mut answer = [0; 5];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n");
    // It is answered what it asked before it ended, and then told of the end.
    slow.write_all(b"get k\nget k\n").unwrap();
    slow.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    slow.read_to_string(&mut all).unwrap();
    assert_eq!(all, "is slowl\nis slowl\n");
}

#[test]
fn a_copy_of_what_was_recorded_comes_to_the_same() {
    let (session, port) = (Session::new(), free_port());
    let at = listen(port, 7000);
    let flags = [NEVER, &["--native", "--record", "--listen", &at]].concat();
    let mut runtime = session.background(&mut session.run(&flags, &native_program("hub"), &["7000"]));
    let clients: Vec<_> = (0..8_u32)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::new(port);
                for round in 0..50 {
                    assert!(client.ask(&format!("set {number} {round}\n")).is_some());
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(sigkill(&mut runtime.0));
    let other = Session::new();
    copy(&session.store(), &other.store());
    let told = succeeds(&replay(&other, &[]));
    assert!(told.contains("steps told again"), "{told}");
    // It goes on as another world, beside nobody, at another port.
    let elsewhere = free_port();
    let mut resumed = other.background(other.on_store("resume").args(["--listen", &listen(elsewhere, 7000)]));
    let mut client = Client::new(elsewhere);
    for number in 0..8 {
        assert_eq!(client.ask(&format!("get {number}\n")).as_deref(), Some("is 49"));
    }
    assert_eq!(client.ask("set last 1\n").as_deref(), Some("ok 401"));
    assert!(sigkill(&mut resumed.0));
    other.assert_sound();
}

/// What `native_parcels` says, up to the restart in its midst and after it.
const PARCELS: [&str; 2] = [
    "not granted: 28013
no port: 9
no such port: 9
no such wait: 9
without the right: 5
that cannot wait: 12
too large: 2
only sends: 0
and is told: 0
serve: 0
all of before are gone: 1
again: 0
parcels: 0
came: 1
broken strings: 9
sent: 0
answered: 1
gone: 1
after what there was room for: 1
to the other: 0
while another one waits: 18
waits over a restart: 1
",
    "after it: 0
all of before are gone: 1
another number: 1
sent: 0
",
];

#[test]
fn parcels_do_what_they_may_and_others_nothing() {
    let Some(program) = native_c_program("native_parcels") else { return };
    let (session, port) = (Session::new(), free_port());
    let flags = [OFTEN, &["--native", "--name", "helper"]].concat();
    let mut helps = session.background(&mut session.run(&flags, &program, &["helper"]));
    session.wait_until("the helper waits", |status| status["domains"][0]["name"] == "helper");
    let at = listen(port, 7);
    let flags = ["--native", "--key", "12=helper", "--listen", &at];
    let mut asks = start(&session, &mut session.run(&flags, &program, &["7"]));
    // It has been told that there is nobody.
    wait_until_printed(&session, "parcels: 0");
    let (mut one, mut two) = (connect(port), connect(port));
    let mut got = [0; 3];
    one.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"one", "nothing of a broken string was sent");
    one.write_all(b"!").unwrap();
    let mut good = String::new();
    two.read_to_string(&mut good).unwrap();
    assert_eq!(good, "good");
    // Of the one that was sent too much, some of it came, and then a reset.
    let mut all = Vec::new();
    assert_eq!(one.read_to_end(&mut all).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(!all.is_empty() && all.iter().all(|byte| *byte == b'y'), "{}", all.len());
    // The helper waits by the same key: it is the one who is told.
    wait_until_printed(&session, "while another one waits");
    let mut help = String::new();
    connect(port).read_to_string(&mut help).unwrap();
    assert_eq!(help, "help");
    let mut held = connect(port);
    wait_until_printed(&session, PARCELS[0]);
    checkpoint(&session);
    assert_eq!(printed(&session), PARCELS[0]);
    assert!(sigkill(&mut helps.0));
    asks.wait();
    let mut lost = Vec::new();
    let _ = held.read_to_end(&mut lost);
    assert_eq!(lost, b"lost", "it was sent once");
    let mut resumed = start(&session, session.on_store("resume").args(OFTEN));
    let mut there = String::new();
    connect(port).read_to_string(&mut there).unwrap();
    assert_eq!(there, "there");
    wait_until_printed(&session, PARCELS[1]);
    assert_eq!(printed(&session), PARCELS.concat());
    assert_eq!(resumed.wait().code(), Some(0));
    session.assert_sound();
}
