//! The runtime dies at every named place of a checkpoint, early and late, and nothing shows.

use crate::harness::{Case, Libc, Session, c_program};
use semper_checkpoint::{CRASH_POINTS, CRASH_VARIABLE};

#[test]
fn a_death_at_any_named_place_of_a_checkpoint_does_not_show() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let case = Case::new(program, &["8", "120"]);
    let native = case.native();
    for point in CRASH_POINTS {
        let session = Session::new();
        let mut lives = 0;
        let outcome = case.disturbed(
            &session,
            |command, life| {
                lives = life;
                // Twice at the place, at the second and at the first time that a life comes to it; then it may live.
                match life {
                    0 => command.env(CRASH_VARIABLE, format!("{point}:2")),
                    1 => command.env(CRASH_VARIABLE, point),
                    _ => command.env_remove(CRASH_VARIABLE),
                };
            },
            || None,
        );
        assert_eq!(outcome, native, "after a death at {point}");
        eprintln!("{point}: {lives} deaths");
        session.assert_sound();
    }
}
