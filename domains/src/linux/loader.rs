//! Makes a program's first memory from an ELF file: executables for x86-64, position-independent or not, and beside a dynamically
//! linked one its interpreter, which loads the libraries by itself.
//!
//! The file is untrusted: every number in it is checked before it is used, and what is wrong with it is a sentence.

use super::dynamic;
use super::files::ImportError;
use super::mm::page_up;
use super::stack;
use super::vma::{Attributes, EXEC, Kind, PAGE, READ, Source, WRITE, window_range};
use super::{Errno, Program, ProgramSpec, Start};
use crate::abi::{WINDOW_END, WINDOW_START};
use crate::table::TableError;
use object::LittleEndian as LE;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD,
    ProgramHeader64,
};
use thiserror::Error;

/// Program headers that are read at most.
const MAX_HEADERS: usize = 512;
/// The largest image, in memory.
const MAX_IMAGE: u64 = 64 << 30;
/// Where position-independent programs are put, plus up to [`BASE_SPREAD`].
const PIE_BASE: u64 = 0x40_0000_0000;
const BASE_SPREAD: u64 = 4 << 30;
/// The break begins up to this far behind the image.
const BRK_SPREAD: u64 = 16 << 20;
/// The stack's top lies up to this far below the window's end.
const STACK_SPREAD: u64 = 1 << 30;
/// Never mapped below the stack.
pub(super) const STACK_GUARD: u64 = 1 << 20;

/// Why a program cannot be started, or its state not be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is something else.
    #[error("it is not an ELF executable")]
    NotElf,
    /// The file ends too early.
    #[error("it is truncated: {what} would end at byte {end}, but the file has {size}")]
    Truncated {
        /// What is cut.
        what: &'static str,
        /// Where it ends.
        end: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A 32-bit program.
    #[error("it is a 32-bit program; only 64-bit x86 programs run")]
    WrongClass,
    /// For another processor.
    #[error("it is for another processor (ELF machine {0}); only x86-64 programs run")]
    WrongMachine(u16),
    /// Neither an executable nor position-independent.
    #[error("it is not an executable (ELF type {0})")]
    WrongType(u16),
    /// A native program that would have to be relocated.
    #[error("it is position-independent; a native program is linked at the address where it runs (-no-pie)")]
    NotFixed,
    /// A native program that needs a dynamic linker.
    #[error("it is dynamically linked; build it static (-static)")]
    Dynamic,
    /// It asks for an interpreter, which was not given.
    #[error("its interpreter {0} is not there")]
    NoInterpreter(String),
    /// The interpreter that it asks for cannot be loaded.
    #[error("its interpreter cannot be used: {0}")]
    Interpreter(Box<LoadError>),
    /// The interpreter cannot be put among its files.
    #[error("its interpreter: {0}")]
    InterpreterFile(ImportError),
    /// A header that contradicts itself.
    #[error("its program headers make no sense: {0}")]
    BadHeaders(&'static str),
    /// A segment lies where no program can be.
    #[error("its segment at {start:#x} of {length:#x} bytes lies outside {WINDOW_START:#x}..{WINDOW_END:#x}")]
    OutsideWindow {
        /// First address.
        start: u64,
        /// Bytes.
        length: u64,
    },
    /// Two segments lie over each other.
    #[error("its segments overlap at {0:#x}")]
    Overlap(u64),
    /// Too much memory.
    #[error("its image of {0} bytes is larger than {MAX_IMAGE}")]
    TooLarge(u64),
    /// The first instruction is not code.
    #[error("its entry point {0:#x} is not in an executable segment")]
    BadEntry(u64),
    /// Arguments and environment do not fit.
    #[error("its arguments and environment have {0} bytes; at most {limit} fit", limit = stack::MAX_STRINGS)]
    ArgumentsTooLong(u64),
    /// An argument with a zero byte inside.
    #[error("an argument or environment variable has a zero byte inside")]
    ZeroInArgument,
    /// The state segment cannot be used.
    #[error("its state cannot be used: {0}")]
    State(#[from] TableError),
    /// The records contradict themselves.
    #[error("its state is damaged: {0}")]
    Damaged(String),
    /// The records cannot be made or read.
    #[error("its records cannot be made or read (error {})", .0.0)]
    Records(Errno),
}

impl From<Errno> for LoadError {
    fn from(errno: Errno) -> Self {
        Self::Records(errno)
    }
}

/// A segment that was checked: within the file, within the window, not empty.
struct Segment {
    start: u64,
    memory: u64,
    file_at: usize,
    file_len: usize,
    protection: u32,
}

/// A file that was checked and can be placed.
struct Parsed<'a> {
    data: &'a [u8],
    headers: &'a [ProgramHeader64<LE>],
    segments: Vec<Segment>,
    /// What is added to the file's addresses.
    base: u64,
    entry: u64,
    /// Where the program headers lie in memory; 0: nowhere.
    headers_at: u64,
}

fn parse(data: &[u8], base: impl FnOnce(u64) -> Result<u64, LoadError>) -> Result<Parsed<'_>, LoadError> {
    let header = header(data)?;
    let headers = program_headers(data, header)?;
    let base = match header.e_type.get(LE) {
        ET_EXEC => 0,
        ET_DYN => base(segments(data, headers, PIE_BASE)?.last().map_or(0, |s| s.start + s.memory - PIE_BASE))?,
        other => return Err(LoadError::WrongType(other)),
    };
    let segments = segments(data, headers, base)?;
    let entry = header.e_entry.get(LE).checked_add(base).ok_or(LoadError::BadEntry(header.e_entry.get(LE)))?;
    let code = |s: &Segment| s.protection & EXEC != 0 && entry >= s.start && entry - s.start < s.memory;
    if !segments.iter().any(code) {
        return Err(LoadError::BadEntry(entry));
    }
    let table = header.e_phoff.get(LE);
    let described = segments.iter().find(|s| {
        let at = s.file_at as u64;
        table >= at && table - at < s.file_len as u64
    });
    let headers_at = described.map_or(0, |s| s.start + (table - s.file_at as u64));
    Ok(Parsed { data, headers, segments, base, entry, headers_at })
}

