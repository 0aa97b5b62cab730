//! A panic is a fault that the keeper can read.
//!
//! The convention: the text goes to the log, if the domain holds a log key; then the domain executes `ud2` (signal 4) with `rdi`
//! pointing at the text and its length in `rsi`. The keeper finds both in the register state, and the text in the domain's memory.

use crate::Fault;
use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

/// Longest text of a panic, in bytes; what is longer is cut.
const MAX_TEXT: usize = 1024;

/// The text, without the heap: it may be what panicked.
struct Text {
    bytes: [u8; MAX_TEXT],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.len().min(MAX_TEXT - self.len);
        self.bytes[self.len..][..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        Ok(())
    }
}

/// The panic handler of [`entry!`](crate::entry!).
#[doc(hidden)]
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    use crate::keys::Key;
    let mut text = Text { bytes: [0; MAX_TEXT], len: 0 };
    let _ = write!(text, "{info}");
    crate::console::flush();
    let _ = crate::keys::Log::at(crate::abi::slot::LOG).write(&text.bytes[..text.len]);
    loop {
        // SAFETY: it faults; a keeper that lets it go on all the same finds it here again.
        unsafe { asm!("ud2", in("rdi") text.bytes.as_ptr(), in("rsi") text.len, options(nostack)) };
    }
}

impl Fault {
    /// Signal of an illegal instruction, which panics execute.
    pub const ILLEGAL: u64 = 4;

    /// Where the text of a panic lies in the memory of the domain that faulted, and its length in bytes; `None`: it is no panic. The
    /// registers are the domain's to choose: believe them as far as you believe it.
    #[must_use]
    pub fn panic_text(&self, registers: &crate::Registers) -> Option<(u64, usize)> {
        match self {
            Self::Domain { signal: Self::ILLEGAL, .. } => {
                let len = usize::try_from(registers.rsi).ok().filter(|len| *len <= MAX_TEXT)?;
                Some((registers.rdi, len))
            }
            _ => None,
        }
    }
}
