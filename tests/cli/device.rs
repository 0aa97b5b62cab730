//! A store on a block device, behind the symlink `pages`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Case, Session, needs, rust_program};

/// A loop device, given back at the end of the test.
pub struct Loop(pub PathBuf);

impl Loop {
    /// Over this file; none if the machine has no loop devices for us.
    pub fn over(file: &Path) -> Option<Loop> {
        if !needs::programs(&["losetup"]) {
            return None;
        }
        let output = Command::new("losetup").args(["-f", "--show"]).arg(file).output().unwrap();
        if !output.status.success() {
            needs::refused(&format!("a loop device: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
            return None;
        }
        Some(Loop(String::from_utf8(output.stdout).unwrap().trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn run_makes_the_store_on_a_blank_device_and_overwrites_no_other() {
    const SIZE: u64 = 64 << 20;
    let session = Session::new();
    let backing = session.file("device", "");
    File::options().write(true).open(&backing).unwrap().set_len(SIZE).unwrap();
    let Some(device) = Loop::over(&backing) else { return };
    fs::create_dir(session.store()).unwrap();
    symlink(&device.0, session.store().join("pages")).unwrap();
    let program = rust_program("numeric");
    let run = || {
        let mut command = session.on_store("run");
        command.arg("--").arg(&program).arg("1000");
        session.output(&mut command)
    };

    // Something that is not in a page of a root.
    let pages = File::options().read(true).write(true).open(&device.0).unwrap();
    pages.write_all_at(b"_BHRfS_M", 0x1_0040).unwrap();
    pages.sync_all().unwrap();
    let refused = run();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(121) && said.contains("is not overwritten"), "{said}");
    let mut first = vec![0; 1 << 20];
    pages.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first.iter().filter(|byte| **byte != 0).count(), 8, "something was written");

    pages.write_all_at(&[0; 8], 0x1_0040).unwrap();
    pages.sync_all().unwrap();
    let native = Case::new(&program, &["1000"]).native();
    for _ in ["it is made", "it is there"] {
        let output = run();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stdout).unwrap()),
            (Some(0), native.stdout.clone()),
            "{said}"
        );
    }
    assert_eq!(session.status()["store"]["total_pages"], SIZE / 4096);
    session.assert_sound();
}

/// The device is used whole whenever it is opened: it is made smaller by its own tools, once the store has left its end.
#[test]
fn a_store_leaves_the_end_of_its_device_so_that_that_can_be_made_smaller() {
    const BEFORE: u64 = 256 << 20;
    const AFTER: u64 = 64 << 20;
    let session = Session::new();
    let backing = session.file("device", "");
    File::options().write(true).open(&backing).unwrap().set_len(BEFORE).unwrap();
    let Some(device) = Loop::over(&backing) else { return };
    fs::create_dir(session.store()).unwrap();
    let pages = session.store().join("pages");
    symlink(&device.0, &pages).unwrap();
    let program = rust_program("numeric");
    let run = || {
        let mut command = session.on_store("run");
        command.arg("--").arg(&program).arg("1000");
        session.output(&mut command)
    };
    assert_eq!(run().status.code(), Case::new(&program, &["1000"]).native().code.into());
    let shrunk = session.output(session.on_store("shrink").arg("64M"));
    let said = String::from_utf8(shrunk.stdout).unwrap();
    assert!(shrunk.status.success() && said.contains("the first 64.00 MiB of its device"), "{said}");
    session.assert_sound();
    drop(device);
    File::options().write(true).open(&backing).unwrap().set_len(AFTER).unwrap();
    let Some(device) = Loop::over(&backing) else { return };
    fs::remove_file(&pages).unwrap();
    symlink(&device.0, &pages).unwrap();
    assert_eq!(session.status()["store"]["total_pages"], AFTER / 4096);
    assert_eq!(run().status.code(), Some(0));
    session.assert_sound();
}
