//! A program to be added: read from the host's files, once, before anything in the store changes.

use super::RuntimeError;
use super::libraries::{self, Given};
use semper_domains::kernel::{self as domains, StartKey};
use semper_domains::native::NativeSpec;
use semper_domains::network::Grants;
use semper_domains::processor::Level;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Largest program file that is read.
const MAX_IMAGE_BYTES: u64 = 1 << 30;
/// Memory of a native program if none is asked for.
pub const DEFAULT_NATIVE_MEMORY: u64 = 16 << 20;
/// Most files that one directory import may bring.
const MAX_IMPORTED_FILES: usize = 100_000;

/// A file or directory to bring into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Where it is.
    pub host: PathBuf,
    /// Where the program finds it; none: under the same absolute path.
    pub guest: Option<String>,
}

/// A program and what it is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProgram {
    /// Its name as a domain, which must be free; none: the file's name, with a number if that is taken.
    pub name: Option<String>,
    /// The ELF file.
    pub program: PathBuf,
    /// Arguments, its name first.
    pub args: Vec<OsString>,
    /// Environment.
    pub env: Vec<(OsString, OsString)>,
    /// Files.
    pub files: Vec<Import>,
    /// Bytes of the memory of a native program; none: a Linux program.
    pub native: Option<u64>,
    /// Start keys to domains of the store that it is given.
    pub keys: Vec<StartKey>,
    /// What it may reach.
    pub network: Grants,
    /// Whether what it is told by the outside is recorded.
    pub record: bool,
    /// What it may know of the processor; none: all.
    pub cpu: Option<Level>,
}

impl NewProgram {
    /// Whether the program could be run at all; reads it, makes nothing.
    ///
    /// # Errors
    /// As [`super::Runtime::add`] would.
    pub fn check(&self) -> Result<(), RuntimeError> {
        if let Some(wrong) = self.network.wrong() {
            return Err(RuntimeError::Refused(wrong));
        }
        match self.native {
            Some(_) => self.clone().read_native().map(|_| ()),
            None => self.clone().read().map(|_| ()),
        }
    }

    /// Reads a native program.
    pub(super) fn read_native(self) -> Result<NativeSpec, RuntimeError> {
        let image = read_image(&self.program)?;
        let args = self.args.into_iter().map(OsStringExt::into_vec).collect();
        let name = self.name.unwrap_or_else(|| file_name(&self.program));
        let memory = self.native.unwrap_or(DEFAULT_NATIVE_MEMORY);
        let (keys, network, record, cpu) = (self.keys, self.network, self.record, self.cpu);
        let spec = NativeSpec { name, image, args, memory, keys, network, record, cpu };
        spec.check().map_err(|reason| RuntimeError::NotRunnable { program: self.program, reason })?;
        Ok(spec)
    }

    /// Reads the program and opens its files.
    pub(super) fn read(self) -> Result<domains::NewProgram, RuntimeError> {
        let program = self.program;
        let image = read_image(&program)?;
        let refuse = |reason: &str| RuntimeError::NotRunnable { program: program.clone(), reason: reason.to_owned() };
        semper_domains::linux::check_image(&image).map_err(|e| refuse(&e.to_string()))?;
        let absolute = std::path::absolute(&program).unwrap_or_else(|_| program.clone());
        let name = self.name.unwrap_or_else(|| file_name(&program));
        let mut given = Vec::new();
        for import in self.files {
            let guest = match import.guest {
                Some(guest) if guest.starts_with('/') => PathBuf::from(guest),
                Some(guest) => Path::new("/").join(guest),
                None => std::path::absolute(&import.host)
                    .map_err(|source| RuntimeError::File { path: import.host.clone(), source })?,
            };
            collect(&import.host, &guest, &mut given)?;
        }
        let found = libraries::find(&absolute, &image, &self.env, &given).map_err(|wrong| refuse(&wrong))?;
        let (interpreter, mut files) = found.map_or((None, Vec::new()), |found| (Some(found.interpreter), found.files));
        // What the user gives replaces what was found.
        files.extend(given.into_iter().map(|file| domains::ImportFile {
            guest: file.guest.into_os_string().into_vec(),
            mode: file.mode,
            content: Box::new(LazyFile { path: file.host, file: None }),
        }));
        let env = self.env.into_iter().map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            pair
        });
        Ok(domains::NewProgram {
            name,
            path: absolute.as_os_str().as_bytes().to_vec(),
            image,
            interpreter,
            args: self.args.into_iter().map(OsStringExt::into_vec).collect(),
            env: env.collect(),
            files,
            keys: self.keys,
            network: self.network,
            record: self.record,
            cpu: self.cpu,
        })
    }
}

/// The name of a program that was given none.
fn file_name(program: &Path) -> String {
    program.file_name().map_or_else(|| "program".into(), |n| n.to_string_lossy().chars().take(40).collect())
}

/// Reads an executable file.
fn read_image(program: &Path) -> Result<Vec<u8>, RuntimeError> {
    let program = program.to_path_buf();
    let metadata = std::fs::metadata(&program).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => RuntimeError::NoProgram(program.clone()),
        _ => RuntimeError::File { path: program.clone(), source },
    })?;
    let refuse = |reason: &str| RuntimeError::NotRunnable { program: program.clone(), reason: reason.to_owned() };
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(refuse("it is not executable (chmod +x)"));
    }
    if metadata.len() > MAX_IMAGE_BYTES {
        return Err(refuse("it is larger than 1 GiB"));
    }
    std::fs::read(&program).map_err(|source| RuntimeError::File { path: program, source })
}

/// Opens a file, or all files below a directory. Links are followed; what is neither file nor directory is refused.
fn collect(host: &Path, guest: &Path, files: &mut Vec<Given>) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::File { path: host.to_path_buf(), source };
    let metadata = std::fs::metadata(host).map_err(failed)?;
    if metadata.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(host).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            collect(&entry.path(), &guest.join(entry.file_name()), files)?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(RuntimeError::Refused(format!("{} is neither a file nor a directory", host.display())));
    }
    if files.len() >= MAX_IMPORTED_FILES {
        return Err(RuntimeError::Refused(format!("more than {MAX_IMPORTED_FILES} files to import")));
    }
    File::open(host).map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    files.push(Given { host: host.to_path_buf(), guest: guest.to_path_buf(), mode });
    Ok(())
}

/// Opened when it is read: a directory import may name more files than there are descriptors.
struct LazyFile {
    path: PathBuf,
    file: Option<File>,
}

impl std::io::Read for LazyFile {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        file.read(out)
    }
}
