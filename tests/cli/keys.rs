//! Linux programs that invoke keys and are called, native programs that are given keys by the operator, and what goes wrong with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Case, Libc, Rng, Session, c_program, linux_program, native_program, seed, sigkill, wait_for};

const GAP: Duration = Duration::from_millis(250);
const KILLS: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of a pair.
struct Part {
    name: &'static str,
    flags: &'static [&'static str],
    program: PathBuf,
    args: &'static [&'static str],
}

/// What an end left: the outputs, and the exit code of the last command.
type Left = ([String; 2], Option<i32>);

/// Runs a server and then its client in one store, and kills the runtime so often meanwhile.
fn together(parts: &[Part; 2], kills: u32, random: &mut Rng) -> Left {
    let session = Session::new();
    let out = |part: &Part| session.place().join(part.name);
    let err = || File::options().append(true).create(true).open(session.place().join("err")).unwrap();
    let start = |part: &Part, flags: &[&str]| -> Child {
        let flags = [flags, &["--name", part.name], part.flags].concat();
        let mut command = session.run(&flags, &part.program, part.args);
        command.stdout(File::create(out(part)).unwrap()).stderr(err()).spawn().unwrap()
    };
    let [server, client] = parts;
    let mut runtime = start(server, &["--checkpoint-interval", "50ms"]);
    session.wait_until("the server runs", |status| status["domains"][0]["state"] == "running");
    let mut added = start(client, &[]);
    let begun = Instant::now();
    while session.status()["domains"].as_array().unwrap().len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(session.place().join("err")).unwrap());
    }
    // What is shown may not be committed yet.
    session.output(&mut session.on_store("checkpoint"));
    let mut came = 0;
    for _ in 0..kills {
        std::thread::sleep(GAP.mul_f64(0.1 + 0.9 * random.f64()));
        came += u32::from(sigkill(&mut runtime));
        let mut resume = session.on_store("resume");
        resume.args(["--checkpoint-interval", "50ms"]);
        for part in parts {
            resume.arg("--stdout").arg(format!("{}={}", part.name, out(part).display()));
        }
        runtime = resume.stdout(Stdio::null()).stderr(err()).spawn().unwrap();
    }
    let code = wait_for(&mut runtime).code();
    wait_for(&mut added);
    // How many come depends on the machine; with none it was no test.
    assert!(came >= kills.min(1), "{came} of {kills} kills came: the programs had ended");
    session.assert_sound();
    (parts.each_ref().map(|part| fs::read_to_string(out(part)).unwrap()), code)
}

/// Undisturbed and killed they print the same, each of them this as its last line.
fn assert_pair(parts: &[Part; 2], last: [&str; 2]) {
    let mut random = Rng::with_seed(seed());
    let undisturbed = together(parts, 0, &mut random);
    assert_eq!(undisturbed.0.each_ref().map(|out| out.lines().last().unwrap_or_default()), last);
    assert_eq!(undisturbed.1, Some(0));
    assert_eq!(together(parts, KILLS, &mut random), undisturbed);
}

#[test]
fn a_linux_program_is_a_client_of_a_native_server() {
    let parts = [
        Part { name: "kv", flags: &["--native"], program: native_program("kv"), args: &["serve"] },
        Part { name: "client", flags: &["--key", "12=kv:5"], program: linux_program("linux-client"), args: &["4000"] },
    ];
    let last = "the server holds (1601, 7032000), expected (1601, 7032000), 0 wrong";
    assert_pair(&parts, ["kv: closed with 1601 values", last]);
}

#[test]
fn a_linux_program_is_a_server_of_a_native_client() {
    let parts = [
        Part { name: "map", flags: &[], program: linux_program("linux-server"), args: &[] },
        Part {
            name: "client",
            flags: &["--native", "--key", "12=map"],
            program: native_program("kv"),
            args: &["client", "2000"],
        },
    ];
    let last = "kv: 2000 entries, 1600 are left with sum 5097575, 0 wrong";
    assert_pair(&parts, ["closed with 1600 values", last]);
}

