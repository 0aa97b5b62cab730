//! The stack on which a program begins: argc, argv, environment, auxiliary vector, and the strings they point to.

use super::process::UID;
use super::vma::PAGE;
use super::{Errno, LoadError, Program, ProgramSpec};
use crate::processor::Answers;
use crate::processor::answers::EXTENDED_STATE;

/// Bytes of the stack.
pub(super) const STACK_BYTES: u64 = 8 << 20;
/// Most bytes that arguments and environment may have: a quarter of the stack, as in Linux.
pub(super) const MAX_STRINGS: u64 = STACK_BYTES / 4;

/// What the auxiliary vector says about the image.
pub(super) struct Image {
    /// First instruction.
    pub entry: u64,
    /// Address of the program headers, 0: not loaded.
    pub headers: u64,
    /// How many there are.
    pub header_count: u64,
    /// What was added to the addresses of the interpreter's file; 0: there is none.
    pub interpreter: u64,
}

const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_HWCAP2: u64 = 26;
const AT_EXECFN: u64 = 31;
const AT_MINSIGSTKSZ: u64 = 51;

/// Bytes of a signal's frame beside the extended state, with what aligning takes.
const FRAME: u64 = 1024;

/// Strings go on the stack from the top down.
struct Strings {
    bottom: u64,
    bytes: Vec<u8>,
}

impl Strings {
    fn push(&mut self, text: &[u8]) -> u64 {
        let at = self.bottom + self.bytes.len() as u64;
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        at
    }
}

/// Fills the top of the stack; answers the first stack pointer.
pub(super) fn build(p: &Program, spec: &ProgramSpec<'_>, image: &Image) -> Result<u64, LoadError> {
    let all = || spec.args.iter().chain(&spec.env);
    let total = all().map(|s| s.len() as u64 + 9).sum::<u64>() + spec.path.len() as u64;
    if total > MAX_STRINGS {
        return Err(LoadError::ArgumentsTooLong(total));
    }
    if all().any(|s| s.contains(&0)) || spec.path.contains(&0) {
        return Err(LoadError::ZeroInArgument);
    }
    let lengths = all().map(|s| s.len() as u64 + 1).sum::<u64>() + spec.path.len() as u64 + 1;
    let platform = b"x86_64";
    // Eight zero bytes end the stack, as in Linux; the random bytes and the platform's name come with the strings.
    let bottom = (p.mm.record.stack_end - 8 - lengths - 16 - platform.len() as u64 - 1) & !15;
    let mut strings = Strings { bottom, bytes: vec![0; 16] };
    (p.host.random)(&mut strings.bytes[..16]);
    let platform = strings.push(platform);
    let args: Vec<u64> = spec.args.iter().map(|s| strings.push(s)).collect();
    let env: Vec<u64> = spec.env.iter().map(|s| strings.push(s)).collect();
    let path = strings.push(spec.path);

    let mut words = vec![args.len() as u64];
    words.extend(&args);
    words.push(0);
    words.extend(&env);
    words.push(0);
    words.extend(auxiliary(p, spec, image, [bottom, platform, path]).as_flattened());
    let rsp = (bottom - words.len() as u64 * 8) & !15;
    if rsp < p.mm.record.stack_start + PAGE {
        return Err(LoadError::ArgumentsTooLong(total));
    }
    let put = |at, bytes: &[u8]| p.user.put(at, bytes).map_err(|e: Errno| LoadError::Records(e));
    put(bottom, &strings.bytes)?;
    put(rsp, &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(rsp)
}

fn auxiliary(p: &Program, spec: &ProgramSpec<'_>, image: &Image, [random, platform, path]: [u64; 3]) -> [[u64; 2]; 20] {
    let user = u64::from(UID);
    let answers = p.host.answers.as_deref();
    let features = answers.map_or_else(|| host_auxiliary(AT_HWCAP).unwrap_or(0), Answers::hwcap);
    // It may go on where more is saved for a signal than here.
    let least = if answers.is_some() { u64::from(EXTENDED_STATE) + FRAME } else { 2048 };
    [
        [AT_HWCAP, features],
        [AT_PAGESZ, PAGE],
        [AT_CLKTCK, 100],
        [AT_PHDR, image.headers],
        [AT_PHENT, 56],
        [AT_PHNUM, image.header_count],
        [AT_BASE, image.interpreter],
        [AT_FLAGS, 0],
        [AT_ENTRY, image.entry],
        [AT_UID, user],
        [AT_EUID, user],
        [AT_GID, user],
        [AT_EGID, user],
        [AT_SECURE, 0],
        [AT_RANDOM, random],
        [AT_HWCAP2, spec.hwcap2],
        [AT_EXECFN, path],
        [AT_PLATFORM, platform],
        [AT_MINSIGSTKSZ, host_auxiliary(AT_MINSIGSTKSZ).unwrap_or(0).max(least)],
        [0, 0],
    ]
}

/// An entry of this process's own auxiliary vector: what Linux says of this machine.
fn host_auxiliary(wanted: u64) -> Option<u64> {
    let bytes = std::fs::read("/proc/self/auxv").ok()?;
    let word = |b: &[u8]| b.try_into().map_or(0, u64::from_ne_bytes);
    bytes.chunks_exact(16).find(|e| word(&e[..8]) == wanted).map(|e| word(&e[8..]))
}
