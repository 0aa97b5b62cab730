//! How a domain program is linked: static, at a fixed address, without any library of the system's.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for arg in ["-nostdlib", "-nostartfiles", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}
