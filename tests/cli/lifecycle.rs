//! stop, resume, checkpoint, status and check on a running and a resting store; two runtimes; several programs.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Background, Case, Libc, Rng, Session, c_program, rust_program, seed, sigkill, wait_for};
use nix::sys::signal::Signal;

/// About half a minute of work natively: it is always still running.
const ENDLESS: &[&str] = &["1000000000"];

#[test]
fn stop_ends_cleanly_and_resume_goes_on() {
    let program = rust_program("numeric");
    let native = Case::new(&program, &["20000000"]).native();
    let session = Session::new();
    let out = session.place().join("out");
    let mut command = session.run(&["--checkpoint-interval", "0"], &program, &["20000000"]);
    let mut runtime = command.stdout(File::create(&out).unwrap()).spawn().unwrap();
    session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(100));
    let stopped = session.output(&mut session.on_store("stop"));
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(wait_for(&mut runtime).code(), Some(124));
    assert_eq!(session.status()["live"], false);
    assert!(session.status()["checkpoints"]["totals"]["committed"].as_u64() > Some(0), "the last figures are not kept");
    assert_eq!(session.status()["domains"][0]["state"], "stopped");
    assert!(session.status()["domains"][0]["cpu_ms"].as_u64() > Some(100), "the time used is not kept");
    session.assert_sound();
    let end = fs::metadata(&out).unwrap().len();
    assert!(native.stdout.starts_with(&fs::read_to_string(&out).unwrap()));
    let file = File::options().append(true).open(&out).unwrap();
    assert_eq!(file.metadata().unwrap().len(), end);
    let mut runtime = session.on_store("resume").stdout(file).spawn().unwrap();
    assert_eq!(wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
}

#[test]
fn at_interval_zero_output_waits_until_somebody_asks() {
    let session = Session::new();
    let out = session.place().join("out");
    let mut command = session.run(&["--checkpoint-interval", "0"], &rust_program("numeric"), ENDLESS);
    let mut runtime = command.stdout(File::create(&out).unwrap()).spawn().unwrap();
    let held = |status: &serde_json::Value| status["domains"][0]["held_output"].as_u64() > Some(0);
    let before = session.wait_until("the program has written", held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(session.status()["store"]["generation"], before["store"]["generation"]);
    assert_eq!(fs::metadata(&out).unwrap().len(), 0);
    assert!(session.output(&mut session.on_store("checkpoint")).status.success());
    session.wait_until("the output is released", |_| fs::metadata(&out).unwrap().len() > 0);
    assert!(session.output(&mut session.on_store("stop")).status.success());
    assert_eq!(wait_for(&mut runtime).code(), Some(124));
}

#[test]
fn sigterm_and_sigint_are_clean_stops() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let session = Session::new();
        let mut runtime =
            session.background(&mut session.run(&["--checkpoint-interval", "0"], &rust_program("numeric"), ENDLESS));
        let before =
            session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(50));
        runtime.signal(signal);
        assert_eq!(runtime.wait().code(), Some(code));
        let after = session.status();
        assert_eq!(after["domains"][0]["state"], "stopped");
        let generation = |status: &serde_json::Value| status["store"]["generation"].as_u64().unwrap();
        assert!(generation(&after) > generation(&before), "no final checkpoint was taken");
        session.assert_sound();
    }
}

#[test]
fn an_exit_status_survives_restarts() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let output = session.output(&mut session.run(&[], &program, &["1", "3"]));
    assert_eq!(output.status.code(), Some(7));
    for _ in 0..2 {
        let output = session.output(&mut session.on_store("resume"));
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert!(output.stdout.is_empty(), "output was shown again");
    }
    assert_eq!(session.status()["domains"][0]["exit_code"], 7);
}

