//! The disk below the store is full, not only the store: whoever writes waits, checkpoints go on, and room lets it go on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::{Case, Libc, Session, c_program, needs, wait_for};

/// A small file system of its own, which an ordinary user can make: a tmpfs in a user namespace, seen through the root of a process in it.
pub struct SmallDisk {
    inside: Child,
    pub path: PathBuf,
}

impl SmallDisk {
    /// None, said by name, if this machine lets nobody make one.
    pub fn new(mib: u64, place: &std::path::Path) -> Option<SmallDisk> {
        if !needs::programs(&["unshare", "mount"]) {
            return None;
        }
        let at = place.join("disk");
        fs::create_dir(&at).unwrap();
        let script = format!("mount -t tmpfs -o size={mib}m none \"$0\" && echo ready && exec sleep 600");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(&at);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut inside = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(inside.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let path = PathBuf::from(format!("/proc/{}/root{}", inside.id(), at.display()));
        let mut told = String::new();
        if line == "ready\n" {
            match fs::metadata(&path) {
                Ok(_) => return Some(SmallDisk { inside, path }),
                Err(e) => told = e.to_string(),
            }
            inside.kill().unwrap();
        } else {
            inside.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        }
        inside.wait().unwrap();
        needs::refused(&format!("a user namespace with a file system of its own: {}", told.trim_end()));
        None
    }

    /// Takes `mib` of the room, or all that is left.
    pub fn take(&self, name: &str, mib: Option<usize>) {
        let mut file = File::create(self.path.join(name)).unwrap();
        let piece = vec![0x55; 1 << 20];
        for _ in 0..mib.unwrap_or(usize::MAX) {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) => {
                    assert!(mib.is_none() && error.kind() == std::io::ErrorKind::StorageFull, "{error}");
                    return;
                }
            }
        }
    }

    pub fn give_back(&self, name: &str) {
        fs::remove_file(self.path.join(name)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.inside.kill();
        let _ = self.inside.wait();
    }
}

#[test]
fn a_full_disk_stalls_the_writer_checkpoints_go_on_and_room_lets_it_go_on() {
    let Some(program) = c_program("large", Libc::Musl) else { return };
    let session = Session::new();
    let Some(disk) = SmallDisk::new(160, session.place()) else { return };
    disk.take("ballast", Some(100));
    fs::create_dir(disk.path.join("store")).unwrap();
    std::os::unix::fs::symlink(disk.path.join("store"), session.store()).unwrap();
    let case = Case { size: "1G".into(), ..Case::new(program, &["110"]) };
    let native = case.native();
    let (out, err) = (session.place().join("out"), session.place().join("err"));
    let mut command = case.start(&session);
    let mut runtime = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    let told = |status: &serde_json::Value| status["stalled"].as_str().is_some_and(|told| told.starts_with("the disk"));
    let status = session.wait_until("the full disk is told", told);
    assert_eq!(status["checkpoints"]["totals"]["failed"], 0, "{status}");
    let taken = session.output(&mut session.on_store("checkpoint"));
    assert!(taken.status.success(), "{taken:?}");
    // Somebody else takes what the store has not asked for yet, and the runtime dies: not even a page can be added now.
    disk.take("brim", None);
    runtime.kill().unwrap();
    wait_for(&mut runtime);
    let said = fs::read_to_string(&out).unwrap();
    assert!(said.len() < native.stdout.len() && native.stdout.starts_with(&said), "{said}");
    let mut resume = session.on_store("resume");
    resume.args(&case.flags).stdout(File::options().append(true).open(&out).unwrap());
    let mut runtime = resume.stderr(File::options().append(true).open(&err).unwrap()).spawn().unwrap();
    session.wait_until("it is up on a full disk", |status| status["domains"][0]["state"] == "running");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(runtime.try_wait().unwrap().is_none(), "it ended: {}", fs::read_to_string(&err).unwrap());
    disk.give_back("brim");
    disk.give_back("ballast");
    let code = wait_for(&mut runtime).code();
    assert_eq!(code, Some(native.code), "{}", fs::read_to_string(&err).unwrap());
    assert_eq!(fs::read_to_string(&out).unwrap(), native.stdout);
    session.assert_sound();
}
