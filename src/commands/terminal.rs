//! The terminal of this command: its modes are a program's while one is attached, and what they were when the command ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};
use signal_hook::low_level::siginfo::{Cause, Origin};

/// What to put back.
static FOUND: OnceLock<(OwnedFd, Termios)> = OnceLock::new();

/// Puts the terminal's modes back when the command ends.
pub struct Restore;

impl Restore {
    /// Remembers the modes that the terminal has now, if there is one.
    pub fn at_the_end() -> Restore {
        let found = with_terminal(|terminal| Some((terminal.try_clone_to_owned().ok()?, tcgetattr(terminal).ok()?)));
        if let Some(found) = found.flatten() {
            let _ = FOUND.set(found);
        }
        Restore
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal's modes back now, unless another job has the terminal in its hands.
pub fn restore() {
    if let Some((terminal, modes)) = FOUND.get()
        && tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
    {
        let _ = tcsetattr(terminal, OptionalActions::Now, modes);
    }
}

/// The device number of the terminal, if there is one.
pub fn device() -> Option<u64> {
    with_terminal(|terminal| rustix::fs::fstat(terminal).ok().map(|stat| stat.st_rdev)).flatten()
}

/// Whether a key at the terminal made the signal, and not another process.
pub fn is_typed(origin: &Origin) -> bool {
    matches!(origin.cause, Cause::Kernel)
}

fn with_terminal<T>(look: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let all: [&dyn AsFd; 3] = [&input, &output, &error];
    all.into_iter().map(AsFd::as_fd).find(|descriptor| isatty(descriptor)).map(look)
}