#[test]
fn outside_semper_there_is_no_kernel() {
    let outcome = Case::new(linux_program("linux-client"), &["5"]).native();
    assert_eq!((outcome.stdout.as_str(), outcome.code), ("error: there is no kernel of Semper's here\n", 1));
}

/// What `keys_errors` prints: each refusal with what names it.
const REFUSALS: &str = "\
the clock: 0
it runs: 1
a wrong order: 0x80000001 11 31
another: 0x80000001 11 4294967295
no slot: 0x8000000a 99 0
an empty slot: 0x80000007 13 0
too long a string: 0x80000002 5000 4096
the longest number: 0x80000002 4294967295 4096
a string for nothing: 0x80000002 1 0
a key is missing: 0x80000003 0 0
a key from no slot: 0x8000000a 77 0
a key to no slot: 0x8000000a 44 0
registers of Linux: 0x80000018 0 0
input by a key: 0x80000005 255 1
what a key is: 0
type 8, rights 35
a write: 0
a read: 0
over the edge of two pages
a read beyond the end: 0x80000009 0 1048576
written by a key
by the console key: 0
a call of itself: 0x80000014 0 0
a deadline: 0x8000000b 0 0
a signal while it queues: 0xfffffffe
a signal while it waits: 0xfffffffe
a signal and a deadline: 0x8000000b 0 0
a sale: 0
a void key: 0x80000006 255 0
bad pointer 0: -14 -14
bad pointer 1: -14 -14
bad pointer 2: -14 -14
bad pointer 3: -14 -14
bad pointer 4: -14 -14
bad pointer 5: -14 -14
still there: 0
";

#[test]
fn what_a_linux_program_invokes_wrongly_is_named_and_signals_end_its_waits() {
    let Some(program) = c_program("keys_errors", Libc::Glibc) else { return };
    let case = Case::new(program, &[]);
    let (outcome, takes) = case.timed_undisturbed();
    assert_eq!((outcome.stdout.as_str(), outcome.code), (REFUSALS, 7));
    let mut random = Rng::with_seed(seed());
    assert_eq!(case.killed(4, takes / 4, &mut random).outcome, outcome);
}

#[test]
fn a_linux_program_that_floods_harms_nobody() {
    let Some(hostile) = c_program("keys_flood", Libc::Glibc) else { return };
    let session = Session::new();
    let out = session.place().join("out");
    let mut victim = session.run(&["--native", "--name", "kv"], &native_program("kv"), &["1500"]);
    let mut victim = victim.stdout(File::create(&out).unwrap()).spawn().unwrap();
    session.wait_until("the victim runs", |status| status["domains"][0]["state"] == "running");
    let mut random = Rng::with_seed(seed());
    for _ in 0..4 {
        let of = random.u32(..).to_string();
        let mut command = session.run(&[], &hostile, &[&of, "3000"]);
        let output = session.output(&mut command);
        assert!(matches!(output.status.code(), Some(0)), "{of}: {output:?}");
    }
    assert_eq!(wait_for(&mut victim).code(), Some(0));
    let line = "kv: 4 clients, 1500 entries each, 4800 are left with sum 15249216, 0 wrong\n";
    assert_eq!(fs::read_to_string(&out).unwrap(), line);
    assert!(banks(&session).is_empty(), "something was left behind");
    session.assert_sound();
}

/// The banks that the prime bank sold.
fn banks(session: &Session) -> Vec<serde_json::Value> {
    let output = session.output(session.on_store("ls").arg("--json"));
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    listing["bank"]["banks"].as_array().unwrap().clone()
}

/// Ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A store in which a native server `kv` waits.
fn with_server() -> (Session, Ending) {
    let session = Session::new();
    let mut command = session.run(&["--native", "--name", "kv"], &native_program("kv"), &["serve"]);
    let runtime = Ending(command.stdout(Stdio::null()).spawn().unwrap());
    session.wait_until("the server runs", |status| status["domains"][0]["state"] == "running");
    (session, runtime)
}

