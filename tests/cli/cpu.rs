//! Programs that are told of a level of processors alone: what they are told, and where they go on.

use std::path::{Path, PathBuf};

use crate::harness::{Case, Libc, Session, c_program, dynamic_c_program, native_c_program, sigkill, tool};
use crate::killing::assert_unkillable;
use crate::packages::{BUSYBOX, awk};
use crate::replay::RECORDED;

const WITHOUT: &str = "SEMPER_PROCESSOR_WITHOUT";
/// Some of what there is beyond the first level, and beyond the second.
const BEYOND_V2: &str = "movbe,xsave,xsaveopt,xsavec,avx,f16c,fma,bmi1,bmi2,lzcnt,avx2,aes,pclmulqdq,rdrand,rdseed,adx,sha,gfni,vaes,vpclmulqdq,\
                         avx512f,avx512cd,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi,avx512vbmi2,avx512vnni,avx512bitalg,\
                         avx512vpopcntdq,avx512bf16,avx512fp16,sse4a,tbm";
/// Bits of leaf 1, ecx: SSE3 to POPCNT; with AVX and its kin.
const V2: u32 = 0x0098_2201;
const V3: u32 = 0x3cd8_3201;

fn has_v3() -> bool {
    ["avx2", "bmi2", "fma", "lzcnt", "movbe"].iter().all(|feature| {
        let known = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let name = if *feature == "lzcnt" { "abm" } else { feature };
        known.split_whitespace().any(|flag| flag == name)
    })
}

fn asks() -> impl Iterator<Item = PathBuf> {
    let programs =
        [c_program("asks", Libc::Musl), c_program("asks", Libc::Glibc), dynamic_c_program("asks", Libc::Glibc, &[])];
    programs.into_iter().flatten()
}

/// What a program prints with these flags.
fn printed(program: &Path, flags: &[&str]) -> Vec<String> {
    let session = Session::new();
    let output = session.output(&mut session.run(flags, program, &[]));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A word of a line.
fn word(line: &str, n: usize) -> u32 {
    u32::from_str_radix(line.split(' ').nth(n).unwrap(), 16).unwrap()
}

#[test]
fn a_program_is_told_of_its_level_and_nothing_beyond() {
    for program in asks() {
        let native = Case::new(&program, &[]).native().stdout;
        let native: Vec<&str> = native.lines().collect();
        assert_eq!(printed(&program, &[]), native);
        assert_eq!(printed(&program, &["--cpu", "host"]), native);
        let v2 = printed(&program, &["--cpu", "baseline"]);
        assert_eq!(v2[0], "sse4.2 1 avx 0 avx2 0 bmi2 0 avx512f 0");
        assert_eq!(word(&v2[1], 1), V2);
        assert_eq!(
            [word(&v2[2], 1) & !0x200, word(&v2[2], 2), word(&v2[2], 3) & !0x10],
            [0; 3],
            "only that rep movsb is fast"
        );
        assert_eq!(v2[3], "hwcap is leaf 1");
        assert_eq!(word(&v2[4], 1) & !0x0040_0003, 0);
        assert_eq!(v2[5], "code same same", "code that a program loads by itself asks too");
        assert_eq!(v2[6], native[6], "data and constants stay");
        if !has_v3() {
            continue;
        }
        let v3 = printed(&program, &["--cpu", "x86-64-v3"]);
        assert_eq!(v3[0], "sse4.2 1 avx 1 avx2 1 bmi2 1 avx512f 0");
        assert_eq!((word(&v3[1], 1), word(&v3[2], 1) & !0x200), (V3, 0x128));
        assert_eq!(v3[5..], v2[5..]);
    }
}

#[test]
fn answers_stay_over_kills_and_a_library_that_chose_by_them_is_right() {
    for program in asks() {
        for level in ["baseline", "x86-64-v3"].into_iter().filter(|level| *level == "baseline" || has_v3()) {
            let mut case = Case::new(&program, &["500"]);
            case.run_flags = vec!["--cpu".into(), level.into()];
            assert_unkillable(&case, 3);
        }
    }
}

#[test]
fn a_recorded_program_is_told_the_same_again() {
    let Some(program) = c_program("asks", Libc::Glibc) else { return };
    let mut case = Case::new(&program, &["500"]);
    case.flags = RECORDED.iter().filter(|flag| **flag != "--record").map(|&flag| flag.to_owned()).collect();
    case.run_flags = ["--record", "--cpu", "baseline"].map(str::to_owned).to_vec();
    assert_unkillable(&case, 3);
}

#[test]
fn busybox_survives_without_what_other_processors_lack() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let mut case = Case::new(busybox, &["awk", &awk(200_000)]);
    case.run_flags = vec!["--cpu".into(), "baseline".into()];
    assert_unkillable(&case, 4);
}

