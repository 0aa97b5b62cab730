//! Where processes come from: a small clean program, forked in about 70 us, with nothing of the runtime in it.

use super::PlatformError;
use crate::abi::{
    LINUX, MAX_FDS, MAX_MAPPINGS, MappingRequest, NATIVE, RECORDED, RECORDED_NATIVE, SpawnReply, SpawnRequest,
};
use nix::cmsg_space;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, setsockopt,
    socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// The stub's image, built by `build.rs`.
static STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub"));

const _: () = assert!(size_of::<SpawnRequest>() == 24 + 32 * MAX_MAPPINGS, "no padding");

/// How long a new process may take to be set up before it is given up.
const SPAWN_TIMEOUT_SECONDS: i64 = 10;

/// A fresh process, set up and waiting for its turn.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub pid: i32,
    /// Signals and death of exactly this process.
    pub pidfd: OwnedFd,
    /// A userfaultfd for each mapping; the reason if there are none.
    pub uffds: Result<Vec<OwnedFd>, nix::errno::Errno>,
}

/// A run of a segment in the address space of a new process.
#[derive(Debug, Clone, Copy)]
pub struct MapRequest<'a> {
    /// The segment's memory.
    pub memory: BorrowedFd<'a>,
    /// First address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// First byte within the segment.
    pub offset: u64,
    /// PROT_* bits.
    pub protection: u32,
}

/// What a new process is to be.
#[derive(Debug, Clone, Copy)]
pub struct SpawnPlan<'a> {
    /// The control pages.
    pub control: BorrowedFd<'a>,
    /// What is mapped: at most [`MAX_MAPPINGS`].
    pub mappings: &'a [MapRequest<'a>],
    /// Whether it is a native domain.
    pub native: bool,
    /// Whether its inputs are recorded.
    pub recorded: bool,
    /// Whether it is told by the kernel what the processor is.
    pub asks: bool,
}

impl SpawnPlan<'_> {
    /// How many userfaultfds there are for each mapping: a Linux program's one window has a second, by which what it does not
    /// write leaves the scan.
    fn uffds_each(&self) -> u32 {
        if self.native { 1 } else { 2 }
    }

    const fn kind(&self) -> u32 {
        match (self.native, self.recorded) {
            (true, false) => NATIVE,
            (true, true) => RECORDED_NATIVE,
            (false, true) => RECORDED,
            (false, false) => LINUX,
        }
    }
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
    /// Makes a process.
    ///
    /// # Errors
    /// When the zygote cannot be started, or the process cannot be set up.
    pub fn spawn(&self, plan: &SpawnPlan<'_>) -> Result<Spawned, PlatformError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match line.ask(plan) {
            // What the machine lacks for a moment is no reason to end all processes there are, which go with the zygote.
            Err(error) if error.may_pass() => Err(error),
            Err(PlatformError::System { .. }) => {
                line.socket = None;
                line.ask(plan)
            }
            other => other,
        }
    }
}

impl Line {
    fn ask(&mut self, plan: &SpawnPlan<'_>) -> Result<Spawned, PlatformError> {
        if self.socket.is_none() {
            self.socket = Some(start()?);
        }
        // One for each userfaultfd, the process, and what is opened of it for each mapping.
        let count = plan.mappings.len() * (1 + plan.uffds_each() as usize) + 1;
        self.socket.as_ref().map_or(Ok(()), |socket| check_room(socket, count))?;
        let socket = self.socket.as_ref().map(AsRawFd::as_raw_fd).unwrap_or_default();
        self.token += 1;
        let (request, fds) = request(self.token, plan)?;
        // SAFETY: the request is plain integers without padding, and outlives the slice.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const request).cast(), size_of::<SpawnRequest>()) };
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(socket, &[IoSlice::new(bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None)
            .map_err(PlatformError::errno("ask the zygote"))?;
        loop {
            let (reply, uffds) = receive(socket)?;
            if reply.token != self.token {
                continue;
            }
            if reply.errno != 0 {
                let source = std::io::Error::from_raw_os_error(reply.errno.cast_signed());
                return Err(PlatformError::SetUp { step: reply.step, source });
            }
            let pid = reply.pid.cast_signed();
            let pidfd = super::process::pidfd_open(pid).map_err(|source| {
                // It waits for somebody who does not know it.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                PlatformError::System { what: "pidfd_open", source }
            })?;
            let uffds = if uffds.len() == plan.mappings.len() * plan.uffds_each() as usize {
                Ok(uffds)
            } else {
                Err(nix::errno::Errno::from_raw(reply.uffd_errno.cast_signed()))
            };
            return Ok(Spawned { pid, pidfd, uffds });
        }
    }
}

/// The request and the descriptors that go with it: those of the control pages, and of each segment once.
fn request(token: u64, plan: &SpawnPlan<'_>) -> Result<(SpawnRequest, Vec<RawFd>), PlatformError> {
    if plan.mappings.len() > MAX_MAPPINGS {
        let source = std::io::ErrorKind::InvalidInput.into();
        return Err(PlatformError::System { what: "too many mappings for one process", source });
    }
    let mut fds = vec![plan.control.as_raw_fd()];
    let none = MappingRequest { address: 0, length: 0, offset: 0, protection: 0, fd: 0 };
    let mut mappings = [none; MAX_MAPPINGS];
    for (place, map) in mappings.iter_mut().zip(plan.mappings) {
        let raw = map.memory.as_raw_fd();
        let at = fds.iter().skip(1).position(|fd| *fd == raw).map_or(fds.len(), |at| at + 1);
        if at == fds.len() {
            fds.push(raw);
        }
        let fd = u32::try_from(at).unwrap_or(0);
        let MapRequest { address, length, offset, protection, .. } = *map;
        *place = MappingRequest { address, length, offset, protection, fd };
    }
    let (uffds_each, kind, asks) = (plan.uffds_each(), plan.kind(), u32::from(plan.asks));
    let count = u32::try_from(plan.mappings.len()).unwrap_or(0);
    Ok((SpawnRequest { token, uffds_each, kind, count, asks, mappings }, fds))
}

/// That so many descriptors can be had now: what is left out of a reply for want of them is lost, and the zygote with it.
fn check_room(socket: &OwnedFd, count: usize) -> Result<(), PlatformError> {
    let tried: std::io::Result<Vec<OwnedFd>> = (0..count).map(|_| socket.try_clone()).collect();
    tried.map(drop).map_err(PlatformError::system("descriptors for a new process"))
}

fn receive(socket: RawFd) -> Result<(SpawnReply, Vec<OwnedFd>), PlatformError> {
    let mut bytes = [0u8; size_of::<SpawnReply>()];
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(PlatformError::errno("hear from the zygote"))?;
    let length = message.bytes;
    let mut uffds = Vec::new();
    for item in message.cmsgs().map_err(PlatformError::errno("hear from the zygote"))? {
        if let ControlMessageOwned::ScmRights(fds) = item {
            // SAFETY: the kernel just made these descriptors for us alone.
            uffds.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if length != size_of::<SpawnReply>() {
        let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the zygote is gone");
        return Err(PlatformError::System { what: "hear from the zygote", source });
    }
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let token = u64::from(word(0)) | u64::from(word(4)) << 32;
    Ok((SpawnReply { token, pid: word(8), errno: word(12), step: word(16), uffd_errno: word(20) }, uffds))
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
