//! Stores that are damaged, foreign, truncated or full.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::harness::{Case, Libc, Session, c_program, rust_program};

/// A store in which a program has ended.
fn used_store() -> Session {
    let session = Session::new();
    let output = session.output(&mut session.run(&[], &rust_program("std_mix"), &["20"]));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    session
}

fn pages(session: &Session) -> File {
    File::options().read(true).write(true).open(session.store().join("pages")).unwrap()
}

fn assert_told(session: &Session, command: &str) {
    let output = session.output(&mut session.on_store(command));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{command} did not mind");
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(errors.len() + output.stdout.len() > 20, "{command} says nothing");
}

/// Every file in the directory of the store, with what is in it.
fn picture(session: &Session) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(session.store()).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(&path).unwrap_or_default())).collect()
}

/// What each command says of a store that it cannot use: a sentence that names the file, `says` why, and has no word that only those who
/// wrote the store know; and that nothing is changed.
fn assert_refused(session: &Session, says: &str) {
    let before = picture(session);
    let program = rust_program("std_mix");
    for command in ["status", "check", "resume", "run"] {
        let mut words = session.on_store(command);
        if command == "run" {
            words.arg("--").arg(&program);
        }
        let output = session.output(&mut words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(121), "{command}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains("store/pages") && errors.contains(says), "{command} does not say `{says}`: {errors}");
        for word in ["slot", "place ", "buffer", "os error", "panicked", "Error"] {
            assert!(!errors.contains(word), "{command}: {errors}");
        }
        assert!(picture(session) == before, "{command} changed something");
    }
}

#[test]
fn what_is_no_store_is_told_by_every_command() {
    let contents = [
        (vec![], "it is an empty file"),
        (b"short".to_vec(), "it has 5 bytes, fewer than the smallest store"),
        (vec![0; 8 << 20], "it is empty where the roots of a store lie"),
        (b"SQLite format 3\0".repeat(5000), "it holds something else"),
        (vec![0xff; 3 << 20], "it holds something else"),
    ];
    for (content, says) in contents {
        let session = Session::new();
        fs::create_dir(session.store()).unwrap();
        fs::write(session.store().join("pages"), &content).unwrap();
        assert_refused(&session, says);
    }
}

#[test]
fn a_store_of_another_version_is_told_by_every_command() {
    let session = Session::new();
    let mut command = session.on_store("run");
    command.args(["--size", "64M", "--"]).arg(rust_program("std_mix")).arg("3");
    assert_eq!(session.output(&mut command).status.code(), Some(5));
    for root in [0, 128 * 4096] {
        pages(&session).write_all_at(&7u32.to_le_bytes(), root + 8).unwrap();
    }
    assert_refused(
        &session,
        "has format version 7, and this program reads versions up to 3; use the program that wrote it",
    );
}

#[test]
fn a_truncated_store_is_told() {
    let session = used_store();
    let length = pages(&session).metadata().unwrap().len();
    for cut in [length - 1, length / 2, 8192, 4096, 100] {
        pages(&session).set_len(cut).unwrap();
        for command in ["check", "resume"] {
            assert_told(&session, command);
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_found_or_harmless() {
    let session = used_store();
    let file = pages(&session);
    let mut random = crate::harness::Rng::with_seed(crate::harness::seed());
    let extent = extent_of_data(&session.store().join("pages"));
    let mut found = 0;
    for _ in 0..40 {
        let at = random.u64(8192..extent);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let output = session.output(&mut session.on_store("check"));
        assert!(matches!(output.status.code(), Some(0 | 1 | 121)), "at {at}: {output:?}");
        found += u32::from(output.status.code() != Some(0));
        file.write_all_at(&byte, at).unwrap();
    }
    assert!(found > 0, "no flip was found");
    session.assert_sound();
}

/// The end of the last piece of the sparse file that holds data.
fn extent_of_data(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    let (mut end, mut at) = (8193, 0);
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).unwrap();
        at = end;
    }
    end
}

/// In a live runtime: the program waits, everything else goes on, and a larger store lets it end as natively.
#[test]
fn a_full_store_stalls_the_writer_and_growing_it_lets_it_go_on() {
    let Some(program) = c_program("fill", Libc::Musl) else { return };
    let session = Session::new();
    let case = Case { size: "48M".into(), ..Case::new(program, &["100"]) };
    let (out, err) = (session.place().join("out"), session.place().join("err"));
    let mut command = case.start(&session);
    let mut runtime = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    let full =
        |status: &serde_json::Value| status["stalled"].as_str().is_some_and(|s| s.starts_with("the store is full"));
    session.wait_until("the stall is told", full);
    let taken = session.output(&mut session.on_store("checkpoint"));
    assert!(taken.status.success(), "{taken:?}");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(runtime.try_wait().unwrap().is_none(), "it ended: {}", fs::read_to_string(&err).unwrap());
    let status = session.wait_until("it is stalled still", full);
    assert_eq!(status["checkpoints"]["totals"]["failed"], 0, "{status}");
    let grown = session.output(session.on_store("grow").arg("512M"));
    assert!(grown.status.success(), "{grown:?}");
    let native = case.native();
    assert_eq!(crate::harness::wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
    session.assert_sound();
}

/// The writer goes on rewriting what it has, so that each commit needs as much as there is: space that is free after a commit says
/// nothing. Checkpoints go on all the same, up to the standstill, and a larger store lets it go on.
#[test]
fn a_writer_that_rewrites_all_it_has_never_makes_a_checkpoint_fail() {
    let Some(program) = c_program("rewrite", Libc::Musl) else { return };
    let session = Session::new();
    let case = Case::new(program, &["100"]);
    let (out, err) = (session.place().join("out"), session.place().join("err"));
    let mut command = session.on_store("run");
    command.args(["--size", "64M", "--checkpoint-interval", "50ms", "--"]).arg(&case.program).args(&case.args);
    let mut runtime = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    session.wait_until("it is up", |_| true);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    let (mut said, mut since) = (0, std::time::Instant::now());
    // Stalled: nothing new is said for a while.
    while std::time::Instant::now() < deadline && since.elapsed().as_secs() < 5 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = fs::metadata(&out).unwrap().len();
        if now != said {
            (said, since) = (now, std::time::Instant::now());
        }
    }
    assert!(runtime.try_wait().unwrap().is_none(), "it ended: {}", fs::read_to_string(&err).unwrap());
    let taken = session.output(&mut session.on_store("checkpoint"));
    assert!(taken.status.success(), "{taken:?}");
    let status = session.status();
    assert_eq!(status["checkpoints"]["totals"]["failed"], 0, "{status}");
    assert!(said > 0, "it said nothing");
    // Why it stands still is told, on standard error once.
    let stalled = session.wait_until("the stall is told", |status| status["stalled"].is_string());
    assert!(stalled["stalled"].as_str().unwrap().starts_with("the store is full"), "{stalled}");
    let shown = session.output(&mut session.on_store("status"));
    assert!(String::from_utf8(shown.stdout).unwrap().contains("\nstalled      the store is full"));
    assert!(
        fs::read_to_string(&err)
            .unwrap()
            .contains("the store is full, and a program waits: make it larger: semper grow")
    );
    let stopped = session.output(&mut session.on_store("stop"));
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(crate::harness::wait_for(&mut runtime).code(), Some(124));
    session.assert_sound();
    // In a larger store it goes on as if nothing had been.
    let mut more = session.on_store("resume");
    let mut stdout = File::options().write(true).open(&out).unwrap();
    std::io::Seek::seek(&mut stdout, std::io::SeekFrom::End(0)).unwrap();
    let mut runtime = more.args(["--size", "1G"]).stdout(stdout).spawn().unwrap();
    let native = case.native();
    assert_eq!(crate::harness::wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
}
