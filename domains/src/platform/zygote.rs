//! Where processes come from: a small clean program, forked in about 70 us, with nothing of the runtime in it.

use super::PlatformError;
use crate::abi::{SpawnReply, SpawnRequest};
use nix::cmsg_space;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, setsockopt,
    socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// The stub's image, built by `build.rs`.
static STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub"));

/// How long a new process may take to be set up before it is given up.
const SPAWN_TIMEOUT_SECONDS: i64 = 10;

/// A fresh process, set up and waiting for its turn.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub pid: i32,
    /// Signals and death of exactly this process.
    pub pidfd: OwnedFd,
    /// Its userfaultfd; the reason if there is none.
    pub uffd: Result<OwnedFd, nix::errno::Errno>,
}

/// Forks domain processes on request. If it dies, its processes die with it, and the next request starts another.
#[derive(Debug, Default)]
pub struct Zygote {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    socket: Option<OwnedFd>,
    token: u64,
}

impl Zygote {
    /// Makes a process that maps `memory` and `control`.
    ///
    /// # Errors
    /// When the zygote cannot be started, or the process cannot be set up.
    pub fn spawn(
        &self,
        memory: BorrowedFd<'_>,
        control: BorrowedFd<'_>,
        want_uffd: bool,
    ) -> Result<Spawned, PlatformError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match line.ask(memory, control, want_uffd) {
            Err(PlatformError::System { .. }) => {
                line.socket = None;
                line.ask(memory, control, want_uffd)
            }
            other => other,
        }
    }
}

impl Line {
    fn ask(
        &mut self,
        memory: BorrowedFd<'_>,
        control: BorrowedFd<'_>,
        want_uffd: bool,
    ) -> Result<Spawned, PlatformError> {
        if self.socket.is_none() {
            self.socket = Some(start()?);
        }
        let socket = self.socket.as_ref().map(AsRawFd::as_raw_fd).unwrap_or_default();
        self.token += 1;
        let request = SpawnRequest { token: self.token, want_uffd: u32::from(want_uffd), pad: 0 };
        let mut bytes = [0u8; size_of::<SpawnRequest>()];
        bytes[..8].copy_from_slice(&request.token.to_ne_bytes());
        bytes[8..12].copy_from_slice(&request.want_uffd.to_ne_bytes());
        let fds = [memory.as_raw_fd(), control.as_raw_fd()];
        sendmsg::<()>(
            socket,
            &[IoSlice::new(&bytes)],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(PlatformError::errno("ask the zygote"))?;
        loop {
            let (reply, uffd) = receive(socket)?;
            if reply.token != self.token {
                continue;
            }
            if reply.errno != 0 {
                let source = std::io::Error::from_raw_os_error(reply.errno.cast_signed());
                return Err(PlatformError::SetUp { step: reply.step, source });
            }
            let pid = reply.pid.cast_signed();
            let pidfd = super::process::pidfd_open(pid).map_err(PlatformError::system("pidfd_open"))?;
            let uffd = uffd.ok_or(nix::errno::Errno::from_raw(reply.uffd_errno.cast_signed()));
            return Ok(Spawned { pid, pidfd, uffd });
        }
    }
}

fn receive(socket: RawFd) -> Result<(SpawnReply, Option<OwnedFd>), PlatformError> {
    let mut bytes = [0u8; size_of::<SpawnReply>()];
    let mut space = cmsg_space!([RawFd; 2]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(PlatformError::errno("hear from the zygote"))?;
    let length = message.bytes;
    let mut uffd = None;
    for item in message.cmsgs().map_err(PlatformError::errno("hear from the zygote"))? {
        if let ControlMessageOwned::ScmRights(fds) = item {
            for fd in fds {
                // SAFETY: the kernel just made this descriptor for us alone.
                uffd = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if length != size_of::<SpawnReply>() {
        let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the zygote is gone");
        return Err(PlatformError::System { what: "hear from the zygote", source });
    }
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let token = u64::from(word(0)) | u64::from(word(4)) << 32;
    Ok((SpawnReply { token, pid: word(8), errno: word(12), step: word(16), uffd_errno: word(20) }, uffd))
}

/// Starts a zygote from a memfd. The thread that starts it lives as long as it does, since Linux ties "parent died" to the thread.
fn start() -> Result<OwnedFd, PlatformError> {
    let memfd = memfd_create(c"semper-stub", MFdFlags::MFD_CLOEXEC).map_err(PlatformError::errno("memfd_create"))?;
    let mut file = File::from(memfd);
    file.write_all(STUB).map_err(PlatformError::system("write the stub"))?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(PlatformError::errno("socketpair"))?;
    setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::new(SPAWN_TIMEOUT_SECONDS, 0))
        .map_err(PlatformError::errno("setsockopt"))?;
    let (tell, told) = mpsc::channel();
    let spawn = move || {
        let mut command = Command::new(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()));
        // A group of its own: the terminal's interrupt is for the runtime, which stops the domains in order.
        command.arg0("semper-domain").env_clear().current_dir("/").process_group(0);
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        drop(command);
        match child {
            Ok(mut child) => {
                let _ = tell.send(Ok(()));
                let _ = child.wait();
            }
            Err(e) => {
                let _ = tell.send(Err(e));
            }
        }
    };
    std::thread::Builder::new().name("zygote".into()).spawn(spawn).map_err(PlatformError::system("start a thread"))?;
    match told.recv_timeout(Duration::from_secs(10)) {
        Ok(Ok(())) => Ok(ours),
        Ok(Err(e)) => Err(PlatformError::System { what: "start the zygote", source: e }),
        Err(_) => Err(PlatformError::System { what: "start the zygote", source: std::io::ErrorKind::TimedOut.into() }),
    }
}
