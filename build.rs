//! Builds the programs of `semper demo` as static executables, and takes a snapshot of this repository's texts for them.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 2] = ["indexer", "numeric"];
/// Folders whose texts the indexer reads.
const FOLDERS: [&str; 8] = ["store", "pager", "checkpoint", "domains", "src", "tests", "docs", "examples"];
const TEXTS: [&str; 4] = ["rs", "md", "toml", "c"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    // The texts of the other folders are taken whenever this runs; a stale snapshot of them harms nothing.
    for path in ["build.rs", "examples/demo", "README.md", "docs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for program in PROGRAMS {
        build(&root.join(format!("examples/demo/{program}.rs")), &out.join(program));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        keep_text(entry.path(), &mut files);
    }
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    snapshot(&root, &files, &out);
}

/// Copies the texts, so that a file that is deleted later does not break the build, and lists them as a Rust expression.
fn snapshot(root: &Path, files: &[PathBuf], out: &Path) {
    let mut list = String::from("&[\n");
    for (number, file) in files.iter().enumerate() {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let copy = out.join(format!("text-{number}"));
        fs::write(&copy, text).expect("the output folder is writable");
        let name = file.strip_prefix(root).expect("all files lie below the root").display().to_string();
        writeln!(list, "({name:?}, include_str!({:?})),", copy.display().to_string()).expect("a string takes all");
    }
    list.push(']');
    fs::write(out.join("texts.rs"), list).expect("the output folder is writable");
}

/// Builds one program so that it needs nothing at run time.
fn build(source: &Path, to: &Path) {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-A", "warnings"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .arg(source)
        .arg("-o")
        .arg(to)
        .status();
    match status {
        Ok(status) if status.success() => {}
        failed => panic!(
            "{} could not be built as a static program ({failed:?}): install a C compiler with the static C library \
             (on Debian and Ubuntu: apt-get install gcc libc6-dev)",
            source.display()
        ),
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            keep_text(path, files);
        }
    }
}

fn keep_text(path: PathBuf, files: &mut Vec<PathBuf>) {
    let is_text = path.extension().is_some_and(|extension| TEXTS.iter().any(|text| extension == *text));
    if is_text && path.is_file() {
        files.push(path);
    }
}
