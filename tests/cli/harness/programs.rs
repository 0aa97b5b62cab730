//! Test programs, built once from `tests/programs` as static executables.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

/// Which C library a program is linked with.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Libc {
    Musl,
    Glibc,
}

impl Libc {
    fn compiler(self) -> &'static str {
        match self {
            Libc::Musl => "musl-gcc",
            Libc::Glibc => "gcc",
        }
    }
}

/// Built programs of this test process; `None` where the compiler is missing.
static BUILT: LazyLock<Mutex<HashMap<String, Option<PathBuf>>>> = LazyLock::new(Mutex::default);

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(file)
}

fn build(key: String, compiler: &str, make: impl FnOnce(&Path) -> Command) -> Option<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    built
        .entry(key.clone())
        .or_insert_with(|| {
            let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&key);
            // Other test processes may build the same program at the same time: each makes its own, then renames it.
            let mine = to.with_extension(std::process::id().to_string());
            let output = match make(&mine).output() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
                output => output.unwrap(),
            };
            assert!(output.status.success(), "{compiler} fails:\n{}", String::from_utf8_lossy(&output.stderr));
            std::fs::rename(&mine, &to).unwrap();
            Some(to)
        })
        .clone()
}

/// A C program of `tests/programs`; `None`, said by name, if its compiler is missing.
pub fn c_program(name: &str, libc: Libc) -> Option<PathBuf> {
    let compiler = libc.compiler();
    let program = build(format!("{name}-{libc:?}").to_lowercase(), compiler, |to| {
        let mut command = Command::new(compiler);
        command.args(["-static", "-O2", "-o"]).arg(to).arg(source(&format!("{name}.c"))).arg("-lm");
        command
    });
    if program.is_none() {
        super::needs::missing(compiler);
    }
    program
}

/// A C program or library of `tests/programs`, dynamically linked, with these arguments more for the compiler; `None` as above.
pub fn dynamic_c_program(name: &str, libc: Libc, more: &[&str]) -> Option<PathBuf> {
    let compiler = libc.compiler();
    let program = build(format!("{name}-{libc:?}-shared").to_lowercase(), compiler, |to| {
        let mut command = Command::new(compiler);
        command.args(["-O2", "-o"]).arg(to).arg(source(&format!("{name}.c"))).args(more).arg("-lm");
        command
    });
    if program.is_none() {
        super::needs::missing(compiler);
    }
    program
}

/// A native C program of `tests/programs`, which needs no C library; `None`, said by name, if there is no compiler.
pub fn bare_c_program(name: &str) -> Option<PathBuf> {
    let program = build(format!("{name}-bare"), "gcc", |to| {
        let mut command = Command::new("gcc");
        command.args(["-g", "-O1", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"]);
        command.args(["-nostdlib", "-static", "-no-pie", "-o"]).arg(to).arg(source(&format!("{name}.c")));
        command
    });
    if program.is_none() {
        super::needs::missing("gcc");
    }
    program
}

/// A Rust program of `tests/programs`, or of the demo.
pub fn rust_program(name: &str) -> PathBuf {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo").join(format!("{name}.rs"));
    let from = if demo.exists() { demo } else { source(&format!("{name}.rs")) };
    build(format!("{name}-rust"), "rustc", |to| {
        let mut command = Command::new("rustc");
        command.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"]).arg(to).arg(from);
        command
    })
    .expect("rustc built this test")
}

/// A domain program of `examples/native`, built as `docs/native.md` says.
pub fn native_program(name: &str) -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| build_examples("native"));
    BUILT.join(name)
}

/// A Linux program of `examples/linux`, which uses the kit beside std.
pub fn linux_program(name: &str) -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| build_examples("linux"));
    BUILT.join(name)
}

fn build_examples(package: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(package);
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--release", "--locked", "--target-dir"]).arg(&target).current_dir(from);
    let output = command.output().unwrap();
    assert!(output.status.success(), "the examples do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    target.join("release")
}

/// A domain program of `examples/native`, or else of `tests/programs`, in C, built as `docs/native.md` says; `None`, said by name, without a compiler.
pub fn native_c_program(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = build(format!("{name}-native"), "cc", |to| {
        let mut command = Command::new("cc");
        command.args(["-O2", "-static", "-nostdlib", "-nostartfiles", "-ffreestanding", "-no-pie"]);
        command.arg("-fno-stack-protector").arg("-I").arg(root.join("domains/guest/include"));
        let file = format!("{name}.c");
        let places = [root.join("examples/native").join(&file), root.join("tests/programs").join(&file)];
        command.args(places.iter().find(|place| place.exists())).arg("-o").arg(to);
        command
    });
    if program.is_none() {
        super::needs::missing("cc");
    }
    program
}

/// A program of the system, static, from one of `places`; `None`, said by name, if it is not there.
pub fn tool(name: &str, places: &[&str]) -> Option<PathBuf> {
    let found = places.iter().map(PathBuf::from).find(|path| path.exists() && is_static(path));
    if found.is_none() {
        super::needs::missing(&format!("{name} as a static program"));
    }
    found
}

/// Whether an ELF file has no interpreter: in the program headers, a type of 3 means one.
fn is_static(path: &Path) -> bool {
    let image = std::fs::read(path).unwrap();
    let word = |at: usize, len: usize| {
        image
            .get(at..at + len)
            .map_or(0, |bytes| bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (start, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    image.starts_with(b"\x7fELF") && !(0..count).any(|i| word(usize::try_from(start + i * size).unwrap(), 4) == 3)
}
