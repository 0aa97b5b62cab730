//! What a dynamically linked ELF file asks its loader for: the interpreter, the libraries, where to look for them.
//!
//! The file is untrusted: what leads outside it is a sentence.

use super::loader::{self, LoadError};
use object::LittleEndian as LE;
use object::elf::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, Dyn64, ET_DYN, FileHeader64, PT_DYNAMIC, PT_INTERP,
    ProgramHeader64,
};

/// Entries of a dynamic section that are read at most.
const MAX_ENTRIES: usize = 4096;
/// Most libraries that one file may name.
const MAX_NEEDED: usize = 512;
/// The longest name or list of directories.
const MAX_TEXT: usize = 1 << 16;

/// What an ELF file asks its loader for; all of it empty for a static one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The path of the loader that starts it (`PT_INTERP`).
    pub interpreter: Option<Vec<u8>>,
    /// Names of libraries (`DT_NEEDED`), in order.
    pub libraries: Vec<Vec<u8>>,
    /// Directories for its own libraries (`DT_RUNPATH`), with colons between them.
    pub run_path: Option<Vec<u8>>,
    /// Directories for them and for what they need in turn (`DT_RPATH`); ignored where there is a run path.
    pub inherited_path: Option<Vec<u8>>,
}

impl Needs {
    /// Reads them from an x86-64 executable or shared library.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of(data: &[u8]) -> Result<Self, LoadError> {
        let header = loader::header(data)?;
        let headers = loader::program_headers(data, header)?;
        let mut needs = Self { interpreter: interpreter(data, headers)?.map(<[u8]>::to_vec), ..Self::default() };
        let Some(section) = headers.iter().find(|h| h.p_type.get(LE) == PT_DYNAMIC) else { return Ok(needs) };
        let bytes = in_file(data, section, "its dynamic section")?;
        let count = (bytes.len() / size_of::<Dyn64<LE>>()).min(MAX_ENTRIES);
        let (entries, _) = object::pod::slice_from_bytes::<Dyn64<LE>>(bytes, count)
            .map_err(|()| LoadError::BadHeaders("its dynamic section"))?;
        let entries =
            || entries.iter().map(|e| (e.d_tag.get(LE), e.d_val.get(LE))).take_while(|e| e.0 != u64::from(DT_NULL));
        let value = |tag| entries().find(|e| e.0 == u64::from(tag)).map(|e| e.1);
        let strings = match (value(DT_STRTAB), value(DT_STRSZ)) {
            (Some(address), Some(length)) => mapped(data, headers, address, length)?,
            _ => &[],
        };
        for (_, at) in entries().filter(|e| e.0 == u64::from(DT_NEEDED)).take(MAX_NEEDED) {
            needs.libraries.push(text(strings, at)?);
        }
        needs.run_path = value(DT_RUNPATH).map(|at| text(strings, at)).transpose()?;
        needs.inherited_path = value(DT_RPATH).map(|at| text(strings, at)).transpose()?;
        Ok(needs)
    }

    /// Whether the file can be loaded as a shared library of an x86-64 program.
    #[must_use]
    pub fn is_library(data: &[u8]) -> bool {
        let header: Result<&FileHeader64<LE>, _> = loader::header(data);
        header.is_ok_and(|h| h.e_type.get(LE) == ET_DYN) && loader::check_image(data).is_ok()
    }
}

/// The path of the interpreter that a file asks for.
pub(super) fn interpreter<'a>(data: &'a [u8], headers: &[ProgramHeader64<LE>]) -> Result<Option<&'a [u8]>, LoadError> {
    let Some(header) = headers.iter().find(|h| h.p_type.get(LE) == PT_INTERP) else { return Ok(None) };
    match in_file(data, header, "the name of its interpreter")?.split_last() {
        Some((0, path)) if path.starts_with(b"/") && path.len() < super::files::PATH_MAX && !path.contains(&0) => {
            Ok(Some(path))
        }
        _ => Err(LoadError::BadHeaders("the name of the interpreter is no absolute path")),
    }
}

/// The bytes that a program header describes.
fn in_file<'a>(data: &'a [u8], header: &ProgramHeader64<LE>, what: &'static str) -> Result<&'a [u8], LoadError> {
    let (start, length) = (header.p_offset.get(LE), header.p_filesz.get(LE));
    let truncated = || LoadError::Truncated { what, end: start.saturating_add(length), size: data.len() as u64 };
    piece(data, start, length).ok_or_else(truncated)
}

/// The bytes of the file that lie at `address` once it is loaded.
fn mapped<'a>(
    data: &'a [u8],
    headers: &[ProgramHeader64<LE>],
    address: u64,
    length: u64,
) -> Result<&'a [u8], LoadError> {
    let within = |h: &&ProgramHeader64<LE>| {
        let skipped = address.checked_sub(h.p_vaddr.get(LE));
        let end = skipped.and_then(|n| n.checked_add(length));
        h.p_type.get(LE) == object::elf::PT_LOAD && end.is_some_and(|end| end <= h.p_filesz.get(LE))
    };
    let header = headers.iter().find(within);
    header
        .and_then(|h| piece(data, h.p_offset.get(LE).checked_add(address - h.p_vaddr.get(LE))?, length))
        .ok_or(LoadError::BadHeaders("its dynamic strings lie outside the file"))
}

fn piece(data: &[u8], start: u64, length: u64) -> Option<&[u8]> {
    data.get(usize::try_from(start).ok()?..)?.get(..usize::try_from(length).ok()?)
}

/// The string that begins at an offset of the table.
fn text(strings: &[u8], at: u64) -> Result<Vec<u8>, LoadError> {
    let tail = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
    match tail.iter().take(MAX_TEXT).position(|&byte| byte == 0) {
        Some(end) => Ok(tail[..end].to_vec()),
        None => Err(LoadError::BadHeaders("a name in its dynamic section has no end")),
    }
}
