//! What the end-to-end tests share: test programs, stores, and a runtime that is killed again and again.

pub mod format;
mod killing;
mod programs;
mod session;

pub use killing::{Case, Outcome, Rng, seed};
pub use programs::{
    Libc, bare_c_program, c_program, linux_program, native_c_program, native_program, rust_program, tool,
};
pub use session::{Background, Session, TIMEOUT, semper, wait_for};

/// Says by name that a test is skipped because this machine does not let anybody have `what`: nothing that can be installed.
pub fn cannot(what: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {test}: this machine gives no {what}");
}

/// Says by name that a test is skipped because `what` is missing; with `SEMPER_TEST_ALL=1` that is a failure.
pub fn skip(what: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("SEMPER_TEST_ALL").is_none(), "{test}: {what} is missing, and SEMPER_TEST_ALL is set");
    eprintln!("skipped: {test}: {what} is missing");
}
