//! Hostile peers: what they cost, and that they take nothing from others.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Session, linux_program, native_program};
use crate::network::{OFTEN, connect, free_port, listen};
use crate::service::Client;

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
