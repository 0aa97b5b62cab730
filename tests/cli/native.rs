//! Native domain programs: the examples of `examples/native`, undisturbed and under a runtime that dies again and again.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{
    Background, Case, Libc, Rng, Session, c_program, native_c_program, native_program, seed, wait_for,
};

const KILLS: u32 = 5;

fn case(name: &str, args: &[&str]) -> Case {
    Case { run_flags: vec!["--native".into()], ..Case::new(native_program(name), args) }
}

/// Undisturbed and killed, it prints `last` as its last line; returns all that it prints.
fn assert_prints(name: &str, args: &[&str], last: &str) -> String {
    let case = case(name, args);
    let (undisturbed, takes) = case.timed_undisturbed();
    assert_eq!((undisturbed.stdout.lines().last(), undisturbed.code), (Some(last), 0));
    let mut random = Rng::with_seed(seed());
    assert_eq!(case.killed(KILLS, takes, &mut random).outcome, undisturbed);
    undisturbed.stdout
}

#[test]
fn arguments_arrive() {
    let outcome = case("hello", &["one", "two words"]).undisturbed();
    let name = native_program("hello");
    assert_eq!(outcome.stdout, format!("hello from {}, which has 2 arguments\n", name.display()));
    assert_eq!(outcome.code, 0);
}

#[test]
fn a_c_program_is_a_domain() {
    let Some(program) = native_c_program("hello") else { return };
    let outcome = Case { run_flags: vec!["--native".into()], ..Case::new(program, &["a", "b"]) }.undisturbed();
    assert_eq!(outcome.stdout, "hello from C with 2 arguments\nthe page holds what was written\n");
    assert_eq!(outcome.code, 0);
}

#[test]
fn accounts_are_badged_keys_and_their_sum_is_the_same_at_every_moment() {
    assert_prints("bank", &["600"], "bank: 1800 payments by 3 tellers, the accounts hold 8000, 0 audits disagree");
}

#[test]
fn a_server_keeps_its_map_without_persistence_code() {
    let line = "kv: 4 clients, 600 entries each, 1920 are left with sum 6157120, 0 wrong";
    assert_prints("kv", &["600"], line);
}

#[test]
fn a_domain_supplies_the_pages_of_a_segment() {
    assert_prints("pager", &["20"], "pager: 64 pages read 20 times, 200 faults, contents right: true");
}

#[test]
fn a_factory_certifies_a_calculator_that_can_tell_nobody() {
    let line = "calculator: 0 holes, certified true, 0 keys to tell by, 6 * 7 = 42";
    let printed = assert_prints("calculator", &["60"], line);
    assert!(printed.contains("has 0 holes, sealed: true; one with a console has 1\n"));
    assert!(printed.contains("it made the calculator: true; it made the imitation: false\n"));
    assert!(printed.contains("(2 + 3) * -4 = -20\n7 / (3 - 3): there is no such number\n1 +: that is no expression\n"));
}

#[test]
fn a_supervisor_begins_a_faulty_worker_anew() {
    let line = "supervisor: 75 answers, 45 questions lost, 45 restarts; the last panic: attempt to divide by zero";
    let printed = assert_prints("supervisor", &["15"], line);
    assert!(printed.starts_with("100 / 5 = 20, answer 1 of this life\n100 / 4 = 25, answer 2 of this life\n"));
    assert!(printed.contains("100 / 0: the worker was begun anew\n100 / 3 = 33, answer 1 of this life\n"));
}

#[test]
fn calls_between_two_domains_survive() {
    for bytes in ["0", "4096"] {
        let case = case("pingpong", &["3000", bytes]);
        let begins = format!("pingpong: 3000 calls with {bytes} bytes, ");
        let (_, takes) = case.timed_undisturbed();
        let mut random = Rng::with_seed(seed());
        let outcome = case.killed(KILLS, takes, &mut random).outcome;
        assert!(outcome.stdout.starts_with(&begins) && outcome.stdout.lines().count() == 1, "{}", outcome.stdout);
        assert_eq!(outcome.code, 0);
    }
}

/// What a program tells that takes all it can get, in one round.
fn greed(round: u32) -> String {
    format!(
        "round {round}: many domains were bred, their bank was empty: true\n\
         round {round}: refused: more mappings of a domain, more banks above each other, more meters above each other\n\
         round {round}: 9 slots were free, and no more\n"
    )
}

