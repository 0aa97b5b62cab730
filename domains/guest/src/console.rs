//! `print!`, `println!` and `log!`.

use crate::abi::{MAX_STRING, slot};
use crate::keys::{Console, Key, Log};
use crate::lock::Lock;
use alloc::string::String;
use core::fmt::{self, Write};

/// What was printed and has not left yet: the beginning of a line.
struct Line {
    bytes: [u8; MAX_STRING],
    len: usize,
}

static LINE: Lock<Line> = Lock::new(Line { bytes: [0; MAX_STRING], len: 0 });

impl Line {
    /// Writes the first `len` bytes to the console. A domain that holds no console prints to nobody.
    fn leave(&mut self, len: usize) {
        if len != 0 {
            let _ = Console::at(slot::CONSOLE).write(&self.bytes[..len]);
            self.bytes.copy_within(len..self.len, 0);
            self.len -= len;
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.len == MAX_STRING {
                self.leave(MAX_STRING);
            }
            let (now, later) = rest.split_at(rest.len().min(MAX_STRING - self.len));
            self.bytes[self.len..][..now.len()].copy_from_slice(now);
            self.len += now.len();
            rest = later;
        }
        Ok(())
    }
}

/// Prints: used by the macros.
#[doc(hidden)]
pub fn print(text: fmt::Arguments<'_>) {
    LINE.with(|line| {
        let _ = line.write_fmt(text);
        let whole = line.bytes[..line.len].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        line.leave(whole);
    });
}

/// Lets go what was printed, whole line or not. Not when a panic cut a `print!` short.
pub(crate) fn flush() {
    LINE.try_with(|line| line.leave(line.len));
}

/// Logs: used by the macro.
#[doc(hidden)]
pub fn print_log(text: fmt::Arguments<'_>) {
    let mut line = String::new();
    let _ = line.write_fmt(text);
    let _ = Log::at(slot::LOG).write(line.as_bytes());
}

/// Prints to the console in slot [`CONSOLE`](crate::abi::slot::CONSOLE), line by line; the rest of a last line leaves at the end of the
/// program. A domain that holds no console there prints to nobody.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::print(::core::format_args!($($text)*)) };
}

/// [`print!`](crate::print!), and ends the line.
#[macro_export]
macro_rules! println {
    () => { $crate::print(::core::format_args!("\n")) };
    ($format:literal $($rest:tt)*) => { $crate::print(::core::format_args!("{}\n", ::core::format_args!($format $($rest)*))) };
}

/// A line for the log of the runtime, by the key in slot [`LOG`](crate::abi::slot::LOG), if there is one.
#[macro_export]
macro_rules! log {
    ($($text:tt)*) => { $crate::print_log(::core::format_args!($($text)*)) };
}
