//! Native domains whose inputs and order are recorded: the same after kills, by command, and only where they fit.

use std::fs;

use crate::harness::{Session, native_program, sigkill};
use crate::replay::{
    RECORDED, RESUMED, copy, into, kills_of, lines, programs_lines, recorded_with, refused, replay, succeeds,
    wait_for_lines,
};

fn native(flags: &[&'static str]) -> Vec<&'static str> {
    [&["--native"], flags].concat()
}

#[test]
fn domains_that_race_come_to_the_same_without_a_checkpoint() {
    kills_of(&native_program("race"), &native(RECORDED), RESUMED, &["3000", "3", "300"], 3000);
}

#[test]
fn checkpoints_amid_a_race_make_no_difference() {
    let journaled = ["--output", "journaled", "--checkpoint-interval", "40ms"];
    let flags = [&["--native", "--record"], &journaled[..]].concat();
    kills_of(&native_program("race"), &flags, &journaled, &["6000", "4", "200"], 6000);
    let held = ["--checkpoint-interval", "40ms"];
    let flags = [&["--native", "--record"], &held[..]].concat();
    kills_of(&native_program("race"), &flags, &held, &["3000", "2", "500"], 3000);
}

#[test]
fn more_racers_than_processes_come_to_the_same() {
    // Of native domains there are 100 at most.
    kills_of(&native_program("race"), &native(RECORDED), RESUMED, &["1500", "120", "300"], 1500);
}

#[test]
fn a_copy_of_the_store_is_rolled_forward_to_a_record_and_to_the_end() {
    let (session, shown) = recorded_with(&native(RECORDED), &native_program("race"), &["1000000", "3", "300"], 600);
    let show = crate::harness::semper().args(["journal", "show"]).arg(session.store()).arg("--json").output().unwrap();
    let records: Vec<serde_json::Value> =
        succeeds(&show).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<u64> =
        records.iter().filter(|r| r["told"].is_string()).map(|r| r["sequence"].as_u64().unwrap()).collect();
    let middle = told[told.len() / 2].to_string();
    let other = Session::new();
    copy(&session.store(), &other.store());
    // The copy has shown nothing yet.
    fs::remove_dir_all(other.store().join("console")).unwrap();
    let half = succeeds(&replay(&other, &["--to", &middle]));
    assert!(half.contains("race: ") && half.contains("steps told again"), "{half}");
    let half = programs_lines(&half);
    assert!((1..shown.len()).contains(&half.len()), "{} of {}", half.len(), shown.len());
    assert_eq!(half, shown[..half.len()], "bit by bit");
    other.assert_sound();
    // It goes on from there, perhaps another way.
    let mut runtime = into(&other, "out", other.on_store("resume").args(RESUMED));
    let on = wait_for_lines(&other, "out", half.len() + 20);
    assert!(sigkill(&mut runtime.0));
    let first = on.iter().position(|line| line.split(' ').next().unwrap() == half.len().to_string()).unwrap();
    assert!(on[..first].iter().all(|line| half.contains(&line.as_str())));
    other.assert_sound();
    // Another copy is rolled forward to the end.
    let whole = Session::new();
    copy(&session.store(), &whole.store());
    fs::remove_dir_all(whole.store().join("console")).unwrap();
    let all = succeeds(&replay(&whole, &[]));
    let all = programs_lines(&all);
    assert!(all.len() >= shown.len());
    assert_eq!(all[..shown.len()], shown, "bit by bit");
    whole.assert_sound();
    // Nothing is left to be told.
    let again = succeeds(&replay(&whole, &["--json"]));
    let document: serde_json::Value = serde_json::from_str(again.lines().last().unwrap()).unwrap();
    assert_eq!(document["programs"][0]["steps"], 0, "{again}");
}

#[test]
fn domains_that_do_something_else_are_named_and_nothing_is_committed() {
    if !fs::read_to_string("/proc/cpuinfo").unwrap().contains(" rdrand ") {
        eprintln!("skipped: this processor has no random numbers of its own");
        return;
    }
    let args = ["1000000", "3", "300", "rdrand"];
    let (session, _) = recorded_with(&native(RECORDED), &native_program("race"), &args, 100);
    let generation = session.status()["store"]["generation"].as_u64().unwrap();
    for output in [replay(&session, &[]), session.output(session.on_store("resume").args(RESUMED))] {
        let error = refused(&output);
        assert!(error.contains("race does not do again what it did: "), "{error}");
        assert!(error.contains("record ") && error.contains("step ") && error.contains(", domain "), "{error}");
        assert!(error.contains(&format!("--generation {generation}")), "{error}");
    }
    assert_eq!(session.status()["store"]["generation"].as_u64(), Some(generation), "nothing was committed");
    let generation = generation.to_string();
    let mut runtime =
        into(&session, "on", session.on_store("resume").args(RESUMED).args(["--generation", &generation]));
    wait_for_lines(&session, "on", 10);
    assert!(sigkill(&mut runtime.0));
}

#[test]
fn domains_that_share_memory_are_cut_and_lose_nothing_that_was_shown() {
    let session = Session::new();
    let flags = ["--native", "--record", "--output", "journaled", "--checkpoint-interval", "40ms"];
    let mut runtime =
        into(&session, "out", &mut session.run(&flags, &native_program("race"), &["1000000", "2", "500", "shared"]));
    let seen = wait_for_lines(&session, "out", 20);
    assert!(sigkill(&mut runtime.0));
    let shown = succeeds(&crate::harness::semper().args(["journal", "show"]).arg(session.store()).output().unwrap());
    assert!(shown.contains("no replay goes beyond: domains share memory"), "{shown}");
    let seen = [seen.clone(), lines(&session, "out")[seen.len()..].to_vec()].concat();
    let mut runtime = into(&session, "out", session.on_store("resume").args(&flags[2..]));
    let all = wait_for_lines(&session, "out", seen.len() + 20);
    assert!(sigkill(&mut runtime.0));
    assert_eq!(all[..seen.len()], seen, "what was shown is as it was");
    session.assert_sound();
}

#[test]
fn native_programs_of_a_store_are_recorded_together_or_not_at_all() {
    let (race, hello) = (native_program("race"), native_program("hello"));
    for (first, second) in
        [(&["--native", "--record"][..], &["--native"][..]), (&["--native"], &["--native", "--record"])]
    {
        let session = Session::new();
        let mut runtime = into(&session, "out", &mut session.run(first, &race, &["1000000", "2", "1000"]));
        wait_for_lines(&session, "out", 5);
        let error = refused(&session.output(&mut session.run(second, &hello, &[])));
        assert!(error.contains("recorded") && error.contains("start it with"), "{error}");
        // One of its kind joins it, and what both show is whole after a kill.
        succeeds(&session.output(&mut session.run(first, &hello, &[])));
        let seen = wait_for_lines(&session, "out", 40);
        assert!(sigkill(&mut runtime.0));
        let mut runtime = into(&session, "out", &mut session.on_store("resume"));
        let all = wait_for_lines(&session, "out", seen.len() + 10);
        assert_eq!(all[..seen.len()], seen);
        assert!(sigkill(&mut runtime.0));
        session.assert_sound();
    }
}