#[test]
fn a_program_that_exhausts_every_limit_harms_nobody_else() {
    let session = Session::new();
    let out = session.place().join("out");
    let mut victim = session.run(&["--native"], &native_program("kv"), &["1000"]);
    let mut victim = victim.stdout(File::create(&out).unwrap()).spawn().unwrap();
    session.wait_until("the victim runs", |status| status["domains"][0]["state"] == "running");
    let greedy = session.output(&mut session.run(&["--native"], &native_program("greedy"), &["3"]));
    let told: String = (1..=3).map(greed).chain(["greedy: it came through\n".to_owned()]).collect();
    assert_eq!(String::from_utf8(greedy.stdout).unwrap(), told);
    assert_eq!(greedy.status.code(), Some(0));
    assert_eq!(wait_for(&mut victim).code(), Some(0));
    let line = "kv: 4 clients, 1000 entries each, 3200 are left with sum 10186326, 0 wrong";
    assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("{line}\n"));
    session.assert_sound();
}

#[test]
fn a_hostile_domain_harms_neither_the_runtime_nor_its_neighbours() {
    let Some(hostile) = native_c_program("native_hostile") else { return };
    let session = Session::new();
    let out = session.place().join("out");
    let mut victim = session.run(&["--native"], &native_program("kv"), &["1500"]);
    let mut victim = victim.stdout(File::create(&out).unwrap()).spawn().unwrap();
    session.wait_until("the victim runs", |status| status["domains"][0]["state"] == "running");
    let mut random = Rng::with_seed(seed());
    for of in [(); 8].map(|()| random.u32(..).to_string()) {
        let mut hostile = session.run(&["--native", "--name", &of], &hostile, &[&of, "2000"]);
        let mut hostile = hostile.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(2);
        while hostile.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // It may have stopped itself for good.
        session.output(session.on_store("kill").arg(&of));
        let _ = hostile.kill();
        wait_for(&mut hostile);
    }
    // Most checks are met: of 27 errors these can have 20 or so.
    let log = session.output(&mut session.on_store("logs"));
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let answers = log.lines().filter_map(|line| line.split_once("answers: ")?.1.parse::<u32>().ok());
    let most = answers.max().unwrap_or(0);
    assert!(most >= 12, "{most} different answers: {log}");
    // Everything may have ended while a hostile one was the last: then the runtime has too, or another one is up for it.
    let _ = wait_for(&mut victim);
    let line = "kv: 4 clients, 1500 entries each, 4800 are left with sum 15249216, 0 wrong";
    let said = || std::fs::read_to_string(&out).unwrap();
    assert!(said().ends_with(&format!("{line}\n")), "{}", said());
}

#[test]
fn a_domain_that_asks_without_end_leaves_the_others_their_service() {
    let Some(flood) = native_c_program("native_flood") else { return };
    let session = Session::new();
    let mut idle = waiting(&session, &flood);
    let calls = || {
        let begun = Instant::now();
        let output = session.output(&mut session.run(&["--native"], &native_program("pingpong"), &["2000", "64"]));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        begun.elapsed()
    };
    let alone = calls();
    for how in ["invoke", "post", "map", "checkpoint", "log", "buy", "timer"] {
        let mut flood = session.background(&mut session.run(&["--native", "--name", how], &flood, &[how]));
        std::thread::sleep(Duration::from_millis(100));
        // It has a core of two, and each of its orders is served in turn. Once in a while others take the cores as well.
        let bound = alone * 10 + Duration::from_secs(1);
        let fails = |beside: &Duration| *beside >= bound;
        let slow: Vec<_> = (0..3).map(|_| calls()).take_while(fails).collect();
        assert!(slow.len() < 3, "{how}: {slow:?}, alone {alone:?}");
        let killed = session.output(session.on_store("kill").arg(how));
        assert!(killed.status.success(), "{how}: {killed:?}");
        flood.wait();
    }
    let killed = session.output(session.on_store("kill").arg("idle"));
    assert!(killed.status.success(), "{killed:?}");
    idle.wait();
    session.assert_sound();
}

/// A program in the store that only waits, so that the runtime stays up.
fn waiting(session: &Session, flood: &Path) -> Background {
    let waits = session.background(&mut session.run(&["--native", "--name", "idle"], flood, &["wait"]));
    session.wait_until("it runs", |status| status["domains"][0]["state"] == "running");
    waits
}

