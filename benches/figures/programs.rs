//! The programs: built when they are needed, from `benches/programs`, each ordinary and without knowledge of Semper.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::place::Place;

/// Static builds of busybox that distributions have.
const BUSYBOX: &[&str] = &["/usr/bin/busybox", "/bin/busybox", "/usr/bin/busybox-static", "/bin/busybox.static"];

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs").join(file)
}

/// Runs a compiler; `None` if it is not there.
fn compile(compiler: &str, args: &[&str], from: &Path, to: &Path) -> Outcome<Option<()>> {
    let output = match Command::new(compiler).args(args).arg("-o").arg(to).arg(from).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    if output.status.success() {
        return Ok(Some(()));
    }
    Err(format!("{compiler} {}: {}", from.display(), String::from_utf8_lossy(&output.stderr)).into())
}

/// A C program under the system's C library.
pub fn c(place: &Place, name: &str) -> Outcome<PathBuf> {
    c_by("cc", place, name)?.ok_or_else(|| "cc, a C compiler, is missing".into())
}

/// A C program under musl; `None` if there is no musl-gcc.
pub fn musl(place: &Place, name: &str) -> Outcome<Option<PathBuf>> {
    c_by("musl-gcc", place, name)
}

fn c_by(compiler: &str, place: &Place, name: &str) -> Outcome<Option<PathBuf>> {
    let to = place.path().join(format!("{name}-{compiler}"));
    if to.exists() {
        return Ok(Some(to));
    }
    let built = compile(compiler, &["-O2", "-static", "-w"], &source(&format!("{name}.c")), &to)?;
    Ok(built.map(|()| to))
}

/// A native domain of `examples/native`.
pub fn domain(name: &str) -> Outcome<PathBuf> {
    example("native", name)
}

/// A Linux program of `examples/linux`.
pub fn linux(name: &str) -> Outcome<PathBuf> {
    example("linux", name)
}

fn example(package: &str, name: &str) -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target").join(format!("{package}-examples"));
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--release", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(root.join("examples").join(package));
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("the {package} examples: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(target.join("release").join(name))
}

/// A Rust program.
pub fn rust(place: &Place, name: &str) -> Outcome<PathBuf> {
    let to = place.path().join(format!("{name}-rust"));
    let args = ["--edition", "2024", "-O", "-C", "target-feature=+crt-static"];
    if !to.exists() {
        compile("rustc", &args, &source(&format!("{name}.rs")), &to)?.ok_or("rustc is missing")?;
    }
    Ok(to)
}

/// A static busybox; `None` if there is none.
pub fn busybox() -> Option<PathBuf> {
    BUSYBOX.iter().map(PathBuf::from).find(|path| is_static(path))
}

/// The text of a script.
pub fn script(file: &str) -> Outcome<String> {
    Ok(fs::read_to_string(source(file))?)
}

/// Whether it is an ELF file whose program headers name no interpreter.
fn is_static(path: &Path) -> bool {
    const INTERPRETER: usize = 3;
    let Ok(image) = fs::read(path) else { return false };
    let number = |at: usize, length: usize| {
        let bytes = image.get(at..at + length).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    image.starts_with(b"\x7fELF") && !(0..count).any(|i| number(start + i * size, 4) == INTERPRETER)
}
