//! `docs/linux.md` says what the table of calls says.

use crate::linux::{calls, names};
use std::fmt::Write;
use std::path::Path;

/// Calls that people look for and do not find.
const MISSED: &[(&str, &[&str])] = &[
    (
        "processes and threads",
        &["clone", "clone3", "fork", "vfork", "execve", "execveat", "rseq", "ptrace", "set_thread_area"],
    ),
    (
        "sockets",
        &[
            "socket",
            "socketpair",
            "connect",
            "accept",
            "accept4",
            "bind",
            "listen",
            "sendto",
            "recvfrom",
            "sendmsg",
            "recvmsg",
            "shutdown",
            "getsockopt",
            "setsockopt",
            "getsockname",
            "getpeername",
        ],
    ),
    (
        "waiting for many things",
        &["epoll_create1", "epoll_ctl", "epoll_wait", "signalfd4", "timerfd_create", "inotify_init1", "io_uring_setup"],
    ),
    ("timers by handle", &["timer_create", "timer_settime", "timer_gettime", "timer_delete"]),
    ("memory", &["mincore", "memfd_create", "shmget", "userfaultfd", "pkey_alloc", "process_vm_readv"]),
    ("privilege", &["setuid", "setgid", "chroot", "mount", "unshare", "bpf", "seccomp", "reboot"]),
];

fn text() -> String {
    let mut out = String::from(
        "# System calls of the `linux` personality\n\n\
         Generated from the table in `domains/src/linux`; `SEMPER_BLESS=1 cargo test -p semper-domains docs` writes it anew.\n\n\
         A call that is not served answers `ENOSYS` and is named once in the log. A call that fails has changed nothing,\n\
         unless a note says otherwise. The vsyscall page of old programs works where the host has it: its calls are served as\n\
         `gettimeofday`, `time` and `getcpu`. There is no vDSO.\n\n\
         ## Served\n\n| call | number | limits |\n| --- | --- | --- |\n",
    );
    let mut served: Vec<_> = calls::all().collect();
    served.sort_by_key(|c| c.name);
    for call in &served {
        let _ = writeln!(out, "| `{}` | {} | {} |", call.name, call.number, call.note);
    }
    let _ = write!(out, "\n{} calls.\n\n## Not served\n\n", served.len());
    for (topic, names) in MISSED {
        let names: Vec<_> =
            names.iter().filter(|n| !served.iter().any(|c| c.name == **n)).map(|n| format!("`{n}`")).collect();
        if !names.is_empty() {
            let _ = writeln!(out, "* {topic}: {}", names.join(", "));
        }
    }
    out.push_str("* and every call that is in neither list.\n");
    out
}

#[test]
fn docs_list_what_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/linux.md");
    let wanted = text();
    if std::env::var_os("SEMPER_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/linux.md is out of date; run this test with SEMPER_BLESS=1");
}

#[test]
fn what_is_listed_as_missing_exists() {
    let all: Vec<_> = (0..512).filter_map(names::of).collect();
    for (_, names) in MISSED {
        for name in *names {
            assert!(all.contains(name), "{name} is no call");
        }
    }
}
