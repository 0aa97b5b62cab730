//! `ioctl`: terminals, and a few that every descriptor knows.

use super::Errno;
use super::console::shown_stream;
use super::descriptors::fd_number;
use super::flags::O_NONBLOCK;
use super::node::NodeKind;
use super::records::OpenFile;
use crate::linux::process::PID;
use crate::linux::{Answer, ConsoleKind, Input, Program};

const DONE: Answer = Answer::Value(0);
/// Bytes of the kernel's `struct termios`; `termios2` adds two speeds.
const TERMIOS: usize = 36;
const SPEED: u32 = 38_400;
/// Bytes of waiting input that `FIONREAD` looks for.
const LOOK_AHEAD: usize = 4096;

pub(super) fn ioctl(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    const FIONCLEX: u64 = 0x5450;
    const FIOCLEX: u64 = 0x5451;
    const FIONBIO: u64 = 0x5421;
    const FIOASYNC: u64 = 0x5452;
    const FIONREAD: u64 = 0x541b;
    let open = p.files.usable(a[0])?;
    match a[1] & 0xffff_ffff {
        request @ (FIONCLEX | FIOCLEX) => {
            let close_on_exec = u32::from(request == FIOCLEX);
            let fd = fd_number(a[0])?;
            p.files.descriptors.update(&mut p.state, fd, |d| d.close_on_exec = close_on_exec)?;
            Ok(DONE)
        }
        FIONBIO => {
            let on = p.user.read_value::<u32>(a[2])? != 0;
            let flags = if on { open.flags | O_NONBLOCK } else { open.flags & !O_NONBLOCK };
            p.files.opens.update(&mut p.state, open.number, |o| o.flags = flags)?;
            Ok(DONE)
        }
        FIOASYNC => Ok(DONE),
        FIONREAD => {
            let waiting = waiting(p, &open)?;
            p.user.write_value(a[2], &waiting)?;
            Ok(DONE)
        }
        request if p.is_journal(&open)? => p.control_journal(request, a[2]),
        request => terminal(p, &open, request, a[2]),
    }
}

/// Bytes that can be read at once.
fn waiting(p: &mut Program, open: &OpenFile) -> Result<u32, Errno> {
    let bytes = match p.files.kind_of(open.node()?)? {
        NodeKind::Regular(number) => p.files.inode(number)?.size.saturating_sub(open.offset),
        NodeKind::Pipe(number) => p.files.pipe_bytes(number),
        NodeKind::Socket(number) => {
            let connection = p.connection(number).map_err(|_| Errno::EINVAL)?;
            let waiting = p.host.network.receive(connection, &mut [0; LOOK_AHEAD], true);
            waiting.unwrap_or(0) as u64
        }
        NodeKind::Unix(number) => p.unix_bytes(number)?,
        NodeKind::Console(n) => {
            let position = p.files.input_position();
            match p.host.console.kind(shown_stream(&p.host, n)) {
                ConsoleKind::File { size } => size.saturating_sub(position),
                ConsoleKind::Null => return Err(Errno::ENOTTY),
                ConsoleKind::Terminal { .. } | ConsoleKind::Pipe => {
                    match p.host.console.read(position, &mut [0; LOOK_AHEAD]) {
                        Input::Bytes(count) => count.min(LOOK_AHEAD) as u64,
                        Input::NotYet | Input::End => 0,
                    }
                }
            }
        }
        _ => return Err(Errno::ENOTTY),
    };
    Ok(u32::try_from(bytes).unwrap_or(i32::MAX.cast_unsigned()).min(i32::MAX.cast_unsigned()))
}

fn terminal(p: &mut Program, open: &OpenFile, request: u64, argument: u64) -> Result<Answer, Errno> {
    let NodeKind::Console(n) = p.files.kind_of(open.node()?)? else { return Err(Errno::ENOTTY) };
    let stream = shown_stream(&p.host, n);
    let ConsoleKind::Terminal { rows, columns } = p.host.console.kind(stream) else { return Err(Errno::ENOTTY) };
    match request {
        // TCGETS, TCGETS2.
        0x5401 => p.user.write(argument, &p.files.settings.get().termios)?,
        0x802c_542a => {
            let mut both = [0; TERMIOS + 8];
            both[..TERMIOS].copy_from_slice(&p.files.settings.get().termios);
            both[TERMIOS..TERMIOS + 4].copy_from_slice(&SPEED.to_le_bytes());
            both[TERMIOS + 4..].copy_from_slice(&SPEED.to_le_bytes());
            p.user.write(argument, &both)?;
        }
        // TCSETS, TCSETSW, TCSETSF and the same with speeds, which are ignored.
        0x5402..=0x5404 | 0x402c_542b..=0x402c_542d => {
            let termios: [u8; TERMIOS] = p.user.read_value(argument)?;
            p.files.settings.update(&mut p.state, |s| s.termios = termios)?;
            if matches!(request, 0x5404 | 0x402c_542d) {
                p.host.console.flush_input();
            }
            p.show_terminal_modes();
        }
        // TCFLSH: input, or both.
        0x540b => {
            if matches!(argument & 0xffff_ffff, 0 | 2) {
                p.host.console.flush_input();
            }
        }
        // TIOCGWINSZ.
        0x5413 => p.user.write_value(argument, &[rows, columns, 0, 0])?,
        // TIOCGPGRP, TIOCGSID: the program is in the foreground.
        0x540f | 0x5429 => p.user.write_value(argument, &PID)?,
        // TIOCSPGRP, TIOCSCTTY, TIOCNOTTY, TIOCEXCL, TIOCNXCL, TCSBRK, TCSBRKP, TCXONC, TIOCSWINSZ: nothing to do.
        0x5410 | 0x540e | 0x5422 | 0x540c | 0x540d | 0x5409 | 0x5425 | 0x540a | 0x5414 => {}
        // TIOCOUTQ.
        0x5411 => p.user.write_value(argument, &0_u32)?,
        _ => return Err(Errno::ENOTTY),
    }
    Ok(DONE)
}