/// Checkpoints are made at once again.
fn assert_checkpoints(session: &Session) {
    let begun = Instant::now();
    let before = session.status()["store"]["generation"].as_u64();
    while session.status()["store"]["generation"].as_u64() == before {
        session.output(&mut session.on_store("checkpoint"));
        assert!(begun.elapsed() < Duration::from_secs(8), "no checkpoint is made");
    }
}

#[test]
fn who_holds_the_freeze_signal_back_is_ended_and_the_others_are_captured() {
    let (Some(refuser), Some(flood)) = (native_c_program("native_refuser"), native_c_program("native_flood")) else {
        return;
    };
    let Some(linux) = c_program("refuser", Libc::Musl) else { return };
    let session = Session::new();
    let _idle = waiting(&session, &flood);
    for how in ["mask", "sleep"] {
        let mut refuses = session.background(&mut session.run(&["--native"], &refuser, &[how]));
        std::thread::sleep(Duration::from_millis(200));
        assert_checkpoints(&session);
        assert_eq!(refuses.wait().code(), Some(137), "{how}");
    }
    let mut refuses = session.background(&mut session.run(&[], &linux, &[]));
    std::thread::sleep(Duration::from_millis(200));
    assert_checkpoints(&session);
    assert_eq!(refuses.wait().code(), Some(137));
    session.assert_sound();
}

#[test]
fn who_says_that_it_waits_and_runs_on_loses_its_process() {
    let (Some(refuser), Some(flood)) = (native_c_program("native_refuser"), native_c_program("native_flood")) else {
        return;
    };
    let session = Session::new();
    let _idle = waiting(&session, &flood);
    let _posts = session.background(&mut session.run(&["--native", "--name", "posts"], &refuser, &["post"]));
    session.wait_until("it was made", |status| status["domains"][1]["state"] == "running");
    // The one that waits keeps its process.
    session.wait_until("it has no process", |status| status["native"]["processes"] == 1);
    let stopped = session.output(session.on_store("stop").arg("posts"));
    assert!(stopped.status.success(), "{stopped:?}");
    assert_checkpoints(&session);
    session.assert_sound();
}

#[test]
fn a_domain_that_writes_more_than_the_store_holds_makes_no_checkpoint_fail() {
    let Some(selfish) = native_c_program("native_selfish") else { return };
    let session = Session::new();
    let mut fill = session.on_store("run");
    let mut fill = session.background(fill.args(["--size", "64M", "--native", "--"]).arg(selfish).arg("fill"));
    session.wait_until("the store is full, and that is told", |status| status["stalled"].is_string());
    assert!(session.output(&mut session.on_store("checkpoint")).status.success());
    assert_eq!(session.status()["checkpoints"]["totals"]["failed"], 0);
    // Whatever is to grow waits now, until there is room.
    let killed = session.output(session.on_store("kill").arg("native_selfish-native"));
    assert!(killed.status.success(), "{killed:?}");
    fill.wait();
    let kv = session.output(&mut session.run(&["--native"], &native_program("kv"), &["2"]));
    assert_eq!(kv.status.code(), Some(0), "{kv:?}");
    let checkpoints = session.status()["checkpoints"]["totals"].clone();
    assert_eq!(checkpoints["failed"], 0, "{checkpoints}");
    session.assert_sound();
}

#[test]
fn a_domain_that_buys_nodes_without_end_is_told_its_limit_and_takes_nobody_the_memory() {
    let Some(selfish) = native_c_program("native_selfish") else { return };
    let session = Session::new();
    let mut run = session.on_store("run");
    let nodes = session.output(run.args(["--size", "64M", "--native", "--"]).arg(selfish).arg("nodes"));
    let said = String::from_utf8(nodes.stdout).unwrap();
    let words: Vec<u64> = said.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    // Error 8: the quota is used up.
    assert!(nodes.status.success() && words[0] > 1000 && words[1] == 8, "{said}");
}

#[test]
fn a_program_that_destroys_its_own_bank_or_sells_its_own_domain_ends() {
    let Some(selfish) = native_c_program("native_selfish") else { return };
    for how in ["destroy", "sell"] {
        let session = Session::new();
        let output = session.output(&mut session.run(&["--native"], &selfish, &[how]));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(137), 0), "{how}: {output:?}");
        let again = session.output(&mut session.run(&["--native"], &native_program("hello"), &[]));
        assert_eq!(again.status.code(), Some(0), "{how}: {again:?}");
        assert_eq!(session.status()["domains"][0]["exit_signal"], 9);
        session.assert_sound();
    }
}
