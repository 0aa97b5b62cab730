//! Real programs under a runtime that dies again and again: what they write is what an undisturbed native run writes.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{Case, Disturbed, Libc, Rng, Session, c_program, rust_program, seed};

/// Most kills have to come, and not all of them before the first commit.
pub fn assert_unkillable(case: &Case, kills: u32) {
    let resumed = assert_killed(case, kills).resumed;
    assert!(resumed > 0, "none of {kills} kills left something to resume");
}

fn assert_killed(case: &Case, kills: u32) -> Disturbed {
    let (native, takes) = case.timed_native();
    let mut random = Rng::with_seed(seed());
    let disturbed = case.killed(kills, takes, &mut random);
    assert_eq!(disturbed.outcome, native);
    disturbed
}

fn both(name: &str) -> impl Iterator<Item = PathBuf> {
    [Libc::Musl, Libc::Glibc].into_iter().filter_map(move |libc| c_program(name, libc))
}

#[test]
fn a_heap_and_a_large_array_survive() {
    for program in both("memory") {
        assert_unkillable(&Case::new(program, &["16", "150"]), 12);
    }
}

#[test]
fn small_mappings_survive() {
    for program in both("blocks") {
        assert_unkillable(&Case::new(program, &["250"]), 8);
    }
}

#[test]
fn floating_point_state_survives() {
    for program in both("float") {
        assert_unkillable(&Case::new(program, &["400"]), 8);
    }
}

#[test]
fn vector_registers_survive() {
    for program in both("vectors") {
        assert_unkillable(&Case::new(program, &["150"]), 10);
    }
}

#[test]
fn a_deep_stack_survives() {
    for program in both("recursion") {
        assert_unkillable(&Case::new(program, &["20000", "250"]), 8);
    }
}

#[test]
fn signals_in_flight_survive() {
    for program in both("signals") {
        assert_unkillable(&Case::new(program, &["3000"]), 8);
    }
}

#[test]
fn protections_hold_after_every_restart() {
    for program in both("guard") {
        let flags = vec!["--checkpoint-interval".into(), "10ms".into()];
        assert_unkillable(&Case { flags, ..Case::new(program, &["6000"]) }, 8);
    }
}

#[test]
fn files_of_the_program_go_back_with_its_memory() {
    for program in both("files") {
        let mut case = Case::new(program, &["150", "words.txt"]);
        case.files = vec![("words.txt".into(), "one\ntwo\nthree\n".repeat(500).into_bytes())];
        assert_unkillable(&case, 8);
    }
}

#[test]
fn sleep_goes_on_across_restarts() {
    for program in both("sleeper") {
        assert_unkillable(&Case::new(program, &["6", "200"]), 6);
    }
}

#[test]
fn a_rust_program_survives() {
    let mut case = Case::new(rust_program("std_mix"), &["1000"]);
    case.env = vec![("MODE".into(), "a value with spaces".into())];
    assert_unkillable(&case, 12);
}

#[test]
fn a_long_computation_survives() {
    assert_unkillable(&Case::new(rust_program("numeric"), &["20000000"]), 12);
}

#[test]
fn regular_input_is_read_once() {
    let input: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    for program in both("echo_lines") {
        let case = Case { input: Some(input.clone().into_bytes()), ..Case::new(program, &["20000"]) };
        assert_unkillable(&case, 10);
    }
}

#[test]
fn output_and_errors_in_one_file_keep_their_order() {
    for program in both("both") {
        let case = Case { joined: true, ..Case::new(program, &["6000", "40000"]) };
        assert_unkillable(&case, 8);
    }
}

#[test]
fn a_working_set_of_four_times_the_memory_survives() {
    for program in both("memory") {
        let mut case = Case::new(program, &["96", "3"]);
        case.flags.extend(["--memory".into(), "24M".into()]);
        assert_unkillable(&case, 6);
    }
}

#[test]
fn a_program_that_uses_nine_tenths_of_the_memory_survives() {
    for program in both("memory") {
        let mut case = Case::new(program, &["58", "120"]);
        case.flags.extend(["--memory".into(), "64M".into()]);
        assert_unkillable(&case, 8);
    }
}

/// So full that two generations that differ in a few hundred pages are all that the store has room for.
#[test]
fn a_program_that_fills_nine_tenths_of_the_store_survives() {
    let Some(program) = c_program("large", Libc::Musl) else { return };
    let case = Case { size: "256M".into(), ..Case::new(program, &["226"]) };
    let native = case.native();
    let session = Session::new();
    let mut random = Rng::with_seed(seed());
    let mut moments: Vec<Duration> = (0..5).map(|_| Duration::from_millis(random.u64(100..1500))).collect();
    let disturbed = case.disturbed(&session, |_, _| {}, || moments.pop());
    assert_eq!(disturbed.outcome, native);
    assert!(disturbed.deaths >= 2 && disturbed.resumed >= 1, "{disturbed:?}");
    let store = &session.status()["store"];
    let (used, total) = (store["used_pages"].as_u64().unwrap(), store["total_pages"].as_u64().unwrap());
    assert!(used * 100 >= total * 89, "{used} of {total} pages are in use");
    session.assert_sound();
}

#[test]
fn an_event_loop_over_unix_sockets_survives() {
    for program in both("loop") {
        assert_unkillable(&Case::new(program, &["4000"]), 6);
    }
}

#[test]
fn checkpoints_only_when_asked_lose_all_but_never_garble() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let case = Case { flags: vec!["--checkpoint-interval".into(), "0".into()], ..Case::new(program, &["4", "200"]) };
    assert_killed(&case, 3);
}
