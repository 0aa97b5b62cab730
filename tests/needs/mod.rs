//! What a test needs of the machine, and what is done where the machine has it not. Included by the tests of all crates.
//!
//! A test that cannot be made says so by its name: `skipped NAME: needs WHAT`. Straight to standard error: what `eprintln!` says in a test
//! that passes is shown by nobody.

#![allow(dead_code, reason = "each of those that include it uses its part")]

use std::io::Write as _;

/// A package gives it, or every kernel that Semper runs on has it: with `SEMPER_TEST_ALL` set, its absence is a failure.
pub fn missing(what: &str) {
    assert!(std::env::var_os("SEMPER_TEST_ALL").is_none(), "{} needs {what}, and SEMPER_TEST_ALL is set", test());
    say(what);
}

/// A kernel, or who rents the machine out, may refuse it for reasons of their own, and nothing can be installed against that: mounts, loop
/// devices, io_uring. Never a failure.
pub fn refused(what: &str) {
    say(what);
}

/// Whether all these programs are installed; the first that is not is [`missing`].
pub fn programs(names: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let absent = names.iter().find(|name| !installed(name));
    absent.inspect(|name| missing(name)).is_none()
}

fn test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

fn say(what: &str) {
    let line = format!("skipped {}: needs {what}\n", test());
    // With nobody to read it there is nothing to do about it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
