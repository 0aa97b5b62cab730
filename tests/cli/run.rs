//! `semper run`: exit statuses, arguments, environment, bad input.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::harness::{Case, Libc, Session, c_program, rust_program, semper};

pub fn assert_refused(output: &Output, code: i32, sentence: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(sentence), "`{sentence}` is not in: {errors}");
    assert!(output.stdout.is_empty());
}

pub fn executable(session: &Session, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = session.file(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_exit_status_of_the_program_is_the_commands() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let case = Case::new(program, &["1", "3"]);
    let outcome = case.undisturbed();
    assert_eq!(outcome.code, 7);
    assert_eq!(outcome, case.native());
}

#[test]
fn death_by_a_signal_is_told_as_shells_tell_it() {
    let Some(program) = c_program("guard", Libc::Musl) else { return };
    let case = Case::new(program, &[]);
    let outcome = case.undisturbed();
    assert_eq!(outcome.code, 128 + 11);
    assert_eq!(outcome, case.native());
}

#[test]
fn the_environment_is_what_was_given_and_nothing_else() {
    let session = Session::new();
    let program = rust_program("std_mix");
    let output = session.output(session.run(&["--env", "MODE=fast"], &program, &["1"]).env("MODE", "other"));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("MODE is Some(\"fast\")\n"));
    let session = Session::new();
    let output = session.output(session.run(&[], &program, &["1"]).env("MODE", "other"));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("MODE is None\n"));
    let session = Session::new();
    let output = session.output(session.run(&["--env", "MODE"], &program, &["1"]).env("MODE", "other"));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("MODE is Some(\"other\")\n"));
}

#[test]
fn the_memory_map_is_told_as_natively() {
    for program in [Libc::Musl, Libc::Glibc].into_iter().filter_map(|libc| c_program("maps", libc)) {
        let case = Case::new(program, &[]);
        assert_eq!(case.undisturbed(), case.native());
    }
}

#[test]
fn event_counters_are_as_linux_has_them() {
    for libc in [Libc::Musl, Libc::Glibc] {
        let Some(program) = c_program("events", libc) else { return };
        let case = Case::new(program, &[]);
        assert_eq!(case.undisturbed(), case.native());
    }
}

#[test]
fn unix_sockets_timers_and_signals_are_as_linux_has_them() {
    for libc in [Libc::Musl, Libc::Glibc] {
        let Some(program) = c_program("unix", libc) else { return };
        let case = Case::new(program, &[]);
        assert_eq!(case.undisturbed(), case.native());
    }
}

