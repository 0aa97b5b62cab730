//! backup create --encrypt, and what can be done with and without the identity.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use crate::backup::{Spoil, at_work, checkpoint, command, json, names, refused, resume, says, spoil, told};
use crate::harness::{Case, Libc, Session, c_program, semper};

/// Makes an identity; its recipient.
fn keygen(session: &Session, file: &str) -> String {
    told(session, &["keygen", file]).trim().to_owned()
}

#[test]
fn an_encrypted_chain_is_made_and_pruned_without_the_identity_and_restored_with_it() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let native = Case::new(&program, &["4", "9000"]).native();
    let session = Session::new();
    let (mine, spare) = (keygen(&session, "mine.key"), keygen(&session, "spare.key"));
    keygen(&session, "other.key");
    let mode = fs::metadata(session.place().join("mine.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    refused(&session, &["keygen", "mine.key"], 2, "is there already");
    let to = ["--encrypt", mine.as_str(), "--encrypt", spare.as_str()];
    let mut runtime = at_work(&session, &program, &["4", "9000"]);
    let create = |words: &[&str]| told(&session, &[&["create", "store", "backups"], words, &to].concat());
    create(&[]);
    // Two full ones, an increment after each: the first pair can go.
    for _ in 0..2 {
        checkpoint(&session);
        create(&["--since", "last", "--compress", "zstd"]);
        checkpoint(&session);
        create(&[]);
    }
    checkpoint(&session);
    create(&["--since", "last"]);
    runtime.0.kill().unwrap();
    runtime.wait();
    let listed = json(&session, &["list", "backups", "--json"]);
    let backups = listed["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 6, "{listed}");
    for backup in backups {
        assert!(backup["encrypted"] == true && backup["complete"] == true && backup["pages"].is_null(), "{backup}");
    }
    assert_eq!(backups[5]["since"], backups[4]["generation"], "{listed}");
    assert!(told(&session, &["list", "backups"]).lines().skip(2).all(|line| line.contains("encrypted")));
    let gone = told(&session, &["prune", "backups", "--keep", "2"]);
    assert_eq!(gone.lines().count(), 4, "{gone}");
    let closed = told(&session, &["verify", "backups"]);
    assert!(closed.contains("2 of them encrypted"), "{closed}");
    let verified = json(&session, &["verify", "backups", "--json", "--identity", "mine.key"]);
    assert!(verified["sound"] == true && verified["backups"][1]["read"] == true, "{verified}");
    refused(&session, &["restore", "backups", "elsewhere"], 2, "is encrypted; name the file");
    refused(&session, &["restore", "backups", "elsewhere", "--identity", "other.key"], 2, "to other recipients");
    refused(&session, &["restore", "backups", "elsewhere", "--identity", "nowhere.key"], 2, "nowhere.key");
    let left: Vec<String> = names(&session, ".").into_iter().filter(|name| name.contains("elsewhere")).collect();
    assert!(left.is_empty(), "{left:?}");
    told(&session, &["restore", "backups", "elsewhere", "--identity", "other.key", "--identity", "spare.key"]);
    let out = session.place().join("elsewhere.out");
    let mut runtime = resume(&session, &session.place().join("elsewhere"), &out);
    assert_eq!(runtime.wait().code(), Some(native.code));
    let output = fs::read_to_string(out).unwrap();
    assert!(!output.is_empty() && native.stdout.ends_with(&output), "{output}");
}

#[test]
fn what_is_in_an_encrypted_backup_cannot_be_read_and_what_was_done_to_it_is_told() {
    let Some(program) = c_program("memory", Libc::Musl) else { return };
    let session = Session::new();
    let recipient = keygen(&session, "mine.key");
    let secret = fs::read_to_string(session.place().join("mine.key")).unwrap();
    let secret = secret.lines().last().unwrap();
    let _runtime = at_work(&session, &program, &["4", "100000000"]);
    // The recipient is public, the identity is not.
    for (bad, why) in [("me", "no recipient of age"), (secret, "which is secret")] {
        let output = session.output(&mut command(&session, &["create", "store", "backups", "--encrypt", bad]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(why), "{said}");
    }
    told(&session, &["create", "store", "clear.semper"]);
    told(&session, &["create", "store", "world.semper", "--encrypt", &recipient]);
    let piped = command(&session, &["create", "store", "-", "--encrypt", &recipient]).output().unwrap();
    assert!(piped.status.success(), "{piped:?}");
    let file = session.place().join("world.semper");
    let (whole, clear) = (fs::read(&file).unwrap(), fs::read(session.place().join("clear.semper")).unwrap());
    // The executable is in the store, and its strings are.
    let readable = |bytes: &[u8]| bytes.windows(8).any(|window| window == b"\x7fELF\x02\x01\x01\0");
    assert!(readable(&clear) && !readable(&whole) && !readable(&piped.stdout));
    let middle = whole.len() / 2;
    let cases: [(&str, Spoil); 4] = [
        ("world.semper is damaged: frame", &|bytes| bytes[middle] ^= 1),
        ("world.semper is cut off", &|bytes| bytes.truncate(middle)),
        ("world.semper is cut off", &|bytes| bytes.truncate(bytes.len() - 1)),
        ("is no backup of Semper", &|bytes| bytes.extend(b"more")),
    ];
    for (why, how) in cases {
        spoil(&file, how);
        for identity in [&["--identity", "mine.key"][..], &[]] {
            let verified = session.output(&mut command(&session, &[&["verify", "world.semper"], identity].concat()));
            let said = String::from_utf8_lossy(&verified.stdout).into_owned();
            assert!(verified.status.code() == Some(1) && said.contains(why), "{why}: {said}");
        }
        refused(&session, &["restore", "world.semper", "elsewhere", "--identity", "mine.key"], 121, why);
        let left: Vec<String> = names(&session, ".").into_iter().filter(|name| name.contains("elsewhere")).collect();
        assert!(left.is_empty(), "{left:?}");
        fs::write(&file, &whole).unwrap();
    }
    let pipe = session.file("pipe", &piped.stdout);
    let from = |words: &[&str]| {
        let mut command = command(&session, words);
        session.output(command.stdin(File::open(&pipe).unwrap()))
    };
    assert!(from(&["verify", "-", "--identity", "mine.key"]).status.success());
    says(&from(&["restore", "-", "elsewhere"]), &["restore -"], 2, "standard input is encrypted");
    assert!(from(&["restore", "-", "elsewhere", "--identity", "mine.key"]).status.success());
    let checked = session.output(semper().arg("check").arg(session.place().join("elsewhere")));
    assert!(checked.status.success(), "{checked:?}");
}
