//! Each object of `docs/objects.md` and each error, used by a real domain: what `tour`, `refusals` and `vigil` of `examples/native` print.

use std::fs::{self, File, OpenOptions};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Case, Rng, Session, TIMEOUT, native_program, seed, wait_for};

/// What the tour prints when its input is a line.
const TOUR: &str = r#"page: reads Ok("inside"), the invoked key lacks the right WRITE
page: then holds [0, 0, 0, 0, 0, 0]
page: a write to a read-only mapping is signal 11 at 0x100000000
page: mapped writable, it goes on and reads 6
page: sold, the invoked key is void
segment: 2 pages; beyond them, word 0 cannot be 0x1fff
segment: cut and grown again it reads 0
segment: the invoked key lacks the right WRITE; the invoked key lacks the right MANAGE
segment: its keeper supplied page 5, the reader read 42
node: swapped, the other slot holds Ok("in")
node: the invoked key lacks the right WRITE
node: through a weak key a page is read, but the invoked key lacks the right WRITE
node: through a weak key a meter is nothing: key 0 is missing
node: cleared, key 0 is missing
domain: running, stopped: false; not while the domain is running
domain: stopped: true, its registers hold 0x100000000 and 0
domain: with another register it goes on and reports 7
domain: a key of its slots tells the time: true
domain: cleared, key 0 is missing
domain: the invoked key lacks the right MANAGE
domain: sold, the invoked key is void
start: the callee sees badge 123456 and word 5
start: the invoked key lacks the right CALL; a send: Ok(())
start: revoked, the invoked key is void
resume: answered with 1; the other copy was void: true
meter: its keeper was called with all of it used: true
meter: granted more, the domain ends its sum: 0
meter: the invoked key lacks the right MANAGE
bank: 2 of 3 pages, 2 of 20 records
bank: no more pages of the quota: the limit is 3
bank: sold back, 1 pages; the invoked key is void
bank: this bank did not sell it
bank: renewed, the invoked key is void; the new key writes: Ok(())
bank: below a quota, no more pages of the quota: the limit is 3
bank: with a smaller quota, no more pages of the quota: the limit is 1
bank: destroyed, the invoked key is void; the invoked key is void
keeper: signal 4 is stepped over, the domain reports 11
discrim: a page key with READ, WRITE, live: true, discreet: false
discrim: a console key, discreet: false
discrim: the same object, the same key: (true, false)
discrim: sold, live: false
clock: goes on: true, tells the year: true
random: differs: true
timer: goes off at its time: true
timer: the invoked key lacks the right WRITE; (0, 0)
log: written
console: Ok("hello\n"); its end: 0
tour: done
"#;

/// What is refused, and in what words.
const REFUSALS: &str = r#"an order that there is not: a console key has no order 99
a string of more than a page: a string of 4097 bytes; at most 4096 can be taken
a string where none is taken: a string of 3 bytes; at most 0 can be taken
the most that is taken: was not refused
a slot that there is not: there is no slot 17
a slot that there is not, of a key: there is no slot 40
a slot that is empty: slot 14 is empty
a word that cannot be: word 0 cannot be 0x1001
too few keys: key 0 is missing
a key of another type: key 0 is a bank key, not a meter key
the invoked key without the right: the invoked key lacks the right MANAGE
another key without the right: key 0 lacks the right WRITE
a key to what is gone: the invoked key is void
another key to what is gone: key 0 is void
more pages than the quota: no more pages of the quota: the limit is 50
more pages than a segment can have: no more pages of a segment: the limit is 268435456
more records than the quota: no more records of the quota: the limit is 5
what another bank sold: this bank did not sell it
a mapping over another: page 0x100000 is mapped already
no mapping: nothing is mapped at page 0x100000
too many mappings: no more mappings of a domain: the limit is 64
a factory that is not sealed: the factory is not sealed
a factory that is sealed: the factory is sealed
a call to itself: a domain cannot wait for itself
registers of one that runs: not while the domain is running
a send that would wait: a send cannot wait for this
a timer for which another waits: somebody waits there already
a callee that begins anew: the domain that was to answer began anew
registers that are none: a string of 183 bytes is not what the order takes
a deadline: the deadline passed
a callee that ends: the domain that was to answer is gone
refusals: done
"#;

