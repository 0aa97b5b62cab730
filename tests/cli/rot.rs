//! Rot deep in the newest generation: an older one that is whole goes on, by itself, and that is said.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::format::{Block, Generation, generations, roots, spoil, tear};
use crate::harness::{Background, Case, Libc, Session, c_program, native_c_program, wait_for};

/// A program whose runtime was killed, with its output in a file.
struct Killed {
    session: Session,
    case: Case,
}

impl Killed {
    /// Runs the program until `line` is in its output and `ready` of its generations, and kills the runtime.
    fn after(case: Case, line: &str, ready: impl Fn(&[Generation]) -> bool) -> Killed {
        Killed::by(Signal::SIGKILL, case, line, ready)
    }

    /// The same by another signal.
    fn by(signal: Signal, case: Case, line: &str, ready: impl Fn(&[Generation]) -> bool) -> Killed {
        let killed = Killed { session: Session::new(), case };
        let mut command = killed.case.start(&killed.session);
        command.stdin(Stdio::null()).stdout(File::create(killed.out()).unwrap()).stderr(Stdio::null());
        let mut runtime = Background(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(killed.out()).unwrap().contains(line) {
            assert!(Instant::now() < deadline && runtime.0.try_wait().unwrap().is_none(), "it never says {line}");
            std::thread::sleep(Duration::from_millis(5));
        }
        runtime.signal(signal);
        runtime.wait();
        let now = killed.generations();
        assert!(ready(&now), "not as the test needs it: {:?}", now.iter().map(|g| g.number).collect::<Vec<_>>());
        killed
    }

    fn out(&self) -> PathBuf {
        self.session.place().join("out")
    }

    fn pages(&self) -> PathBuf {
        self.session.store().join("pages")
    }

    fn generations(&self) -> Vec<Generation> {
        generations(&self.pages())
    }

    fn spoil<'b>(&self, blocks: impl IntoIterator<Item = &'b Block>) {
        let count = blocks.into_iter().map(|block| spoil(&self.pages(), block)).count();
        assert!(count > 0, "nothing to spoil");
    }

    /// The command, with standard output added to the file of the first run.
    fn command(&self, command: &str, flags: &[&str]) -> Command {
        let mut command = self.session.on_store(command);
        let mut stdout = OpenOptions::new().write(true).open(self.out()).unwrap();
        stdout.seek(SeekFrom::End(0)).unwrap();
        command.args(flags).stdout(stdout);
        command
    }

    fn resume(&self, flags: &[&str]) -> Output {
        let errors = self.session.place().join("errors");
        let mut child = self.command("resume", flags).stderr(File::create(&errors).unwrap()).spawn().unwrap();
        let status = wait_for(&mut child);
        Output { status, stdout: vec![], stderr: fs::read(errors).unwrap() }
    }

    /// The output and exit code are those of a native run, and the store is sound.
    fn assert_like_native(&self, resumed: &Output) {
        let native = self.case.native();
        let errors = String::from_utf8_lossy(&resumed.stderr);
        assert_eq!(resumed.status.code(), Some(native.code), "{errors}");
        assert_eq!(fs::read_to_string(self.out()).unwrap(), native.stdout, "{errors}");
        self.session.assert_sound();
        // The ended world is opened once more: what is noted about damage has done its service.
        assert_eq!(self.resume(&[]).status.code(), Some(native.code));
        assert!(!self.session.store().join("damage").exists());
    }
}