#[test]
fn a_world_of_such_programs_goes_on_where_the_rest_is_missing() {
    let Some(program) = c_program("asks", Libc::Glibc) else { return };
    let session = Session::new();
    let running = |status: &serde_json::Value| status["domains"][0]["state"] == "running";
    let mut runtime = session.background(&mut session.run(&["--cpu", "baseline"], &program, &["1000000000"]));
    session.wait_until("it runs", running);
    assert!(sigkill(&mut runtime.0));
    assert_eq!(session.status()["domains"][0]["cpu_level"], "x86-64-v2");
    let mut runtime = session.background(session.on_store("resume").env(WITHOUT, BEYOND_V2));
    session.wait_until("it runs", running);
    // Beside it, one that may know all there is: where some of that is missing neither goes on.
    let mut second = session.background(&mut session.run(&["--name", "second"], &program, &["1000000000"]));
    session.wait_until("the second runs", |status| status["domains"][1]["state"] == "running");
    assert!(session.status()["domains"][1]["cpu_level"].is_null());
    assert!(session.output(&mut session.on_store("stop")).status.success());
    assert_eq!(runtime.wait().code(), Some(124));
    second.wait();
    let refused = session.output(session.on_store("resume").env(WITHOUT, "sse3"));
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("may use: sse3;"),
        "{refused:?}"
    );
    // When that has ended the level is all that counts.
    let mut runtime = session.background(&mut session.on_store("resume"));
    session.wait_until("it runs", running);
    assert!(session.output(session.on_store("kill").arg("second")).status.success());
    assert!(session.output(&mut session.on_store("stop")).status.success());
    runtime.wait();
    let _runtime = session.background(session.on_store("resume").env(WITHOUT, BEYOND_V2));
    session.wait_until("it runs", running);
}

#[test]
fn a_native_program_is_told_of_its_level_in_all_its_lives() {
    let Some(program) = native_c_program("native_asks") else { return };
    let line = |flags: &[&str]| printed(&program, &[&["--native"], flags].concat());
    let v2 = line(&["--cpu", "x86-64-v2"]);
    assert_eq!((word(&v2[0], 0), word(&v2[0], 1) & !0x200), (V2, 0));
    assert_ne!(line(&[]), v2);
    let session = Session::new();
    let flags = ["--native", "--cpu", "x86-64-v2", "--checkpoint-interval", "10ms"];
    let mut runtime = session.background(&mut session.run(&flags, &program, &["wait"]));
    session.wait_until("it is in the store", |status| status["store"]["generation"].as_u64() > Some(3));
    assert!(sigkill(&mut runtime.0));
    let output = session.output(session.on_store("resume").env(WITHOUT, BEYOND_V2));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.ends_with(&format!("{}\n", v2[0])), "{output:?}");
}

#[test]
fn what_cannot_be_had_is_refused_and_nothing_is_made() {
    let Some(program) = c_program("asks", Libc::Musl) else { return };
    let session = Session::new();
    let unknown = session.output(&mut session.run(&["--cpu", "x86-64-v4"], &program, &[]));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        unknown.status.code() == Some(2) && said.contains("x86-64-v2") && said.contains("x86-64-v3"),
        "{unknown:?}"
    );
    let lacking = session.output(session.run(&["--cpu", "x86-64-v3"], &program, &[]).env(WITHOUT, "avx2,bmi2"));
    let said = String::from_utf8_lossy(&lacking.stderr).into_owned();
    assert!(!lacking.status.success() && said.contains("lacks what x86-64-v3 has: bmi2, avx2"), "{lacking:?}");
    assert!(!session.store().exists());
}