#[test]
fn a_key_that_cannot_be_given_is_refused_and_nothing_is_left() {
    let (session, _runtime) = with_server();
    let (linux, native) = (linux_program("linux-client"), native_program("kv"));
    let before = banks(&session).len();
    let segment = banks(&session)[0]["sold"].as_array().unwrap().iter().find(|sold| sold["kind"] == "segment").unwrap()
        ["object"]
        .as_str()
        .unwrap()
        .to_owned();
    let of_a_segment = format!("12={segment}");
    for (native_too, key, code, told) in [
        (true, "12=nobody", 127, "semper ls"),
        (true, "12=999.9", 127, "semper ls"),
        (true, "16=kv", 2, "slots 0 to 15"),
        (true, "3=kv", 2, "slot 3 holds a key already; free are"),
        (true, of_a_segment.as_str(), 2, "no domain"),
        (false, "300=kv", 2, "no slot"),
        (false, "kv", 2, "SLOT=DOMAIN"),
        (false, "12=", 2, "SLOT=DOMAIN"),
    ] {
        let of = |flags: &[&str], program: &Path| {
            let output =
                session.output(&mut session.run(&[flags, &["--key", key]].concat(), program, &["client", "1"]));
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{key}: {error}");
            assert!(error.contains(told), "{key}: {error}");
        };
        of(&[], &linux);
        if native_too {
            of(&["--native"], &native);
        }
    }
    let twice = ["--key", "12=kv", "--key", "12=kv"];
    let output = session.output(&mut session.run(&twice, &linux, &["1"]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // What was given back is freed by and by.
    let begun = Instant::now();
    while banks(&session).len() > before {
        assert!(begun.elapsed() < PATIENCE, "{:?}", banks(&session));
    }
    assert_eq!(session.status()["domains"].as_array().unwrap().len(), 1);
}

#[test]
fn who_waits_for_a_domain_that_is_killed_is_told() {
    let (session, _runtime) = with_server();
    let on = |args: &[&str]| {
        let output = session.output(session.on_store(args[0]).args(&args[1..]));
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    on(&["stop", "kv"]);
    let out = session.place().join("client");
    let mut client = session.run(&["--key", "12=kv"], &linux_program("linux-client"), &["5"]);
    let mut client = client.stdout(File::create(&out).unwrap()).spawn().unwrap();
    let queued = |until: &str| {
        let begun = Instant::now();
        loop {
            let output = session.output(session.on_store("inspect").args(["linux-client", "--json"]));
            let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if seen["waits"]["until"] == until {
                return assert_eq!((&seen["linux"], &seen["program"]), (&true.into(), &"linux-client".into()));
            }
            assert!(begun.elapsed() < PATIENCE, "{output:?}");
        }
    };
    queued("turn");
    on(&["kill", "kv"]);
    assert_eq!(wait_for(&mut client).code(), Some(1));
    assert_eq!(fs::read_to_string(&out).unwrap(), "error: the domain that was to answer is gone\n");
}

#[test]
fn a_killed_linux_server_is_told_to_its_callers_and_a_stopped_one_lets_them_queue() {
    let session = Session::new();
    let mut server = session.run(&["--name", "map"], &linux_program("linux-server"), &[]);
    let mut runtime = Ending(server.stdout(Stdio::null()).spawn().unwrap());
    session.wait_until("the server runs", |status| status["domains"][0]["state"] == "running");
    let on = |args: &[&str]| {
        let output = session.output(session.on_store(args[0]).args(&args[1..]));
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    on(&["stop", "map"]);
    assert!(on(&["ls"]).contains(" of Linux program map: available, stopped"), "{}", on(&["ls"]));
    let client = |entries: &str| -> Command {
        session.run(&["--native", "--name", "client", "--key", "12=map"], &native_program("kv"), &["client", entries])
    };
    let out = session.place().join("client");
    let mut client = client("100000").stdout(File::create(&out).unwrap()).spawn().unwrap();
    let begun = Instant::now();
    while !on(&["inspect", "map"]).contains("callers") {
        assert!(begun.elapsed() < PATIENCE, "{}", on(&["inspect", "map"]));
    }
    // Over a restart too.
    runtime.0.kill().unwrap();
    wait_for(&mut runtime.0);
    wait_for(&mut client);
    let to = format!("client={}", out.display());
    let mut resume = session.on_store("resume");
    runtime.0 = resume.args(["--stdout", &to]).stdout(Stdio::null()).spawn().unwrap();
    session.wait_until("it is back", |_| true);
    assert!(on(&["inspect", "map"]).contains("callers"));
    on(&["start", "map"]);
    std::thread::sleep(Duration::from_millis(50));
    on(&["kill", "map"]);
    wait_for(&mut runtime.0);
    // It may have died between two calls.
    let told = fs::read_to_string(&out).unwrap();
    assert!(
        ["error: the domain that was to answer is gone\n", "error: the invoked key is void\n"].contains(&told.as_str()),
        "{told}"
    );
    session.assert_sound();
}

#[test]
fn a_process_that_dies_after_it_invoked_keys_does_not_go_back_alone() {
    let Some(program) = c_program("keys_errors", Libc::Glibc) else { return };
    let session = Session::new();
    let flags = ["--name", "it", "--checkpoint-interval", "0", "--output", "immediate"];
    let mut command = session.run(&flags, &program, &["spin"]);
    let out = session.place().join("out");
    let mut runtime = Ending(command.stdout(File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    while fs::read_to_string(&out).unwrap() != "spinning\n" {
        assert!(begun.elapsed() < PATIENCE, "it does not spin");
    }
    let pid = session.status()["domains"][0]["pid"].as_i64().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(wait_for(&mut runtime.0).code(), Some(137));
}

#[test]
fn ls_and_inspect_show_the_domain_of_a_linux_program() {
    let session = Session::new();
    let mut command = session.run(&["--name", "it"], &rust_numeric(), &["1000000000"]);
    let mut runtime = Ending(command.stdout(Stdio::null()).spawn().unwrap());
    session.wait_until("it runs", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(20));
    let look = |session: &Session| {
        let bank = banks(session).into_iter().find(|bank| bank["program"] == "it").unwrap();
        let domain = bank["sold"].as_array().unwrap().iter().find(|sold| sold["kind"] == "domain").unwrap().clone();
        assert_eq!(
            (&domain["linux"], &domain["program"], &domain["phase"]),
            (&true.into(), &"it".into(), &"running".into())
        );
        domain
    };
    let domain = look(&session);
    assert!(domain["pages"].as_u64() > Some(10) && domain["pid"].is_u64() && domain["cpu_ns"].as_u64() > Some(1000));
    let object = domain["object"].as_str().unwrap();
    let inspect = |what: &str| session.output(session.on_store("inspect").args([what, "--json"])).stdout;
    let seen: serde_json::Value = serde_json::from_slice(&inspect(object)).unwrap();
    let types: Vec<&str> =
        seen["slots"].as_array().unwrap().iter().map(|slot| slot["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        ["console", "clock", "random", "bank", "meter", "log", "checkpoint", "restart", "discrim", "domain"]
    );
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&inspect("it")).unwrap()["object"], object);
    // By its number, as a native one.
    let stopped = session.output(session.on_store("stop").arg(object));
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(session.status()["domains"][0]["state"], "stopped");
    runtime.0.kill().unwrap();
    wait_for(&mut runtime.0);
    assert_eq!(look(&session)["object"], object, "at rest it has the same one");
}

fn rust_numeric() -> PathBuf {
    crate::harness::rust_program("numeric")
}
