//! scrub: all of a generation is read, whatever is committed meanwhile, and what was found is kept.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::backup::{at_rest, at_work, checkpoint, resume};
use crate::harness::format::{generations, spoil};
use crate::harness::{Background, Libc, Session, c_program};

/// Begins a slow scrub, whose output goes to `name`, and stops it in the middle.
fn in_the_middle(session: &Session, name: &str) -> Background {
    let out = File::create(session.place().join(name)).unwrap();
    let mut command = session.on_store("scrub");
    command.args(["--rate-limit", "4M"]).stdout(out.try_clone().unwrap()).stderr(out);
    let scrub = Background(command.stdin(Stdio::null()).spawn().unwrap());
    while !session.store().join("scrub").exists() || session.status()["scrub"]["now"]["pages"].as_u64() < Some(1) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    scrub.signal(Signal::SIGSTOP);
    scrub
}

fn go_on(session: &Session, name: &str, mut scrub: Background) -> (Option<i32>, String) {
    scrub.signal(Signal::SIGCONT);
    (scrub.wait().code(), fs::read_to_string(session.place().join(name)).unwrap())
}

/// What `status` says of scrubs.
fn kept(session: &Session) -> Value {
    session.status()["scrub"].clone()
}

#[test]
fn all_of_a_generation_is_read_beside_a_world_and_what_was_found_is_shown() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let _runtime = at_work(&session, &program, &["8", "100000000"]);
    // More than a store keeps.
    let overtake = || (0..6).for_each(|_| checkpoint(&session));
    let scrub = in_the_middle(&session, "sound");
    assert_eq!(kept(&session)["live"], true);
    let other = session.output(&mut session.on_store("scrub"));
    assert!(other.status.code() == Some(120) && String::from_utf8_lossy(&other.stderr).contains("another scrub"));
    overtake();
    let (code, said) = go_on(&session, "sound", scrub);
    assert!(code == Some(0) && said.contains("is sound") && !said.contains("again"), "{said}");
    let pass = kept(&session);
    assert!(pass["live"] == false && pass["now"].is_null() && pass["last"]["faults"] == 0, "{pass}");
    assert!(pass["last"]["pages"].as_u64() >= Some(8 << 8), "{pass}");
    // A page that every generation has: the first overtakes the one that is read, and takes none of the fault with it.
    let pages = session.store().join("pages");
    let newest = generations(&pages).swap_remove(0);
    let old =
        newest.blocks.iter().filter(|block| block.level.is_none() && block.segment > 0).min_by_key(|block| block.birth);
    let scrub = in_the_middle(&session, "rotten");
    scrub.signal(Signal::SIGCONT);
    drop(scrub);
    assert_eq!(kept(&session)["live"], false, "killed");
    assert!(kept(&session)["now"]["pages"].as_u64() >= Some(1) && kept(&session)["last"]["faults"] == 0);
    spoil(&pages, old.unwrap());
    let scrub = in_the_middle(&session, "rotten");
    overtake();
    let (code, said) = go_on(&session, "rotten", scrub);
    assert!(code == Some(1) && said.contains("is DAMAGED") && said.contains("segment"), "{said}");
    assert_eq!(kept(&session)["last"]["faults"], 1);
    let shown = session.output(&mut session.on_store("status"));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("DAMAGED, 1 faults"), "{shown}");
}

#[test]
fn a_store_that_is_resumed_while_it_is_scrubbed_at_rest_is_read_again() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = at_rest(&program, "4");
    let missing = session.output(crate::harness::semper().arg("scrub").arg(session.place().join("nowhere")));
    assert_eq!(missing.status.code(), Some(121), "{missing:?}");
    assert!(!session.place().join("nowhere").exists());
    let scrub = in_the_middle(&session, "again");
    let before = session.status()["store"]["generation"].as_u64().unwrap();
    let _runtime = resume(&session, &session.store(), Path::new(&session.place().join("out")));
    session.wait_until("the generation went", |status| status["store"]["generation"].as_u64() > Some(before + 6));
    let (code, said) = go_on(&session, "again", scrub);
    assert!(code == Some(0) && said.contains("again") && said.contains("is sound"), "{said}");
    assert!(kept(&session)["last"]["generation"].as_u64() > Some(before));
}
