//! The host's terminal follows the modes that a program set: echo, lines, signal characters.
//!
//! Its line discipline then does what the program expects of it, as under ssh. Input modes hold at once; the modes of
//! output hold from the byte on before which the program set them, since that output may still be held back.

use nix::libc;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of the kernel's `struct termios`.
pub const MODES_BYTES: usize = 36;
/// Linux's `struct termios`: four words of flags (input, output, control, local), the line discipline, 19 characters.
pub type Modes = [u8; MODES_BYTES];

const OUTPUT_FLAGS: usize = 4;
const CONTROL_FLAGS: usize = 8;
const LOCAL_FLAGS: usize = 12;
const CHARACTERS: usize = 17;
/// Ctrl-\, which always reaches the runtime.
const QUIT: u8 = 0x1c;

/// What the program wants and the terminal that is to have it.
#[derive(Debug, Default)]
pub struct Terminal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    terminal: Option<OwnedFd>,
    /// As it was when it was connected.
    found: Option<Modes>,
    wanted: Option<Modes>,
    /// Bytes of standard output that have left.
    left: u64,
    /// Output flags in force, and those that hold from a position of standard output on.
    output: u32,
    later: VecDeque<(u64, u32)>,
}

impl Terminal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another terminal is connected, or none. It is changed when the program's modes are said.
    pub fn connect(&self, terminal: Option<OwnedFd>) {
        let mut state = self.lock();
        let found = terminal.as_ref().and_then(get);
        *state = State { terminal, found, left: state.left, ..State::default() };
    }

    /// The modes that the terminal has now.
    pub fn modes(&self) -> Option<Modes> {
        self.lock().terminal.as_ref().and_then(get)
    }

    /// The program wants these modes, and has written so many bytes of output before.
    pub fn set(&self, modes: Modes, written: u64) {
        let mut state = self.lock();
        let output = word(&modes, OUTPUT_FLAGS);
        if state.wanted.is_none() || written <= state.left {
            state.later.clear();
            state.output = output;
        } else if state.later.back().map_or(state.output, |&(_, last)| last) != output {
            state.later.push_back((written, output));
        }
        state.wanted = Some(modes);
        state.apply();
    }

    /// Standard output up to this byte has left.
    pub fn output_left(&self, upto: u64) {
        let mut state = self.lock();
        state.left = upto;
        let mut changed = false;
        while let Some(&(position, output)) = state.later.front()
            && position <= upto
        {
            state.output = output;
            state.later.pop_front();
            changed = true;
        }
        if changed {
            state.apply();
        }
    }

    /// Input that nobody has read is thrown away.
    pub fn flush_input(&self) {
        if let Some(terminal) = &self.lock().terminal
            && is_ours(terminal)
        {
            // SAFETY: TCFLSH takes a number.
            unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TCFLSH, libc::TCIFLUSH) };
        }
    }

    /// The terminal may have been changed by others: it gets the program's modes again.
    pub fn apply_again(&self) {
        self.lock().apply();
    }

    /// The terminal becomes what it was when it was connected, and is left alone from now on.
    pub fn leave(&self) {
        let mut state = self.lock();
        if let (Some(terminal), Some(found), Some(_)) = (&state.terminal, &state.found, &state.wanted) {
            put(terminal, found);
        }
        *state = State { left: state.left, ..State::default() };
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

impl State {
    fn apply(&self) {
        let (Some(terminal), Some(wanted)) = (&self.terminal, &self.wanted) else { return };
        let Some(now) = get(terminal) else { return };
        let modes = for_host(wanted, self.output, &now);
        if modes != now {
            put(terminal, &modes);
        }
    }
}

/// What the host's terminal is set to. Three things differ from what the program set: the line itself stays as it is; a
/// read always waits for a byte, since only the runtime reads there; and Ctrl-\ is a signal always.
fn for_host(wanted: &Modes, output: u32, now: &Modes) -> Modes {
    let mut modes = *wanted;
    modes[CONTROL_FLAGS..LOCAL_FLAGS].copy_from_slice(&now[CONTROL_FLAGS..LOCAL_FLAGS]);
    modes[LOCAL_FLAGS + 4] = now[LOCAL_FLAGS + 4];
    modes[OUTPUT_FLAGS..CONTROL_FLAGS].copy_from_slice(&output.to_le_bytes());
    let mut local = word(wanted, LOCAL_FLAGS) & !libc::TOSTOP;
    if local & libc::ISIG == 0 {
        local |= libc::ISIG;
        modes[CHARACTERS + libc::VINTR] = 0;
        modes[CHARACTERS + libc::VSUSP] = 0;
    }
    if local & libc::ICANON == 0 {
        modes[CHARACTERS + libc::VMIN] = 1;
        modes[CHARACTERS + libc::VTIME] = 0;
    }
    modes[CHARACTERS + libc::VQUIT] = QUIT;
    modes[LOCAL_FLAGS..LOCAL_FLAGS + 4].copy_from_slice(&local.to_le_bytes());
    modes
}

fn word(modes: &Modes, at: usize) -> u32 {
    u32::from_le_bytes([modes[at], modes[at + 1], modes[at + 2], modes[at + 3]])
}

fn get(terminal: &OwnedFd) -> Option<Modes> {
    // The kernel writes 36 bytes; room for a larger structure of another kernel does no harm.
    let mut modes = [0u8; 64];
    // SAFETY: TCGETS writes one `struct termios` of the kernel's.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TCGETS, modes.as_mut_ptr()) };
    (done == 0).then(|| modes.first_chunk().copied()).flatten()
}

fn put(terminal: &OwnedFd, modes: &Modes) {
    if !is_ours(terminal) {
        return;
    }
    // SAFETY: TCSETS reads one `struct termios` of the kernel's.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TCSETS, modes.as_ptr()) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "the terminal does not take the program's modes");
    }
}

