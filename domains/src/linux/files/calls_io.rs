//! Calls that move bytes between open files and memory.

use super::Errno;
use super::flow::{At, Flow, Piece, STEP};
use super::node::NodeKind;
use super::records::OpenFile;
use crate::linux::{Answer, ConsoleKind, MAX_RW, Program};

/// SIGPIPE.
const SIGPIPE: u8 = 13;

pub(super) fn read(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let open = p.files.usable(a[0])?;
    p.read_pieces(open, At::Offset, &[Piece { address: a[1], length: a[2] }])
}

pub(super) fn readv(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let open = p.files.usable(a[0])?;
    let pieces = p.pieces(a[1], a[2])?;
    p.read_pieces(open, At::Offset, &pieces)
}

pub(super) fn pread(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (open, at) = positioned(p, a[0], a[3])?;
    p.read_pieces(open, at, &[Piece { address: a[1], length: a[2] }])
}

pub(super) fn preadv(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (open, at) = positioned(p, a[0], a[3])?;
    let pieces = p.pieces(a[1], a[2])?;
    p.read_pieces(open, at, &pieces)
}

/// `preadv2`: position -1 is the file's own; hints may be given.
pub(super) fn preadv2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    no_rw_flags(a[5])?;
    if a[3] == u64::MAX { readv(p, a) } else { preadv(p, a) }
}

pub(super) fn write(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let open = p.files.usable(a[0])?;
    put(p, open, At::Offset, &[Piece { address: a[1], length: a[2] }])
}

pub(super) fn writev(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let open = p.files.usable(a[0])?;
    let pieces = p.pieces(a[1], a[2])?;
    put(p, open, At::Offset, &pieces)
}

pub(super) fn pwrite(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (open, at) = positioned(p, a[0], a[3])?;
    put(p, open, at, &[Piece { address: a[1], length: a[2] }])
}

pub(super) fn pwritev(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (open, at) = positioned(p, a[0], a[3])?;
    let pieces = p.pieces(a[1], a[2])?;
    put(p, open, at, &pieces)
}

/// As [`preadv2`].
pub(super) fn pwritev2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    no_rw_flags(a[5])?;
    if a[3] == u64::MAX { writev(p, a) } else { pwritev(p, a) }
}

/// Hints (high priority, sync) change nothing; what would change the result is refused.
fn no_rw_flags(flags: u64) -> Result<(), Errno> {
    if flags & !0x7 == 0 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Writes, and sends SIGPIPE when nobody can read.
fn put(p: &mut Program, open: OpenFile, at: At, pieces: &[Piece]) -> Result<Answer, Errno> {
    match p.write_pieces(open, at, pieces) {
        Err(Errno::EPIPE) => broken_pipe(p),
        other => other,
    }
}

/// The answer is a value, because an error would undo the signal.
pub(super) fn broken_pipe(p: &mut Program) -> Result<Answer, Errno> {
    p.signals.send(&mut p.state, crate::linux::signals::Info::from_kernel(SIGPIPE))?;
    Ok(Answer::Value(Errno::EPIPE.as_result()))
}

fn positioned(p: &Program, fd: u64, position: u64) -> Result<(OpenFile, At), Errno> {
    let open = p.files.usable(fd)?;
    if position > i64::MAX.cast_unsigned() {
        return Err(Errno::EINVAL);
    }
    let seekable = match p.files.kind_of(open.node()?)? {
        NodeKind::Pipe(_)
        | NodeKind::Socket(_)
        | NodeKind::Unix(_)
        | NodeKind::Epoll(_)
        | NodeKind::Event(_)
        | NodeKind::Timer(_)
        | NodeKind::Signals(_) => false,
        NodeKind::Console(n) => {
            n == 0 && matches!(p.host.console.kind(crate::linux::Stream::In), ConsoleKind::File { .. })
        }
        _ => true,
    };
    if seekable { Ok((open, At::Here(position))) } else { Err(Errno::ESPIPE) }
}

pub(super) fn sendfile(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (output, input) = (p.files.usable(a[0])?, p.files.usable(a[1])?);
    if output.appends() || !matches!(p.files.kind_of(input.node()?)?, NodeKind::Regular(_) | NodeKind::Proc(_)) {
        return Err(Errno::EINVAL);
    }
    move_bytes(p, (input, a[2]), (output, 0), a[3])
}

pub(super) fn copy_file_range(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (input, output) = (p.files.usable(a[0])?, p.files.usable(a[2])?);
    if a[5] != 0 {
        return Err(Errno::EINVAL);
    }
    if output.appends() {
        return Err(Errno::EBADF);
    }
    let kinds = (p.files.kind_of(input.node()?)?, p.files.kind_of(output.node()?)?);
    let (NodeKind::Regular(from), NodeKind::Regular(to)) = kinds else {
        let directory = kinds.0.is_directory() || kinds.1.is_directory();
        return Err(if directory { Errno::EISDIR } else { Errno::EINVAL });
    };
    if from == to {
        let start = |open: OpenFile, at: u64| if at == 0 { Ok(open.offset) } else { p.user.read_value::<u64>(at) };
        let (read, write) = (start(input, a[1])?, start(output, a[3])?);
        if read < write.saturating_add(a[4]) && write < read.saturating_add(a[4]) {
            return Err(Errno::EINVAL);
        }
    }
    move_bytes(p, (input, a[1]), (output, a[3]), a[4])
}

/// Copies from one open file to another; each has an address with its position, or 0: its own offset.
fn move_bytes(
    p: &mut Program,
    (input, input_at): (OpenFile, u64),
    (output, output_at): (OpenFile, u64),
    count: u64,
) -> Result<Answer, Errno> {
    if !input.readable() || !output.writable() {
        return Err(Errno::EBADF);
    }
    let read_start = if input_at == 0 { input.offset } else { p.user.read_value(input_at)? };
    let write_start = if output_at == 0 { output.offset } else { p.user.read_value(output_at)? };
    if read_start.max(write_start) > i64::MAX.cast_unsigned() {
        return Err(Errno::EINVAL);
    }
    for address in [input_at, output_at] {
        if address != 0 && p.user.writable(address, 8) < 8 {
            return Err(Errno::EFAULT);
        }
    }
    let count = count.min(MAX_RW);
    let mut buffer = vec![0; usize::try_from(count).unwrap_or(STEP).min(STEP)];
    let mut done = 0;
    while done < count {
        let step = usize::try_from(count - done).unwrap_or(STEP).min(STEP);
        let Flow::Done(got) = p.pull(&input, At::Here(read_start + done), read_start + done, &mut buffer[..step])?
        else {
            break;
        };
        if got == 0 {
            break;
        }
        let put = match p.push(&output, write_start + done, &buffer[..got], done) {
            Ok(Flow::Done(put)) => put,
            Ok(Flow::Wait(_)) | Err(_) if done > 0 => break,
            Ok(Flow::Wait(wait)) => return Ok(Answer::Wait(wait)),
            Err(Errno::EPIPE) => return broken_pipe(p),
            Err(errno) => return Err(errno),
        };
        done += put as u64;
        if put < got {
            break;
        }
    }
    for (open, address, start) in [(&input, input_at, read_start), (&output, output_at, write_start)] {
        if address == 0 {
            p.advance(open, At::Offset, start, done)?;
        } else {
            p.user.write_value(address, &(start + done))?;
        }
    }
    Ok(Answer::Value(done))
}
