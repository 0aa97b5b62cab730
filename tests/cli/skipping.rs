//! A test that is skipped says so, where `cargo test` shows it.

use std::process::{Command, Output};

use crate::harness::needs;

/// Runs one of the ignored tests below, as `cargo test` does.
fn run(name: &str, all: bool) -> (Output, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--ignored", name]).env_remove("SEMPER_TEST_ALL");
    if all {
        command.env("SEMPER_TEST_ALL", "1");
    }
    let output = command.output().unwrap();
    let said = [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(said.contains("running 1 test"), "there is no {name}: {said}");
    (output, said)
}

#[test]
#[ignore = "what the test below looks at"]
fn for_want_of_a_program() {
    assert!(!needs::programs(&["sh", "no-program-has-this-name"]));
}

#[test]
#[ignore = "what the test below looks at"]
fn for_want_of_leave() {
    needs::refused("a mountain");
}

#[test]
fn a_skipped_test_says_so_by_name_and_what_a_package_gives_must_be_there() {
    for (name, what, installable) in [
        ("skipping::for_want_of_a_program", "no-program-has-this-name", true),
        ("skipping::for_want_of_leave", "a mountain", false),
    ] {
        let (output, said) = run(name, false);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(&format!("skipped {name}: needs {what}\n")), "{said}");
        let (output, said) = run(name, true);
        assert_eq!(output.status.success(), !installable, "{said}");
        assert!(said.contains(&format!("{name} needs {what}")) == installable, "{said}");
    }
}
