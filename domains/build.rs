//! Builds the stub: a tiny static program without libc that becomes a domain's process. It needs its own link address and no
//! standard library, so it is compiled here, by the same rustc, and embedded.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=stub");
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("stub");
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    assert!(
        target.starts_with("x86_64") && target.contains("linux"),
        "Semper runs on x86-64 Linux; this target is {target}"
    );
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "semper_stub", "--target", &target]);
    for option in [
        "opt-level=2",
        "panic=abort",
        "relocation-model=pic",
        "strip=symbols",
        "link-arg=-nostdlib",
        "link-arg=-nostartfiles",
        "link-arg=-static",
        "link-arg=-no-pie",
        "link-arg=-Wl,--build-id=none",
        // lld's name for -Ttext-segment; abi::STUB_BASE.
        "link-arg=-Wl,--image-base=0x700000000000",
    ] {
        command.args(["-C", option]);
    }
    command.arg("stub/main.rs").arg("-o").arg(&out);
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = command.status().expect("rustc runs");
    assert!(status.success(), "the stub did not compile");
}