/// Whether this process may set modes there: not while it runs in the background of its own terminal, where Linux would stop it.
fn is_ours(terminal: &OwnedFd) -> bool {
    nix::unistd::tcgetpgrp(terminal).is_ok_and(|group| group == nix::unistd::getpgrp())
        || !is_controlling(terminal.as_raw_fd())
}

fn is_controlling(terminal: i32) -> bool {
    // SAFETY: only numbers are passed.
    unsafe { libc::tcgetsid(terminal) == libc::getsid(0) }
}

/// A program's console is this process's own terminal, which another job has in its hands: the process gives up its claim to the
/// terminal, so that Linux does not stop it as a background job when it serves that console.
pub fn share_controlling_terminal(terminal: BorrowedFd<'_>) {
    let leads = nix::unistd::getsid(None).is_ok_and(|session| session == nix::unistd::getpid());
    let elsewhere = nix::unistd::tcgetpgrp(terminal).is_ok_and(|group| group != nix::unistd::getpgrp());
    if !leads && elsewhere {
        // SAFETY: TIOCNOTTY takes no argument.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn terminal() -> (OwnedFd, OwnedFd, Terminal) {
        let pty = nix::pty::openpty(None, None).unwrap();
        let terminal = Terminal::default();
        terminal.connect(Some(pty.slave.as_fd().try_clone_to_owned().unwrap()));
        (pty.master, pty.slave, terminal)
    }

    fn changed(modes: &Modes, at: usize, set: u32, clear: u32) -> Modes {
        let mut modes = *modes;
        let flags = word(&modes, at) & !clear | set;
        modes[at..at + 4].copy_from_slice(&flags.to_le_bytes());
        modes
    }

    #[test]
    fn raw_modes_hold_at_once_and_what_was_found_comes_back() {
        let (_master, slave, terminal) = terminal();
        let found = get(&slave).unwrap();
        let mut raw = changed(&found, LOCAL_FLAGS, 0, libc::ICANON | libc::ECHO | libc::ISIG);
        raw[CHARACTERS + libc::VMIN] = 0;
        terminal.set(raw, 0);
        let now = get(&slave).unwrap();
        assert_eq!(word(&now, LOCAL_FLAGS) & (libc::ICANON | libc::ECHO | libc::ISIG), libc::ISIG);
        let character = |at: usize| now[CHARACTERS + at];
        assert_eq!([libc::VINTR, libc::VSUSP, libc::VMIN].map(character), [0, 0, 1]);
        assert_eq!(character(libc::VQUIT), QUIT, "no way is left to reach the runtime");
        terminal.leave();
        assert_eq!(get(&slave).unwrap(), found);
        terminal.set(raw, 0);
        assert_eq!(get(&slave).unwrap(), found, "a terminal that was left is changed");
    }

    #[test]
    fn output_modes_wait_for_the_output_before_them() {
        let (_master, slave, terminal) = terminal();
        let cooked = get(&slave).unwrap();
        let output = || word(&get(&slave).unwrap(), OUTPUT_FLAGS) & libc::OPOST;
        terminal.set(cooked, 0);
        terminal.set(changed(&cooked, OUTPUT_FLAGS, 0, libc::OPOST), 10);
        terminal.set(cooked, 20);
        terminal.output_left(9);
        assert_eq!(output(), libc::OPOST);
        terminal.output_left(10);
        assert_eq!(output(), 0);
        terminal.output_left(25);
        assert_eq!(output(), libc::OPOST);
    }
}