/// Loads the image, its interpreter if it asks for one, the stack and the break.
pub(super) fn load(p: &mut Program, spec: &ProgramSpec<'_>) -> Result<Start, LoadError> {
    let spread = random_below(p, BASE_SPREAD);
    let image = parse(spec.image, |_| Ok(PIE_BASE + spread))?;
    let end = place(p, &image, 0)?;

    let brk = page_up(end) + random_below(p, BRK_SPREAD);
    let stack_end = WINDOW_END - PAGE - random_below(p, STACK_SPREAD);
    let stack_start = stack_end - stack::STACK_BYTES;
    if brk >= stack_start - STACK_GUARD {
        let start = image.segments[0].start;
        return Err(LoadError::OutsideWindow { start, length: end - start });
    }
    p.user.vmas.map(stack_start, stack_end, Attributes::new(READ | WRITE, Kind::Stack));
    let m = &mut p.mm.record;
    (m.brk_start, m.brk, m.granted) = (brk, brk, brk);
    (m.stack_start, m.stack_end) = (stack_start, stack_end);
    m.map_top = stack_start - STACK_GUARD;
    m.image_base = image.base;
    m.limit = u64::MAX;
    p.mm.save(&mut p.state)?;

    let interpreter = match dynamic::interpreter(spec.image, image.headers)? {
        Some(path) => Some(load_interpreter(p, path, spec.interpreter)?),
        None => None,
    };
    let described = stack::Image {
        entry: image.entry,
        headers: image.headers_at,
        header_count: image.headers.len() as u64,
        interpreter: interpreter.map_or(0, |(base, _)| base),
    };
    let rsp = stack::build(p, spec, &described)?;
    Ok(Start { rip: interpreter.map_or(image.entry, |(_, entry)| entry), rsp })
}

/// Puts the interpreter among the program's files and into its memory, where libraries lie too; answers its base and its entry.
fn load_interpreter(p: &mut Program, path: &[u8], data: Option<&[u8]>) -> Result<(u64, u64), LoadError> {
    let mut data = data.ok_or_else(|| LoadError::NoInterpreter(String::from_utf8_lossy(path).into_owned()))?;
    let wrong = |error| LoadError::Interpreter(Box::new(error));
    let image = parse(data, |bytes| Ok(p.choose_address(page_up(bytes))?)).map_err(wrong)?;
    let taken = |s: &&Segment| p.user.vmas.bytes_within(s.start & !(PAGE - 1), page_up(s.start + s.memory)) > 0;
    if let Some(s) = image.segments.iter().find(taken) {
        return Err(wrong(LoadError::Overlap(s.start)));
    }
    let imported = p.files.import(&mut p.state, &p.host, path, 0o755, &mut data);
    let inode = imported.map_err(LoadError::InterpreterFile)?;
    place(p, &image, inode)?;
    Ok((image.base, image.entry))
}

