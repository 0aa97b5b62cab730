//! One thread that learns of the death of every native domain's process.

use crate::kernel::Kernel;
use crate::platform::PlatformError;
use crate::platform::process::Process;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The processes that are watched, by pid.
type Watched = Arc<Mutex<BTreeMap<u64, Arc<Process>>>>;

/// Watches processes.
pub struct Watcher {
    epoll: Arc<Epoll>,
    watched: Watched,
}

impl Watcher {
    /// Starts the thread. It rings `kernel`'s native bell when a process has died.
    ///
    /// # Errors
    /// When the system refuses a descriptor or a thread.
    pub fn start(kernel: Weak<Kernel>) -> Result<Self, PlatformError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(PlatformError::errno("epoll_create"))?;
        let (epoll, watched) = (Arc::new(epoll), Watched::default());
        let (of, all) = (Arc::clone(&epoll), Arc::clone(&watched));
        let run = move || {
            let mut events = [EpollEvent::empty(); 16];
            loop {
                let count = match of.wait(&mut events, EpollTimeout::NONE) {
                    Ok(count) => count,
                    Err(Errno::EINTR) => continue,
                    Err(errno) => {
                        tracing::error!(%errno, "deaths of processes are not seen any more");
                        return;
                    }
                };
                for event in &events[..count] {
                    let process = all.lock().unwrap_or_else(PoisonError::into_inner).remove(&event.data());
                    if let Some(process) = process {
                        let _ = of.delete(process.pidfd());
                        process.set_dead();
                    }
                }
                let Some(kernel) = kernel.upgrade() else { return };
                kernel.native.ring();
            }
        };
        std::thread::Builder::new().name("watch".into()).spawn(run).map_err(PlatformError::system("start a thread"))?;
        Ok(Self { epoll, watched })
    }

    /// Watches a process until it dies.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add(&self, process: &Arc<Process>) -> Result<(), PlatformError> {
        let pid = u64::from(process.pid.cast_unsigned());
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, Arc::clone(process));
        let event = EpollEvent::new(EpollFlags::EPOLLIN, pid);
        self.epoll.add(process.pidfd().as_fd(), event).map_err(PlatformError::errno("watch a process"))
    }
}