#[test]
fn checkpoint_prints_the_generation_that_it_committed() {
    let session = Session::new();
    let _runtime =
        session.background(&mut session.run(&["--checkpoint-interval", "0"], &rust_program("numeric"), ENDLESS));
    session.wait_until("the program works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(50));
    let mut last = 0;
    for _ in 0..3 {
        let output = session.output(&mut session.on_store("checkpoint"));
        assert!(output.status.success(), "{output:?}");
        let generation: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert!(generation > last);
        assert_eq!(session.status()["store"]["generation"], generation);
        last = generation;
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn commands_on_what_does_not_run_say_so() {
    let session = Session::new();
    for command in ["checkpoint", "stop", "status", "check", "resume"] {
        let output = session.output(&mut session.on_store(command));
        assert_eq!(output.status.code(), Some(121), "{command}: {output:?}");
    }
    let output = session.output(&mut session.run(&[], &rust_program("std_mix"), &["1"]));
    assert_eq!(output.status.code(), Some(5));
    for command in ["checkpoint", "stop"] {
        let output = session.output(&mut session.on_store(command));
        assert_eq!(output.status.code(), Some(123), "{command}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("semper resume"), "no hint: {output:?}");
    }
}

#[test]
fn a_second_runtime_is_refused_and_the_first_goes_on() {
    let session = Session::new();
    let mut runtime = session.background(&mut session.run(&[], &rust_program("numeric"), ENDLESS));
    session.wait_until("it runs", |_| true);
    let output = session.output(&mut session.on_store("resume"));
    assert_eq!(output.status.code(), Some(120), "{output:?}");
    assert!(runtime.0.try_wait().unwrap().is_none());
    // The lock refuses too, without the socket.
    fs::remove_file(session.store().join("control")).unwrap();
    let output = session.output(&mut session.on_store("resume"));
    assert_eq!(output.status.code(), Some(120), "{output:?}");
}

#[test]
fn a_world_does_not_go_on_where_the_processor_lacks_what_its_programs_may_use() {
    const WITHOUT: &str = "SEMPER_PROCESSOR_WITHOUT";
    let session = Session::new();
    let mut runtime = session.background(&mut session.run(&[], &rust_program("numeric"), ENDLESS));
    let running = |status: &serde_json::Value| status["domains"][0]["state"] == "running";
    session.wait_until("it runs", running);
    assert!(sigkill(&mut runtime.0));
    let generation = session.status()["store"]["generation"].clone();
    let refused = session.output(session.on_store("resume").env(WITHOUT, "ssse3,sse4.2,tbm"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("lacks") && said.contains("ssse3, sse4.2;"), "{refused:?}");
    assert_eq!(session.status()["store"]["generation"], generation);
    let mut runtime = session.background(&mut session.on_store("resume"));
    session.wait_until("it runs", running);
    assert!(session.output(session.on_store("kill").arg("numeric-rust")).status.success());
    assert_eq!(runtime.wait().code(), Some(137));
    // Whoever is started where something is missing goes on there, once nobody is left who may use it.
    let mut command = session.run(&["--name", "second"], &rust_program("numeric"), ENDLESS);
    let mut runtime = session.background(command.env(WITHOUT, "sse4.2"));
    session.wait_until("the second runs", |status| status["domains"][1]["state"] == "running");
    assert!(sigkill(&mut runtime.0));
    let _runtime = session.background(session.on_store("resume").env(WITHOUT, "sse4.2"));
    session.wait_until("it runs", |status| status["domains"][1]["state"] == "running");
}

#[test]
fn check_runs_beside_a_live_runtime() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let _runtime =
        session.background(&mut session.run(&["--checkpoint-interval", "10ms"], &program, &["32", "100000"]));
    session.wait_until("it commits", |status| status["store"]["generation"].as_u64() > Some(3));
    for _ in 0..5 {
        session.assert_sound();
    }
}

#[test]
fn programs_run_side_by_side_and_each_client_gets_its_own_status() {
    let Some(memory) = c_program("memory", Libc::Musl) else { return };
    let (first, second) = (Case::new(rust_program("numeric"), &["20000000"]), Case::new(memory, &["4", "200"]));
    let session = Session::new();
    let out = session.place().join("first");
    let mut command = session.run(&["--name", "first"], &first.program, &["20000000"]);
    let mut runtime = command.stdout(File::create(&out).unwrap()).spawn().unwrap();
    session.wait_until("it runs", |_| true);
    let output = session.output(&mut session.run(&["--name", "second"], &second.program, &["4", "200"]));
    let native = second.native();
    assert_eq!(output.status.code(), Some(native.code));
    assert_eq!(String::from_utf8_lossy(&output.stdout), native.stdout);
    let names: Vec<_> = session.status()["domains"].as_array().unwrap().iter().map(|d| d["name"].clone()).collect();
    assert_eq!(names, ["first", "second"]);
    let native = first.native();
    assert_eq!(wait_for(&mut runtime).code(), Some(native.code));
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
}

#[test]
fn flags_of_the_runtime_are_refused_beside_a_live_one() {
    let session = Session::new();
    let program = rust_program("std_mix");
    let mut runtime = session.background(&mut session.run(&[], &rust_program("numeric"), ENDLESS));
    session.wait_until("it runs", |_| true);
    for flags in [
        ["--memory", "64M"],
        ["--checkpoint-interval", "1s"],
        ["--size", "4G"],
        ["--output", "held"],
        ["--output-gap", "20ms"],
    ] {
        let output = session.output(&mut session.run(&flags, &program, &["1"]));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("{} belongs to the start of a runtime", flags[0])), "{said}");
        assert!(said.contains("semper stop"), "{said}");
    }
    assert_eq!(session.status()["domains"].as_array().unwrap().len(), 1, "a program was added all the same");
    assert_eq!(session.output(&mut session.run(&[], &program, &["1"])).status.code(), Some(5));
    assert!(runtime.0.try_wait().unwrap().is_none());
}

#[test]
fn a_name_that_is_asked_for_must_be_free_and_the_default_is_numbered() {
    let session = Session::new();
    let program = rust_program("std_mix");
    let named = |name: &str| session.output(&mut session.run(&["--name", name], &program, &["1"]));
    let default = || session.output(&mut session.run(&[], &program, &["1"]));
    let names = || -> Vec<String> {
        let status = session.status();
        status["domains"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    let assert_taken = || {
        let output = named("mine");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("the name mine is taken"), "{output:?}");
        assert!(output.stdout.is_empty(), "it ran all the same");
    };
    assert_eq!(named("mine").status.code(), Some(5));
    assert_taken();
    for _ in 0..2 {
        assert_eq!(default().status.code(), Some(5));
    }
    let file = program.file_name().unwrap().to_str().unwrap();
    assert_eq!(names(), ["mine".to_owned(), file.to_owned(), format!("{file}-2")]);
    let _runtime = session.background(&mut session.run(&["--name", "live"], &rust_program("numeric"), ENDLESS));
    session.wait_until("it runs", |status| status["domains"].as_array().unwrap().len() == 4);
    assert_taken();
    assert_eq!(names().len(), 4);
}

#[test]
fn a_size_below_that_of_the_store_is_said_to_be_ignored() {
    let session = Session::new();
    let program = rust_program("std_mix");
    let said = |flags: &[&str]| {
        let output = session.output(&mut session.run(flags, &program, &["1"]));
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!said(&[]).contains("is ignored"));
    assert!(!said(&["--size", "2G"]).contains("is ignored"));
    assert!(said(&["--size", "1G"]).contains("the size 1.00 GiB is ignored"));
    let output = session.output(session.on_store("resume").args(["--size", "1G"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has 2.00 GiB already"), "{output:?}");
}

#[test]
fn several_programs_survive_kills_together() {
    let Some(memory) = c_program("memory", Libc::Musl) else { return };
    let cases = [("one", Case::new(rust_program("numeric"), &["25000000"])), ("two", Case::new(memory, &["8", "400"]))];
    let session = Session::new();
    let out = |name: &str| session.place().join(format!("out-{name}"));
    let start = |name: &str, flags: &[&str], case: &Case| {
        let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
        let mut command = session.run(&[&["--name", name], flags].concat(), &case.program, &args);
        command.stdout(File::create(out(name)).unwrap()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut runtime = start(cases[0].0, &["--checkpoint-interval", "50ms"], &cases[0].1);
    session.wait_until("one runs", |_| true);
    let mut client = start(cases[1].0, &[], &cases[1].1);
    session.wait_until("two runs", |status| status["domains"].as_array().unwrap().len() == 2);
    let mut random = crate::harness::Rng::with_seed(crate::harness::seed());
    let mut kills = 0;
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(random.u64(20..250)));
        kills += u32::from(sigkill(&mut runtime));
        let mut resume = session.on_store("resume");
        resume.args(["--checkpoint-interval", "50ms"]);
        for (name, _) in &cases {
            resume.arg("--stdout").arg(format!("{name}={}", out(name).display()));
        }
        runtime = resume.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    }
    let _ = client.kill();
    let _ = client.wait();
    wait_for(&mut runtime);
    assert!(kills >= 1, "{kills} of 6 kills came");
    for (name, case) in &cases {
        assert_eq!(fs::read_to_string(out(name)).unwrap(), case.native().stdout, "{name}");
    }
}

#[test]
fn a_killed_process_of_a_program_is_replaced_and_nobody_notices() {
    let session = Session::new();
    let program = rust_program("numeric");
    let case = |work: &'static str| Case::new(&program, &[work]);
    let (killed, beside) = (case("60000000"), case("50000000"));
    let natives = [killed.native(), beside.native()];
    let outs = ["killed", "beside"].map(|name| session.place().join(name));
    let start = |name: &str, flags: &[&str], case: &Case, out: &Path| {
        let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
        let mut command = session.run(&[&["--name", name], flags].concat(), &case.program, &args);
        command.stdout(File::create(out).unwrap()).spawn().unwrap()
    };
    let mut runtime = start("killed", &["--checkpoint-interval", "50ms"], &killed, &outs[0]);
    session.wait_until("it runs", |_| true);
    let mut client = start("beside", &[], &beside, &outs[1]);
    let mut gone = 0;
    let mut neighbour = None;
    for _ in 0..5 {
        // Another process than the one that was killed.
        let there = |status: &serde_json::Value| {
            let pid = |at: usize| status["domains"][at]["pid"].as_i64();
            pid(0).is_some_and(|pid| pid != gone) && pid(1).is_some()
        };
        let status = session.wait_until("both have a process", there);
        let pid = status["domains"][0]["pid"].as_i64().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        gone = pid;
        let beside = status["domains"][1]["pid"].as_i64();
        assert_eq!(*neighbour.get_or_insert(beside), beside, "the program beside has another process");
        std::thread::sleep(Duration::from_millis(60));
        assert!(runtime.try_wait().unwrap().is_none(), "the runtime ended with the process of a program");
    }
    assert_eq!(wait_for(&mut client).code(), Some(natives[1].code));
    assert_eq!(wait_for(&mut runtime).code(), Some(natives[0].code));
    for (out, native) in outs.iter().zip(&natives) {
        assert_eq!(fs::read_to_string(out).unwrap(), native.stdout);
    }
}

/// Found by reading: whoever died just as it was told to change its mappings took its program with it.
#[test]
fn a_process_that_dies_while_it_changes_mappings_is_replaced() {
    let Some(program) = c_program("remaps", Libc::Glibc) else { return };
    let case = Case::new(&program, &["4000"]);
    let session = Session::new();
    let out = session.place().join("out");
    let flags = ["--checkpoint-interval", "10ms"];
    let mut command = session.run(&flags, &program, &["4000"]);
    command.env("SEMPER_VERIFY_CAPTURES", "1");
    let mut runtime = Background(command.stdout(File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap());
    let mut random = Rng::with_seed(seed());
    let (mut kills, mut committed) = (0, 0);
    while kills < 20 && runtime.0.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(random.u64(1..20)));
        let output = session.on_store("status").arg("--json").output().unwrap();
        let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { continue };
        // One that dies again and again before it gets anywhere is ended.
        let now = status["checkpoints"]["totals"]["committed"].as_u64().unwrap_or(0);
        let Some(pid) = status["domains"][0]["pid"].as_i64().filter(|_| now > committed) else { continue };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        kills += u32::from(nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok());
        committed = now;
    }
    assert!(kills >= 1, "{kills} kills came");
    let native = case.native();
    assert_eq!(runtime.wait().code(), Some(native.code), "after {kills} kills");
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
}

#[test]
fn the_processes_of_programs_die_with_the_runtime() {
    let session = Session::new();
    let mut runtime = session.background(&mut session.run(&[], &rust_program("numeric"), ENDLESS));
    let status = session.wait_until("it has a process", |status| status["domains"][0]["pid"].is_i64());
    let pid = status["domains"][0]["pid"].as_i64().unwrap();
    runtime.signal(Signal::SIGKILL);
    runtime.wait();
    let gone = || {
        // A zombie that nobody has reaped is dead as well.
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !gone() {
        assert!(std::time::Instant::now() < deadline, "process {pid} outlives its runtime");
        std::thread::sleep(Duration::from_millis(5));
    }
}