/// Whether a file could be loaded at all: for telling a user before anything is made.
///
/// # Errors
/// What is wrong with it.
pub fn check_image(data: &[u8]) -> Result<(), LoadError> {
    let header = header(data)?;
    let headers = program_headers(data, header)?;
    let base = if header.e_type.get(LE) == ET_DYN { PIE_BASE } else { 0 };
    segments(data, headers, base).map(|_| ())
}

/// A piece of an image: where it lies in memory, how long it is there, its bytes, and whether they may be executed.
pub(crate) struct Piece<'a> {
    pub(crate) start: u64,
    pub(crate) memory: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) is_code: bool,
}

/// The entry point and the pieces of a program that is run without a personality: static, and linked at the address where it runs.
pub(crate) fn fixed_image(data: &[u8]) -> Result<(u64, Vec<Piece<'_>>), LoadError> {
    let header = header(data)?;
    let headers = program_headers(data, header)?;
    if headers.iter().any(|h| h.p_type.get(LE) == PT_INTERP) {
        return Err(LoadError::Dynamic);
    }
    if header.e_type.get(LE) != ET_EXEC {
        return Err(LoadError::NotFixed);
    }
    let pieces = segments(data, headers, 0)?;
    let entry = header.e_entry.get(LE);
    let within = |s: &Segment| entry >= s.start && entry - s.start < s.memory;
    if !pieces.iter().any(within) {
        return Err(LoadError::BadEntry(entry));
    }
    let piece = |s: Segment| Piece {
        start: s.start,
        memory: s.memory,
        bytes: &data[s.file_at..][..s.file_len],
        is_code: s.protection & EXEC != 0,
    };
    Ok((entry, pieces.into_iter().map(piece).collect()))
}

/// A random number of whole pages below `bytes`.
fn random_below(p: &Program, bytes: u64) -> u64 {
    let mut word = [0; 8];
    (p.host.random)(&mut word);
    (u64::from_le_bytes(word) % bytes) & !(PAGE - 1)
}

pub(super) fn header(data: &[u8]) -> Result<&FileHeader64<LE>, LoadError> {
    let ident = data.get(..16).filter(|i| i.starts_with(b"\x7fELF")).ok_or(LoadError::NotElf)?;
    if ident[4] != ELFCLASS64 {
        return Err(LoadError::WrongClass);
    }
    let size = size_of::<FileHeader64<LE>>();
    let truncated = LoadError::Truncated { what: "its header", end: size as u64, size: data.len() as u64 };
    let (header, _) = object::pod::from_bytes::<FileHeader64<LE>>(data).map_err(|()| truncated)?;
    let machine = header.e_machine.get(LE);
    if ident[5] != ELFDATA2LSB || machine != EM_X86_64 {
        return Err(LoadError::WrongMachine(machine));
    }
    Ok(header)
}

pub(super) fn program_headers<'a>(
    data: &'a [u8],
    header: &FileHeader64<LE>,
) -> Result<&'a [ProgramHeader64<LE>], LoadError> {
    let count = usize::from(header.e_phnum.get(LE));
    if usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
        return Err(LoadError::BadHeaders("their size is not 56"));
    }
    if count == 0 || count > MAX_HEADERS {
        return Err(LoadError::BadHeaders("there are none, or too many"));
    }
    let start = header.e_phoff.get(LE);
    let bytes = (count * size_of::<ProgramHeader64<LE>>()) as u64;
    let end = start.checked_add(bytes).ok_or(LoadError::BadHeaders("they lie beyond all addresses"))?;
    let truncated = || LoadError::Truncated { what: "its program headers", end, size: data.len() as u64 };
    let tail = usize::try_from(start).ok().and_then(|s| data.get(s..)).ok_or_else(truncated)?;
    object::pod::slice_from_bytes(tail, count).map(|(headers, _)| headers).map_err(|()| truncated())
}

