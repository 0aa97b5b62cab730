//! What can go wrong, by who must act.

use std::io;

use nix::errno::Errno;
use semper_store::{PageIndex, PageRange, SegmentId};

/// What a [`Backing`](crate::Backing) says when it cannot give a page; the pager only passes it on.
pub type BackingError = Box<dyn std::error::Error + Send + Sync>;

/// Failures of the pager.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something; the operator must act (see `semper doctor`).
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// This kernel lacks something that was asked for by name.
    #[error("this kernel cannot do {feature}; run `semper doctor` for what to do")]
    Unsupported {
        /// The name as in [`probe`](crate::probe).
        feature: &'static str,
    },
    /// The store could not give a page: corrupt or unreadable data.
    #[error("the store cannot give {page} of {segment}: {source}")]
    Backing {
        /// The segment.
        segment: SegmentId,
        /// The first page that could not be read.
        page: PageIndex,
        /// What the store said.
        #[source]
        source: BackingError,
    },
    /// A range beyond the segment's end: a bug of the caller.
    #[error("pages {}..{} are not within {segment}, which has {pages} pages", .range.first.0, .range.end())]
    OutOfBounds {
        /// The segment.
        segment: SegmentId,
        /// Its size.
        pages: u64,
        /// What was asked for.
        range: PageRange,
    },
    /// The segment exists already: a bug of the caller.
    #[error("{0} is open already")]
    AlreadyOpen(SegmentId),
    /// The segment is not open: a bug of the caller.
    #[error("{0} is not open")]
    NotOpen(SegmentId),
    /// Not possible while a process maps the segment.
    #[error("{0} is still attached to a process")]
    Attached(SegmentId),
    /// Not possible between a scan and its `committed` or `abandon`.
    #[error("{0} cannot be rolled back while a capture is under way")]
    CaptureOpen(SegmentId),
    /// A process's mapping does not fit the segment: a bug of the caller.
    #[error("the window {start:#x}..{end:#x} does not fit {segment}")]
    BadWindow {
        /// The segment.
        segment: SegmentId,
        /// First address.
        start: u64,
        /// First address after it.
        end: u64,
    },
    /// The process changed its mapping behind our back, so its writes cannot be tracked any more.
    #[error("the mapping of {segment} is no longer tracked by its process ({source})")]
    NotTracked {
        /// The segment.
        segment: SegmentId,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// A sink refused what it was given.
    #[error("the sink failed: {0}")]
    Sink(#[source] BackingError),
}

impl Error {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    pub(crate) fn errno(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { what, source: errno.into() }
    }
}
