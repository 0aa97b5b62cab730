//! A userfaultfd that was made in another process: the handshake, and the modes that the `userfaultfd` crate does not offer.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;
use userfaultfd::{EventBuffer, RegisterMode, Uffd};
use userfaultfd_sys as raw;

use crate::size::index;

mod ioctl {
    use userfaultfd_sys as raw;
    nix::ioctl_readwrite!(api, raw::UFFDIO, raw::_UFFDIO_API, raw::uffdio_api);
    nix::ioctl_read!(unregister, raw::UFFDIO, raw::_UFFDIO_UNREGISTER, raw::uffdio_range);
    nix::ioctl_readwrite!(copy, raw::UFFDIO, raw::_UFFDIO_COPY, raw::uffdio_copy);
    nix::ioctl_readwrite!(cont, raw::UFFDIO, raw::_UFFDIO_CONTINUE, raw::uffdio_continue);
    nix::ioctl_readwrite!(protect, raw::UFFDIO, raw::_UFFDIO_WRITEPROTECT, raw::uffdio_writeprotect);
    nix::ioctl_readwrite!(poison, raw::UFFDIO, raw::_UFFDIO_POISON, raw::uffdio_poison);
}

/// Bits of the handshake.
pub(crate) mod feature {
    pub(crate) use userfaultfd_sys::{
        UFFD_FEATURE_MINOR_SHMEM as MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM as MISSING_SHMEM,
        UFFD_FEATURE_PAGEFAULT_FLAG_WP as PAGEFAULT_FLAG_WP, UFFD_FEATURE_POISON as POISON,
        UFFD_FEATURE_WP_ASYNC as WP_ASYNC, UFFD_FEATURE_WP_HUGETLBFS_SHMEM as WP_SHMEM,
        UFFD_FEATURE_WP_UNPOPULATED as WP_UNPOPULATED,
    };
}

/// What became of a fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// So many bytes were placed, from the start; the rest was not tried.
    Bytes(u64),
    /// The first page is there already.
    Exists,
    /// The address space does not have this range (any more) as one mapping that we registered.
    NoMapping,
    /// The process is gone.
    Gone,
}

/// What a fault was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing is there.
    Missing,
    /// In memory, but not in this page table.
    Minor,
    /// Present and write-protected.
    Protected,
}

/// One page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub address: u64,
    pub kind: Kind,
    pub write: bool,
}

/// A userfaultfd of another process.
#[derive(Debug)]
pub(crate) struct FaultFd {
    fd: Uffd,
}

fn classify(errno: Errno) -> Result<Filled, Errno> {
    match errno {
        Errno::EEXIST => Ok(Filled::Exists),
        // EFAULT: UFFDIO_CONTINUE on a page that is not in the page cache (any more).
        Errno::ENOENT | Errno::EINVAL | Errno::EFAULT => Ok(Filled::NoMapping),
        Errno::ESRCH => Ok(Filled::Gone),
        errno => Err(errno),
    }
}

impl FaultFd {
    /// Takes the descriptor over and does the handshake, asking for `features`.
    pub(crate) fn open(fd: OwnedFd, features: u64) -> Result<Self, Errno> {
        let mut api = raw::uffdio_api { api: raw::UFFD_API, features, ioctls: 0 };
        // SAFETY: `api` is a valid argument that lives through the call.
        unsafe { ioctl::api(fd.as_raw_fd(), &raw mut api) }?;
        // SAFETY: the descriptor is open and owned, and its ownership passes to the `Uffd`.
        Ok(Self { fd: unsafe { Uffd::from_raw_fd(fd.into_raw_fd()) } })
    }

    pub(crate) fn register(&self, start: u64, len: u64, mode: RegisterMode) -> Result<(), userfaultfd::Error> {
        // The crate takes addresses of another process as pointers; nothing here follows them.
        self.fd.register_with_mode(start as *mut _, index(len), mode).map(|_| ())
    }

    /// Takes a registration back; the protection of its pages goes with it.
    pub(crate) fn unregister(&self, start: u64, len: u64) -> Result<(), Errno> {
        let mut range = raw::uffdio_range { start, len };
        // SAFETY: `range` is valid and lives through the call; only the other process's mapping changes.
        unsafe { ioctl::unregister(self.fd.as_raw_fd(), &raw mut range) }.map(|_| ())
    }

    /// Fills pages from `source`. With `protect` the pages come write-protected, in one step; with `wake`, who waits for them
    /// is woken.
    pub(crate) fn copy(&self, to: u64, source: &[u8], protect: bool, wake: bool) -> Result<Filled, Errno> {
        let mode = if protect { raw::UFFDIO_COPY_MODE_WP } else { 0 };
        let mode = mode | if wake { 0 } else { raw::UFFDIO_COPY_MODE_DONTWAKE };
        let (src, len) = (source.as_ptr() as u64, source.len() as u64);
        let mut arg = raw::uffdio_copy { dst: to, src, len, mode, copy: 0 };
        loop {
            // SAFETY: `arg` is valid, and `src`/`len` describe `source`, which lives through the call and is only read;
            // what is written is memory of the process that made the descriptor, never ours.
            match unsafe { ioctl::copy(self.fd.as_raw_fd(), &raw mut arg) } {
                Ok(_) => return Ok(Filled::Bytes(len)),
                Err(Errno::EAGAIN) if arg.copy > 0 => return Ok(Filled::Bytes(arg.copy.unsigned_abs())),
                Err(Errno::EAGAIN | Errno::EINTR) => arg.copy = 0,
                Err(errno) => return classify(errno),
            }
        }
    }