/// The checked segments, by address.
fn segments(data: &[u8], headers: &[ProgramHeader64<LE>], base: u64) -> Result<Vec<Segment>, LoadError> {
    let mut found = Vec::new();
    for h in headers.iter().filter(|h| h.p_type.get(LE) == PT_LOAD && h.p_memsz.get(LE) > 0) {
        let (memory, file) = (h.p_memsz.get(LE), h.p_filesz.get(LE));
        let (address, offset) = (h.p_vaddr.get(LE), h.p_offset.get(LE));
        if memory > MAX_IMAGE {
            return Err(LoadError::TooLarge(memory));
        }
        if file > memory {
            return Err(LoadError::BadHeaders("a segment has more bytes in the file than in memory"));
        }
        if address % PAGE != offset % PAGE && file > 0 {
            return Err(LoadError::BadHeaders("a segment's address and offset do not lie alike in their pages"));
        }
        let outside = LoadError::OutsideWindow { start: address, length: memory };
        let start = address.checked_add(base);
        let pages = start.and_then(|s| window_range(s & !(PAGE - 1), memory.checked_add(s % PAGE)?));
        let (Some(start), Some(_)) = (start, pages) else { return Err(outside) };
        let truncated = |end| LoadError::Truncated { what: "a segment", end, size: data.len() as u64 };
        let end = offset.checked_add(file).ok_or_else(|| truncated(u64::MAX))?;
        if end > data.len() as u64 {
            return Err(truncated(end));
        }
        let place = usize::try_from(offset).and_then(|at| Ok((at, usize::try_from(file)?)));
        let (file_at, file_len) = place.map_err(|_| truncated(end))?;
        found.push(Segment { start, memory, file_at, file_len, protection: protection(h.p_flags.get(LE)) });
    }
    found.sort_by_key(|s| s.start);
    for pair in found.windows(2) {
        if pair[0].start + pair[0].memory > pair[1].start {
            return Err(LoadError::Overlap(pair[1].start));
        }
    }
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return Err(LoadError::BadHeaders("there is nothing to load"));
    };
    let total = last.start + last.memory - first.start;
    if total > MAX_IMAGE {
        return Err(LoadError::TooLarge(total));
    }
    Ok(found)
}

const fn protection(flags: u32) -> u32 {
    let mut protection = 0;
    if flags & PF_R != 0 {
        protection |= READ;
    }
    if flags & PF_W != 0 {
        protection |= WRITE;
    }
    if flags & PF_X != 0 {
        protection |= EXEC;
    }
    protection
}

/// Maps and fills the segments, of the program's own file (0) or of another; answers where the image ends.
fn place(p: &mut Program, image: &Parsed<'_>, inode: u64) -> Result<u64, LoadError> {
    let data = image.data;
    let mut end = 0;
    for s in &image.segments {
        let (from, to) = (s.start & !(PAGE - 1), page_up(s.start + s.memory));
        // Two segments that meet within a page: the later one's protection holds for it, as in Linux.
        // What the file has, by whole pages; the rest is anonymous.
        let filled = if s.file_len > 0 { page_up(s.start + s.file_len as u64) } else { from };
        if filled > from {
            let offset = s.file_at as u64 - (s.start - from);
            let source = Source::at(inode, offset, from);
            let kind = match inode {
                0 => Kind::Image,
                _ if s.protection & WRITE != 0 => Kind::Copy,
                _ => Kind::File,
            };
            p.user.vmas.map(from, filled, Attributes { source, ..Attributes::new(s.protection, kind) });
        }
        if to > filled {
            p.user.vmas.map(filled, to, Attributes::new(s.protection, Kind::Private));
        }
        p.user.put(s.start, &data[s.file_at..s.file_at + s.file_len])?;
        // Linux maps whole pages of the file, so what the file has before the segment's first byte shows as well.
        let lead = usize::try_from(s.start - from).unwrap_or(0).min(s.file_at);
        if s.file_len > 0 && s.start - lead as u64 >= end {
            p.user.put(s.start - lead as u64, &data[s.file_at - lead..s.file_at])?;
        }
        if s.protection & EXEC != 0 {
            p.replace_questions(s.start, s.start + s.file_len as u64)?;
        }
        end = s.start + s.memory;
    }
    Ok(end)
}
