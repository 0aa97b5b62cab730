//! What reaches a reader while the runtime is killed or stopped again and again: in a file each byte once, in a pipe at most the last piece
//! twice.

use std::fs::{self, File};
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use semper::control::Connection;

use crate::harness::{Case, Libc, Rng, Session, c_program, seed, sigkill, wait_for};

const OFTEN: &[&str] = &["--checkpoint-interval", "50ms"];

/// The first command that starts the program, then those that resume it.
fn next_life(session: &Session, case: &Case) -> std::process::Command {
    if session.store().join("pages").exists() {
        let mut resume = session.on_store("resume");
        resume.args(OFTEN);
        resume
    } else {
        case.start(session)
    }
}

fn wait_until_up(session: &Session, runtime: &mut std::process::Child) {
    while Connection::open(&session.store()).is_err() && runtime.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_kill_amid_a_stop_loses_and_doubles_nothing() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let case = Case::new(program, &["25000"]);
    let native = case.native();
    let session = Session::new();
    let mut random = Rng::with_seed(seed());
    let out = session.place().join("out");
    let mut stdout = File::create(&out).unwrap();
    let (mut killed, mut stopped) = (0, 0);
    for _ in 0..14 {
        let mut command = next_life(&session, &case);
        let mut runtime = command.stdout(stdout.try_clone().unwrap()).stderr(Stdio::null()).spawn().unwrap();
        wait_until_up(&session, &mut runtime);
        std::thread::sleep(Duration::from_millis(random.u64(20..80)));
        let mut stop = session.background(&mut session.on_store("stop"));
        std::thread::sleep(Duration::from_micros(random.u64(0..25_000)));
        let _ = runtime.kill();
        stop.wait();
        match wait_for(&mut runtime).code() {
            None => killed += 1,
            Some(124) => stopped += 1,
            Some(code) => panic!("a life ended with {code}"),
        }
        assert!(native.stdout.as_bytes().starts_with(&fs::read(&out).unwrap()), "after {killed} kills");
        stdout = File::options().append(true).open(&out).unwrap();
    }
    eprintln!("{killed} killed, {stopped} stopped before");
    assert!(killed > 0, "no kill came in time");
    let mut runtime = next_life(&session, &case).stdout(stdout).spawn().unwrap();
    assert_eq!(wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
    session.assert_sound();
}

#[test]
fn output_without_end_is_in_the_file_once_over_any_kills() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let session = Session::new();
    let case = Case::new(&program, &["0"]);
    let out = session.place().join("out");
    File::create(&out).unwrap();
    let mut random = Rng::with_seed(seed());
    let mut lengths = vec![0];
    for life in 0..8 {
        let stdout = File::options().append(true).open(&out).unwrap();
        let mut runtime = next_life(&session, &case).stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
        wait_until_up(&session, &mut runtime);
        let before = fs::metadata(&out).unwrap().len();
        // However long that takes on a busy machine, each life gets somewhere.
        session.wait_until("there is output", |_| fs::metadata(&out).unwrap().len() > before);
        std::thread::sleep(Duration::from_millis(random.u64(0..150)));
        if life == 7 {
            assert!(session.output(&mut session.on_store("stop")).status.success());
        } else {
            runtime.kill().unwrap();
        }
        wait_for(&mut runtime);
        lengths.push(fs::metadata(&out).unwrap().len());
    }
    assert!(lengths.windows(2).all(|pair| pair[0] < pair[1]), "{lengths:?}");
    let said = fs::read_to_string(&out).unwrap();
    let lines = said.lines().count() + 100;
    let native = Case::new(&program, &[&lines.to_string()]).native();
    assert!(native.stdout.starts_with(&said), "what was said is no beginning of what a native run says");
}

/// Each life has a pipe of its own. What came through one before its runtime died may be said again from the last piece on, never more, and
/// nothing is left out.
#[test]
fn in_a_pipe_at_most_the_last_piece_is_said_again() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let case = Case::new(program, &["12000"]);
    let native = case.native().stdout;
    let session = Session::new();
    let mut random = Rng::with_seed(seed());
    let (mut said, mut repeated, mut kills) = (0, 0, 0);
    for life in 0..8 {
        let mut runtime = next_life(&session, &case).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut pipe = runtime.stdout.take().unwrap();
        // Each read takes what one release wrote: its pieces.
        let reader = std::thread::spawn(move || {
            let (mut pieces, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                pieces.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
            }
            pieces
        });
        if life < 7 {
            wait_until_up(&session, &mut runtime);
            std::thread::sleep(Duration::from_millis(random.u64(30..250)));
            kills += u32::from(sigkill(&mut runtime));
        }
        let status = wait_for(&mut runtime);
        let pieces = reader.join().unwrap();
        let all = pieces.concat();
        let Some(first) = all.get(..all.len().min(200)).filter(|first| !first.is_empty()) else { continue };
        // A line has a number, so that there is one place only where this can be from.
        let from = native.find(first).expect("what no native run says");
        assert!(native[from..].starts_with(&all), "a gap or a repetition within a life");
        assert!(from <= said, "life {life}: {} bytes were left out", from - said);
        assert!(said - from <= repeated, "life {life}: {} bytes again, the last piece had {repeated}", said - from);
        said = from + all.len();
        repeated = pieces.last().map_or(0, String::len);
        if life == 7 {
            assert_eq!(status.code(), Some(8));
        }
    }
    assert_eq!(said, native.len());
    assert!(kills >= 1, "{kills} of 7 kills came");
}

#[test]
fn two_programs_overwrite_nothing_of_each_other_in_one_file() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let session = Session::new();
    let out = session.place().join("shared");
    let add = || File::options().create(true).append(true).open(&out).unwrap();
    let flags = ["--checkpoint-interval", "50ms"];
    let native = Case::new(&program, &["12000", "whole"]).native();
    let mut first =
        session.run(&flags, &program, &["12000", "whole"]).stdout(File::create(&out).unwrap()).spawn().unwrap();
    session.wait_until("the first has begun", |status| status["domains"][0]["state"] == "running");
    let mut second =
        session.run(&[], &program, &["12000", "whole"]).stdout(add()).stderr(Stdio::null()).spawn().unwrap();
    session.wait_until("the second has begun", |status| status["domains"][1]["state"] == "running");
    let mut rng = Rng::with_seed(seed());
    std::thread::sleep(Duration::from_millis(rng.u64(50..400)));
    let mut kills = u32::from(sigkill(&mut first));
    wait_for(&mut second);
    let mut first = session.on_store("resume").args(flags).stdout(add()).spawn().unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(rng.u64(50..400)));
        kills += u32::from(sigkill(&mut first));
        first = session.on_store("resume").args(flags).stdout(add()).spawn().unwrap();
    }
    wait_for(&mut first);
    assert!(kills >= 1, "{kills} of 4 kills came");
    // As to a pipe, a death may repeat the piece that was leaving; nothing may be lost, changed or cut.
    let said = fs::read_to_string(&out).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    said.lines().for_each(|line| *counts.entry(line).or_insert(0) += 1);
    let expected: std::collections::BTreeSet<&str> = native.stdout.lines().collect();
    assert!(counts.keys().all(|line| expected.contains(line)), "{said}");
    assert!(expected.iter().all(|line| counts.get(line).is_some_and(|count| *count >= 2)), "{said}");
}
