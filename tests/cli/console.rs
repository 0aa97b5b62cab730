//! Pipes and terminals as standard input and output.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Case, Libc, Session, c_program, sigkill, wait_for};

/// Longer than any commit, far shorter than the interval: output that comes within it did not wait for the interval.
const SOON: Duration = Duration::from_secs(5);
const NEVER: &[&str] = &["--checkpoint-interval", "1h"];

/// Each of these answers came soon, and most of them as soon as a person calls immediate, even on a busy machine.
fn assert_immediate(mut took: Vec<Duration>) {
    took.sort_unstable();
    assert!(took[took.len() / 2] < Duration::from_secs(1) && took[took.len() - 1] < SOON, "the answers took {took:?}");
}

/// A program that answers each line, with pipes.
struct Answering {
    session: Session,
    runtime: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    number: u32,
}

impl Answering {
    fn start(flags: &[&str]) -> Option<Answering> {
        let program = c_program("echo_lines", Libc::Musl)?;
        let session = Session::new();
        let mut command = session.run(flags, &program, &["10"]);
        let mut runtime = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (runtime.stdin.take().unwrap(), runtime.stdout.take().unwrap());
        Some(Answering { session, runtime, stdin, lines: BufReader::new(stdout).lines(), number: 0 })
    }

    /// Asks, and waits for the answer; how long that took.
    fn ask(&mut self) -> Duration {
        self.number += 1;
        let (asked, number) = (Instant::now(), self.number);
        writeln!(self.stdin, "question {number}").unwrap();
        let answer = self.lines.next().unwrap().unwrap();
        assert!(answer.starts_with(&format!("{number} question {number} ")), "{answer}");
        asked.elapsed()
    }

    fn generation(&self) -> u64 {
        self.session.status()["store"]["generation"].as_u64().unwrap()
    }

    fn end(mut self) {
        drop(self.stdin);
        assert_eq!(self.lines.next().unwrap().unwrap(), "end of input");
        assert_eq!(wait_for(&mut self.runtime).code(), Some(3));
    }
}

#[test]
fn a_pipe_is_read_to_its_end_and_written_in_order() {
    let Some(program) = c_program("echo_lines", Libc::Musl) else { return };
    let input: String = (0..500).map(|number| format!("line {number}\n")).collect();
    let native = Case { input: Some(input.clone().into_bytes()), ..Case::new(&program, &["100"]) }.native();
    let session = Session::new();
    let mut runtime =
        session.run(&[], &program, &["100"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = runtime.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let mut said = String::new();
    runtime.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    writer.join().unwrap();
    assert_eq!(wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(said, native.stdout);
}

#[test]
fn held_output_hastens_the_checkpoint_that_lets_it_go() {
    let Some(mut program) = Answering::start(NEVER) else { return };
    assert_immediate((0..10).map(|_| program.ask()).collect());
    program.end();
}

#[test]
fn held_output_waits_for_a_commit_and_immediate_output_for_none() {
    for (how, least, most) in [("held", 5, u64::MAX), ("immediate", 0, 0)] {
        let Some(mut program) = Answering::start(&[NEVER, &["--output", how]].concat()) else { return };
        program.ask();
        let before = program.generation();
        assert_immediate((0..5).map(|_| program.ask()).collect());
        let commits = program.generation() - before;
        assert!((least..=most).contains(&commits), "{how}: {commits} commits for 5 answers");
        program.end();
    }
}

#[test]
fn held_output_hastens_no_more_often_than_the_gap() {
    let several = |flags: &[&str]| {
        let mut program = Answering::start(&[NEVER, flags].concat())?;
        program.ask();
        let took: Duration = (0..3).map(|_| program.ask()).sum();
        program.end();
        Some(took)
    };
    let (Some(wide), Some(default)) = (several(&["--output-gap", "1s"]), several(&[])) else { return };
    assert!(wide > Duration::from_millis(2500), "three gaps of a second took {wide:?}");
    assert!(default < Duration::from_millis(2500), "three gaps of 20 ms took {default:?}");
}

#[test]
fn input_that_was_consumed_before_a_kill_is_given_again() {
    let Some(program) = c_program("echo_lines", Libc::Musl) else { return };
    let session = Session::new();
    let (read, mut write) = std::io::pipe().unwrap();
    let out = session.place().join("out");
    let create = || File::options().create(true).append(true).open(&out).unwrap();
    let lines: Vec<String> = (0..400).map(|number| format!("line {number}\n")).collect();
    let mut command = session.run(&["--checkpoint-interval", "50ms"], &program, &["3000"]);
    let mut runtime = command.stdin(read.try_clone().unwrap()).stdout(create()).spawn().unwrap();
    session.wait_until("it runs", |_| true);
    let mut random = crate::harness::Rng::with_seed(crate::harness::seed());
    for part in lines.chunks(50) {
        write.write_all(part.concat().as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(5..120)));
        // It waits for more: it cannot have ended.
        assert!(sigkill(&mut runtime));
        let mut resume = session.on_store("resume");
        resume.args(["--checkpoint-interval", "50ms"]).stdin(read.try_clone().unwrap()).stdout(create());
        runtime = resume.spawn().unwrap();
    }
    drop((read, write));
    assert_eq!(wait_for(&mut runtime).code(), Some(3));
    let native = Case { input: Some(lines.concat().into_bytes()), ..Case::new(&program, &["3000"]) }.native();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), native.stdout);
}