fn assert_says(output: &Output, what: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains(what), "does not say `{what}`:\n{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

/// A program that changes most of its memory between any two checkpoints.
fn busy() -> Option<Killed> {
    let case = Case::new(c_program("memory", Libc::Musl)?, &["24", "120"]);
    Some(Killed::after(case, "round 30:", |generations| generations.len() >= 3))
}

/// The largest segment: the memory of the program.
fn memory(generation: &Generation) -> u64 {
    let segments: Vec<u64> = generation.blocks.iter().filter(|b| b.level.is_none()).map(|b| b.segment).collect();
    *segments.iter().max_by_key(|segment| segments.iter().filter(|other| other == segment).count()).unwrap()
}

#[test]
fn one_torn_root_falls_back_and_resume_says_so() {
    for newer in [true, false] {
        let Some(killed) = busy() else { return };
        let [(newest, last), (older, before)] = roots(&killed.pages());
        assert!(before < last, "the roots are of two generations: {before} and {last}");
        let (torn, stands) = if newer { (newest, before) } else { (older, last) };
        tear(&killed.pages(), torn);
        let resumed = killed.resume(&[]);
        assert_says(&resumed, &format!("generation {stands} stands: the root in slot {torn} cannot be used: "));
        killed.assert_like_native(&resumed);
    }
}

#[test]
fn a_small_checkpoint_of_which_something_is_missing_does_not_count_and_resume_says_so() {
    let Some(program) = c_program("twice", Libc::Musl) else { return };
    let killed = Killed::after(Case::new(program, &["0.5"]), "two", |generations| generations.len() >= 2);
    let [newest, older] = &killed.generations()[..2] else { unreachable!() };
    let added = newest.beyond(older).filter(|block| block.level.is_none()).last().copied();
    killed.spoil(&added);
    let resumed = killed.resume(&[]);
    assert_says(&resumed, &format!("generation {} was cut off, or damaged since: ", newest.number));
    killed.assert_like_native(&resumed);
}

#[test]
fn rot_in_the_object_table_is_left_for_an_older_generation() {
    let Some(killed) = busy() else { return };
    let [newest, older] = &killed.generations()[..2] else { unreachable!() };
    killed.spoil(newest.pages(0).filter(|page| !older.blocks.contains(page)));
    let resumed = killed.resume(&[]);
    assert_says(&resumed, &format!("generation {} is left for generation {}", newest.number, older.number));
    assert_says(&resumed, "segment 0");
    killed.assert_like_native(&resumed);
}

#[test]
fn rot_in_two_generations_goes_back_two() {
    let Some(killed) = busy() else { return };
    let [newest, older, oldest] = &killed.generations()[..3] else { unreachable!() };
    killed.spoil(newest.pages(0).filter(|page| !oldest.blocks.contains(page)));
    killed.spoil(older.pages(0).filter(|page| !oldest.blocks.contains(page) && !newest.blocks.contains(page)));
    let resumed = killed.resume(&[]);
    assert_says(&resumed, &format!("is left for generation {}", oldest.number));
    killed.assert_like_native(&resumed);
}

#[test]
fn rot_deep_in_the_newest_tree_is_left_for_an_older_generation() {
    let Some(killed) = busy() else { return };
    let [newest, older] = &killed.generations()[..2] else { unreachable!() };
    // The last leaf: opening does not look so far.
    let leaf = newest.beyond(older).filter(|block| block.level == Some(0)).last().copied();
    killed.spoil(&leaf);
    let resumed = killed.resume(&["--checkpoint-interval", "50ms"]);
    assert_says(&resumed, &format!("generation {} is left for generation {}", newest.number, older.number));
    assert_says(&resumed, "a tree node");
    killed.assert_like_native(&resumed);
}

#[test]
fn running_another_program_on_a_rotten_tree_falls_back_first() {
    let Some(killed) = busy() else { return };
    let [newest, older] = &killed.generations()[..2] else { unreachable!() };
    let leaf = newest.beyond(older).filter(|block| block.level == Some(0)).last().copied();
    killed.spoil(&leaf);
    let Some(other) = c_program("twice", Libc::Musl) else { return };
    let output = killed.session.output(killed.session.on_store("run").arg("--").arg(other).arg("0"));
    assert_says(&output, &format!("generation {} is left for generation {}", newest.number, older.number));
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    // Both programs write to one file: neither overwrites what the other wrote.
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(["one\n", "two\n", "sum ", "all: "].iter().all(|part| said.contains(part)), "{output:?}");
    let status = killed.session.status();
    let names: Vec<_> = status["domains"].as_array().unwrap().iter().map(|domain| &domain["name"]).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    killed.session.assert_sound();
}

#[test]
fn rot_in_the_memory_of_a_program_never_ends_it() {
    let Some(killed) = busy() else { return };
    let [newest, older] = &killed.generations()[..2] else { unreachable!() };
    let memory = memory(newest);
    killed.spoil(newest.beyond(older).filter(|block| block.level.is_none() && block.segment == memory));
    let mut resumed = killed.resume(&[]);
    // Met before anything was committed, it goes back at once; met later, the next resume does.
    if resumed.status.code() == Some(121) {
        assert_says(&resumed, "semper resume");
        resumed = killed.resume(&[]);
    }
    assert_says(&resumed, &format!("generation {} is left", newest.number));
    killed.assert_like_native(&resumed);
}

#[test]
fn a_page_that_rots_in_every_generation_is_an_error_to_who_reads_it_by_key() {
    let Some(program) = native_c_program("native_reader") else { return };
    let killed = || {
        let case = Case { run_flags: vec!["--native".into()], ..Case::new(program.clone(), &[]) };
        Killed::after(case, "written", |generations| generations.len() == 4)
    };
    for (rots, says) in [(false, "written\nanswer 00\n"), (true, "written\nanswer 29\n")] {
        let killed = killed();
        let generations = killed.generations();
        let page = generations.iter().flat_map(|g| &g.blocks).find(|b| b.level.is_none() && b.page == 12345);
        if rots {
            killed.spoil([page.expect("the page was written")]);
        }
        let resumed = killed.resume(&[]);
        assert_eq!(resumed.status.code(), Some(0), "{}", String::from_utf8_lossy(&resumed.stderr));
        assert_eq!(fs::read_to_string(killed.out()).unwrap(), says);
    }
}

#[test]
fn rot_that_is_met_late_ends_the_world_and_the_next_resume_goes_back() {
    let Some(program) = c_program("twice", Libc::Musl) else { return };
    let case = Case::new(program, &["4"]);
    // What a killed runtime made last is looked at when the store is opened, if it is small.
    let killed = Killed::by(Signal::SIGTERM, case, "two", |generations| generations.len() >= 3);
    // What the second filling wrote.
    let all = killed.generations();
    let memory = memory(&all[0]);
    let before = all.iter().find(|g| g.pages(memory).filter(|p| !all[0].blocks.contains(p)).count() > 400).unwrap();
    killed.spoil(
        all[0].beyond(before).filter(|block| block.level.is_none() && block.segment == memory).skip(50).take(300),
    );
    let mut command = killed.command("resume", &["--checkpoint-interval", "0"]);
    let errors = killed.session.place().join("errors");
    let mut runtime = command.stderr(File::create(&errors).unwrap()).spawn().unwrap();
    killed.session.wait_until("it is up", |_| true);
    let taken = killed.session.output(&mut killed.session.on_store("checkpoint"));
    assert!(taken.status.success(), "{taken:?}");
    let status = wait_for(&mut runtime);
    let ended = Output { status, stdout: vec![], stderr: fs::read(&errors).unwrap() };
    assert_eq!(ended.status.code(), Some(121), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_says(&ended, &format!("is left for generation {}", before.number));
    assert_says(&ended, "Go on with: semper resume");
    let resumed = killed.resume(&[]);
    assert_says(&resumed, &format!("generation {} stands", before.number));
    killed.assert_like_native(&resumed);
}

#[test]
fn an_operator_can_go_back_to_a_generation_by_its_number() {
    let Some(killed) = busy() else { return };
    let all = killed.generations();
    let refused = killed.resume(&["--generation", "1000000"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let resumed = killed.resume(&["--generation", &all[2].number.to_string()]);
    assert_says(&resumed, &format!("generation {} stands", all[2].number));
    killed.assert_like_native(&resumed);
}