#[test]
fn a_call_that_is_not_served_is_named_once() {
    let Some(program) = c_program("unserved", Libc::Musl) else { return };
    let session = Session::new();
    let output = session.output(&mut session.run(&[], &program, &[]));
    assert!(output.status.success());
    let (numbers, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(numbers.lines().count() > 100, "{numbers}");
    for number in numbers.lines() {
        let said: Vec<&str> = log.lines().filter(|line| line.ends_with(&format!("number={number}"))).collect();
        assert_eq!(said.len(), 1, "{number} is said so often: {log}");
        let name = said[0].split("the call ").nth(1).unwrap().split(" is not served").next().unwrap();
        let named = matches!(number, "56" | "101") || (424..=469).contains(&number.parse::<u64>().unwrap());
        assert_eq!(name.starts_with("number "), !named, "{}", said[0]);
    }
    assert!(log.contains("the call number 999 is not served") && log.contains("the call file_setattr is"), "{log}");
}

#[test]
fn what_is_no_name_of_a_program_is_told_plainly() {
    let session = Session::new();
    session.file("tool", "");
    for (called, code, sentence) in [
        ("", 127, "the name of the program is empty"),
        (".", 126, ". is a directory, not a program"),
        ("/tmp", 126, "/tmp is a directory, not a program"),
        ("tool", 127, "there is no program tool on PATH; the file here is ./tool"),
    ] {
        let output = session.output(&mut session.run(&[], Path::new(called), &[]));
        assert_refused(&output, code, sentence);
        assert!(!session.store().exists(), "a store was made for nothing");
    }
}

#[test]
fn a_run_that_is_refused_leaves_nothing_that_it_made() {
    let program = rust_program("std_mix");
    let refused: [(&[&str], &str); 3] = [
        (&["--name", "a\nb"], "control characters"),
        (&["--name", ""], "a domain's name has"),
        (&["--file", "plain:/proc/x"], "/proc/x"),
    ];
    for (flags, sentence) in refused {
        let session = Session::new();
        session.file("plain", "text");
        let output = session.output(&mut session.run(flags, &program, &["1"]));
        assert_refused(&output, 2, sentence);
        assert!(!session.store().exists(), "a store was made for nothing");
        fs::create_dir(session.store()).unwrap();
        assert_refused(&session.output(&mut session.run(flags, &program, &["1"])), 2, sentence);
        assert_eq!(fs::read_dir(session.store()).unwrap().count(), 0, "something is left in the directory");
    }
}

#[test]
fn a_program_that_is_not_there_is_127() {
    let session = Session::new();
    let output = session.output(&mut session.run(&[], Path::new("/nowhere/program"), &[]));
    assert_refused(&output, 127, "/nowhere/program");
    let output = session.output(&mut session.run(&[], Path::new("no-such-program-on-path"), &[]));
    assert_refused(&output, 127, "no-such-program-on-path");
    assert!(!session.store().exists(), "a store was made for nothing");
}

#[test]
fn what_is_no_x86_program_is_126() {
    let session = Session::new();
    let real = fs::read(rust_program("std_mix")).unwrap();
    let text = executable(&session, "text", "#!/bin/sh\necho hello\n");
    let mut other = real.clone();
    other[18] = 183; // AArch64
    let other = executable(&session, "aarch64", other);
    let mut narrow = real.clone();
    narrow[4] = 1; // 32 bits
    let narrow = executable(&session, "narrow", narrow);
    let cut = executable(&session, "cut", &real[..300]);
    let empty = executable(&session, "empty", "");
    for program in [text, other, narrow, cut, empty] {
        let output = session.output(&mut session.run(&[], &program, &[]));
        assert_refused(&output, 126, program.file_name().unwrap().to_str().unwrap());
    }
    assert!(!session.store().exists(), "a store was made for nothing");
}

#[test]
fn a_program_that_cannot_be_loaded_is_named() {
    let session = Session::new();
    let mut image = fs::read(rust_program("std_mix")).unwrap();
    image[24..32].fill(0); // The entry point, to where nothing is.
    let program = executable(&session, "entry", image);
    let output = session.output(&mut session.run(&[], &program, &[]));
    assert_refused(&output, 126, &format!("{} cannot be run: its entry point", program.display()));
}

#[test]
fn a_file_without_execute_permission_is_126() {
    let session = Session::new();
    let path = session.file("plain", fs::read(rust_program("std_mix")).unwrap());
    let output = session.output(&mut session.run(&[], &path, &[]));
    assert_refused(&output, 126, "not executable");
}

#[test]
fn a_file_to_import_that_is_not_there_is_named() {
    let session = Session::new();
    let output = session.output(&mut session.run(&["--file", "missing.txt"], &rust_program("std_mix"), &["1"]));
    assert_refused(&output, 2, "missing.txt");
    assert!(!session.store().exists(), "a store was made for nothing");
}

#[test]
fn wrong_words_are_2_and_say_what_would_be_right() {
    for (flags, sentence) in [
        (["--checkpoint-interval", "1ms"], "10ms"),
        (["--checkpoint-interval", "often"], "1s"),
        (["--memory", "lots"], "256M"),
        (["--output", "never"], "held"),
        (["--file", ":x"], "HOST"),
        (["--env", "=x"], "name"),
    ] {
        let session = Session::new();
        let output = session.output(&mut session.run(&flags, Path::new("/bin/true"), &[]));
        assert_refused(&output, 2, sentence);
    }
    assert_eq!(semper().arg("fly").output().unwrap().status.code(), Some(2));
}

#[test]
fn a_memory_limit_that_is_too_small_is_refused() {
    let session = Session::new();
    let output = session.output(&mut session.run(&["--memory", "1M"], &rust_program("std_mix"), &["1"]));
    assert_refused(&output, 122, "at least 16M");
    assert!(!session.store().exists(), "a store was made for nothing");
}

#[test]
fn a_memory_limit_is_kept_and_what_it_costs_is_shown() {
    const LIMIT: u64 = 24 << 20;
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    for limit in [Some(LIMIT), None] {
        let session = Session::new();
        let flags: &[&str] = if limit.is_some() { &["--memory", "24M"] } else { &[] };
        let _runtime = session.background(&mut session.run(flags, &program, &["96", "100000"]));
        let of = |status: &serde_json::Value, what: &str| status["memory"][what].as_u64();
        let enough = |status: &serde_json::Value| match limit {
            Some(_) => of(status, "evicted") > Some(10_000) && of(status, "faults") > Some(10_000),
            None => of(status, "resident_bytes") > Some(2 * LIMIT),
        };
        for _ in 0..10 {
            let status = session.wait_until("more was touched than fits", enough);
            assert_eq!(of(&status, "limit_bytes"), limit, "{status}");
            match limit {
                Some(limit) => assert!(of(&status, "resident_bytes") <= Some(limit), "{status}"),
                None => assert_eq!(of(&status, "evicted"), Some(0), "{status}"),
            }
        }
    }
}

#[test]
fn a_size_that_is_too_small_or_too_large_is_refused() {
    for (size, code, sentence) in [("1M", 122, "the smallest store has 2 MiB"), ("5000T", 2, "the largest store has")] {
        let session = Session::new();
        let mut command = session.on_store("run");
        let output = session.output(command.args(["--size", size, "--"]).arg(rust_program("std_mix")).arg("1"));
        assert_refused(&output, code, sentence);
        assert!(!session.store().exists(), "a store was made for nothing");
    }
}

#[test]
fn a_place_where_no_store_can_be_is_told() {
    let session = Session::new();
    session.file("store", "a file");
    let output = session.output(&mut session.run(&[], &rust_program("std_mix"), &["1"]));
    assert_refused(&output, 121, "store is not a directory, so it is no store");
    for command in ["stop", "checkpoint", "status"] {
        assert_refused(&session.output(&mut session.on_store(command)), 121, "is not a directory");
    }

    let session = Session::new();
    fs::create_dir(session.store()).unwrap();
    fs::write(session.store().join("diary"), "not a store").unwrap();
    let output = session.output(&mut session.run(&[], &rust_program("std_mix"), &["1"]));
    assert_refused(&output, 121, "diary");
    for command in ["status", "check", "resume", "stop", "checkpoint"] {
        let output = session.output(&mut session.on_store(command));
        assert_refused(&output, 121, "store");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("semper run"), "{command} advises a run: {output:?}");
    }
    assert_eq!(fs::read_dir(session.store()).unwrap().count(), 1, "something was changed");
}

