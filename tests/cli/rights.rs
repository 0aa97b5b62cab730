//! What a store's directory does not let the runtime do is told before anything is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Libc, Session, c_program};

/// The programs that the store knows.
fn programs(session: &Session) -> usize {
    session.status()["domains"].as_array().unwrap().len()
}

#[test]
fn a_program_that_is_refused_for_want_of_a_control_socket_is_not_in_the_store() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let session = Session::new();
    assert_eq!(session.output(&mut session.run(&[], &program, &["1"])).status.code(), Some(8));
    assert_eq!(programs(&session), 1);
    let control = session.store().join("control");
    let _ = fs::remove_file(&control);
    // Not even root makes a socket there.
    fs::create_dir(&control).unwrap();
    fs::write(control.join("in the way"), "").unwrap();
    let refused = session.output(&mut session.run(&["--name", "second"], &program, &["1"]));
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/control: "), "{refused:?}");
    fs::remove_dir_all(&control).unwrap();
    assert_eq!(programs(&session), 1);
    session.assert_sound();
}

#[test]
fn a_store_that_may_not_be_written_to_is_told_with_the_remedy() {
    let Some(program) = c_program("lines", Libc::Musl) else { return };
    let session = Session::new();
    assert_eq!(session.output(&mut session.run(&[], &program, &["1"])).status.code(), Some(8));
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(&session.store(), 0o555);
    if fs::write(session.store().join("root"), "").is_ok() {
        fs::remove_file(session.store().join("root")).unwrap();
        crate::harness::needs::refused("an ordinary user, whom a directory's mode keeps from writing");
        allow(&session.store(), 0o755);
        return;
    }
    let refused = session.output(&mut session.run(&["--name", "second"], &program, &["1"]));
    allow(&session.store(), 0o755);
    assert_eq!(refused.status.code(), Some(121), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("chmod"), "{refused:?}");
    assert_eq!(programs(&session), 1);
}
