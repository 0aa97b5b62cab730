//! On the host, with a kernel that a test plays.
#![allow(clippy::unwrap_used)]

mod agreement;
pub(crate) mod fake;
mod interfaces;
mod memory;
mod messages;
mod parcels;
mod servers;
mod slots;
