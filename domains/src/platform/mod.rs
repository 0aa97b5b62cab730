//! The process platform: a Linux process caches an address space, its thread caches a domain.
//!
//! **Promise.** A domain's registers are always either in a processor or in a page of the store, never anywhere else: when a domain
//! stops, Linux writes a signal frame into its control pages ([`frame`]); to let it go on, in the same process or in
//! a fresh one, any time later, the stub returns from that signal. A process can be dropped at any instant.
//!
//! * [`zygote`]: where processes come from.
//! * [`control`]: the control pages as the kernel sees them: read once, checked, then used.
//! * [`frame`]: the signal frame in them.
//! * [`crowd`]: whether waiting by looking does harm.
//! * [`process`]: one live process: post, answer, order, freeze.
//! * [`xstate`]: the vector registers in the frame, on another processor.

pub mod control;
pub mod crowd;
pub mod frame;
pub mod process;
pub mod together;
pub mod xstate;
pub mod zygote;

use nix::libc;
use thiserror::Error;

/// What can go wrong between the kernel and a domain's process.
#[derive(Debug, Error)]
pub enum PlatformError {
    /// The machine refused something that processes of domains need.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The process died before or while it was asked.
    #[error("the domain's process (pid {pid}) died")]
    Died {
        /// Which.
        pid: i32,
    },
    /// The process did not answer in time.
    #[error("the domain's process (pid {pid}) does not answer: {what}")]
    Silent {
        /// Which.
        pid: i32,
        /// What it was asked.
        what: &'static str,
    },
    /// A new process could not be set up.
    #[error("a new process could not be set up (step {step}): {source}")]
    SetUp {
        /// Step in `stub/child.rs`.
        step: u32,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An order failed inside the process.
    #[error("order {index} failed in the domain's process: {source}")]
    Order {
        /// Which of the batch.
        index: u32,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The domain's control pages do not hold a signal frame that could be continued.
    #[error("the domain spoilt its control pages: {0}")]
    BadFrame(&'static str),
    /// The frame is of a processor that had more.
    #[error(transparent)]
    Lacking(#[from] xstate::Lacking),
    /// The pager refused.
    #[error(transparent)]
    Pager(#[from] semper_pager::Error),
}

impl PlatformError {
    /// Whether the machine may have more of what it lacks a moment later: descriptors, memory, processes.
    pub(crate) fn may_pass(&self) -> bool {
        let (Self::System { source, .. } | Self::SetUp { source, .. }) = self else { return false };
        matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN))
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    pub(crate) fn errno(what: &'static str) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |e| Self::System { what, source: e.into() }
    }
}
