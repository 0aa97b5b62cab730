//! ls, inspect, kill, stop, start, logs and gdb: looking at domains from outside, and at their programs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Session, bare_c_program, needs, rust_program, wait_for};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A store in which `operated` runs, and says that it is ready.
struct Running {
    session: Session,
    runtime: std::process::Child,
    program: std::path::PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.runtime.kill();
        let _ = self.runtime.wait();
    }
}

impl Running {
    fn start() -> Option<Running> {
        Running::start_with(&[])
    }

    fn start_with(flags: &[&str]) -> Option<Running> {
        let program = bare_c_program("operated")?;
        let session = Session::new();
        let out = session.place().join("out");
        let mut command =
            session.run(&[&["--native", "--name", "op", "--native-memory", "4M"], flags].concat(), &program, &[]);
        let log = fs::File::create(session.place().join("err")).unwrap();
        let runtime = command.stdout(fs::File::create(&out).unwrap()).stderr(log).spawn().unwrap();
        let running = Running { session, runtime, program };
        running.until("it is ready", || fs::read_to_string(&out).unwrap() == "ready\n");
        Some(running)
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let errors = fs::read_to_string(self.session.place().join("err")).unwrap_or_default();
            assert!(Instant::now() < deadline, "waited in vain until {what}:\n{errors}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn on(&self, command: &str, args: &[&str]) -> Output {
        self.session.output(self.session.on_store(command).args(args))
    }

    fn done(&self, command: &str, args: &[&str]) -> String {
        let output = self.on(command, args);
        assert!(output.status.success(), "{command} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, command: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(command, &[args, &["--json"]].concat())).unwrap()
    }

    /// The bank of the program.
    fn bank(&self) -> Value {
        let banks = self.json("ls", &[])["bank"]["banks"].as_array().unwrap().clone();
        banks.into_iter().find(|bank| bank["program"] == "op").expect("the program has a bank")
    }

    /// The object of the second domain.
    fn child(&self) -> String {
        let sold = self.bank()["sold"].as_array().unwrap().clone();
        let child = sold.iter().find(|object| object["kind"] == "domain" && object["program"].is_null());
        child.expect("there is a second domain")["object"].as_str().unwrap().to_owned()
    }

    fn cpu(&self) -> u64 {
        self.json("inspect", &["op"])["cpu_ns"].as_u64().unwrap()
    }

    /// Stops the runtime.
    fn rest(&mut self) {
        self.done("stop", &[]);
        assert_eq!(wait_for(&mut self.runtime).code(), Some(124));
    }

    /// Kills the runtime and goes on.
    fn restart(&mut self) {
        self.runtime.kill().unwrap();
        self.runtime.wait().unwrap();
        let log = fs::File::create(self.session.place().join("err")).unwrap();
        self.runtime = self.session.on_store("resume").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.session.wait_until("it is back", |_| true);
    }
}

/// Whether the program gets CPU time.
fn works(running: &Running) -> bool {
    let before = running.cpu();
    std::thread::sleep(Duration::from_millis(100));
    running.cpu() > before
}

#[test]
fn ls_shows_banks_and_what_they_sold_live_and_at_rest() {
    let Some(mut running) = Running::start() else { return };
    let bank = running.bank();
    let counts = &bank["counts"];
    let wanted = [("domain", 2), ("segment", 2), ("node", 1), ("timer", 1), ("meter", 1), ("console", 1), ("bank", 1)];
    for (kind, count) in wanted {
        assert_eq!(counts[kind], count, "{kind}: {counts}");
    }
    let sold = bank["sold"].as_array().unwrap();
    let first = sold.iter().find(|object| object["program"] == "op").unwrap();
    assert_eq!((&first["phase"], &first["pages"]), (&"running".into(), &1024.into()));
    let pid = first["pid"].as_u64().expect("what runs has a process");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(sold.iter().any(|object| object["kind"] == "segment" && object["resident"].as_u64() > Some(0)));
    assert_eq!(bank["banks"][0]["pages_allowed"], 100);
    assert!(running.json("ls", &["--depth", "0"])["bank"]["banks"][0]["counts"].as_object().unwrap().is_empty());
    let text = running.done("ls", &[]);
    for part in ["bank ", " of program op", "running", "(prime)", &format!("process {pid}")] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    running.rest();
    let at_rest = running.bank();
    assert_eq!(at_rest["counts"], *counts);
    assert!(running.done("ls", &[]).contains(" of program op"));
}

#[test]
fn inspect_shows_keys_memory_registers_and_who_waits() {
    let Some(mut running) = Running::start() else { return };
    let first = running.json("inspect", &["op"]);
    let object = first["object"].as_str().unwrap();
    assert_eq!((&first["kind"], &first["program"]), (&"domain".into(), &"op".into()));
    let slot = |at: u64| first["slots"].as_array().unwrap().iter().find(|slot| slot["slot"] == at).unwrap().clone();
    assert_eq!(slot(0)["type"], "console");
    let start = slot(13);
    assert_eq!((&start["type"], &start["object"], &start["badge"]), (&"start".into(), &object.into(), &42.into()));
    assert_eq!((&start["rights"], &start["void"]), (&serde_json::json!(["CALL", "SEND"]), &false.into()));
    let registers = &first["registers"];
    let word = |name: &str| u64::from_str_radix(&registers[name].as_str().unwrap()[2..], 16).unwrap();
    assert!((0x40_0000..0x80_0000).contains(&word("rip")), "{registers}");
    assert!((0x40_0000..0x80_0000).contains(&word("rsp")), "{registers}");
    assert_eq!((&first["mappings"][0]["address"], &first["mappings"][0]["write"]), (&"0x400000".into(), &true.into()));
    assert!(works(&running), "looking at it stopped it");

    let child = running.child();
    assert_eq!(first["callers"], serde_json::json!([child]));
    let waits = running.json("inspect", &[&child]);
    assert_eq!((&waits["phase"], &waits["waits"]["until"]), (&"queued".into(), &"turn".into()));
    assert_eq!(waits["waits"]["object"], object);
    for sold in running.bank()["sold"].as_array().unwrap() {
        let seen = running.json("inspect", &[sold["object"].as_str().unwrap()]);
        assert_eq!(seen["kind"], sold["kind"]);
        assert!(!running.done("inspect", &[sold["object"].as_str().unwrap()]).is_empty());
    }
    assert!(running.done("inspect", &["op"]).contains("slot 13"));
    for nothing in ["nobody", "999999.1", "1.99", "x.y", "1."] {
        let output = running.on("inspect", &[nothing]);
        assert_eq!(output.status.code(), Some(127), "{nothing}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("semper ls"), "{output:?}");
    }
    running.rest();
    let at_rest = running.json("inspect", &["op"]);
    assert_eq!(at_rest["slots"], first["slots"]);
    assert!(at_rest["registers"]["rip"].is_string() && at_rest["pid"].is_null());
}

#[test]
fn a_stopped_domain_stands_over_restarts_until_it_is_started() {
    let Some(mut running) = Running::start() else { return };
    assert!(works(&running));
    running.done("stop", &["op"]);
    assert!(!works(&running), "it goes on");
    running.restart();
    assert_eq!(running.json("inspect", &["op"])["stopped"], true, "the stop was not durable");
    assert_eq!(running.session.status()["domains"][0]["state"], "stopped");
    assert!(!works(&running), "it goes on after a restart");
    running.done("start", &["op"]);
    assert_eq!(running.session.status()["domains"][0]["state"], "running");
    assert!(works(&running), "it does not go on");
}

#[test]
fn a_killed_program_ends_with_137_and_a_killed_domain_alone() {
    let Some(mut running) = Running::start() else { return };
    let child = running.child();
    running.done("kill", &[&child]);
    assert_eq!(running.on("inspect", &[&child]).status.code(), Some(127));
    assert_eq!(running.bank()["counts"]["domain"], 1);
    assert_eq!(running.json("inspect", &["op"])["callers"], serde_json::json!([]));
    assert!(works(&running), "the other one stopped too");
    running.done("kill", &["op"]);
    assert_eq!(wait_for(&mut running.runtime).code(), Some(137));
    assert_eq!(running.session.status()["domains"][0]["exit_signal"], 9);
    assert!(running.json("ls", &[])["bank"]["banks"].as_array().unwrap().is_empty(), "it left something behind");
    running.session.assert_sound();
}

#[test]
fn linux_programs_are_stopped_started_and_killed_too() {
    let session = Session::new();
    let program = rust_program("numeric");
    let mut command = session.run(&["--name", "it"], &program, &["1000000000"]);
    let mut runtime = command.stdout(Stdio::null()).spawn().unwrap();
    session.wait_until("it runs", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(50));
    let on = |command: &str| {
        let output = session.output(session.on_store(command).arg("it"));
        assert!(output.status.success(), "{command}: {output:?}");
    };
    let works = || {
        let cpu = || session.wait_until("it is up", |_| true)["domains"][0]["cpu_ms"].as_u64().unwrap();
        let before = cpu();
        std::thread::sleep(Duration::from_millis(150));
        cpu() > before + 20
    };
    on("stop");
    assert!(!works(), "it goes on");
    assert_eq!(session.status()["domains"][0]["state"], "stopped");
    runtime.kill().unwrap();
    runtime.wait().unwrap();
    runtime = session.on_store("resume").stdout(Stdio::null()).spawn().unwrap();
    assert!(!works(), "it goes on after a restart");
    on("start");
    assert!(works(), "it does not go on");
    on("inspect");
    let output = session.output(session.on_store("gdb").arg("it"));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is for native domains"), "{output:?}");
    on("stop");
    on("kill");
    assert_eq!(wait_for(&mut runtime).code(), Some(137));
    session.assert_sound();
}

#[test]
fn logs_come_with_time_and_domain_and_are_followed() {
    let Some(mut running) = Running::start() else { return };
    let logs = running.done("logs", &[]);
    let object = running.json("inspect", &["op"])["object"].as_str().unwrap().to_owned();
    assert!(logs.ends_with(&format!(" {object} (op): begun now\n")), "{logs}");
    assert!(logs.starts_with("20"), "{logs}");
    let mut follow = running.session.on_store("logs");
    let mut follow = follow.args(["--follow", "--lines", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    std::thread::sleep(Duration::from_millis(300));
    // The program starts anew in a second life of it, under another name.
    let second =
        running.session.run(&["--native", "--name", "second"], &running.program, &[]).stdout(Stdio::null()).spawn();
    let line = lines.next().unwrap().unwrap();
    assert!(line.ends_with("(second): begun now"), "{line}");
    running.done("kill", &["second"]);
    assert_eq!(wait_for(&mut second.unwrap()).code(), Some(137));
    let _ = follow.kill();
    let _ = follow.wait();
    running.rest();
    assert_eq!(running.done("logs", &[]).lines().count(), 2);
    assert_eq!(running.done("logs", &["--lines", "1"]).lines().count(), 1);
}

/// gdb's end of the remote protocol, in a few lines.
struct Gdb {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    command: std::process::Child,
}

impl Gdb {
    fn start(running: &Running, domain: &str, flags: &[&str]) -> Gdb {
        let mut command = running.session.on_store("gdb");
        command.arg(domain).args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut command = command.spawn().unwrap();
        let (to, from) = (command.stdin.take().unwrap(), BufReader::new(command.stdout.take().unwrap()));
        Gdb { to, from, command }
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        write!(self.to, "${packet}#{sum:02x}").unwrap();
        self.to.flush().unwrap();
    }

    fn receive(&mut self) -> String {
        let (mut before, mut packet, mut sum) = (Vec::new(), Vec::new(), [0; 2]);
        self.from.read_until(b'$', &mut before).unwrap();
        self.from.read_until(b'#', &mut packet).unwrap();
        self.from.read_exact(&mut sum).unwrap();
        // After the last answer there may be nobody left to take it.
        let _ = self.to.write_all(b"+");
        packet.pop();
        let packet = String::from_utf8(packet).unwrap();
        // Runs are shortened: a character, `*`, and how often it comes again.
        let mut whole = String::new();
        let mut characters = packet.chars();
        while let Some(c) = characters.next() {
            match (c, whole.chars().last()) {
                ('*', Some(last)) => {
                    let again = u32::from(characters.next().unwrap()) - 29;
                    whole.extend(std::iter::repeat_n(last, usize::try_from(again).unwrap()));
                }
                _ => whole.push(c),
            }
        }
        whole
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.receive()
    }

    fn rip(&mut self) -> u64 {
        let registers = self.ask("g");
        word(&registers[16 * 16..])
    }

    fn memory(&mut self, address: u64) -> u64 {
        let answer = self.ask(&format!("m{address:x},8"));
        word(&answer)
    }

    fn end(mut self) {
        drop(self.to);
        assert!(wait_for(&mut self.command).success());
    }
}

/// Sixteen hexadecimal digits, the lowest byte first.
fn word(digits: &str) -> u64 {
    let byte = |i: usize| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap();
    u64::from_le_bytes(std::array::from_fn(byte))
}

/// That the domain stands by this signal.
fn assert_stop(packet: &str, signal: &str) {
    assert!(["S", "T"].iter().any(|kind| packet.starts_with(&format!("{kind}{signal}"))), "{packet} is not {signal}");
}

/// The address of a symbol of the program.
fn symbol(program: &Path, name: &str) -> Option<u64> {
    if !needs::programs(&["nm"]) {
        return None;
    }
    let output = Command::new("nm").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
    Some(u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap())
}

#[test]
fn a_debugger_reads_writes_steps_and_breaks() {
    let Some(running) = Running::start() else { return };
    let address = |name: &str| symbol(&running.program, name);
    let (Some(work), Some(counter), Some(page)) = (address("work"), address("counter"), address("on_the_page")) else {
        return;
    };
    let mut gdb = Gdb::start(&running, "op", &[]);
    assert!(gdb.ask("qSupported:swbreak+;vContSupported+").contains("PacketSize"));
    assert_stop(&gdb.ask("?"), "05");
    assert_eq!(running.json("inspect", &["op"])["stopped"], true);
    let other = running.on("gdb", &["op"]);
    assert_eq!(other.status.code(), Some(2), "two debuggers on one domain: {other:?}");

    // A breakpoint, hit three times; the program's writes to that page are not lost, and nobody else sees the int3.
    assert_eq!(gdb.ask(&format!("Z0,{work:x},1")), "OK");
    let mut last = None;
    for _ in 0..3 {
        let stop = gdb.ask("vCont;c");
        assert!(stop.starts_with("T05") && stop.contains("swbreak"), "{stop}");
        assert_eq!(gdb.rip(), work);
        let now = gdb.memory(counter);
        assert!(last.is_none_or(|last| now == last + 1), "{last:?} {now}");
        assert_eq!(gdb.memory(page), now.wrapping_sub(1));
        last = Some(now);
        assert_ne!(gdb.memory(work) & 0xff, 0xcc, "the breakpoint is in the memory itself");
        // As gdb does: the breakpoint is away for a step.
        assert_eq!(gdb.ask(&format!("z0,{work:x},1")), "OK");
        assert_stop(&gdb.ask("vCont;s"), "05");
        let stepped = gdb.rip();
        assert!(stepped > work && stepped < work + 16, "{stepped:#x}");
        assert_eq!(gdb.ask(&format!("Z0,{work:x},1")), "OK");
    }
    assert_stop(&gdb.ask("vCont;c"), "05");
    // The program's own write to a page with a breakpoint is not lost: it comes just before this one.
    assert_eq!(gdb.ask(&format!("z0,{work:x},1")), "OK");
    assert_stop(&gdb.ask("vCont;s"), "05");
    let after = gdb.rip();
    for _ in 0..3 {
        assert_stop(&gdb.ask("vCont;s"), "05");
        assert_eq!(gdb.ask(&format!("Z0,{after:x},1")), "OK");
        let stop = gdb.ask("vCont;c");
        assert!(stop.starts_with("T05") && stop.contains("swbreak"), "{stop}");
        assert_eq!((gdb.rip(), gdb.memory(page)), (after, gdb.memory(counter)));
        assert_eq!(gdb.ask(&format!("z0,{after:x},1")), "OK");
    }
    assert_eq!(gdb.ask(&format!("Z0,{work:x},1")), "OK");
    // Memory and registers are written.
    assert_stop(&gdb.ask("vCont;c"), "05");
    assert_eq!(gdb.ask(&format!("M{counter:x},8:{}", "e803000000000000")), "OK");
    assert_eq!(gdb.memory(counter), 1000);
    let registers = gdb.ask("g");
    let changed = format!("{}{}{}", &registers[..5 * 16], "d007000000000000", &registers[6 * 16..]);
    assert_eq!(gdb.ask(&format!("G{changed}")), "OK");
    assert_eq!(gdb.ask("g"), changed);
    assert!(gdb.ask("m8,8").starts_with('E') && gdb.ask("M8,1:00").starts_with('E'));
    assert_eq!(gdb.ask(&format!("z0,{work:x},1")), "OK");
    // rdi was set to 2000, so `work` gives 2001.
    gdb.send("vCont;c");
    std::thread::sleep(Duration::from_millis(100));
    gdb.to.write_all(&[3]).unwrap();
    let stop = gdb.receive();
    assert_stop(&stop, "02");
    assert!((2001..1_000_000).contains(&gdb.memory(counter)), "{}", gdb.memory(counter));
    // A fault comes to the debugger, not to the keeper.
    let fault = address("fault").unwrap();
    assert_eq!(gdb.ask(&format!("M{fault:x},8:0100000000000000")), "OK");
    assert_stop(&gdb.ask("vCont;c"), "0b");
    assert_eq!(gdb.ask(&format!("M{fault:x},8:0000000000000000")), "OK");
    let registers = gdb.ask("g");
    let rip = word(&registers[16 * 16..]);
    let code = gdb.memory(rip);
    let len = if code & 0xff == 0x48 { 12 } else { 11 };
    let past = (rip + len).to_le_bytes().map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(gdb.ask(&format!("G{}{past}{}", &registers[..16 * 16], &registers[17 * 16..])), "OK");
    gdb.send("vCont;c");
    std::thread::sleep(Duration::from_millis(50));
    gdb.to.write_all(&[3]).unwrap();
    assert_stop(&gdb.receive(), "02");
    assert_eq!(gdb.ask("D"), "OK");
    gdb.end();
    running.until("it goes on after the detach", || works(&running));
}

#[test]
fn a_debugger_that_goes_away_leaves_the_domain_as_it_was_asked() {
    let Some(mut running) = Running::start() else { return };
    let Some(work) = symbol(&running.program, "work") else { return };
    let mut gdb = Gdb::start(&running, "op", &["--leave-stopped"]);
    assert_eq!(gdb.ask(&format!("Z0,{work:x},1")), "OK");
    assert_stop(&gdb.ask("vCont;c"), "05");
    gdb.end();
    running.until("the session is over", || !works(&running));
    running.done("start", &["op"]);
    assert!(works(&running), "a breakpoint was left behind");
    // A runtime that dies under a debugger comes back without breakpoints.
    let mut gdb = Gdb::start(&running, "op", &[]);
    assert_eq!(gdb.ask(&format!("Z0,{work:x},1")), "OK");
    assert_stop(&gdb.ask("vCont;c"), "05");
    running.done("checkpoint", &[]);
    running.restart();
    drop(gdb.to);
    wait_for(&mut gdb.command);
    assert_eq!(running.json("inspect", &["op"])["stopped"], true);
    running.done("start", &["op"]);
    assert!(works(&running));
    running.session.assert_sound();
}

#[test]
fn a_debugged_domain_is_captured_again_and_again() {
    let Some(running) = Running::start_with(&["--checkpoint-interval", "10ms"]) else { return };
    let (Some(work), Some(counter)) = (symbol(&running.program, "work"), symbol(&running.program, "counter")) else {
        return;
    };
    let mut gdb = Gdb::start(&running, "op", &[]);
    let mut last = None;
    for _ in 0..100 {
        assert_eq!(gdb.ask(&format!("Z0,{work:x},1")), "OK");
        assert_stop(&gdb.ask("vCont;c"), "05");
        let now = gdb.memory(counter);
        assert!(last.is_none_or(|last| now == last + 1), "{last:?} {now}");
        last = Some(now);
        assert_eq!(gdb.ask(&format!("z0,{work:x},1")), "OK");
        for _ in 0..3 {
            assert_stop(&gdb.ask("vCont;s"), "05");
        }
    }
    assert_eq!(gdb.ask("D"), "OK");
    gdb.end();
    assert!(works(&running));
    running.session.assert_sound();
}

#[test]
fn gdb_itself_debugs_a_domain() {
    if !needs::programs(&["gdb"]) {
        return;
    }
    let Some(running) = Running::start() else { return };
    let semper = env!("CARGO_BIN_EXE_semper");
    let remote = format!("target remote | {semper} gdb {} op", running.session.store().display());
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set confirm off"]).arg(&running.program).args(["-ex", &remote]);
    for line in [
        "break work",
        "continue",
        "print n == counter",
        "backtrace",
        "finish",
        "stepi",
        "print $xmm0.uint128",
        "detach",
    ] {
        gdb.args(["-ex", line]);
    }
    let output = running.session.output(&mut gdb);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["Breakpoint 1, work", "= 1", "in _start ()", "Value returned is", "detached]"] {
        assert!(text.contains(part), "{part} is missing:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    running.until("it goes on", || works(&running));
    // By TCP, and killed.
    let mut listening = running.session.on_store("gdb");
    let mut listening = listening.args(["op", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(listening.stderr.take().unwrap()).read_line(&mut told).unwrap();
    let port = told.trim().rsplit(':').next().unwrap();
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set confirm off"]).arg(&running.program);
    gdb.args(["-ex", &format!("target remote 127.0.0.1:{port}"), "-ex", "info registers rip", "-ex", "kill"]);
    let output = running.session.output(&mut gdb);
    assert!(String::from_utf8_lossy(&output.stdout).contains("rip"), "{output:?}");
    assert!(wait_for(&mut listening).success());
    running.until("the program has ended", || running.session.status()["domains"][0]["exit_signal"] == 9);
}

#[test]
fn commands_on_domains_say_what_is_missing() {
    let Some(mut running) = Running::start() else { return };
    for command in ["kill", "start", "stop", "gdb"] {
        assert_eq!(running.on(command, &["nobody"]).status.code(), Some(127), "{command}");
        let meter = running.json("inspect", &["op"])["meter"].as_str().unwrap().to_owned();
        let output = running.on(command, &[&meter]);
        assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
    }
    running.runtime.kill().unwrap();
    running.runtime.wait().unwrap();
    for command in ["kill", "start", "stop", "gdb"] {
        let output = running.on(command, &["op"]);
        assert_eq!(output.status.code(), Some(123), "{command}: {output:?}");
    }
}
