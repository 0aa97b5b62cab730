//! The kernel interfaces that no crate offers, each behind a safe face. Most of the crate's `unsafe` is here.

pub(crate) mod pagemap;
pub(crate) mod sched;
pub(crate) mod uffd;
