//! Dynamically linked programs: their interpreter and libraries come into the store with them.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Case, Libc, Session, dynamic_c_program};
use crate::killing::assert_unkillable;
use crate::run::{assert_refused, executable};
use crate::service::storm;

/// `dynamic` with the library that it is linked with beside it, and its plug-in.
fn dynamic(libc: Libc) -> Option<(PathBuf, PathBuf)> {
    let soname = format!("-Wl,-soname,libpart-{}-shared", format!("{libc:?}").to_lowercase());
    let library = dynamic_c_program("libpart", libc, &["-shared", "-fPIC", &soname])?;
    let plugin = dynamic_c_program("plugin", libc, &["-shared", "-fPIC"])?;
    let library = library.to_str().unwrap();
    let program = dynamic_c_program("dynamic", libc, &["-rdynamic", library, "-Wl,-rpath,$ORIGIN", "-ldl"])?;
    Some((program, plugin))
}

#[test]
fn a_program_with_libraries_survives() {
    for libc in [Libc::Glibc, Libc::Musl] {
        let Some((program, plugin)) = dynamic(libc) else { return };
        let mut case = Case::new(program, &["./plugin.so", "6000000"]);
        case.files = vec![("plugin.so".into(), fs::read(plugin).unwrap())];
        assert_unkillable(&case, 5);
    }
}

#[test]
fn a_program_at_fixed_addresses_survives() {
    let Some(program) = dynamic_c_program("memory", Libc::Glibc, &["-no-pie", "-fno-pie"]) else { return };
    assert_unkillable(&Case::new(program, &["16", "60"]), 5);
}

#[test]
fn nothing_that_a_dynamically_linked_server_answered_is_lost_over_any_number_of_kills() {
    let Some(program) = dynamic_c_program("keeper", Libc::Glibc, &[]) else { return };
    storm(5, &[], &program);
}

/// All occurrences replaced by as many bytes.
fn replaced(image: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut image = image.to_vec();
    let places: Vec<usize> = image
        .windows(from.len())
        .enumerate()
        .filter(|(_, found)| *found == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{from} is not in it");
    places.into_iter().for_each(|at| image[at..at + to.len()].copy_from_slice(to.as_bytes()));
    image
}

#[test]
fn what_is_not_there_is_named_and_nothing_is_made() {
    let Some((program, _)) = dynamic(Libc::Glibc) else { return };
    let image = fs::read(&program).unwrap();
    let session = Session::new();
    let refused = |name: &str, image: &[u8], sentence: &str| {
        let program = executable(&session, name, image);
        let output = session.output(&mut session.run(&[], &program, &["./plugin.so", "10"]));
        assert_refused(&output, 126, sentence);
        assert!(!session.store().exists(), "a store was made for nothing");
    };
    // Its library is not beside it now.
    refused("moved", &image, "it needs the library libpart-glibc-shared, which is not where its loader looks");
    let other = replaced(&image, "libpart-", "../part-");
    refused("elsewhere", &other, "it needs the library ../part-glibc-shared");
    let other = replaced(&image, "/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.9");
    refused("interpreter", &other, "its interpreter /lib64/ld-linux-x86-64.so.9 is not there or no x86-64 loader");
    let other = replaced(&image, "/lib64/ld-linux-x86-64.so.2", "lib64//ld-linux-x86-64.so.2");
    refused("relative", &other, "the name of the interpreter is no absolute path");
}

#[test]
fn only_libraries_are_brought_in_for_a_name() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let secret = place.path().join("secret");
    fs::write(&secret, "not for programs").unwrap();
    let flag = format!("-Wl,--dynamic-linker={}", secret.display());
    let Some(program) = dynamic_c_program("keeper", Libc::Musl, &[&flag]) else { return };
    let session = Session::new();
    let output = session.output(&mut session.run(&[], &program, &["7"]));
    assert_refused(&output, 126, &format!("its interpreter {} is not there or no x86-64 loader", secret.display()));
}

#[test]
fn a_file_that_is_given_takes_the_place_of_a_library() {
    let Some((program, plugin)) = dynamic(Libc::Glibc) else { return };
    let session = Session::new();
    // Elsewhere, where only LD_LIBRARY_PATH of the program leads.
    let library = program.with_file_name("libpart-glibc-shared");
    let alone = executable(&session, "alone", fs::read(&program).unwrap());
    let files = [format!("{}:/given/libpart-glibc-shared", library.display()), format!("{}:/plugin", plugin.display())];
    let flags = ["--file", &files[0], "--file", &files[1], "--env", "LD_LIBRARY_PATH=/given"];
    let output = session.output(&mut session.run(&flags, &alone, &["/plugin", "400"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(" of mine, 9 calls\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
