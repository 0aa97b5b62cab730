//! Room in the store for what programs write to files: what a checkpoint can make room for is not refused.

use crate::harness::{Libc, Session, c_program};

/// What `pour` says: MiB that went in, and `full` or `all`.
fn pour(flags: &[&str], mib: &str) -> Option<(u64, String)> {
    let program = c_program("pour", Libc::Musl)?;
    let session = Session::new();
    let mut run = session.on_store("run");
    run.args(flags).arg("--").arg(program).arg(mib);
    let output = session.output(&mut run);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let mut words = said.split_whitespace();
    let (poured, end) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().to_owned());
    assert_eq!(words.next(), Some("right"), "{said}");
    session.assert_sound();
    Some((poured, end))
}

#[test]
fn a_file_may_be_larger_than_what_fits_between_two_checkpoints() {
    // A quarter of the store is what may be in memory. No checkpoint comes but for want of room.
    let Some(poured) = pour(&["--size", "64M", "--checkpoint-interval", "1h"], "32") else { return };
    assert_eq!(poured, (32, "all".to_owned()));
}

#[test]
fn a_program_is_told_that_the_store_is_full_when_it_is() {
    let Some((poured, end)) = pour(&["--size", "64M"], "80") else { return };
    assert!(end == "full" && poured >= 40, "{poured} MiB, {end}");
}