fn case(name: &str, input: Option<&str>) -> Case {
    let input = input.map(|text| text.as_bytes().to_vec());
    Case { run_flags: vec!["--native".into()], input, ..Case::new(native_program(name), &[]) }
}

/// Undisturbed and killed five times.
fn assert_prints(case: &Case, wanted: &str) {
    let (undisturbed, takes) = case.timed_undisturbed();
    assert_eq!((undisturbed.stdout.as_str(), undisturbed.code), (wanted, 0));
    let mut random = Rng::with_seed(seed());
    assert_eq!(case.killed(5, takes, &mut random).outcome, undisturbed);
}

#[test]
fn each_object_does_what_its_keys_allow_and_no_more() {
    assert_prints(&case("tour", Some("hello\n")), TOUR);
}

#[test]
fn what_is_refused_is_told_by_name() {
    assert_prints(&case("refusals", None), REFUSALS);
}

#[test]
fn what_a_domain_logs_is_in_the_log() {
    let session = Session::new();
    let mut command = session.run(&["--native"], &native_program("tour"), &[]);
    assert!(session.output(&mut command).status.success());
    let log = session.output(&mut session.on_store("logs"));
    let log = String::from_utf8(log.stdout).unwrap();
    assert!(log.ends_with("(tour): a line of the tour\n"), "{log}");
}

/// The vigil, whose checkpoints are only those that are asked for.
struct Vigil {
    session: Session,
    runtime: Child,
}

impl Drop for Vigil {
    fn drop(&mut self) {
        let _ = self.runtime.kill();
        let _ = self.runtime.wait();
    }
}

impl Vigil {
    /// Started, and committed at the moment at which it waits for a restart.
    fn start(milliseconds: &str) -> Vigil {
        let session = Session::new();
        let flags = ["--native", "--checkpoint-interval", "0"];
        let mut command = session.run(&flags, &native_program("vigil"), &[milliseconds]);
        let out = File::create(session.place().join("out")).unwrap();
        let runtime = command.stdin(Stdio::piped()).stdout(out).spawn().unwrap();
        let vigil = Vigil { session, runtime };
        let deadline = Instant::now() + TIMEOUT;
        while vigil.printed().is_empty() {
            assert!(Instant::now() < deadline, "it never waits");
            std::thread::sleep(Duration::from_millis(5));
        }
        vigil
    }

    fn printed(&self) -> String {
        fs::read_to_string(self.session.place().join("out")).unwrap()
    }

    /// Kills the runtime and goes on.
    fn restart(&mut self, input: Stdio) {
        self.runtime.kill().unwrap();
        self.runtime.wait().unwrap();
        let out = OpenOptions::new().append(true).open(self.session.place().join("out")).unwrap();
        let mut resume = self.session.on_store("resume");
        resume.args(["--checkpoint-interval", "0"]).stdin(input).stdout(out);
        self.runtime = resume.spawn().unwrap();
        self.session.wait_until("it is back", |_| true);
    }
}

#[test]
fn timers_deadlines_and_generations_survive_and_lives_are_never_rolled_back() {
    let mut vigil = Vigil::start("1500");
    // The first of these lives is rolled back: nothing of it is committed.
    vigil.restart(Stdio::piped());
    std::thread::sleep(Duration::from_millis(100));
    let input = File::open(vigil.session.file("input", "go\n")).unwrap();
    vigil.restart(input.into());
    assert_eq!(wait_for(&mut vigil.runtime).code(), Some(0));
    let wanted = "vigil: waits for a restart\nconsole: Ok(\"go\\n\")\n\
        restart: 2 restarts, another life: true\n\
        restart: this life began later, and not in the future: true\ncheckpoint: the generation is durable: true\n\
        timer: set before the restart, it went off at its time: true\n\
        deadline: set before the restart, it passed, and not too early: true\n\
        checkpoint: a later generation is waited for: true\n";
    assert_eq!(vigil.printed(), wanted);
}