#[test]
fn a_terminal_feels_immediate_at_any_interval() {
    let Some(program) = c_program("echo_lines", Libc::Musl) else { return };
    for flags in [NEVER, &["--checkpoint-interval", "1h", "--output", "immediate"]] {
        let session = Session::new();
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut runtime =
            session.run(flags, &program, &["10"]).stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        // Once the runtime is gone, reading fails instead of waiting for ever.
        drop(pty.slave);
        let mut terminal = File::from(pty.master.try_clone().unwrap());
        let mut seen = BufReader::new(terminal.try_clone().unwrap());
        let mut took = Vec::new();
        for number in 1..=5 {
            let asked = Instant::now();
            writeln!(terminal, "hello {number}").unwrap();
            let mut line = String::new();
            // The terminal echoes what was typed; the answer follows it.
            while !line.starts_with(&format!("{number} hello")) {
                line.clear();
                assert!(seen.read_line(&mut line).unwrap() > 0, "the terminal was closed");
            }
            took.push(asked.elapsed());
        }
        assert_immediate(took);
        terminal.write_all(&[4]).unwrap(); // Ctrl-D
        assert_eq!(wait_for(&mut runtime).code(), Some(3));
    }
}

#[test]
fn a_program_whose_reader_is_gone_gets_its_signal_and_the_error() {
    let Some(program) = c_program("reader_gone", Libc::Musl) else { return };
    for (how, code, said) in
        [("default", 128 + 13, ""), ("ignore", 6, "EPIPE after 0 signals"), ("handle", 6, "EPIPE after 1 signals")]
    {
        for flags in [&["--checkpoint-interval", "50ms"][..], &["--output", "immediate"]] {
            let session = Session::new();
            let errors = session.place().join("errors");
            let mut command = session.run(flags, &program, &[how]);
            command.stdout(Stdio::piped()).stderr(File::create(&errors).unwrap());
            let mut runtime = command.spawn().unwrap();
            let mut lines = BufReader::new(runtime.stdout.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "line 0");
            drop(lines);
            assert_eq!(wait_for(&mut runtime).code(), Some(code), "{how}");
            assert_eq!(std::fs::read_to_string(&errors).unwrap().trim_end(), said, "{how}");
        }
    }
}

#[test]
fn output_and_errors_in_one_pipe_keep_their_order() {
    let Some(program) = c_program("both", Libc::Musl) else { return };
    let native = Case { joined: true, ..Case::new(&program, &["3000", "10"]) }.native();
    let session = Session::new();
    let (mut read, write) = std::io::pipe().unwrap();
    let mut command = session.run(&[], &program, &["3000", "10"]);
    let mut runtime = command.stdout(write.try_clone().unwrap()).stderr(write).spawn().unwrap();
    drop(command);
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    assert_eq!(wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(said, native.stdout);
}