    /// Maps pages that are in memory already, and wakes who waits for them.
    pub(crate) fn map_cached(&self, start: u64, len: u64, protect: bool) -> Result<Filled, Errno> {
        let mode = if protect { raw::UFFDIO_CONTINUE_MODE_WP } else { 0 };
        let mut arg = raw::uffdio_continue { range: raw::uffdio_range { start, len }, mode, mapped: 0 };
        loop {
            // SAFETY: `arg` is valid and lives through the call; only the other process's page table changes.
            match unsafe { ioctl::cont(self.fd.as_raw_fd(), &raw mut arg) } {
                Ok(_) => return Ok(Filled::Bytes(len)),
                Err(Errno::EAGAIN) if arg.mapped > 0 => return Ok(Filled::Bytes(arg.mapped.unsigned_abs())),
                Err(Errno::EAGAIN | Errno::EINTR) => arg.mapped = 0,
                Err(errno) => return classify(errno),
            }
        }
    }

    /// Sets or lifts write-protection; lifting wakes who waits. Where nothing is mapped, setting leaves a marker that a
    /// later mapping inherits.
    pub(crate) fn protect(&self, start: u64, len: u64, on: bool) -> Result<Filled, Errno> {
        let mode = if on { raw::UFFDIO_WRITEPROTECT_MODE_WP } else { 0 };
        let mut arg = raw::uffdio_writeprotect { range: raw::uffdio_range { start, len }, mode };
        loop {
            // SAFETY: as for `map_cached`.
            match unsafe { ioctl::protect(self.fd.as_raw_fd(), &raw mut arg) } {
                Ok(_) => return Ok(Filled::Bytes(len)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return classify(errno),
            }
        }
    }

    /// Makes one page raise SIGBUS when touched, and wakes who waits for it. False if this kernel cannot.
    pub(crate) fn poison(&self, start: u64, len: u64) -> bool {
        let mut arg = raw::uffdio_poison { range: raw::uffdio_range { start, len }, mode: 0, updated: 0 };
        // SAFETY: as for `map_cached`.
        unsafe { ioctl::poison(self.fd.as_raw_fd(), &raw mut arg) }.is_ok()
    }

    pub(crate) fn wake(&self, start: u64, len: u64) {
        // Fails only for a malformed range.
        if let Err(error) = self.fd.wake(start as *mut _, index(len)) {
            tracing::error!(%error, start, "waking a faulter");
        }
    }

    /// Whether the address space still exists. Only an answer given after some work vouches for that work.
    pub(crate) fn alive(&self) -> bool {
        /// The highest page a process can have: nothing that we registered is there.
        const NOWHERE: u64 = 0x7fff_ffff_e000;
        static PAGE: [u8; 4096] = [0; 4096];
        !matches!(self.copy(NOWHERE, &PAGE, false, false), Ok(Filled::Gone))
    }

    /// The faults that wait, without blocking.
    pub(crate) fn read(&self, buffer: &mut EventBuffer, faults: &mut Vec<Fault>) -> Result<(), userfaultfd::Error> {
        for event in self.fd.read_events(buffer)? {
            if let userfaultfd::Event::Pagefault { kind, rw, addr, .. } = event? {
                let kind = match kind {
                    userfaultfd::FaultKind::Missing => Kind::Missing,
                    userfaultfd::FaultKind::Minor => Kind::Minor,
                    userfaultfd::FaultKind::WriteProtected => Kind::Protected,
                };
                let write = rw == userfaultfd::ReadWrite::Write;
                faults.push(Fault { address: addr as u64 & !4095, kind, write });
            }
        }
        Ok(())
    }
}

impl AsFd for FaultFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Features that a userfaultfd of this process can have; an error says why there is none.
pub(crate) fn available_features() -> Result<u64, Errno> {
    let fd = open_here()?;
    let mut api = raw::uffdio_api { api: raw::UFFD_API, features: 0, ioctls: 0 };
    // SAFETY: `api` is a valid argument that lives through the call.
    unsafe { ioctl::api(fd.as_raw_fd(), &raw mut api) }?;
    Ok(api.features)
}

/// Makes a userfaultfd for this process, as a stub would: no privilege, user-mode faults only.
pub(crate) fn open_here() -> Result<OwnedFd, Errno> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | raw::UFFD_USER_MODE_ONLY.cast_signed();
    // SAFETY: the call takes flags only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
