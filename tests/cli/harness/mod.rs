//! What the end-to-end tests share: test programs, stores, and a runtime that is killed again and again.

pub mod format;
mod killing;
#[path = "../../needs/mod.rs"]
pub mod needs;
mod programs;
pub mod s3;
mod session;

pub use killing::{Case, Disturbed, Outcome, Rng, seed};
pub use programs::{
    Libc, bare_c_program, c_program, dynamic_c_program, linux_program, native_c_program, native_program, rust_program,
    tool,
};
pub use session::{Background, Session, TIMEOUT, semper, sigkill, wait_for};
