//! The runtime dies at every named place of a checkpoint and of the commit in it, early and late, and nothing shows.

use crate::harness::{Case, Disturbed, Libc, Outcome, Session, c_program, rust_program, tool};
use semper_checkpoint::CRASH_POINTS;
use semper_store::{COMMIT_CRASH_POINTS, CRASH_VARIABLE};

/// Places that a checkpoint comes to only when much is written: the last test is about them.
const WITH_MUCH_TO_WRITE: &[&str] = &["unloaded", "streamed", "throttled"];

/// Places that a checkpoint comes to only when the pages in use are so many that they are looked for again before the stop; the last test but
/// one is about them.
const WITH_A_WORKING_SET: &[&str] = &["after-round", "short-frozen", "short-thawed"];

/// Kills the runtime in its first lives as `arms` say (`point`, or `point:n` for the n-th time that a life comes there), then lets it live.
/// Gives how many lives ended so.
fn deaths(case: &Case, native: &Outcome, arms: &[String]) -> usize {
    let session = Session::new();
    let Disturbed { outcome, deaths, .. } = case.disturbed(
        &session,
        |command, life| {
            match arms.get(usize::try_from(life).unwrap()) {
                Some(arm) => command.env(CRASH_VARIABLE, arm),
                None => command.env_remove(CRASH_VARIABLE),
            };
        },
        || None,
    );
    assert_eq!(&outcome, native, "after {deaths} deaths at {arms:?}");
    session.assert_sound();
    usize::try_from(deaths).unwrap()
}

/// Twice at each place: at the second and at the first time that a life comes to it.
fn assert_no_place_shows(case: &Case) {
    let native = case.native();
    let points = CRASH_POINTS.iter().chain(COMMIT_CRASH_POINTS).copied();
    for point in points.filter(|point| ![WITH_MUCH_TO_WRITE, WITH_A_WORKING_SET].concat().contains(point)) {
        assert_dies_twice(case, &native, point);
    }
}

fn assert_dies_twice(case: &Case, native: &Outcome, point: &str) {
    let deaths = deaths(case, native, &[format!("{point}:2"), point.to_owned()]);
    assert_eq!(deaths, 2, "at {point}: is it a place still?");
}

fn often(case: Case) -> Case {
    Case { flags: ["--checkpoint-interval", "20ms"].map(str::to_owned).to_vec(), ..case }
}

#[test]
fn no_death_at_a_named_place_shows_in_c_with_musl() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    assert_no_place_shows(&often(Case::new(program, &["4", "60"])));
}

#[test]
fn no_death_at_a_named_place_shows_in_c_with_glibc() {
    let Some(program) = c_program("files", Libc::Glibc) else { return };
    let mut case = often(Case::new(program, &["30", "words.txt"]));
    case.files = vec![("words.txt".into(), "one\ntwo\nthree\n".repeat(500).into_bytes())];
    assert_no_place_shows(&case);
}

#[test]
fn no_death_at_a_named_place_shows_in_rust() {
    assert_no_place_shows(&often(Case::new(rust_program("std_mix"), &["40"])));
}

#[test]
fn no_death_at_a_named_place_shows_in_busybox_awk() {
    let Some(busybox) = tool("busybox", crate::packages::BUSYBOX) else { return };
    let script = r#"BEGIN { for (i = 1; i <= 40000; i++) { a[i % 5000] = substr(a[(i * 7) % 5000], 1, 40) substr(i, 1, 3);
        s += length(a[i % 5000]); if (i % 2000 == 0) print i, s } }"#;
    assert_no_place_shows(&often(Case::new(busybox, &["awk", script])));
}

/// More pages are in use than are ever copied in a stop, and few enough to be looked for in short ones.
#[test]
fn no_death_shows_while_a_working_set_is_looked_for_again() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let case = often(Case::new(program, &["28", "400"]));
    let native = case.native();
    for point in WITH_A_WORKING_SET {
        assert_dies_twice(&case, &native, point);
    }
}

/// More is written between two checkpoints than is kept in memory, and faster than rounds can follow: pages are streamed to the store while
/// the program runs, and it is slowed down.
#[test]
fn no_death_shows_while_much_is_being_written() {
    let Some(program) = c_program("rewrite", Libc::Musl) else { return };
    let case = Case::new(program, &["110"]);
    let native = case.native();
    for point in WITH_MUCH_TO_WRITE.iter().chain(&["buffer-full:40", "buffer-queued:90"]) {
        // Where other work keeps the cores busy the program may not be faster than the disk, and need not be slowed down.
        let dies = || deaths(&case, &native, &[(*point).to_owned()]) == 1;
        assert!(dies() || dies() || dies(), "at {point}");
    }
}