#[test]
fn a_place_that_may_not_be_written_is_told_with_what_to_do() {
    // /sys takes no directories, whoever asks.
    let output = semper().args(["run", "/sys/semper-store", "--"]).arg(rust_program("std_mix")).output().unwrap();
    assert_refused(&output, 121, "/sys/semper-store");
    assert_refused(&output, 121, "name a directory that you may write to");
}

#[test]
fn a_file_system_that_cannot_be_written_is_told() {
    // /proc takes no directories, whoever asks.
    let output = semper().args(["run", "/proc/semper-store", "--"]).arg(rust_program("std_mix")).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/proc/semper-store"), "{output:?}");
}

#[test]
fn arguments_and_environment_may_be_as_long_as_linux_lets_them() {
    let session = Session::new();
    let program = rust_program("std_mix");
    let long = "x".repeat(120_000);
    let mut arguments = vec!["2"];
    arguments.extend([&*long; 10]);
    let environment = format!("MODE={}", "y".repeat(100_000));
    let output = session.output(&mut session.run(&["--env", &environment], &program, &arguments));
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&environment[5..]));
    // A shell with a larger stack may give a command more than Linux gives a program by itself.
    let script = r#"ulimit -s 65536 && x=$(printf '%0120000d' 7) && i=0
        while [ $i -lt 30 ]; do set -- "$@" "$x"; i=$((i + 1)); done; exec "$@""#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_semper"), "run"]).arg(session.store());
    let output = session.output(command.args(["--name", "more", "--"]).arg(&program));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(126), "{errors}");
    assert!(
        errors.contains("its arguments and environment have 36") && errors.contains("at most 2097152 fit"),
        "{errors}"
    );
    assert_eq!(session.status()["domains"].as_array().unwrap().len(), 1);
    session.assert_sound();
}

#[test]
fn a_name_that_means_an_object_is_refused() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let session = Session::new();
    let refused = session.output(&mut session.run(&["--name", "13.1"], &program, &["1"]));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--name"), "{refused:?}");
    assert!(!session.store().exists(), "nothing is left of a store that was made for it");
}
