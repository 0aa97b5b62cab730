//! The sandbox of a native domain's process: each rule of its system-call policy both ways, and what Linux says of the process.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Session, TIMEOUT, native_program, wait_for};
use serde_json::Value;

/// What the prisoner's keeper saw.
const SEEN: &str = "\
from its own code: 480 of 480 system calls are refused
by the interface of 32-bit programs: refused: true
inside the stub: 474 of the 474 others are refused
inside the stub: sched_yield: allowed, as it is to be: true
inside the stub: arch_prctl: allowed, as it is to be: true
inside the stub: arch_prctl(ARCH_MAP_VDSO_64): refused, as it is to be: true
inside the stub: arch_prctl(ARCH_CET_STATUS): refused, as it is to be: true
inside the stub: arch_prctl of less than ARCH_SET_GS: refused, as it is to be: true
inside the stub: futex on the control pages: allowed, as it is to be: true
inside the stub: futex elsewhere: refused, as it is to be: true
inside the stub: madvise(DONTNEED) in the window: allowed, as it is to be: true
inside the stub: madvise(FREE) in the window: refused, as it is to be: true
inside the stub: madvise(DONTNEED) of the control pages: refused, as it is to be: true
inside the stub: madvise(DONTNEED) of the stub: refused, as it is to be: true
inside the stub: sched_yield by the x32 interface: refused, as it is to be: true
inside the stub: rt_sigreturn: allowed: true
inside the stub: exit_group: ends the process: true
sandbox: done
";

/// The process of the first domain of a program.
fn process(session: &Session, program: &str) -> u64 {
    let output = session.output(session.on_store("ls").arg("--json"));
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let banks = listing["bank"]["banks"].as_array().unwrap();
    let sold = banks.iter().find(|bank| bank["program"] == program).unwrap()["sold"].as_array().unwrap();
    sold.iter().find(|object| object["program"] == program).unwrap()["pid"].as_u64().expect("it has a process")
}

/// That `/proc` shows a process with nothing but its memory, and no more of that than the domain's.
fn assert_bare(pid: u64) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let status = read("status");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t1"] {
        assert!(status.contains(line), "{line} is missing:\n{status}");
    }
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().collect();
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(read("environ"), "");
    let limits = read("limits");
    let nothing_of = ["file size", "core file size", "processes", "open files", "locked memory", "msgqueue size"];
    for what in nothing_of {
        let line = limits.lines().find(|line| line.starts_with(&format!("Max {what} "))).unwrap();
        let values: Vec<&str> = line.split_whitespace().skip(1 + what.split(' ').count()).take(2).collect();
        assert_eq!(values, ["0", "0"], "{line}");
    }
    for line in read("maps").lines() {
        let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        // The window, the control pages and the invocation page, the stub; and what the kernel shows to everybody.
        let known = [(0x1_0000, 1 << 40), (0x6000_0000_0000, 0x6000_0020_0000), (0x7000_0000_0000, 0x7000_0010_0000)];
        let known = known.iter().any(|(from, to)| (*from..*to).contains(&start));
        assert!(known || line.ends_with("[vsyscall]"), "a domain's process maps {line}");
    }
}

#[test]
fn a_domain_can_ask_linux_for_nothing_but_what_the_stub_needs() {
    let session = Session::new();
    let out = session.place().join("out");
    // Without captures: who jumps into the stub and is frozen there goes on as if from an invocation.
    let flags = ["--native", "--name", "sandbox", "--checkpoint-interval", "0", "--output", "immediate"];
    let mut command = session.run(&flags, &native_program("sandbox"), &["wait"]);
    let mut runtime = command.stdin(Stdio::piped()).stdout(File::create(&out).unwrap()).spawn().unwrap();
    let deadline = Instant::now() + 3 * TIMEOUT;
    let said = || fs::read_to_string(&out).unwrap();
    while !said().ends_with("sandbox: done\n") && runtime.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(said(), SEEN);
    assert_bare(process(&session, "sandbox"));
    drop(runtime.stdin.take());
    assert_eq!(wait_for(&mut runtime).code(), Some(0));
    session.assert_sound();
}
