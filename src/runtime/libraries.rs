//! What a dynamically linked program needs beside itself: its interpreter and its libraries, found where the host's loader would find
//! them, and brought into the store under the same paths. The interpreter then loads them in the program, as it does anywhere.
//!
//! Names in an executable are untrusted. Only what is a shared library for x86-64 is ever brought in for them.

use semper_domains::kernel::ImportFile;
use semper_domains::linux::Needs;
use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::Cursor;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Most bytes of interpreter and libraries together.
const MAX_BYTES: u64 = 1 << 30;
/// Most libraries that one program may need.
const MAX_LIBRARIES: usize = 2048;
/// Where the loader of glibc has the list of what lies in its directories.
const CACHE: &str = "/etc/ld.so.cache";
/// Where libraries are that lie nowhere else, for the loader of glibc and for that of musl.
const GLIBC_DIRECTORIES: &[&str] =
    &["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
const MUSL_DIRECTORIES: &[&str] = &["/lib", "/usr/local/lib", "/usr/lib"];
/// Libraries that are parts of musl's loader, whatever follows.
const PARTS_OF_MUSL: &[&str] = &["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."];

/// A file that the user gives to the program.
pub(super) struct Given {
    /// Where it is.
    pub host: PathBuf,
    /// Where the program finds it.
    pub guest: PathBuf,
    /// Permission bits.
    pub mode: u32,
}

/// What was found for a dynamically linked program.
pub(super) struct Libraries {
    /// The ELF file of its interpreter.
    pub interpreter: Vec<u8>,
    /// The libraries, and what the interpreter needs to find them.
    pub files: Vec<ImportFile>,
}

/// A file whose libraries are to be found.
struct Wanting {
    needs: Needs,
    /// The directory that it calls `$ORIGIN`.
    origin: PathBuf,
    /// Directories that those who need it ask for, nearest first.
    inherited: Vec<PathBuf>,
    /// Whether the program cannot begin without it.
    required: bool,
}

struct Search<'a> {
    given: &'a [Given],
    musl: bool,
    cache: Vec<u8>,
    /// `LD_LIBRARY_PATH` of the program.
    asked: Vec<PathBuf>,
    left: u64,
}

/// Finds the interpreter and the libraries of a program, and the libraries of those files that it is given; none: it is static.
///
/// # Errors
/// What cannot be found or used, as a sentence.
pub(super) fn find(
    program: &Path,
    image: &[u8],
    env: &[(OsString, OsString)],
    given: &[Given],
) -> Result<Option<Libraries>, String> {
    let needs = Needs::of(image).map_err(|error| error.to_string())?;
    let Some(path) = needs.interpreter.clone().map(|path| PathBuf::from(OsString::from_vec(path))) else {
        return Ok(None);
    };
    let own = path.file_name().unwrap_or_default().to_owned();
    let musl = own.as_bytes().starts_with(b"ld-musl");
    let variable = env.iter().find(|(name, _)| name == "LD_LIBRARY_PATH").map(|(_, value)| value.as_bytes());
    let origin = program.parent().unwrap_or(Path::new("/")).to_path_buf();
    let mut search = Search {
        given,
        musl,
        cache: if musl { Vec::new() } else { std::fs::read(CACHE).unwrap_or_default() },
        asked: directories(variable.unwrap_or_default(), &origin),
        left: MAX_BYTES,
    };
    let from = given.iter().find(|file| file.guest == path).map_or(&path, |file| &file.host);
    let shown = from.display();
    let interpreter = search.library(from).ok_or_else(|| {
        format!("it is dynamically linked, and its interpreter {shown} is not there or no x86-64 loader; build it static, or give the interpreter with --file")
    })?;

    let mut files = Vec::new();
    if !search.cache.is_empty() {
        files.push(import(Path::new(CACHE), search.cache.clone(), 0o644));
    }
    let mut seen = HashSet::from([own.into_vec()]);
    let mut queue = VecDeque::from([Wanting { needs, origin, inherited: Vec::new(), required: true }]);
    queue.extend(given.iter().filter_map(wanting));
    while let Some(wanting) = queue.pop_front() {
        for name in &wanting.needs.libraries {
            if search.is_there_already(name) || !seen.insert(name.clone()) {
                continue;
            }
            if seen.len() > MAX_LIBRARIES {
                return Err(format!("it needs more than {MAX_LIBRARIES} libraries"));
            }
            match search.locate(name, &wanting) {
                Some((path, bytes)) => {
                    queue.push_back(needed(&path, &bytes, &wanting)?);
                    files.push(import(&path, bytes, 0o755));
                }
                None if wanting.required => {
                    let name = String::from_utf8_lossy(name);
                    return Err(format!(
                        "it needs the library {name}, which is not where its loader looks; give it with --file"
                    ));
                }
                None => {
                    tracing::debug!(library = %String::from_utf8_lossy(name), "a given file needs it; it is not found")
                }
            }
        }
    }
    Ok(Some(Libraries { interpreter, files }))
}

