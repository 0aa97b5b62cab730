//! Domains: isolated programs whose memory, registers and kernel state are pages of the store.

pub mod cpu;
pub mod linux;
pub mod table;

/// What the stub and the kernel agree on.
#[path = "../stub/abi.rs"]
pub mod abi;