fn import(path: &Path, bytes: Vec<u8>, mode: u32) -> ImportFile {
    ImportFile { guest: path.as_os_str().as_bytes().to_vec(), mode, content: Box::new(Cursor::new(bytes)) }
}

/// What a library needs that was found for another file.
fn needed(path: &Path, bytes: &[u8], by: &Wanting) -> Result<Wanting, String> {
    let needs = Needs::of(bytes).map_err(|error| format!("its library {} cannot be used: {error}", path.display()))?;
    let origin = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    Ok(Wanting { needs, origin, inherited: by.inherited(), required: by.required })
}

/// What a given file needs, if it is a library that the program may load later.
fn wanting(given: &Given) -> Option<Wanting> {
    let mut file = std::fs::File::open(&given.host).ok()?;
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut file, &mut magic).ok().filter(|()| magic == *b"\x7fELF")?;
    if file.metadata().ok()?.len() > MAX_BYTES {
        return None;
    }
    let needs = Needs::of(&std::fs::read(&given.host).ok()?).ok()?;
    let origin = given.guest.parent()?.to_path_buf();
    Some(Wanting { needs, origin, inherited: Vec::new(), required: false })
}

impl Wanting {
    /// Directories that hold for its libraries and what they need in turn.
    fn inherited(&self) -> Vec<PathBuf> {
        let own = match (&self.needs.run_path, &self.needs.inherited_path) {
            (None, Some(path)) => directories(path, &self.origin),
            _ => Vec::new(),
        };
        [own, self.inherited.clone()].concat()
    }
}

impl Search<'_> {
    /// Whether the program has a library without its being looked for.
    fn is_there_already(&self, name: &[u8]) -> bool {
        self.musl && PARTS_OF_MUSL.iter().any(|part| name.starts_with(part.as_bytes()))
            || self.given.iter().any(|file| file.guest.file_name().is_some_and(|given| given.as_bytes() == name))
    }

    /// The library of a name that a file needs, by the rules of ld.so(8).
    fn locate(&mut self, name: &[u8], by: &Wanting) -> Option<(PathBuf, Vec<u8>)> {
        if name.contains(&b'/') {
            let path = expanded(name, &by.origin).filter(|path| path.is_absolute())?;
            return self.library(&path).map(|bytes| (path, bytes));
        }
        let mut places = if by.needs.run_path.is_none() { by.inherited() } else { Vec::new() };
        places.extend(self.asked.iter().cloned());
        places.extend(by.needs.run_path.iter().flat_map(|path| directories(path, &by.origin)));
        let defaults = if self.musl { MUSL_DIRECTORIES } else { GLIBC_DIRECTORIES };
        let file = Path::new(OsStr::from_bytes(name));
        let asked = places.iter().map(|place| place.join(file));
        let listed = cached(&self.cache, name).into_iter();
        let paths: Vec<PathBuf> =
            asked.chain(listed).chain(defaults.iter().map(|place| Path::new(place).join(file))).collect();
        paths.into_iter().find_map(|path| self.library(&path).map(|bytes| (path, bytes)))
    }

    /// The content of a file, if it is a library for x86-64 and not too much.
    fn library(&mut self, path: &Path) -> Option<Vec<u8>> {
        let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.is_file())?;
        let left = self.left.checked_sub(metadata.len())?;
        let bytes = std::fs::read(path).ok().filter(|bytes| Needs::is_library(bytes))?;
        self.left = left;
        Some(bytes)
    }
}

/// The absolute directories of a list with colons.
fn directories(list: &[u8], origin: &Path) -> Vec<PathBuf> {
    list.split(|&byte| byte == b':').filter_map(|place| expanded(place, origin)).filter(|p| p.is_absolute()).collect()
}

/// A path in which `$ORIGIN` is replaced; none if there is something else to replace.
fn expanded(path: &[u8], origin: &Path) -> Option<PathBuf> {
    let text = std::str::from_utf8(path).ok()?;
    let origin = origin.to_str()?;
    let text = text.replace("${ORIGIN}", origin).replace("$ORIGIN", origin);
    (!text.contains('$')).then(|| PathBuf::from(text))
}

/// Where the loader's list (format `glibc-ld.so.cache1.1`) has a library for x86-64.
fn cached(cache: &[u8], name: &[u8]) -> Option<PathBuf> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    /// An ELF library of libc 6 for x86-64.
    const X86_64: u32 = 0x0303;
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let text = |at: u32| {
        let tail = cache.get(usize::try_from(at).ok()?..)?;
        tail.split(|&byte| byte == 0).next()
    };
    let count = usize::try_from(word(cache.strip_prefix(MAGIC)?, 0)?).ok()?;
    // Those with another last word are for some processors only; the loader finds the others where these are not.
    let fits = |entry: &&[u8]| {
        word(entry, 0) == Some(X86_64) && entry[16..] == [0; 8] && word(entry, 4).and_then(text) == Some(name)
    };
    let entry = cache.get(HEADER..)?.chunks_exact(ENTRY).take(count).find(fits)?;
    let path = Path::new(OsStr::from_bytes(text(word(entry, 8)?)?));
    path.is_absolute().then(|| path.to_path_buf())
}
